"""Seamless Interaction (Meta, CC BY-NC 4.0): one mono file for each participant; two share an interaction.

Files are called V<vendor>_S<session>_I<interaction>_P<participant>, and are found in any mixture of

    {label}/{split}/{batch}/{archive}/ID.wav, ID.json        as its downloader leaves them
    {label}/{split}/{batch}/{archive}.tar                    WebDataset tars of the same, read in place
    audio/ID.wav, [metadata/]transcript/ID.jsonl, [metadata/]vad/ID.jsonl    as they lie in the bucket

The JSON holds "metadata:transcript", a list of {"words": [{"word", "start", "end"}], "start", "end", "transcript"}, and
"metadata:vad", a list of {"start", "end"}; the JSONL files hold the same, one entry a line. Side 0 is the participant
whose name sorts first. Source: the dataset's repository, and the schema as its readers found it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from duologue.base.errors import UserError
from duologue.corpus.conversation import Conversation, Read, Side, SoundRef
from duologue.corpus.defects import attempt
from duologue.corpus.readers.base import CorpusReader, ReadOptions, any_file, files_below
from duologue.corpus.sound import MissingError, place_of, read_bytes, tar_index, tar_members
from duologue.dialogue.intervals import Intervals
from duologue.dialogue.timeline import Word

NAME = "seamless"
_ID = re.compile(r"(V\d+_S\d+_I\d+)_(P\d+[A-Za-z]?)")
_KINDS = {".wav": "wav", ".json": "json"}

Files = dict[str, SoundRef]
"""Of one participant: where the "wav", "json", "transcript" and "vad" lie."""


def fits(root: Path) -> bool:
    """Whether there are files of its names, loose or in a tar file."""
    if any_file(root, "V*_S*_I*_P*.*"):
        return True
    for path in files_below(root, ".tar"):
        try:
            if any(_named(Path(name)) for name in tar_members(path)):
                return True
        except UserError:
            continue
    return False


def _source(root: Path, options: ReadOptions) -> Iterator[Read]:
    broken: list[tuple[Path, UserError]] = []
    found: dict[str, dict[str, Files]] = {}
    for ref in _listed(root, broken):
        path = Path(ref.member or ref.path)
        name = _named(path)
        if name is not None:
            interaction, participant, kind = name
            found.setdefault(interaction, {}).setdefault(participant, {}).setdefault(kind, ref)
    for interaction in sorted(found):
        people = found[interaction]
        yield attempt(interaction, NAME, lambda i=interaction, p=people: _conversation(i, p, root))  # type: ignore[misc]
    for path, error in broken:

        def fail(error: UserError = error) -> Conversation:
            raise error

        yield attempt(path.relative_to(root).as_posix(), NAME, fail)


def _listed(root: Path, broken: list[tuple[Path, UserError]]) -> Iterator[SoundRef]:
    """Everything that could be the corpus's: loose files first, then the members of tar files."""
    for path in files_below(root, ".wav", ".json", ".jsonl"):
        yield SoundRef(path=path)
    for path in files_below(root, ".tar"):
        try:
            index = tar_index(path)
            yield from (SoundRef(path=path, member=name) for name in index.members)
            if index.cut:
                broken.append((path, UserError("ends too early", place=path, mend="download it again")))
        except UserError as error:
            broken.append((path, error))


def _named(path: Path) -> tuple[str, str, str] | None:
    """Interaction, participant and kind of a file; None: it is not the corpus's, or of no use here (video, motion)."""
    match = _ID.fullmatch(path.stem)
    kind = path.parent.name if path.suffix == ".jsonl" else _KINDS.get(path.suffix)
    if match is None or kind not in ("wav", "json", "transcript", "vad"):
        return None
    return (match[1], match[2], kind) if not re.fullmatch(r"[13]P-\w+", path.parent.name) else None


def _conversation(interaction: str, people: dict[str, Files], root: Path) -> Conversation:
    if len(people) != 2:
        named = ", ".join(sorted(people))
        raise MissingError(f"has {len(people)} participant(s), {named}: not two", place=interaction)
    sides = [_side(name, people[name]) for name in sorted(people)]
    without = [s.speaker for s in sides if s.sound is None]
    if len(without) == 1:
        raise MissingError(f"{without[0]} has no sound", place=interaction, mend="download its .wav")
    first = next(iter(people[sides[0].speaker].values())).path
    parts = first.relative_to(root).parts
    info = {k: p for k, p in (("label", _one_of(parts, "improvised", "naturalistic")),
                              ("split", _one_of(parts, "train", "dev", "test"))) if p}  # fmt: skip
    return Conversation(id=interaction, corpus=NAME, duration=0.0, sides=(sides[0], sides[1]), info=info)


def _one_of(parts: tuple[str, ...], *names: str) -> str:
    return next((n for n in names if n in parts), "")


def _side(name: str, files: Files) -> Side:
    said, heard = files.get("transcript"), files.get("vad")
    whole: dict[str, Any] = {}
    if "json" in files:
        whole = _json(files["json"])
    lines = _json_lines(said) if said else whole.get("metadata:transcript")
    spans = _json_lines(heard) if heard else whole.get("metadata:vad")
    place = place_of(said or files.get("json") or next(iter(files.values())))
    words = None if lines is None else tuple(_words(lines, place))
    speech = None if spans is None else _speech(spans, place)
    return Side(speaker=name, sound=files.get("wav"), speech=speech, words=words)


def _words(lines: Any, place: str) -> Iterator[Word]:
    """Words as they stand; one without times stands, with no length, where the one before it ends."""
    for i, line in enumerate(_list(lines, "metadata:transcript", place)):
        words = line.get("words") if isinstance(line, dict) else None
        if not isinstance(words, list):
            raise UserError(f"transcript entry {i} has no list of words", place=place)
        before = _number(line.get("start", 0.0), i, place)
        for word in words:
            if not isinstance(word, dict) or not isinstance(word.get("word"), str):
                raise UserError(f"transcript entry {i}: {word!r} is no word", place=place)
            start = _number(word.get("start", before), i, place)
            before = _number(word.get("end", start), i, place)
            if text := word["word"].strip():
                yield Word(text, start, before)


def _speech(spans: Any, place: str) -> Intervals:
    rows = []
    for i, span in enumerate(_list(spans, "metadata:vad", place)):
        if not isinstance(span, dict) or "start" not in span or "end" not in span:
            raise UserError(f"vad entry {i} has no start and end", place=place)
        rows.append((_number(span["start"], i, place), _number(span["end"], i, place)))
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _list(value: Any, name: str, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{name} is no list", place=place, mend="download it again")
    return value


def _number(value: Any, entry: int, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"entry {entry}: time {value!r} is not a number", place=place)
    return float(value)


def _json(ref: SoundRef) -> dict[str, Any]:
    value = _parsed(read_bytes(ref.path, ref.member), place_of(ref))
    if not isinstance(value, dict):
        raise UserError("is not a JSON object", place=place_of(ref), mend="download it again")
    return value


def _json_lines(ref: SoundRef) -> list[Any]:
    lines = read_bytes(ref.path, ref.member).splitlines()
    return [_parsed(line, f"{place_of(ref)}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]


def _parsed(data: bytes, place: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON: {error}", place=place, mend="download it again") from None


READER = CorpusReader(name=NAME, fits=fits, source=_source, wants="files V*_S*_I*_P*.wav and .json, or tars of them")
