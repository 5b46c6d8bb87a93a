"""Direct preference optimisation from pairs (arXiv 2305.18290), normalised by length as 2506.21463 does for Moshi."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class PreferenceLoss(NamedTuple):
    """A loss to minimise, and what to log."""

    loss: Tensor
    accuracy: Tensor
    """Share of pairs in which the preferred one gained more than the other."""
    margin: Tensor
    """Mean of beta times the difference of the gains."""


def dpo_loss(
    chosen: Tensor, rejected: Tensor, chosen_reference: Tensor, rejected_reference: Tensor, chosen_mask: Tensor,
    rejected_mask: Tensor, *, beta: float, by_length: bool = True,
) -> PreferenceLoss:  # fmt: skip
    """The loss of pairs of sequences.

    Args:
        chosen: log-probabilities [N, T] of the preferred sequences' tokens; `rejected` [N, S] those of the others.
        chosen_reference: the same under the frozen reference, as `rejected_reference`.
        chosen_mask: tokens that count, as `rejected_mask`.
        beta: how closely the policy is held to the reference.
        by_length: a sequence's gain is the mean over its tokens, not the sum.
    """
    better = _gain(chosen, chosen_reference, chosen_mask, by_length)
    worse = _gain(rejected, rejected_reference, rejected_mask, by_length)
    margin = beta * (better - worse)
    return PreferenceLoss(-F.logsigmoid(margin).mean(), (margin > 0).float().mean(), margin.detach().mean())


def _gain(new: Tensor, reference: Tensor, mask: Tensor, by_length: bool) -> Tensor:
    total = torch.where(mask, new - reference.detach(), 0.0).sum(1)
    return total / mask.sum(1).clamp(min=1) if by_length else total
