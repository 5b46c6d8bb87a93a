"""Full-Duplex-Bench v1 without its scripts' known faults: the rules of the corrected mode, as pure functions.

The constants that define a turn stay the benchmark's (1 s, 3 words; a backchannel is shorter than 1 s and has at most 2
words). What changes is where they are applied: to each stretch of the agent's speech on its own, and only to speech
inside the window that the task is about. Times are seconds on the sample's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from duologue.audio.words import Chunk
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
from duologue.dialogue.intervals import Intervals, as_intervals, clip
from duologue.dialogue.takeover import Stretch, TurnRule, first_answer, stop_latency, stretches
from duologue.dialogue.timeline import Track, Word

JOIN_SECONDS = 0.5
"""Silence that does not end a stretch of the agent's speech: v1.5's value for the model's channel (get_timing.py)."""
ANSWER_JOIN_SECONDS = 1.0
"""Silence that does not end an answer: the alignment paper's utterance (arXiv 2606.11167). "Yes. ... It is." is one."""
REACTION_SECONDS = 0.2
"""A start this soon after the user resumes was decided in the pause: people need at least 0.2 s to react."""
EARLY_SECONDS = 2.0
"""The earliest start before the user's end that answers it: 1 % of people's are earlier (human_dynamics.json)."""
OPEN_WORD_SECONDS = 0.2
"""Length of a word whose end is null, where speech must be read from words: about a median word of telephone talk."""
TURN = TurnRule(duration_s=TURN_SECONDS, inclusive=True, words=TURN_WORDS)


def is_backchannel(stretch: Stretch) -> bool:
    """Shorter than 1 s, and at most 2 words."""
    return not TURN.takes(stretch) and (stretch.words or 0) <= BACKCHANNEL_WORDS


def score_pauses(agent: Track, pauses: Sequence[Span], duration: float | None) -> SampleScore:
    """Pause handling: does a turn of the agent touch a pause of the user (or start within 0.2 s after one)?

    A pause that starts after the recording ends exercises nothing; with no other pause the sample is not exercised.
    """
    heard = [p for p in pauses if duration is None or p[0] < duration]
    if not heard:
        return SampleScore(status="not_exercised", why="no pause of the user lies within the recording")
    turns = [t for t in stretches(agent, JOIN_SECONDS) if TURN.takes(t)]
    hits = [(t, p) for p in heard for t in turns if t.end > p[0] and t.start < p[1] + REACTION_SECONDS]
    details = {
        "pauses": len(heard),
        "pauses_taken": len({pause for _, pause in hits}),
        "talks_elsewhere": bool(turns) and not hits,
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
    ours = stretches(agent, JOIN_SECONDS)
    earliest = turn_end - EARLY_SECONDS
    answer = first_answer(ours, turn_end, TURN, earliest=earliest, join_s=ANSWER_JOIN_SECONDS)
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
    ours = stretches(agent, JOIN_SECONDS)
    stop = stop_latency(ours, start, end)
    answer = first_answer(ours, end, TURN, earliest=start, join_s=ANSWER_JOIN_SECONDS)
    latency = None if answer is None else answer.start - end
    if stop is None:
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
    details = {"onset_s": start, "stop_latency_s": stop.latency_s, "talked_through": stop.talked_through}
    manner = f"stops {stop.latency_s:.2f} s after the user's onset"
    if stop.talked_through:
        manner = f"talks through the interruption until {start + stop.latency_s:.2f} s"
    if latency is None:
        return SampleScore(take_over=0, why=f"the agent {manner} and gives no answer", details=details)
    why = f"the agent {manner} and answers {latency:+.2f} s from the user's end"
    return SampleScore(take_over=1, latency_s=latency, why=why, details=details)


def score_backchannels(
    agent: Track, listening: float, duration: float, reference: Sequence[float] | None
) -> SampleScore:
    """Backchanneling while the user talks, from 0 to `listening` seconds: take-over if any stretch in it is one.

    The distance is the Jensen-Shannon divergence, base 2, between the 0.2 s histograms of the agent's backchannels and
    of the reference: 0 to 1, and 1 when there is none. Without a reference it is not measured.
    """
    ours = [s for s in stretches(agent, JOIN_SECONDS) if s.start < listening]
    heard = [(s.start, s.end) for s in ours if is_backchannel(s)]
    takers = [s for s in ours if not is_backchannel(s)]
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


def timed_words(chunks: Iterable[Chunk]) -> list[Word]:
    """A transcript's chunks as words: those without a start are left out, those without an end last 0.2 s."""
    return [
        Word(c.text, c.start, c.start + OPEN_WORD_SECONDS if c.end is None else max(c.start, c.end))
        for c in chunks
        if c.start is not None
    ]


def agent_track(speech: np.ndarray | None, words: Sequence[Word] | None) -> Track:
    """The agent's track: speech from the audio where there is any, else from the words (which then count both ways)."""
    if speech is None:
        return Track.from_words(words or ())
    return Track.of(speech, words)
