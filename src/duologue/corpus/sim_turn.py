"""A turn placed in time, and whether another can follow it at an offset so that the floor rules find that offset."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from duologue.corpus.sim_heard import heard_words
from duologue.corpus.spoken import Placed
from duologue.dialogue.intervals import TOLERANCE_S
from duologue.dialogue.utterances import HUMAN_RULES

MARGIN_S = 0.05
"""Kept between moments whose order decides what the rules find."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Stretches of one side in order, none overlapping; at least one when it is in a conversation."""

    side: int
    placed: tuple[Placed, ...]

    @property
    def start(self) -> float:
        return self.placed[0].start

    @property
    def end(self) -> float:
        return self.placed[-1].end

    def shifted(self, by: float) -> Turn:
        """The same turn `by` seconds later."""
        return Turn(self.side, tuple(replace(p, start=p.start + by) for p in self.placed))

    def joined(self, other: Turn, pause: float) -> Turn:
        """This turn continued by another of the same side after a pause."""
        return Turn(self.side, self.placed + other.shifted(self.end + pause - other.start).placed)

    def units(self) -> list[tuple[float, float]]:
        """Its inter-pausal units: (start, end) in seconds."""
        return _merged(self.placed, HUMAN_RULES.ipu_silence_s)

    def can_follow(self, before: Turn, offset: float, own_end: float) -> bool:
        """Whether it can start `offset` seconds after the end of `before`, its own side silent since `own_end`.

        An overlap must begin inside the last utterance of `before` and end before its own first one does. No silence of
        either side may hold the middle of a unit of the other, for there the rules end an utterance; and between its
        own side's turns there must be the middle of a unit of `before`, or they would be one.
        """
        start = before.end + offset
        units = before.units()
        if not any(own_end + MARGIN_S < (a + b) / 2 < start - MARGIN_S for a, b in units):
            return False
        if offset >= 0:
            return True
        by = start - self.start
        first = _merged(self.placed, HUMAN_RULES.utterance_silence_s)[0]
        last = _merged(before.placed, HUMAN_RULES.utterance_silence_s)[-1]
        if start < last[0] + MARGIN_S or first[1] + by < before.end + MARGIN_S:
            return False
        own = [(a + by, b + by) for a, b in self.units()]
        if not any((a + b) / 2 > before.end + MARGIN_S for a, b in own):  # else nobody could follow it
            return False
        return not (_splits(own, units) or _splits(units, own))


def _splits(units: list[tuple[float, float]], others: list[tuple[float, float]]) -> bool:
    """Whether a silence between `units` holds the middle of one of the `others`."""
    return any(b <= (c + d) / 2 <= a for (_, b), (a, _) in pairwise(units) for c, d in others)


def _merged(placed: tuple[Placed, ...], silence: float) -> list[tuple[float, float]]:
    """The words of stretches merged over silences: a voice may pause inside a stretch too."""
    merged: list[tuple[float, float]] = []
    for word in (w for p in placed for w in heard_words(p)):
        if merged and word.start - merged[-1][1] <= silence + TOLERANCE_S:
            merged[-1] = (merged[-1][0], max(merged[-1][1], word.end))
        else:
            merged.append((word.start, word.end))
    return merged
