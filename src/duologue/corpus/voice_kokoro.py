"""Kokoro-82M through kokoro-onnx: better sound, about real time on a core; its weights are the user's to bring."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duologue.base.errors import UserError

MODEL, VOICES = "kokoro.onnx", "voices.bin"
BLEND = "."
"""Between the names of voices that are mixed in equal parts: another person."""


class KokoroEngine:
    """Kokoro: weights and voices Apache-2.0, kokoro-onnx MIT; it brings espeak-ng (GPL-3), so it stays optional.

    Args:
        weights: folder with `kokoro.onnx` and `voices.bin` (any names that end so, such as `kokoro-v1.0.onnx`).
    """

    name = "kokoro"
    rate = 24_000
    extra = "kokoro"

    def __init__(self, weights: Path | None) -> None:
        self._weights = weights

    @cached_property
    def voices(self) -> tuple[str, ...]:
        """Those in the user's voice file."""
        return tuple(str(name) for name in self._synth.get_voices())

    def knows(self, voice: str) -> bool:
        """Whether all parts of a mixture, such as af_heart.am_adam, are voices."""
        return all(part in self.voices for part in voice.split(BLEND))

    def licence(self, voice: str) -> str:
        """Of the sound of a voice."""
        return "Apache-2.0 (Kokoro-82M)"

    @cached_property
    def version(self) -> str:
        """Names the package and the weights by size: part of the cache's key."""
        from importlib.metadata import version

        self._synth  # noqa: B018  # refuses by name when it is not installed
        return f"{version('kokoro-onnx')} {self._file('.onnx').stat().st_size}"

    def say(self, text: str, voice: str, speed: float) -> NDArray[np.float32]:
        """Float32 [S] at 24 kHz. Errors: UserError, not installed, or no weights."""
        language = "en-gb" if voice.startswith("b") else "en-us"
        parts = voice.split(BLEND)
        style = sum(self._synth.get_voice_style(part) for part in parts) / len(parts)
        sound, rate = self._synth.create(text, voice=style, speed=float(np.clip(speed, 0.5, 2.0)), lang=language)
        if rate != self.rate:
            raise UserError(f"Kokoro spoke at {rate} Hz, not {self.rate}", mend="use weights of Kokoro-82M")
        return np.asarray(sound, np.float32)

    @cached_property
    def _synth(self) -> Any:
        model, voices = self._file(".onnx"), self._file(".bin")
        try:
            import kokoro_onnx
        except ImportError:
            mend = "install it: pip install 'duologue[kokoro]'"
            raise UserError("Kokoro (kokoro-onnx) is not installed", place="voice kokoro", mend=mend) from None
        return kokoro_onnx.Kokoro(str(model), str(voices))

    def _file(self, suffix: str) -> Path:
        if self._weights is None:
            mend = f"name a folder with {MODEL} and {VOICES}: --kokoro FOLDER"
            raise UserError("Kokoro's weights are not given", place="voice kokoro", mend=mend)
        found = sorted(self._weights.glob(f"*{suffix}"))
        if len(found) != 1:
            mend = f"put one {suffix} file there, such as {MODEL if suffix == '.onnx' else VOICES}"
            raise UserError(f"holds {len(found)} {suffix} files", place=self._weights, mend=mend)
        return found[0]
