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
    """One pass over a chunk of signal: layers take their memory from `before` and leave the next in `after`."""

    def __init__(self, before: Mapping[str, Tensor]) -> None:
        self.before = before
        self.after: CodecState = {}

    def take(self, name: str) -> Tensor:
        return self.before[name]

    def leave(self, name: str, memory: Tensor) -> None:
        self.after[name] = memory


def keep_rows(new: Mapping[str, Tensor], old: Mapping[str, Tensor], rows: Tensor) -> CodecState:
    """The new state in rows [B] that are true, the old one in the others: a paused stream, or one that is reset."""
    return {name: torch.where(_broadcast(rows, x), x, old[name]) for name, x in new.items()}


def clone_state(state: Mapping[str, Tensor]) -> CodecState:
    """A state that shares no memory with this one."""
    return {name: x.clone() for name, x in state.items()}


def _broadcast(rows: Tensor, like: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (like.dim() - 1))
