"""The sound of one speaker: its length from the header, and any stretch of it, also inside a tar file.

Only the stretch asked for is decoded where the format can seek (WAV, FLAC, OGG, Opus, MP3, SPHERE). Members of tar
files are read in place, by offset; nothing is unpacked.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from duologue.audio.wave import Audio
from duologue.base.errors import UserError
from duologue.corpus.conversation import SoundRef
from duologue.corpus.sphere import MAGIC, read_sphere, read_sphere_header

_TOP = {"ULAW": 32124 / 32768, "ALAW": 32256 / 32768}
_BEFORE = {"MP3": 16 * 1152}
"""Frames decoded before a stretch: the decoder of MP3 needs the packets before, whose bits it borrows."""
_MEND = "copy it again, or convert it (ffmpeg -i OLD NEW.wav)"


class MissingError(UserError):
    """A file, member or partner that ought to be there."""


class TarMember(NamedTuple):
    """Where a member's bytes lie in its tar file."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundInfo:
    """What a sound's header says."""

    rate: int
    """Hz."""
    channels: int
    frames: int
    top: float = 1.0
    """The greatest magnitude that its coding can hold (below 1 for u-law and A-law)."""

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.rate


def sound_info(ref: SoundRef) -> SoundInfo:
    """Read a sound's header, and see that its channel is there.

    Raises:
        MissingError: no such file or member.
        UserError: not audio, broken, packed with shorten, or without that channel.
    """
    with _opened(ref) as sound:
        return sound.info


def duration(ref: SoundRef) -> float:
    """Length in seconds, from the header. Errors: as `sound_info`."""
    return sound_info(ref).duration


def read_sound(ref: SoundRef, start: float = 0.0, end: float | None = None) -> Audio:
    """One speaker's sound from `start` to `end` seconds, mono, at its own rate; what lies past its end is left out.

    Raises:
        MissingError, UserError: as `sound_info`; or samples that are NaN or infinite.
    """
    with _opened(ref) as sound:
        info = sound.info
        first = min(max(round(start * info.rate), 0), info.frames)
        last = info.frames if end is None else min(max(round(end * info.rate), first), info.frames)
        samples = sound.read(first, last, ref.channel)
        if not np.isfinite(samples).all():
            at = (first + int(np.argmax(~np.isfinite(samples)))) / info.rate
            raise UserError(f"a sample is not finite, at {at:.4f} s", place=place_of(ref), mend="mend what wrote it")
        return Audio(samples[None], info.rate)


def place_of(ref: SoundRef) -> str:
    """What to call it in a message: the file, and the member in it."""
    return str(ref.path) if ref.member is None else f"{ref.path}, member {ref.member}"


class TarIndex(NamedTuple):
    """What lies in a tar file."""

    members: Mapping[str, TarMember]
    """The plain files that are there whole, in its order."""
    cut: bool
    """The file ends too early: further members may be missing."""


def tar_members(path: Path) -> Mapping[str, TarMember]:
    """The plain files of an uncompressed tar file that are there whole. Errors: as `tar_index`."""
    return tar_index(path).members


