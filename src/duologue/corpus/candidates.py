"""From conversations to candidate segments: who speaks when, each axis' finder, each speaker once as the user.

No sound is touched where the corpus says who speaks when; elsewhere speech is detected, many channels at once.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from duologue.audio.vad import UNPADDED, VadConfig, detect_speech
from duologue.audio.wave import Audio
from duologue.axes import AXES
from duologue.axes.finding import AxisConfig, Found
from duologue.base.errors import UserError
from duologue.corpus.conversation import Conversation, Read, Rejected, SoundRef
from duologue.corpus.reservoir import Candidate, Reservoir, key_of
from duologue.corpus.store import Row
from duologue.corpus.tally import Tally
from duologue.dialogue.intervals import merge
from duologue.dialogue.timeline import Timeline, Track

SpeechSource = Literal["metadata", "words", "vad"]

_TOGETHER_S = 3600.0
"""Seconds of sound that are in memory at once while speech is detected (a longer conversation is alone)."""


class SoundReader(Protocol):
    """Reads a stretch of one channel; `end` None is the end of the sound. Errors: UserError."""

    def __call__(self, ref: SoundRef, start: float, end: float | None) -> Audio: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningConfig:
    """What is selected, and how many of it."""

    axes: tuple[str, ...] = tuple(AXES)
    """Names of the axes."""
    settings: Mapping[str, AxisConfig] = field(default_factory=dict)
    """Thresholds by axis; the paper's for those that are left out."""
    per_axis: int = 2000
    """Most segments of each axis, drawn evenly from all that are found (2,000 in the paper)."""
    seed: int = 0
    """Of that draw."""
    context_s: float = 30.0
    """Most seconds before a segment that are kept with it as context."""
    speech: SpeechSource = "metadata"
    """What counts as speech. metadata: what the corpus says, or else its words, or else what a detector finds; words:
    its words alone; vad: what a detector finds, alone."""
    word_gap_s: float = 0.2
    """Where words stand for speech, those at most this far apart are one stretch of it: an inter-pausal unit."""
    vad: VadConfig = UNPADDED
    """How speech is detected: as in rollouts, without padding (precision and recall of both:
    `benchmarks/mining_by_ear.py`)."""

    def __post_init__(self) -> None:
        if not self.axes:
            raise UserError("no axis is named", place="--axes", mend=f"name some of {', '.join(AXES)}")
        for name in (*self.axes, *self.settings):
            if name not in AXES:
                raise UserError(f"{name!r} is no axis", place="--axes", mend=f"use {', '.join(AXES)}")
        if self.per_axis < 1:
            raise UserError(f"{self.per_axis} segments are none", place="--per-axis", mend="use 1 or more")
        for option, value in (("--context", self.context_s), ("--word-gap", self.word_gap_s)):
            if not 0 <= value < float("inf"):
                raise UserError(f"{value} is not a length in seconds", place=option, mend="use 0 or more")


@dataclass(frozen=True, slots=True)
class Block:
    """Some conversations to be searched, and per axis the key above which a candidate has lost already."""

    index: int
    reads: tuple[Read, ...]
    bounds: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a block gave."""

    index: int
    tally: Tally
    candidates: Mapping[str, list[Candidate]]


def search(block: Block, config: MiningConfig, read: SoundReader) -> Outcome:
    """Find the candidates of a block: a function of its arguments alone, for any process or machine."""
    samples = {axis: Reservoir(config.per_axis) for axis in config.axes}
    tally = Tally()
    for conversation, tracks in _with_tracks(block.reads, config, read, tally):
        seconds = conversation.duration
        tally.use(seconds)
        for user in (0, 1):
            timeline = Timeline(tracks[1 - user], tracks[user], seconds)
            for axis, sample in samples.items():
                found = AXES[axis].find(timeline, config.settings.get(axis))
                tally.find(axis, len(found))
                for one in found:
                    _offer(sample, block.bounds.get(axis), conversation, user, axis, one, timeline, config)
    return Outcome(block.index, tally, {axis: sample.kept() for axis, sample in samples.items()})


def pack(row: Row) -> bytes:
    """A row as a candidate's payload."""
    return zlib.compress(row.to_json(), 1)


def unpack(payload: bytes) -> Row:
    """What `pack` made."""
    return Row.from_json(zlib.decompress(payload))


def segment_id(conversation: str, corpus: str, axis: str, user: int, start: float) -> str:
    """A name that is unique, can be a file's, and tells its origin: "4a_2005-pause-1-0031250-9f3c2a"."""
    safe = re.sub(r"[^A-Za-z0-9.]+", "_", conversation).strip("._")[:60] or "conversation"
    mark = key_of(0, corpus, conversation, axis, user, repr(start)) & 0xFFFFFF
    return f"{safe}-{axis}-{user}-{round(start * 1000):07d}-{mark:06x}"


