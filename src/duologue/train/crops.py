"""Random stretches of speech from folders of recordings, drawn anew for every step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duologue.audio.resample import resample
from duologue.base.errors import UserError
from duologue.base.progress import track
from duologue.corpus.conversation import SoundRef
from duologue.corpus.sound import read_sound, sound_info

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
QUIET = 0.003
"""Root mean square below which a stretch counts as silence (-50 dB)."""
TRIES = 6
"""Draws for a stretch with speech in it."""
SHIFT = 0.2
"""Greatest logarithm of the factor by which a stretch is played faster or slower."""
HELD_OUT = 0.03
"""Share of files kept for validation, by the hash of their names."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One channel of a file."""

    ref: SoundRef
    rate: int
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def list_sounds(folder: Path, channel: int | None = None) -> list[Sound]:
    """Every channel of every sound file under a folder, by name; or one, of those that have it.

    Raises:
        UserError: there is none.
    """
    if folder.is_file():
        paths = [folder]
    else:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    found = []
    for path in track(paths, "listing"):
        info = sound_info(SoundRef(path=path))
        found += [
            Sound(SoundRef(path=path, channel=c), info.rate, info.frames)
            for c in range(info.channels)
            if channel in (None, c)
        ]
    if not found:
        what = "sound" if channel is None else f"sound with a channel {channel}"
        raise UserError(f"holds no {what}", place=folder, mend=f"name a folder with {', '.join(SUFFIXES)} files")
    return found


def is_held_out(path: Path) -> bool:
    """Whether a file is kept for validation: the same for the same name, whatever stands beside it."""
    return hashlib.sha256(path.name.encode()).digest()[0] < 256 * HELD_OUT


def stretch(sound: Sound, start: float, seconds: float, rate: int, factor: float = 1.0) -> NDArray[np.float32]:
    """So many seconds from `start`, at another rate, filled up with silence; played faster by `factor`."""
    heard = read_sound(sound.ref, start, start + factor * seconds)
    played = round(heard.rate * factor)
    samples = heard.samples[0] if played == rate else resample(heard.samples[0], played, rate)
    out = np.zeros(round(seconds * rate), np.float32)
    out[: len(samples)] = samples[: len(out)]
    return out


class Crops:
    """Draws stretches: a source by its weight, a file by its length, a place in it by chance, mostly with speech.

    Args:
        sources: sounds of each source.
        weights: how often each source is drawn.
        rate: of what is given, in Hz.
        quiet: share of stretches that are taken as they come, silence included.
        shifted: share of stretches that are played faster or slower, by a factor of 0.82 to 1.22: other people.
    """

    def __init__(
        self, sources: Sequence[Sequence[Sound]], weights: Sequence[float], rate: int, quiet: float = 0.1,
        shifted: float = 0.0,
    ) -> None:  # fmt: skip
        self._sources, self._rate, self._quiet, self._shifted = sources, rate, quiet, shifted
        total = np.asarray(weights, np.float64)
        self._weights = total / total.sum()
        lengths = [np.asarray([s.seconds for s in source]) for source in sources]
        self._shares = [length / length.sum() for length in lengths]

    def draw(self, rng: np.random.Generator, seconds: float) -> NDArray[np.float32]:
        """One stretch [S], louder or quieter by up to 6 dB."""
        asis = rng.random() < self._quiet
        factor = float(np.exp(rng.uniform(-SHIFT, SHIFT))) if rng.random() < self._shifted else 1.0
        source = int(rng.choice(len(self._sources), p=self._weights))
        samples = np.zeros(round(seconds * self._rate), np.float32)
        for _ in range(TRIES):
            sound = self._sources[source][int(rng.choice(len(self._shares[source]), p=self._shares[source]))]
            start = float(rng.uniform(0, max(sound.seconds - factor * seconds, 0)))
            samples = stretch(sound, start, seconds, self._rate, factor)
            if asis or float(np.sqrt(np.mean(np.square(samples)))) > QUIET:
                break
        gained = samples * np.float32(10 ** (rng.uniform(-6, 6) / 20))
        peak = float(np.abs(gained).max(initial=0.0))
        return gained / np.float32(max(peak, 1.0))

    def batch(self, rng: np.random.Generator, count: int, seconds: float) -> NDArray[np.float32]:
        """[count, S]."""
        return np.stack([self.draw(rng, seconds) for _ in range(count)])
