"""Streaming with explicit state: what each layer remembers of a signal, one row per stream.

A `CodecState` maps a layer's name to its memory, tensors [B, ...]. Layers read and write it through a `Pass`; nothing
is hidden in a module, so a state can be cloned, a row reset or paused, and a pass run again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

CodecState = dict[str, Tensor]
"""Memory of all layers by name. Row b of every tensor belongs to stream b."""


class Pass:
    """One pass over a chunk of signal: layers take their memory from a state, and leave the next in `after`.

    Args:
        before: the state before the chunk.
        active: [B]; rows that are false keep their memory.
        reuse: whether layers may write into the memory of `before`, which is lost then.
    """

    def __init__(self, before: Mapping[str, Tensor], *, active: Tensor | None = None, reuse: bool = False) -> None:
        self.active, self.reuse = active, reuse
        self._before = before
        self.after: CodecState = dict(before)

    def take(self, name: str) -> Tensor:
        """The memory of a layer before the chunk; not to be written to."""
        return self._before[name]

    def take_own(self, name: str) -> Tensor:
        """The memory of a layer, to be written to and left again, in active rows only."""
        return self._before[name] if self.reuse else self._before[name].clone()

    def leave(self, name: str, memory: Tensor) -> None:
        """The memory of a layer after the chunk; rows that are not active keep what they had."""
        if self.active is not None:
            memory = torch.where(_broadcast(self.active, memory), memory, self._before[name])
        self.after[name] = memory

    def leave_own(self, name: str, memory: Tensor) -> None:
        """Leave what `take_own` gave."""
        self.after[name] = memory


def keep_rows(new: Mapping[str, Tensor], old: Mapping[str, Tensor], rows: Tensor) -> CodecState:
    """The new state in rows [B] that are true, the old one in the others: a paused stream, or one that is reset."""
    return {name: torch.where(_broadcast(rows, x), x, old[name]) for name, x in new.items()}


def clone_state(state: Mapping[str, Tensor]) -> CodecState:
    """A state that shares no memory with this one."""
    return {name: x.clone() for name, x in state.items()}


def _broadcast(rows: Tensor, like: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (like.dim() - 1))
