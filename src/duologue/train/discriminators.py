"""Discriminators for speech: each hears log-magnitude spectra of one length and says, over time, what is real.

Hinge losses and feature matching as in EnCodec (Défossez et al., arXiv 2210.13438, section 3.4). Unlike there, layers
run over time alone and take all frequencies as channels: large matrix products, which a CPU is good at.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.train.spectra import magnitudes

WINDOWS = (2048, 1024, 512, 256)


class Discriminator(nn.Module):
    """Waveform [B, S] to what each layer finds, [B, C, N] each; the last is the verdict, above 0 for real."""

    def __init__(self, window: int, width: int, layers: int) -> None:
        super().__init__()
        self.window = window
        self.enter = nn.Linear(window // 2 + 1, width)
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(nn.Conv1d(width, width, 5, padding=2, dilation=1))
            for _ in range(layers)
        )
        self.verdict = nn.Conv1d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        h = (magnitudes(x, self.window) + 1e-3).log()
        h = self.enter(h / 2 + 1).transpose(1, 2)
        found = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            found.append(h)
        return [*found, self.verdict(h)]


class Discriminators(nn.Module):
    """One for each length of spectra."""

    def __init__(self, width: int = 192, layers: int = 3) -> None:
        super().__init__()
        self.parts = nn.ModuleList(Discriminator(window, width, layers) for window in WINDOWS)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        return [part(x) for part in self.parts]


def judge_loss(real: Sequence[Sequence[Tensor]], made: Sequence[Sequence[Tensor]]) -> Tensor:
    """What the discriminators minimise: hinge, mean over them."""
    parts = [F.relu(1 - r[-1]).mean() + F.relu(1 + m[-1]).mean() for r, m in zip(real, made, strict=True)]
    return torch.stack(parts).mean()


def fool_loss(made: Sequence[Sequence[Tensor]]) -> Tensor:
    """What the maker minimises: hinge, mean over discriminators."""
    return torch.stack([F.relu(1 - m[-1]).mean() for m in made]).mean()


def match_loss(real: Sequence[Sequence[Tensor]], made: Sequence[Sequence[Tensor]]) -> Tensor:
    """Distance of what the layers find in both, relative to the real one's size."""
    parts = [
        F.l1_loss(b, a.detach()) / a.detach().abs().mean().clamp(min=1e-3)
        for r, m in zip(real, made, strict=True)
        for a, b in zip(r[:-1], m[:-1], strict=True)
    ]
    return torch.stack(parts).mean()
