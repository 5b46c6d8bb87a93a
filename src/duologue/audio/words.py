"""Words with times, read and written: the interface between recognisers, corpora and scores.

`read_words` reads one speaker, `read_two_sided_words` a conversation, `read_fdb_chunks` a Full-Duplex-Bench transcript
exactly as it stands. Times are seconds. No recogniser is needed for any of it; those are in `asr`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from duologue.base.errors import UserError
from duologue.base.files import AnyPath, read_json, read_text, write_json
from duologue.dialogue.timeline import Word

if TYPE_CHECKING:
    from duologue.audio.wave import Audio

MAIN_SPEAKER = "SPEAKER_MAIN"
"""moshi-finetune's label of the first side (its annotate.py)."""
FORMATS = "see the formats under duologue.audio.words.read_words"
TWO_SIDED_FORMATS = "see the formats under duologue.audio.words.read_two_sided_words"
RERUN = "mend this element or run the recogniser again"

Words = tuple[Word, ...]
Sides = tuple[Words | None, Words | None]


class Chunk(NamedTuple):
    """One word of a Full-Duplex-Bench transcript as written: spaces kept, times perhaps null or reversed."""

    text: str
    start: float | None
    end: float | None


class FdbTranscript(NamedTuple):
    """A Full-Duplex-Bench transcript as written: the whole text, and the chunks in file order."""

    text: str
    chunks: tuple[Chunk, ...]


class Recogniser(Protocol):
    """Anything that hears words."""

    def transcribe(self, audios: Sequence[Audio]) -> list[Words]:
        """The words of each recording (mono, any rate), with times in seconds, sorted; () where none is heard."""


def read_words(path: AnyPath) -> Words:
    """Read the words of one speaker, sorted by time.

    Formats, told apart by their content (CTM by the suffix `.ctm`):

    * Full-Duplex-Bench and Hugging Face: `{"text", "chunks": [{"text", "timestamp": [start, end]}]}`;
    * Whisper and WhisperX: `{"segments": [{"words": [{"word", "start", "end"}]}]}`, or `{"words": [...]}` alone;
    * a list of `{"word" or "text", "start", "end"}` (faster-whisper), or of `[word, start, end]`;
    * CTM: lines of `recording channel start duration word [confidence]`, of one recording and channel.

    Spaces around a word are stripped and empty words dropped. A null or absent end is the start. A word without any
    time (WhisperX cannot align numerals) stands, with no length, where the word before it in the file ends.

    Raises:
        UserError: missing or unknown format; a time that is not a finite number, a word that ends before it starts; or
            a file of two speakers.
    """
    if Path(path).suffix.lower() == ".ctm":
        return _sorted(_read_ctm(path))
    value = read_json(path)
    if _is_two_sided(value):
        raise UserError("holds the words of two speakers", place=path, mend="give a file of one speaker")
    return _finished(_one_sided(value, path), path)


def read_two_sided_words(path: AnyPath) -> Sides:
    """Read the words of both speakers: (side 0, side 1), each sorted; None where the file says nothing of a side.

    Formats, told apart by their content:

    * moshi-finetune: `{"alignments": [[word, [start, end], "SPEAKER_MAIN"], ...]}`: its main speaker is side 0;
      its own files know no other, so that side 1 is None (one other label would be side 1);
    * Full-Duplex-Bench's transcription.json: `[{"speaker": 0 or 1, "item": [{"text", "timestamp": [start, end]}]}]`;
    * SegLST (CHiME, MeetEval): `[{"speaker", "words", "start_time", "end_time"}]`. Its entries are utterances, and each
      stays one `Word` with the whole text: nothing says when its words were spoken.

    Speakers called 0 and 1 are sides 0 and 1; with any other labels, side 0 is the first of them in sorted order.
    Which side is the agent is not in these files: the caller knows. Null times: as in `read_words`.

    Raises:
        UserError: as `read_words`; or more than two speakers.
    """
    value = read_json(path)
    if not _is_two_sided(value) and value != []:
        raise UserError("is not a two-sided transcript", place=path, mend=TWO_SIDED_FORMATS)
    if isinstance(value, dict):
        return _sides(_read_alignments(value["alignments"], path), path, first=MAIN_SPEAKER)
    return _sides(_read_entries(value, path), path)


