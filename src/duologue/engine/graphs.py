"""CUDA graphs: the thousand small kernels of a frame launched as one.

A graph is captured once for each memory, number of places and kind of sampling, and replayed after its inputs have been
copied into place. Capturing runs the frame with no slot taking part, which changes nothing that is ever read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from duologue.engine.sampling import Settings
from duologue.model.memory import LMState

Outputs: TypeAlias = tuple[Tensor, ...]
Run: TypeAlias = Callable[[], Outputs]
Capture: TypeAlias = Callable[[Run], tuple[Callable[[], None], Outputs]]
"""Makes of a run something to replay, and the tensors in which its outputs then lie."""
PLACES = (128, 256, 512, 1024, 2048)
"""Attention is captured for these numbers of places, and for all of them."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What changes from frame to frame."""

    tokens: Tensor
    """[B, K] to read."""
    known: Tensor
    """[B, written], not to be drawn."""
    taking: Tensor
    """[B] bool"""
    condition: Tensor | None
    """[B, 1, dim]"""
    settings: Settings

    def tensors(self) -> list[Tensor]:
        """All of them, in a fixed order."""
        extra = [] if self.condition is None else [self.condition]
        return [self.tokens, self.known, self.taking, *self.settings.tensors(), *extra]

    def cloned(self) -> Inputs:
        """The same in memory of its own."""
        condition = None if self.condition is None else self.condition.clone()
        settings = self.settings.with_tensors([x.clone() for x in self.settings.tensors()])
        return Inputs(self.tokens.clone(), self.known.clone(), self.taking.clone(), condition, settings)


Frame: TypeAlias = Callable[[LMState, Inputs, int], Outputs]


class FrameGraphs:
    """Runs frames by replaying captured ones.

    Args:
        frame: reads and writes a frame, given the memory, the inputs and the places that attention looks at.
        capture: how to capture; on a GPU, `capture_cuda`.
        keep: graphs kept; the least used one goes first.
    """

    def __init__(self, frame: Frame, capture: Capture, *, keep: int = 24) -> None:
        self._frame, self._capture, self._keep = frame, capture, keep
        self._kept: OrderedDict[Hashable, tuple[Callable[[], None], Inputs, Outputs]] = OrderedDict()

    def __call__(self, memory: LMState, inputs: Inputs, window: int) -> Outputs:
        """The frame's outputs; they are overwritten by the next call."""
        capacity = memory.capacity
        places = next((n for n in PLACES if window <= n < capacity), capacity)
        key = (
            memory.cache.data_ptr(),
            memory.steps.data_ptr(),
            places,
            inputs.settings.kind(),
            inputs.condition is None,
        )
        if key not in self._kept:
            static = inputs.cloned()
            static.taking.zero_()
            replay, outputs = self._capture(lambda: self._frame(memory, static, places))
            self._kept[key] = replay, static, outputs
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        replay, static, outputs = self._kept[key]
        for place, value in zip(static.tensors(), inputs.tensors(), strict=True):
            place.copy_(value)
        replay()
        return outputs


def capture_cuda(run: Run) -> tuple[Callable[[], None], Outputs]:
    """Capture on the current CUDA device."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):  # libraries set themselves up before they can be captured
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run()
    return graph.replay, outputs
