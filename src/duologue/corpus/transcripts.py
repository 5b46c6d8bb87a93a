"""Words of segments that a corpus does not have, as a recogniser hears them.

    words/AXIS/ID.json   the recogniser's name, and the words of the sides that had none

What was recognised once is found again, so that a run that was stopped goes on, and other segments can be added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from duologue.audio.words import Recogniser, Words
from duologue.base.errors import UserError
from duologue.base.files import read_json, write_json
from duologue.corpus.candidates import SoundReader
from duologue.corpus.store import SIDES, Row
from duologue.dialogue.timeline import Word

BATCH = 32
"""Segments that are recognised together."""


@dataclass(frozen=True, slots=True)
class NamedRecogniser:
    """A recogniser, and what it is called."""

    name: str
    recogniser: Recogniser


def transcribed(rows: Iterable[Row], folder: Path, who: NamedRecogniser, read: SoundReader) -> Iterator[Row]:
    """Rows in their order, with the words of both sides; words that the corpus has stay.

    Args:
        rows: segments.
        folder: of the segments.
        who: who hears; its name stands in the info of rows that got words from it, under "words".
        read: how sound is read. A side without sound, or whose sound cannot be read, stays without words.
    """
    stream = iter(rows)
    while batch := list(islice(stream, BATCH)):
        yield from _batch(batch, folder, who, read)


def _batch(rows: Sequence[Row], folder: Path, who: NamedRecogniser, read: SoundReader) -> Iterator[Row]:
    kept = {row.id: _read(folder, row, who.name) for row in rows}
    missing, sounds = list[tuple[str, int]](), []
    for row in rows:
        for side, sound in enumerate(row.sounds):
            if row.words[side] is not None or side in kept[row.id] or sound is None:
                continue
            try:
                sounds.append(read(sound, row.offset, row.offset + row.end))
            except UserError:
                continue
            missing.append((row.id, side))
    new = {name for name, _ in missing}
    for (name, side), words in zip(missing, who.recogniser.transcribe(sounds) if sounds else [], strict=True):
        kept[name][side] = words
    for row in rows:
        if row.id in new:
            write_json(_file(folder, row), _plain(kept[row.id], who.name), durable=False)
        agent, user = (kept[row.id].get(side) if own is None else own for side, own in enumerate(row.words))
        yield (
            replace(row, words=(agent, user), info={**row.info, "words": f"recogniser {who.name}"})
            if kept[row.id]
            else row
        )


def _file(folder: Path, row: Row) -> Path:
    return folder / "words" / row.axis / f"{row.id}.json"


def _plain(words: dict[int, Words], name: str) -> dict[str, Any]:
    return {"recogniser": name, **{SIDES[side]: [list(word) for word in spoken] for side, spoken in words.items()}}


def _read(folder: Path, row: Row, name: str) -> dict[int, Words]:
    """Words of this recogniser by side, as far as they were written down."""
    path = _file(folder, row)
    entry = read_json(path) if path.is_file() else {}
    if not isinstance(entry, dict) or entry.get("recogniser") != name:
        return {}
    return {i: tuple(Word(*word) for word in entry[side]) for i, side in enumerate(SIDES) if side in entry}
