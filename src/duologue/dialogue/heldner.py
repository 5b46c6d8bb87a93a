"""Gaps, pauses and overlaps by the sequence of speakers (Heldner & Edlund 2010), as pympi counts them.

The same events as `pympi.Elan.Eaf.get_gaps_and_overlaps2` (pympi-ling 1.70) on two tiers of IPUs. Its rule walks
through the intervals of both sides in order of start and compares each with the last one that moved the line:

* same speaker: a pause P, whatever the other did meanwhile inside an interval of the first (W does not move the line);
* other speaker, strictly inside the last interval: within-speaker overlap W, the line stays where it is;
* other speaker before the last one ended: between-speaker overlap O, from its start to the last one's end;
* other speaker after the last one ended: gap G; exactly at its end: no event.

Known differences: pympi orders equal intervals by their label and then by tier, this by side; pympi's older
`get_gaps_and_overlaps` walks every millisecond and finds other events; so does the merged line of `silences.py`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from duologue.dialogue.intervals import Intervals

Kind = Literal["pause", "gap", "overlap", "within"]


class Event(NamedTuple):
    """One event in seconds; `before` held the line, `side` is who spoke next (equal for a pause)."""

    start: float
    end: float
    kind: Kind
    before: int
    side: int

    @property
    def offset(self) -> float:
        """Signed length: negative for overlaps."""
        return (self.start - self.end) if self.kind in ("overlap", "within") else (self.end - self.start)


def gaps_and_overlaps(agent: Intervals, user: Intervals) -> list[Event]:
    """Heldner & Edlund events of two sides' sorted, disjoint intervals, in order of the interval that makes them."""
    line = sorted([(s, e, side) for side, x in enumerate((agent, user)) for s, e in x.tolist()])
    if not line:
        return []
    found: list[Event] = []
    last_start, last_end, last = line[0]
    for start, end, side in line[1:]:
        if side == last:
            found.append(Event(last_end, start, "pause", side, side))
        elif last_start < start and last_end > end:
            found.append(Event(start, end, "within", last, side))
            continue
        elif last_end > start:
            found.append(Event(start, last_end, "overlap", last, side))
        elif last_end < start:
            found.append(Event(last_end, start, "gap", last, side))
        last_start, last_end, last = start, end, side
    return found
