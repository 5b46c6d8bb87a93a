"""Smooth turn-taking: the user ends a turn, and the agent answers without delay.

D_turn of arXiv 2606.11167: two consecutive utterances, the user's and then the other person's, both of at least 5.0 s,
with a gap of at most 0.4 s; here, by default, also of at least -0.5 s. R_turn is the time from the user's end to the
agent's first utterance longer than a second, negative; the rest of the segment if there is none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from duologue.axes.finding import (
    AGENT,
    USER,
    AxisConfig,
    Found,
    at_least,
    at_most,
    end_with_tail,
    event,
    line_of_utterances,
)
from duologue.axes.scoring import (
    answer_after,
    check_seconds,
    check_weight,
    delay_cost,
    literal_answer,
    need_event,
    over_talk_cost,
    over_talk_s,
    timely,
)
from duologue.base.errors import UserError
from duologue.dialogue.scenes import Scene
from duologue.dialogue.takeover import Stretch
from duologue.dialogue.timeline import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTakingConfig(AxisConfig):
    """Criteria of D_turn, in seconds."""

    least_s: float = 5.0
    """Least length of both utterances."""
    longest_gap_s: float = 0.4
    """Largest gap: start of the answer minus end of the user's utterance."""
    least_gap_s: float = -0.5
    """Smallest gap. The paper has no lower bound (-inf), so that an answer may begin in overlap, however early: who
    answers as that human did would have answered too soon. 0 forbids overlap."""
    tail_s: float = 2.0
    """The span holds at least so much after the user's end, so that an answer fits where the human's ended early (only
    after long overlap). The paper does not say where a segment ends."""


def find(timeline: Timeline, config: TurnTakingConfig | None = None) -> list[Found]:
    """The user's utterances that the other person answers at once.

    The span is both utterances. Events are the user's "turn" and the human's "answer".
    """
    config = config or TurnTakingConfig()
    found = []
    for turn, answer in pairwise(line_of_utterances(timeline, config)):
        gap = answer.start - turn.end
        if (turn.side, answer.side) != (USER, AGENT) or not (
            at_least(turn.duration, config.least_s)
            and at_least(answer.duration, config.least_s)
            and at_most(gap, config.longest_gap_s)
            and at_least(gap, config.least_gap_s)
        ):
            continue
        end = end_with_tail(timeline, speech_end=max(turn.end, answer.end), answer_from=turn.end, tail_s=config.tail_s)
        if at_most(end - turn.start, config.longest_s):
            rule = (
                f"user speaks {turn.duration:.2f} s, then partner {answer.duration:.2f} s (both >= "
                f"{config.least_s:g}), gap {gap:.2f} s ({config.least_gap_s:g} to {config.longest_gap_s:g})"
            )
            found.append(Found(turn.start, end, (event("turn", turn), event("answer", answer)), rule))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTakingReward:
    """What an answer is, in seconds, and what it costs. The paper does not say what becomes of early starts."""

    longer_s: float = 1.0
    """An answer is an utterance longer than this."""
    early_s: float | None = None
    """Null: an early answer costs its distance from the user's end, at most as much as none. A number: an utterance
    that began earlier than this before the user's end answers nothing (the literal rules: 0.5)."""
    reference: Literal["user", "human"] = "user"
    """What the delay is measured from: the user's end, or (DuplexPO, arXiv 2607.07148) where the human answered."""
    early_cost: float = 1.0
    """A start before the reference costs so much a second; one after it costs 1."""
    over_talk: float = 1.0
    """What the agent's speech in the user's turn, away from the human's, costs at most: all of it for 3 s, in
    proportion for less. Not in the paper (0)."""

    def __post_init__(self) -> None:
        check_seconds("turn_taking", longer_s=self.longer_s, early_s=self.early_s or 0.0)
        check_weight("turn_taking", self.over_talk)
        if not self.early_cost >= 0:
            raise UserError(
                f"{self.early_cost} would reward barging in", place="turn_taking.early_cost", mend="use 0 or more"
            )


LITERAL = TurnTakingReward(early_s=0.5, over_talk=0.0)
"""R_turn of arXiv 2606.11167, as far as it is published."""


def reward(scene: Scene, config: TurnTakingReward | None = None) -> dict[str, float]:
    """`turn_taking`: minus the delay of the agent's answer in seconds, less what over-talk costs."""
    config = config or TurnTakingReward()
    end = need_event(scene, "turn").end
    reference = need_event(scene, "answer").start if config.reference == "human" else end
    cost = delay_cost(_answer(scene, end, config), reference, scene.end - end, config.early_cost)
    return {"turn_taking": -cost - over_talk_cost(scene, config.over_talk)}


def measure(scene: Scene, config: TurnTakingReward | None = None) -> dict[str, float]:
    """`answered`: 1 or 0; `latency`: seconds from the user's end to the answer, NaN without one; `over_talk`: 1 if the
    agent speaks in the user's turn where the human does not, else 0."""
    config = config or TurnTakingReward()
    end = need_event(scene, "turn").end
    answer = timely(_answer(scene, end, config), end)
    return {
        "answered": float(answer is not None),
        "latency": math.nan if answer is None else answer.start - end,
        "over_talk": float(over_talk_s(scene) > 0),
    }


def _answer(scene: Scene, end: float, config: TurnTakingReward) -> Stretch | None:
    if config.early_s is None:
        return answer_after(scene, end, longer_s=config.longer_s)
    return literal_answer(scene, end, longer_s=config.longer_s, early_s=config.early_s)
