"""Switchboard-1 (LDC97S62) with the word times of ISIP (ms98): two-channel SPHERE files, a word file for each side.

    sw02001.sph               8 kHz u-law, A on channel 0, B on channel 1 (also sw2001.sph)
    sw2001A-ms98-a-word.text  "sw2001A-ms98-a-0002 0.977625 1.561375 okay" (also .trans)

Marks: [silence], [noise], [vocalized-noise] and [laughter] are no words; [laughter-yes] is "yes"; [said/meant] is what
was meant; w[ould]- is "w-"; {made-up} is taken; <b_aside> and <e_aside> are dropped; them_1 is "them". Source: ISIP's
Switchboard transcription guidelines. Speech is the words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from duologue.base.errors import UserError
from duologue.base.files import read_text
from duologue.corpus.conversation import Conversation, Read, Side, SoundRef
from duologue.corpus.defects import attempt
from duologue.corpus.readers.base import SOUNDS, CorpusReader, ReadOptions, any_file, by_stem, files_below
from duologue.corpus.sound import MissingError
from duologue.dialogue.timeline import Word

NAME = "switchboard"
_SOUND = re.compile(r"sw0?(\d{4})")
_TEXT = re.compile(r"sw(\d{4})([AB])-ms98-a-word")


def fits(root: Path) -> bool:
    """Whether there is a word file of ISIP or a sound of Switchboard."""
    return any_file(root, "sw*-ms98-a-word.*") or any_file(root, "sw0[0-9][0-9][0-9][0-9].sph")


def _source(root: Path, options: ReadOptions) -> Iterator[Read]:
    sounds = {m[1]: p for s, p in by_stem(files_below(root, *SOUNDS)).items() if (m := _SOUND.fullmatch(s))}
    texts: dict[str, dict[str, Path]] = {}
    for path in files_below(root, ".text", ".trans"):
        if match := _TEXT.fullmatch(path.stem):
            texts.setdefault(match[1], {}).setdefault(match[2], path)
    for call in sorted(sounds.keys() | texts.keys()):
        build = lambda c=call: _conversation(c, sounds.get(c), texts.get(c, {}), bool(sounds))  # noqa: E731
        yield attempt(f"sw{call}", NAME, build)


def _conversation(call: str, sound: Path | None, texts: dict[str, Path], with_sound: bool) -> Conversation:
    if sound is None and with_sound:
        raise MissingError(
            "its word files have no sound", place=f"sw{call}", mend=f"put sw0{call}.sph below the folder"
        )
    if len(texts) == 1:
        (known,) = texts.values()
        raise MissingError("the other side has no word file", place=known, mend="unpack ISIP's archive again")
    sides: list[Side] = []
    length = 0.0
    for channel, letter in enumerate("AB"):
        words = None
        if letter in texts:
            words, end = read_isip_words(texts[letter])
            length = max(length, end)
        ref = None if sound is None else SoundRef(path=sound, channel=channel)
        sides.append(Side(speaker=letter, sound=ref, words=words))
    return Conversation(id=f"sw{call}", corpus=NAME, duration=length, sides=(sides[0], sides[1]))


def read_isip_words(path: Path) -> tuple[tuple[Word, ...], float]:
    """The words of one side in the order of the file, and where its last line ends, in seconds.

    Errors: UserError, a line that is not "utterance start end word".
    """
    words: list[Word] = []
    last = 0.0
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        place = f"{path}, line {number}"
        if len(fields) != 4:
            raise UserError(f"{line[:60]!r} has not 4 fields", place=place, mend="utterance start end word")
        try:
            start, end = float(fields[1]), float(fields[2])
        except ValueError:
            start = end = math.nan
        if not math.isfinite(start + end):
            raise UserError(f"{fields[1]!r}, {fields[2]!r} are no times", place=place, mend="mend this line")
        last = max(last, start, end)
        if text := isip_word(fields[3]):
            words.append(Word(text, start, end))
    return tuple(words), last


def isip_word(token: str) -> str:
    """What was said, without ISIP's marks; "" for what is no word."""
    if token.startswith("<") and token.endswith(">"):
        return ""
    token = re.sub(r"_\d+$", "", token)
    if token.startswith("[") and token.endswith("]"):
        inner = token[1:-1]
        if "/" in inner:
            return inner.rpartition("/")[2]
        return isip_word(inner.removeprefix("laughter-")) if inner.startswith("laughter-") else ""
    token = re.sub(r"\[[^\]]*\]", "", token)
    return token.strip("{}") if token.strip("{}-") else ""


READER = CorpusReader(name=NAME, fits=fits, source=_source, wants="files sw0NNNN.sph or swNNNNA-ms98-a-word.text")
