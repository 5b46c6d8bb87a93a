"""What the rewards of all axes share: one unit of speech, answers to a user who has ended, and over-talk.

Rewards see speech as it was detected, never sound or tokens: what a detector does not take for speech does not count.

Two sets of rules stand side by side. By those of one unit, the default, speech joined over silences of at most 1.0 s is
one thing on every axis: what takes the floor on one axis cannot pass for backchannels on another. By the literal ones
of arXiv 2606.11167 pauses and backchannels see speech as detected and answers see utterances, and an agent that hears
nothing can earn more than people (`axes.reference_agents`); there the paper's judge has to see to that.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np

from duologue.axes.finding import AGENT, USER
from duologue.base.errors import UserError
from duologue.dialogue.intervals import TOLERANCE_S, Intervals, clip, complement, intersect, merge, total
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import ReferenceEvent
from duologue.dialogue.takeover import Stretch, TurnRule, first_answer
from duologue.dialogue.utterances import ALIGNMENT_RULES, alignment_utterances

Rules: TypeAlias = Literal["one_unit", "literal"]
"""What a unit of speech is on the axes of pauses and backchannels, and what an early answer costs."""
UNIT_S = ALIGNMENT_RULES.utterance_silence_s
"""Speech over silences of at most this length is one unit (arXiv 2606.11167: its utterances)."""
HOLD_S = 0.5
"""Who is silent for longer has stopped."""
FLOOR_S = ALIGNMENT_RULES.backchannel_s
"""Longer speech is no backchannel (arXiv 2606.11167)."""
NEAR_S = 1.0
"""Speech so near to the human's, in seconds, is no over-talk: the distance at which backchannels still match."""
OVER_TALK_S = 3.0
"""So much over-talk in a scene costs all that over-talk can cost."""
EARLY_S = 2.0
"""An answer that began so long before the user's end is measured as none: 1 % of people's are earlier."""


def spoken(scene: Scene, join_s: float = 0.0) -> Intervals:
    """The agent's speech in the scored span [N, 2], joined over silences of at most `join_s` seconds."""
    return clip(merge(scene.timeline.agent.speech, join_s), scene.start, scene.end)


def over_talk_s(scene: Scene) -> float:
    """Seconds in which the agent speaks into the user's turns of the scene, further than `NEAR_S` from the human's
    own speech there."""
    turns = merge([(e.start, e.end) for e in scene.events if e.side == USER and e.kind in ("turn", "interruption")])
    human = [(e.start - NEAR_S, e.end + NEAR_S) for e in scene.events if e.side == AGENT]
    alone = complement(merge(human), scene.start, scene.end)
    return total(intersect(intersect(spoken(scene), clip(turns, scene.start, scene.end)), alone))


def over_talk_cost(scene: Scene, weight: float) -> float:
    """What over-talk costs: `weight` for `OVER_TALK_S` seconds or more, in proportion for less."""
    return weight * min(over_talk_s(scene) / OVER_TALK_S, 1.0) if weight else 0.0


def answer_after(scene: Scene, user_end: float, *, longer_s: float, hold_s: float = UNIT_S) -> Stretch | None:
    """The agent's answer to a user who ends at `user_end`: its first unit that holds more than `longer_s` seconds of
    speech from the answer's beginning on and outlasts the user, however early it began.

    What is summed is speech without the silences between: noises of no length, a second apart, answer nothing.
    Stretches are one unit over silences of at most `UNIT_S`; over one that began before the user's end, of at most
    `hold_s`. A stretch that is preceded in its unit by no more than a backchannel (`FLOOR_S`) may be the answer's
    beginning: the one nearest to the user's end is.
    """
    speech = clip(scene.timeline.agent.speech, 0.0, scene.end)
    longest = np.where(speech[:-1, 1] < user_end, hold_s, UNIT_S) + TOLERANCE_S
    cuts = np.flatnonzero(speech[1:, 0] - speech[:-1, 1] > longest) + 1
    for unit in np.split(speech, cuts):
        if len(unit) and unit[-1, 1] > user_end:
            before = np.concatenate(([0.0], unit[:-1, 1] - unit[0, 0]))
            starts = unit[before <= FLOOR_S + TOLERANCE_S, 0]
            start = float(starts[np.abs(starts - user_end).argmin()])
            if total(unit[unit[:, 0] >= start]) > longer_s + TOLERANCE_S:
                return Stretch(start, float(unit[-1, 1]))
    return None


