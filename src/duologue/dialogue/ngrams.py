"""A small language model of people's chats: counts of runs of one, two and three words, interpolated.

Jelinek and Mercer's interpolation with fixed weights. Rare runs are not kept, so a little of the mass is lost: what it
gives is a lower bound of a probability, good for differences between texts or between models with the same history.
The counts are of chitchat (MIT), made by `tools/make_words.py`; nothing else is known to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

FILE = "ngrams.npz"
UNKNOWN = -1
"""The id of a word that is not among the counted, and of what lies before a text."""
SHARES = (0.2, 0.4, 0.4)
"""Weights of the estimates from no, one and two words before; what one cannot say falls to the shorter ones."""
RARE = 0.5
"""Count of a word that is not among the counted."""

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NGrams:
    """Counts of runs of words. A run's key is its history's place times V plus its last word's id; a word's place is
    its id, a pair's its place among the pairs."""

    words: dict[str, int]
    """Ids of the V words, the most frequent first."""
    single: Ids
    """[V]: counts of the words."""
    pairs: Ids
    """[P]: sorted keys of pairs."""
    pair_counts: Ids
    """[P]"""
    triples: Ids
    """[Q]: sorted keys of triples."""
    triple_counts: Ids
    """[Q]"""
    total: int
    """Words counted, known or not."""

    def ids(self, words: Sequence[str]) -> Ids:
        """[N]: ids of plain words, `UNKNOWN` for those that were not counted."""
        return np.array([self.words.get(word, UNKNOWN) for word in words], np.int64)

    def frequencies(self, ids: Ids) -> Floats:
        """[N]: probabilities of words alone."""
        return np.where(ids == UNKNOWN, RARE, self.single[ids]) / self.total

    def probabilities(self, ids: Ids) -> Floats:
        """[N]: of each word after the two before it, of the ids [N] of a text."""
        shares, single, pair = self._histories(ids)
        two = self._share(self.pairs, self.pair_counts, single, ids, self.single)
        three = self._share(self.triples, self.triple_counts, pair, ids, self.pair_counts)
        mixed: Floats = shares[0] * self.frequencies(ids) + shares[1] * two + shares[2] * three
        return mixed

    def expected(self, ids: Ids, values: Floats) -> Floats:
        """[N]: the mean of a value of each word [V] over what could have stood in each place of a text, where the
        model's mass is what it keeps; 1 for no mass."""
        shares, single, pair = self._histories(ids)
        weight = self.single / self.total
        mean, mass = np.full(len(ids), float(weight @ values)), np.full(len(ids), float(weight.sum()))
        mean, mass = mean * shares[0], mass * shares[0]
        tables = (
            (self.pairs, self.pair_counts, single, self.single, shares[1]),
            (self.triples, self.triple_counts, pair, self.pair_counts, shares[2]),
        )
        for keys, counts, places, whole, share in tables:
            first, last = np.searchsorted(keys, (places * len(self.single), (places + 1) * len(self.single)))
            for i in np.flatnonzero(places >= 0):
                some = slice(int(first[i]), int(last[i]))
                odds = share[i] * counts[some] / whole[places[i]]
                mean[i] += odds @ values[keys[some] % len(self.single)]
                mass[i] += odds.sum()
        return np.where(mass > 0, mean / np.maximum(mass, 1e-12), 1.0)

    def _histories(self, ids: Ids) -> tuple[Floats, Ids, Ids]:
        """Of each place of a text: shares [3, N] of the estimates, places [N] of the word and of the pair before it
        (-1: there is none that was counted)."""
        edge = np.full(2, UNKNOWN)
        single = np.concatenate((edge[:1], ids))[: len(ids)]
        before = np.concatenate((edge, ids))[: len(ids)]
        pair = _places(self.pairs, before, single, len(self.single))
        shares = np.array(SHARES)[:, None] * np.stack((np.ones(len(ids)), single >= 0, pair >= 0))
        return shares / shares.sum(0), single, pair

    def _share(self, keys: Ids, counts: Ids, places: Ids, ids: Ids, whole: Ids) -> Floats:
        """[N]: how many of a history's runs end in a word."""
        found = _places(keys, places, ids, len(self.single))
        return np.where(found >= 0, counts[found] / np.maximum(whole[places], 1), 0.0)


def _places(keys: Ids, histories: Ids, ids: Ids, size: int) -> Ids:
    """[N]: where runs stand among sorted keys, -1 for those that do not."""
    wanted = np.where((histories >= 0) & (ids >= 0), histories * size + ids, -1)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1) if len(keys) else np.full(len(ids), -1)


@cache
def shipped_ngrams() -> NGrams:
    """The counts that come with the package."""
    with resources.files("duologue.dialogue").joinpath(FILE).open("rb") as file, np.load(file) as kept:
        names = bytes(kept["words"]).decode().split("\n")
        arrays = {name: kept[name].astype(np.int64) for name in ("single", "pair_counts", "triple_counts")}
        keys = {name: np.cumsum(kept[name].astype(np.int64)) for name in ("pairs", "triples")}
        return NGrams(words={name: i for i, name in enumerate(names)}, total=int(kept["total"]), **arrays, **keys)
