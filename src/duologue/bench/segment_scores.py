"""What changed between two models on the same segments and draws.

Both are played with equal prompts, settings and seeds (`train.segment_scores`). A metric's difference is the mean over
segments of after minus before; its 95 % interval comes from a bootstrap over segments, whose repeats are averaged
first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from duologue.bench.nano_words import mean_interval
from duologue.train.segment_scores import Scored, means_by_segment


class Difference(NamedTuple):
    """A metric before and after, over the segments in which both are known."""

    before: float
    after: float
    mean: float
    """Of after minus before."""
    low: float
    high: float
    """The 95 % interval of it; NaN for fewer than two segments."""
    segments: int

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def differences(before: Iterable[Scored], after: Iterable[Scored]) -> dict[str, Difference]:
    """What changed, metric by metric, in the segments that both have."""
    one, two = means_by_segment(before), means_by_segment(after)
    found = {}
    for metric in dict.fromkeys((*one, *two)):
        a, b = one.get(metric, {}), two.get(metric, {})
        shared = [key for key in a if key in b]
        if not shared:
            continue
        changes = [b[key] - a[key] for key in shared]
        low, high = mean_interval(changes) or (math.nan, math.nan)
        was, now = (float(np.mean([x[key] for key in shared])) for x in (a, b))
        found[metric] = Difference(was, now, float(np.mean(changes)), low, high, len(shared))
    return found
