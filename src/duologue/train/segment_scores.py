"""How a model takes part in segments: every segment is played with given seeds and scored on its axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from duologue.axes import AXES
from duologue.engine.sampling import Sampling
from duologue.train.align_settings import RewardSettings
from duologue.train.rollouts import Episode, Recorded, Roller, Rollout

SEEDS_APART = 1_000_003
"""Between the seeds of two segments."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One rollout of one segment."""

    axis: str
    segment: str
    repeat: int
    values: Mapping[str, float]
    """By metric: `reward_NAME`, and `AXIS_MEASURE`; NaN where there is none."""


def score_segments(
    roller: Roller, segments: Mapping[str, Sequence[Recorded]], sampling: Sampling, rewards: RewardSettings, *,
    repeats: int = 1, context_s: float = 0.0, seed: int = 0,
    also: Callable[[str, Rollout], Mapping[str, float]] | None = None, share: tuple[int, int] = (0, 1),
) -> list[Scored]:  # fmt: skip
    """Play every segment `repeats` times and score it on its axis.

    Args:
        roller: with the model.
        segments: by axis.
        sampling: settings; seeds follow from `seed`, the segment's place and the repeat.
        rewards: what is rewarded.
        repeats: rollouts of each segment.
        context_s: how much of the recording before a segment is given.
        seed: of all draws.
        also: further metrics of a rollout, from its axis and itself.
        share: which of how many equal parts is played, where several processes share the work; what a segment becomes
            does not hang on it.
    """
    episodes = [
        (axis, r, k, Episode(r, context_s, (seeded(sampling, seed, place, k),)))
        for axis, recorded in segments.items() for place, r in enumerate(recorded) for k in range(repeats)
    ]  # fmt: skip
    # Rollouts of a batch last as long as its longest segment; what each becomes does not hang on its company.
    order = sorted(range(len(episodes)), key=lambda i: episodes[i][1].segment.end - episodes[i][1].segment.start)
    order = order[share[0] :: share[1]]
    found: dict[int, Scored] = {}
    for first in range(0, len(order), roller.slots):
        some = order[first : first + roller.slots]
        for i, (rollout,) in zip(some, roller.play([episodes[i][3] for i in some]), strict=True):
            axis, r, k, _ = episodes[i]
            more = {} if also is None else also(axis, rollout)
            found[i] = Scored(axis, r.segment.id, k, {**measured(axis, rollout, rewards), **more})
    return [found[i] for i in sorted(found)]


def measured(axis: str, rollout: Rollout, rewards: RewardSettings) -> dict[str, float]:
    """All metrics of a rollout on its axis."""
    how = rewards.of(axis)
    earned = {f"reward_{name}": value for name, value in AXES[axis].reward(rollout.scene, how).items()}
    seen = {f"{axis}_{name}": value for name, value in AXES[axis].measure(rollout.scene, how).items()}
    return earned | seen


def summary(scored: Iterable[Scored]) -> dict[str, float]:
    """The mean of each metric over the segments in which it is known."""
    return {metric: float(np.mean(list(values.values()))) for metric, values in means_by_segment(scored).items()}


def means_by_segment(scored: Iterable[Scored]) -> dict[str, dict[tuple[str, str], float]]:
    """For each metric, the mean over repeats in each segment."""
    kept: dict[str, dict[tuple[str, str], list[float]]] = {}
    for one in scored:
        for metric, value in one.values.items():
            if not math.isnan(value):
                kept.setdefault(metric, {}).setdefault((one.axis, one.segment), []).append(value)
    return {metric: {key: float(np.mean(x)) for key, x in values.items()} for metric, values in kept.items()}


def seeded(sampling: Sampling, seed: int, place: int, repeat: int) -> Sampling:
    """The settings of a repeat of an axis's segment of this place."""
    at = (seed * 7919 + place * SEEDS_APART + repeat) % 2**31
    return replace(sampling, text_seed=at, audio_seed=at)
