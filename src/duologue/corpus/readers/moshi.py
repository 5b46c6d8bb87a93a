"""The layout of moshi-finetune: a manifest of stereo files, left the agent, right the user, words in JSON beside them.

    data.jsonl       {"path": "talks/a.wav", "duration": 24.52}, relative to the manifest
    talks/a.json     {"alignments": [["word", [start, end], "SPEAKER_MAIN"], ...]}: words of the left channel

Source: moshi-finetune's README and annotate.py. Side 0 is the agent. Other labels than SPEAKER_MAIN are the user's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from duologue.audio.words import MAIN_SPEAKER
from duologue.base.errors import UserError
from duologue.base.files import read_json, read_text
from duologue.corpus.conversation import Conversation, Read, Side, SoundRef
from duologue.corpus.defects import attempt
from duologue.corpus.readers.base import CorpusReader, ReadOptions, files_below
from duologue.corpus.sound import sound_info
from duologue.dialogue.timeline import Word

NAME = "moshi-finetune"


def fits(root: Path) -> bool:
    """Whether a manifest's first line names a file."""
    return any(_names_a_file(path) for path in files_below(root, ".jsonl"))


def _names_a_file(manifest: Path) -> bool:
    try:
        with manifest.open(encoding="utf-8") as file:
            return isinstance(_entry(file.readline(), manifest, 1).get("path"), str)
    except (UserError, UnicodeDecodeError, OSError):
        return False


def _source(root: Path, options: ReadOptions) -> Iterator[Read]:
    for manifest in files_below(root, ".jsonl"):
        folder = manifest.relative_to(root).with_suffix("").as_posix()
        if not _names_a_file(manifest):
            continue
        for number, line in enumerate(read_text(manifest).splitlines(), 1):
            if line.strip():
                id = f"{folder}/{number:06d}"
                yield attempt(id, NAME, lambda n=number, t=line, i=id, m=manifest: _conversation(i, m, n, t))  # type: ignore[misc]


def _conversation(id: str, manifest: Path, number: int, line: str) -> Conversation:
    entry = _entry(line, manifest, number)
    place = f"{manifest}, line {number}"
    path, duration = entry.get("path"), entry.get("duration", 0.0)
    if not isinstance(path, str):
        raise UserError("has no path", place=place, mend='each line is {"path": ..., "duration": ...}')
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not duration >= 0:
        raise UserError(f"duration {duration!r} is not a number of seconds", place=place, mend="mend this line")
    sound = manifest.parent / path
    channels = sound_info(SoundRef(path=sound)).channels
    if channels != 2:
        raise UserError(f"has {channels} channels, not agent and user", place=sound, mend="give a stereo file")
    left, right = _words(sound.with_suffix(".json"))
    sides = (
        Side(speaker="agent", sound=SoundRef(path=sound, channel=0), words=left),
        Side(speaker="user", sound=SoundRef(path=sound, channel=1), words=right),
    )
    info = {"roles": "agent,user", "path": path}
    return Conversation(id=id, corpus=NAME, duration=float(duration), sides=sides, info=info)


def _entry(line: str, manifest: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise UserError(f"not JSON: {error}", place=f"{manifest}, line {number}", mend="mend this line") from None
    if not isinstance(value, dict):
        raise UserError("not a JSON object", place=f"{manifest}, line {number}", mend="mend this line")
    return value


def _words(path: Path) -> tuple[tuple[Word, ...] | None, tuple[Word, ...] | None]:
    """Both sides' words as they stand; `audio.words` refuses times that are swapped, which here are mended later."""
    if not path.exists():
        return None, None
    value = read_json(path)
    items = value.get("alignments") if isinstance(value, dict) else None
    if not isinstance(items, list):
        raise UserError("has no list of alignments", place=path, mend="run moshi-finetune's annotate.py again")
    main: list[Word] = []
    other: list[Word] = []
    for i, item in enumerate(items):
        match item:
            case [str(text), [int() | float() as start, int() | float() as end], str(label)]:
                if text.strip():
                    (main if label == MAIN_SPEAKER else other).append(Word(text.strip(), float(start), float(end)))
            case _:
                raise UserError(f"alignment {i}: {item!r} is not [word, [start, end], speaker]", place=path)
    return tuple(main), tuple(other) or None


READER = CorpusReader(name=NAME, fits=fits, source=_source, wants="a .jsonl manifest of stereo files")
