"""Synthetic speech on its way into a conversation: what a voice gives, and where a plan puts it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from duologue.dialogue.timeline import Word

Kind: TypeAlias = Literal["turn", "backchannel", "filler", "interruption", "false_start"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """One stretch of synthetic speech of one voice, beginning and ending with speech (silence is cut off)."""

    text: str
    words: tuple[Word, ...]
    """With times in seconds from its beginning; the last ends at `duration`."""
    samples: NDArray[np.float32] | None = None
    """[S]; None where only the timing is wanted."""
    rate: int = 24_000

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.words[-1].end if self.words else 0.0


class Voice(Protocol):
    """Speaks. One voice is one person: the same name and seed always sound alike."""

    @property
    def name(self) -> str:
        """Unique: engine, voice and changes to it, such as "pico/en-US@1.08"."""

    @property
    def licence(self) -> str:
        """Of the sound that it makes."""

    def speak(self, text: str) -> Spoken:
        """Say a text. Errors: UserError, the engine is not installed or refuses the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A stretch of speech at its place in a conversation."""

    side: int
    """0 agent, 1 user."""
    start: float
    """Seconds from the beginning of the conversation."""
    spoken: Spoken
    kind: Kind = "turn"
    until: float | None = None
    """Seconds of it that are heard, if it is cut off (a yield, a false start)."""
    fade: float = 0.0
    """Seconds over which it trails off before `until`."""

    @property
    def end(self) -> float:
        """Seconds from the beginning of the conversation."""
        return self.start + (self.spoken.duration if self.until is None else self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole conversation before it is rendered. Silences inside a turn are between its stretches."""

    id: str
    duration: float
    placed: tuple[Placed, ...]
    """In order of start."""
    voices: tuple[str, str]
    """Names of the agent's and the user's voice."""
    seed: int
    truth: dict[str, float] = field(default_factory=dict)
    """What was asked for: rates and knobs."""
