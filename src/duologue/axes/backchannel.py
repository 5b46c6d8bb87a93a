"""Backchannels: the user talks on, and the agent shows that it listens without taking the floor.

D_bc of arXiv 2606.11167: an utterance of the user of at least 5.0 s inside which the other person says only short
utterances, of at most 1 s. R_bc is F1 of the agent's short utterances against the human's, within a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from duologue.axes.finding import AGENT, USER, AxisConfig, Found, at_least, at_most, event, utterances
from duologue.axes.scoring import UNIT_S, check_seconds, check_weight, match, over_talk_cost, over_talk_s, spoken
from duologue.dialogue.intervals import TOLERANCE_S
from duologue.dialogue.scenes import Scene
from duologue.dialogue.timeline import Timeline
from duologue.dialogue.utterances import Utterance


@dataclass(frozen=True, slots=True, kw_only=True)
class BackchannelConfig(AxisConfig):
    """Criteria of D_bc, in seconds."""

    least_s: float = 5.0
    """Least length of the user's utterance."""
    backchannel_s: float = 1.0
    """Longest utterance of the other person that is a backchannel."""
    least_backchannels: int = 1
    """How many there must be. "Says only short utterances inside" is read as: at least one; 0 takes silence too."""
    straddling: Literal["refuse", "take"] = "refuse"
    """What becomes of the user's utterance if a short utterance reaches over its edge. The paper says "inside", so it
    is refused; take: it counts as a backchannel like those that lie inside."""


def find(timeline: Timeline, config: BackchannelConfig | None = None) -> list[Found]:
    """The user's long utterances that the other person accompanies with backchannels and nothing else.

    The span is the user's utterance. Events are the user's "turn" and the human's "backchannel"s.
    """
    config = config or BackchannelConfig()
    theirs = utterances(timeline, config, AGENT)
    found, first = [], 0
    for turn in utterances(timeline, config, USER):
        while first < len(theirs) and theirs[first].end <= turn.start + TOLERANCE_S:
            first += 1
        if not (at_least(turn.duration, config.least_s) and at_most(turn.duration, config.longest_s)):
            continue
        during = _during(theirs, first, turn)
        if len(during) < config.least_backchannels or not all(_allowed(u, turn, config) for u in during):
            continue
        said = f"{len(during)} utterance{'' if len(during) == 1 else 's'}"
        if during:
            said += f", the longest {max(u.duration for u in during):.2f} s (<= {config.backchannel_s:g})"
        rule = f"user speaks {turn.duration:.2f} s (>= {config.least_s:g}); partner says only {said}, inside"
        events = sorted((event("turn", turn), *(event("backchannel", u) for u in during)), key=lambda e: e.start)
        found.append(Found(turn.start, turn.end, tuple(events), rule))
    return found


def _during(theirs: list[Utterance], first: int, turn: Utterance) -> list[Utterance]:
    """The utterances from index `first` that share time with the turn."""
    stop = first
    while stop < len(theirs) and theirs[stop].start < turn.end - TOLERANCE_S:
        stop += 1
    return theirs[first:stop]


def _allowed(short: Utterance, turn: Utterance, config: BackchannelConfig) -> bool:
    inside = at_least(short.start, turn.start) and at_most(short.end, turn.end)
    return at_most(short.duration, config.backchannel_s) and (inside or config.straddling == "take")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackchannelReward:
    """What a backchannel is, in seconds."""

    backchannel_s: float = 1.0
    """The agent's speech of at most this length is a backchannel, longer speech takes the floor."""
    within_s: float = 1.0
    """So far apart may the onsets of the agent's and the human's backchannels be. Each is in one pair at most."""
    join_s: float = UNIT_S
    """Speech joins over silences of at most this length first. The paper takes it as detected (0)."""
    over_talk: float = 1.0
    """What the agent's speech away from the human's costs at most: all of it for 3 s, in proportion for less. Not in
    the paper (0)."""

    def __post_init__(self) -> None:
        check_seconds("backchannel", backchannel_s=self.backchannel_s, within_s=self.within_s, join_s=self.join_s)
        check_weight("backchannel", self.over_talk)


LITERAL = BackchannelReward(join_s=0.0, over_talk=0.0)
"""R_bc of arXiv 2606.11167."""


def reward(scene: Scene, config: BackchannelReward | None = None) -> dict[str, float]:
    """`backchannel`: F1, where taking the floor is a false positive, less what over-talk costs; 1 if neither the human
    nor the agent says anything."""
    config = config or BackchannelReward()
    units = spoken(scene, config.join_s)
    human = np.sort([e.start for e in scene.events if e.kind == "backchannel"])
    short = units[units[:, 1] - units[:, 0] <= config.backchannel_s + TOLERANCE_S, 0]
    pairs = match(short, human, config.within_s)
    count = len(units) + len(human)
    return {"backchannel": (2 * pairs / count if count else 1.0) - over_talk_cost(scene, config.over_talk)}


def measure(scene: Scene, config: BackchannelReward | None = None) -> dict[str, float]:
    """`take_over`: 1 if the agent takes the floor, else 0; `per_minute`: its backchannels, and `human_per_minute`: the
    human's; `over_talk`: 1 if it speaks where the human does not, else 0."""
    config = config or BackchannelReward()
    units = spoken(scene, config.join_s)
    long = units[:, 1] - units[:, 0] > config.backchannel_s + TOLERANCE_S
    minutes = (scene.end - scene.start) / 60
    human = sum(e.kind == "backchannel" for e in scene.events)
    return {
        "take_over": float(long.any()),
        "per_minute": float((~long).sum()) / minutes,
        "human_per_minute": human / minutes,
        "over_talk": float(over_talk_s(scene) > 0),
    }
