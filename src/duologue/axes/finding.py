"""What all axes share: what a finder gives, thresholds that every axis has, and the line of utterances.

The criteria are those of arXiv 2606.11167: speech of one speaker merges into an utterance over silences of at most
1.0 s, and the utterances of both speakers stand in one line in order of their start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from duologue.base.errors import UserError
from duologue.dialogue.intervals import TOLERANCE_S, Intervals
from duologue.dialogue.segments import ReferenceEvent
from duologue.dialogue.timeline import Timeline
from duologue.dialogue.utterances import AlignmentRules, Utterance, alignment_utterances

AGENT, USER = 0, 1
"""Sides of a timeline; the user is the paper's X, the agent its Y, whose place the model takes."""


class Found(NamedTuple):
    """A stretch of a conversation that meets the criteria of an axis; seconds from the conversation's beginning."""

    start: float
    """Where the model begins to act."""
    end: float
    """Where it is last scored."""
    events: tuple[ReferenceEvent, ...]
    """What the two people did there, in order of start; side 0 is the human whose place the model takes."""
    rule: str
    """Why it was selected, in words and numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisConfig:
    """Thresholds that every axis has, in seconds."""

    least_s: float = 0.0
    """Least length of an utterance that counts: the paper's tau_min."""
    utterance_silence_s: float = 1.0
    """Speech of one speaker at most this far apart is one utterance; the silences inside are its pauses."""
    longest_s: float = math.inf
    """Longest span that is taken. The paper states no limit; a limit bounds the memory of rollouts."""

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if isinstance(value, float) and math.isnan(value):
                raise UserError(f"{value} is not a length in seconds", place=name, mend="use a number")
        for name in ("least_s", "utterance_silence_s", "longest_s"):
            if getattr(self, name) < 0:
                raise UserError(f"{getattr(self, name)} is not a length in seconds", place=name, mend="use 0 or more")


def utterances(timeline: Timeline, config: AxisConfig, side: int) -> list[Utterance]:
    """The utterances of one side, in order."""
    return alignment_utterances(
        timeline.tracks[side], side, AlignmentRules(utterance_silence_s=config.utterance_silence_s)
    )


def line_of_utterances(timeline: Timeline, config: AxisConfig) -> list[Utterance]:
    """The utterances of both sides in order of start; of two that start at once, the one that ends first."""
    return sorted((u for side in (AGENT, USER) for u in utterances(timeline, config, side)), key=lambda u: u[:3])


def pauses(timeline: Timeline, utterance: Utterance) -> Intervals:
    """The silences inside an utterance, [N, 2]."""
    speech = timeline.tracks[utterance.side].speech[utterance.first : utterance.stop]
    return np.stack([speech[:-1, 1], speech[1:, 0]], axis=1)


def speaks_within(speech: Intervals, start: float, end: float) -> bool:
    """Whether any of the sorted, disjoint `speech` lies in (start, end); touching an edge is not speaking within."""
    i = int(np.searchsorted(speech[:, 1], start + TOLERANCE_S, side="right"))
    return i < len(speech) and bool(speech[i, 0] < end - TOLERANCE_S)


def at_least(value: float, threshold: float) -> bool:
    """value >= threshold, but for rounding."""
    return value >= threshold - TOLERANCE_S


def at_most(value: float, threshold: float) -> bool:
    """value <= threshold, but for rounding."""
    return value <= threshold + TOLERANCE_S


def event(kind: str, utterance: Utterance) -> ReferenceEvent:
    """An utterance as a reference event."""
    return ReferenceEvent(kind, utterance.start, utterance.end, utterance.side)


def end_with_tail(timeline: Timeline, *, speech_end: float, answer_from: float, tail_s: float) -> float:
    """Where a span ends that must leave `tail_s` for an answer after `answer_from`, as far as the recording goes."""
    return max(speech_end, min(answer_from + tail_s, timeline.duration))
