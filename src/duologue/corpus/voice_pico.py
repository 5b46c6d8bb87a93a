"""SVOX Pico, a small synthesiser that installs with pip: six voices, 16 kHz, about 100 times real time."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duologue.base.errors import UserError

_SPEED = (0.3, 3.0)
_PERTURB, _ZERO, _OFF = -6, 255, 0
"""glibc's mallopt: fill new memory with the complement of a byte (255: with zeros)."""


class PicoEngine:
    """Pico through py-nanotts. Both licences are Apache-2.0 (SVOX's engine and voices; the bindings' LICENSE.md).

    The engine reads memory that it never wrote, so its sound varies by up to 24 of 32,768 with what the process did
    before. Where the C library is glibc new memory is zeroed while it speaks, and the same text sounds the same, bit by
    bit; elsewhere only the length is the same.
    """

    name = "pico"
    rate = 16_000
    voices = ("en-US", "en-GB", "de-DE", "es-ES", "fr-FR", "it-IT")
    extra = "simulate"

    def knows(self, voice: str) -> bool:
        """Whether it is one of `voices`."""
        return voice in self.voices

    def licence(self, voice: str) -> str:
        """Of the sound of a voice."""
        return "Apache-2.0 (SVOX Pico)"

    @cached_property
    def version(self) -> str:
        """Of the package: part of the cache's key."""
        from importlib.metadata import version

        self._synth  # noqa: B018  # refuses by name when it is not installed
        return version("py-nanotts")

    def say(self, text: str, voice: str, speed: float) -> NDArray[np.float32]:
        """Float32 [S] at 16 kHz, below full scale. Errors: UserError, not installed, or the text gives no sound."""
        tempo = float(np.clip(speed, *_SPEED))
        with _zeroed_memory():
            # At full volume a quarter of all texts clip; at a half none was found to.
            data = self._synth.speak(_escaped(text), voice=voice, speed=tempo, volume=0.5)
        if not data:
            raise UserError(f"Pico makes no sound of {text!r}", mend="write words")
        sound: NDArray[np.float32] = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
        return sound

    @cached_property
    def _synth(self) -> Any:
        try:
            import py_nanotts
        except ImportError:
            mend = "install it: pip install 'duologue[simulate]'"
            raise UserError("Pico (py-nanotts) is not installed", place="voice pico", mend=mend) from None
        return py_nanotts.NanoTTS()


def _escaped(text: str) -> str:
    """Pico reads mark-up such as <pitch level='50'>; text is text here."""
    return text.replace("<", " ").replace(">", " ").replace("&", " and ")


@contextmanager
def _zeroed_memory() -> Iterator[None]:
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_PERTURB, _ZERO)
    try:
        yield
    finally:
        libc.mallopt(_PERTURB, _OFF)
