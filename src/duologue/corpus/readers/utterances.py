"""Utterances of corpora that time no words: their spans are the speech, and each stays one `Word` with all its text."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from duologue.corpus.conversation import Side, SoundRef
from duologue.dialogue.timeline import Word

UTTERANCES = {"words": "utterances"}
"""Goes into `Conversation.info`: the words are whole utterances."""

_MARKS = re.compile(r"\(\(|\)\)|\[[^\]]*\]")


def side_of_utterances(speaker: str, sound: SoundRef | None, said: Sequence[Word] | None) -> Side:
    """A side whose speech is its utterances, as they stand in the file; None: nobody transcribed it."""
    if said is None:
        return Side(speaker=speaker, sound=sound)
    spans = np.array([(w.start, w.end) for w in said], dtype=np.float64).reshape(-1, 2)
    return Side(speaker=speaker, sound=sound, speech=spans, words=tuple(said))


def spoken_text(text: str) -> str:
    """A transcriber's line without its marks: `[laughter]`, and the brackets of `((unclear words))`."""
    return " ".join(_MARKS.sub(" ", text).split())