def _offer(
    sample: Reservoir,
    bound: int | None,
    conversation: Conversation,
    user: int,
    axis: str,
    found: Found,
    timeline: Timeline,
    config: MiningConfig,
) -> None:
    name = segment_id(conversation.id, conversation.corpus, axis, user, found.start)
    key = key_of(config.seed, conversation.corpus, conversation.id, axis, user, repr(found.start), repr(found.end))
    if (bound is None or key <= bound) and sample.accepts(key, name):
        sample.add(Candidate(key, name, pack(_row(name, key, conversation, user, axis, found, timeline, config))))


def _row(
    name: str,
    key: int,
    conversation: Conversation,
    user: int,
    axis: str,
    found: Found,
    timeline: Timeline,
    config: MiningConfig,
) -> Row:
    offset = max(0.0, found.start - config.context_s)
    cut = timeline.clipped(offset, found.end)
    sides = conversation.sides[1 - user], conversation.sides[user]
    speech = [tuple((a, b) for a, b in track.speech.tolist()) for track in cut.tracks]
    return Row(
        id=name, axis=axis, corpus=conversation.corpus, conversation=conversation.id, key=key, user_side=user,
        speakers=(sides[0].speaker, sides[1].speaker), offset=offset, start=found.start - offset,
        end=found.end - offset, rule=found.rule,
        events=tuple(e._replace(start=e.start - offset, end=e.end - offset) for e in found.events),
        speech=(speech[0], speech[1]), words=(cut.agent.words, cut.user.words),
        sounds=(sides[0].sound, sides[1].sound), info=dict(conversation.info),
    )  # fmt: skip


# ---- who speaks when ---------------------------------------------------------------------------------------------


def _with_tracks(
    reads: Sequence[Read], config: MiningConfig, read: SoundReader, tally: Tally
) -> Iterator[tuple[Conversation, tuple[Track, Track]]]:
    """Conversations with both tracks; the others are set aside with their reason."""
    unheard: list[tuple[Conversation, list[Track | None]]] = []
    for item in reads:
        tally.see(item)
        if isinstance(item, Rejected):
            continue
        known = [_known_track(item, side, config) for side in (0, 1)]
        if known[0] is not None and known[1] is not None:
            yield item, (known[0], known[1])
        elif config.speech == "words":
            tally.set_aside(item, "no words with times")
        elif any(item.sides[side].sound is None for side in (0, 1) if known[side] is None):
            tally.set_aside(item, "no speech times and no sound")
        else:
            unheard.append((item, known))
    for group in _groups(unheard):
        yield from _listen(group, config, read, tally)


def _known_track(conversation: Conversation, side: int, config: MiningConfig) -> Track | None:
    """A side's track as far as no sound is needed for it."""
    given = conversation.sides[side]
    if config.speech == "vad":
        return None
    if config.speech == "metadata" and given.speech is not None:
        return conversation.track(side)
    if given.words is None:
        return None
    spoken = Track.from_words(given.words)
    return Track(merge(spoken.speech, config.word_gap_s), spoken.words)


def _groups(
    unheard: Iterable[tuple[Conversation, list[Track | None]]],
) -> Iterator[list[tuple[Conversation, list[Track | None]]]]:
    group: list[tuple[Conversation, list[Track | None]]] = []
    seconds = 0.0
    for conversation, known in unheard:
        if group and seconds + 2 * conversation.duration > _TOGETHER_S:
            yield group
            group, seconds = [], 0.0
        group.append((conversation, known))
        seconds += 2 * conversation.duration
    if group:
        yield group


def _listen(
    group: Sequence[tuple[Conversation, list[Track | None]]], config: MiningConfig, read: SoundReader, tally: Tally
) -> Iterator[tuple[Conversation, tuple[Track, Track]]]:
    """Detect the speech of the sides whose track is not known, all of a group at once."""
    audios: list[Audio] = []
    heard: list[tuple[Conversation, list[Track | None]]] = []
    for conversation, known in group:
        sounds = [side.sound for side, track in zip(conversation.sides, known, strict=True) if track is None]
        try:
            audios += [read(sound, 0.0, None) for sound in sounds if sound is not None]
        except UserError as error:
            tally.set_aside(conversation, "sound cannot be read", str(error))
            continue
        heard.append((conversation, known))
    speech = iter(detect_speech(audios, config.vad))
    for conversation, known in heard:
        tracks = [
            Track.of(next(speech), side.words) if track is None else track
            for side, track in zip(conversation.sides, known, strict=True)
        ]
        yield conversation, (tracks[0], tracks[1])
