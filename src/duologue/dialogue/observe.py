"""From one conversation to its events: every quantity as two arrays of values, the agent's and the user's.

A quantity's number of events, rate, sum and distribution all follow from these arrays, and conversations are pooled
by joining them (`statistics.py`). Each event belongs to the side that acts: a gap to the speaker who ends it, a
transfer to the one who takes the floor, an overlap to the one who comes in second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from duologue.dialogue.floor import Floor, find_floor
from duologue.dialogue.heldner import gaps_and_overlaps
from duologue.dialogue.intervals import TOLERANCE_S, Intervals, complement, intersect, merge, total
from duologue.dialogue.offsets import floor_transfer_offsets
from duologue.dialogue.silences import merged_line
from duologue.dialogue.timeline import Timeline
from duologue.dialogue.utterances import (
    HUMAN_RULES,
    AlignmentRules,
    FormRule,
    HumanRules,
    Utterance,
    alignment_utterances,
    form_rule,
    ipus,
    unit_at,
)
from duologue.dialogue.vap import VapRules, activity, vap_events

Rules = HumanRules | AlignmentRules
RuleName = Literal["human", "alignment"]
Values = NDArray[np.float64]

QUANTITIES: dict[str, str] = {
    "ipu": "inter-pausal unit: speech merged over silences <= 0.2 s; its length",
    "pause": "nobody speaks, same speaker before and after; its length",
    "gap": "nobody speaks, other speaker after than before; its length",
    "overlap": "an IPU of each side at once; its length",
    "dgslm_turn": "IPUs of one speaker separated by pauses only; from first start to last end",
    "utterance": "full utterance (not backchannel form, not filler-only); its length",
    "turn": "from taking the floor to the last word before it is lost; its length",
    "floor_transfer_offset": "start of a turn minus end of the other's turn before it",
    "offset_to_nearest_ipu": "start of a turn minus end of the other's IPU that runs or ended last",
    "within_turn_pause": "silence of the floor's holder between its IPUs, 0.2 to 3 s; its length",
    "backchannel": "short feedback while the other keeps the floor; its length",
    "backchannel_delay": "backchannel that starts in the other's silence: time since the other's last IPU",
    "backchannel_offset": "backchannel start minus the nearer of the other's last two IPU ends",
    "interruption": "takes the floor from inside the holder's IPU; how long the holder talks on",
    "barge_in": "interruption with >= 0.5 s of the holder's speech to come; how long the holder talks on",
    "insertion": "full utterance that ends before the holder's, so that the floor stays; its length",
    "interrupter_gives_up": "insertion that starts inside the holder's IPU; its length",
    "alignment_utterance": "speech merged over silences <= 1.0 s; its length",
    "alignment_pause": "silence <= 1.0 s inside an utterance; its length",
    "alignment_backchannel": "utterance <= 1.0 s; its length",
    "alignment_offset": "start minus end of the utterance before it in order of start, by the other speaker",
    "heldner_edlund_pause": "P: the same speaker again",
    "heldner_edlund_gap": "G: the other speaker after silence",
    "heldner_edlund_overlap": "O: the other speaker before the first has ended",
    "heldner_edlund_within": "W: the other speaker wholly inside an IPU",
    "heldner_edlund_offset": "G positive and O negative together",
    "scikit_talk_offset": "an utterance's start minus the end of the most relevant prior one (10 s, 0.2 s)",
    "vap_shift": "VAP shift: the silence's length",
    "vap_hold": "VAP hold: the silence's length",
    "vap_long": "VAP long onset",
    "vap_short": "VAP short activity: its length",
}
"""Every quantity and what its values are; all in seconds."""

FLOOR_QUANTITIES = frozenset({
    "utterance", "turn", "floor_transfer_offset", "offset_to_nearest_ipu", "within_turn_pause", "backchannel",
    "backchannel_delay", "backchannel_offset", "interruption", "barge_in", "insertion", "interrupter_gives_up",
})  # fmt: skip
"""Quantities that depend on which utterances are backchannels, and so need words to compare with the reference."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The events of one conversation. `values[quantity]` = (agent's, user's), in seconds."""

    rules: RuleName
    form_rule: FormRule
    duration_s: float
    values: dict[str, tuple[Values, Values]]
    seconds: dict[str, float]
    """Seconds of agent_speaks, user_speaks, one_speaks, both_speak, nobody_speaks."""


