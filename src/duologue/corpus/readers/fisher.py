"""Fisher English (LDC2004S13, T19, 2005S13, T19): two-channel SPHERE files, transcripts by utterance.

    fe_03_00001.sph   8 kHz u-law, A on channel 0, B on channel 1
    fe_03_00001.txt   # comments, then "3.76 5.54 A: and i generally prefer" (times in seconds)

The folders may lie anywhere below the root. Words are not timed: each utterance stays one word with all its text.
Utterances of marks alone ([noise], [laughter]) are no speech. Other sound formats of the same names are read as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from duologue.base.errors import UserError
from duologue.base.files import read_text
from duologue.corpus.conversation import Conversation, Read, SoundRef
from duologue.corpus.defects import attempt
from duologue.corpus.readers.base import SOUNDS, CorpusReader, ReadOptions, any_file, by_stem, files_below
from duologue.corpus.readers.utterances import UTTERANCES, side_of_utterances, spoken_text
from duologue.corpus.sound import MissingError
from duologue.dialogue.timeline import Word

NAME = "fisher"
_STEM = re.compile(r"fe_03_\d{5}")
_LINE = re.compile(r"(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)\s+([AB]):(.*)")


def fits(root: Path) -> bool:
    """Whether there is a file of Fisher's names."""
    return any_file(root, "fe_03_*.sph") or any_file(root, "fe_03_*.txt")


def _source(root: Path, options: ReadOptions) -> Iterator[Read]:
    sounds = {s: p for s, p in by_stem(files_below(root, *SOUNDS)).items() if _STEM.fullmatch(s)}
    texts = {p.stem: p for p in files_below(root, ".txt") if _STEM.fullmatch(p.stem)}
    for id in sorted(sounds | texts):
        yield attempt(id, NAME, lambda i=id: _conversation(i, sounds.get(i), texts.get(i), bool(sounds)))  # type: ignore[misc]


def _conversation(id: str, sound: Path | None, text: Path | None, with_sound: bool) -> Conversation:
    if sound is None and with_sound:
        raise MissingError("its transcript has no sound", place=text or id, mend=f"put {id}.sph below the folder")
    said = None if text is None else read_fisher_transcript(text)
    refs = [None if sound is None else SoundRef(path=sound, channel=c) for c in range(2)]
    a, b = (side_of_utterances(s, refs[i], said and said[i]) for i, s in enumerate("AB"))
    return Conversation(id=id, corpus=NAME, duration=0.0, sides=(a, b), info={} if said is None else UTTERANCES)


def read_fisher_transcript(path: Path) -> tuple[list[Word], list[Word]]:
    """The utterances of A and B, in the order of the file. Errors: UserError, a line that is none."""
    said: tuple[list[Word], list[Word]] = ([], [])
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            mend = 'lines are "start end A: text"'
            raise UserError(f"{line[:60]!r} is no utterance", place=f"{path}, line {number}", mend=mend)
        start, end, speaker, text = match.groups()
        if spoken := spoken_text(text):
            said["AB".index(speaker)].append(Word(spoken, float(start), float(end)))
    return said


READER = CorpusReader(name=NAME, fits=fits, source=_source, wants="files fe_03_NNNNN.sph and .txt")
