"""What the rest of the system asks of a codec, so that another architecture may stand beside Mimi."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from duologue.base.errors import UserError
from duologue.codec.stream import CodecState


class Codec(Protocol):
    """Speech to codes and back, whole or as a stream with explicit state, any number of rows at once.

    Audio is float [B, 1, S]; codes are int64 [B, n_codebooks, T]. The state of a stream is a map of tensors with one
    row per stream (`codec.stream` clones it, and keeps or resets rows). A step changes the state that it was given only
    with `reuse`, which lets the next one take its memory.
    """

    @property
    def sample_rate(self) -> int:
        """Samples a second."""

    @property
    def frame_rate(self) -> float:
        """Frames a second."""

    @property
    def frame_size(self) -> int:
        """Samples of a frame."""

    @property
    def n_codebooks(self) -> int:
        """Codebooks that `encode` uses, the semantic one first."""

    @property
    def card(self) -> int:
        """Entries of each."""

    def encode(self, audio: Tensor) -> Tensor:
        """Waveform [B, 1, S] to codes [B, n_codebooks, T]; the last frame is filled up with silence."""

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, n, T] to waveform [B, 1, T * frame_size]."""

    def initial_state(self, batch: int) -> CodecState:
        """State of `batch` streams before their first frame."""

    def encode_step(
        self, audio: Tensor, state: Mapping[str, Tensor], active: Tensor | None = None, *, reuse: bool = False
    ) -> tuple[Tensor, CodecState]:
        """Encode the next whole frames of each stream; the state of rows where `active` [B] is false stays."""

    def decode_step(
        self, codes: Tensor, state: Mapping[str, Tensor], active: Tensor | None = None, *, reuse: bool = False
    ) -> tuple[Tensor, CodecState]:
        """Decode the next frames of each stream; the state of rows where `active` [B] is false stays."""


def check_rate(codec: Codec, sample_rate: int, place: object = "") -> None:
    """Refuse audio at another rate than the codec's.

    Raises:
        UserError: naming both rates, and `place`, such as the file.
    """
    if sample_rate != codec.sample_rate:
        problem = f"audio has {sample_rate} samples a second, the codec {codec.sample_rate}"
        raise UserError(problem, place=place, mend="resample it first")
