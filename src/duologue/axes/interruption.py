"""Interruptions: the user breaks into the agent's turn, and the agent answers what the user said.

D_int of arXiv 2606.11167: four consecutive utterances, user, other, user, other, all of at least 3.0 s; the third
starts before the second ends. R_int is the time from the end of the interruption to the agent's next speech, negative.
It rewards answering; that the agent stops is rewarded by `stop` and `talked_through`, which the paper does not have.
"""

from __future__ import annotations

import math
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
from duologue.axes.scoring import HOLD_S, answer_after, check_seconds, need_event
from duologue.dialogue.intervals import TOLERANCE_S, merge
from duologue.dialogue.scenes import Scene
from duologue.dialogue.takeover import Stop, Stretch, stop_latency
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


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptionReward:
    """What an answer is, in seconds, and which rewards there are."""

    longer_s: float = 0.0
    """An answer is speech longer than this."""
    early_s: float = 0.5
    """It may begin so long before the interruption's end. Who has talked through has not answered: its delay is all
    that is left of the segment. So not to stop is no quick answer."""
    stop: bool = False
    """Reward `stop` too: minus the seconds from the interruption's onset until the agent is silent."""
    talked_through: bool = False
    """Reward `talked_through` too: -1 if the agent still speaks as the interruption ends, else 0."""

    def __post_init__(self) -> None:
        check_seconds("interruption", longer_s=self.longer_s, early_s=self.early_s)


def reward(scene: Scene, config: InterruptionReward | None = None) -> dict[str, float]:
    """`interruption`: minus the delay of the agent's next speech; `stop` and `talked_through` if they are wanted, NaN
    where the agent was not speaking as the user broke in."""
    config = config or InterruptionReward()
    end = need_event(scene, "interruption").end
    answer = answer_after(scene, end, early_s=config.early_s, longer_s=config.longer_s)
    delay = max(scene.end - end, 0.0) if answer is None else abs(answer.start - end)
    found, stopped = {"interruption": -delay}, _stop(scene)
    if config.stop:
        found["stop"] = math.nan if stopped is None else -stopped.latency_s
    if config.talked_through:
        found["talked_through"] = math.nan if stopped is None else -float(stopped.talked_through)
    return found


def measure(scene: Scene, config: InterruptionReward | None = None) -> dict[str, float]:
    """`answered`: 1 or 0; `latency`: seconds from the interruption's end to the answer; `stop_latency` and
    `talked_through` (1 or 0) where the agent was speaking as the user broke in. NaN where there is none."""
    config = config or InterruptionReward()
    end = need_event(scene, "interruption").end
    answer, stopped = answer_after(scene, end, early_s=config.early_s, longer_s=config.longer_s), _stop(scene)
    return {
        "answered": float(answer is not None),
        "latency": math.nan if answer is None else answer.start - end,
        "stop_latency": math.nan if stopped is None else stopped.latency_s,
        "talked_through": math.nan if stopped is None else float(stopped.talked_through),
    }


def _stop(scene: Scene) -> Stop | None:
    broken = need_event(scene, "interruption")
    ours = [Stretch(a, b) for a, b in merge(scene.timeline.agent.speech, HOLD_S).tolist()]
    return stop_latency(ours, broken.start, broken.end)
