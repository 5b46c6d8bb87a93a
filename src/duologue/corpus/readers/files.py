"""Any folder of recordings: two-channel files, or two mono files for each conversation, with or without transcripts.

    talk.wav                    two channels: sides 0 and 1
    talk_A.wav, talk_B.wav      two mono files, told apart by the end of their names (`MARKS`, after . _ or -)

A transcript has the name of its sound: talk.json, .rttm, .ctm, .TextGrid, .vtt or .seglst.json for both sides, or, for
two mono files, talk_A.json and so on for each. Side 0 is channel 0, or the mark that stands first in its pair; the
marks agent and user also tell the roles. In a transcript of both sides, speakers called by a pair of `MARKS` are that
pair's sides; for other labels name the sides with `ReadOptions.speakers`: nothing is guessed. JSON is read by
`audio.words` and goes by its rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from duologue.audio.words import read_two_sided_words, read_words
from duologue.base.errors import UserError
from duologue.corpus.conversation import Conversation, Read, Side, SoundRef
from duologue.corpus.defects import attempt
from duologue.corpus.readers import timed
from duologue.corpus.readers.base import SOUNDS, CorpusReader, ReadOptions, files_below
from duologue.corpus.sound import MissingError, sound_info
from duologue.dialogue.timeline import Word

NAME = "files"
MARKS = (("agent", "user"), ("left", "right"), ("a", "b"), ("0", "1"), ("1", "2"), ("ch0", "ch1"), ("ch1", "ch2"))
"""What the two sides of a conversation are called, in any case."""

_MARKED = re.compile(r"(.+)[._-](agent|user|left|right|a|b|0|1|2|ch0|ch1|ch2)", re.IGNORECASE)
_SUFFIXES = (".seglst.json", ".json", ".TextGrid", ".ctm", ".rttm", ".vtt")

Words = tuple[Word, ...] | None


def fits(root: Path) -> bool:
    """Whether there is any sound."""
    return bool(files_below(root, *SOUNDS))


def _source(root: Path, options: ReadOptions) -> Iterator[Read]:
    stems: dict[str, Path] = {}
    for path in sorted(files_below(root, *SOUNDS), key=lambda p: (p.with_suffix(""), SOUNDS.index(p.suffix.lower()))):
        stems.setdefault(path.relative_to(root).with_suffix("").as_posix(), path)
    marked: dict[str, dict[str, Path]] = {}
    for stem, path in stems.items():
        if match := _MARKED.fullmatch(stem):
            marked.setdefault(match[1], {})[match[2].lower()] = path
    done: dict[str, tuple[str, str]] = {}
    for stem, path in stems.items():
        match = _MARKED.fullmatch(stem)
        pair = _pair(marked[match[1]], match[2].lower()) if match else None
        # Files of a pair's names can still be two-channel recordings that happen to be numbered.
        if match is None or pair is None or (_channels(path) or 1) > 1:
            yield attempt(stem, NAME, lambda s=stem, p=path: _two_channels(s, p, options))  # type: ignore[misc]
        elif match[1] not in done:
            done[match[1]] = pair
            paths = (marked[match[1]][pair[0]], marked[match[1]][pair[1]])
            yield attempt(match[1], NAME, lambda b=match[1], m=pair, p=paths: _two_files(b, m, p, options))  # type: ignore[misc]

        elif match[2].lower() not in done[match[1]]:  # the third of talk_0, talk_1 and talk_2
            yield attempt(stem, NAME, lambda s=stem, p=path: _two_channels(s, p, options))  # type: ignore[misc]


def _pair(found: Mapping[str, Path], mark: str) -> tuple[str, str] | None:
    return next((p for p in MARKS if mark in p and p[0] in found and p[1] in found), None)


def _channels(path: Path) -> int | None:
    try:
        return sound_info(SoundRef(path=path)).channels
    except UserError:
        return None


def _two_channels(id: str, path: Path, options: ReadOptions) -> Conversation:
    channels = sound_info(SoundRef(path=path)).channels
    if channels == 1:
        mend = "call the two files of a conversation NAME_A and NAME_B"
        raise MissingError("has 1 channel, and no file of the other side is beside it", place=path, mend=mend)
    if channels != 2:
        raise UserError(f"has {channels} channels, and a conversation has two", place=path, mend="keep two of them")
    said = _both(path.with_suffix(""), options)
    sides = [_side(str(c), SoundRef(path=path, channel=c), w) for c, w in enumerate(said)]
    return Conversation(id=id, corpus=NAME, duration=0.0, sides=(sides[0], sides[1]))


def _two_files(id: str, pair: tuple[str, str], paths: tuple[Path, Path], options: ReadOptions) -> Conversation:
    for path in paths:
        if (channels := sound_info(SoundRef(path=path)).channels) != 1:
            raise UserError(f"has {channels} channels beside a mono file", place=path, mend="give two mono files")
    own = [_one(path.with_suffix("")) for path in paths]
    if own == [None, None]:
        own = list(_both(paths[0].parent / Path(id).name, options))
    sides = [_side(pair[i], SoundRef(path=paths[i]), own[i]) for i in range(2)]
    info = {"roles": "agent,user"} if pair == ("agent", "user") else {}
    return Conversation(id=id, corpus=NAME, duration=0.0, sides=(sides[0], sides[1]), info=info)


def _side(speaker: str, sound: SoundRef, words: Words) -> Side:
    if words is None or any(w.text for w in words):
        return Side(speaker=speaker, sound=sound, words=words)
    spans = np.array([(w.start, w.end) for w in words], dtype=np.float64).reshape(-1, 2)  # RTTM: speech without words
    return Side(speaker=speaker, sound=sound, speech=spans)


def _transcript(stem: Path) -> tuple[Path, str] | None:
    for suffix in _SUFFIXES:
        path = stem.with_name(stem.name + suffix)
        if path.exists():
            return path, suffix.lower()
    return None


def _one(stem: Path) -> Words:
    """The words of a mono file's own transcript."""
    found = _transcript(stem)
    if found is None:
        return None
    path, suffix = found
    if suffix not in timed.READERS:
        return read_words(path)
    said = timed.READERS[suffix](path)
    if len(said) > 1:
        raise UserError(f"has {len(said)} speakers, its sound one", place=path, mend="give a transcript of one speaker")
    return tuple(next(iter(said.values()), []))


def _both(stem: Path, options: ReadOptions) -> tuple[Words, Words]:
    """The words of both sides from one transcript."""
    found = _transcript(stem)
    if found is None:
        return None, None
    path, suffix = found
    if suffix not in timed.READERS:
        return read_two_sided_words(path)
    said = timed.READERS[suffix](path)
    if not said:
        return (), ()
    first, second = _labels(set(said), path, options)
    return tuple(said.get(first, ())), tuple(said.get(second, ()))


def _labels(labels: set[str], path: Path, options: ReadOptions) -> tuple[str, str]:
    """Which label is side 0, which 1."""
    if options.speakers is not None and labels <= set(options.speakers):
        return options.speakers
    by_mark = {label.lower(): label for label in labels}
    for first, second in MARKS:
        if by_mark.keys() == {first, second}:
            return by_mark[first], by_mark[second]
    named = ", ".join(sorted(labels))
    mend = "say which is side 0 and which is side 1 (speakers)"
    raise UserError(f"speakers called {named} do not tell their channel", place=path, mend=mend)


READER = CorpusReader(name=NAME, fits=fits, source=_source, wants="two-channel sound, or NAME_A and NAME_B in mono")
