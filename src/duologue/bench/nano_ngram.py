"""A model of token sequences by counting: interpolated n-grams with modified Kneser-Ney smoothing, to compare with.

Source: Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (1999), section 3. Lower
orders count in how many ways a run goes on to the left; runs at the beginning of a sequence keep their counts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

BEGIN = -1
"""Stands before every sequence."""
Counts = dict[tuple[int, ...], dict[int, int]]
"""For each history, how often each token follows."""


@dataclass(frozen=True, slots=True)
class NGram:
    """Probabilities of the next of `vocabulary` tokens, given up to order - 1 before it."""

    levels: tuple[Counts, ...]
    """Of histories of 0, 1, ... order - 1 tokens."""
    discounts: tuple[tuple[float, float, float], ...]
    """What is taken from counts of 1, 2, and 3 or more, at each level."""
    vocabulary: int
    """Tokens that can come."""
    masses: dict[tuple[int, ...], tuple[int, float]] = field(default_factory=dict, repr=False, compare=False)
    """Counts and freed counts of the histories that were asked for, kept since the short ones are long to add up."""

    @staticmethod
    def train(sequences: Iterable[Sequence[int]], vocabulary: int, order: int = 4) -> NGram:
        """Count sequences of token ids."""
        raw = [_empty() for _ in range(order)]
        for tokens in sequences:
            padded = [BEGIN] * (order - 1) + list(tokens)
            for i in range(order - 1, len(padded)):
                for n in range(order):
                    raw[n][tuple(padded[i - n : i])][padded[i]] += 1
        levels = [raw[-1]]
        for n in range(order - 2, -1, -1):
            levels.insert(0, _continued(raw[n], raw[n + 1]))
        return NGram(tuple(levels), tuple(_discounts(level) for level in levels), vocabulary)

    def probability(self, history: Sequence[int], token: int) -> float:
        """Of a token after a history, which may begin with `BEGIN`."""
        p = 1 / self.vocabulary
        for n, (level, cut) in enumerate(zip(self.levels, self.discounts, strict=True)):
            if n > len(history):
                break
            known = tuple(history[len(history) - n :])
            found = level.get(known)
            if not found:
                break
            total, freed = self._mass(known, found, cut)
            count = found.get(token, 0)
            p = (count - cut[min(count, 3) - 1] if count else 0.0) / total + freed / total * p
        return p

    def _mass(
        self, history: tuple[int, ...], found: dict[int, int], cut: tuple[float, float, float]
    ) -> tuple[int, float]:
        if history not in self.masses:
            self.masses[history] = sum(found.values()), sum(cut[min(count, 3) - 1] for count in found.values())
        return self.masses[history]

    def log_probability(self, tokens: Sequence[int]) -> float:
        """Sum of the natural logarithms of all tokens of a sequence, each given those before it."""
        order = len(self.levels)
        padded = [BEGIN] * (order - 1) + list(tokens)
        return sum(
            math.log(self.probability(padded[i - order + 1 : i], padded[i])) for i in range(order - 1, len(padded))
        )


def _continued(counts: Counts, longer: Counts) -> Counts:
    """Counts of different tokens to the left; where nothing can stand there, counts as they are."""
    found = _empty()
    for history, after in longer.items():
        for token in after:
            found[history[1:]][token] += 1
    for history, after in counts.items():
        if history and history[0] == BEGIN:
            found[history] = dict(after)
    return found


def _discounts(level: Counts) -> tuple[float, float, float]:
    """Chen and Goodman's estimate from how many counts are 1, 2, 3 and 4; 0.5, 1 and 1.5 where there are too few."""
    seen = [0] * 5
    for after in level.values():
        for count in after.values():
            seen[min(count, 5) - 1] += 1
    one, two, three, four, _ = seen
    if not (one and two and three and four):
        return 0.5, 1.0, 1.5
    share = one / (one + 2 * two)
    found = 1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three
    # Odd counts of counts could take more than there is, or give.
    return (
        min(max(found[0], 0.05), 0.95),
        min(max(found[1], 0.05), 1.95),
        min(max(found[2], 0.05), 2.95),
    )


def _empty() -> Counts:
    return defaultdict(lambda: defaultdict(int))
