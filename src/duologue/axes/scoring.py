"""What the rewards of all axes share: the agent's speech in a scene, and answers to a user who has ended.

Rewards see speech as it was detected, never sound or tokens: what a detector does not take for speech does not count.
"""

from __future__ import annotations

import math

import numpy as np

from duologue.axes.finding import AGENT
from duologue.base.errors import UserError
from duologue.dialogue.intervals import TOLERANCE_S, Intervals, clip, merge
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import ReferenceEvent
from duologue.dialogue.takeover import Stretch, TurnRule, first_answer
from duologue.dialogue.utterances import ALIGNMENT_RULES, alignment_utterances

HOLD_S = 0.5
"""Who is silent for longer has stopped."""
FLOOR_S = ALIGNMENT_RULES.backchannel_s
"""Longer speech is no backchannel (arXiv 2606.11167)."""


def spoken(scene: Scene, join_s: float = 0.0) -> Intervals:
    """The agent's speech in the scored span [N, 2], joined over silences of at most `join_s` seconds."""
    return clip(merge(scene.timeline.agent.speech, join_s), scene.start, scene.end)


def answer_after(scene: Scene, user_end: float, *, early_s: float, longer_s: float) -> Stretch | None:
    """The agent's answer to a user who ends at `user_end`: an utterance longer than `longer_s` that begins within
    `early_s` before that, or later.

    An utterance that had taken the floor before then (longer than `FLOOR_S` so far) is no answer, however it goes on:
    it began too early. One that was a backchannel so far begins anew with what follows.
    """
    earliest, track = user_end - early_s - TOLERANCE_S, scene.timeline.agent
    new: list[Stretch] = []
    for utterance in alignment_utterances(track, AGENT):
        parts = track.speech[utterance.first : utterance.stop]
        before = parts[parts[:, 0] < earliest]
        if len(before) and before[-1, 1] - before[0, 0] > FLOOR_S + TOLERANCE_S:
            continue
        after = parts[(parts[:, 0] >= earliest) & (parts[:, 0] < scene.end)]
        new += [Stretch(a, min(b, scene.end)) for a, b in after.tolist()]
    rule = TurnRule(duration_s=longer_s)
    return first_answer(new, user_end, rule, earliest=earliest, join_s=ALIGNMENT_RULES.utterance_silence_s)


def need_event(scene: Scene, kind: str) -> ReferenceEvent:
    """The scene's first event of a kind. Errors: ValueError, a scene that was cut for something else."""
    for event in scene.events:
        if event.kind == kind:
            return event
    kinds = ", ".join(sorted({event.kind for event in scene.events})) or "none"
    raise ValueError(f"scene {scene.id} has no event {kind!r}; it has {kinds}")


def match(ours: np.ndarray, theirs: np.ndarray, within_s: float) -> int:
    """The most pairs of moments [N] and [M], both sorted, at most `within_s` seconds apart, each in one pair."""
    pairs, j = 0, 0
    for moment in ours.tolist():
        while j < len(theirs) and theirs[j] < moment - within_s - TOLERANCE_S:
            j += 1
        if j < len(theirs) and theirs[j] <= moment + within_s + TOLERANCE_S:
            pairs, j = pairs + 1, j + 1
    return pairs


def check_seconds(place: str, **values: float) -> None:
    """Errors: UserError for a length below 0, or none."""
    for name, value in values.items():
        if math.isnan(value) or value < 0:
            raise UserError(f"{value} is no length in seconds", place=f"{place}.{name}", mend="use 0 or more")
