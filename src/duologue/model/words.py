"""Words with times and the text stream: one from the other, and back.

The text stream has one id per frame. A word's pieces stand one per frame from the frame in which it begins; EPAD is the
last padding before them, PAD all the rest. Source: the Moshi paper (arXiv 2410.00037, section 3.4.4, inner monologue).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from duologue.base.errors import UserError
from duologue.dialogue.timeline import Word
from duologue.model.config import LMConfig
from duologue.model.text import TextTokenizer

ABSENT = -1
FRAME_RATE = 12.5
BRINK = 1e-6
"""Frames by which a time may fall short of a frame and still belong to it: n / 12.5 * 12.5 is below n for 6 % of n."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLayout:
    """How words lie in a text stream. The defaults are those of Moshi and PersonaPlex."""

    pad: int = 3
    """No text in this frame."""
    epad: int = 0
    """The last padding before a word."""
    frame_rate: float = FRAME_RATE
    """Frames per second."""
    delay: float = 0.0
    """Seconds by which the text is behind the sound (speech recognition: `audio_delay_seconds`); below 0: ahead."""
    bridge: int = 5
    """PAD frames that a word may have inside: a piece without a space in front still belongs to it after so many."""
    keep_and_shift: bool = True
    """When a word begins before the last one's pieces are all laid: lay it behind them (true), or cut them off (false,
    as moshi-finetune does unless told otherwise). To cut is to teach broken words; the shift is small, as words have
    fewer pieces than frames, and is made up for at the next pause."""

    def __post_init__(self) -> None:
        if self.frame_rate <= 0:
            raise UserError(f"{self.frame_rate} is no number of frames per second", place="frame_rate")
        if self.bridge < 0:
            raise UserError(f"{self.bridge} frames is less than none", place="bridge")
        if self.pad == self.epad:
            raise UserError(f"PAD and EPAD are both {self.pad}", place="epad")

    @classmethod
    def of(cls, config: LMConfig) -> TextLayout:
        """The layout of a model's text stream."""
        pad, epad = config.existing_text_padding_id, config.existing_text_end_padding_id
        return cls(pad=pad, epad=epad, delay=config.audio_delay_seconds)


MOSHI = TextLayout()


class WordStream:
    """Reads a text stream one id at a time and gives each word when it is complete.

    A word begins at a piece with a space in front, or at any piece when no word is open. Further pieces belong to it,
    also across a few PAD frames (`TextLayout.bridge`). It ends, and is given, when the next one begins, at EPAD, at an
    absent id (below 0), or after more PAD frames than that. Other ids that spell nothing, as BOS and EOS, count as PAD.

    A word's start is the beginning of its first piece's frame, its end the end of its last piece's frame: when it was
    written. Its sound mostly goes on longer, as words have more frames than pieces; the stream does not say how long.
    """

    def __init__(self, tokenizer: TextTokenizer, layout: TextLayout = MOSHI) -> None:
        self._tokenizer, self._layout = tokenizer, layout
        self._frame = 0
        self._begin = self._end = 0
        self._letters = b""  # of the word that is open, if any

    def feed(self, token: int) -> Word | None:
        """Read the next frame's id; gives the word that this completes, with times in seconds."""
        frame, layout = self._frame, self._layout
        self._frame += 1
        if token < 0 or token == layout.epad:
            return self.finish()
        letters = b"" if token == layout.pad else self._tokenizer.spell(token)
        if not letters:
            return self.finish() if frame - self._end >= layout.bridge else None
        done = None
        if not self._letters or self._tokenizer.begins_word(token):
            done = self.finish()
            self._begin = frame
        self._letters += letters
        self._end = frame + 1
        return done

    def finish(self) -> Word | None:
        """The word that is open, if any, as if the stream ended here."""
        text = self._letters.decode("utf-8", "replace").strip()
        self._letters = b""
        rate, delay = self._layout.frame_rate, self._layout.delay
        return Word(text, self._begin / rate - delay, self._end / rate - delay) if text else None


def words(tokens: Sequence[int] | Tensor, tokenizer: TextTokenizer, layout: TextLayout = MOSHI) -> list[Word]:
    """The words of a whole text stream [T], with times in seconds (`WordStream`)."""
    stream = WordStream(tokenizer, layout)
    ids = tokens.tolist() if isinstance(tokens, Tensor) else tokens
    found = [*(stream.feed(token) for token in ids), stream.finish()]
    return [word for word in found if word is not None]


def lay_words(words: Iterable[Word], tokenizer: TextTokenizer, frames: int, layout: TextLayout = MOSHI) -> Tensor:
    """Lay words on a text stream of `frames` frames: the inverse of `words`, but that ends of words have no say.

    For a clip of a recording, give the words with times from the clip's beginning, earlier ones included: the result
    is what the whole recording's stream holds there. A word that is under way when the clip begins keeps the pieces
    that fall into it. Frames behind the recording's end are not text, not even PAD: fill them with -1.

    Matched: moshi-finetune, `Interleaver.build_token_stream`, which starts each clip anew and looks at nothing behind
    it, drops words without duration, and puts some words that begin just where a frame does one frame early.

    Args:
        words: in any order. Each is encoded alone, with a space in front where the tokenizer marks one.
        tokenizer: its ids for PAD and EPAD are left out of words, where they would be read as silence.
        frames: frames of the sound.
        layout: PAD, EPAD, frame rate, delay, and what happens to words that come too fast.

    Returns:
        ids int64 [frames]; with a delay, -1 in the frames that could only speak of sound before the first one.
    """
    laid: dict[int, int] = {}
    free: int | None = None  # the frame behind the last piece
    for word in sorted(words, key=lambda w: w.start):
        pieces = [token for token in _pieces(word.text, tokenizer) if token not in (layout.pad, layout.epad)]
        if not pieces:
            continue
        begin = math.floor((word.start + layout.delay) * layout.frame_rate + BRINK)
        if free is not None and layout.keep_and_shift:
            begin = max(begin, free)
        elif free is not None:
            for frame in range(begin, free):
                laid.pop(frame, None)
        laid.setdefault(begin - 1, layout.epad)
        free = begin + len(pieces)
        laid.update(zip(range(begin, free), pieces, strict=True))
    unheard = math.floor(max(0.0, layout.delay) * layout.frame_rate + BRINK)
    ids = [ABSENT if t < unheard else laid.get(t, layout.pad) for t in range(frames)]
    return torch.tensor(ids, dtype=torch.long)


def _pieces(text: str, tokenizer: TextTokenizer) -> list[int]:
    """Ids of one word, the first with a space in front if the tokenizer has such pieces."""
    bare = text.strip()
    ids = tokenizer.encode(bare)
    if ids and not tokenizer.begins_word(ids[0]):
        spaced = tokenizer.encode(f" {bare}")
        if tokenizer.begins_word(spaced[0]):
            return spaced
    return ids
