"""Tiny corpora in their real formats, made byte by byte."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE = 8_000


def noise(seconds: float, seed: int = 0, level: float = 0.1, rate: int = RATE) -> NDArray[np.float64]:
    """White noise [S] with peaks of `level`."""
    return np.random.default_rng(seed).uniform(-level, level, round(seconds * rate))


def wav_bytes(*channels: NDArray[np.float64], rate: int = RATE) -> bytes:
    """A RIFF file of 16 bit."""
    data = np.round(np.clip(np.stack(channels, axis=1), -1, 32767 / 32768) * 32768).astype("<i2").tobytes()
    n = len(channels)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, n, rate, rate * n * 2, n * 2, 16)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def sphere_bytes(data: bytes, *fields: str, size: int = 1024) -> bytes:
    """A SPHERE file: header lines as given, then the samples."""
    lines = ["NIST_1A", f"{size:7d}", *fields, "end_head", ""]
    return "\n".join(lines).encode().ljust(size) + data


def telephone(codes: NDArray[np.uint8], *more: str) -> bytes:
    """A two-channel u-law SPHERE file of codes [S, 2], as Fisher's."""
    fields = (
        "conversation_id -s5 00001",
        "channel_count -i 2",
        f"sample_count -i {len(codes)}",
        f"sample_rate -i {RATE}",
        "sample_n_bytes -i 1",
        *(more or ("sample_coding -s4 ulaw",)),
    )
    return sphere_bytes(codes.astype(np.uint8).tobytes(), *fields)


def call(seconds: float, seed: int = 0) -> bytes:
    """A telephone call of noise."""
    codes = np.random.default_rng(seed).integers(0, 256, (round(seconds * RATE), 2)) | 0x10
    return telephone(codes.astype(np.uint8))


def put(root: Path, name: str, content: bytes | str | object) -> Path:
    """Write a file: bytes, text, or a value as JSON."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def tar_bytes(members: Mapping[str, bytes]) -> bytes:
    """An uncompressed tar file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()
