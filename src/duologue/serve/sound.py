"""Sound of clients that are not trusted: what is malformed is refused in words, what is too much is not decoded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from duologue.client.sound import NOTHING, Format, OpusReader, PcmReader, Samples, SoundError
from duologue.serve.ogg import Pages

SPEED, BURST = 4.0, 5.0
"""Opus is decoded at up to four times real time, after five seconds at once; the rest is dropped unheard."""


class Hearing:
    """Reads one client's sound.

    Args:
        kind: its format.
        now: the time.
        lose: told how many samples were thrown away undecoded.
    """

    def __init__(self, kind: Format, now: Callable[[], float], lose: Callable[[int], None]) -> None:
        self._now, self._lose = now, lose
        self._pages = Pages() if kind == "opus" else None
        self._reader = PcmReader() if kind == "pcm" else OpusReader()
        self._budget, self._at = BURST, now()

    def read(self, data: bytes) -> Samples:
        """Sound that these bytes complete, float32 [S]. Errors: SoundError."""
        if self._pages is None:
            return self._reader.read(data)
        now = self._now()
        self._budget, self._at = min(BURST, self._budget + SPEED * (now - self._at)), now
        found = []
        for page in self._pages.feed(data):
            if page.seconds > self._budget:
                self._lose(round(page.seconds * 24000))
                continue
            self._budget -= page.seconds
            sound = self._reader.read(page.data)
            if not np.isfinite(sound).all():
                raise SoundError("Opus that decodes to no sound")
            found.append(sound)
        return np.concatenate(found) if found else NOTHING
