"""Generalised advantage estimation (arXiv 1506.02438) over sequences that end, are cut off, or go on."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    rewards: Tensor, values: Tensor, after: Tensor, ended: Tensor, cut: Tensor, *, discount: float, trace: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns [N, T].

    Args:
        rewards: of step t, [N, T].
        values: estimated before step t, [N, T].
        after: estimated after step t, of the state that it led to, [N, T]: at a cut that of the state that was left,
            not of the one that the next episode began with.
        ended: whether the episode ended at step t: nothing comes after, [N, T].
        cut: whether it was abandoned there (a time limit): the value after counts, the trace stops, [N, T].
        discount: gamma.
        trace: lambda.
    """
    delta = rewards + discount * torch.where(ended, 0.0, after) - values
    goes_on = (~(ended | cut)).to(delta.dtype)
    found = torch.zeros_like(delta)
    carried = torch.zeros_like(delta[:, 0])
    for t in range(delta.shape[1] - 1, -1, -1):
        carried = delta[:, t] + discount * trace * goes_on[:, t] * carried
        found[:, t] = carried
    return found, found + values
