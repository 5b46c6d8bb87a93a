"""A user who reacts: it waits for the agent to end, pauses, nods, breaks in and falls silent, by a fixed plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from duologue.base.errors import UserError
from duologue.corpus.render import RATE, levelled_to
from duologue.corpus.scenarios import FRAME_S, Act, Scenario
from duologue.corpus.spoken import Spoken, Voice
from duologue.dialogue.timeline import Track, Word

FRAME = round(FRAME_S * RATE)
"""Samples in a frame."""
BRIDGE = 5
"""Frames of the agent's silence (0.4 s) that do not end its stretch of talk."""
TURN = 8
"""Frames (0.64 s) that the agent must speak since the user's last act before its silence is the end of a turn: less is
a backchannel."""
Lengths: TypeAlias = tuple[tuple[int, ...], ...]
"""Frames of each part of each act."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What to play in one frame: frame `frame` of part `part` of act `act`."""

    act: int
    part: int
    frame: int
    last: bool = False
    """The user yields here: fade out within the frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that the user did: the ground truth of a live test."""

    frame: int
    act: int
    what: Literal["begins", "pauses", "goes_on", "ends", "yields", "leaves_out", "falls_silent", "comes_back", "leaves"]
    impatient: bool = False
    """It began because its patience was over, not at its cue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserState:
    """All that the scripted user remembers between frames."""

    frame: int = 0
    act: int = 0
    phase: Literal["waiting", "speaking", "pausing", "over"] = "waiting"
    part: int = 0
    at: int = 0
    """Frames since the phase, or in speaking the part, began."""
    spoke: int = 0
    """Frames that the agent spoke since the act before ended."""
    run: int = 0
    """Length of the agent's stretch of talk so far, short silences included; 0 if it is silent."""
    quiet: int = 0
    """Frames since the agent last spoke."""
    bored: int = 0
    """Frames of waiting in which the agent said nothing."""
    overlap: int = 0
    """Frames in a row that both spoke."""


def advance(
    scenario: Scenario, lengths: Lengths, state: UserState, agent_active: bool
) -> tuple[UserState, Play | None, tuple[Event, ...]]:
    """One frame: from what the agent did in the frame before to what the user plays in this one. A pure function.

    Args:
        scenario: what the user does.
        lengths: frames of every part (see `lengths_of`).
        state: as the last call gave it; `UserState()` at first.
        agent_active: whether the agent spoke in the frame before.

    Returns:
        The state after the frame, what is played in it (None: silence), and what happened.
    """
    now = replace(_hear(state, agent_active), frame=state.frame + 1)
    if state.phase == "over":
        return now, None, ()
    if state.frame >= _frames(scenario.limit):
        return replace(now, phase="over"), None, (_event(now, "leaves", impatient=True),)
    if state.act == len(scenario.acts):
        if now.at + 1 < _frames(scenario.tail):
            return replace(now, at=now.at + 1), None, ()
        return replace(now, phase="over"), None, (_event(now, "leaves"),)
    act = scenario.acts[state.act]
    if act.kind == "silence":
        return _keep_silent(now, act)
    if state.phase == "speaking":
        return _speak(scenario, lengths, now, agent_active, ())
    if state.phase == "pausing":
        if state.at < _frames(act.pauses[state.part]):
            return replace(now, at=now.at + 1), None, ()
        now = replace(now, phase="speaking", part=now.part + 1, at=0)
        return _speak(scenario, lengths, now, agent_active, (_event(now, "goes_on"),))
    return _await(scenario, lengths, now, act, agent_active)


def _hear(state: UserState, active: bool) -> UserState:
    """Follow the agent's talk."""
    quiet = 0 if active else state.quiet + 1
    run = state.run + 1 if active or (state.run and quiet <= BRIDGE) else 0
    both = state.overlap + 1 if active and state.phase == "speaking" else 0
    return replace(state, quiet=quiet, run=run, overlap=both, spoke=state.spoke + active)


def _await(
    scenario: Scenario, lengths: Lengths, now: UserState, act: Act, active: bool
) -> tuple[UserState, Play | None, tuple[Event, ...]]:
    """Wait for the cue; act on it, or on impatience."""
    wait = _frames(act.wait)
    if act.cue == "now":
        met = now.at >= wait
    elif act.cue == "turn_end":
        met = now.spoke >= TURN and now.quiet >= max(wait, 1)
    else:
        met = active and min(now.run, now.spoke) >= wait
    tired = not met and act.cue != "now" and now.bored >= _frames(act.patience)
    if tired and act.kind == "backchannel":
        return _next(now), None, (_event(now, "leaves_out", impatient=True),)
    if not met and not tired:
        return replace(now, at=now.at + 1, bored=now.bored + (now.run == 0 and not active)), None, ()
    now = replace(now, phase="speaking", part=0, at=0, overlap=0)
    return _speak(scenario, lengths, now, False, (_event(now, "begins", impatient=tired),))


