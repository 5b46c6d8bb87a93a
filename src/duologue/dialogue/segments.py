"""Segments: stretches of recorded conversations that put one interactivity axis to the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from duologue.dialogue.timeline import Timeline

Waveform: TypeAlias = tuple[NDArray[np.float32], int]
"""float32 samples in [-1, 1], [S] for one side or [2, S] for both, and their rate in Hz."""

LazyWaveform: TypeAlias = Callable[[], Waveform]
"""Reads or makes a waveform when called; the caller keeps it or not."""


class ReferenceEvent(NamedTuple):
    """Something the human did whose place the agent takes: what kind, when (seconds), `side` 0 agent or 1 user."""

    kind: str
    start: float
    end: float
    side: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One stretch of a conversation, cut for one axis.

    Time is in seconds from the beginning of the context, which lies at `offset` in the conversation. The model hears
    [0, start) as context and acts in [start, end]. `timeline` covers [0, end]; its `agent` is the human whose place the
    model takes, and both tracks hold their words where they are known.

    Raises:
        ValueError: not 0 <= start < end, or the timeline is shorter than `end`.
    """

    id: str
    axis: str
    conversation: str
    offset: float
    start: float
    end: float
    timeline: Timeline
    events: tuple[ReferenceEvent, ...] = ()
    user_audio: LazyWaveform | None = None
    agent_audio: LazyWaveform | None = None
    codes: NDArray[np.integer] | None = None
    """Codec tokens of both sides [K, T], un-delayed, when they are cached."""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"segment {self.id}: span {self.start} to {self.end} is not within its context")
        if self.timeline.duration < self.end - 1e-6:
            raise ValueError(f"segment {self.id}: timeline of {self.timeline.duration} s ends before {self.end} s")
