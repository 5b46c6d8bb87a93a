"""Which words a turn makes likely in its answer: a log-bilinear model of bags of words.

p(w | turn) = softmax over w of b_w + a_w . u, where u is the sum of the vectors of the different words of the turn,
divided by the square root of how many they are (after Mnih and Hinton, 2007). `tools/train_turns.py` learns it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duologue.dialogue.ngrams import NGrams

TABLES = ("turns", "answers")
"""What is kept in 8 bits."""


@dataclass(frozen=True, slots=True)
class TurnModel:
    """Weights over the words of n-grams."""

    turns: NDArray[np.float32]
    """[V, D]: a vector for each word of a turn."""
    answers: NDArray[np.float32]
    """[V, D]: a vector for each word of an answer."""
    bias: NDArray[np.float32]
    """[V]"""
    mean: NDArray[np.float32]
    """[V]: log of the mean over turns of p(w | turn)."""

    def log_ratios(self, ngrams: NGrams, turn: Sequence[str]) -> NDArray[np.float64]:
        """[V]: log p(w | turn) - log p(w), in nats; 0 if no word of the turn is known."""
        ids = np.unique(ngrams.ids(turn))
        ids = ids[ids >= 0]
        if not len(ids):
            return np.zeros(len(self.bias))
        logits = (self.answers @ (self.turns[ids].sum(0) / np.sqrt(len(ids))) + self.bias).astype(np.float64)
        highest = logits.max()
        ratios: NDArray[np.float64] = logits - highest - np.log(np.exp(logits - highest).sum()) - self.mean
        return ratios

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> TurnModel:
        """The model of what `kept` tells."""
        turns, answers = (kept[name].astype(np.float32) * np.float32(kept[f"{name}_scale"]) for name in TABLES)
        return cls(turns, answers, kept["bias"].astype(np.float32), kept["mean"].astype(np.float32))

    def kept(self) -> dict[str, NDArray[Any]]:
        """Arrays to be kept: tables of vectors in 8 bits, the rest in 16."""
        found: dict[str, NDArray[Any]] = {}
        for name in TABLES:
            table = getattr(self, name)
            scale = np.abs(table).max() / 127
            found |= {name: np.round(table / scale).astype(np.int8), f"{name}_scale": np.array(scale, np.float32)}
        return found | {"bias": self.bias.astype(np.float16), "mean": self.mean.astype(np.float16)}
