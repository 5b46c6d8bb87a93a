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
from duologue.axes.scoring import (
    HOLD_S,
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
from duologue.dialogue.intervals import TOLERANCE_S, merge
from duologue.dialogue.scenes import Scene
from duologue.dialogue.takeover import Stop, Stretch, stop_latency
from duologue.dialogue.timeline import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptionConfig(AxisConfig):
    """Criteria of D_int, in seconds."""

    least_s: float = 3.0
    """Least length of all four utterances."""
    least_gap_s: float = -math.inf
    """Smallest gap from the interruption's end to the answer; below 0 the answer begins in overlap. The paper has
    none."""
    backchannels: Literal["count", "skip"] = "count"
    """Whether an utterance of at most 1 s stands between two others. The paper does not say, and its line holds all
    utterances; skip: it does not, so that who says "mhm" before an interruption is still interrupted."""
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
    if config.backchannels == "skip":
        line = [u for u in line if u.form == "full"]
    for i in range(len(line) - 3):
        turn, broken, interruption, answer = four = line[i : i + 4]
        if [u.side for u in four] != [USER, AGENT, USER, AGENT]:
            continue
        overlap = broken.end - interruption.start
        if overlap <= TOLERANCE_S or not all(at_least(u.duration, config.least_s) for u in four):
            continue
        if not at_least(answer.start - interruption.end, config.least_gap_s):
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

    longer_s: float = 1.0
    """An answer is speech longer than this. The paper takes any speech (0)."""
    early_s: float | None = None
    """Null: an early answer costs its distance from the interruption's end, at most as much as none, and who has been
    silent for half a second begins anew. A number: speech that began earlier than this before the interruption's end
    answers nothing (the literal rules: 0.5), so that who talks through has not answered."""
    over_talk: float = 1.0
    """What the agent's speech in the user's turns, away from the human's, costs at most: all of it for 3 s, in
    proportion for less. Not in the paper (0)."""
    stop: bool = False
    """Reward `stop` too: minus the seconds from the interruption's onset until the agent is silent."""
    talked_through: bool = False
    """Reward `talked_through` too: -1 if the agent still speaks as the interruption ends, else 0."""

    def __post_init__(self) -> None:
        check_seconds("interruption", longer_s=self.longer_s, early_s=self.early_s or 0.0)
        check_weight("interruption", self.over_talk)


LITERAL = InterruptionReward(longer_s=0.0, early_s=0.5, over_talk=0.0)
"""R_int of arXiv 2606.11167, as far as it is published."""


def reward(scene: Scene, config: InterruptionReward | None = None) -> dict[str, float]:
    """`interruption`: minus the delay of the agent's answer, less what over-talk costs; `stop` and `talked_through` if
    they are wanted, NaN where the agent was not speaking as the user broke in."""
    config = config or InterruptionReward()
    end = need_event(scene, "interruption").end
    cost = delay_cost(_answer(scene, end, config), end, scene.end - end)
    rewards, stop = {"interruption": -cost - over_talk_cost(scene, config.over_talk)}, _stop(scene)
    if config.stop:
        rewards["stop"] = math.nan if stop is None else -stop.latency_s
    if config.talked_through:
        rewards["talked_through"] = math.nan if stop is None else -float(stop.talked_through)
    return rewards


def measure(scene: Scene, config: InterruptionReward | None = None) -> dict[str, float]:
    """`answered`: 1 or 0; `latency`: seconds from the interruption's end to the answer; `stop_latency` and
    `talked_through` (1 or 0) where the agent was speaking as the user broke in; NaN where there is none; `over_talk`: 1
    if the agent speaks in the user's turns where the human does not, else 0."""
    config = config or InterruptionReward()
    end = need_event(scene, "interruption").end
    answer, stop = timely(_answer(scene, end, config), end), _stop(scene)
    return {
        "answered": float(answer is not None),
        "latency": math.nan if answer is None else answer.start - end,
        "stop_latency": math.nan if stop is None else stop.latency_s,
        "talked_through": math.nan if stop is None else float(stop.talked_through),
        "over_talk": float(over_talk_s(scene) > 0),
    }


def _answer(scene: Scene, end: float, config: InterruptionReward) -> Stretch | None:
    if config.early_s is None:
        return answer_after(scene, end, longer_s=config.longer_s, hold_s=HOLD_S)
    return literal_answer(scene, end, longer_s=config.longer_s, early_s=config.early_s)


def _stop(scene: Scene) -> Stop | None:
    broken = need_event(scene, "interruption")
    units = [Stretch(a, b) for a, b in merge(scene.timeline.agent.speech, HOLD_S).tolist()]
    return stop_latency(units, broken.start, broken.end)
