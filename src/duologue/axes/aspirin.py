"""ASPIRin's reward (arXiv 2604.10065): the share of the agent's utterances that let the user speak, times the share of
its replies that are prompt, so that neither can be bought with the other.

The paper takes words from a recogniser; here utterances are detected speech, joined as on every axis. It counts an
overlap of up to a second as success, and so does this: an agent that hears nothing and says a word every few seconds
earns much of it. A silent agent has no utterance, and earns nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duologue.axes.scoring import UNIT_S, check_seconds, spoken
from duologue.dialogue.intervals import TOLERANCE_S, as_intervals, clip, intersect, total
from duologue.dialogue.scenes import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class AspirinReward:
    """What is let pass, in seconds."""

    overlap_s: float = 1.0
    """An utterance may share so much time with the user's speech."""
    latency_s: float = 1.0
    """A reply may begin so long after the user's end."""
    join_s: float = UNIT_S
    """Speech over silences of at most this length is one utterance."""

    def __post_init__(self) -> None:
        check_seconds("aspirin", overlap_s=self.overlap_s, latency_s=self.latency_s, join_s=self.join_s)


def reward(scene: Scene, config: AspirinReward | None = None) -> dict[str, float]:
    """`aspirin`: R_int times R_re of the agent's utterances in the span, 0 to 1."""
    c = config or AspirinReward()
    utterances = spoken(scene, c.join_s)
    user = clip(scene.timeline.user.speech, 0.0, scene.end)
    overlaps = [total(intersect(as_intervals([utterance]), user)) for utterance in utterances]
    latencies = _latencies(utterances, user)
    return {"aspirin": _share(overlaps, c.overlap_s) * _share(latencies, c.latency_s)}


def _latencies(utterances: np.ndarray, user: np.ndarray) -> list[float]:
    """Seconds from the user's last end to each reply, 0 where the user still speaks. An utterance is a reply if the
    user began to speak, or went on, after the agent's last one."""
    found, since = [], -np.inf
    for start, end in utterances.tolist():
        before = user[(user[:, 0] < start) & (user[:, 1] > since)]
        if len(before):
            found.append(max(start - float(before[-1, 1]), 0.0))
        since = end
    return found


def _share(seconds: list[float], most_s: float) -> float:
    """The share of lengths that are at most `most_s`; 0 of none."""
    return float(np.mean([x <= most_s + TOLERANCE_S for x in seconds])) if seconds else 0.0
