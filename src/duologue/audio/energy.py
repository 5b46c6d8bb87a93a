"""Speech detector by level: how far the signal stands above an adaptive noise floor. No model, and easy to fool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

RATE = 16_000
_MARGIN_DB = 24.0
"""Level above the floor that scores 1; a threshold of 0.5 is 12 dB above the floor."""
_RISE_DB_S = 3.0
"""How fast the floor rises under a louder signal; it falls at once."""
_FIRST_FLOOR_DBFS = -50.0
"""The floor before anything is heard: a louder start counts as speech."""
_LOWEST_FLOOR_DBFS = -65.0
"""The floor under digital silence, so that faint noise after it is not speech."""


@dataclass(frozen=True, slots=True)
class EnergyState:
    """What one stream must remember: windows so far, and the floor projected back to the first one, in dBFS."""

    count: int
    floor: float


@dataclass(frozen=True, slots=True)
class EnergyDetector:
    """Scores windows of 10 ms by level. Suits clean, close microphones: synthetic corpora, headsets, model output.

    The floor follows the quietest window, and rises by 3 dB a second: floor[t] = min over s <= t of level[s] + rise *
    (t - s), a running minimum of level[s] - rise * s. Hence nothing depends on how the signal is cut into calls.
    """

    window: int = RATE // 100

    def start(self) -> EnergyState:
        """The state before the first sample."""
        return EnergyState(0, _FIRST_FLOOR_DBFS)

    def score(
        self, blocks: Sequence[Samples], states: Sequence[EnergyState]
    ) -> tuple[list[NDArray[np.float32]], list[EnergyState]]:
        """Score the next windows of several streams: [n, 160] each to scores [n] in 0 to 1; and the new states."""
        results = [self._score(block, state) for block, state in zip(blocks, states, strict=True)]
        return [scores for scores, _ in results], [state for _, state in results]

    def _score(self, block: Samples, state: EnergyState) -> tuple[NDArray[np.float32], EnergyState]:
        if len(block) == 0:
            return np.zeros(0, np.float32), state
        power = np.square(block, dtype=np.float64).mean(axis=1)
        level = 10 * np.log10(np.maximum(power, 10 ** (_LOWEST_FLOOR_DBFS / 10)))
        rise = _RISE_DB_S * self.window / RATE * (state.count + np.arange(len(block)))
        floor = np.minimum.accumulate(np.concatenate(([state.floor], level - rise)))[1:]
        scores = np.clip((level - (floor + rise)) / _MARGIN_DB, 0, 1).astype(np.float32)
        return scores, EnergyState(state.count + len(block), float(floor[-1]))