def observe(timeline: Timeline, rules: Rules = HUMAN_RULES) -> Observed:
    """Find every event of a conversation by one rule set (IPU, Heldner & Edlund, scikit-talk and VAP events by both).

    Under `AlignmentRules` utterances, their pauses and backchannels are those of the paper.
    """
    found = _Collector()
    units = ipus(timeline.agent, rules.ipu_silence_s), ipus(timeline.user, rules.ipu_silence_s)
    rule: FormRule = "duration"
    utterances: Sequence[Utterance]
    if isinstance(rules, HumanRules):
        floor = find_floor(timeline, rules)
        units, rule, utterances = floor.units, form_rule(timeline), floor.utterances
        found.floor(floor, rules)
    else:
        both = [alignment_utterances(t, side, rules) for side, t in enumerate(timeline.tracks)]
        utterances = sorted(both[0] + both[1], key=lambda u: u[:3])
        found.alignment(timeline, utterances)
    found.rule_free(units, utterances, timeline.duration)
    # A recording may be trimmed shorter than its last word; no time is negative.
    everyone = merge(np.concatenate(units))
    speaks, together = [total(u) for u in units], total(intersect(*units))
    seconds = {
        "agent_speaks": speaks[0],
        "user_speaks": speaks[1],
        "one_speaks": sum(speaks) - 2 * together,
        "both_speak": together,
        "nobody_speaks": total(complement(everyone, 0.0, timeline.duration)),
    }
    name: RuleName = "human" if isinstance(rules, HumanRules) else "alignment"
    return Observed(name, rule, timeline.duration, found.arrays(), seconds)


