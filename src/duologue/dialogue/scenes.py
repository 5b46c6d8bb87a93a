"""Scenes: what a reward or a metric sees of a rollout, a live talk or a recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from duologue.dialogue.segments import LazyWaveform, ReferenceEvent, Segment
from duologue.dialogue.timeline import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Both timelines with their words, the scored span, and what the human did there.

    Seconds, as in the segment that it came from. Speech detection and recognition happened before, once per batch;
    `words=None` in a track means that nobody transcribed that side. Waveforms are read only when asked for.

    Raises:
        ValueError: not 0 <= start < end.
    """

    id: str
    timeline: Timeline
    start: float
    end: float
    events: tuple[ReferenceEvent, ...] = ()
    agent_audio: LazyWaveform | None = None
    user_audio: LazyWaveform | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"scene {self.id}: span {self.start} to {self.end} is not a stretch of time")

    @classmethod
    def of(cls, segment: Segment) -> Scene:
        """What the two people did in a segment."""
        return cls(
            id=segment.id, timeline=segment.timeline, start=segment.start, end=segment.end, events=segment.events,
            agent_audio=segment.agent_audio, user_audio=segment.user_audio,
        )  # fmt: skip

    def within_span(self) -> Timeline:
        """The timeline of the scored span alone, with its beginning as zero."""
        return self.timeline.clipped(self.start, self.end)


Reward: TypeAlias = Callable[[Scene], dict[str, float]]
"""Named rewards of a scene; NaN = could not be scored."""
