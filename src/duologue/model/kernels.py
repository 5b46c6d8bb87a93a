"""What lies between the matrices of a layer: norm and gate, as they are or compiled into one kernel each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from duologue.model.layers import NORM_EPS


def norm(x: Tensor, alpha: Tensor, least: Tensor) -> Tensor:
    """`RMSNorm` of rows [N, D], in few calls on a CPU in float32; `least` is its epsilon as a length (`length_of`)."""
    dim = x.shape[-1]
    if x.dtype != torch.float32 or x.is_cuda:
        return fused_norm(x, alpha, least)
    length = torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), least)
    return (x / length.mul_(1 / math.sqrt(dim))).mul_(alpha.view(-1))


def fused_norm(x: Tensor, alpha: Tensor, least: Tensor) -> Tensor:
    """The same as the formula says it, for a compiler."""
    return F.rms_norm(x.float(), (x.shape[-1],), alpha.view(-1).float(), NORM_EPS).to(x.dtype)


def gate(x: Tensor) -> Tensor:
    """The gated feed-forward's middle: [N, 2 D] to [N, D]."""
    opened, value = x.chunk(2, dim=-1)
    return F.silu(opened) * value


def length_of(alpha: Tensor) -> Tensor:
    """The norm's epsilon as a length, for rows as long as `alpha`."""
    return alpha.new_tensor(math.sqrt(alpha.numel() * NORM_EPS), dtype=torch.float32)


class Kernels(NamedTuple):
    """The functions that layers use."""

    norm: Callable[[Tensor, Tensor, Tensor], Tensor]
    gate: Callable[[Tensor], Tensor]


EAGER = Kernels(norm, gate)


def compiled() -> Kernels:
    """The same functions through torch.compile, which needs Triton on CUDA, or a C++ compiler on a CPU."""
    return Kernels(torch.compile(fused_norm, dynamic=True), torch.compile(gate, dynamic=True))
