"""The letters of each frame: a dense lesson in listening, beside words that come late.

A model that shall transcribe learns the language of its texts first, and may never begin to listen: of what it reads,
the sound says least to begin with. Asked for the letters that sound in each frame, a few frames on, it listens from the
first hundred steps. When they sound is known from the words' times; within a word, letters share its time alike. The
layer that answers is thrown away after training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.dialogue.timeline import Word
from duologue.model.lm import DuplexLM
from duologue.model.words import BRINK

LETTERS = "abcdefghijklmnopqrstuvwxyz"
UNKNOWN = -1
LATER = 3
"""Frames after which a frame's letters are asked for."""


def letter_bits(words: Iterable[Word] | None, frames: int, frame_rate: float) -> NDArray[np.int32]:
    """Which letters sound in each frame [T]: bit i for LETTERS[i]; UNKNOWN for a side whose words nobody knows."""
    if words is None:
        return np.full(frames, UNKNOWN, np.int32)
    found = np.zeros(frames, np.int32)
    for word in words:
        letters = [LETTERS.find(x) for x in word.text.lower() if x.isalpha()]
        share = (word.end - word.start) / max(len(letters), 1)
        for i, letter in enumerate(letters):
            first, last = (word.start + (i + k) * share for k in (0, 1))
            if letter >= 0:
                found[int(first * frame_rate + BRINK) : int(np.ceil(last * frame_rate - BRINK))] |= 1 << letter
    return found


class Spelling(nn.Module):
    """Tells the letters of a frame from what a middle layer made of it and of what came up to LATER frames on."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out = nn.Linear(dim, len(LETTERS))
        nn.init.zeros_(self.out.weight)

    def loss(self, hidden: Tensor, bits: Tensor, learn: Tensor) -> Tensor:
        """Nats a frame, over all letters.

        Args:
            hidden: [B, S, dim] of a layer; step s has read the frames before s.
            bits: int64 [B, T], from `letter_bits`.
            learn: bool [B, T], frames that count, if their letters are known.
        """
        asked = self.out(hidden[:, 1 + LATER :].float())
        count = asked.shape[1]
        which = torch.arange(len(LETTERS), device=bits.device)
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
