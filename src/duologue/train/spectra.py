"""How far a waveform is from another, heard through spectra of several lengths."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from duologue.codec.spectral import mel_bands

RESOLUTIONS = ((2048, 160), (1024, 100), (512, 64), (256, 32), (128, 16))
"""Window in samples, and mel bands."""


def magnitudes(x: Tensor, window: int) -> Tensor:
    """Magnitude spectra [B, N, window / 2 + 1] of x [B, S], a quarter of a window apart; no padding."""
    spectra = torch.fft.rfft(x.unfold(1, window, window // 4) * _hann(window, x.device))
    return torch.sqrt(spectra.real.square() + spectra.imag.square() + 1e-7)


def distances(made: Tensor, wanted: Tensor, rate: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean distances of two waveforms [B, S]: log-mel, log-magnitude, and magnitude relative to the mean one."""
    mel = log = linear = made.new_zeros(())
    for window, bands in RESOLUTIONS:
        a = magnitudes(made, window)
        with torch.no_grad():
            b = magnitudes(wanted, window)
        weights = _bands(rate, window, bands, made.device)
        mel = mel + F.l1_loss((a @ weights).clamp(min=1e-4).log10(), (b @ weights).clamp(min=1e-4).log10())
        log = log + F.l1_loss((a + 1e-3).log10(), (b + 1e-3).log10())
        linear = linear + (a - b).abs().mean() / (b.mean() + 1e-2)
    count = len(RESOLUTIONS)
    return mel / count, log / count, linear / count


@cache
def _hann(window: int, device: torch.device) -> Tensor:
    return torch.hann_window(window, device=device)


@cache
def _bands(rate: int, window: int, bands: int, device: torch.device) -> Tensor:
    return mel_bands(rate, window, bands).to(device)