def _speak(
    scenario: Scenario, lengths: Lengths, now: UserState, active: bool, before: tuple[Event, ...]
) -> tuple[UserState, Play | None, tuple[Event, ...]]:
    """Play a frame of the part; go on to the pause, or the next act, at its end."""
    act, play = scenario.acts[now.act], Play(act=now.act, part=now.part, frame=now.at)
    if scenario.yields is not None and act.kind == "turn" and active and now.overlap >= _frames(scenario.yields):
        return _next(now), replace(play, last=True), (*before, _event(now, "yields"))
    if now.at + 1 < lengths[now.act][now.part]:
        return replace(now, at=now.at + 1), play, before
    if now.part + 1 < len(act.parts):
        return replace(now, phase="pausing", at=0), play, (*before, _event(now, "pauses"))
    return _next(now), play, (*before, _event(now, "ends"))


def _keep_silent(now: UserState, act: Act) -> tuple[UserState, Play | None, tuple[Event, ...]]:
    began = (_event(now, "falls_silent"),) if now.at == 0 else ()
    if now.at + 1 < _frames(act.wait):
        return replace(now, at=now.at + 1), None, began
    return _next(now), None, (*began, _event(now, "comes_back"))


def _next(now: UserState) -> UserState:
    """Wait for the act after this one; what the agent does from here on counts."""
    return replace(now, act=now.act + 1, phase="waiting", part=0, at=0, spoke=0, bored=0, overlap=0)


def _event(now: UserState, what: str, *, impatient: bool = False) -> Event:
    # `now.frame` is already that of the next call.
    return Event(frame=now.frame - 1, act=now.act, what=what, impatient=impatient)  # type: ignore[arg-type]


def _frames(seconds: float) -> int:
    return round(seconds / FRAME_S)


class ScriptedUser:
    """A scripted user in a live conversation: state, voice and diary.

    Args:
        scenario: what it does.
        voice: speaks its lines, once, now; a voice without sound gives timing only.
        level: loudness of every stretch, in LUFS.
    """

    def __init__(self, scenario: Scenario, voice: Voice | None = None, *, level: float = -24.0) -> None:
        if voice is None:
            from duologue.corpus.mockvoice import MockVoice

            voice = MockVoice(seed=scenario.subject)
        self.scenario = scenario
        self.spoken = tuple(tuple(voice.speak(text) for text in act.parts) for act in scenario.acts)
        self.lengths = lengths_of(self.spoken)
        self.state = UserState()
        self.events: list[Event] = []
        self.played: list[Play | None] = []
        self._sounds: dict[tuple[int, int], NDArray[np.float32]] = {}
        self._level = level

    @property
    def over(self) -> bool:
        """Whether it has left."""
        return self.state.phase == "over"

    def step(self, agent_active: bool, frame: int) -> Play | None:
        """What to play in frame `frame` (80 ms), given whether the agent spoke in the frame before.

        Errors: ValueError, frames were left out or came twice.
        """
        if frame != self.state.frame:
            raise ValueError(f"frame {frame} given, {self.state.frame} expected")
        self.state, play, events = advance(self.scenario, self.lengths, self.state, agent_active)
        self.played.append(play)
        self.events += events
        return play

    def sound(self, play: Play | None) -> NDArray[np.float32]:
        """The samples [1920] of a frame, at 24 kHz. Errors: UserError, the voice makes no sound."""
        if play is None:
            return np.zeros(FRAME, np.float32)
        key = (play.act, play.part)
        if key not in self._sounds:
            spoken = self.spoken[play.act][play.part]
            if spoken.samples is None or spoken.rate != RATE:
                raise UserError(f"the voice of {self.scenario.id} has no sound at {RATE} Hz", mend="use another voice")
            self._sounds[key] = levelled_to(spoken.samples, self._level)
        piece = self._sounds[key][play.frame * FRAME : (play.frame + 1) * FRAME]
        piece = np.pad(piece, (0, FRAME - len(piece)))
        return piece * np.linspace(1, 0, FRAME, dtype=np.float32) if play.last else piece

    def track(self) -> Track:
        """What the user said so far: words and speech in seconds, yields cut off."""
        words: list[Word] = []
        for frame, play in enumerate(self.played):
            if play is not None and play.frame == 0:
                begun = frame * FRAME_S
                end = (frame + _run(self.played[frame:])) * FRAME_S
                for w in self.spoken[play.act][play.part].words:
                    if begun + w.start < end:
                        words.append(Word(w.text, begun + w.start, min(begun + w.end, end)))
        return Track.from_words(words)


def user_for(scenario: Scenario, voice_of: Callable[[str], Voice]) -> ScriptedUser:
    """The user of a scenario with its own voice, such as `lambda name: find_voice(name, cache_folder=...)`."""
    return ScriptedUser(scenario, voice_of(scenario.voice))


def lengths_of(spoken: Sequence[Sequence[Spoken]]) -> Lengths:
    """Frames of every part, the last one filled up; one at least."""
    return tuple(tuple(max(1, ceil(s.duration / FRAME_S - 1e-9)) for s in parts) for parts in spoken)


def _run(played: Sequence[Play | None]) -> int:
    """How many frames the part that begins here was played."""
    first = played[0]
    same = 0
    for play in played:
        if play is None or first is None or (play.act, play.part, play.frame) != (first.act, first.part, same):
            break
        same += 1
    return same
