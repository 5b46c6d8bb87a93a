"""Full-Duplex-Bench v1 without its scripts' known faults: the rules of the corrected mode, as pure functions.

The constants that define a turn stay the benchmark's (1 s, 3 words; a backchannel is shorter than 1 s and has at most 2
words). What changes is where they are applied: to each stretch of the agent's speech on its own, and only to speech
inside the window that the task is about. Times are seconds on the sample's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duologue.bench.fdb_official import (
    BACKCHANNEL_WORDS,
    TURN_SECONDS,
    TURN_WORDS,
    Span,
    backchannel_histogram,
    divergence,
    stretched,
)
from duologue.bench.results import SampleScore
from duologue.dialogue.intervals import Intervals, as_intervals, clip, merge
from duologue.dialogue.timeline import Track, Word

JOIN_SECONDS = 0.5
"""Silence that does not end a stretch of the agent's speech: v1.5's value for the model's channel (get_timing.py)."""
ANSWER_JOIN_SECONDS = 1.0
"""Silence that does not end an answer: the alignment paper's utterance (arXiv 2606.11167). "Yes. ... It is." is one."""
REACTION_SECONDS = 0.2
"""A start this soon after the user resumes was decided in the pause: people need at least 0.2 s to react."""
EARLY_SECONDS = 2.0
"""The earliest start before the user's end that answers it: 1 % of people's are earlier (human_dynamics.json)."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The agent speaks from `start` to `end`; `words` counts the recognised words whose midpoint lies inside."""

    start: float
    end: float
    words: int

    @property
    def is_turn(self) -> bool:
        """Takes the floor: at least 1 s long or more than 3 words."""
        return self.end - self.start >= TURN_SECONDS or self.words > TURN_WORDS

    @property
    def is_backchannel(self) -> bool:
        return self.end - self.start < TURN_SECONDS and self.words <= BACKCHANNEL_WORDS

    def __str__(self) -> str:
        return f"{self.start:.2f}-{self.end:.2f} s"


def stretches(agent: Track) -> list[Stretch]:
    """Cut the agent's speech into stretches, joined over silences of at most 0.5 s, each with its number of words."""
    middles = np.sort([(w.start + w.end) / 2 for w in agent.words or ()])
    spans = merge(agent.speech, JOIN_SECONDS)
    first, last = np.searchsorted(middles, spans[:, 0]), np.searchsorted(middles, spans[:, 1], side="right")
    return [Stretch(float(s), float(e), int(n)) for (s, e), n in zip(spans, last - first, strict=True)]


def first_answer(ours: Sequence[Stretch], earliest: float, user_end: float) -> Stretch | None:
    """The agent's answer to a user who ends at `user_end`: its first turn from `earliest` on that outlasts the user.

    Here stretches join over silences of at most 1.0 s, so that an answer which opens with a short word starts with it.
    """
    answer: Stretch | None = None
    for part in (s for s in ours if s.start >= earliest):
        if answer is not None and part.start - answer.end <= ANSWER_JOIN_SECONDS:
            part = Stretch(answer.start, part.end, answer.words + part.words)
        elif answer is not None and answer.is_turn and answer.end > user_end:
            break
        answer = part
    return answer if answer is not None and answer.is_turn and answer.end > user_end else None


def score_pauses(agent: Track, pauses: Sequence[Span], duration: float | None) -> SampleScore:
    """Pause handling: does a turn of the agent touch a pause of the user (or start within 0.2 s after one)?

    A pause that starts after the recording ends exercises nothing; with no other pause the sample is not exercised.
    """
    heard = [p for p in pauses if duration is None or p[0] < duration]
    if not heard:
        return SampleScore(status="not_exercised", why="no pause of the user lies within the recording")
    ours = stretches(agent)
    hits = [
        (turn, pause) for pause in heard for turn in ours if turn.is_turn and turn.start < pause[1] + REACTION_SECONDS
        if turn.end > pause[0]
    ]  # fmt: skip
    details = {
        "pauses": len(heard),
        "pauses_taken": len({pause for _, pause in hits}),
        "talks_elsewhere": any(t.is_turn for t in ours) and not hits,
    }
    if not hits:
        return SampleScore(take_over=0, why="no turn of the agent touches a pause of the user", details=details)
    turn, pause = hits[0]
    onset = "starts in" if turn.start >= pause[0] else "is already talking at"
    why = f"the agent {onset} the pause {pause[0]:.2f}-{pause[1]:.2f} s (it speaks {turn})"
    return SampleScore(take_over=1, why=why, details=details)


