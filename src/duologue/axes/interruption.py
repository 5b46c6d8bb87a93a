"""Interruptions: the user breaks into the agent's turn, and the agent answers what the user said.

D_int of arXiv 2606.11167: four consecutive utterances, user, other, user, other, all of at least 3.0 s; the third
starts before the second ends.
"""

from __future__ import annotations

from dataclasses import dataclass
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
from duologue.dialogue.intervals import TOLERANCE_S
from duologue.dialogue.timeline import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptionConfig(AxisConfig):
    """Criteria of D_int, in seconds."""

    least_s: float = 3.0
    """Least length of all four utterances."""
    span: Literal["all", "from_second"] = "all"
    """Where the model begins to act: at the user's first utterance (all four are the segment), or at the other
    person's answer to it, which is then interrupted."""
    tail_s: float = 2.0
    """The span holds at least so much after the interruption's end, so that an answer fits where the human's ended
    before it. The paper does not say where a segment ends."""


def find(timeline: Timeline, config: InterruptionConfig | None = None) -> list[Found]:
    """Where the user interrupts, and the other person answers.

    Events are the user's "turn", the human's "interrupted" turn, the user's "interruption", the human's "answer".
    """
    config = config or InterruptionConfig()
    line, found = line_of_utterances(timeline, config), []
    for i in range(len(line) - 3):
        turn, broken, interruption, answer = four = line[i : i + 4]
        if [u.side for u in four] != [USER, AGENT, USER, AGENT]:
            continue
        overlap = broken.end - interruption.start
        if overlap <= TOLERANCE_S or not all(at_least(u.duration, config.least_s) for u in four):
            continue
        start = turn.start if config.span == "all" else broken.start
        end = end_with_tail(
            timeline,
            speech_end=max(interruption.end, answer.end),
            answer_from=interruption.end,
            tail_s=config.tail_s,
        )
        if at_most(end - start, config.longest_s):
            lengths = ", ".join(f"{u.duration:.2f}" for u in four)
            rule = (
                f"user, partner, user, partner speak {lengths} s (all >= {config.least_s:g}); "
                f"the third starts {overlap:.2f} s before the second ends"
            )
            kinds = ("turn", "interrupted", "interruption", "answer")
            events = tuple(event(kind, u) for kind, u in zip(kinds, four, strict=True))
            found.append(Found(start, end, events, rule))
    return found
