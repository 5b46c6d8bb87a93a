"""Words for samples that have none: a recogniser hears the recordings and writes the transcripts beside them.

Matched: v1_v1.5/get_transcript/asr.py of Full-Duplex-Bench at d7336bd. In the interruption task the answer is heard
from the interruption's end on, and the times are shifted back: words before it never exist in that transcript.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from duologue.audio.wave import Audio, read_audio
from duologue.audio.words import Recogniser, write_words
from duologue.base.errors import UserError
from duologue.bench.fdb_samples import read_interruption
from duologue.dialogue.timeline import Word

BLOCK = 16
"""Recordings heard before their transcripts are written: what a kill can cost."""
NEEDED = {
    "timing": (),
    "behavior": ("output", "clean_output", "input", "clean_input"),
    "before_after": ("output", "clean_output"),
}
"""The recordings of a sample whose words a task reads; output alone for the tasks that are not here."""


@dataclass(frozen=True, slots=True)
class Job:
    """A recording without a transcript: where that goes, and from which second on the recording is heard."""

    recording: Path
    transcript: Path
    start: float


def missing_words(folders: Sequence[Path], task: str) -> list[Job]:
    """The recordings whose words the task needs and that have no transcript.

    A sample whose event file is broken is passed over: scoring gives it its status.
    """
    jobs = []
    for folder in folders:
        for stem in NEEDED.get(task, ("output",)):
            recording, transcript = folder / f"{stem}.wav", folder / f"{stem}.json"
            if recording.is_file() and not transcript.exists():
                try:
                    start = read_interruption(folder / "interrupt.json").end if task == "user_interruption" else 0.0
                except UserError:
                    continue
                jobs.append(Job(recording, transcript, start))
    return jobs


def write_missing_words(jobs: Sequence[Job], recogniser: Recogniser) -> int:
    """Recognise and write; returns how many were written. Recordings that cannot be read are passed over."""
    written = 0
    for block in _readable(jobs):
        found = recogniser.transcribe([audio for _, audio in block])
        for (job, _), words in zip(block, found, strict=True):
            write_words(job.transcript, [Word(w.text, w.start + job.start, w.end + job.start) for w in words])
            written += 1
    return written


def _readable(jobs: Sequence[Job]) -> Iterator[list[tuple[Job, Audio]]]:
    for first in range(0, len(jobs), BLOCK):
        block = []
        for job in jobs[first : first + BLOCK]:
            try:
                audio = read_audio(job.recording).mono()
            except UserError:
                continue
            block.append((job, Audio(audio.samples[:, int(job.start * audio.rate) :], audio.rate)))
        if block:
            yield block