def score_turn_taking(agent: Track, turn_end: float) -> SampleScore:
    """Smooth turn-taking: the first turn of the agent that starts at most 2 s before the user's end and outlasts it.

    The latency is signed: negative when the agent starts before the user has ended.
    """
    ours = stretches(agent)
    earliest = turn_end - EARLY_SECONDS
    answer = first_answer(ours, earliest, turn_end)
    through = next((s for s in ours if s.start < earliest and s.end > turn_end), None)
    details = {"early_start": answer is not None and answer.start < turn_end, "talked_through": through is not None}
    if answer is not None:
        latency = answer.start - turn_end
        why = f"the agent answers {latency:+.2f} s from the user's end ({turn_end:.2f} s)"
        return SampleScore(take_over=1, latency_s=latency, why=why, details=details)
    if through is not None:
        why = (
            f"the agent talks from {through.start:.2f} s through the user's end ({turn_end:.2f} s) and starts no answer"
        )
        return SampleScore(take_over=0, why=why, details=details)
    return SampleScore(
        take_over=0, why=f"no turn of the agent follows the user's end ({turn_end:.2f} s)", details=details
    )


def heard_onset(user: Intervals | None, start: float, end: float) -> float:
    """When the interruption is first heard: the user's first speech inside the annotated span, else the span's start.

    The annotated spans open with up to a second of silence, in which an agent has nothing to react to.
    """
    inside = as_intervals([]) if user is None else clip(user, start, end)
    return float(inside[0][0]) if len(inside) else start


def score_interruption(agent: Track, start: float, end: float) -> SampleScore:
    """User interruption: from its onset on, does the agent stop, when, and does it then answer?

    `stop_latency_s` runs from the user's onset to the end of the stretch that the agent was in; `talked_through` says
    that this stretch outlasts the interruption. The answer is the agent's first turn that starts after the onset and
    outlasts the interruption; its latency is signed, from the interruption's end. An agent that was silent at the onset
    was not interrupted: the sample is not exercised, and its answer is reported in the details alone.

    Args:
        agent: the agent's speech over the whole recording.
        start, end: when the interruption is heard, and when it ends.
    """
    ours = stretches(agent)
    running = next((s for s in ours if s.start < start < s.end), None)
    answer = first_answer(ours, start, end)
    latency = None if answer is None else answer.start - end
    if running is None:
        return SampleScore(
            status="not_exercised",
            why=f"the agent is silent when the user interrupts ({start:.2f} s)",
            details={
                "onset_s": start,
                "stop_latency_s": None,
                "talked_through": None,
                "latency_if_not_interrupted_s": latency,
            },
        )
    talked_through = running.end >= end
    details = {"onset_s": start, "stop_latency_s": running.end - start, "talked_through": talked_through}
    stopped = f"stops {running.end - start:.2f} s after the user's onset"
    manner = f"talks through the interruption until {running.end:.2f} s" if talked_through else stopped
    if answer is None:
        return SampleScore(take_over=0, why=f"the agent {manner} and gives no answer", details=details)
    why = f"the agent {manner} and answers {answer.start - end:+.2f} s from the user's end"
    return SampleScore(take_over=1, latency_s=latency, why=why, details=details)


def score_backchannels(
    agent: Track, listening: float, duration: float, reference: Sequence[float] | None
) -> SampleScore:
    """Backchanneling while the user talks, from 0 to `listening` seconds: take-over if any stretch in it is one.

    The distance is the Jensen-Shannon divergence, base 2, between the 0.2 s histograms of the agent's backchannels and
    of the reference: 0 to 1, and 1 when there is none. Without a reference it is not measured.
    """
    ours = [s for s in stretches(agent) if s.start < listening]
    heard = [(s.start, s.end) for s in ours if s.is_backchannel]
    takers = [s for s in ours if not s.is_backchannel]
    jsd = None
    if reference is not None:
        bins = backchannel_histogram(heard, duration)
        theirs = stretched(reference, len(bins))
        jsd = 1.0
        if heard and theirs.sum() > 0:
            jsd = min(1.0, divergence(bins / bins.sum(), theirs / theirs.sum()) / float(np.log(2)))
    why = f"{len(heard)} backchannels in {listening:.1f} s"
    if takers:
        why += f", and the agent takes the turn at {takers[0]}"
    return SampleScore(
        take_over=int(bool(takers)),
        frequency=len(heard) / listening if listening > 0 else None,
        jsd=jsd,
        why=why,
        details={"backchannels": [list(span) for span in heard], "take_overs": [[s.start, s.end] for s in takers]},
    )


def agent_track(speech: np.ndarray | None, words: Sequence[Word] | None) -> Track:
    """The agent's track: speech from the audio where there is any, else from the words (which then count both ways)."""
    if speech is None:
        return Track.from_words(words or ())
    return Track.of(speech, words)
