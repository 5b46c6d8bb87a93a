"""Floor-transfer offsets by scikit-talk's rule: each utterance against the most relevant prior one of the partner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from duologue.dialogue.intervals import TOLERANCE_S, Intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetRules:
    """Thresholds of scikit-talk's `Conversation.calculate_FTO`, in seconds."""

    window_s: float = 10.0
    "A relevant prior utterance lies at least partly in this long before the utterance."
    planning_buffer_s: float = 0.2
    "A relevant prior utterance began at least this long before the utterance."


class Offset(NamedTuple):
    """An utterance of `side` at `start` s, and start minus the prior utterance's end; None if nothing is relevant."""

    start: float
    side: int
    offset_s: float | None


def floor_transfer_offsets(agent: Intervals, user: Intervals, rules: OffsetRules = OffsetRules()) -> list[Offset]:
    """Offset of every utterance of two sides, in order of start (then end, then agent first).

    Equal to scikit-talk 0.1.1 on utterances in that order: the relevant prior utterance is the partner's most recent
    one that began at least the planning buffer earlier, is still heard in the window, and outlasts everything that the
    speaker said between the two (which must lie wholly inside it). Its window reaches back to the first utterance in
    the order that touches it, so an utterance that ended earlier but comes later in the order is considered too.
    """
    line = sorted([(s, e, side) for side, x in enumerate((agent, user)) for s, e in x.tolist()])
    if not line:
        return []
    ends = np.maximum.accumulate([e for _, e, _ in line])
    found = []
    for i, (start, _, side) in enumerate(line):
        first = int(np.searchsorted(ends, start - rules.window_s - TOLERANCE_S))
        found.append(Offset(start, side, _offset(line[first:i], start, side, rules)))
    return found


def _offset(earlier: list[tuple[float, float, int]], start: float, side: int, rules: OffsetRules) -> float | None:
    own_start, own_end = np.inf, -np.inf
    for s, e, who in reversed(earlier):
        if who == side:
            own_start, own_end = min(own_start, s), max(own_end, e)
        elif start - s >= rules.planning_buffer_s - TOLERANCE_S and s <= own_start and own_end <= e:
            return start - e
    return None
