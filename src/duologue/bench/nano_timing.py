"""When does the agent speak? The rows of `duologue evaluate nano` about timing, from live talks with scripted users.

What the user did is taken from the plan of each talk (`LiveResult.lines`), what the agent did from a speech detector.
Stretches, turns and answers are those of the corrected Full-Duplex-Bench (`fdb_corrected`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from math import log

import numpy as np
from numpy.typing import NDArray

from duologue.bench.fdb_corrected import ANSWER_JOIN_SECONDS, EARLY_SECONDS, JOIN_SECONDS, REACTION_SECONDS, TURN
from duologue.bench.live import MOCK, Line, LiveResult
from duologue.bench.results import wilson_interval
from duologue.bench.rows import Row
from duologue.corpus.selfcheck import CHECKED
from duologue.dialogue.distance import DISTANCE_RULES, histogram, jensen_shannon, probabilities
from duologue.dialogue.intervals import TOLERANCE_S
from duologue.dialogue.observe import Observed, Values, observe
from duologue.dialogue.reference import human_distribution
from duologue.dialogue.statistics import Description, summarise
from duologue.dialogue.takeover import Stretch, first_answer, stop_latency, stretches

ANSWER_S = 2.0
"""An answer that starts later than this after the user's end is none."""
PAUSE_S = 0.64
"""Shorter silences of the user exercise nothing: 8 frames, the shortest of the `pause` scenarios."""
STOP_S = 1.5
"""Seconds from the onset of an interruption in which the agent has to stop."""
DRAWS = 1000
"""Resamplings behind each bootstrap interval; talks are drawn, not events, since those of one talk hang together."""
_NAMES = {
    "floor_transfer_offset": "floor-transfer offsets", "within_turn_pause": "pauses within turns",
    "utterance": "lengths of utterances",
}  # fmt: skip
_RULES = {
    "lexical": "words, as in the human reference",
    "duration": "length alone, not by words as in the human reference",
    "mixed": "words in some talks, and by length alone in others",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one talk says about timing; small, so that no talk's sound is kept."""

    id: str
    answers: tuple[float | None, ...]
    """Of each user turn that could be answered: when the answer starts, in seconds from the turn's end (below 0:
    before it), or None."""
    taken: tuple[bool, ...]
    """Of each pause within the user's turns: whether the agent takes the floor in it."""
    stops: tuple[float, ...]
    """Of each interruption that met a speaking agent: seconds until it is silent."""
    user_s: float
    """Seconds that the user spoke, by the plan."""
    agent_s: float
    """Seconds that the agent spoke, by the detector."""
    observed: Observed
    """All events by the rules of the human reference."""
    mock: bool
    """The user only babbled."""


def measure(result: LiveResult) -> Measured:
    """Timing of one talk."""
    ours, timeline = stretches(result.timeline.agent, JOIN_SECONDS), result.timeline
    return Measured(
        id=result.scenario.id, answers=tuple(answers(result, ours)), taken=tuple(pauses_taken(result, ours)),
        stops=tuple(stops(result, ours)), user_s=sum(line.end - line.start for line in result.lines),
        agent_s=float(timeline.speech_seconds()[0]), observed=observe(timeline), mock=result.voice.startswith(MOCK),
    )  # fmt: skip


def answers(result: LiveResult, ours: Sequence[Stretch]) -> list[float | None]:
    """When each finished user turn is answered: a turn of the agent that outlasts it, begun within 2 s after its end.

    It may begin up to 2 s before that end, but not before the user's last stretch could be heard: what begins in the
    pause before it is a take-over. Left out: turns that the user gave up, and those with less than 2 s of talk after
    them that has no answer.
    """
    found: list[float | None] = []
    for index, parts in _acts(result, "turn"):
        last = parts[-1]
        if last.cut or last.part + 1 < len(result.scenario.acts[index].parts):
            continue
        earliest = max(last.end - EARLY_SECONDS, last.start + REACTION_SECONDS)
        answer = first_answer(ours, last.end, TURN, earliest=earliest, join_s=ANSWER_JOIN_SECONDS)
        late = None if answer is None else answer.start - last.end
        if late is not None and late <= ANSWER_S + TOLERANCE_S:
            found.append(late)
        elif result.timeline.duration - last.end >= ANSWER_S:
            found.append(None)
    return found


def pauses_taken(result: LiveResult, ours: Sequence[Stretch]) -> list[bool]:
    """Whether a turn of the agent touches each pause of 0.64 s or more within the user's turns.

    As `fdb_corrected.score_pauses`: a start within 0.2 s after the pause was decided in it, and talking into the pause
    from before counts too.
    """
    turns, found = [t for t in ours if TURN.takes(t)], []
    for index, parts in _acts(result, "turn"):
        for before, after in pairwise(parts):
            if result.scenario.acts[index].pauses[before.part] >= PAUSE_S - TOLERANCE_S:
                until = after.start + REACTION_SECONDS
                found.append(any(t.end > before.end and t.start < until for t in turns))
    return found


def stops(result: LiveResult, ours: Sequence[Stretch]) -> list[float]:
    """Seconds from the onset of each interruption until the agent is silent, where it spoke at the onset."""
    found = []
    for _, parts in _acts(result, "interruption"):
        stop = stop_latency(ours, parts[0].start, parts[-1].end)
        if stop is not None:
            found.append(stop.latency_s)
    return found


def _acts(result: LiveResult, kind: str) -> list[tuple[int, list[Line]]]:
    """The user's acts of a kind that were begun: number and stretches."""
    acts = [(index, list(parts)) for index, parts in groupby(result.lines, lambda line: line.act)]
    return [(index, parts) for index, parts in acts if result.scenario.acts[index].kind == kind]


def timing_rows(results: Iterable[LiveResult]) -> list[Row]:
    """The rows about timing. Goes through the results once and keeps none; their order does not matter."""
    talks = sorted((measure(result) for result in results), key=lambda m: m.id)
    about = "the users babble, and say no words" if any(m.mock for m in talks) else ""
    human = summarise([m.observed for m in talks]) if talks else None
    answered = [a is not None for m in talks for a in m.answers]
    taken = [t for m in talks for t in m.taken]
    stopped = [s <= STOP_S + TOLERANCE_S for m in talks for s in m.stops]
    rows = [
        share("user turns answered within 2 s, share", answered, "turn that could be answered", least=0.70, note=about),
        _offset_row(talks, about),
        share("take-over in a user's pause, share", taken, "pause", most=0.50, note=about),
        share("stops within 1.5 s of an interruption, share", stopped, "interruption of a speaking agent", least=0.50,
              note=about),
        _backchannel_row(talks, human, about),
        _talk_row(talks, about),
    ]  # fmt: skip
    return rows + [_distance_row(quantity, talks, human, about) for quantity in CHECKED]


def share(
    what: str, hits: Sequence[bool], of: str, *, least: float | None = None, most: float | None = None, note: str = ""
) -> Row:
    """A share with its Wilson interval, against a bound; `of` names what there was none of if `hits` is empty."""
    target = f">= {least:.2f}" if least is not None else f"<= {most:.2f}" if most is not None else "reported"
    if not hits:
        return _missing(what, target, f"no {of}")
    value = sum(hits) / len(hits)
    passed = value >= least if least is not None else value <= most if most is not None else None
    interval = wilson_interval(sum(hits), len(hits))
    return Row(what=what, value=value, n=len(hits), interval=interval, target=target, passed=passed, note=note)


def resampled(n: int, statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], seed: int = 0) -> Values:
    """A statistic over `DRAWS` resamplings of n talks: its values where it has one.

    Args:
        n: how many talks.
        statistic: from how often each talk was drawn, [DRAWS, n], to values [DRAWS]; not finite for no value.
        seed: of the draws.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = statistic(np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=DRAWS))
    return values[np.isfinite(values)]


def middle(values: Values) -> tuple[float, float] | None:
    """The middle 95 % of resampled values; None where half of the resamplings had none."""
    if len(values) * 2 < DRAWS:
        return None
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return low, high


def _offset_row(talks: Sequence[Measured], note: str) -> Row:
    what, target = "floor-transfer offset of these answers, median, s", "0.0 to 0.6"
    pairs = [(a, i) for i, m in enumerate(talks) for a in m.answers if a is not None]
    if not pairs:
        return _missing(what, target, "no user turn was answered")
    offsets, owner = np.array([a for a, _ in pairs]), np.array([i for _, i in pairs])

    def median(counts: NDArray[np.int64]) -> Values:
        drawn = [np.repeat(offsets, row[owner]) for row in counts]
        return np.array([np.median(x) if len(x) else np.nan for x in drawn], dtype=np.float64)

    value, interval = float(np.median(offsets)), middle(resampled(len(talks), median))
    passed = 0 <= value <= 0.6
    return Row(what=what, value=value, n=len(pairs), interval=interval, target=target, passed=passed, note=note)


def _backchannel_row(talks: Sequence[Measured], human: Description | None, note: str) -> Row:
    what, minutes = "backchannels of the agent a minute of user speech", [m.user_s / 60 for m in talks]
    made = [len(m.observed.values["backchannel"][0]) for m in talks]
    rule = "" if human is None else f"known by {_RULES[human.form_rule]}; n counts them"
    row = _ratio_row(what, made, minutes, sum(made), _joined(rule, note), "no user spoke")
    if row.value == 0:  # talks drawn again cannot say how rare; Poisson can
        row = replace(row, interval=(0.0, -log(0.025) / sum(minutes)))
    return row


def _talk_row(talks: Sequence[Measured], note: str) -> Row:
    spoke, whole = [m.agent_s for m in talks], [m.agent_s + m.user_s for m in talks]
    told = _joined("of the seconds of both added; n counts talks", note)
    return _ratio_row("agent's share of all speech", spoke, whole, len(talks), told, "nobody spoke")


def _ratio_row(what: str, above: Sequence[float], below: Sequence[float], n: int, note: str, without: str) -> Row:
    """The sum of one quantity over that of another, with an interval over resampled talks."""
    top, bottom = np.array(above, dtype=np.float64), np.array(below, dtype=np.float64)
    if not bottom.sum() > 0:
        return _missing(what, "reported", without)

    value = float(top.sum() / bottom.sum())
    interval = middle(resampled(len(top), lambda counts: np.asarray((counts @ top) / (counts @ bottom))))
    return Row(what=what, value=value, n=n, interval=interval, target="reported", passed=None, note=note)


def _distance_row(quantity: str, talks: Sequence[Measured], human: Description | None, note: str) -> Row:
    """Divergence of the agent's own events from human ones (the user's are scripted), with n and the floor.

    The interval is the spread over resampled talks around the value: the bias of few events is told by the floor.
    """
    what = f"divergence from human {_NAMES[quantity]}, bits"
    found = None if human is None else human.agent[quantity].human
    if human is None or found is None or found.n == 0:
        return _missing(what, "reported", "the agent has no such event")
    counts = np.stack([histogram(m.observed.values[quantity][0]) for m in talks])
    people = probabilities(human_distribution(quantity))

    def divergence(drawn: NDArray[np.int64]) -> Values:
        pooled = drawn @ counts
        totals = pooled.sum(1, keepdims=True)
        return np.where(totals[:, 0] > 0, jensen_shannon(pooled / totals, people), np.nan)

    values = resampled(len(talks), divergence)
    interval = middle(np.clip(values - values.mean() + found.value, 0.0, 1.0))
    few = "" if found.enough else f"n < {DISTANCE_RULES.min_events:,}: mostly sampling noise"
    told = f"sampling alone gives {found.floor:.4f} on average, {found.floor_p95:.4f} at most in 95 %"
    told = _joined("the agent's events", told, few, f"backchannels known by {_RULES[human.form_rule]}", note)
    return Row(what=what, value=found.value, n=found.n, interval=interval, target="reported", passed=None, note=told)


def _missing(what: str, target: str, why: str) -> Row:
    return Row(what=what, value=None, n=0, interval=None, target=target, passed=None, note=f"not measured: {why}")


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
