"""CANDOR (BetterUp): video calls of strangers, one folder for each.

    UUID/processed/UUID.mp3            stereo; or one file for each participant, called after them
    UUID/processed/channel_map.json    {"L": participant, "R": participant}
    UUID/transcription/transcript_{backbiter,cliffhanger,audiophile}.csv    turns by three rules
    UUID/transcription/transcribe_output.json                               Amazon Transcribe, with word times

The CSV columns used are speaker, start, stop, utterance; in backbiter also backchannel, backchannel_speaker,
backchannel_start and backchannel_stop: what the other said meanwhile. Side 0 is L. Everything may also lie in one
folder. Source: Reece et al. 2023 (doi 10.1126/sciadv.adf3197) and its data dictionary.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from duologue.base.errors import UserError
from duologue.base.files import read_json, read_text
from duologue.corpus.conversation import Conversation, Read, Side, SoundRef
from duologue.corpus.defects import attempt
from duologue.corpus.readers.base import SOUNDS, CandorTranscript, CorpusReader, ReadOptions, any_file, by_stem
from duologue.corpus.readers.utterances import UTTERANCES, side_of_utterances
from duologue.corpus.sound import MissingError, sound_info
from duologue.dialogue.timeline import Word

NAME = "candor"
_MAP = "channel_map.json"


def fits(root: Path) -> bool:
    """Whether there is a channel map."""
    return any_file(root, _MAP)


def _source(root: Path, options: ReadOptions) -> Iterator[Read]:
    for channels in sorted(root.rglob(_MAP)):
        folder = channels.parent.parent if channels.parent.name == "processed" else channels.parent
        id = folder.name if folder != root else root.resolve().name
        yield attempt(id, NAME, lambda f=folder, c=channels, i=id: _conversation(i, f, c, options.candor))  # type: ignore[misc]


def _conversation(id: str, folder: Path, channel_map: Path, transcript: CandorTranscript) -> Conversation:
    people = _people(channel_map)
    refs = _sounds(id, channel_map.parent, people)
    name = "transcribe_output.json" if transcript == "aws" else f"transcript_{transcript}.csv"
    path = next((p for p in (folder / "transcription" / name, folder / name) if p.exists()), None)
    if path is None:
        sides = [Side(speaker=p, sound=r) for p, r in zip(people, refs, strict=True)]
        return Conversation(id=id, corpus=NAME, duration=0.0, sides=(sides[0], sides[1]))
    info: dict[str, str] = {"transcript": transcript}
    if transcript == "aws":
        words = read_transcribe(path)
        sides = [Side(speaker=p, sound=r, words=w) for p, r, w in zip(people, refs, words, strict=True)]
    else:
        said = read_candor_turns(path, people)
        sides = [side_of_utterances(p, r, s) for p, r, s in zip(people, refs, said, strict=True)]
        info |= UTTERANCES
    return Conversation(id=id, corpus=NAME, duration=0.0, sides=(sides[0], sides[1]), info=info)


def _people(path: Path) -> tuple[str, str]:
    match read_json(path):
        case {"L": str(left), "R": str(right)} if left != right:
            return left, right
    raise UserError("does not name two participants, L and R", place=path, mend="it is {'L': id, 'R': id}")


def _sounds(id: str, folder: Path, people: tuple[str, str]) -> tuple[SoundRef | None, SoundRef | None]:
    files = by_stem(sorted(p for p in folder.iterdir() if p.suffix.lower() in SOUNDS))
    if all(p in files for p in people):
        return SoundRef(path=files[people[0]]), SoundRef(path=files[people[1]])
    if id in files:
        channels = sound_info(SoundRef(path=files[id])).channels
        if channels != 2:
            raise UserError(f"has {channels} channel(s), not L and R", place=files[id], mend="download it again")
        return SoundRef(path=files[id], channel=0), SoundRef(path=files[id], channel=1)
    if files:
        raise MissingError(f"no sound is called {id} or after both participants", place=folder)
    return None, None


def read_candor_turns(path: Path, people: tuple[str, str]) -> tuple[list[Word], list[Word]]:
    """What L and R say, in the order of the file. Errors: UserError, a row without speaker or times."""
    said: tuple[list[Word], list[Word]] = ([], [])
    rows = csv.DictReader(read_text(path).splitlines(keepends=True))
    if not {"speaker", "start", "stop", "utterance"} <= set(rows.fieldnames or ()):
        raise UserError("lacks speaker, start, stop or utterance", place=path, mend="download it again")
    for row in rows:
        place = f"{path}, line {rows.line_num}"
        said[_side_of(row["speaker"], people, place)].append(_utterance(row, "utterance", "", place))
        if (row.get("backchannel") or "").strip() not in ("", "NA", "nan"):
            side = _side_of(row.get("backchannel_speaker"), people, place)
            said[side].append(_utterance(row, "backchannel", "backchannel_", place))
    return said


def _side_of(speaker: str | None, people: tuple[str, str], place: str) -> int:
    if speaker not in people:
        raise UserError(f"speaker {speaker!r} is not in the channel map", place=place, mend=f"it names {people}")
    return people.index(speaker)


def _utterance(row: dict[str, str | Any], text: str, prefix: str, place: str) -> Word:
    try:
        start, stop = (float(row.get(prefix + name) or "") for name in ("start", "stop"))
    except ValueError:
        raise UserError(f"{text} has no times", place=place, mend="mend this line") from None
    return Word(" ".join((row[text] or "").split()), start, stop)


def read_transcribe(path: Path) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    """The words of channels ch_0 (L) and ch_1 (R) of Amazon Transcribe's JSON; punctuation joins the word before it.

    Errors: UserError, another structure.
    """
    try:
        labels = read_json(path)["results"]["channel_labels"]["channels"]
        found = {channel["channel_label"]: tuple(_transcribed(channel["items"])) for channel in labels}
        return found["ch_0"], found["ch_1"]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        problem = f"is not Amazon Transcribe's JSON of two channels ({error!r})"
        raise UserError(problem, place=path, mend="download it again") from None


def _transcribed(items: list[dict[str, Any]]) -> list[Word]:
    words: list[Word] = []
    for item in items:
        text = str(item["alternatives"][0]["content"])
        if item["type"] == "punctuation":
            if words:
                words[-1] = Word(words[-1].text + text, words[-1].start, words[-1].end)
        else:
            words.append(Word(text, float(item["start_time"]), float(item["end_time"])))
    return words


READER = CorpusReader(name=NAME, fits=fits, source=_source, wants="folders with a channel_map.json")
