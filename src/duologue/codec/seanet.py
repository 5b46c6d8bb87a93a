"""SEANet: the convolutional encoder and decoder between a waveform and a latent of 25 frames a second.

Matched: moshi 0.2.13, modules/seanet.py, as Mimi uses it (causal, true skip connections, no norm).
Parameter names are Kyutai's: `model.{i}.conv.conv.weight`, `model.{i}.block.{1,3}.conv.conv.weight`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from duologue.codec.conv import CausalConv, CausalConvTranspose
from duologue.codec.stream import Pass


@dataclass(frozen=True, slots=True, kw_only=True)
class SEANetConfig:
    """Widths of SEANet; the defaults are Mimi's."""

    channels: int = 1
    """Channels of the waveform."""
    dimension: int = 512
    """Width of the latent."""
    n_filters: int = 64
    """Width of the first layer; it doubles with each stride."""
    n_residual_layers: int = 1
    """Residual blocks before each stride."""
    ratios: tuple[int, ...] = (8, 6, 5, 4)
    """Strides of the decoder; the encoder has them in reverse."""
    kernel_size: int = 7
    """Kernel of the first layer."""
    residual_kernel_size: int = 3
    """Kernel of the residual blocks."""
    last_kernel_size: int = 3
    """Kernel of the last layer."""
    dilation_base: int = 2
    """Dilation of the j-th residual block is this to the power j."""
    compress: int = 2
    """By how much residual blocks are narrower inside."""


class ELU(nn.Module):
    """ELU in the shape of the other layers: it takes the pass and ignores it. `own`: nobody else needs its input."""

    def __init__(self, own: bool = True) -> None:
        super().__init__()
        self.own = own

    def forward(self, x: Tensor, run: Pass | None = None) -> Tensor:
        return F.elu(x, inplace=self.own)


class Residual(nn.Module):
    """A skip connection around two convolutions."""

    def __init__(self, dim: int, config: SEANetConfig, dilation: int) -> None:
        super().__init__()
        inner = dim // config.compress
        first = CausalConv(dim, inner, config.residual_kernel_size, dilation=dilation)
        self.block = nn.ModuleList([ELU(own=False), first, ELU(), CausalConv(inner, dim, 1)])

    def forward(self, x: Tensor, run: Pass | None = None) -> Tensor:
        return _through(self.block, x, run).add_(x)


class Encoder(nn.Module):
    """Waveform [B, channels, S] to latent [B, dimension, S / product of strides]."""

    def __init__(self, config: SEANetConfig) -> None:
        super().__init__()
        c, dim = config, config.n_filters
        layers: list[nn.Module] = [CausalConv(c.channels, dim, c.kernel_size)]
        for stride in reversed(c.ratios):
            layers += [Residual(dim, c, c.dilation_base**j) for j in range(c.n_residual_layers)]
            layers += [ELU(), CausalConv(dim, 2 * dim, 2 * stride, stride=stride)]
            dim *= 2
        self.model = nn.ModuleList([*layers, ELU(), CausalConv(dim, c.dimension, c.last_kernel_size)])

    def forward(self, x: Tensor, run: Pass | None = None) -> Tensor:
        return _through(self.model, x, run)


class Decoder(nn.Module):
    """Latent [B, dimension, T] to waveform [B, channels, T * product of strides]."""

    def __init__(self, config: SEANetConfig) -> None:
        super().__init__()
        c, dim = config, config.n_filters * 2 ** len(config.ratios)
        layers: list[nn.Module] = [CausalConv(c.dimension, dim, c.kernel_size)]
        for stride in c.ratios:
            layers += [ELU(), CausalConvTranspose(dim, dim // 2, 2 * stride, stride=stride)]
            dim //= 2
            layers += [Residual(dim, c, c.dilation_base**j) for j in range(c.n_residual_layers)]
        self.model = nn.ModuleList([*layers, ELU(), CausalConv(dim, c.channels, c.last_kernel_size)])

    def forward(self, x: Tensor, run: Pass | None = None) -> Tensor:
        return _through(self.model, x, run)


def _through(layers: Sequence[nn.Module] | nn.ModuleList, x: Tensor, run: Pass | None) -> Tensor:
    for layer in layers:
        x = layer(x, run)
    return x
