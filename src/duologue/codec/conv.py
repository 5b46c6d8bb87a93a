"""Causal convolutions that give the same output over a whole signal and over its chunks.

Matched: moshi 0.2.13, modules/conv.py (zero or replicate padding on the left, transposed ones cut on the right).
Input lengths are multiples of the stride. Parameter names are Kyutai's: `conv.conv.weight`, `convtr.convtr.weight`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from duologue.codec.stream import CodecState, Pass


class CausalConv(nn.Module):
    """Convolution of x [B, C, T] to [B, C', T / stride] that sees the past alone.

    Before the signal there is silence, or with "replicate" its first sample again.
    """

    def __init__(
        self, dim_in: int, dim_out: int, kernel: int, *, stride: int = 1, dilation: int = 1, bias: bool = True,
        pad: Literal["zero", "replicate"] = "zero",
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.ModuleDict({"conv": nn.Conv1d(dim_in, dim_out, kernel, stride, dilation=dilation, bias=bias)})
        self.left = (kernel - 1) * dilation + 1 - stride
        self.dim_in, self.pad = dim_in, pad
        self.name = ""

    def initial(self, batch: int, like: Tensor) -> CodecState:
        """Memory before the first sample."""
        state = {self.name: like.new_zeros(batch, self.dim_in, self.left)} if self.left else {}
        if self.left and self.pad == "replicate":
            state[f"{self.name}.begun"] = torch.zeros(batch, dtype=torch.bool, device=like.device)
        return state

    def forward(self, x: Tensor, run: Pass | None = None) -> Tensor:
        conv = self.conv["conv"]
        if not self.left:
            return conv(x)  # type: ignore[no-any-return]
        first = x[..., :1].expand(-1, -1, self.left)
        if run is None:
            past = first if self.pad == "replicate" else x.new_zeros(len(x), self.dim_in, self.left)
        else:
            past = run.take(self.name)
            if self.pad == "replicate":
                begun = run.take(f"{self.name}.begun")
                past = torch.where(begun[:, None, None], past, first)
                run.leave(f"{self.name}.begun", torch.ones_like(begun))
        joined = torch.cat((past, x), dim=-1)
        if run is not None:
            run.leave(self.name, joined[..., -self.left :])
        return conv(joined)  # type: ignore[no-any-return]


class CausalConvTranspose(nn.Module):
    """Transposed convolution of x [B, C, T] to [B, C', T * stride]; what reaches beyond is kept for the next chunk."""

    def __init__(
        self, dim_in: int, dim_out: int, kernel: int, *, stride: int, bias: bool = True, groups: int = 1
    ) -> None:
        super().__init__()
        layer = nn.ConvTranspose1d(dim_in, dim_out, kernel, stride, bias=bias, groups=groups)
        self.convtr = nn.ModuleDict({"convtr": layer})
        self.over, self.dim_out = kernel - stride, dim_out
        self.name = ""

    def initial(self, batch: int, like: Tensor) -> CodecState:
        """Memory before the first sample."""
        return {self.name: like.new_zeros(batch, self.dim_out, self.over)} if self.over else {}

    def forward(self, x: Tensor, run: Pass | None = None) -> Tensor:
        layer = self.convtr["convtr"]
        y: Tensor = layer(x)
        bias = layer.bias
        if not self.over:
            return y
        if run is None:
            return y[..., : -self.over]
        y = torch.cat((y[..., : self.over] + run.take(self.name), y[..., self.over :]), dim=-1)
        rest = y[..., -self.over :]
        run.leave(self.name, rest - bias[:, None] if isinstance(bias, Tensor) else rest)
        return y[..., : -self.over]
