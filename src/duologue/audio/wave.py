"""Waveforms in memory and on disk: `Audio`, `read_audio`, `write_audio`, and reading in blocks of bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duologue.audio.resample import resample
from duologue.base.errors import UserError
from duologue.base.files import atomic_path

Samples = NDArray[np.float32]

FULL_SCALE = 32767 / 32768
"""Magnitude that counts as full scale: the largest positive value of 16-bit audio."""

_BLOCK = 1 << 18
"""Frames per call of the decoder. Blocks also keep libsndfile's Vorbis encoder, which can overflow its stack, safe."""
_CONTAINERS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
_CONVERT = "convert it first (ffmpeg -i OLD NEW.wav)"


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """A waveform: float32 samples [C, S], nominally in [-1, 1], and their rate in Hz.

    Two-channel conversations hold (agent, user) in rows (0, 1).
    """

    samples: Samples
    rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.shape[0] == 0 or self.samples.dtype != np.float32:
            raise ValueError(f"samples must be float32 [C, S], not {self.samples.dtype} {list(self.samples.shape)}")
        if self.rate <= 0:
            raise ValueError(f"sample rate {self.rate} is not positive")

    @property
    def channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return int(self.samples.shape[1]) / self.rate

    def mono(self) -> Audio:
        """The mean of all channels, as one channel."""
        return self if self.channels == 1 else Audio(self.samples.mean(axis=0, keepdims=True), self.rate)

    def channel(self, index: int) -> Audio:
        """One channel (a view). Errors: UserError when there is no such channel."""
        if not 0 <= index < self.channels:
            raise UserError(f"no channel {index}", mend=f"there are {self.channels}, counted from 0")
        return Audio(self.samples[index : index + 1], self.rate)

    def resampled(self, rate: int) -> Audio:
        """The same sound at another rate (see `resample.resample`)."""
        return self if rate == self.rate else Audio(resample(self.samples, self.rate, rate), rate)


def clipping(audio: Audio) -> float:
    """Share of samples at or beyond full scale, 0 to 1; 0 for no samples. Above about 1e-4, clipping can be heard."""
    return float(np.mean(np.abs(audio.samples) >= FULL_SCALE)) if audio.samples.size else 0.0


def read_audio(path: str | os.PathLike[str]) -> Audio:
    """Read a whole file (WAV, FLAC, OGG, Opus, MP3 and whatever else libsndfile knows), of any rate and channel count.

    Integer samples are scaled to [-1, 1). Float samples keep their values, also beyond 1 (see `clipping`). A WAV file
    whose data end before its header says (a recorder was killed) is read as far as it goes.

    Raises:
        UserError: missing, a folder, not audio, broken, without samples, or with samples that are NaN or infinite.
    """
    with open_audio(path) as reader:
        blocks = [np.ascontiguousarray(block.T) for block in reader.blocks(_BLOCK)]
        return Audio(np.concatenate(blocks, axis=1), reader.rate)


def write_audio(path: str | os.PathLike[str], audio: Audio, *, encoding: str | None = None) -> None:
    """Write a file whole or not at all; its suffix (.wav, .flac, .ogg, .opus, .mp3) chooses the container.

    Integer encodings clip samples beyond [-1, 1]. 16-bit audio that was read comes back bit by bit.

    Args:
        path: where to.
        audio: what.
        encoding: libsndfile's name of the sample format ("PCM_24", "FLOAT", ...); by default 16 bit, or the lossy
            format that the container is made for.

    Raises:
        UserError: unknown suffix, NaN or infinite samples, or a rate, channel count or encoding that the container
            cannot hold.
    """
    import soundfile

    container, default = _container(path)
    subtype = encoding or default
    if not soundfile.check_format(container, subtype):
        known = ", ".join(soundfile.available_subtypes(container))
        raise UserError(f"{container} has no encoding {subtype}", place=path, mend=f"use one of {known}")
    _check_finite(audio.samples.T, 0, audio.rate, path)
    with atomic_path(path) as aside:
        try:
            with soundfile.SoundFile(aside, "w", audio.rate, audio.channels, subtype, format=container) as file:
                for start in range(0, audio.samples.shape[1], _BLOCK):
                    file.write(audio.samples[:, start : start + _BLOCK].T)
        except soundfile.LibsndfileError as error:
            raise UserError(
                f"{audio.channels} channels at {audio.rate} Hz cannot be written as {container} {subtype}: "
                f"{error.error_string}",
                place=path,
                mend="write .wav, or resample",
            ) from None


class AudioReader:
    """An open audio file; made by `open_audio`."""

    def __init__(self, file: Any, path: Path) -> None:
        self._file = file
        self._path = path
        self.rate: int = file.samplerate
        self.channels: int = file.channels

    def blocks(self, frames: int) -> Iterator[Samples]:
        """Yield float32 [n, C], n up to `frames`, until the file ends. Errors: as `read_audio`."""
        import soundfile

        done = 0
        while True:
            try:
                block: Samples = self._file.read(frames, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                place = f"{self._path}, at {done / self.rate:.2f} s"
                raise UserError(
                    f"is broken: {error.error_string}", place=place, mend="copy or record it again"
                ) from None
            if len(block) == 0:
                break
            _check_finite(block, done, self.rate, self._path)
            done += len(block)
            yield block
        if done == 0:
            raise _no_samples(self._path)


@contextmanager
def open_audio(path: str | os.PathLike[str]) -> Iterator[AudioReader]:
    """Open a file to read it in blocks. Errors: UserError as `read_audio`."""
    import soundfile

    path = Path(path)
    if path.is_dir():
        raise UserError("is a folder", place=path, mend="name an audio file")
    if not path.exists():
        raise UserError("no such file", place=path, mend="check the path")
    if not os.access(path, os.R_OK):
        raise UserError("may not be read", place=path, mend="check its permissions")
    if path.suffix.lower() == ".raw":
        raise UserError("raw samples have no header that says their rate and format", place=path, mend=_CONVERT)
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        if path.stat().st_size == 0:
            raise UserError("is empty (0 bytes)", place=path, mend="copy or record it again") from None
        raise UserError(f"cannot be read as audio: {error.error_string}", place=path, mend=_CONVERT) from None
    with file:
        yield AudioReader(file, path)


def _container(path: str | os.PathLike[str]) -> tuple[str, str]:
    suffix = Path(path).suffix.lower()
    if suffix not in _CONTAINERS:
        problem = f"unknown audio suffix {suffix!r}" if suffix else "no suffix that says the audio format"
        raise UserError(problem, place=path, mend=f"use one of {', '.join(_CONTAINERS)}")
    return _CONTAINERS[suffix]


def _check_finite(block: Samples, offset: int, rate: int, path: str | os.PathLike[str]) -> None:
    """Refuse NaN and infinity in samples [n, C] that begin at frame `offset`, with the time of the first one."""
    if np.isfinite(block).all():
        return
    frame, channel = np.argwhere(~np.isfinite(block))[0]
    raise UserError(
        f"a sample is {block[frame, channel]}, at {(offset + frame) / rate:.4f} s in channel {channel}",
        place=path,
        mend="mend what wrote it, or replace such samples by 0",
    )


def _no_samples(path: Path) -> UserError:
    size = path.stat().st_size
    if size > 4096:
        mend = "if the recorder was stopped, rewrite the header (sox --ignore-length OLD.wav NEW.wav)"
        return UserError(f"no samples, though the file has {size} bytes", place=path, mend=mend)
    return UserError("no samples", place=path, mend="record it again or leave it out")
