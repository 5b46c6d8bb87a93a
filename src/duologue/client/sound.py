"""Sound as it goes over the wire: 16-bit PCM, or Ogg Opus as Moshi's clients and servers send it (by sphn)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from duologue.client.wire import RATE

Samples = NDArray[np.float32]
Format = Literal["opus", "pcm"]
NOTHING: Samples = np.zeros(0, np.float32)
NOTHING.flags.writeable = False


class SoundError(ValueError):
    """Sound that cannot be read; the text is for whoever sent it."""


class Reader(Protocol):
    """Bytes to sound."""

    def read(self, data: bytes) -> Samples:
        """What these bytes complete, float32 [S] in [-1, 1]. Errors: SoundError; the reader is of no more use then."""


class Writer(Protocol):
    """Sound to bytes."""

    def write(self, samples: Samples) -> bytes:
        """Bytes for these samples, float32 [S]; b"" while a packet fills."""


class PcmReader:
    """Signed 16 bit, little endian, mono."""

    def read(self, data: bytes) -> Samples:
        """See `Reader`."""
        if len(data) % 2:
            raise SoundError(f"pcm of {len(data)} bytes: a sample has two")
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


class PcmWriter:
    """Signed 16 bit, little endian, mono."""

    def write(self, samples: Samples) -> bytes:
        """See `Writer`."""
        return to_int16(samples).astype("<i2").tobytes()


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """Samples as 16 bit, rounded; NaN is silence. What came from 16 bit comes back as it was."""
    return np.clip(np.rint(np.nan_to_num(samples) * 32768), -32768, 32767).astype(np.int16)


class OpusReader:
    """Ogg Opus at 24 kHz, mono, from a peer that is trusted; `serve.sound` has the reader for those that are not."""

    def __init__(self) -> None:
        import sphn

        self._stream = sphn.OpusStreamReader(RATE)

    def read(self, data: bytes) -> Samples:
        """See `Reader`."""
        with _faults():
            found: Samples = self._stream.append_bytes(data)
        return found


@contextmanager
def _faults() -> Iterator[None]:
    """Turn what sphn raises, faults in its Rust among it (which are no `Exception`), into SoundError."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
            raise
        raise SoundError(f"not Ogg Opus: {error}") from None


class OpusWriter:
    """Ogg Opus at 24 kHz, mono: packets of 40 ms, one a page."""

    def __init__(self) -> None:
        import sphn

        self._stream = sphn.OpusStreamWriter(RATE)

    def write(self, samples: Samples) -> bytes:
        """See `Writer`."""
        with _faults():
            data: bytes = self._stream.append_pcm(np.ascontiguousarray(samples, np.float32))
        return data


def reader(kind: Format) -> Reader:
    """A reader of a format."""
    return PcmReader() if kind == "pcm" else OpusReader()


def writer(kind: Format) -> Writer:
    """A writer of a format."""
    return PcmWriter() if kind == "pcm" else OpusWriter()
