"""A judge that needs no network and comes with the package: does an answer read like talk, and not repeat itself?

It counts: trigrams of people's chats with stupid backoff (Brants et al., 2007), placed between words drawn at random
and what people write, less the share of runs that came before. It knows nothing of meaning, and so nothing of whether
an answer fits: a stand-in for `axes.judge`, on the same scale, labelled a proxy wherever its numbers appear.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from duologue.dialogue.lexicon import plain_words
from duologue.dialogue.scenes import Scene

BACKOFF = 0.4
"""What a shorter history costs, as a factor."""
BEST = 2.0
"""The grade of what reads like people's talk."""
FILE = "words.npz"
UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class WordModel:
    """Counts of runs of words."""

    words: dict[str, int]
    single: NDArray[np.int64]
    """[V]: counts of the words."""
    pairs: NDArray[np.uint32]
    """Sorted keys of pairs."""
    pair_counts: NDArray[np.uint16]
    triples: NDArray[np.uint32]
    """Sorted keys of triples."""
    triple_counts: NDArray[np.uint16]
    total: int
    """Words counted, known or not."""
    salad: float
    """Mean score a word of words drawn at random, by their counts."""
    human: float
    """That of people's turns that were not counted, their median."""

    def score(self, words: Sequence[str]) -> float:
        """Mean natural logarithm of the scores of the words, each after the two before it; NaN for none."""
        ids = [self.words.get(word, UNKNOWN) for word in words]
        scores = [self._one(ids[max(i - 2, 0) : i], token) for i, token in enumerate(ids)]
        return sum(scores) / len(scores) if scores else math.nan

    def _one(self, history: Sequence[int], token: int) -> float:
        if token == UNKNOWN:
            return math.log(0.5 / self.total) + len(history) * math.log(BACKOFF)
        cost = 0.0
        if len(history) == 2 and UNKNOWN not in history:
            whole = count(self.triples, self.triple_counts, key(*history, token))
            before = count(self.pairs, self.pair_counts, key(*history))
            if whole and before:
                return math.log(min(whole / before, 1.0))
        if len(history) == 2:
            cost += math.log(BACKOFF)
        if history and history[-1] != UNKNOWN:
            whole = count(self.pairs, self.pair_counts, key(history[-1], token))
            if whole:
                return cost + math.log(min(whole / int(self.single[history[-1]]), 1.0))
        if history:
            cost += math.log(BACKOFF)
        return cost + math.log(int(self.single[token]) / self.total)


def key(*ids: int) -> int:
    """A number of 32 bits for a run of word ids: FNV-1a over their bytes."""
    found = 2166136261
    for number in ids:
        for byte in number.to_bytes(4, "little"):
            found = ((found ^ byte) * 16777619) & 0xFFFFFFFF
    return found


def count(keys: NDArray[np.uint32], counts: NDArray[np.uint16], wanted: int) -> int:
    """The count of a key, 0 if it is not there."""
    place = int(np.searchsorted(keys, np.uint32(wanted)))
    return int(counts[place]) if place < len(keys) and int(keys[place]) == wanted else 0


@cache
def word_model() -> WordModel:
    """The one that comes with the package; `tools/make_words.py` made it from chitchat (MIT)."""
    with resources.files("duologue.axes").joinpath(FILE).open("rb") as file, np.load(file) as kept:
        names = bytes(kept["words"]).decode().split("\n")
        return WordModel(
            {name: i for i, name in enumerate(names)}, kept["single"].astype(np.int64), kept["pairs"],
            kept["pair_counts"], kept["triples"], kept["triple_counts"], int(kept["total"]), float(kept["salad"]),
            float(kept["human"]),
        )  # fmt: skip


class Proxy:
    """Grades what the agent says, from 0 to 2, as `axes.judge.Judge` does."""

    def __init__(self, model: WordModel | None = None) -> None:
        self._model = model or word_model()

    def score(self, scenes: Sequence[Scene], *, again: int = 0) -> list[float]:
        """A grade of each scene: 0 for silence, NaN where nobody knows the agent's words. `again` changes nothing."""
        return [self._grade(scene) for scene in scenes]

    def _grade(self, scene: Scene) -> float:
        track = scene.timeline.agent
        if track.words is None:
            return math.nan
        return self.grade([p for w in track.words if scene.start <= w.start < scene.end for p in plain_words(w.text)])

    def grade(self, words: Sequence[str]) -> float:
        """Of plain words."""
        if not words:
            return 0.0
        model = self._model
        place = (model.score(words) - model.salad) / (model.human - model.salad)
        return BEST * min(max(place, 0.0), 1.0) * (1 - repeated(words))


def repeated(words: Sequence[str], n: int = 2) -> float:
    """The share of runs of n words that came before."""
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
