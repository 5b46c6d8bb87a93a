"""What changed between two models on the same segments and draws, and how sure it is, over one training seed or more.

Both are played with equal prompts, settings and seeds (`train.segment_scores`). A metric's difference is the mean over
segments of after minus before, whose repeats are averaged first. Two sums over axes stand beside the metrics, in units
that can be added (an axis' difference over the spread of the model before on it): `reward_sum_z` of the rewards, and
`hearing_sum_z` of the gains of hearing (`bench.listening_check`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from duologue.bench.significance import Estimate, estimated, rounded
from duologue.train.segment_scores import Scored, means_by_segment

Key: TypeAlias = tuple[str, str]
"""Axis and segment."""
When: TypeAlias = Literal["before", "after"]
WHEN: tuple[When, When] = ("before", "after")
OF_THE_HUMAN = ("backchannel_human_per_minute",)
"""Measures that say nothing of the model."""
SUM_Z = "sum_z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What two models did in one segment: metrics by name, means over repeats, without those that nobody knows."""

    axis: str
    segment: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    other_before: Mapping[str, float]
    """The same with another segment's user, as far as it was played."""
    other_after: Mapping[str, float]

    def hearing(self, when: When) -> float:
        """The gain of hearing: the axis' reward with the segment's own user less that with another's; NaN if one of
        them is unknown."""
        name = f"reward_{self.axis}"
        own, other = (self.before, self.other_before) if when == "before" else (self.after, self.other_after)
        return own.get(name, math.nan) - other.get(name, math.nan)


class Difference(NamedTuple):
    """A metric before and after, over the segments in which both are known, and over training seeds."""

    before: float
    after: float
    mean: float
    """Of after minus before."""
    low: float
    high: float
    """The 95 % interval of it; NaN for fewer than two segments."""
    segments: int
    p: float = math.nan
    """Of a mean so far from 0 by chance (`bench.significance`)."""
    by_seed: tuple[float, ...] = ()
    """The mean of each training seed."""

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def paired(
    before: Iterable[Scored], after: Iterable[Scored], others: tuple[Iterable[Scored], Iterable[Scored]] = ((), ())
) -> list[Played]:
    """The segments that both models played, in the order of the first; `others`: both with other users."""
    sides = [by_segment(scored) for scored in (before, after, *others)]
    return [
        Played(
            axis=axis, segment=segment, before=values, after=sides[1][axis, segment],
            other_before=sides[2].get((axis, segment), {}), other_after=sides[3].get((axis, segment), {}),
        )
        for (axis, segment), values in sides[0].items() if (axis, segment) in sides[1]
    ]  # fmt: skip


def by_segment(scored: Iterable[Scored]) -> dict[Key, dict[str, float]]:
    """The means of known metrics over repeats, by segment."""
    kept = list(scored)
    found: dict[Key, dict[str, float]] = {(s.axis, s.segment): {} for s in kept}
    for metric, values in means_by_segment(kept).items():
        for key, value in values.items():
            found[key][metric] = value
    return found


def differences(*runs: Sequence[Played]) -> dict[str, Difference]:
    """What changed, metric by metric, then hearing on each axis and both sums.

    Args:
        runs: what was played, training seed by training seed; of several, the segments that each has.
    """
    kept = shared(runs)
    found = {}
    for name in dict.fromkeys(n for rows in kept for row in rows for n in row.before if n not in OF_THE_HUMAN):
        before, after = (
            np.array([[getattr(row, w).get(name, math.nan) for row in rows] for rows in kept], np.float64) for w in WHEN
        )
        if not np.isnan(after - before).all():
            found[name] = _difference([before], [after])
    for axis in axes_of(runs):
        before, after = (_over(runs, axis, Played.hearing, w) for w in WHEN)
        if not np.isnan(after - before).all():
            found[f"hearing_{axis}"] = _difference([before], [after])
    return found | _sums(runs)


def hearing(rows: Sequence[Played], when: When) -> dict[str, Estimate]:
    """The gain of hearing of one of the models, by axis, and their sum `sum_z` over the spreads of the model before."""
    gains = {axis: _over([rows], axis, Played.hearing, when) for axis in axes_of([rows])}
    known = {axis: x for axis, x in gains.items() if not np.isnan(x).all()}
    found = {axis: estimated([x]) for axis, x in known.items()}
    scaled = [x / s for axis, x in known.items() if (s := spread(rows, axis)) > 0]
    return found | ({SUM_Z: estimated(scaled)} if scaled else {})


def spread(rows: Sequence[Played], axis: str) -> float:
    """The standard deviation of the model before's reward over the segments of an axis."""
    return float(np.std([_reward(row, "before") for row in rows if row.axis == axis]))


def axes_of(runs: Sequence[Sequence[Played]]) -> list[str]:
    """The axes of what was played."""
    return list(dict.fromkeys(row.axis for rows in runs for row in rows))


def shared(runs: Sequence[Sequence[Played]]) -> list[list[Played]]:
    """The segments that every run has, in one order."""
    keyed = [{(row.axis, row.segment): row for row in rows} for rows in runs]
    keys = [key for key in keyed[0] if all(key in rows for rows in keyed)]
    return [[rows[key] for key in keys] for rows in keyed]


def plain_rows(rows: Iterable[Played]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(row) for row in rows]


def played_rows(rows: Iterable[Mapping[str, Any]]) -> list[Played]:
    """The same, read again. Errors: TypeError, other fields."""
    return [Played(**row) for row in rows]


def _sums(runs: Sequence[Sequence[Played]]) -> dict[str, Difference]:
    """Both sums over axes; an axis on which the model before always earns the same has no unit, and is left out."""
    found = {}
    for name, value in (("reward", _reward), ("hearing", Played.hearing)):
        sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for axis in axes_of(runs):
            spreads = np.array([[spread(rows, axis)] for rows in runs])
            before, after = (_over(runs, axis, value, w) for w in WHEN)
            if not (spreads > 0).all() or np.isnan(after - before).all():
                continue
            zero = np.nanmean(before, axis=1, keepdims=True) if name == "reward" else 0.0
            for side, values in zip(sides, (before, after), strict=True):
                side.append((values - zero) / spreads)
        if sides[0]:
            total = _difference(*sides)
            found[f"{name}_{SUM_Z}"] = total._replace(before=0.0, after=total.mean) if name == "reward" else total
    return found


def _reward(row: Played, when: When) -> float:
    """Of the row's axis; NaN if it is unknown."""
    return (row.before if when == "before" else row.after).get(f"reward_{row.axis}", math.nan)


def _over(
    runs: Sequence[Sequence[Played]], axis: str, value: Callable[[Played, When], float], when: When
) -> np.ndarray:
    """A value [seeds, segments] of every row of an axis that all runs have."""
    return np.array([[value(row, when) for row in rows if row.axis == axis] for rows in shared(runs)], np.float64)


def _difference(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> Difference:
    """Of strata [seeds, segments], over what is known of both."""
    changes = [y - x for x, y in zip(before, after, strict=True)]
    was, now = (
        math.fsum(float(x[~np.isnan(change)].mean()) for x, change in zip(side, changes, strict=True))
        for side in (before, after)
    )
    e = estimated(changes)
    return Difference(rounded(was), rounded(now), e.mean, e.low, e.high, e.segments, e.p, e.by_seed)
