"""The proxy reward: a small model that tells a person's answer to a turn from others, needs no network, and ships.

It learned to pick the true next answer of people's chats among answers to other turns, canned phrases, echoes, word
salad, loops and what small models write (`tools/train_proxy.py`). It stands in for `axes.judge` on the same scale, and
whatever is rewarded by it is measured by other numbers (`bench.content`). A grade from 0 to 2 is a probability of being
such an answer, times what no weights can argue with: fewer than `ENOUGH` different words earn in proportion, and so
does the share of pairs of words that came before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from duologue.dialogue.exchange import exchanges, fluent
from duologue.dialogue.ngrams import UNKNOWN, NGrams, shipped_ngrams
from duologue.dialogue.scenes import Scene
from duologue.dialogue.turn_model import TurnModel

BEST = 2.0
"""The highest grade."""
ENOUGH = 6
"""Different words of an answer that is graded in full."""
LONGEST = 40
"""Words of an answer that are read, the first ones."""
FILE = "proxy.npz"
FEATURES = (
    "fluency", "likelihood", "least_fluent", "rarity", "unknown", "relation", "echoed_words", "echoed_pairs",
    "distinct", "length",
)  # fmt: skip
WINDOW = 4
"""Words of the least fluent stretch."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ProxyModel:
    """Weights. V words, E of a word's vector, H channels, M hidden units, F features."""

    ngrams: NGrams
    turns: TurnModel
    """Of answers' words that the turn does not have. It is not the one that content is measured by."""
    words: Floats
    """[V + 2, E]: a vector for each word that is read in order, for an unknown one, and for an edge."""
    first: Floats
    """[3 E + 1, H]: a convolution over three words, and its bias."""
    second: Floats
    """[3 H + 1, H]: another over its output."""
    inner: Floats
    """[2 H + F + 1, M]: from means and maxima of that and from the features."""
    outer: Floats
    """[M + 1]: the logit."""
    scale: Floats
    """[2, F]: means and spreads of the features."""
    shift: float
    """What is taken off the logit, so that people's answers spread over the grades."""

    def features(self, turn: Sequence[str], answer: Sequence[str]) -> Floats:
        """[F]: `FEATURES` of an answer of at least one word, both as plain words without disfluencies."""
        ids, known = self.ngrams.ids(answer), [w for w in dict.fromkeys(answer) if w in self.ngrams.words]
        said, said_pairs, pairs = set(turn), set(pairwise(turn)), list(pairwise(answer))
        likely = np.log(self.ngrams.probabilities(ids))
        gained = likely - np.log(self.ngrams.frequencies(ids))
        rare = dict(zip(known, (-np.log(self.ngrams.frequencies(self.ngrams.ids(known)))).tolist(), strict=True))
        total, echoed = sum(rare.values()), sum(r for word, r in rare.items() if word in said)
        width = min(WINDOW, len(ids))
        windows = np.convolve(gained, np.full(width, 1 / width), "valid")
        return np.array([
            gained.mean(), likely.mean(), windows.min(), total / max(len(rare), 1), float((ids == UNKNOWN).mean()),
            self.relation(turn, answer), echoed / max(total, 1e-6),
            sum(pair in said_pairs for pair in pairs) / max(len(pairs), 1), len(set(answer)) / len(answer),
            math.log(len(answer)),
        ], np.float32)  # fmt: skip

    def relation(self, turn: Sequence[str], answer: Sequence[str]) -> float:
        """How much the answer's words are those of answers to such turns, of words that the user did not say."""
        told = self.ngrams.ids([word for word in dict.fromkeys(answer) if word not in set(turn)])
        told = told[told >= 0]
        return float(self.turns.log_ratios(self.ngrams, turn)[told].sum()) / math.sqrt(max(len(told), 1))

    def logit(self, turn: Sequence[str], answer: Sequence[str]) -> float:
        """How sure the model is that the answer is a person's to this turn."""
        edge = len(self.words) - 1
        ids = self.ngrams.ids(answer)
        ids = np.concatenate(([edge], np.where(ids == UNKNOWN, edge - 1, ids), [edge]))
        read = convolved(convolved(self.words[ids], self.first), self.second)[1:-1]
        counted = (self.features(turn, answer) - self.scale[0]) / self.scale[1]
        pooled = np.concatenate((read.mean(0), read.max(0), np.clip(counted, -4, 4)))
        hidden = np.maximum(pooled @ self.inner[:-1] + self.inner[-1], 0)
        return float(hidden @ self.outer[:-1] + self.outer[-1]) - self.shift


def convolved(rows: Floats, kernel: Floats) -> Floats:
    """[N, H] of rows [N, C] and a kernel [3 C + 1, H]: each with its neighbours, zeros beyond the ends, rectified."""
    padded = np.pad(rows, ((1, 1), (0, 0)))
    beside = np.concatenate((padded[:-2], padded[1:-1], padded[2:]), 1)
    out: Floats = np.maximum(beside @ kernel[:-1] + kernel[-1], 0)
    return out


@cache
def proxy_model() -> ProxyModel:
    """The one that comes with the package; `tools/train_proxy.py` made it."""
    with resources.files("duologue.axes").joinpath(FILE).open("rb") as file, np.load(file) as kept:
        words = kept["words"].astype(np.float32) * np.float32(kept["words_scale"])
        rest = {name: kept[name].astype(np.float32) for name in ("first", "second", "inner", "outer", "scale")}
        return ProxyModel(shipped_ngrams(), TurnModel.read(kept), words, **rest, shift=float(kept["shift"]))


class Proxy:
    """Grades what the agent says, from 0 to 2, as `axes.judge.Judge` does."""

    def __init__(self, model: ProxyModel | None = None) -> None:
        self._model = model or proxy_model()

    def score(self, scenes: Sequence[Scene], *, again: int = 0) -> list[float]:
        """A grade of each scene: the mean over its exchanges, 0 for silence, NaN where nobody knows the words of both.
        `again` changes nothing."""
        return [self._grade(scene) for scene in scenes]

    def _grade(self, scene: Scene) -> float:
        parts = exchanges(scene)
        if parts is None:
            return math.nan
        return sum(self.grade(x.user, x.agent) for x in parts) / len(parts) if parts else 0.0

    def grade(self, turn: Sequence[str], answer: Sequence[str]) -> float:
        """Of plain words."""
        turn, answer = fluent(turn), fluent(answer)[:LONGEST]
        if not answer:
            return 0.0
        chance = 1 / (1 + math.exp(-self._model.logit(turn, answer)))
        return BEST * chance * min(len(set(answer)) / ENOUGH, 1.0) * (1 - repeated(answer))


def repeated(words: Sequence[str], n: int = 2) -> float:
    """The share of runs of n words that came before."""
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