def literal_answer(scene: Scene, user_end: float, *, longer_s: float, early_s: float) -> Stretch | None:
    """The answer by the literal rules: an utterance longer than `longer_s` that begins within `early_s` before the
    user's end, or later.

    The paper does not say what an early start is. An utterance that had taken the floor `early_s` before the user's end
    (longer than `FLOOR_S` so far) is no answer, however it goes on; one that was a backchannel so far begins anew with
    what follows.
    """
    earliest, track = user_end - early_s - TOLERANCE_S, scene.timeline.agent
    stretches: list[Stretch] = []
    for utterance in alignment_utterances(track, AGENT):
        parts = track.speech[utterance.first : utterance.stop]
        before = parts[parts[:, 0] < earliest]
        if len(before) and min(before[-1, 1], earliest) - before[0, 0] > FLOOR_S + TOLERANCE_S:
            continue
        after = parts[(parts[:, 0] >= earliest) & (parts[:, 0] < scene.end)]
        stretches += [Stretch(a, min(b, scene.end)) for a, b in after.tolist()]
    return first_answer(stretches, user_end, TurnRule(duration_s=longer_s), earliest=earliest, join_s=UNIT_S)


def delay_cost(answer: Stretch | None, reference: float, rest_s: float, early_cost: float = 1.0) -> float:
    """What an answer costs, in seconds: its distance from `reference`, times `early_cost` if it is early, and never
    more than no answer does, which costs `rest_s`, all that is left of the scene."""
    if answer is None:
        return max(rest_s, 0.0)
    delay = answer.start - reference
    return min(max(delay, -early_cost * delay), max(rest_s, 0.0))


def timely(answer: Stretch | None, user_end: float) -> Stretch | None:
    """An answer that did not begin more than `EARLY_S` before the user's end: what measures call answered."""
    return answer if answer is not None and answer.start >= user_end - EARLY_S - TOLERANCE_S else None


def need_event(scene: Scene, kind: str) -> ReferenceEvent:
    """The scene's first event of a kind. Errors: ValueError, a scene that was cut for something else."""
    for event in scene.events:
        if event.kind == kind:
            return event
    kinds = ", ".join(sorted({event.kind for event in scene.events})) or "none"
    raise ValueError(f"scene {scene.id} has no event {kind!r}; it has {kinds}")


def match(onsets: np.ndarray, references: np.ndarray, within_s: float) -> int:
    """The most pairs of moments [N] and [M], both sorted, at most `within_s` seconds apart, each in one pair."""
    pairs, j = 0, 0
    for moment in onsets.tolist():
        while j < len(references) and references[j] < moment - within_s - TOLERANCE_S:
            j += 1
        if j < len(references) and references[j] <= moment + within_s + TOLERANCE_S:
            pairs, j = pairs + 1, j + 1
    return pairs


def check_seconds(place: str, **values: float) -> None:
    """Errors: UserError for a length below 0, or none."""
    for name, value in values.items():
        if math.isnan(value) or value < 0:
            raise UserError(f"{value} is no length in seconds", place=f"{place}.{name}", mend="use 0 or more")


def check_weight(place: str, value: float) -> None:
    """Errors: UserError for an over-talk weight below 0, which would pay for it."""
    if not value >= 0:
        raise UserError(f"{value} would pay for over-talk", place=f"{place}.over_talk", mend="use 0 or more")
