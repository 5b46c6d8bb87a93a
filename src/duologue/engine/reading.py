"""Which text a model may write next, so that it says given words at moments of its own choice.

While no word is under way the model chooses among PAD, EPAD and the next word's first piece; after EPAD, and once a
word has begun, its pieces come one per frame. A silence that lasts too long is ended. In the manner of delayed-streams
TTS (arXiv 2509.08753; moshi, models/tts.py, `StateMachine`), whose model can only pad or begin a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from duologue.base.errors import UserError
from duologue.dialogue.timeline import Word
from duologue.engine.engine import FREE
from duologue.model.text import TextTokenizer
from duologue.model.words import TextLayout, lay_words

ALL = (-1, -1, -1)
LONGEST_PIECES = 12
"""Pieces that a byte of text can become at most, with whatever a tokenizer makes of odd characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much time a model has."""

    max_silence: float = 1.2
    """Seconds after which the next word is made to begin, counted from the last one's text."""
    tail: float = 2.0
    """Seconds after the last word's text at which the sound is cut, if it has not fallen silent before."""

    def __post_init__(self) -> None:
        for name, value in (("max_silence", self.max_silence), ("tail", self.tail)):
            if not 0 <= value < float("inf"):
                raise UserError(f"{value} is no number of seconds", place=name, mend="use 0 or more")


class Spelled(NamedTuple):
    """A word and the ids that spell it."""

    text: str
    pieces: tuple[int, ...]


class Due(NamedTuple):
    """What a slot may write in its next frame."""

    forced: int
    """The id that it must write; -2: it chooses."""
    among: tuple[int, ...] = ALL
    """What it chooses among; -1: anything."""
    first: int = -1
    """The one of them that stands for the beginning of a word."""


def spell(text: str, tokenizer: TextTokenizer, layout: TextLayout, text_card: int) -> tuple[Spelled, ...]:
    """The words of a text, each spelled as `lay_words` lays it for training. What has no pieces is left out.

    Raises:
        UserError: no words, or ids that the model does not know.
    """
    found = []
    for word in text.split():
        frames = LONGEST_PIECES * (2 + len(word.encode("utf-8", "replace")))
        laid = lay_words([Word(word, 0.0, 0.0)], tokenizer, frames, TextLayout(pad=layout.pad, epad=layout.epad))
        pieces = tuple(t for t in laid.tolist() if t not in (layout.pad, layout.epad))
        if pieces:
            found.append(Spelled(word, pieces))
    if not found:
        raise UserError("there are no words in it", place=text[:40] or "text", mend="give some text to say")
    largest = max(max(word.pieces) for word in found)
    if largest >= text_card:
        problem = f"the tokenizer gives id {largest}, and the model knows {text_card}"
        raise UserError(problem, place="tokenizer", mend="use the tokenizer that came with the model")
    return tuple(found)


class Reader:
    """Leads one slot through its words: ask `due`, let the model write, tell it by `wrote`."""

    def __init__(self, words: Sequence[Spelled], pace: Pace, layout: TextLayout) -> None:
        self._words, self._layout = words, layout
        self._most = int(pace.max_silence * layout.frame_rate + 1e-6)
        self._word = self._piece = 0
        self._begun = 0
        self._brink = False
        self.frame = 0
        """Frames written."""
        self.quiet = 0
        """Frames since the last piece, or since the start."""
        self.hurried = 0
        """Words that had to begin because the silence before them was too long."""

    @property
    def done(self) -> bool:
        """Whether all words have been written."""
        return self._word == len(self._words)

    def longest(self) -> int:
        """Frames that the words can take at most."""
        return sum(max(1, self._most) + 1 + len(word.pieces) for word in self._words)

    def due(self) -> Due:
        """What the next frame's text may be."""
        pad, epad = self._layout.pad, self._layout.epad
        if self.done:
            return Due(pad)
        pieces = self._words[self._word].pieces
        if self._piece or self._brink or self.quiet >= self._most:
            return Due(pieces[self._piece])
        if self.quiet == self._most - 1:
            return Due(epad)
        return Due(FREE, (pad, epad, pieces[0]), pieces[0])

    def wrote(self, token: int) -> Word | None:
        """Note the frame's text; gives the word that it completes, with the times at which it is to be heard."""
        frame, self.frame = self.frame, self.frame + 1
        late = not self._brink and self.quiet >= self._most - 1
        if self.done or not (self._piece or token == self._words[self._word].pieces[0]):
            self._brink = not self.done and token == self._layout.epad
            self.hurried += self._brink and late
            self.quiet += 1
            return None
        if self._piece == 0:
            self._begun = frame
            self.hurried += late
        self._piece, self._brink, self.quiet = self._piece + 1, False, 0
        word = self._words[self._word]
        if self._piece < len(word.pieces):
            return None
        self._word, self._piece = self._word + 1, 0
        rate, delay = self._layout.frame_rate, self._layout.delay
        return Word(word.text, self._begun / rate - delay, (frame + 1) / rate - delay)
