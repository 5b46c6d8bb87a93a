"""Two actions instead of a vocabulary: speak or keep silent (ASPIRin, arXiv 2604.10065).

The published form adds the raw logits of each class of tokens; it is not the probability of the class, since adding a
constant to all logits changes it. The marginal form does what the words say: log-sum-exp of each class.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Projection: TypeAlias = Literal["sum_of_logits", "marginal"]
SILENT, SPEAK = 0, 1


def speak_or_silent(logits: Tensor, silent: Tensor, projection: Projection = "marginal") -> Tensor:
    """Log-probabilities [..., 2] of (silent, speak) from logits [..., V]; `silent` [V] says which tokens are silence.

    Raises:
        ValueError: no token is silence, or all are.
    """
    if not silent.any() or silent.all():
        raise ValueError("both classes need a token")
    x = logits.float()
    if projection == "sum_of_logits":
        classes = torch.stack((x[..., silent].sum(-1), x[..., ~silent].sum(-1)), -1)
    else:
        classes = torch.stack((x[..., silent].logsumexp(-1), x[..., ~silent].logsumexp(-1)), -1)
    return classes.log_softmax(-1)


def action_of(tokens: Tensor, silent: Tensor) -> Tensor:
    """SPEAK or SILENT for each token [...]."""
    return torch.where(silent[tokens], SILENT, SPEAK)
