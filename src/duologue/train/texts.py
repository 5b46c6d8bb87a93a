"""Texts without sound, as a language model learns words from them before and beside conversations.

Moshi is trained on text alone first and now and then (arXiv 2410.00037, section 4.1). Here a text stands on the text
stream at some pace, from a piece a frame to that of speech, and the sound of both sides is absent or silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duologue.corpus.script import load_scripts
from duologue.model.text import TextTokenizer

GAPS = (0.0, 0.0, 0.5, 1.5)
"""Mean frames of padding before a word, of which each excerpt draws one."""
TURN = 4
"""More of them, before a turn."""


@dataclass(frozen=True, slots=True)
class Text:
    """What one side says in a chat."""

    pieces: NDArray[np.int32]
    """[N]."""
    breaks: NDArray[np.int8]
    """[N]: 2 where a turn begins, 1 where a word does, 0 within a word."""

    @property
    def frames(self) -> int:
        """About how many it fills."""
        return len(self.pieces)


def load_texts(source: str | Path, tokenizer: TextTokenizer) -> list[Text]:
    """Each side of each chat of a source of `load_scripts`, without those that are held out for measuring."""
    chats = load_scripts(source, 0, "training")
    sides = ([line.text for line in chat.turns if line.side == side] for chat in chats for side in (0, 1))
    return [text for turns in sides if (text := _text(turns, tokenizer)).frames]


def lay_text(text: Text, frames: int, pad: int, epad: int, rng: np.random.Generator) -> Tensor:
    """The text stream [frames], int64: the text from any of its words on, and PAD behind its end."""
    gap = GAPS[int(rng.integers(len(GAPS)))]
    first = int(rng.integers(max(len(text.pieces) - frames, 0) + 1))
    ids: list[int] = []
    for piece, new in zip(text.pieces[first:].tolist(), text.breaks[first:].tolist(), strict=True):
        if len(ids) >= frames:
            break
        waits = int(rng.poisson(gap * (1 + TURN * (new == 2)))) if new and gap else 0
        ids += [pad] * (waits - 1) + [epad] * (waits > 0) + [piece]
    return torch.tensor((ids + [pad] * frames)[:frames], dtype=torch.long)


def _text(turns: Iterable[str], tokenizer: TextTokenizer) -> Text:
    pieces: list[int] = []
    breaks: list[int] = []
    for turn in turns:
        ids = tokenizer.encode(turn)
        starts = [int(tokenizer.begins_word(i)) for i in ids]
        pieces += ids
        breaks += [2, *starts[1:]] if ids else []
    return Text(np.asarray(pieces, np.int32), np.asarray(breaks, np.int8))
