"""Causal convolutions that give the same output over a whole signal and over its chunks.

Matched: moshi 0.2.13, modules/conv.py (zero or replicate padding on the left, transposed ones cut on the right).
Input lengths are multiples of the stride. Parameter names are Kyutai's: `conv.conv.weight`, `convtr.convtr.weight`.

PyTorch's convolutions are slow on a CPU where few steps meet many weights, as in the deep layers of a stream: they
reorder all weights in each call. There the same sums are made by one matrix product.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.codec.stream import CodecState, Pass

MANY_WEIGHTS = 1024
"""Inputs of one output from which a convolution of few steps is faster as a matrix product, on a CPU."""
FEW_STEPS = 256
"""Output steps, all rows together, up to which it is."""


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
        assert isinstance(conv, nn.Conv1d)
        if not self.left:
            return convolve(x, conv)
        if run is None and self.pad == "zero":
            return convolve(x, conv, self.left)
        past = x[..., :1].expand(-1, -1, self.left)
        if run is not None:
            before = run.take(self.name)
            if self.pad == "replicate":
                begun = run.take(f"{self.name}.begun")
                before = torch.where(begun[:, None, None], before, past)
                run.leave(f"{self.name}.begun", torch.ones_like(begun))
            past = before
        joined = torch.cat((past, x), dim=-1)
        if run is not None:
            run.leave(self.name, joined[..., -self.left :].clone())  # not a view, which would keep the whole
        return convolve(joined, conv)


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
        assert isinstance(layer, nn.ConvTranspose1d)
        y = spread(x, layer)
        if not self.over:
            return y
        if run is not None:
            y = torch.cat((y[..., : self.over] + run.take(self.name), y[..., self.over :]), dim=-1)
            rest = y[..., -self.over :]
            run.leave(self.name, rest.clone() if layer.bias is None else rest - layer.bias[:, None])
        return y[..., : -self.over]


def convolve(x: Tensor, conv: nn.Conv1d, silence: int = 0) -> Tensor:
    """`conv` of x [B, C, T] behind so many samples of silence, by the faster of two ways."""
    kernel, stride, dilation = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
    reach = (kernel - 1) * dilation + 1
    steps = (x.shape[-1] + silence - reach) // stride + 1
    deep = x.shape[1] * kernel >= MANY_WEIGHTS and len(x) * steps <= FEW_STEPS
    if not (x.device.type == "cpu" and conv.groups == 1 and (deep or x.shape[1] == 1)):
        # PyTorch puts silence on both sides; what comes of the right one is cut off, which is cheaper than a copy.
        return F.conv1d(x, conv.weight, conv.bias, stride, silence, dilation, conv.groups)[..., :steps]
    x = F.pad(x, (silence, 0)) if silence else x
    seen = x.unfold(-1, reach, stride)[..., ::dilation]  # [B, C, steps, kernel]
    rows = seen.transpose(1, 2).reshape(len(x) * steps, -1)
    return F.linear(rows, conv.weight.flatten(1), conv.bias).view(len(x), steps, -1).transpose(1, 2)


def spread(x: Tensor, layer: nn.ConvTranspose1d) -> Tensor:
    """`layer(x)`, a transposed convolution, by the faster of two ways."""
    B, C, T = x.shape
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    deep = C * kernel >= MANY_WEIGHTS and B * T <= FEW_STEPS
    if not (x.device.type == "cpu" and deep and layer.groups == 1 and kernel == 2 * stride):
        return layer(x)  # type: ignore[no-any-return]
    parts = x.transpose(1, 2).reshape(B * T, C) @ layer.weight.flatten(1)
    near, far = parts.view(B, T, -1, 2, stride).permute(3, 0, 2, 1, 4)  # [B, C', T, stride] each
    # A step writes its own stride of samples, and adds to that of the next.
    y = F.pad(near, (0, 0, 0, 1)) + F.pad(far, (0, 0, 1, 0))
    y = y.flatten(2)
    return y if layer.bias is None else y + layer.bias[:, None]
