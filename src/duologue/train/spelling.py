"""The letters of each frame: a dense lesson in listening, beside words that come late.

A model that shall transcribe learns the language of its texts first, and may never begin to listen: of what it reads,
the sound says least to begin with. Asked for the letters that sound in each frame, a few frames on, it listens from the
first hundred steps. When they sound is known from the words' times; within a word, letters share its time alike.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from duologue.dialogue.timeline import Word
from duologue.model.words import BRINK
from duologue.train.lessons import UNKNOWN

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LATER = 3
"""Frames after which a frame's letters are asked for."""


def letter_bits(words: Iterable[Word] | None, frames: int, frame_rate: float) -> NDArray[np.int32]:
    """Which letters sound in each frame [T]: bit i for LETTERS[i]; UNKNOWN for a side whose words nobody knows."""
    if words is None:
        return np.full(frames, UNKNOWN, np.int32)
    found = np.zeros(frames, np.int32)
    for word in words:
        letters = [LETTERS.find(x) for x in word.text.lower() if x.isalpha()]
        share = (word.end - word.start) / max(len(letters), 1)
        for i, letter in enumerate(letters):
            first, last = (word.start + (i + k) * share for k in (0, 1))
            if letter >= 0:
                found[int(first * frame_rate + BRINK) : int(np.ceil(last * frame_rate - BRINK))] |= 1 << letter
    return found
