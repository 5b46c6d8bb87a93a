"""Take-over and latency: the questions about one speaker that benchmarks and rewards ask, answered once for both.

What joins into a stretch of speech and what makes it a turn is the caller's: benchmarks and papers differ. Times are
seconds; stretches are sorted and disjoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from duologue.dialogue.intervals import TOLERANCE_S, merge
from duologue.dialogue.timeline import Track


class Stretch(NamedTuple):
    """Somebody speaks from `start` to `end`; `words` counts the words whose midpoint lies inside, None if unknown."""

    start: float
    end: float
    words: int | None = None

    @property
    def duration(self) -> float:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.start:.2f}-{self.end:.2f} s"


class Stop(NamedTuple):
    """How a speaker who talked when an event began went on: seconds until silence, and whether past the event's end."""

    latency_s: float
    talked_through: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRule:
    """When a stretch of speech takes the turn: by its length, or by its words however short it is."""

    duration_s: float = 1.0
    """Speech longer than this is a turn."""
    inclusive: bool = False
    """Speech of exactly that length is one too (Full-Duplex-Bench; the alignment paper says longer)."""
    words: int | None = None
    """Speech of more words than this is a turn (None: words do not count). Unknown words leave it to the length."""

    def takes(self, stretch: Stretch) -> bool:
        """Whether the stretch is a turn."""
        slack = -TOLERANCE_S if self.inclusive else TOLERANCE_S
        wordy = self.words is not None and stretch.words is not None and stretch.words > self.words
        return wordy or stretch.duration > self.duration_s + slack


def stretches(track: Track, join_s: float) -> list[Stretch]:
    """Cut a track's speech into stretches, joined over silences of at most `join_s` seconds."""
    spans = merge(track.speech, join_s)
    if track.words is None:
        return [Stretch(start, end) for start, end in spans.tolist()]
    middles = np.sort([(w.start + w.end) / 2 for w in track.words])
    counts = np.searchsorted(middles, spans[:, 1], side="right") - np.searchsorted(middles, spans[:, 0])
    return [Stretch(start, end, n) for (start, end), n in zip(spans.tolist(), counts.tolist(), strict=True)]


def joined(ours: Sequence[Stretch], join_s: float) -> list[Stretch]:
    """Join stretches that are at most `join_s` seconds apart."""
    found: list[Stretch] = []
    for part in ours:
        if found and part.start - found[-1].end <= join_s + TOLERANCE_S:
            known = found[-1].words is not None and part.words is not None
            words = (found[-1].words or 0) + (part.words or 0) if known else None
            found[-1] = Stretch(found[-1].start, part.end, words)
        else:
            found.append(part)
    return found


def first_answer(
    ours: Sequence[Stretch], user_end: float, rule: TurnRule, *, earliest: float, join_s: float
) -> Stretch | None:
    """The answer to a user who ends at `user_end`: the first turn from `earliest` on that outlasts the user.

    Stretches that start before `earliest` are no part of it. The others join over silences of at most `join_s` seconds
    first, so that an answer which opens with a short word starts with that word. Its start minus `user_end` is the
    signed latency. None when there is no answer.
    """
    candidates = joined([s for s in ours if s.start >= earliest - TOLERANCE_S], join_s)
    return next((s for s in candidates if rule.takes(s) and s.end > user_end), None)


def stop_latency(ours: Sequence[Stretch], onset: float, end: float) -> Stop | None:
    """How long the speaker who talks at `onset` goes on; None when nobody was talking there.

    Talking at the onset means start < onset < end of a stretch. `talked_through`: still talking at `end`, the end of
    the interrupting event; the latency is then that of the first silence, however late, and the recording's end
    censors it.
    """
    running = next((s for s in ours if s.start < onset < s.end), None)
    return None if running is None else Stop(running.end - onset, running.end >= end - TOLERANCE_S)
