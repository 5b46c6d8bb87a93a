"""What the temporal transformer remembers: a ring of keys and values for each stream, in 8 bits if wanted.

In 8 bits each key and value is 127 steps of its own largest entry, with that as its scale: a quarter of the memory of
float32 and half that of bfloat16, for more conversations on one GPU. It is turned back where it is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

LEVELS = 127
Place: TypeAlias = tuple[slice | Tensor | int, ...]
"""Where in a layer's ring [B, 2, kv heads, capacity]."""


@dataclass(frozen=True, slots=True)
class LMState:
    """One row per stream. `StreamLM.read` and `prefill` change it in place."""

    cache: Tensor
    """Keys and values [layers, B, 2, kv heads, capacity, head]: a ring; step s lies at s modulo capacity."""
    steps: Tensor
    """[B]: frames read so far."""
    scale: Tensor | None = None
    """[layers, B, 2, kv heads, capacity], if the ring is in 8 bits."""

    @property
    def capacity(self) -> int:
        """Steps that the ring holds."""
        return self.cache.shape[4]

    def store(self, layer: int, place: Place, kv: Tensor) -> None:
        """Put keys and values [..., head] at a place of a layer's ring."""
        if self.scale is None:
            self.cache[layer][place] = kv
            return
        scale = kv.abs().amax(-1).clamp(min=1e-8) / LEVELS
        self.cache[layer][place] = (kv / scale[..., None]).round().to(torch.int8)
        self.scale[layer][place] = scale

    def look(self, layer: int, place: Place, dtype: torch.dtype) -> Tensor:
        """Keys and values at a place of a layer's ring."""
        found = self.cache[layer][place]
        return found if self.scale is None else found.to(dtype) * self.scale[layer][place][..., None]

    def clone(self) -> LMState:
        """A state that shares no memory with this one."""
        return LMState(self.cache.clone(), self.steps.clone(), None if self.scale is None else self.scale.clone())

    def reset(self, rows: Tensor) -> None:
        """Forget everything in the rows [B] that are true: with no steps counted, no key is seen."""
        self.steps.masked_fill_(rows, 0)

    def copy_row(self, source: int, target: int) -> None:
        """Make one row go on where another stands: a shared prefix is computed once."""
        for tensor in self.rings():
            tensor[:, target].copy_(tensor[:, source])
        self.steps[target] = self.steps[source]

    def rings(self) -> list[Tensor]:
        """All that has the layers in dimension 0, rows in 1 and the ring in 4."""
        return [self.cache] if self.scale is None else [self.cache, self.scale]
