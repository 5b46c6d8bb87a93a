"""Advantages within groups: how much better than its group a rollout was, reward by reward.

Sources: GRPO (arXiv 2402.03300), RLOO (2402.14740), Dr. GRPO (2503.20783: no scale), and reward-decoupled normalisation
as arXiv 2606.11167 uses it: each reward is normalised within its group, and the results are added. GDPO (2601.05242)
and its implementations then whiten over the batch, which is a choice here. NaN means that a rollout could not be
scored: it is left out of its group's statistics and gets advantage 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from duologue.base.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvantageConfig:
    """How rewards become advantages. The defaults are those of arXiv 2606.11167."""

    baseline: Literal["mean", "leave_one_out"] = "mean"
    """What a reward is compared with: its group's mean, or the mean of the others (RLOO)."""
    scale: Literal["group", "batch", "none"] = "group"
    """What it is divided by: the standard deviation of its group, that of the batch, or nothing (Dr. GRPO). A batch is
    what one call is given: in alignment a step's groups of one axis, whose rewards have a unit of their own."""
    eps: float = 1e-4
    """Added to the standard deviation. The paper names none; 1e-4 is WavAlign's and TRL's."""
    least_spread: float = 1e-6
    """A group whose standard deviation is at most this says nothing: advantage 0, and it is counted."""
    bessel: bool = False
    """Divide the variance by n - 1 (TRL, verl) instead of n (the paper's std, WavAlign)."""
    whiten: Literal["none", "batch"] = "none"
    """batch: the sum over rewards is normalised once more over the batch, as GDPO's implementations do; in alignment
    over a step's groups of one axis, not of all."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """What each normalised reward is multiplied with before they are added (GDPO, arXiv 2601.05242); 1 if it is not
    named."""

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise UserError(f"{weight} is no weight", place=f"advantage.weights.{name}", mend="use 0 or more")
        if self.eps < 0 or self.least_spread < 0:
            raise UserError("is below 0", place="advantage.eps or least_spread", mend="use 0 or more")


class Advantages(NamedTuple):
    """What became of one batch of rewards."""

    values: Tensor
    """[groups, G]: 0 where a rollout could not be scored, or its group says nothing."""
    scored: Tensor
    """[groups, G]: whether any reward of it could be scored."""
    flat: Mapping[str, int]
    """For each reward, groups without spread."""
    unscored: Mapping[str, int]
    """For each reward, rollouts that could not be scored."""


def advantages(rewards: Mapping[str, Tensor], config: AdvantageConfig | None = None) -> Advantages:
    """Normalise each reward [groups, G] apart, then add.

    Raises:
        ValueError: no rewards, or of different shapes.
    """
    config = config or AdvantageConfig()
    if len({x.shape for x in rewards.values()}) != 1:
        raise ValueError(f"rewards of shapes {[list(x.shape) for x in rewards.values()]}")
    parts = {name: _normalised(x.double(), config) for name, x in rewards.items()}
    total = torch.stack([config.weights.get(name, 1.0) * values for name, (values, _) in parts.items()]).sum(0)
    scored = torch.stack([~x.isnan() for x in rewards.values()]).any(0)
    if config.whiten == "batch" and scored.any():
        told = total[scored]
        spread = told.std(correction=int(config.bessel)) if len(told) > 1 else told.new_zeros(())
        total = torch.where(scored, (total - told.mean()) / (spread + config.eps), 0.0)
    flat = {name: int(x.sum()) for name, (_, x) in parts.items()}
    unscored = {name: int(x.isnan().sum()) for name, x in rewards.items()}
    return Advantages(total.float(), scored, flat, unscored)


def _normalised(x: Tensor, config: AdvantageConfig) -> tuple[Tensor, Tensor]:
    """One reward [groups, G] against its group, 0 where there is nothing to say; and which groups have no spread."""
    known = ~x.isnan()
    n = known.sum(1, keepdim=True)
    value = x.nan_to_num(0.0)
    mean = value.sum(1, keepdim=True) / n.clamp(min=1)
    off = torch.where(known, value - mean, 0.0)
    spread = (off.square().sum(1, keepdim=True) / (n - int(config.bessel)).clamp(min=1)).sqrt()
    flat = spread <= config.least_spread
    if config.baseline == "leave_one_out":  # x - mean of the others = (x - mean) n / (n - 1)
        off = off * n / (n - 1).clamp(min=1)
    if config.scale == "group":
        off = off / (spread + config.eps)
    elif config.scale == "batch" and known.any():
        told = value[known]
        off = off / (told.std(correction=int(config.bessel) if len(told) > 1 else 0) + config.eps)
    return torch.where(flat, 0.0, off), flat[:, 0]
