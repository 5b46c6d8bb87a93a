"""Pauses, gaps and overlaps on the merged time line of both speakers, as dGSLM counts them (arXiv 2203.16502).

Both sides' inter-pausal units (IPUs, 0.2 s) lie on one line. Where nobody speaks is a *pause* if the same speaker
talks before and after, a *gap* if the speakers differ. An *overlap* is the intersection of one IPU of each side. IPUs
of one speaker that are separated by pauses alone make a *turn*.

The paper's release has no code for its statistics. A public script that goes by its definitions differs: it drops
speech segments closer than 200 ms to a neighbour where this merges them, and looks only at the previous segment, so
that a long segment which covers a short one leaves false silence behind. `heldner.py` counts by sequence of speakers
instead of by silence; on telephone calls the two differ by about 5 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duologue.dialogue.intervals import TOLERANCE_S, Intervals, complement, intersect, merge


@dataclass(frozen=True, slots=True)
class MergedLine:
    """Intervals [N, 2] in seconds, each with a side [N] (0 or 1).

    A pause or turn belongs to its speaker, a gap to the speaker who ends it, an overlap to the one who came in second.
    Where both end or start within a microsecond, a silence counts as a pause; exact ties go to side 0.
    """

    pauses: Intervals
    pause_sides: NDArray[np.intp]
    gaps: Intervals
    gap_sides: NDArray[np.intp]
    overlaps: Intervals
    overlap_sides: NDArray[np.intp]
    turns: Intervals
    turn_sides: NDArray[np.intp]


def merged_line(units: tuple[Intervals, Intervals]) -> MergedLine:
    """Find pauses, gaps, overlaps and dGSLM turns of two sides' IPUs (each sorted and disjoint).

    Silence before the first and after the last speech belongs to nobody and is left out.
    """
    everyone = merge(np.concatenate(units))
    silences = complement(everyone, everyone[0, 0], everyone[-1, 1]) if len(everyone) else everyone
    before = np.stack([_touches(u[:, 1], silences[:, 0]) for u in units], axis=1)
    after = np.stack([_touches(u[:, 0], silences[:, 1]) for u in units], axis=1)
    same = before & after
    is_pause = same.any(axis=1)
    pauses, gaps = silences[is_pause], silences[~is_pause]
    pause_sides = np.argmax(same[is_pause], axis=1)
    overlaps = intersect(*units)
    turns = [_dgslm_turns(u, pauses[same[is_pause, side]]) for side, u in enumerate(units)]
    return MergedLine(
        pauses, pause_sides, gaps, np.argmax(after[~is_pause], axis=1), overlaps, _second(units, overlaps),
        np.concatenate(turns), np.repeat([0, 1], [len(turns[0]), len(turns[1])]),
    )  # fmt: skip


def _touches(edges: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which `times` [M] are among the sorted `edges` [N], within the tolerance."""
    if len(edges) == 0:
        return np.zeros(len(times), dtype=bool)
    near = np.clip(np.searchsorted(edges, times - TOLERANCE_S), 0, len(edges) - 1)
    return np.asarray(np.abs(edges[near] - times) <= TOLERANCE_S)


def _second(units: tuple[Intervals, Intervals], overlaps: Intervals) -> NDArray[np.intp]:
    """Who starts each overlap: the side whose IPU began later; if both began at once, the one that ends it."""
    if len(overlaps) == 0:
        return np.empty(0, dtype=np.intp)
    inside = [u[np.searchsorted(u[:, 0], overlaps[:, 0], side="right") - 1] for u in units]
    (start_0, end_0), (start_1, end_1) = inside[0].T, inside[1].T
    return np.asarray((start_1 > start_0) | ((start_1 == start_0) & (end_1 < end_0)), dtype=np.intp)


def _dgslm_turns(units: Intervals, pauses: Intervals) -> Intervals:
    """IPUs of one side joined over the silences that are its own pauses in whole."""
    if len(units) == 0:
        return units
    joined = _touches(pauses[:, 0], units[:-1, 1]) & _touches(pauses[:, 1], units[1:, 0])
    opens = np.flatnonzero(np.concatenate(([True], ~joined)))
    return np.stack([units[opens, 0], units[np.append(opens[1:] - 1, len(units) - 1), 1]], axis=1)
