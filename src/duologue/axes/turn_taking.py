"""Smooth turn-taking: the user ends a turn, and the agent answers without delay.

D_turn of arXiv 2606.11167: two consecutive utterances, the user's and then the other person's, both of at least 5.0 s,
with a gap of at most 0.4 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

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