def read_fdb_chunks(path: AnyPath) -> FdbTranscript:
    """Read a Full-Duplex-Bench transcript (output.json) exactly: order, spaces, null and reversed times as they are.

    The official scores depend on all four, so nothing is repaired here. A file without "text" gets its chunks' texts.

    Raises:
        UserError: no list of chunks; a chunk without a text or a `[start, end]` of finite numbers or nulls.
    """
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("chunks"), list):
        raise UserError('has no list "chunks"', place=path, mend="run the recogniser again")
    chunks = tuple(_chunk(item, f"chunk {i}", path) for i, item in enumerate(value["chunks"]))
    text = value.get("text", " ".join(chunk.text.strip() for chunk in chunks))
    if not isinstance(text, str):
        raise UserError(f'"text" is {text!r}, not text', place=path, mend="run the recogniser again")
    return FdbTranscript(text, chunks)


def write_words(path: AnyPath, words: Iterable[Word]) -> None:
    """Write the words of one speaker in Full-Duplex-Bench's format, atomically; `read_words` gives them back equal."""
    ordered = list(words)
    chunks = [{"text": w.text, "timestamp": [float(w.start), float(w.end)]} for w in ordered]
    write_json(path, {"text": " ".join(w.text for w in ordered), "chunks": chunks})


Named = tuple[str, Chunk]
"""A chunk and what an error message calls it ("segment 2 word 5")."""


def _one_sided(value: object, path: AnyPath) -> Iterator[Named]:
    """Find the list of words in each one-sided format."""
    match value:
        case {"chunks": list(items)}:
            yield from _elements(items, "chunk", path)
        case {"segments": list(segments)}:
            for i, segment in enumerate(segments):
                if not isinstance(segment, dict) or not isinstance(segment.get("words"), list):
                    raise UserError(f'segment {i} has no list "words"', place=path, mend="recognise with word times")
                yield from _elements(segment["words"], f"segment {i} word", path)
        case {"words": list(items)}:
            yield from _elements(items, "word", path)
        case list(items):
            yield from _elements(items, "word", path)
        case _:
            raise UserError("holds no words in a known format", place=path, mend=FORMATS)


def _elements(items: Sequence[object], kind: str, path: AnyPath) -> Iterator[Named]:
    for i, item in enumerate(items):
        yield f"{kind} {i}", _chunk(item, f"{kind} {i}", path)


def _chunk(item: Any, name: str, path: AnyPath) -> Chunk:
    """Read one word in any of the element formats, nothing repaired."""
    match item:
        case {"text": str(text), "timestamp": [start, end]}:
            pass
        case [str(text), start, end]:
            pass
        case {"text": str(text), "start": start, "end": end}:
            pass
        case {"word": str(text)}:
            start, end = item.get("start"), item.get("end")
        case _:
            shown = repr(item)
            shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
            raise UserError(f"{name}: {shown} is not a text with a start and an end", place=path, mend=RERUN)
    return Chunk(text, _time(start, name, path), _time(end, name, path))


def _time(value: object, name: str, path: AnyPath) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{name}: time {value!r} is not a number", place=path, mend=RERUN)
    if not math.isfinite(value):
        raise UserError(f"{name}: time {value!r} is not finite", place=path, mend=RERUN)
    return float(value)


def _finished(chunks: Iterable[Named], path: AnyPath) -> Words:
    """Fill in the null times, drop empty words, refuse reversed ones, sort."""
    words: list[Word] = []
    before = 0.0
    for name, (text, start, end) in chunks:
        if start is None and end is not None:
            raise UserError(f"{name} ({text!r}) has an end, {end}, but no start", place=path, mend=RERUN)
        begins = before if start is None else start
        before = begins if end is None else end
        if before < begins:
            raise UserError(f"{name} ({text!r}) ends at {before}, before it starts at {begins}", place=path, mend=RERUN)
        if text.strip():
            words.append(Word(text.strip(), begins, before))
    return _sorted(words)


