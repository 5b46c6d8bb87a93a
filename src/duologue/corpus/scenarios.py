"""Two hundred fixed scenarios for the scripted user: the project's own live test set. Never train on them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from duologue.base.files import json_line
from duologue.corpus.scenario_lines import Subject, subjects

Axis: TypeAlias = Literal["pause", "turn_taking", "backchannel", "interruption", "silence"]
AXES: tuple[Axis, ...] = ("pause", "turn_taking", "backchannel", "interruption", "silence")
FRAME_S = 0.08
SCENARIOS_SHA256 = "cc93c0dad33625c0be776b266da870c7987f59666032c872a54fb588193a218f"
"""Of all scenarios as JSON. Results on other scenarios are results on another test set: a change needs a new name."""
_FEEDBACK = ("uh-huh", "yeah", "okay", "right", "oh", "mhm", "i see", "oh really")
_CLOSINGS = (
    "Sorry, I was lost in thought.", "Okay, I am back.", "Right, where were we?", "Sorry, somebody was at the door.",
    "Okay, let us go on.",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing that the user does when its cue comes."""

    kind: Literal["turn", "backchannel", "interruption", "silence"]
    parts: tuple[str, ...] = ()
    """What is said, in stretches."""
    pauses: tuple[float, ...] = ()
    """Seconds of silence between the stretches: the user holds the turn through them."""
    cue: Literal["now", "turn_end", "speaking"] = "now"
    """now: `wait` seconds after the act before; turn_end: `wait` seconds after the agent's turn ended; speaking: when
    the agent has spoken for `wait` seconds."""
    wait: float = 0.0
    """Seconds. Of a silence: how long it lasts, whatever the agent does."""
    patience: float = 6.0
    """Seconds without the cue after which the user speaks anyway, or leaves a backchannel out. The agent's own talk
    does not count towards it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One live test: who the user is, what they do, and what is looked at."""

    id: str
    axis: Axis
    """What it tests first; all of it can be measured on each."""
    subject: int
    """Which of the forty subjects."""
    voice: str
    """Name of the user's voice."""
    acts: tuple[Act, ...]
    yields: float | None
    """The user stops when the agent has talked over them for so many seconds; None: never."""
    tail: float
    """Seconds after the last act, for the agent's answer."""
    limit: float = 90.0
    """Seconds after which the user leaves, whatever happens: an agent that never stops gives no cue."""


@cache
def scenarios() -> tuple[Scenario, ...]:
    """All two hundred, forty for each axis, always the same: no random generator that could change is used."""
    return tuple(_scenario(axis, n) for axis in AXES for n in range(len(subjects())))


def fingerprint(made: tuple[Scenario, ...]) -> str:
    """SHA-256 of scenarios as JSON."""
    return hashlib.sha256(json_line(made)).hexdigest()


class _Draws:
    """Numbers from SHA-256 of a name and a count: the same in every version of everything."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def share(self) -> float:
        """From 0 to below 1."""
        digest = hashlib.sha256(f"{self._name}/{self._count}".encode()).digest()
        self._count += 1
        return int.from_bytes(digest[:6], "big") / 2**48

    def seconds(self, low: float, high: float) -> float:
        """Whole frames of 80 ms."""
        return round((low + (high - low) * self.share()) / FRAME_S) * 8 / 100

    def pick(self, things: tuple[str, ...]) -> str:
        return things[int(self.share() * len(things))]


def _scenario(axis: Axis, n: int) -> Scenario:
    draws, subject = _Draws(f"{axis}-{n}"), subjects()[n]
    pitch, tempo = 0.86 + int(draws.share() * 31) / 100, 0.92 + int(draws.share() * 19) / 100
    name = f"pico/{draws.pick(('en-US', 'en-GB'))}@{pitch:.2f}x{tempo:.2f}"
    acts = {
        "pause": _pause, "turn_taking": _turn_taking, "backchannel": _backchannel, "interruption": _interruption,
        "silence": _silence,
    }[axis](subject, subjects()[(n + 17) % len(subjects())], draws)  # fmt: skip
    yields = None if draws.share() < 0.5 else draws.seconds(0.8, 1.6)
    return Scenario(id=f"{axis}-{n:02d}", axis=axis, subject=n, voice=name, acts=acts, yields=yields, tail=6.0)


def _opening(text: str, draws: _Draws) -> Act:
    return Act(kind="turn", parts=(text,), wait=draws.seconds(0.5, 2.0))


def _reply(parts: tuple[str, ...], draws: _Draws, pauses: tuple[float, ...] = ()) -> Act:
    return Act(kind="turn", parts=parts, pauses=pauses, cue="turn_end", wait=draws.seconds(0.24, 0.96))


def _pause(subject: Subject, other: Subject, draws: _Draws) -> tuple[Act, ...]:
    """A request with a silence in its middle, then a longer turn with two."""
    first = Act(kind="turn", parts=subject.halves, pauses=(draws.seconds(0.8, 2.4),), wait=draws.seconds(0.5, 2.0))
    long = (draws.seconds(0.6, 1.6), draws.seconds(0.8, 2.4))
    return first, _reply(other.story[:3], draws, long)


def _turn_taking(subject: Subject, other: Subject, draws: _Draws) -> tuple[Act, ...]:
    """Short turns one after the other; the agent shall answer each, and soon."""
    told = " ".join((subject.story[0], subject.story[1]))
    return _opening(subject.question, draws), _reply((f"{told}.",), draws), _reply((other.question,), draws)


def _backchannel(subject: Subject, other: Subject, draws: _Draws) -> tuple[Act, ...]:
    """A story with short breaks, in which a listener nods; then the user nods at the agent's answer."""
    breaks = tuple(draws.seconds(0.24, 0.64) for _ in range(3))
    story = Act(kind="turn", parts=subject.story, pauses=breaks, wait=draws.seconds(0.5, 2.0))
    nods = tuple(
        Act(kind="backchannel", parts=(draws.pick(_FEEDBACK),), cue="speaking", wait=draws.seconds(1.2, 3.2))
        for _ in range(2)
    )
    return story, _reply((subject.question,), draws), *nods


def _interruption(subject: Subject, other: Subject, draws: _Draws) -> tuple[Act, ...]:
    """The user breaks into the agent's answer with something else, and once more."""
    first = Act(kind="interruption", parts=(subject.change,), cue="speaking", wait=draws.seconds(1.6, 4.8))
    second = Act(kind="interruption", parts=(other.question,), cue="speaking", wait=draws.seconds(2.4, 4.8))
    return _opening(subject.question, draws), first, second


def _silence(subject: Subject, other: Subject, draws: _Draws) -> tuple[Act, ...]:
    """The user asks, falls silent for a long time, and comes back."""
    quiet = Act(kind="silence", wait=draws.seconds(8.0, 14.0))
    back = Act(kind="turn", parts=(draws.pick(_CLOSINGS),), wait=0.0)
    return _opening(subject.question, draws), quiet, back, _reply((other.halves[0] + ".",), draws)
