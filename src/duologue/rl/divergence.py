"""Divergence of the policy from its reference: exact over the vocabulary, or estimated from what was drawn.

Exact: KL(p || q) = sum_v p(v) (log p(v) - log q(v)), as arXiv 2606.11167 uses it at every position. Estimators of drawn
tokens, with d = log q - log p (Schulman, "Approximating KL divergence"): k1 = -d, k2 = d^2 / 2, k3 = e^d - d - 1. The
means of k1 and k3 are right; of their gradients as losses, that of k1 has mean 0 and that of k2 is the right one.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Estimator: TypeAlias = Literal["k1", "k2", "k3"]


def exact_kl(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(policy || reference) [...] of logits [..., V], in nats; the reference carries no gradient."""
    p, q = logits.float().log_softmax(-1), reference.detach().float().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def estimated_kl(new: Tensor, reference: Tensor, estimator: Estimator = "k3") -> Tensor:
    """An estimate [...] from log-probabilities [...] of tokens that the policy drew."""
    d = reference.detach() - new
    if estimator == "k1":
        return -d
    return d.square() / 2 if estimator == "k2" else d.exp() - d - 1


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of x where the mask is true; 0 where it is nowhere."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp(min=1)
