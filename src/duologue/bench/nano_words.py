"""Word error rates, with intervals: how many words a recogniser hears otherwise than they were meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duologue.dialogue.lexicon import plain_words

ROUNDS = 2000
"""Samples of the bootstrap."""
SEED = 20_261_121
"""Of the bootstrap: the same measurements give the same interval."""
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SAME = {"ok": "okay", "mr": "mister", "mrs": "missus", "dr": "doctor", "alright": "all right"}
"""Spellings that sound alike, of which a recogniser writes either."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Edits of each utterance [N], and words of its reference [N]."""

    edits: NDArray[np.int64]
    words: NDArray[np.int64]

    @property
    def rate(self) -> float | None:
        """Edits for 100 words of the reference, over all utterances; None without words."""
        total = int(self.words.sum())
        return 100 * int(self.edits.sum()) / total if total else None


def spoken_form(text: str) -> list[str]:
    """Words as they sound: lower case, no punctuation, hyphens as spaces, whole numbers below a hundred in words."""
    found: list[str] = []
    for word in plain_words(re.sub(r"(?<=\w)[-–—](?=\w)", " ", text)):
        if word.isascii() and word.isdecimal() and int(word) < 100:
            found += _number(int(word))
        else:
            found += _SAME.get(word, word).split()
    return found


def word_edits(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Least number of words to put in, leave out or replace (Levenshtein's distance)."""
    if not heard:
        return len(reference)
    ids = {word: i for i, word in enumerate(dict.fromkeys([*reference, *heard]))}
    row = np.arange(len(heard) + 1)
    columns, other = np.arange(len(heard) + 1), np.array([ids[w] for w in heard])
    for i, word in enumerate(reference, 1):
        best = np.concatenate(([i], np.minimum(row[1:] + 1, row[:-1] + (other != ids[word]))))
        row = np.minimum.accumulate(best - columns) + columns  # words put in, all at once
    return int(row[-1])


def count_edits(references: Sequence[str], heard: Sequence[str]) -> Counted:
    """Edits of each pair of texts, in their spoken form."""
    pairs = [(spoken_form(r), spoken_form(h)) for r, h in zip(references, heard, strict=True)]
    edits = [word_edits(r, h) for r, h in pairs]
    return Counted(np.array(edits, np.int64), np.array([len(r) for r, _ in pairs], np.int64))


def rate_interval(counted: Counted, base: Counted | None = None) -> tuple[float, float] | None:
    """The 95 % interval of a rate, or of how far it is above `base` on the same utterances, in points.

    Bootstrap over utterances (Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance
    evaluation"): both rates are taken of the same draws. None for fewer than two utterances with words.
    """
    n = len(counted.words)
    if int((counted.words > 0).sum()) < 2:
        return None
    draws = np.random.default_rng(SEED).integers(n, size=(ROUNDS, n))
    edits = counted.edits if base is None else counted.edits - base.edits
    total = counted.words[draws].sum(axis=1)
    rates = 100 * edits[draws].sum(axis=1)[total > 0] / total[total > 0]
    return _interval(rates)


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of a mean, by bootstrap; None for fewer than two values."""
    if len(values) < 2:
        return None
    kept = np.asarray(values, np.float64)
    draws = np.random.default_rng(SEED).integers(len(kept), size=(ROUNDS, len(kept)))
    return _interval(kept[draws].mean(axis=1))


def ratio_interval(parts: Sequence[float], wholes: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of sum(parts) / sum(wholes), by bootstrap over pairs; None for fewer than two."""
    if len(parts) < 2:
        return None
    top, below = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    draws = np.random.default_rng(SEED).integers(len(top), size=(ROUNDS, len(top)))
    total = below[draws].sum(axis=1)
    return _interval(top[draws].sum(axis=1)[total > 0] / total[total > 0])


def repetition(words: Sequence[str], n: int = 4) -> tuple[int, int]:
    """How many runs of n words came before in the same text, and how many runs there are."""
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(runs) - len(set(runs)), len(runs)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _number(n: int) -> list[str]:
    if n < 20:
        return [_UNITS[n]]
    return [_TENS[n // 10 - 2], *([_UNITS[n % 10]] if n % 10 else [])]
