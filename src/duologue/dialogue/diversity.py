"""How rich speech is in words: distinct words, distinct bigrams and entropy, at equal counts.

All three hang on how much was said, so they are compared at one number of words: the mean over draws of so many words
from each set. Whole texts are drawn, in an order from a seed, and the last one is cut; bigrams never cross texts.

Source: distinct-n of Li et al., 2016 (arXiv 1510.03055); entropy with the correction of Miller and Madow (1955).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TypeAlias

import numpy as np

Texts: TypeAlias = Sequence[Sequence[str]]
"""Plain words, text by text."""
DRAWS = 20
"""Draws that a number is the mean of."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """Of so many words; NaN for none."""

    words: int
    """Words counted."""
    distinct_words: float
    """Different words among them."""
    distinct_bigrams: float
    """Different bigrams, as a share of all, 0 to 1."""
    entropy: float
    """Of the words' distribution, in bits, corrected for how few were seen."""


def diversity(texts: Texts, words: int | None = None, *, draws: int = DRAWS, seed: int = 0) -> Diversity:
    """The mean over draws of `words` words.

    Args:
        texts: what was said.
        words: how many are counted; by default, or if there are no more, all.
        draws: how often texts are drawn.
        seed: of the draws.
    """
    spoken = [tuple(text) for text in texts if text]
    total = sum(map(len, spoken))
    if words is None or words >= total:
        return counted(spoken)
    if words <= 0:
        return counted([])
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(len(spoken)) for _ in range(draws))
    orders = (rng.permutation(len(spoken)) for _ in range(draws))
    each = [counted(first_words([spoken[i] for i in order], words)) for order in orders]
    means = np.mean([(d.distinct_words, d.distinct_bigrams, d.entropy) for d in each], axis=0)
    return Diversity(words, *means.tolist())


def diversities(sets: Mapping[str, Texts], *, draws: int = DRAWS, seed: int = 0) -> dict[str, Diversity]:
    """Each set's at the number of words of the set that has fewest."""
    fewest = min((sum(map(len, texts)) for texts in sets.values()), default=0)
    return {name: diversity(texts, fewest, draws=draws, seed=seed) for name, texts in sets.items()}


def counted(texts: Texts) -> Diversity:
    """Of all words of the texts."""
    words = Counter(chain.from_iterable(texts))
    bigrams = Counter(chain.from_iterable(map(pairwise, texts)))
    total = words.total()
    if not total:
        return Diversity(0, math.nan, math.nan, math.nan)
    share = np.array(list(words.values())) / total
    entropy = float(-(share * np.log2(share)).sum()) + (len(words) - 1) / (2 * total * math.log(2))
    return Diversity(total, len(words), len(bigrams) / bigrams.total() if bigrams else math.nan, entropy)


def first_words(texts: Texts, count: int) -> list[Sequence[str]]:
    """The first `count` words of texts, text by text."""
    kept: list[Sequence[str]] = []
    for text in texts:
        if count <= 0:
            break
        kept.append(text[:count])
        count -= len(text)
    return kept
