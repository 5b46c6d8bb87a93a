"""When each word of a known text is said: forced alignment by PocketSphinx, and what to do where that fails."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from duologue.audio.resample import resample
from duologue.base.errors import UserError
from duologue.dialogue.timeline import Word

Method: TypeAlias = Literal["aligned", "guessed", "proportional"]
"""aligned: all words are in the aligner's dictionary; guessed: some were aligned by a spelling rule for their sounds;
proportional: the alignment failed or was not asked for, and each word has a share of the time by its letters."""

_RATE, _FRAME_S, _PAD_S = 16_000, 0.01, 0.1
_ANY = "uh"
"""Stands for a word whose letters are of another script."""
_UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = [".", ".", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_LETTERS = {
    "tch": "CH", "igh": "AY", "ch": "CH", "sh": "SH", "th": "TH", "ph": "F", "ck": "K", "ng": "NG", "qu": "K W",
    "ee": "IY", "ea": "IY", "oo": "UW", "ou": "AW", "ow": "OW", "ai": "EY", "ay": "EY", "oa": "OW", "er": "ER",
    "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH", "k": "K",
    "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T", "u": "AH", "v": "V",
    "w": "W", "x": "K S", "y": "IY", "z": "Z",
}  # fmt: skip


def align(samples: NDArray[np.float32], rate: int, text: str) -> tuple[tuple[Word, ...], Method]:
    """Word times of a text in its recording.

    Words are the text's, as written, without those that hold no letter or digit. The first begins at 0 and the last
    ends with the recording, which shall begin and end with speech. On synthetic speech with known times the aligner's
    word ends were 8 to 13 ms off in the median (Festival, 85 words).

    Args:
        samples: float32 [S].
        rate: in Hz.
        text: what is said.

    Raises:
        UserError: PocketSphinx is not installed.
    """
    shown = spoken_words(text)
    aligner = _aligner()
    units, guessed = _units(aligner, shown)
    found = _force(aligner.decoder, samples, rate, [unit for group in units for unit in group])
    if found is None:
        return proportional(text, len(samples) / rate), "proportional"
    words, at = [], 0
    for word, group in zip(shown, units, strict=True):
        words.append(Word(word, found[at][0], found[at + len(group) - 1][1]))
        at += len(group)
    return _anchored(words, len(samples) / rate), "guessed" if guessed else "aligned"


def forget() -> None:
    """Begin with a new aligner (0.1 s). What it heard before can move the edge of a word by a frame of 10 ms."""
    _aligner.cache_clear()


def proportional(text: str, duration: float) -> tuple[Word, ...]:
    """Word times as shares of `duration` seconds, by letters and digits and one more for each word."""
    shown = spoken_words(text)
    ends = np.cumsum([1.0 + sum(c.isalnum() for c in word) for word in shown])
    edges = np.concatenate(([0.0], ends / ends[-1] * duration)).tolist() if shown else [0.0]
    return tuple(Word(w, a, b) for w, a, b in zip(shown, edges[:-1], edges[1:], strict=True))


def spoken_words(text: str) -> list[str]:
    """The words of a text as written; marks that stand alone are none."""
    return [word for word in text.split() if any(c.isalnum() for c in word)]


def spelled(number: int) -> list[str]:
    """A whole number below a million in words: 120 -> one hundred twenty; larger ones digit by digit."""
    if number < 20:
        return [_UNITS[number]]
    if number < 100:
        return [_TENS[number // 10], *(spelled(number % 10) if number % 10 else [])]
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size and number < 1_000_000:
            return [*spelled(number // size), name, *(spelled(number % size) if number % size else [])]
    return [_UNITS[int(digit)] for digit in str(number)]


def sounds(word: str) -> str:
    """A guess at the phones (ARPABET) of a word that no dictionary holds: letter by letter, a last e silent."""
    letters = re.sub(r"[^a-z]", "", word)
    letters = letters[:-1] if len(letters) > 3 and letters.endswith("e") else letters
    phones, at = [], 0
    while at < len(letters):
        size = next(n for n in (3, 2, 1) if letters[at : at + n] in _LETTERS)
        phones.append(_LETTERS[letters[at : at + size]])
        at += size
    return " ".join(phones)


def _anchored(words: Sequence[Word], duration: float) -> tuple[Word, ...]:
    starts = [0.0, *(min(w.start, duration) for w in words[1:])]
    ends = [*(min(max(w.end, s), duration) for w, s in zip(words[:-1], starts[:-1], strict=True)), duration]
    return tuple(Word(w.text, a, b) for w, a, b in zip(words, starts, ends, strict=True))


def _units(aligner: _Aligner, shown: Sequence[str]) -> tuple[list[list[str]], bool]:
    """Each word as words of the aligner's dictionary, and whether some are there by a guess."""
    groups: list[list[str]] = []
    for word in shown:
        plain = re.sub(r"[^a-z0-9'-]", "", word.lower().replace("’", "'")).strip("-'")
        if plain and aligner.knows(plain):
            groups.append([plain])
            continue
        pieces: list[str] = []
        for piece in re.findall(r"[a-z]+(?:'[a-z]+)*|[0-9]+", plain):
            pieces += spelled(int(piece)) if piece.isdigit() else [piece]
        groups.append(pieces or [_ANY])
    for unit in (unit for group in groups for unit in group):
        if not aligner.knows(unit):
            aligner.learn(unit)
    return groups, any(unit in aligner.guesses or unit == _ANY for group in groups for unit in group)


def _force(
    decoder: Any, samples: NDArray[np.float32], rate: int, units: Sequence[str]
) -> list[tuple[float, float]] | None:
    """Times (start, end) in seconds of each unit; None if the aligner found no path through the recording."""
    sound = np.pad(resample(samples, rate, _RATE), round(_PAD_S * _RATE))
    peak = float(np.abs(sound).max(initial=0.0))
    if not units or peak == 0:
        return None
    pcm = (sound / peak * 16_000).astype("<i2").tobytes()
    try:
        decoder.set_align_text(" ".join(units))
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        segments = [(s.word, s.start_frame, s.end_frame) for s in decoder.seg() or ()]
    except RuntimeError:
        return None
    real = [(w, a, b) for w, a, b in segments if not w.startswith(("<", "["))]
    if [re.sub(r"\(\d+\)$", "", w) for w, _, _ in real] != list(units):
        return None
    return [(max(0.0, a * _FRAME_S - _PAD_S), max(0.0, (b + 1) * _FRAME_S - _PAD_S)) for _, a, b in real]


class _Aligner:
    """The aligner of this process: English (US) acoustic model and dictionary from the package, and what was added."""

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            mend = "install it (pip install 'duologue[simulate]'), or take times by letters: --times letters"
            raise UserError("PocketSphinx, the aligner of words, is not installed", mend=mend) from None
        self.decoder: Any = Decoder(lm=None, samprate=_RATE, cmn="batch", loglevel="FATAL")
        self.guesses: set[str] = set()

    def knows(self, word: str) -> bool:
        return self.decoder.lookup_word(word) is not None

    def learn(self, word: str) -> None:
        self.decoder.add_word(word, sounds(word), True)
        self.guesses.add(word)


_aligner = cache(_Aligner)
