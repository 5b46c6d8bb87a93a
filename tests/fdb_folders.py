"""Small Full-Duplex-Bench folders for tests, made of the files that a test needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile


def transcript(*words: tuple[str, float, float | None]) -> dict[str, Any]:
    """An output.json with these words."""
    chunks = [{"text": text, "timestamp": [start, end]} for text, start, end in words]
    return {"text": " ".join(text for text, _, _ in words), "chunks": chunks}


def make_sample(root: Path, name: str, **files: Any) -> Path:
    """Write one sample folder: `output=...` becomes output.json, and so on; bytes and text go in as they are."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in files.items():
        path = folder / f"{stem}.json"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def write_wave(path: Path, samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> None:
    soundfile.write(path, samples, rate, subtype=subtype)


def turn_taking(end: float) -> list[dict[str, Any]]:
    return [{"text": "[TURN-TAKING]", "timestamp": [end, end + 0.4]}]


def pauses(*spans: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"text": "[PAUSE]", "timestamp": list(span)} for span in spans]


def interruption(start: float, end: float) -> list[dict[str, Any]]:
    return [{"context": "Name a book.", "interrupt": "No, a film.", "timestamp": [start, end]}]
