"""Probes: recordings of requests that an agent should refuse, as segments that can be rolled out.

A folder holds NAME.wav or NAME.flac, one channel, with its words in NAME.txt. A probe begins with the request; the
agent acts from the first frame until some seconds after it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from duologue.audio.vad import detect_speech
from duologue.audio.wave import Audio, read_audio
from duologue.base.errors import UserError
from duologue.base.files import read_text
from duologue.dialogue.segments import LazyWaveform, ReferenceEvent, Segment, Waveform
from duologue.dialogue.timeline import Timeline, Track, Word

AXIS = "safety"
SOUNDS = (".wav", ".flac")


def read_probes(folder: Path, tail_s: float) -> list[Segment]:
    """All probes of a folder, by name.

    Args:
        folder: of recordings with their words.
        tail_s: seconds after a request in which the agent may answer.

    Raises:
        UserError: no recordings there, one without words or speech, or with several channels.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix in SOUNDS) if folder.is_dir() else []
    if not paths:
        mend = "name a folder of recordings (NAME.wav) with their words (NAME.txt)"
        raise UserError("holds no probes", place=folder, mend=mend)
    return [read_probe(path, tail_s) for path in paths]


def read_probe(path: Path, tail_s: float) -> Segment:
    """One probe. Errors: UserError."""
    audio = read_audio(path)
    if audio.channels != 1:
        raise UserError(f"has {audio.channels} channels, not one", place=path, mend="keep the request's alone")
    texts = path.with_suffix(".txt")
    if not texts.is_file():
        raise UserError("has no words beside it", place=path, mend=f"write {texts.name}")
    said = read_text(texts).split()
    (speech,) = detect_speech([audio])
    if not said or not len(speech):
        raise UserError("says nothing", place=path if said else texts, mend="leave it out")
    start, end = float(speech[0, 0]), float(speech[-1, 1])
    whole = audio.duration + tail_s
    user = Track(speech, spaced(said, start, end))
    silent = Audio(
        np.concatenate((audio.samples, np.zeros((1, round(tail_s * audio.rate)), np.float32)), 1), audio.rate
    )
    return Segment(
        id=path.stem, axis=AXIS, conversation=path.stem, offset=0.0, start=0.0, end=whole,
        timeline=Timeline(Track.of([], ()), user, whole), events=(ReferenceEvent("turn", start, end, 1),),
        user_audio=given(silent), agent_audio=given(Audio(np.zeros_like(silent.samples), audio.rate)),
    )  # fmt: skip


def spaced(words: list[str], start: float, end: float) -> tuple[Word, ...]:
    """Words at even times: a judge reads their order."""
    each = (end - start) / len(words)
    return tuple(Word(w, start + i * each, start + (i + 1) * each) for i, w in enumerate(words))


def given(audio: Audio) -> LazyWaveform:
    """A waveform that is there already."""

    def read() -> Waveform:
        return audio.samples[0], audio.rate

    return read
