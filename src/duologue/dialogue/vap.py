"""Turn-taking events of voice activity projection: shift, hold, long onset and short (backchannel), on frames.

The semantics of `vap/events.py` of ErikEkstedt/VoiceActivityProjection (commit f39a78b) without its random sampling of
negatives: every hold is returned (there: `equal_hold_shift=False`). Two of its quirks are kept, because they decide
which events count: a short activity needs silence of its own side around it, but nothing of the other side; and a
condition that would look beyond the recording fails. Not kept: events do not stop at 20 s (`max_time`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from duologue.dialogue.intervals import Intervals

Activity = NDArray[np.bool_]

ONLY_AGENT, SILENCE, BOTH, ONLY_USER = 0, 1, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class VapRules:
    """Thresholds of VAP events; seconds are cut down to whole frames."""

    frame_hz: float = 50.0
    "Frames per second."
    context_s: float = 3.0
    "Nothing before this time counts."
    silence_s: float = 0.25
    "Least mutual silence of a shift or hold (metric_time 0.2 + metric_pad_time 0.05)."
    before_s: float = 1.0
    "Before a shift or hold, only the previous speaker is active this long (its pauses filled)."
    after_s: float = 1.0
    "After a shift or hold, only the next speaker is active this long (its pauses filled)."
    long_s: float = 1.0
    "A shift whose next activity lasts this long is also a long onset."
    onset_s: float = 0.2
    "Length of the region at a long onset."
    short_s: float = 1.0
    "Longest short activity."
    short_before_s: float = 1.0
    "Least silence of the own side before a short activity."
    short_after_s: float = 1.0
    "Least silence of the own side after a short activity."

    def frames(self, seconds: float) -> int:
        return int(seconds * self.frame_hz + 1e-9)


class Region(NamedTuple):
    """Frames `start` to `stop` (exclusive) and the side the event is about (the next, or the short, speaker)."""

    start: int
    stop: int
    side: int


@dataclass(frozen=True, slots=True)
class VapEvents:
    """Regions in order of start: the silences of shifts and holds, the starts of long onsets, the short activities."""

    shifts: tuple[Region, ...]
    holds: tuple[Region, ...]
    longs: tuple[Region, ...]
    shorts: tuple[Region, ...]


def activity(agent: Intervals, user: Intervals, duration: float, frame_hz: float = 50.0) -> Activity:
    """Voice activity [frames, 2]: edges are cut down to whole frames, as VAP does."""
    active = np.zeros((int(duration * frame_hz + 1e-9), 2), dtype=bool)
    for side, spans in enumerate((agent, user)):
        for start, stop in (spans * frame_hz + 1e-9).astype(int).tolist():
            active[start:stop, side] = True
    return active


def vap_events(active: Activity, rules: VapRules = VapRules()) -> VapEvents:
    """Find VAP events in voice activity [frames, 2]."""
    states = 2 * active[:, 1].astype(int) - active[:, 0].astype(int) + 1
    starts, lengths, values = islands(states)
    filled = _fill_pauses(active, starts, lengths, values)
    shifts: list[Region] = []
    holds: list[Region] = []
    longs: list[Region] = []
    silences = np.flatnonzero((values[1:-1] == SILENCE) & np.isin(values[:-2], (0, 3)) & np.isin(values[2:], (0, 3)))
    for i in (silences + 1).tolist():
        start, stop = int(starts[i]), int(starts[i + 1])
        previous, following = (int(values[j] == ONLY_USER) for j in (i - 1, i + 1))
        if start < rules.frames(rules.context_s) or lengths[i] < rules.frames(rules.silence_s):
            continue
        if not _alone(filled, previous, start - rules.frames(rules.before_s), start):
            continue
        if not _alone(filled, following, stop, stop + rules.frames(rules.after_s)):
            continue
        (holds if previous == following else shifts).append(Region(start, stop, following))
        if previous != following and lengths[i + 1] >= rules.frames(rules.long_s):
            longs.append(Region(stop, stop + rules.frames(rules.onset_s), following))
    return VapEvents(tuple(shifts), tuple(holds), tuple(longs), _shorts(filled, rules))


def islands(values: NDArray[np.int_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int_]]:
    """Runs of equal values: where each starts, how long it is, and its value."""
    if len(values) == 0:
        return np.empty(0, np.intp), np.empty(0, np.intp), values
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    return starts, np.diff(np.append(starts, len(values))), values[starts]


def _fill_pauses(
    active: Activity, starts: NDArray[np.intp], lengths: NDArray[np.intp], values: NDArray[np.int_]
) -> Activity:
    """Mutual silence with the same speaker alone on both sides becomes that speaker's activity."""
    filled = active.copy()
    for side, state in enumerate((ONLY_AGENT, ONLY_USER)):
        held = (values[:-2] == state) & (values[1:-1] == SILENCE) & (values[2:] == state)
        for i in (np.flatnonzero(held) + 1).tolist():
            filled[starts[i] : starts[i] + lengths[i], side] = True
    return filled


def _alone(filled: Activity, side: int, start: int, stop: int) -> bool:
    """Whether only `side` is active in all frames [start, stop), none of which lies outside the recording."""
    span = filled[max(start, 0) : stop]
    return start >= 0 and stop <= len(filled) and bool(span[:, side].all()) and not span[:, 1 - side].any()


def _shorts(filled: Activity, rules: VapRules) -> tuple[Region, ...]:
    found = []
    for side in (0, 1):
        starts, lengths, values = islands(filled[:, side].astype(int))
        for i in (np.flatnonzero(values[1:-1]) + 1).tolist():
            quiet = lengths[i - 1] >= rules.frames(rules.short_before_s) and lengths[i + 1] >= rules.frames(
                rules.short_after_s
            )
            late = starts[i] >= rules.frames(rules.context_s)
            if quiet and late and lengths[i] <= rules.frames(rules.short_s):
                found.append(Region(int(starts[i]), int(starts[i + 1]), side))
    return tuple(sorted(found))
