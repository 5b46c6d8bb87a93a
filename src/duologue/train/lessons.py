"""Questions asked of a middle layer while a model learns: yes or no, many of them, in every frame.

What is learned from them stays below that layer; the layer that answers is thrown away after training. `spelling` and
`foresight` say what is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.model.lm import DuplexLM

UNKNOWN = -1
"""In place of a frame's answers: nobody knows them."""


class Lesson(nn.Module):
    """Tells a number of bits of each frame from what a middle layer made of what came so far.

    Args:
        dim: width of that layer.
        count: bits, at most 62.
        later: steps after which a frame is asked for. Step s has read the frames before s: 0 asks of what comes, 1 of
            the frame just read.
    """

    def __init__(self, dim: int, count: int, later: int) -> None:
        super().__init__()
        self.later, self.out = later, nn.Linear(dim, count)
        nn.init.zeros_(self.out.weight)

    def loss(self, hidden: Tensor, bits: Tensor, learn: Tensor) -> Tensor:
        """Nats a frame, over all bits.

        Args:
            hidden: [B, S, dim] of a layer.
            bits: int64 [B, T], bit i for question i; `UNKNOWN` where nobody knows.
            learn: bool [B, T], frames that count, if they are known.
        """
        asked = self.out(hidden[:, self.later : self.later + bits.shape[1]].float())
        count = asked.shape[1]
        which = torch.arange(asked.shape[2], device=bits.device)
        wanted = (bits[:, :count, None] >> which & 1).to(asked)
        each = F.binary_cross_entropy_with_logits(asked, wanted, reduction="none").sum(-1)
        kept = learn[:, :count] & (bits[:, :count] != UNKNOWN)
        return (each * kept).sum() / kept.sum().clamp(min=1)


@contextmanager
def tapped(model: DuplexLM) -> Iterator[list[Tensor]]:
    """While it lasts, the outputs [B, S, dim] of the middle layer of a model's temporal transformer are kept."""
    layers = model.transformer.layers
    kept: list[Tensor] = []
    handle = layers[len(layers) // 2].register_forward_hook(lambda _module, _given, out: kept.append(out))
    try:
        yield kept
    finally:
        handle.remove()
