"""What codecs with a split residual quantiser have in common: whole and streamed coding, and the pass of training.

A subclass gives the two halves, waveform to latent and latent to waveform; all else is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.base.errors import UserError
from duologue.codec.codebook import Learning
from duologue.codec.quantizer import Quantized, SplitQuantizer
from duologue.codec.stream import CodecState, Pass

CHUNK = {"cpu": 32, "cuda": 2048}
"""Frames, all rows together, that are encoded or decoded at once where no gradient is wanted. A long signal then needs
no more memory than a short one; on a CPU what lies between two layers stays in its cache."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training pass gives."""

    audio: Tensor
    """Waveform [B, 1, S], as long as the one encoded."""
    latent: Tensor
    """[B, D, T] before the quantiser."""
    quantized: Quantized
    """The latent after it, the codes and the commitment loss."""


class Shape(Protocol):
    """What a codec's config tells, whatever else it holds."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def frame_rate(self) -> float: ...
    @property
    def frame_size(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def n_q(self) -> int: ...
    @property
    def bins(self) -> int: ...
    @property
    def delay(self) -> int: ...


class SplitCodec(nn.Module, ABC):
    """A codec. `n_codebooks` says how many codebooks `encode` uses (Moshi's models use 8, which is the default).

    Raises:
        UserError: more codebooks than the config has, or none.
    """

    quantizer: SplitQuantizer

    def __init__(self, shape: Shape, n_codebooks: int | None = None) -> None:
        super().__init__()
        if n_codebooks is not None and not 1 <= n_codebooks <= shape.n_q:
            raise UserError(f"{n_codebooks} codebooks of {shape.n_q}", mend=f"choose from 1 to {shape.n_q}")
        self.shape = shape
        self.n_codebooks = n_codebooks or min(8, shape.n_q)

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        return self.shape.sample_rate

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.shape.frame_rate

    @property
    def frame_size(self) -> int:
        """Samples of a frame."""
        return self.shape.frame_size

    @property
    def card(self) -> int:
        """Entries of a codebook."""
        return self.shape.bins

    @abstractmethod
    def initial_state(self, batch: int) -> CodecState:
        """State of `batch` streams before their first frame."""

    @abstractmethod
    def latent(self, audio: Tensor, run: Pass | None = None) -> Tensor:
        """Waveform [B, 1, S], S a multiple of the frame size, to the latent [B, D, T] that is quantised."""

    @abstractmethod
    def wave(self, latent: Tensor, run: Pass | None = None) -> Tensor:
        """Latent [B, D, T] after the quantiser to waveform [B, 1, T * frame size]."""

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Waveform [B, 1, S] to codes int64 [B, n_codebooks, T]; the last frame is filled up with silence.

        Raises:
            UserError: another shape or type, or no samples.
        """
        audio = self._filled(audio)
        if audio.shape[-1] <= (chunk := _chunk(audio)) * self.frame_size:
            return self.quantizer.encode(self.latent(audio), self.n_codebooks)
        state, codes = self.initial_state(len(audio)), []
        for part in torch.split(audio, chunk * self.frame_size, dim=-1):
            found, state = self.encode_step(part, state, reuse=True)
            codes.append(found)
        return torch.cat(codes, dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, n, T] to waveform [B, 1, T * frame size].

        Raises:
            UserError: more codebooks than there are, or (on the CPU) a code that no codebook has.
        """
        codes = self._checked(codes)
        if torch.is_grad_enabled() or codes.shape[-1] <= (chunk := _chunk(codes)):
            return self.wave(self.quantizer.decode(codes))
        state, waves = self.initial_state(len(codes)), []
        for part in torch.split(codes, chunk, dim=-1):
            found, state = self.decode_step(part, state, reuse=True)
            waves.append(found)
        return torch.cat(waves, dim=-1)

    @torch.no_grad()
    def encode_step(
        self, audio: Tensor, state: Mapping[str, Tensor], active: Tensor | None = None, *, reuse: bool = False
    ) -> tuple[Tensor, CodecState]:
        """Encode the next whole frames of each stream.

        Args:
            audio: [B, 1, S], S a positive multiple of the frame size.
            state: from `initial_state`, or from the step before.
            active: [B]; the state of rows that are false stays as it was.
            reuse: let the next state take the memory of this one, which is lost then. Faster, above all for many rows.

        Returns:
            codes int64 [B, n_codebooks, S / frame size], and the next state.
        """
        if audio.shape[-1] % self.frame_size:
            raise UserError(
                f"{audio.shape[-1]} samples are no whole frames", mend=f"give multiples of {self.frame_size}"
            )
        run = Pass(state, active=active, reuse=reuse)
        return self.quantizer.encode(self.latent(self._filled(audio), run), self.n_codebooks), run.after

    def decode_step(
        self, codes: Tensor, state: Mapping[str, Tensor], active: Tensor | None = None, *, reuse: bool = False
    ) -> tuple[Tensor, CodecState]:
        """Decode the next frames of each stream: [B, n, T] to [B, 1, T * frame size], and the next state.

        The other arguments are those of `encode_step`. One state may serve both directions: each has its own layers.
        """
        run = Pass(state, active=active, reuse=reuse)
        return self.wave(self.quantizer.decode(self._checked(codes)), run), run.after

    def forward(
        self, audio: Tensor, *, learn: Learning | None = None, step: int = 0, generator: torch.Generator | None = None
    ) -> Trained:
        """One pass through all of the codec, for training: gradients go straight through the quantiser.

        Args:
            audio: waveform [B, 1, S].
            learn: how the codebooks learn from it; None leaves them as they are (validation, or frozen codebooks).
            step: number of this training step, from 0.
            generator: of random numbers, on the CPU.
        """
        latent = self.latent(self._filled(audio))
        quantized = self.quantizer.train_step(latent, self.n_codebooks, learn=learn, step=step, generator=generator)
        return Trained(self.wave(quantized.latent)[..., : audio.shape[-1]], latent, quantized)

    def _filled(self, audio: Tensor) -> Tensor:
        """The audio, once it can be encoded, filled up to whole frames."""
        if audio.dim() != 3 or audio.shape[1] != self.shape.channels or not audio.is_floating_point():
            mend = f"give floats [batch, {self.shape.channels}, samples]"
            raise UserError(f"audio is {audio.dtype} {list(audio.shape)}", mend=mend)
        if not audio.shape[2]:
            raise UserError("audio is empty", mend="give at least one sample")
        return F.pad(audio, (0, -audio.shape[-1] % self.frame_size))

    def _checked(self, codes: Tensor) -> Tensor:
        if codes.dim() != 3 or not 1 <= codes.shape[1] <= self.shape.n_q or not codes.shape[2]:
            mend = f"give [batch, 1 to {self.shape.n_q}, frames]"
            raise UserError(f"codes are {list(codes.shape)}", mend=mend)
        if codes.device.type == "cpu":  # elsewhere a look at the values would wait for them
            low, high = codes.aminmax()
            for code in (int(low), int(high)):
                if not 0 <= code < self.card:
                    raise UserError(f"code {code} is not from 0 to {self.card - 1}", mend="leave absent frames out")
        return codes


def _chunk(x: Tensor) -> int:
    """Frames of each row to take at once."""
    return max(1, CHUNK.get(x.device.type, CHUNK["cuda"]) // len(x))


def encodes(name: str) -> bool:
    """Whether a codec's parameter takes part in encoding, or is shared with it."""
    return not name.startswith(("decode", "unfold", "head", "upsample")) and not name.endswith("output_proj.weight")
