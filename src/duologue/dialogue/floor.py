"""Who holds the floor: turns, floor transfers, backchannels, lead-ins, insertions and interruptions.

Rules 5 to 9 of the human reference (`human_dynamics.json`). Where its text leaves freedom, these readings reproduce
its published counts on the calls it was made from:

* Utterances are taken in order of start, then of end, then agent before user.
* The holder's own backchannel-form and filler-only utterances belong to its turn and can end it.
* A backchannel-form utterance of the other side is a backchannel when the holder has a later-ending utterance in the
  same turn that is not filler-only. Otherwise it leads in the turn that its speaker takes next; at the end of a
  recording, where no turn follows, it is neither (`unplaced`).
* A filler-only utterance of the other side can lead in a turn in the same way, and is nothing else.
* Before the first turn, a short utterance leads it in when it is by the same speaker, and is unplaced when not.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from duologue.dialogue.intervals import Intervals
from duologue.dialogue.timeline import Timeline
from duologue.dialogue.utterances import (
    HUMAN_RULES,
    FormRule,
    HumanRules,
    Utterance,
    form_rule,
    human_utterances,
    unit_at,
)


class Turn(NamedTuple):
    """A turn of `side` in seconds, from `start` (lead-in included); `taken` starts its first full utterance."""

    start: float
    end: float
    side: int
    taken: float


class Interruption(NamedTuple):
    """A full utterance that starts strictly inside an IPU of the floor's holder.

    `remaining_s`: how long the holder's turn (for an insertion: its latest utterance so far) still goes on.
    `takes_floor`: the interrupted yields; otherwise the interrupter does, and the utterance is an insertion.
    """

    utterance: Utterance
    remaining_s: float
    takes_floor: bool


@dataclass(frozen=True, slots=True)
class Floor:
    """Everything the rules of the human reference find in one conversation; events in order of start."""

    units: tuple[Intervals, Intervals]
    utterances: tuple[Utterance, ...]
    turns: tuple[Turn, ...]
    backchannels: tuple[Utterance, ...]
    lead_ins: tuple[Utterance, ...]
    insertions: tuple[Utterance, ...]
    interruptions: tuple[Interruption, ...]
    unplaced: tuple[Utterance, ...]
    form_rule: FormRule

    def transfers(self) -> list[tuple[float, int]]:
        """Floor-transfer offsets: (start of a turn minus end of the turn before it, side that takes the floor)."""
        return [(b.start - a.end, b.side) for a, b in pairwise(self.turns)]


class _Holding:
    """The floor in one side's hands while the rules walk through the conversation."""

    def __init__(self, first: Utterance) -> None:
        self.side, self.taken, self.start = first.side, first.start, first.start
        self.full_until = first.end
        self.own = [first]

    def full(self, utterance: Utterance) -> None:
        self.full_until = max(self.full_until, utterance.end)
        self.own.append(utterance)

    def speaks_until(self) -> float:
        return max(u.end for u in self.own if u.form != "filler")


def find_floor(timeline: Timeline, rules: HumanRules = HUMAN_RULES) -> Floor:
    """Find turns and everything around them by the rules of the human reference.

    With words on both sides backchannels are lexical; otherwise by duration alone (`Floor.form_rule` says which).
    """
    units, sides = human_utterances(timeline, rules)
    ordered = sorted(sides[0] + sides[1], key=lambda u: u[:3])
    holdings, insertions = _pass_floor([u for u in ordered if u.form == "full"])
    short = [u for u in ordered if u.form != "full"]
    backchannels, lead_ins, unplaced = _place_short(short, holdings)
    turns = _turns(holdings)
    return Floor(
        units, tuple(ordered), turns, backchannels, lead_ins, tuple(insertions),
        _interruptions(units, turns, holdings, insertions), unplaced, form_rule(timeline),
    )  # fmt: skip


def _pass_floor(full: list[Utterance]) -> tuple[list[_Holding], list[Utterance]]:
    """Rule 5: whose full utterance takes the floor, and whose is an insertion."""
    holdings: list[_Holding] = []
    insertions = []
    for utterance in full:
        if holdings and utterance.side == holdings[-1].side:
            holdings[-1].full(utterance)
        elif not holdings or utterance.end > holdings[-1].full_until:
            holdings.append(_Holding(utterance))
        else:
            insertions.append(utterance)
    return holdings, insertions


def _place_short(
    short: list[Utterance], holdings: list[_Holding]
) -> tuple[tuple[Utterance, ...], tuple[Utterance, ...], tuple[Utterance, ...]]:
    """Rule 6: backchannels, lead-ins, and what is neither. The holder's own join its turn."""
    taken = [h.taken for h in holdings]
    when = [bisect_right(taken, u.start) - 1 for u in short]
    others = []
    for utterance, k in zip(short, when, strict=True):
        if k >= 0 and holdings[k].side == utterance.side:
            holdings[k].own.append(utterance)
        else:
            others.append((utterance, k))
    until = [h.speaks_until() for h in holdings]
    backchannels, lead_ins, unplaced = [], [], []
    for utterance, k in others:
        follows = k + 1 < len(holdings) and holdings[k + 1].side == utterance.side
        if k >= 0 and until[k] > utterance.end:
            if utterance.form == "backchannel":
                backchannels.append(utterance)
        elif follows:
            holdings[k + 1].start = min(holdings[k + 1].start, utterance.start)
            lead_ins.append(utterance)
        elif utterance.form == "backchannel":
            unplaced.append(utterance)
    return tuple(backchannels), tuple(lead_ins), tuple(unplaced)


def _turns(holdings: list[_Holding]) -> tuple[Turn, ...]:
    """Rule 7: a turn ends with the holder's last utterance begun before the next turn starts."""
    made = []
    for k, h in enumerate(holdings):
        limit = holdings[k + 1].start if k + 1 < len(holdings) else np.inf
        end = max(u.end for u in h.own if u.start < limit or u is h.own[0])
        made.append(Turn(h.start, end, h.side, h.taken))
    return tuple(made)


def _interruptions(
    units: tuple[Intervals, Intervals],
    turns: tuple[Turn, ...],
    holdings: list[_Holding],
    insertions: list[Utterance],
) -> tuple[Interruption, ...]:
    """Rule 9."""
    found = []
    for turn, next_holding in zip(turns, holdings[1:], strict=False):
        utterance = next_holding.own[0]
        if unit_at(units[1 - utterance.side], utterance.start) is not None:
            found.append(Interruption(utterance, max(turn.end - utterance.start, 0.0), True))
    taken = [t.taken for t in turns]
    for utterance in insertions:
        if unit_at(units[1 - utterance.side], utterance.start) is not None:
            h = holdings[bisect_right(taken, utterance.start) - 1]
            last = max(u.end for u in h.own if u.start <= utterance.start)
            found.append(Interruption(utterance, last - utterance.start, False))
    return tuple(sorted(found))