def _sorted(words: Iterable[Word]) -> Words:
    return tuple(sorted(words, key=lambda w: (w.start, w.end)))


def _read_ctm(path: AnyPath) -> Iterator[Word]:
    """NIST's CTM: one word a line; lines that begin with ;; are comments."""
    recordings: set[tuple[str, str]] = set()
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split()
        if not fields or line.startswith(";;"):
            continue
        place = f"{path}, line {number}"
        if len(fields) < 5:
            raise UserError(f"{line!r} has under 5 fields", place=place, mend="recording channel start duration word")
        recordings.add((fields[0], fields[1]))
        if len(recordings) > 1:
            raise UserError("a second recording or channel begins", place=place, mend="give a file of one speaker")
        start, length = (seconds_of(field, place) for field in fields[2:4])
        if length < 0:
            raise UserError(f"duration {length} is negative", place=place, mend="mend this line")
        yield Word(fields[4], start, start + length)


def seconds_of(text: str, place: str) -> float:
    """A time in a line of text. Errors: UserError, not a finite number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{text!r} is not a number of seconds", place=place, mend="mend this line")
    return number


def _is_two_sided(value: object) -> bool:
    match value:
        case {"alignments": list()}:
            return True
        case [{"speaker": _, "item": _} | {"speaker": _, "words": _}, *_]:
            return True
    return False


Spoken = dict[object, list[Named]]
"""The chunks of each speaker, in the order in which speakers appear."""


def _read_alignments(items: Sequence[object], path: AnyPath) -> Spoken:
    spoken: Spoken = {MAIN_SPEAKER: []}
    for i, item in enumerate(items):
        name = f"alignment {i}"
        match item:
            case [str(text), [start, end], str(label)]:
                chunk = Chunk(text, _time(start, name, path), _time(end, name, path))
                spoken.setdefault(label, []).append((name, chunk))
            case _:
                raise UserError(f"{name}: {item!r} is not [word, [start, end], speaker]", place=path, mend=RERUN)
    return spoken


def _read_entries(items: Sequence[object], path: AnyPath) -> Spoken:
    """Full-Duplex-Bench's transcription.json and SegLST: a list of what each speaker says."""
    spoken: Spoken = {}
    for i, item in enumerate(items):
        name = f"entry {i}"
        match item:
            case {"speaker": str() | int() as speaker, "item": list(words)}:
                spoken.setdefault(speaker, []).extend(_elements(words, f"{name} word", path))
            case {"speaker": str() | int() as speaker, "words": str(text), "start_time": start, "end_time": end}:
                chunk = Chunk(text, *(_time(_number_in_text(t), name, path) for t in (start, end)))
                spoken.setdefault(speaker, []).append((name, chunk))
            case _:
                mend = 'give each entry "speaker" with "item", or with "words", "start_time" and "end_time"'
                raise UserError(f"{name} is not what one speaker says", place=path, mend=mend)
    return spoken


def _number_in_text(value: object) -> object:
    """CHiME's SegLST writes its times as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _sides(spoken: Spoken, path: AnyPath, first: str | None = None) -> Sides:
    """Put each speaker on a side, by the rules in `read_two_sided_words`."""
    labels = {str(label): label for label in spoken}
    if len(labels) > 2:
        named = ", ".join(sorted(labels))
        raise UserError(f"has {len(labels)} speakers: {named}", place=path, mend="give a file of two speakers")
    if set(labels) <= {"0", "1"}:
        order = ["0", "1"]
    else:
        order = sorted(labels, key=lambda label: (label != first, label))
    found = [_finished(spoken[labels[name]], path) if name in labels else None for name in order]
    return found[0], found[1] if len(found) > 1 else None
