"""What a policy earns on held-out segments while it learns, in units that can be added.

Rewards of axes are seconds, shares and F1; their plain mean is a mean of seconds. Here each axis' reward is told as a
z-score against the model before the first step: its mean on these segments less that model's, over the spread of that
model's own rewards from segment to segment. The same segments, seeds and rules every time; `best` is chosen by the mean
over axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from duologue.base.errors import UserError
from duologue.engine.sampling import Sampling
from duologue.train.align_settings import RewardSettings
from duologue.train.parallel import ALONE, World
from duologue.train.rollouts import Recorded, Roller
from duologue.train.segment_scores import Scored, score_segments

LEAST_SPREAD = 0.1
"""The least that an axis' rewards are taken to differ from segment to segment, in its own unit: where the first model
is always as good, a change still counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What a policy is measured on while it learns."""

    segments: Mapping[str, Sequence[Recorded]]
    """By axis; none of them is learned from."""
    rewards: RewardSettings = field(default_factory=RewardSettings)
    """By which rules: those of one unit of speech, whatever is learned from."""
    context_s: float = 0.0
    """How much of the recording before a segment is given."""
    seed: int = 0
    """Of the draws; not that of the run, so that runs of other seeds are measured alike."""


class HeldOutScores:
    """Measures, and remembers what the first model earned and which was best.

    Args:
        held_out: what is played.
        sampling: how.
        world: the processes that share the segments.
    """

    def __init__(self, held_out: HeldOut, sampling: Sampling, world: World = ALONE) -> None:
        self._held_out, self._sampling, self._world = held_out, sampling, world
        self._first: dict[str, tuple[float, float]] | None = None
        self._best = -math.inf

    @property
    def begun(self) -> bool:
        """Whether the model before the first step was measured."""
        return self._first is not None

    def begin(self, roller: Roller) -> None:
        """Measure the model before the first step."""
        self._first = {axis: (float(np.mean(x)), float(np.std(x))) for axis, x in self._play(roller).items()}

    def measure(self, roller: Roller) -> tuple[dict[str, float], bool]:
        """What the model earns now: `reward_AXIS`, `first_AXIS` of the first model, `z_AXIS`, and `z`, their mean; and
        whether that is the best so far."""
        assert self._first is not None
        row: dict[str, float] = {}
        scores = []
        for axis, rewards in self._play(roller).items():
            mean, spread = self._first[axis]
            now = float(np.mean(rewards))
            scores.append((now - mean) / max(spread, LEAST_SPREAD))
            row |= {f"reward_{axis}": now, f"first_{axis}": mean, f"z_{axis}": scores[-1]}
        z = float(np.mean(scores))
        better, self._best = z > self._best, max(z, self._best)
        return row | {"z": z}, better

    def state(self) -> dict[str, Any]:
        first = None if self._first is None else {axis: list(pair) for axis, pair in self._first.items()}
        return {"first": first, "best": self._best}

    def restore(self, state: Mapping[str, Any]) -> None:
        first = state["first"]
        self._first = None if first is None else {axis: (mean, spread) for axis, (mean, spread) in first.items()}
        self._best = state["best"]

    def _play(self, roller: Roller) -> dict[str, list[float]]:
        """The rewards of each axis on its segments; each process plays a part of them."""
        how, world = self._held_out, self._world
        own = score_segments(
            roller, how.segments, self._sampling, how.rewards, context_s=how.context_s, seed=how.seed,
            share=(world.rank, world.count),
        )  # fmt: skip
        return _by_axis(scored for part in world.every(own) for scored in part)


def check_apart(learned: Mapping[str, Sequence[Recorded]], held_out: Mapping[str, Sequence[Recorded]]) -> None:
    """Errors: UserError, a segment is learned from and measured on."""
    known = {recorded.segment.id for found in learned.values() for recorded in found}
    for found in held_out.values():
        for recorded in found:
            if recorded.segment.id in known:
                mend = "mine them from conversations of their own"
                raise UserError(f"{recorded.segment.id} is learned from too", place="--dev", mend=mend)


def _by_axis(scored: Iterable[Scored]) -> dict[str, list[float]]:
    """Each axis' own rewards, in the order of segments' names, whoever played them."""
    found: dict[str, list[float]] = {}
    for one in sorted(scored, key=lambda s: (s.axis, s.segment, s.repeat)):
        value = one.values.get(f"reward_{one.axis}", math.nan)
        if not math.isnan(value):
            found.setdefault(one.axis, []).append(value)
    return found