def tar_index(path: Path) -> TarIndex:
    """What lies in an uncompressed tar file. Kept in memory for the last few files.

    Raises:
        MissingError: no such file.
        UserError: compressed, or no tar file.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise MissingError("no such file", place=path, mend="download it, or leave it out") from None
    return _tar_index(path, status.st_size, status.st_mtime_ns)


def read_bytes(path: Path, member: str | None = None) -> bytes:
    """The whole content of a file or tar member (for small ones: transcripts). Errors: as `sound_info`."""
    with _bytes(SoundRef(path=path, member=member)) as file:
        return file.read()


@lru_cache(maxsize=64)
def _tar_index(path: Path, size: int, _changed: int) -> TarIndex:
    found: dict[str, TarMember] = {}
    cut = False
    try:
        with tarfile.open(path, "r:") as tar:
            for entry in tar:
                if entry.isreg():
                    found[entry.name] = TarMember(entry.offset_data, entry.size)
    except (tarfile.TarError, OSError) as error:
        if not found:
            mend = "download it again; a compressed tar must be decompressed first (gunzip)"
            raise UserError(f"cannot be read as a tar file: {error}", place=path, mend=mend) from None
        cut = True
    whole = {name: where for name, where in found.items() if where.offset + where.size <= size}
    return TarIndex(whole, cut or len(whole) < len(found) or size % tarfile.BLOCKSIZE != 0)


class _Slice(io.RawIOBase):
    """A stretch of an open file as a file of its own."""

    def __init__(self, file: BinaryIO, where: TarMember) -> None:
        self._file, self._where, self._at = file, where, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._where.size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        self._file.seek(self._where.offset + self._at)
        data = self._file.read(max(min(len(buffer), self._where.size - self._at), 0))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@contextmanager
def _bytes(ref: SoundRef) -> Iterator[BinaryIO]:
    """Open a file or a tar member."""
    try:
        with ref.path.open("rb") as file:
            if ref.member is None:
                yield file
                return
            where = tar_members(ref.path).get(ref.member)
            if where is None:
                raise MissingError("no such member", place=place_of(ref), mend="download the tar file again")
            yield io.BufferedReader(_Slice(file, where))
    except FileNotFoundError:
        raise MissingError("no such file", place=ref.path, mend="download it, or leave it out") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", place=ref.path, mend="check its permissions") from None


class _Sound(Protocol):
    """An open sound."""

    info: SoundInfo

    def read(self, first: int, last: int, channel: int) -> NDArray[np.float32]:
        """Decode frames [first, last) of one channel to float32 [n]."""


class _Sphere:
    def __init__(self, file: BinaryIO, place: str) -> None:
        self._file, self._header = file, read_sphere_header(file, place)
        h = self._header
        self.info = SoundInfo(rate=h.rate, channels=h.channels, frames=h.frames, top=h.top)

    def read(self, first: int, last: int, channel: int) -> NDArray[np.float32]:
        samples: NDArray[np.float32] = read_sphere(self._file, self._header, first, last)[channel]
        return samples


class _Libsndfile:
    def __init__(self, file: BinaryIO, place: str) -> None:
        import soundfile

        self._place = place
        try:
            self._file = soundfile.SoundFile(file)
        except soundfile.LibsndfileError as error:
            raise UserError(f"cannot be read as audio: {error.error_string}", place=place, mend=_MEND) from None
        f = self._file
        top = _TOP.get(f.subtype, 1.0)
        self.info = SoundInfo(rate=f.samplerate, channels=f.channels, frames=max(f.frames, 0), top=top)

    def read(self, first: int, last: int, channel: int) -> NDArray[np.float32]:
        import soundfile

        try:
            before = min(_BEFORE.get(self._file.format, 0), first)
            self._file.seek(first - before)
            block: NDArray[np.float32] = self._file.read(before + last - first, dtype="float32", always_2d=True)[
                before:
            ]
        except soundfile.LibsndfileError as error:
            at = f"{self._place}, at {first / self.info.rate:.2f} s"
            raise UserError(f"is broken: {error.error_string}", place=at, mend=_MEND) from None
        return np.ascontiguousarray(block[:, channel])


@contextmanager
def _opened(ref: SoundRef) -> Iterator[_Sound]:
    with _bytes(ref) as file:
        place = place_of(ref)
        start = file.read(len(MAGIC))
        file.seek(0)
        if not start:
            raise UserError("is empty (0 bytes)", place=place, mend="copy or record it again")
        sound = _Sphere(file, place) if start == MAGIC else _Libsndfile(file, place)
        if ref.channel >= sound.info.channels:
            problem = f"no channel {ref.channel}: there are {sound.info.channels}, counted from 0"
            raise UserError(problem, place=place, mend="name the files of both speakers, or a two-channel file")
        yield sound
