"""DuplexPO's factored reward (arXiv 2607.07148): when the agent begins beside when the human began, in a window around
what the human did.

R = on * R_on + bc * R_bc + off * R_off + reg * R_reg, each only where the window holds what it is about. The paper
gives the forms and the penalties; the weights, the widths of the onset's bell and the decay are not given, and are this
project's. Its rules about tokens (a bonus for ending a turn, a cost of padding near the target) are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from duologue.axes.finding import AGENT, USER
from duologue.axes.scoring import HOLD_S, check_seconds, spoken
from duologue.base.errors import UserError
from duologue.dialogue.intervals import TOLERANCE_S, Intervals, merge
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import ReferenceEvent
from duologue.dialogue.takeover import Stretch, stop_latency


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplexPOReward:
    """Weights and widths; lengths in seconds."""

    on: float = 1.0
    """Weight of the onset of a turn."""
    bc: float = 1.0
    """Weight of a backchannel."""
    off: float = 1.0
    """Weight of stopping when interrupted."""
    reg: float = 1.0
    """Weight of the penalties."""
    late_s: float = 0.6
    """Width of the onset's bell after the human's onset."""
    early_s: float = 0.3
    """Width before it: early starts are judged more strictly, as the paper's judge does."""
    decay: float = 2.0
    """How fast a backchannel's worth falls with its distance from the human's, a second."""
    stop_s: float = 0.24
    """The agent may stop so much later than the human did."""
    horizon_s: float = 2.0
    """How much later costs all."""
    missed: float = 0.5
    """Penalty for silence where the human spoke."""
    false_alarm: float = 0.5
    """Penalty for speech where the human was silent."""
    overlong: float = 0.5
    """Penalty for a backchannel longer than `backchannel_s`."""
    backchannel_s: float = 1.0
    """Longest backchannel."""

    def __post_init__(self) -> None:
        check_seconds("duplexpo", stop_s=self.stop_s, backchannel_s=self.backchannel_s)
        if not min(self.late_s, self.early_s, self.horizon_s) > 0:
            raise UserError("a width or horizon is not above 0", place="duplexpo")


def reward(scene: Scene, config: DuplexPOReward | None = None) -> dict[str, float]:
    """`duplexpo`: the weighted sum, for what the human did in the span."""
    c = config or DuplexPOReward()
    ours = spoken(scene)
    turn, short = (_first(scene, kind, AGENT) for kind in ("answer", "backchannel"))
    broken = _first(scene, "interruption", USER)
    total, penalty = 0.0, 0.0
    if turn is not None:
        total += c.on * _onset(ours, turn.start, c)
        penalty += c.missed * (not len(ours))
    if short is not None:
        total += c.bc * _near(ours, short, c)
        penalty += c.missed * (not len(ours))
        lengths = ours[:, 1] - ours[:, 0]
        penalty += c.overlong * bool((lengths > c.backchannel_s + TOLERANCE_S).any())
    if broken is not None:
        total += c.off * _yielded(scene, broken, c)
    if turn is None and short is None and broken is None:
        penalty += c.false_alarm * bool(len(ours))
    return {"duplexpo": total - c.reg * min(penalty, 1.0)}


def _first(scene: Scene, kind: str, side: int) -> ReferenceEvent | None:
    """The first event of a kind that shares time with the span."""
    for event in scene.events:
        if (event.kind, event.side) == (kind, side) and event.start < scene.end and event.end > scene.start:
            return event
    return None


def _onset(ours: Intervals, human: float, c: DuplexPOReward) -> float:
    """R_on: a bell around the human's onset; 0 for silence."""
    if not len(ours):
        return 0.0
    off = float(ours[0, 0]) - human
    return math.exp(-(off**2) / (2 * (c.late_s if off >= 0 else c.early_s) ** 2))


def _near(ours: Intervals, human: ReferenceEvent, c: DuplexPOReward) -> float:
    """R_bc: 1 for speech that shares time with the human's backchannel, less with its distance; 0 for silence."""
    if not len(ours):
        return 0.0
    apart = np.maximum(np.maximum(human.start - ours[:, 1], ours[:, 0] - human.end), 0.0)
    return math.exp(-c.decay * float(apart.min()))


def _yielded(scene: Scene, broken: ReferenceEvent, c: DuplexPOReward) -> float:
    """R_off: minus how much later than the human the agent stopped, as a share of the horizon; 0 if it was silent."""
    sides = merge(scene.timeline.agent.speech, HOLD_S)
    stopped = stop_latency([Stretch(a, b) for a, b in sides.tolist()], broken.start, broken.end)
    if stopped is None:
        return 0.0
    human = _first(scene, "interrupted", AGENT)
    allowed = (max(human.end - broken.start, 0.0) if human is not None else 0.0) + c.stop_s
    return -min(max(stopped.latency_s - allowed, 0.0) / c.horizon_s, 1.0)
