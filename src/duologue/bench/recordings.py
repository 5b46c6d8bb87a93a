"""Recordings of `duologue serve` as samples of Full-Duplex-Bench: the voices apart, the agent's words beside them."""

from __future__ import annotations

from pathlib import Path

from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.audio.words import read_two_sided_words
from duologue.base.errors import UserError
from duologue.base.files import atomic_path, write_json


def recordings(root: Path) -> list[Path]:
    """The recordings (ID.flac beside ID.json) of a folder that has no sub-folders; none of any other."""
    if not root.is_dir() or any(p.is_dir() and not p.name.startswith(".") for p in root.iterdir()):
        return []
    return sorted(p for p in root.glob("*.flac") if p.with_suffix(".json").is_file())


def unfold(found: list[Path], into: Path) -> Path:
    """Write each recording as a sample folder: `output.wav` (left, the agent), `input.wav`, `output.json`. Those that
    are there are kept.

    Raises:
        UserError: a recording without two channels, or one whose words cannot be read.
    """
    for path in found:
        if (into / path.stem).is_dir():
            continue
        audio, (said, _) = read_audio(path), read_two_sided_words(path.with_suffix(".json"))
        if audio.channels != 2:
            raise UserError(f"has {audio.channels} channels", place=path, mend="the agent is left, the user right")
        chunks = [{"text": w.text, "timestamp": [w.start, w.end]} for w in said or ()]
        with atomic_path(into / path.stem) as aside:
            aside.mkdir()
            for name, samples in zip(("output.wav", "input.wav"), audio.samples, strict=True):
                write_audio(aside / name, Audio(samples[None], audio.rate))
            write_json(aside / "output.json", {"text": " ".join(w.text for w in said or ()), "chunks": chunks})
    return into
