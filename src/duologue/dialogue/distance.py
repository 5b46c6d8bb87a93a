"""How far a distribution of times is from another: Jensen-Shannon divergence, with what sampling alone would give.

Base 2 (0 = equal, 1 = disjoint), over bins of 0.2 s from -2 to 3 s with open tails. A divergence means nothing without
its sample size: n events drawn from the very reference still give about (K - 1) / (8 n ln 2) over K occupied bins. So
every result carries n, this floor, and the 95th percentile of what sampling alone gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duologue.dialogue.reference import DISTRIBUTIONS, Distribution, human_distribution

Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceRules:
    """How times are binned and how much is enough."""

    start_s: float = -2.0
    "Lower edge of the first closed bin; below it lies an open tail."
    stop_s: float = 3.0
    "Upper edge of the last closed bin; above it lies an open tail."
    width_s: float = 0.2
    "Width of a bin."
    min_events: int = 1000
    "With fewer events the result is marked `enough=False`: mostly sampling noise."
    refuse: bool = False
    "Give NaN instead of a marked value when there are too few events."
    draws: int = 400
    "Monte Carlo draws behind the floor (seeded by n, so the same question has the same answer)."

    def edges(self) -> NDArray[np.float64]:
        """The inner edges [K - 1] of K bins."""
        return np.linspace(self.start_s, self.stop_s, round((self.stop_s - self.start_s) / self.width_s) + 1)


DISTANCE_RULES = DistanceRules()


@dataclass(frozen=True, slots=True)
class Divergence:
    """A divergence in bits, the events behind it, and what n events of the reference itself would give."""

    value: float
    n: int
    floor: float
    floor_p95: float
    enough: bool


def histogram(values: ArrayLike, rules: DistanceRules = DISTANCE_RULES) -> NDArray[np.int64]:
    """Counts [K] of times in seconds; a time on an edge falls into the bin above it, to within a nanosecond."""
    bins = np.searchsorted(rules.edges() - 1e-9, np.asarray(values, dtype=np.float64), side="right")
    return np.bincount(bins, minlength=len(rules.edges()) + 1).astype(np.int64)


def probabilities(reference: Distribution, rules: DistanceRules = DISTANCE_RULES) -> Probabilities:
    """The reference's probability of each bin [K], interpolated between its quantiles (see `Distribution.cdf`)."""
    found: Probabilities = np.diff(reference.cdf(rules.edges()), prepend=0.0, append=1.0)
    return found


def jensen_shannon(p: Probabilities, q: Probabilities) -> NDArray[np.float64]:
    """Jensen-Shannon divergence, base 2, over the last axis of two sets of probabilities (not its square root)."""
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(x > 0, x * np.log2(x / middle), 0.0) for x in (p, q)]
    return np.asarray(np.maximum((terms[0].sum(axis=-1) + terms[1].sum(axis=-1)) / 2, 0.0), dtype=np.float64)


def divergence(
    values: ArrayLike, reference: Distribution | ArrayLike, rules: DistanceRules = DISTANCE_RULES
) -> Divergence:
    """Divergence of times from a published distribution, or from other times.

    Against other times the floor is that of two samples of their pooled distribution, and `enough` asks for
    `min_events` on both sides.
    """
    counts = histogram(values, rules)
    n = int(counts.sum())
    if isinstance(reference, Distribution):
        other, other_n = probabilities(reference, rules), None
        null = other
    else:
        other_counts = histogram(reference, rules)
        other_n = int(other_counts.sum())
        other = other_counts / max(other_n, 1)
        null = (counts + other_counts) / max(n + other_n, 1)
    if n == 0 or other_n == 0:
        return Divergence(float("nan"), n, float("nan"), float("nan"), False)
    floor, high = _floor(null.tobytes(), n, other_n, rules.draws)
    enough = min(n, n if other_n is None else other_n) >= rules.min_events
    value = float(jensen_shannon(counts / n, other)) if enough or not rules.refuse else float("nan")
    return Divergence(value, n, floor, high, enough)


def human_distance(samples: Mapping[str, ArrayLike], rules: DistanceRules = DISTANCE_RULES) -> dict[str, Divergence]:
    """How human the timing is: per quantity known to the reference, the divergence from human telephone talk."""
    known = [q for q in samples if q in DISTRIBUTIONS]
    return {q: divergence(samples[q], human_distribution(q), rules) for q in known}


@cache
def _floor(null: bytes, n: int, other_n: int | None, draws: int) -> tuple[float, float]:
    """Mean and 95th percentile of the divergence between samples of one distribution (probabilities as bytes)."""
    q = np.frombuffer(null)
    rng = np.random.default_rng(n)
    first = rng.multinomial(n, q / q.sum(), size=draws) / n
    second = q if other_n is None else rng.multinomial(other_n, q / q.sum(), size=draws) / other_n
    drawn = jensen_shannon(first, second)
    return float(drawn.mean()), float(np.percentile(drawn, 95))
