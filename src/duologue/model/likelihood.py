"""Log-probabilities of given tokens, without the logits of all positions in memory at once.

At 7B, the text logits of 16 segments of 625 frames are 1.3 GB in float32, and their softmax as much again. Here output
layer and softmax run on the positions that count, some at a time, and run again for the gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from duologue.model.lm import DuplexLM


class LogProbs(NamedTuple):
    """Natural logarithms, in float32; 0 at masked positions."""

    text: Tensor
    """[B, T]"""
    text_mask: Tensor
    """[B, T]"""
    audio: Tensor
    """[B, steps, T]"""
    audio_mask: Tensor
    """[B, steps, T]"""


def log_probs(
    model: DuplexLM, codes: Tensor, *, depth_steps: int = 0, condition: Tensor | None = None, recompute: bool = False,
    where: Tensor | None = None, chunk: int = 256,
) -> LogProbs:  # fmt: skip
    """Log-probability of each token of codes [B, K, T] given what came before it, by teacher forcing.

    Args:
        model: the language model.
        codes: un-delayed tokens; -1 where there is none.
        depth_steps: how many audio streams; 0 for the text alone, which needs no depth transformer.
        condition: as in `DuplexLM.forward`.
        recompute: as in `DuplexLM.forward`.
        where: frames that count, [B, T] or [T]; all of them if None.
        chunk: positions whose logits are in memory at once.
    """
    hidden = model.hidden(codes, depth_steps=depth_steps, condition=condition, recompute=recompute)
    masks = [m if where is None else m & where for m in (hidden.text_mask, *hidden.audio_mask)]
    heads = (model.text_linear, *(model.linears if hidden.audio else ()))
    found = [
        _chosen(head, x, codes[:, k], mask, chunk)
        for k, (head, x, mask) in enumerate(zip(heads, (hidden.text, *hidden.audio), masks, strict=False))
    ]
    if len(found) == 1:
        B, T = masks[0].shape
        return LogProbs(found[0], masks[0], found[0].new_zeros(B, 0, T), masks[0].new_zeros(B, 0, T))
    return LogProbs(found[0], masks[0], torch.stack(found[1:], 1), torch.stack(masks[1:], 1))


def _chosen(head: nn.Module, x: Tensor, targets: Tensor, mask: Tensor, chunk: int) -> Tensor:
    """Log-probabilities of targets [B, T] under the output layer `head` of x [B, T, D]; 0 where the mask is false."""
    rows, wanted = x[mask], targets[mask]
    parts = [
        checkpoint(_score, head, some, chosen, use_reentrant=False)
        for some, chosen in zip(torch.split(rows, chunk), torch.split(wanted, chunk), strict=True)
    ]
    scores = torch.cat(parts) if parts else rows.new_zeros(0)
    return torch.zeros(mask.shape, device=x.device).masked_scatter(mask, scores.float())


def _score(head: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    logits: Tensor = head(x).float()
    return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(1)
