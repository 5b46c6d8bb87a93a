"""The segment store: one Parquet index with a row per segment, clips as FLAC files beside it, tokens if cached.

    index.parquet              one row per segment, `SCHEMA_VERSION` in its metadata
    clips/AXIS/ID.flac         two channels: 0 the partner, whose place the model takes ("agent"), 1 the user

Times in a row are seconds from the beginning of its context, as in `Segment`; `offset` is where that lies in the
conversation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from duologue.base.errors import UserError
from duologue.base.files import atomic_path
from duologue.corpus.conversation import SoundRef
from duologue.dialogue.intervals import as_intervals
from duologue.dialogue.segments import LazyWaveform, ReferenceEvent, Segment, Waveform
from duologue.dialogue.timeline import Timeline, Track, Word

if TYPE_CHECKING:
    from duologue.corpus.token_cache import TokenCache

SCHEMA_VERSION = 1
INDEX = "index.parquet"
SIDES = ("agent", "user")
ROWS_AT_ONCE = 256

Times = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One segment as the index holds it."""

    id: str
    axis: str
    corpus: str
    conversation: str
    key: int
    """Of the sampling: the smallest keys of an axis were kept."""
    user_side: int
    """Which side of the conversation is the user."""
    speakers: tuple[str, str]
    """The corpus's names of (agent, user)."""
    offset: float
    """Where the context begins in the conversation."""
    start: float
    """Where the model begins to act."""
    end: float
    rule: str
    """Why the segment was selected."""
    events: tuple[ReferenceEvent, ...]
    speech: tuple[Times, Times]
    """Of (agent, user)."""
    words: tuple[tuple[Word, ...] | None, tuple[Word, ...] | None]
    """Of (agent, user); None: not transcribed."""
    sounds: tuple[SoundRef | None, SoundRef | None]
    """Where the whole conversation's sound of (agent, user) lies."""
    clip: str | None = None
    """The clip's path below the store; None if none was cut."""
    info: dict[str, str] = field(default_factory=dict)
    """What else the corpus says of the conversation."""

    def timeline(self) -> Timeline:
        """Both tracks over [0, end]."""
        agent, user = (
            Track(as_intervals(speech), words) for speech, words in zip(self.speech, self.words, strict=True)
        )
        return Timeline(agent, user, self.end)

    def to_json(self) -> bytes:
        """As compact JSON; `from_json` gives an equal row."""
        value = {f.name: getattr(self, f.name) for f in fields(self)}
        value["sounds"] = [_plain_sound(s) for s in self.sounds]
        return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes | str) -> Row:
        """Read what `to_json` made."""
        value: dict[str, Any] = json.loads(data)
        return cls(**value | {
            "speakers": tuple(value["speakers"]),
            "events": tuple(ReferenceEvent(*e) for e in value["events"]),
            "speech": tuple(tuple((a, b) for a, b in side) for side in value["speech"]),
            "words": tuple(None if side is None else tuple(Word(*w) for w in side) for side in value["words"]),
            "sounds": tuple(_sound(s) for s in value["sounds"]),
        })  # fmt: skip


class SegmentStore:
    """A folder of segments, read. The index stays in its compact form; sound is read when a waveform is called for.

    Raises:
        UserError: no index there, a broken one, or one of another version.
    """

    def __init__(self, folder: Path, tokens: TokenCache | None = None) -> None:
        self.folder = folder
        self.tokens = tokens
        self._table = read_table(folder / INDEX)
        self.ids: list[str] = self._table["id"].to_pylist()
        self.axes: list[str] = self._table["axis"].to_pylist()
        self._places = {name: i for i, name in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Segment]:
        return map(self.segment, self.rows())

    def rows(self, axis: str | None = None) -> Iterator[Row]:
        """The rows, or those of one axis, in the index's order: by axis, each in random order."""
        for i, name in enumerate(self.axes):
            if axis is None or axis == name:
                yield self._row(i)

    def row(self, name: str) -> Row:
        """The row of a segment. Errors: KeyError."""
        return self._row(self._places[name])

    def _row(self, index: int) -> Row:
        return _row(self._table.slice(index, 1).to_pylist()[0])

    def segment(self, row: Row) -> Segment:
        """A row as a segment, with lazy sound, and codes if they are cached."""
        audio = self._waveform(row, 0), self._waveform(row, 1)
        return Segment(
            id=row.id, axis=row.axis, conversation=row.conversation, offset=row.offset, start=row.start, end=row.end,
            timeline=row.timeline(), events=row.events, agent_audio=audio[0], user_audio=audio[1],
            codes=self._codes(row),
        )  # fmt: skip

    def _codes(self, row: Row) -> NDArray[np.integer] | None:
        return self.tokens.codes(row.id) if self.tokens is not None and row.id in self.tokens else None

    def _waveform(self, row: Row, side: int) -> LazyWaveform | None:
        if row.clip is not None:
            return partial(_clip_waveform, self.folder / row.clip, side)
        sound = row.sounds[side]
        return None if sound is None else partial(_sound_waveform, sound, row.offset, row.offset + row.end)


