"""Two-channel recordings as timelines: files and transcripts in, who speaks when out, with warnings about the sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from duologue.audio.vad import VadConfig, detect_speech
from duologue.audio.wave import Audio, read_audio
from duologue.audio.words import Recogniser, Sides, Words, read_two_sided_words, read_words
from duologue.base.errors import UserError
from duologue.base.progress import track
from duologue.dialogue.segments import Waveform
from duologue.dialogue.timeline import Timeline, Track

SpeechSource = Literal["vad", "words"]

BLOCK = 8
"""Recordings in memory at once."""
SILENT_PEAK = 10 ** (-60 / 20)
SAME_CORRELATION = 0.98


@dataclass(frozen=True, slots=True)
class Recording:
    """Where a conversation is: one two-channel file or two mono files, in the order (side 0, side 1).

    `channels[side]` is a file and the number of its channel; `words[side]` a transcript of that side alone, or
    `both_words` one of both sides of which the first belongs to channel 0.
    """

    name: str
    channels: tuple[tuple[Path, int], tuple[Path, int]]
    words: tuple[Path | None, Path | None] = (None, None)
    both_words: Path | None = None
    given_words: bool = True
    """The transcripts were named by the user, and not just found beside the sound."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A recording that was heard: its timeline, and what makes its numbers doubtful."""

    recording: Recording
    timeline: Timeline
    warnings: tuple[str, ...]

    def sound(self) -> Waveform:
        """Both sides [2, S] and their rate, read anew."""
        sides = _read(self.recording)
        rate = max(a.rate for a in sides)
        rows = [a.resampled(rate).samples[0] for a in sides]
        longest = max(map(len, rows))
        return np.stack([np.pad(r, (0, longest - len(r))) for r in rows]), rate


def hear_conversations(
    recordings: Sequence[Recording],
    vad: VadConfig,
    speech: SpeechSource,
    sides: tuple[str, str],
    recogniser: Recogniser | None = None,
) -> Iterator[Conversation]:
    """Read recordings, find speech in each channel, and attach words where there are any.

    Args:
        recordings: what to read, in blocks of a few.
        vad: how speech is found.
        speech: "vad": speech is what the detector finds. "words": speech is the words, as in the human reference.
        sides: what to call the two sides in warnings.
        recogniser: hears the words of sides that have no transcript; None leaves them unknown.

    Raises:
        UserError: a file that cannot be read, has the wrong number of channels, or lacks the words that were asked for.
    """
    queue = iter(track(recordings, "listening"))
    while block := list(islice(queue, BLOCK)):
        heard = [_read(r) for r in block]
        found = detect_speech([a for pair in heard for a in pair], vad) if speech == "vad" else []
        transcribed = [_words(r) for r in block]
        if recogniser is not None:
            transcribed = _recognised(transcribed, heard, recogniser)
        for i, (recording, pair) in enumerate(zip(block, heard, strict=True)):
            words, notes = transcribed[i]
            if speech == "words":
                tracks = [Track.from_words(_needed(w, recording)) for w in words]
            else:
                tracks = [Track.of(s, w) for s, w in zip(found[2 * i : 2 * i + 2], words, strict=True)]
            ends = [w.end for t in tracks for w in t.words or ()]
            timeline = Timeline(tracks[0], tracks[1], max([a.duration for a in pair] + ends))
            notes += _doubts(pair, timeline, sides)
            yield Conversation(recording, timeline, tuple(notes))


def _read(recording: Recording) -> tuple[Audio, Audio]:
    (first, i), (second, j) = recording.channels
    one = read_audio(first)
    if first == second:
        if one.channels != 2:
            mend = "give a two-channel file, or two mono files with --pair" if one.channels == 1 else "keep two of them"
            raise UserError(f"has {_channels(one.channels)}, and a conversation has two", place=first, mend=mend)
        return one.channel(i), one.channel(j)
    two = read_audio(second)
    for path, audio in ((first, one), (second, two)):
        if audio.channels != 1:
            mend = "give one mono file for each speaker, or leave out --pair"
            raise UserError(f"has {_channels(audio.channels)}", place=path, mend=mend)
    return one, two


def _channels(n: int) -> str:
    return "1 channel" if n == 1 else f"{n} channels"


def _words(recording: Recording) -> tuple[Sides, list[str]]:
    """Both sides' words. A file found beside the sound that is no transcript is passed over, and that is said."""
    try:
        if recording.both_words is not None:
            both = read_two_sided_words(recording.both_words)
            ordered = tuple(both[channel] for _, channel in recording.channels)
            return (ordered[0], ordered[1]), []
        one, two = (None if path is None else read_words(path) for path in recording.words)
    except UserError as error:
        if recording.given_words:
            raise
        return (None, None), [f"not used as a transcript: {error}"]
    return (one, two), []


def _recognised(
    transcribed: Sequence[tuple[Sides, list[str]]], heard: Sequence[tuple[Audio, Audio]], recogniser: Recogniser
) -> list[tuple[Sides, list[str]]]:
    """Fill in the words of sides that have none."""
    wanted = [(i, side) for i, (words, _) in enumerate(transcribed) for side in (0, 1) if words[side] is None]
    found = dict(zip(wanted, recogniser.transcribe([heard[i][side] for i, side in wanted]), strict=True))
    return [
        ((found.get((i, 0), words[0]), found.get((i, 1), words[1])), notes)
        for i, (words, notes) in enumerate(transcribed)
    ]


def _needed(words: Words | None, recording: Recording) -> Words:
    if words is None:
        mend = "give a transcript of both sides with --words, or leave out --speech words"
        raise UserError("no words of one side", place=recording.name, mend=mend)
    return words


def _doubts(sides: tuple[Audio, Audio], timeline: Timeline, names: tuple[str, str]) -> list[str]:
    """Signs that a file is not one speaker per channel."""
    notes = []
    peaks = [float(np.abs(a.samples).max()) for a in sides]
    for name, peak, side in zip(names, peaks, timeline.tracks, strict=True):
        if peak < SILENT_PEAK:
            notes.append(f"{name} is silent (peak {20 * np.log10(max(peak, 1e-10)):.0f} dBFS)")
        elif len(side.speech) == 0:
            notes.append(f"no speech was found in {name}")
    if min(peaks) >= SILENT_PEAK and (likeness := _likeness(sides)) > SAME_CORRELATION:
        notes.append(f"both channels hold the same sound (correlation {likeness:.3f}): not one speaker per channel")
    lengths = [a.duration for a in sides]
    if abs(lengths[0] - lengths[1]) > 1.0:
        notes.append(
            f"the files last {lengths[0]:.1f} s and {lengths[1]:.1f} s; the shorter counts as silent after its end"
        )
    return notes


def _likeness(sides: tuple[Audio, Audio]) -> float:
    """Correlation of the two waveforms at lag 0; 0 when their rates differ."""
    if sides[0].rate != sides[1].rate:
        return 0.0
    n = min(a.samples.shape[1] for a in sides)
    x, y = (a.samples[0, :n].astype(np.float64) for a in sides)
    return float(abs(x @ y)) / max(float(np.sqrt((x @ x) * (y @ y))), 1e-20)
