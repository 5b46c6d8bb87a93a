"""Weights in 8 bits: each row of a matrix as whole numbers of one scale, turned back as it is used.

A quarter of the memory of float32, half that of bfloat16. On a CPU a product with few rows is also faster, since less
is read; on CUDA it is slower, as the turned-back matrix goes through memory. What it costs in accuracy and time is
measured by `benchmarks/engine.py --int8`. For use, not for training. Scheme: symmetric, per output row, rounded to the
nearest, activations as they are (LLM.int8, arXiv 2208.07339, without its columns of outliers).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from duologue.codec.weights import rows_in_eight_bits


class Int8Linear(nn.Module):
    """A linear layer without bias (no layer of a language model has one), with 8-bit weights."""

    weight: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        levels, scale = rows_in_eight_bits(layer.weight)
        self.register_buffer("weight", levels)
        self.register_buffer("scale", scale.to(layer.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype)) * self.scale


def to_int8(model: nn.Module) -> int:
    """Replace every plain linear layer in place; returns how many. Merge adapters first: theirs would not be found."""
    found = [(name, module) for name, module in model.named_modules() if type(module) is nn.Linear]
    for name, layer in found:
        parent, _, child = name.rpartition(".")
        model.get_submodule(parent).add_module(child, Int8Linear(layer))
    return len(found)
