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


def broken(root: Path, n: int) -> None:
    """`n` sample folders, each broken in one of twenty ways."""
    rng = np.random.default_rng(0)
    sound = (rng.standard_normal(8000) * 0.1).astype(np.float32)
    good = transcript(("a", 0.1, 0.4))
    metadata = {"context_text": "", "current_turn_text": "", "timestamps": [0.1, 0.3]}
    events = {"turn_taking": turn_taking(0.2), "pause": pauses((0.1, 0.3)), "interrupt": interruption(0.1, 0.3)}
    events["metadata"] = metadata
    ways = [
        lambda f: make_sample(root, f),
        lambda f: make_sample(root, f, output=good),
        lambda f: make_sample(root, f, output="", **events),
        lambda f: make_sample(root, f, output="[1, 2", **events),
        lambda f: make_sample(root, f, output=b"\xff\xfe\x00", **events),
        lambda f: make_sample(root, f, output={"text": "x"}, **events),
        lambda f: make_sample(root, f, output=[1, 2], **events),
        lambda f: make_sample(root, f, output={"text": "x", "chunks": [{"text": "x"}]}, **events),
        lambda f: make_sample(
            root, f, output={"text": "x", "chunks": [{"text": "x", "timestamp": ["a", "b"]}]}, **events
        ),
        lambda f: make_sample(
            root, f, output='{"text": "x", "chunks": [{"text": "x", "timestamp": [NaN, 1]}]}', **events
        ),
        lambda f: make_sample(root, f, output={"text": 3, "chunks": None}, **events),
        lambda f: make_sample(root, f, output=good, turn_taking=[], pause=[], interrupt=[]),
        lambda f: make_sample(root, f, output=good, turn_taking={}, pause={}, interrupt={}),
        lambda f: make_sample(root, f, output=good, turn_taking=[{"timestamp": None}], pause=[{}], interrupt=[{}]),
        lambda f: (make_sample(root, f, output=good, **events) / "output.wav").write_bytes(b""),
        lambda f: (make_sample(root, f, output=good, **events) / "output.wav").write_bytes(
            b"RIFF\x24\x00\x00\x00WAVEfmt "
        ),
        lambda f: (make_sample(root, f, output=good, **events) / "output.wav").write_text("not a sound"),
        lambda f: write_wave(make_sample(root, f, output=good, **events) / "output.wav", sound[:0], 16000),
        lambda f: write_wave(
            make_sample(root, f, output=good, **events) / "output.wav", sound * np.nan, 16000, "FLOAT"
        ),
        lambda f: (make_sample(root, f, **events) / "output.json").mkdir(),
    ]
    for i in range(n):
        ways[i % len(ways)](str(i))
