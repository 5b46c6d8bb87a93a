"""Rotary positions, interleaved, in float32 (Su et al., arXiv 2104.09864), as Mimi and Moshi have them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rotation(positions: Tensor, head: int, max_period: float) -> Tensor:
    """Cosines and sines [2, ..., T, head // 2] of positions [..., T]."""
    rates = torch.exp(torch.arange(head // 2, device=positions.device).float() * (-math.log(max_period) * 2 / head))
    angles = positions.float()[..., None] * rates
    return torch.stack((angles.cos(), angles.sin()))


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Rotate pairs of neighbouring entries of x [B, H, T, head]; `turn` broadcasts to [2, B, H, T, head // 2]."""
    cos, sin = turn
    real, imaginary = x.float().view(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack((real * cos - imaginary * sin, real * sin + imaginary * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)