@dataclass(slots=True)
class _Collector:
    """Values as they are found, by quantity and side."""

    lists: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)

    def add(self, quantity: str, pairs: Iterable[tuple[float, int]]) -> None:
        """Add (value, side) pairs; a quantity without any is there too, and empty."""
        lists = self.lists.setdefault(quantity, ([], []))
        for value, side in pairs:
            lists[side].append(value)

    def spans(self, quantity: str, spans: Intervals, sides: NDArray[np.intp]) -> None:
        self.add(quantity, zip((spans[:, 1] - spans[:, 0]).tolist(), sides.tolist(), strict=True))

    def arrays(self) -> dict[str, tuple[Values, Values]]:
        return {q: (np.array(a, dtype=np.float64), np.array(b, dtype=np.float64)) for q, (a, b) in self.lists.items()}

    def rule_free(self, units: tuple[Intervals, Intervals], utterances: Iterable[Utterance], duration: float) -> None:
        """What every rule set shares: the merged line, Heldner & Edlund, scikit-talk, VAP."""
        line = merged_line(units)
        for side, x in enumerate(units):
            self.spans("ipu", x, np.full(len(x), side))
        self.spans("pause", line.pauses, line.pause_sides)
        self.spans("gap", line.gaps, line.gap_sides)
        self.spans("overlap", line.overlaps, line.overlap_sides)
        self.spans("dgslm_turn", line.turns, line.turn_sides)
        events = gaps_and_overlaps(*units)
        for kind in ("pause", "gap", "overlap", "within"):
            self.add(f"heldner_edlund_{kind}", ((e.end - e.start, e.side) for e in events if e.kind == kind))
        self.add("heldner_edlund_offset", ((e.offset, e.side) for e in events if e.kind in ("gap", "overlap")))
        spans = [np.array([(u.start, u.end) for u in utterances if u.side == s]).reshape(-1, 2) for s in (0, 1)]
        offsets = floor_transfer_offsets(spans[0], spans[1])
        self.add("scikit_talk_offset", ((o.offset_s, o.side) for o in offsets if o.offset_s is not None))
        vap, hz = vap_events(activity(*units, duration)), VapRules().frame_hz
        for name, regions in (("shift", vap.shifts), ("hold", vap.holds), ("long", vap.longs), ("short", vap.shorts)):
            self.add(f"vap_{name}", (((r.stop - r.start) / hz, r.side) for r in regions))

    def alignment(self, timeline: Timeline, utterances: Sequence[Utterance]) -> None:
        """The literal rule of the alignment paper."""
        self.add("alignment_utterance", ((u.duration, u.side) for u in utterances))
        self.add("alignment_backchannel", ((u.duration, u.side) for u in utterances if u.form == "backchannel"))
        self.add("alignment_pause", _utterance_pauses(timeline, utterances))
        self.add("alignment_offset", ((b.start - a.end, b.side) for a, b in pairwise(utterances) if a.side != b.side))

    def floor(self, floor: Floor, rules: HumanRules) -> None:
        """Turns and what happens around them."""
        self.add("utterance", ((u.duration, u.side) for u in floor.utterances if u.form == "full"))
        self.add("turn", ((t.end - t.start, t.side) for t in floor.turns))
        self.add("floor_transfer_offset", floor.transfers())
        self.add("offset_to_nearest_ipu", _nearest_offsets(floor))
        self.add("within_turn_pause", _within_turn_pauses(floor, rules))
        self.add("backchannel", ((u.duration, u.side) for u in floor.backchannels))
        self.add("backchannel_delay", _backchannel_delays(floor))
        self.add("backchannel_offset", _backchannel_offsets(floor))
        taken = [i for i in floor.interruptions if i.takes_floor]
        late = rules.barge_in_s - TOLERANCE_S
        self.add("interruption", ((i.remaining_s, i.utterance.side) for i in taken))
        self.add("barge_in", ((i.remaining_s, i.utterance.side) for i in taken if i.remaining_s >= late))
        self.add("insertion", ((u.duration, u.side) for u in floor.insertions))
        gave_up = (i.utterance for i in floor.interruptions if not i.takes_floor)
        self.add("interrupter_gives_up", ((u.duration, u.side) for u in gave_up))


def _utterance_pauses(timeline: Timeline, utterances: Sequence[Utterance]) -> Iterator[tuple[float, int]]:
    for u in utterances:
        inside = timeline.tracks[u.side].speech[u.first : u.stop]
        for silence in (inside[1:, 0] - inside[:-1, 1]).tolist():
            yield silence, u.side


def _nearest_offsets(floor: Floor) -> Iterator[tuple[float, int]]:
    for turn in floor.turns[1:]:
        units = floor.units[1 - turn.side]
        i = int(np.searchsorted(units[:, 0], turn.start)) - 1
        if i >= 0:
            yield turn.start - float(units[i, 1]), turn.side


def _within_turn_pauses(floor: Floor, rules: HumanRules) -> Iterator[tuple[float, int]]:
    for turn in floor.turns:
        units = floor.units[turn.side]
        first, stop = np.searchsorted(units[:, 0], (turn.start, turn.end)).tolist()
        inside = units[first:stop]
        for silence in (inside[1:, 0] - inside[:-1, 1]).tolist():
            if silence <= rules.longest_pause_s + TOLERANCE_S:
                yield silence, turn.side


def _backchannel_delays(floor: Floor) -> Iterator[tuple[float, int]]:
    for u in floor.backchannels:
        units = floor.units[1 - u.side]
        i = int(np.searchsorted(units[:, 0], u.start, side="right")) - 1
        if i >= 0 and unit_at(units, u.start) is None:
            yield max(u.start - float(units[i, 1]), 0.0), u.side


def _backchannel_offsets(floor: Floor) -> Iterator[tuple[float, int]]:
    for u in floor.backchannels:
        units = floor.units[1 - u.side]
        i = int(np.searchsorted(units[:, 0], u.start, side="right")) - 1
        if i >= 0:
            yield min((u.start - e for e in units[max(i - 1, 0) : i + 1, 1].tolist()), key=abs), u.side
