"""How much of a step is reinforcement and how much imitation: WavAlign's gate (arXiv 2604.14932, official code).

A step's loss is lambda * RL + (1 - lambda) * SFT. Lambda is large only if a group holds a good rollout and its rewards
differ: lambda_max * sigmoid(k (r_max - tau)) * clip(variance / scale, 0, 1), smoothed over steps. The code's constants
are for scores of 1 to 5; here they follow from the range: tau is its middle, the variance's scale its largest variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from duologue.base.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """The gate's constants; the defaults give the official code's numbers."""

    low: float = 1.0
    """Smallest reward."""
    high: float = 5.0
    """Largest reward."""
    steepness: float = 5.0
    """k, for a range of 4; it scales with the range."""
    most: float = 0.8
    """lambda_max."""
    memory: float = 0.9
    """Weight of the last lambda in the smoothed one."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(f"{self.low} to {self.high} is no range of rewards", place="gate", mend="low before high")
        if not (0 <= self.most <= 1 and 0 <= self.memory < 1 and self.steepness > 0):
            raise UserError("has constants outside their range", place="gate", mend="most and memory 0 to 1")


def gate(rewards: Tensor, before: float | None, config: GateConfig | None = None) -> float:
    """Lambda of a step from rewards [groups, G] (NaN left out) and the last step's lambda (None: there is none)."""
    config = config or GateConfig()
    half = (config.high - config.low) / 2
    found = []
    for group in rewards.double():
        known = group[~group.isnan()]
        if not len(known):
            continue
        good = torch.sigmoid(config.steepness * (known.max() - (config.low + config.high) / 2) * 2 / half)
        differ = (known.var(correction=0) / half**2).clamp(0, 1)
        found.append(config.most * float(good) * float(differ))
    now = sum(found) / len(found) if found else 0.0
    smooth = now if before is None else (1 - config.memory) * now + config.memory * before
    return min(max(smooth, 0.0), config.most)
