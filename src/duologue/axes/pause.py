"""Pause handling: the user thinks in mid-turn, and the agent must not take the floor.

D_pause of arXiv 2606.11167: one utterance of the user of at least 4.0 s with at least one pause inside, during which
the other person is completely silent. R_pause is -1 if the agent speaks for more than a second at a stretch, else 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from duologue.axes.finding import (
    AGENT,
    USER,
    AxisConfig,
    Found,
    at_least,
    at_most,
    event,
    pauses,
    speaks_within,
    utterances,
)
from duologue.axes.scoring import UNIT_S, check_seconds, check_weight, over_talk_cost, over_talk_s, spoken
from duologue.dialogue.intervals import TOLERANCE_S, total
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import ReferenceEvent
from duologue.dialogue.timeline import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseConfig(AxisConfig):
    """Criteria of D_pause, in seconds."""

    least_s: float = 4.0
    """Least length of the user's utterance."""
    least_pause_s: float = 0.0
    """Least length of the silence that counts as a pause. The paper states none: any silence that was detected."""
    silent_before_s: float = 0.0
    """The other person must be silent for so long before the utterance too. Not in the paper."""
    silent_after_s: float = 0.0
    """And for so long after it. Not in the paper: an answer may follow at once."""


def find(timeline: Timeline, config: PauseConfig | None = None) -> list[Found]:
    """Utterances of the user with a pause, while the other person says nothing at all.

    The span is the utterance itself: after it an answer is welcome, and would be scored as a mistake. Events are the
    user's "turn" and its "pause"s.
    """
    config = config or PauseConfig()
    found = []
    for turn in utterances(timeline, config, USER):
        if not (at_least(turn.duration, config.least_s) and at_most(turn.duration, config.longest_s)):
            continue
        inside = [p for p in pauses(timeline, turn).tolist() if at_least(p[1] - p[0], config.least_pause_s)]
        quiet = turn.start - config.silent_before_s, turn.end + config.silent_after_s
        if not inside or speaks_within(timeline.tracks[AGENT].speech, *quiet):
            continue
        longest = max(b - a for a, b in inside)
        rule = (
            f"user speaks {turn.duration:.2f} s (>= {config.least_s:g}) with {len(inside)} "
            f"pause{'s' if len(inside) > 1 else ''}, the longest {longest:.2f} s (<= {config.utterance_silence_s:g}); "
            "partner silent"
        )
        events = (event("turn", turn), *(ReferenceEvent("pause", a, b, USER) for a, b in inside))
        found.append(Found(turn.start, turn.end, events, rule))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseReward:
    """What counts as taking the floor, in seconds."""

    longest_s: float = 1.0
    """Speech longer than this takes the floor."""
    join_s: float = UNIT_S
    """Speech joins over silences of at most this length first. The paper takes it as detected (0)."""
    over_talk: float = 1.0
    """What the agent's speech beside a silent human costs at most: all of it for 3 s, in proportion for less. Not in
    the paper (0)."""

    def __post_init__(self) -> None:
        check_seconds("pause", longest_s=self.longest_s, join_s=self.join_s)
        check_weight("pause", self.over_talk)


LITERAL = PauseReward(join_s=0.0, over_talk=0.0)
"""R_pause of arXiv 2606.11167."""


def reward(scene: Scene, config: PauseReward | None = None) -> dict[str, float]:
    """`pause`: -1 if the agent takes the floor anywhere in the span, else 0 less what its over-talk costs."""
    config = config or PauseReward()
    return {"pause": -max(measure(scene, config)["take_over"], over_talk_cost(scene, config.over_talk))}


def measure(scene: Scene, config: PauseReward | None = None) -> dict[str, float]:
    """`take_over`: 1 if the agent takes the floor, else 0; `speech`: share of the span in which it speaks;
    `over_talk`: 1 if it speaks where the human does not, else 0."""
    config = config or PauseReward()
    units, speech = spoken(scene, config.join_s), spoken(scene)
    took = bool((units[:, 1] - units[:, 0] > config.longest_s + TOLERANCE_S).any())
    share = total(speech) / (scene.end - scene.start)
    return {"take_over": float(took), "speech": share, "over_talk": float(over_talk_s(scene) > 0)}