def _clip_waveform(path: Path, side: int) -> Waveform:
    from duologue.audio.wave import read_audio

    audio = read_audio(path)
    return audio.channel(side).samples[0], audio.rate


def _sound_waveform(sound: SoundRef, start: float, end: float) -> Waveform:
    from duologue.corpus.sound import read_sound

    audio = read_sound(sound, start, end)
    return audio.samples[0], audio.rate


def write_index(path: Path, rows: Iterable[Row]) -> None:
    """Write the index, whole or not at all, in bounded memory; the same rows make the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, stream = _schema(), iter(rows)
    with atomic_path(path) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer:
        while batch := [_record(row) for row in islice(stream, ROWS_AT_ONCE)]:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def read_table(path: Path) -> Any:
    """Read an index as an Arrow table. Errors: UserError, as `SegmentStore`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError("no segments here (no index.parquet)", place=path.parent, mend="make them with duologue mine")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"is no index that can be read: {error}", place=path, mend="mine it again") from None
    version = (table.schema.metadata or {}).get(b"duologue.segments", b"none").decode()
    if version != str(SCHEMA_VERSION):
        raise UserError(f"has version {version}, not {SCHEMA_VERSION}", place=path, mend="mine it again")
    return table


def _schema() -> Any:
    import pyarrow as pa

    times = pa.list_(pa.struct([("start", pa.float64()), ("end", pa.float64())]))
    words = pa.list_(pa.struct([("text", pa.string()), ("start", pa.float64()), ("end", pa.float64())]))
    event = pa.struct([("kind", pa.string()), ("start", pa.float64()), ("end", pa.float64()), ("side", pa.int8())])
    sound = pa.struct([("path", pa.string()), ("channel", pa.int32()), ("member", pa.string())])
    fields = [
        ("id", pa.string()), ("axis", pa.string()), ("corpus", pa.string()), ("conversation", pa.string()),
        ("key", pa.uint64()), ("user_side", pa.int8()), ("agent_speaker", pa.string()), ("user_speaker", pa.string()),
        ("offset", pa.float64()), ("start", pa.float64()), ("end", pa.float64()), ("rule", pa.string()),
        ("events", pa.list_(event)), ("agent_speech", times), ("user_speech", times), ("agent_words", words),
        ("user_words", words), ("agent_sound", sound), ("user_sound", sound), ("clip", pa.string()),
        ("info", pa.string()),
    ]  # fmt: skip
    return pa.schema(fields, metadata={"duologue.segments": str(SCHEMA_VERSION)})


_SAME = ("id", "axis", "corpus", "conversation", "key", "user_side", "offset", "start", "end", "rule", "clip")


def _record(row: Row) -> dict[str, Any]:
    """A row as the columns of `_schema`."""
    record: dict[str, Any] = {name: getattr(row, name) for name in _SAME}
    record["events"] = [e._asdict() for e in row.events]
    record["info"] = json.dumps(row.info, sort_keys=True)
    for i, side in enumerate(SIDES):
        words = row.words[i]
        record[f"{side}_speaker"] = row.speakers[i]
        record[f"{side}_speech"] = [{"start": a, "end": b} for a, b in row.speech[i]]
        record[f"{side}_words"] = None if words is None else [w._asdict() for w in words]
        record[f"{side}_sound"] = _plain_sound(row.sounds[i])
    return record


def _row(record: dict[str, Any]) -> Row:
    return Row(
        **{name: record[name] for name in _SAME},
        speakers=(record["agent_speaker"], record["user_speaker"]),
        events=tuple(ReferenceEvent(**e) for e in record["events"]),
        speech=(_times(record["agent_speech"]), _times(record["user_speech"])),
        words=(_words(record["agent_words"]), _words(record["user_words"])),
        sounds=(_sound(record["agent_sound"]), _sound(record["user_sound"])),
        info=json.loads(record["info"]),
    )


def _times(spans: Iterable[dict[str, float]]) -> Times:
    return tuple((s["start"], s["end"]) for s in spans)


def _words(words: Iterable[dict[str, Any]] | None) -> tuple[Word, ...] | None:
    return None if words is None else tuple(Word(**w) for w in words)


def _sound(value: dict[str, Any] | None) -> SoundRef | None:
    return None if value is None else SoundRef(**value | {"path": Path(value["path"])})


def _plain_sound(sound: SoundRef | None) -> dict[str, Any] | None:
    return None if sound is None else {"path": str(sound.path), "channel": sound.channel, "member": sound.member}
