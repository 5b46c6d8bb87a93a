"""A codec of few operations for CPUs: it works on frames of a spectrogram, never on single samples.

A log-mel front end, causal ConvNeXt blocks at 50 and 12.5 Hz, Mimi's split quantiser, ConvNeXt blocks at 12.5, 50 and
100 Hz, and a head that gives magnitude and phase of short spectra, overlapped into a waveform. Sources: ConvNeXt (Liu
et al., arXiv 2201.03545), the head as in Vocos (Siuzdak, arXiv 2306.00814); the rest, the causal framing above all, is
ours. Windows begin where they are made and never look ahead, so sound comes out `delay` samples after it went in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.codec.quantizer import SplitQuantizer
from duologue.codec.split import SplitCodec
from duologue.codec.stream import CodecState, Pass

STEP, COARSE = 2, 4
"""Hops of a step at 50 Hz, and such steps of a frame at 12.5 Hz."""
FLOOR = 1e-4
"""Mel magnitude that counts as silence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralConfig:
    """Shape of a spectral codec; the defaults are those of `nano`."""

    sample_rate: int = 24_000
    """Samples a second."""
    hop: int = 240
    """Samples between two spectra; eight make a frame."""
    mels: int = 80
    """Bands of the front end."""
    encoder: tuple[int, int] = (3, 2)
    """Blocks at 50 Hz and at 12.5 Hz."""
    encoder_dim: int = 256
    """Width at 50 Hz."""
    dim: int = 384
    """Width at 12.5 Hz, and of the decoder up to 50 Hz."""
    decoder: tuple[int, int, int] = (3, 4, 3)
    """Blocks at 12.5, 50 and 100 Hz."""
    head_dim: int = 256
    """Width at 100 Hz."""
    expansion: int = 3
    """Width inside a block over its own."""
    n_q: int = 8
    """Codebooks, the semantic one included."""
    bins: int = 512
    """Entries of each."""
    quantizer_dim: int = 64
    """Width of an entry."""

    def __post_init__(self) -> None:
        if self.n_q < 2:
            raise ValueError(f"n_q {self.n_q} is not a semantic codebook and at least one acoustic")
        if min(self.hop, self.mels, self.encoder_dim, self.dim, self.head_dim, self.bins, self.quantizer_dim) < 1:
            raise ValueError("a width is less than 1")

    @property
    def window(self) -> int:
        """Samples of a spectrum."""
        return 4 * self.hop

    @property
    def delay(self) -> int:
        """Samples by which decoded sound is behind what was encoded: half a window."""
        return self.window // 2

    @property
    def channels(self) -> int:
        """Channels of the sound."""
        return 1

    @property
    def frame_size(self) -> int:
        """Samples of a frame."""
        return STEP * COARSE * self.hop

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.frame_size


class Block(nn.Module):
    """Causal ConvNeXt block over x [B, T, C]: a depth-wise convolution in time, then two layers at each step."""

    def __init__(self, dim: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Parameter(torch.randn(kernel, dim) / math.sqrt(kernel))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.norm = nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, expansion * dim), nn.Linear(expansion * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.3))
        self.name = ""

    def initial(self, batch: int, like: Tensor) -> CodecState:
        """Memory before the first step."""
        kernel, dim = self.depthwise.shape
        return {self.name: like.new_zeros(batch, kernel - 1, dim)}

    def forward(self, x: Tensor, run: Pass | None = None) -> Tensor:
        past = len(self.depthwise) - 1
        if run is None:
            joined = F.pad(x, (0, 0, past, 0))
        else:
            joined = torch.cat((run.take(self.name), x), dim=1)
            run.leave(self.name, joined[:, joined.shape[1] - past :].clone())
        steps = x.shape[1]
        h: Tensor = self.bias  # shifted products are faster than a grouped convolution on a CPU
        for i, tap in enumerate(self.depthwise):
            h = torch.addcmul(h, joined[:, i : i + steps], tap)
        h = self.down(F.gelu(self.up(self.norm(h)), approximate="tanh"))
        return torch.addcmul(x, self.scale, h)


class Front(nn.Module):
    """Waveform [B, 1, S] to log-mel spectra [B, S / hop, mels]; each sees its own hop and the three before it."""

    window: Tensor
    bands: Tensor

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.size, self.hop = config.window, config.hop
        self.register_buffer("window", torch.hann_window(self.size), persistent=False)
        bands = mel_bands(config.sample_rate, self.size, config.mels)
        self.register_buffer("bands", bands, persistent=False)
        self.name = ""

    def initial(self, batch: int, like: Tensor) -> CodecState:
        """Memory before the first sample: silence."""
        return {self.name: like.new_zeros(batch, self.size - self.hop)}

    def forward(self, audio: Tensor, run: Pass | None = None) -> Tensor:
        past = self.size - self.hop
        x = audio[:, 0].float()
        if run is None:
            joined = F.pad(x, (past, 0))
        else:
            joined = torch.cat((run.take(self.name), x), dim=1)
            run.leave(self.name, joined[:, joined.shape[1] - past :].clone())
        spectra = torch.fft.rfft(joined.unfold(1, self.size, self.hop) * self.window).abs()
        mel = (spectra @ self.bands).clamp(min=FLOOR).log()
        scaled: Tensor = (mel - math.log(FLOOR)) / 3 - 1.5  # silence is -1.5, loud speech about 2
        return scaled


