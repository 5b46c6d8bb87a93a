"""Smooth turn-taking: the user ends a turn, and the agent answers without delay.

D_turn of arXiv 2606.11167: two consecutive utterances, the user's and then the other person's, both of at least 5.0 s,
with a gap of at most 0.4 s. R_turn is the time from the user's end to the agent's first utterance longer than a second,
negative; the rest of the segment if there is none.
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
from duologue.axes.scoring import answer_after, check_seconds, need_event
from duologue.base.errors import UserError
from duologue.dialogue.scenes import Scene
from duologue.dialogue.timeline import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTakingConfig(AxisConfig):
    """Criteria of D_turn, in seconds."""

    least_s: float = 5.0
    """Least length of both utterances."""
    longest_gap_s: float = 0.4
    """Largest gap: start of the answer minus end of the user's utterance."""
    least_gap_s: float = -math.inf
    """Smallest gap. The paper has no lower bound, so an answer may begin in overlap, however early; 0 forbids it."""
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
                f"{config.least_s:g}), gap {gap:.2f} s (<= {config.longest_gap_s:g})"
            )
            found.append(Found(turn.start, end, (event("turn", turn), event("answer", answer)), rule))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTakingReward:
    """What an answer is, in seconds, and what it costs. The paper does not say what becomes of early starts."""

    longer_s: float = 1.0
    """An answer is an utterance longer than this."""
    early_s: float = 0.5
    """An answer may begin so long before the user's end. Who spoke before has not answered: its delay is all that is
    left of the segment. So babble is no quick answer."""
    reference: Literal["user", "human"] = "user"
    """What the delay is measured from: the user's end, or (DuplexPO, arXiv 2607.07148) where the human answered."""
    early_cost: float = 1.0
    """A start before the reference costs so much a second; one after it costs 1."""

    def __post_init__(self) -> None:
        check_seconds("turn_taking", longer_s=self.longer_s, early_s=self.early_s)
        if not self.early_cost >= 0:
            raise UserError(
                f"{self.early_cost} would reward barging in", place="turn_taking.early_cost", mend="use 0 or more"
            )


def reward(scene: Scene, config: TurnTakingReward | None = None) -> dict[str, float]:
    """`turn_taking`: minus the delay of the agent's answer, in seconds."""
    config = config or TurnTakingReward()
    end = need_event(scene, "turn").end
    answer = answer_after(scene, end, early_s=config.early_s, longer_s=config.longer_s)
    if answer is None:
        return {"turn_taking": -max(scene.end - end, 0.0)}
    delay = answer.start - (need_event(scene, "answer").start if config.reference == "human" else end)
    return {"turn_taking": -max(delay, -config.early_cost * delay)}


def measure(scene: Scene, config: TurnTakingReward | None = None) -> dict[str, float]:
    """`answered`: 1 or 0; `latency`: seconds from the user's end to the answer, NaN without one."""
    config = config or TurnTakingReward()
    end = need_event(scene, "turn").end
    answer = answer_after(scene, end, early_s=config.early_s, longer_s=config.longer_s)
    return {"answered": float(answer is not None), "latency": math.nan if answer is None else answer.start - end}
