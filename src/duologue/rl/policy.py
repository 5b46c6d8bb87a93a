"""Policy losses over chosen tokens: clipped surrogates and their relatives.

Every function takes log-probabilities [N, T] of the tokens that were drawn, under the policy that learns and under the
one that drew them, advantages [N] or [N, T], and a mask [N, T] of the tokens that count. Sources: PPO (arXiv
1707.06347), GRPO (2402.03300), DAPO's higher upper clip (2503.14476), GSPO's ratio of sequences (2507.18071), CISPO
(2506.13585), Dr. GRPO's constant normaliser (2503.20783).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from duologue.base.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """Which surrogate. The defaults are those of arXiv 2606.11167."""

    objective: Literal["clip", "cispo", "reinforce"] = "clip"
    """clip: PPO's minimum; cispo: the clipped ratio weighs the log-probability, and every token keeps a gradient;
    reinforce: no ratio at all."""
    level: Literal["token", "sequence"] = "token"
    """What a ratio belongs to: each token, or the geometric mean over a sequence (GSPO)."""
    low: float = 0.2
    """A ratio is held above 1 - low."""
    high: float = 0.2
    """A ratio is held below 1 + high; more than `low` is DAPO's choice."""
    aggregate: Literal["frame_mean", "sequence_mean", "constant"] = "sequence_mean"
    """Mean of the sequences' means, so that every group of equally many sequences weighs the same, however long they
    are; mean over all tokens that count, which weighs long ones more; or the sum over a constant (Dr. GRPO)."""
    constant: float | None = None
    """The constant, in tokens; for `constant` alone."""

    def __post_init__(self) -> None:
        if not (0 <= self.low <= 1 and self.high >= 0):
            raise UserError(f"{self.low} and {self.high}", place="clip.low and clip.high", mend="use 0 to 1, 0 or more")
        if (self.aggregate == "constant") != (self.constant is not None):
            problem = f"aggregate {self.aggregate!r} with constant {self.constant}"
            raise UserError(problem, place="aggregate", mend="give a constant for 'constant', and only then")
        if self.level == "sequence" and self.objective == "reinforce":
            raise UserError(
                "has no ratio, of tokens or of sequences", place="objective reinforce", mend="use level token"
            )


class PolicyLoss(NamedTuple):
    """A loss to minimise, and what to log. The loss itself says nothing of progress."""

    loss: Tensor
    clipped: Tensor
    """Share of the tokens that count whose gradient the clip took away."""
    ratio: Tensor
    """Mean ratio."""
    old_kl: Tensor
    """Mean of the estimator k3 of the divergence between the policy that drew and the one that learns."""


def policy_loss(
    new: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, config: PolicyConfig, size: float | None = None
) -> PolicyLoss:
    """The surrogate of drawn tokens; `old` and `advantages` carry no gradient. `size` is as in `aggregate`.

    Raises:
        ValueError: shapes that do not fit.
    """
    if not new.shape == old.shape == mask.shape or advantages.shape not in (new.shape, new.shape[:1]):
        shapes = [list(x.shape) for x in (new, old, advantages, mask)]
        raise ValueError(f"log-probabilities, advantages and mask of shapes {shapes}")
    gain = (advantages if advantages.dim() == 2 else advantages[:, None]).detach().expand_as(new)
    known = mask.to(new.dtype)
    change = torch.where(mask, new - old.detach(), 0.0)  # where nothing counts the ratio is 1
    if config.level == "sequence":
        mean = change.sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
        # GSPO-token: the value of the sequence's ratio, the gradient of each token's own.
        change = (mean.detach() + change - change.detach()) * known
    ratio = change.exp()
    held = ratio.clamp(1 - config.low, 1 + config.high)
    if config.objective == "clip":
        terms = -torch.minimum(ratio * gain, held * gain)
        stopped = (ratio != held) & (held * gain < ratio * gain)
    elif config.objective == "cispo":
        terms = -held.detach() * gain * new
        stopped = torch.zeros_like(mask)
    else:
        terms = -gain * new
        stopped = torch.zeros_like(mask)
    n = known.sum().clamp(min=1)
    back = -change.detach()
    return PolicyLoss(
        aggregate(terms, mask, config, size),
        (stopped & mask).sum() / n,
        (ratio.detach() * known).sum() / n,
        ((back.exp() - back - 1) * known).sum() / n,
    )


def aggregate(terms: Tensor, mask: Tensor, config: PolicyConfig, size: float | None = None) -> Tensor:
    """One number of terms [N, T] where the mask is true, by `config.aggregate`.

    Args:
        terms: of tokens.
        mask: tokens that count.
        config: how.
        size: of the batch of which these sequences are a part, the sum of its parts' `size_of`: what its parts give
            then adds up to what the whole gives. None: this is the whole.
    """
    whole = max(size_of(mask, config) if size is None else size, 1.0)
    known = torch.where(mask, terms, 0.0)
    if config.aggregate == "sequence_mean":
        return (known.sum(1) / mask.sum(1).clamp(min=1)).sum() / whole
    return known.sum() / (whole if config.constant is None else config.constant)


def size_of(mask: Tensor, config: PolicyConfig) -> float:
    """What a mean is over: sequences that have tokens, or tokens. Sizes of the parts of a batch add up."""
    return float(mask.any(1).sum() if config.aggregate == "sequence_mean" else mask.sum())
