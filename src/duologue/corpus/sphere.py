"""NIST SPHERE, the format of Fisher and Switchboard: its header, and stretches of uncompressed or 8-bit law samples.

A text header (`NIST_1A`, its size, `name -type value` lines, `end_head`), then interleaved samples. Files packed with
shorten are refused by name: sph2pipe or sox unpacks them. Source: the SPHERE documentation of NIST.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from duologue.base.errors import UserError

MAGIC = b"NIST_1A\n"
_LIMIT = 1 << 16
_CODINGS = {"pcm": "pcm", "ulaw": "ulaw", "mu-law": "ulaw", "alaw": "alaw", "a-law": "alaw"}
_TOP = {"pcm": 32767 / 32768, "ulaw": 32124 / 32768, "alaw": 32256 / 32768}


@dataclass(frozen=True, slots=True, kw_only=True)
class SphereHeader:
    """What the header says of the samples."""

    offset: int
    """Bytes before the first sample."""
    rate: int
    """Hz."""
    channels: int
    frames: int
    """Frames that are there: the header's count, or less if the file ends before."""
    coding: Literal["pcm", "ulaw", "alaw"]
    big_endian: bool

    @property
    def width(self) -> int:
        """Bytes of one sample of one channel."""
        return 2 if self.coding == "pcm" else 1

    @property
    def top(self) -> float:
        """The greatest magnitude that the coding can hold."""
        return _TOP[self.coding]


def read_sphere_header(file: BinaryIO, place: str) -> SphereHeader:
    """Read the header of a file that stands at its beginning.

    Raises:
        UserError: broken header, a compressed file, or a sample format that is none of PCM 16 bit, u-law and A-law.
    """
    start = file.read(16)
    try:
        if not start.startswith(MAGIC):
            raise ValueError("it does not begin with NIST_1A")
        size = int(start[8:16])
        if not 16 <= size <= _LIMIT:
            raise ValueError(f"header size {size}")
        fields = _fields((start + file.read(size - 16)).decode("latin-1"))
        channels, rate = int(fields.get("channel_count", "1")), int(float(fields["sample_rate"]))
        width = int(fields.get("sample_n_bytes", "2"))
        declared = int(fields["sample_count"]) if "sample_count" in fields else None
    except KeyError as error:
        raise _broken(f"no field {error}", place) from None
    except ValueError as error:
        raise _broken(str(error), place) from None
    if channels < 1 or rate < 1 or (declared or 0) < 0:
        raise _broken(f"{channels} channels at {rate} Hz, {declared} samples", place)
    name, *packed = fields.get("sample_coding", "pcm").lower().split(",")
    if packed:
        mend = f"unpack it first (sph2pipe -p {place} NEW.sph)"
        raise UserError(f"is packed ({','.join(packed).strip()})", place=place, mend=mend)
    coding = _CODINGS.get(name)
    if coding is None or width != (2 if coding == "pcm" else 1):
        raise UserError(
            f"has samples {name!r} of {width} bytes", place=place, mend="convert it to WAV (sox OLD NEW.wav)"
        )
    there = max(file.seek(0, 2) - size, 0) // (width * channels)
    return SphereHeader(
        offset=size,
        rate=rate,
        channels=channels,
        frames=there if declared is None else min(declared, there),
        coding="pcm" if coding == "pcm" else "ulaw" if coding == "ulaw" else "alaw",
        big_endian=fields.get("sample_byte_format", "01") == "10",
    )


def read_sphere(file: BinaryIO, header: SphereHeader, first: int, last: int) -> NDArray[np.float32]:
    """Frames [first, last) of an open file: float32 [C, n] in [-1, 1)."""
    frame = header.width * header.channels
    file.seek(header.offset + first * frame)
    data = file.read(max(last - first, 0) * frame)
    data = data[: len(data) // frame * frame]
    if header.coding == "pcm":
        samples = np.frombuffer(data, ">i2" if header.big_endian else "<i2").astype(np.float32) / np.float32(32768)
    else:
        samples = _law(header.coding)[np.frombuffer(data, np.uint8)]
    return np.ascontiguousarray(samples.reshape(-1, header.channels).T)


@cache
def _law(coding: str) -> NDArray[np.float32]:
    """The 256 values of ITU-T G.711's u-law or A-law code."""
    code = np.arange(256) ^ (0xFF if coding == "ulaw" else 0x55)
    exponent, mantissa = (code >> 4) & 7, code & 15
    if coding == "ulaw":
        value = (((mantissa << 3) + 132) << exponent) - 132
        negative = code & 0x80 != 0
    else:
        value = np.where(exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 264) << np.maximum(exponent - 1, 0))
        negative = code & 0x80 == 0
    return (np.where(negative, -value, value) / 32768).astype(np.float32)


def _fields(header: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in header.splitlines()[2:]:
        if line.strip() == "end_head":
            return fields
        parts = line.split(None, 2)
        if len(parts) == 3 and parts[1].startswith("-"):
            fields[parts[0]] = parts[2].strip()
    raise ValueError("it has no end_head")


def _broken(problem: str, place: str) -> UserError:
    return UserError(f"broken SPHERE header: {problem}", place=place, mend="copy the file again")
