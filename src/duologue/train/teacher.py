"""What a recogniser's encoder hears, frame by frame: the semantic codebook learns to tell it.

Moshi's codec learns from WavLM (arXiv 2410.00037, section 3.3.3); here the teacher is the encoder of Whisper, through
faster-whisper (extra `asr`), whose features of 20 ms are averaged over a frame of the codec. They are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duologue.base.errors import UserError
from duologue.base.files import atomic_path, read_json, write_json
from duologue.base.progress import track
from duologue.train.crops import Sound, stretch

WINDOW_S = 30.0
RATE = 16_000
FRAMES = 375
"""Codec frames of a window, at 12.5 a second."""


class Taught:
    """Stretches of 30 s with their features, standardised over all: draws crops of both.

    Args:
        sounds: what may be drawn from.
        weights: folder of Whisper in CTranslate2's format.
        hours: how much to hear.
        file: where the features are kept; made if it is not there.
        seed: which stretches are heard.
    """

    def __init__(self, sounds: Sequence[Sound], weights: Path, hours: float, file: Path, seed: int) -> None:
        rng = np.random.default_rng([seed, 0x7EAC])
        long = [s for s in sounds if s.seconds >= WINDOW_S]
        if not long:
            mend = "add longer recordings, or train without a teacher"
            raise UserError(f"no recording lasts {WINDOW_S:g} s", place="--teacher", mend=mend)
        share = np.asarray([s.seconds for s in long])
        chosen = rng.choice(len(long), size=max(1, round(hours * 3600 / WINDOW_S)), p=share / share.sum())
        self._places = [(long[i], float(rng.uniform(0, long[i].seconds - WINDOW_S))) for i in chosen]
        # Features of other stretches would teach nonsense, and nothing would tell: the corpus may have grown.
        told = [[s.ref.path.name, s.ref.channel, round(start, 6)] for s, start in self._places]
        beside = file.with_suffix(".json")
        if not file.exists():
            _hear(self._places, weights, file)
            write_json(beside, told)
        if not beside.exists() or read_json(beside) != told:
            mend = "remove it: it will be made again; or give the recordings that it was made with"
            raise UserError("holds features of other stretches", place=file, mend=mend)
        self._features: NDArray[np.float16] = np.load(file, mmap_mode="r")
        some = np.asarray(self._features[:: max(1, len(self._places) // 64)], np.float32).reshape(-1, self.width)
        self._mean, self._scale = some.mean(0), some.std(0) + 1e-3

    @property
    def width(self) -> int:
        """Features of a frame."""
        return int(self._features.shape[2])

    def draw(self, rng: np.random.Generator, frames: int, rate: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A stretch of sound [S] and its features [frames, width]."""
        i = int(rng.integers(len(self._places)))
        first = int(rng.integers(FRAMES - frames + 1))
        sound, start = self._places[i]
        samples = stretch(sound, start + first / 12.5, frames / 12.5, rate)
        features = np.asarray(self._features[i, first : first + frames], np.float32)
        return samples, (features - self._mean) / self._scale


def _hear(places: Sequence[tuple[Sound, float]], weights: Path, file: Path) -> None:
    try:
        import faster_whisper
    except ImportError:
        mend = "install it (pip install 'duologue[asr]'), or train without a teacher"
        raise UserError("Whisper (faster-whisper) is not installed", place="--teacher", mend=mend) from None
    model: Any = faster_whisper.WhisperModel(str(weights), device="auto", compute_type="default")
    rows = []
    for sound, start in track(places, "hearing with the teacher"):
        mel = model.feature_extractor(stretch(sound, start, WINDOW_S, RATE))[:, : round(100 * WINDOW_S)]
        heard = np.asarray(model.encode(mel), np.float32)[0]  # [1500, width]
        rows.append(heard.reshape(FRAMES, -1, heard.shape[1]).mean(1).astype(np.float16))
    with atomic_path(file) as aside, aside.open("wb") as out:
        np.save(out, np.stack(rows))