class Head(nn.Module):
    """Features [B, T, C] at 100 Hz to a waveform [B, 1, T * hop], by spectra whose windows begin at their own hop."""

    window: Tensor

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.size, self.hop = config.window, config.hop
        self.norm = nn.LayerNorm(config.head_dim)
        self.out = nn.Linear(config.head_dim, 2 * (self.size // 2 + 1))
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.constant_(self.out.bias[: self.size // 2 + 1], -3.0)
        self.register_buffer("window", torch.hann_window(self.size) / 1.5, persistent=False)
        self.name = ""

    def initial(self, batch: int, like: Tensor) -> CodecState:
        """Memory before the first hop: what earlier windows add to the next three."""
        return {self.name: like.new_zeros(batch, 3, self.hop)}

    def forward(self, x: Tensor, run: Pass | None = None) -> Tensor:
        log_magnitude, phase = self.out(self.norm(x.float())).float().chunk(2, dim=-1)
        spectra = torch.polar(log_magnitude.clamp(max=5.0).exp(), phase)
        frames = torch.fft.irfft(spectra, n=self.size) * self.window  # squared Hann windows at 3/4 overlap add to 1.5
        parts = frames.unflatten(2, (4, self.hop))  # [B, T, 4, hop]: part i belongs i hops later
        steps = parts.shape[1]
        y = F.pad(parts[:, :, 0], (0, 0, 0, 3))
        for i in range(1, 4):
            y = y + F.pad(parts[:, :, i], (0, 0, i, 3 - i))
        if run is not None:
            y = torch.cat((y[:, :3] + run.take(self.name), y[:, 3:]), dim=1)
            run.leave(self.name, y[:, steps:].clone())
        return y[:, :steps].flatten(1)[:, None]


WITH_STATE = (Block, Front, Head)


class SpectralCodec(SplitCodec):
    """The codec. Sound comes out `config.delay` samples behind what went in, beside the frame that is waited for."""

    def __init__(self, config: SpectralConfig | None = None, n_codebooks: int | None = None) -> None:
        self.config = c = config or SpectralConfig()
        super().__init__(c, n_codebooks)

        def blocks(count: int, dim: int, kernel: int) -> nn.ModuleList:
            return nn.ModuleList(Block(dim, kernel, c.expansion) for _ in range(count))

        self.front = Front(c)
        self.enter = nn.Linear(STEP * c.mels, c.encoder_dim)
        self.encode_fine, self.encode_coarse = blocks(c.encoder[0], c.encoder_dim, 7), blocks(c.encoder[1], c.dim, 5)
        self.fold = nn.Linear(COARSE * c.encoder_dim, c.dim)
        self.norm = nn.LayerNorm(c.dim)
        self.quantizer = SplitQuantizer(c.n_q, c.bins, c.quantizer_dim, c.dim)
        self.decode_coarse, self.decode_fine = blocks(c.decoder[0], c.dim, 5), blocks(c.decoder[1], c.dim, 7)
        self.unfold_coarse = nn.Linear(c.dim, COARSE * c.dim)
        self.unfold_fine = nn.Linear(c.dim, STEP * c.head_dim)
        self.decode_full = blocks(c.decoder[2], c.head_dim, 7)
        self.head = Head(c)
        for name, module in self.named_modules():
            if isinstance(module, WITH_STATE):
                module.name = name

    def initial_state(self, batch: int) -> CodecState:
        """State of `batch` streams before their first frame."""
        like = self.enter.weight.detach()
        state: CodecState = {}
        for module in self.modules():
            if isinstance(module, WITH_STATE):
                state |= module.initial(batch, like)
        return state

    def latent(self, audio: Tensor, run: Pass | None = None) -> Tensor:
        """Waveform [B, 1, S], S a multiple of the frame size, to the latent [B, D, T] that is quantised."""
        x = self.front(audio, run)
        x = self.enter(_folded(x, STEP))
        for block in self.encode_fine:
            x = block(x, run)
        x = self.fold(_folded(x, COARSE))
        for block in self.encode_coarse:
            x = block(x, run)
        return self.norm(x).transpose(1, 2)  # type: ignore[no-any-return]

    def wave(self, latent: Tensor, run: Pass | None = None) -> Tensor:
        """Latent [B, D, T] after the quantiser to waveform [B, 1, T * frame size]."""
        x = latent.transpose(1, 2)
        for block in self.decode_coarse:
            x = block(x, run)
        x = _unfolded(self.unfold_coarse(x), COARSE)
        for block in self.decode_fine:
            x = block(x, run)
        x = _unfolded(self.unfold_fine(x), STEP)
        for block in self.decode_full:
            x = block(x, run)
        return self.head(x, run)  # type: ignore[no-any-return]


def mel_bands(sample_rate: int, window: int, bands: int) -> Tensor:
    """Triangular bands [window / 2 + 1, bands] on the mel scale from 0 Hz to half the rate, each of sum 1."""
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    bins = np.linspace(0, sample_rate / 2, window // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling))
    total = weights.sum(0, keepdims=True)
    # A band narrower than a bin may hold none: it takes the nearest.
    empty = total[0] == 0
    weights[np.abs(bins - edges[1:-1][None]).argmin(0)[empty], np.flatnonzero(empty)] = 1
    return torch.from_numpy(weights / weights.sum(0, keepdims=True)).float()


def _folded(x: Tensor, count: int) -> Tensor:
    """[B, T, C] to [B, T / count, count * C]: neighbours in time side by side."""
    return x.reshape(x.shape[0], x.shape[1] // count, -1)


def _unfolded(x: Tensor, count: int) -> Tensor:
    """[B, T, count * C] to [B, T * count, C]."""
    return x.reshape(x.shape[0], x.shape[1] * count, -1)
