"""Take-over and latency: the small questions that benchmarks and rewards ask of one speaker's speech.

Every function takes sorted, disjoint speech intervals [N, 2] in seconds (`Intervals`) or sorted words. What merges
into a segment, and which thresholds make a turn, the caller decides: benchmarks and papers differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from duologue.dialogue.intervals import TOLERANCE_S, Intervals
from duologue.dialogue.timeline import Word


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRule:
    """When a stretch of speech is a turn and not a backchannel: by length, by words, or by either."""

    duration_s: float = 1.0
    "Speech longer than this is a turn."
    words: int | None = None
    "Speech of more words than this is a turn, however short (None: words do not count)."
    either: bool = True
    "With `words`: one of the two is enough (False: both are needed)."


def is_turn(duration: float, n_words: int | None = None, rule: TurnRule = TurnRule()) -> bool:
    """Whether speech of `duration` seconds and `n_words` words is a turn. Unknown words (None) leave it to duration."""
    long = duration > rule.duration_s + TOLERANCE_S
    if rule.words is None or n_words is None:
        return long
    wordy = n_words > rule.words
    return (long or wordy) if rule.either else (long and wordy)


def words_in(words: Sequence[Word], start: float, end: float) -> int:
    """How many words have their midpoint in [start, end)."""
    return sum(start <= (w.start + w.end) / 2 < end for w in words)


def first_turn_after(
    segments: Intervals, time: float, min_duration: float = 0.0, *, ongoing: bool = False
) -> tuple[float, float] | None:
    """The first segment that starts at or after `time` and lasts at least `min_duration` s, or None.

    With `ongoing`, a segment under way at `time` counts too, with its true start (so that latency becomes negative);
    its whole length counts, not what is left of it.
    """
    counts = segments[:, 1] - segments[:, 0] >= min_duration - TOLERANCE_S
    counts &= (segments[:, 1] > time) if ongoing else (segments[:, 0] >= time - TOLERANCE_S)
    hits = segments[counts]
    return (float(hits[0, 0]), float(hits[0, 1])) if len(hits) else None


def response_latency(
    segments: Intervals, user_end: float, min_duration: float = 0.0, *, ongoing: bool = True
) -> float | None:
    """Signed seconds from the user's end to the start of the agent's answer; negative if the agent came in earlier.

    None when the agent never answers. The answer is `first_turn_after(user_end)`.
    """
    turn = first_turn_after(segments, user_end, min_duration, ongoing=ongoing)
    return None if turn is None else turn[0] - user_end


class Stop(NamedTuple):
    """How a speaker who talked when an event began went on: seconds until silence, and whether past the event's end."""

    latency_s: float
    talked_through: bool


def stop_latency(segments: Intervals, onset: float, end: float) -> Stop | None:
    """How long the speaker who talks at `onset` goes on; None when nobody was talking there.

    Talking at the onset means start < onset < end of a segment. Merge segments first, so that a breath is not a stop.
    `talked_through`: still talking at `end`, the end of the interrupting event (the latency is then that of the first
    silence, however late; the recording's end censors it).
    """
    i = int(np.searchsorted(segments[:, 0], onset)) - 1
    if i < 0 or segments[i, 1] <= onset:
        return None
    until = float(segments[i, 1])
    return Stop(until - onset, until >= end - TOLERANCE_S)


Take = Literal["turn", "backchannel"]


def classify_segments(segments: Intervals, words: Sequence[Word] | None, rule: TurnRule = TurnRule()) -> list[Take]:
    """Whether each segment takes the turn or is a backchannel, by its own length and words."""
    counts = [None if words is None else words_in(words, s, e) for s, e in segments.tolist()]
    lengths = (segments[:, 1] - segments[:, 0]).tolist()
    return ["turn" if is_turn(d, n, rule) else "backchannel" for d, n in zip(lengths, counts, strict=True)]
