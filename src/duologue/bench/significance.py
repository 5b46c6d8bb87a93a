"""How sure a difference is: intervals over segments and training seeds, tests of it, and their correction for number.

Values lie in strata, one for each axis that a statistic adds up: arrays [seeds, segments], NaN where nothing is known.
The statistic is the sum over strata of their means.

* Intervals: bootstrap. Segments are drawn anew in each stratum, and seeds for all of them: every seed met the same
  segments, so the two are drawn across each other (the pigeonhole bootstrap; Owen, 2007, Annals of Applied Statistics
  1). Of few seeds it says little: means of three draws from three seeds spread two thirds as much as such means do.
* Tests: of one seed, by flipping signs: if before and after are exchangeable, each segment's difference is as likely as
  its negative. Of several seeds, by the bootstrap: twice the share of its repeats on the other side of 0.
* Correction: Holm's (1979) step-down procedure over all comparisons of a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

REPEATS = 10_000
"""Of bootstrap and of sign flips."""
SEED = 20_261_201
"""Of both: the same measurements give the same interval."""
DIGITS = 12
"""Decimal places that count."""
LEVEL = 0.05
"""Of all comparisons together."""

Strata: TypeAlias = Sequence[NDArray[np.float64]]
"""Arrays [seeds, segments], with equal numbers of seeds."""


class Estimate(NamedTuple):
    """A mean difference, or a sum of such, and how sure it is."""

    mean: float
    low: float
    high: float
    """The 95 % interval; NaN for fewer than two segments in a stratum."""
    p: float
    """Of a difference so far from 0, were there none; NaN without an interval."""
    segments: int
    by_seed: tuple[float, ...]
    """The mean of each training seed."""

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


class Comparisons(NamedTuple):
    """What holds of many comparisons."""

    p: dict[str, float]
    """By name; those without a test are left out."""
    surviving: frozenset[str]
    """Names that survive the correction at `LEVEL`."""

    @property
    def total(self) -> int:
        return len(self.p)


def estimated(strata: Strata) -> Estimate:
    """The sum over strata of their means, with its interval and test.

    Args:
        strata: [seeds, segments] each, NaN where nothing is known; segments without any known value are left out.

    Raises:
        ValueError: no known value in a stratum, or unequal numbers of seeds.
    """
    kept = [x[:, ~np.isnan(x).all(axis=0)] for x in strata]
    seeds = {x.shape[0] for x in kept}
    if len(seeds) != 1 or any(not x.size for x in kept):
        raise ValueError(f"strata of {[x.shape for x in kept]} have no common mean")
    count, segments = seeds.pop(), sum(x.shape[1] for x in kept)
    mean = rounded(math.fsum(float(np.nanmean(x)) for x in kept))
    by_seed = tuple(math.fsum(known_mean(x[i]) for x in kept) for i in range(count))
    if any(x.shape[1] < 2 for x in kept):
        return Estimate(mean, math.nan, math.nan, math.nan, segments, by_seed)
    repeats = bootstrap(kept)
    low, high = np.nanpercentile(repeats, [2.5, 97.5]).tolist()
    p = flip_signs([x[0] for x in kept]) if count == 1 else other_side(repeats)
    return Estimate(mean, low, high, p, segments, by_seed)


def rounded(value: float) -> float:
    """A value without what is left of equal sums that were added in another order: 1e-17 is no difference."""
    return round(value, DIGITS) + 0.0


def known_mean(values: NDArray[np.float64]) -> float:
    """The mean of values that are not NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def bootstrap(strata: Strata) -> NDArray[np.float64]:
    """Repeats of the statistic [REPEATS], with seeds and segments drawn with replacement; NaN where a draw met nothing
    known."""
    seeds, sums = drawn(strata[0].shape[0], 0), np.zeros(REPEATS)
    for place, values in enumerate(strata, 1):
        segments, known = drawn(values.shape[1], place), ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            sums += (seeds @ np.where(known, values, 0.0) * segments).sum(1) / (seeds @ known * segments).sum(1)
    return np.round(sums, DIGITS) + 0.0


def flip_signs(strata: Sequence[NDArray[np.float64]]) -> float:
    """The two-sided p of a sum of means [segments] under random signs."""
    sums = np.zeros(REPEATS)
    for place, values in enumerate(strata):
        sums += signs(len(values), place) @ values / len(values)
    least = abs(math.fsum(float(x.mean()) for x in strata)) - 10**-DIGITS
    return float((1 + (np.abs(sums) >= least).sum()) / (1 + REPEATS))


@lru_cache(maxsize=8)
def drawn(count: int, stream: int) -> NDArray[np.float32]:
    """How often each of `count` things comes in draws of so many with replacement [REPEATS, count]; `stream`: which of
    several independent ones."""
    rng = np.random.default_rng((SEED, stream))
    return rng.multinomial(count, np.full(count, 1 / count), size=REPEATS).astype(np.float32)


@lru_cache(maxsize=8)
def signs(count: int, stream: int) -> NDArray[np.float32]:
    """Random signs [REPEATS, count]."""
    rng = np.random.default_rng((SEED, stream))
    return rng.integers(0, 2, size=(REPEATS, count)).astype(np.float32) * 2 - 1


def other_side(repeats: NDArray[np.float64]) -> float:
    """The two-sided p of a statistic from its bootstrap."""
    known = repeats[~np.isnan(repeats)]
    rarer = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(2 * (1 + rarer) / (1 + len(known)), 1.0))


def holm(p: Mapping[str, float], level: float = LEVEL) -> Comparisons:
    """Which of several comparisons hold, when the chance that any does by accident is at most `level`; NaN is none."""
    known = {name: value for name, value in p.items() if not math.isnan(value)}
    surviving = set()
    for rank, (name, value) in enumerate(sorted(known.items(), key=lambda item: item[1])):
        if value > level / (len(known) - rank):
            break
        surviving.add(name)
    return Comparisons(known, frozenset(surviving))
