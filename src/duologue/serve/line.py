"""What passes between the step thread and the rest: lines (a conversation as the scheduler sees it) and reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from duologue.client.sound import Samples
from duologue.engine.engine import SlotMemory
from duologue.engine.prompts import Voice
from duologue.engine.sampling import Sampling
from duologue.serve.ear import Ear


class Phase(Enum):
    """Where a line stands."""

    NEW = "new"
    READING = "reading"
    """Its prompt is being read."""
    WAITING = "waiting"
    """For the first sound."""
    TALKING = "talking"
    PAUSED = "paused"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Line:
    """One conversation, as the scheduler sees it.

    `sampling`, `text_prompt` and `voice` do not change once it has joined; `ear` has a lock of its own; all else
    belongs to the step thread alone.
    """

    sampling: Sampling
    text_prompt: str
    voice: Voice | None
    ear: Ear
    slot: int = -1
    phase: Phase = Phase.NEW
    since: float = 0.0
    """When it began to wait for sound."""
    calls: int = 0
    """Frames of the talk so far."""
    memory: SlotMemory | None = None
    """Of its prompt."""
    paused: Phase = Phase.NEW
    """What it was when it was paused."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The prompt is read: the talk can begin."""

    line: Line
    prompt_frames: int


@dataclass(frozen=True, slots=True)
class Spoken:
    """One frame of a talk."""

    line: Line
    call: int
    """Number of the frame, from 0."""
    sound: Samples
    """[frame], the agent's: heard in the frame after this one."""
    token: int
    """The text of the frame that sounds, below 0 if there is none."""
    heard: Samples | None
    """[frame], what the model was given of the user; None: silence."""
    late: float
    """Seconds by which the frame was ready too late to be heard in its time."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A line was given up."""

    line: Line
    reason: str
    mistake: bool
    """Whether the client could mend it."""


Report = Ready | Spoken | Failed
