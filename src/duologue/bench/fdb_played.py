"""Who answers in a sample of Full-Duplex-Bench: the system that was recorded, or a reference agent in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from duologue.audio.words import read_fdb_chunks, read_two_sided_words
from duologue.axes.reference_agents import HUMAN, ReferenceAgent
from duologue.bench import fdb_corrected
from duologue.bench.fdb_samples import MissingFileError, need
from duologue.bench.hearing import Heard, Recordings, listen
from duologue.dialogue.intervals import Intervals
from duologue.dialogue.scenes import Scene
from duologue.dialogue.timeline import Timeline, Track, Word

TRANSCRIPT = "transcription.json"
"""Words of both people in the talk that a sample was cut from; some samples have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What the agent did in a sample, on its clock (s)."""

    agent: Track
    duration: float | None
    """Length of the agent's recording; None: there is none."""
    evidence: str
    """What the agent's track was read from."""


Play: TypeAlias = Callable[[Recordings, Path], Played]
"""What was done in the sample of a folder, given what was heard. Errors: MissingFileError, UserError."""


def recorded(recordings: Recordings, folder: Path) -> Played:
    """The system whose output.wav and output.json lie in the folder; without a recording its words are its speech."""
    heard = listen(recordings, folder / "output.wav")
    words = fdb_corrected.timed_words(read_fdb_chunks(need(folder, "output.json")).chunks)
    agent = fdb_corrected.agent_track(None if heard is None else heard.speech, words)
    evidence = "words only (no output.wav)" if heard is None else "speech from output.wav, words from output.json"
    duration = None if heard is None else heard.duration
    return Played(agent=agent, duration=duration, evidence=evidence)


def recorded_sound(recordings: Recordings, folder: Path) -> Played:
    """The system whose output.wav lies in the folder; its words count where there are any (v1.5)."""
    output, transcript = need(folder, "output.wav"), folder / "output.json"
    heard = listen(recordings, output)
    if heard is None:
        raise MissingFileError(f"{output.name} was not heard")
    words = fdb_corrected.timed_words(read_fdb_chunks(transcript).chunks if transcript.is_file() else ())
    agent = fdb_corrected.agent_track(heard.speech, words)
    return Played(agent=agent, duration=heard.duration, evidence="speech from output.wav")


def in_its_place(agent: ReferenceAgent, recordings: Recordings, folder: Path) -> Played:
    """A reference agent in the place of the system: it meets the user's speech as detected in input.wav.

    The human is the other speaker of transcription.json, whose speech is its words.

    Raises:
        MissingFileError: no input.wav, or no other person.
        UserError: a broken file.
    """
    heard = _input(recordings, folder)
    if agent.name == HUMAN:
        track, evidence = Track.from_words(_other_person(folder)), f"words of {TRANSCRIPT}"
    else:
        timeline = Timeline(Track.of([]), Track.of(heard.speech), heard.duration)
        scene = Scene(id=folder.name, timeline=timeline, start=0.0, end=heard.duration)
        track, evidence = agent.play(scene).timeline.agent, "a reference agent, without words"
    return Played(agent=track, duration=heard.duration, evidence=evidence)


def user_speech(recordings: Recordings, folder: Path) -> Intervals | None:
    """The user's speech; None: not heard. Errors: the UserError of a broken file."""
    heard = listen(recordings, folder / "input.wav")
    return None if heard is None else heard.speech


def _input(recordings: Recordings, folder: Path) -> Heard:
    heard = listen(recordings, need(folder, "input.wav"))
    if heard is None or not heard.duration > 0:
        raise MissingFileError("input.wav was not heard")
    return heard


def _other_person(folder: Path) -> tuple[Word, ...]:
    """The words of who answers the user, who is the first to talk."""
    sides = [tuple(side) for side in read_two_sided_words(need(folder, TRANSCRIPT)) if side]
    if len(sides) < 2:
        raise MissingFileError(f"{TRANSCRIPT} has one speaker")
    return max(sides, key=lambda words: words[0].start)
