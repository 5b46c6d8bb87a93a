"""Pause handling: the user thinks in mid-turn, and the agent must not take the floor.

D_pause of arXiv 2606.11167: one utterance of the user of at least 4.0 s with at least one pause inside, during which
the other person is completely silent.
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
