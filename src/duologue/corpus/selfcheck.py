"""Is simulated talk timed as people talk? Plans or timelines measured by the rules of the human reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from duologue.corpus.sim_heard import plan_timeline
from duologue.corpus.spoken import Plan
from duologue.dialogue.observe import observe
from duologue.dialogue.reference import human_reference
from duologue.dialogue.statistics import Description, summarise
from duologue.dialogue.timeline import Timeline, Track

CHECKED = ("floor_transfer_offset", "within_turn_pause", "utterance")
"""Quantities whose divergence is checked."""
LIMIT = 0.05
"""Divergence in bits below which a distribution passes, with `DistanceRules.min_events` events."""

COUNTS = {
    "ipus_per_min": "ipu", "pauses_per_min": "pause", "gaps_per_min": "gap", "overlaps_per_min": "overlap",
    "floor_transfers_per_min": "floor_transfer_offset", "backchannels_per_min": "backchannel",
    "interruptions_per_min": "interruption", "interruptions_overlap_ge_0.5_s_per_min": "barge_in",
    "insertions_per_min": "insertion", "insertions_started_in_overlap_per_min": "interrupter_gives_up",
}  # fmt: skip
"""Rates of the reference that count events: the quantity whose `per_min` they are."""
SUMS = {"overlap_s_per_min": "overlap", "pause_s_per_min": "pause", "gap_s_per_min": "gap"}
"""Rates of the reference in seconds per minute: the quantity whose `s_per_min` they are."""
NOT_HEARD = frozenset({"laughter_per_min"})
"""Rates of the reference that no timeline holds: laughter is not speech, and is not simulated."""


@dataclass(frozen=True, slots=True)
class RateCheck:
    """A rate beside the middle half of the reference's calls."""

    name: str
    value: float
    p25: float
    p75: float
    human: float
    """All calls pooled."""

    @property
    def inside(self) -> bool:
        return self.p25 <= self.value <= self.p75


@dataclass(frozen=True, slots=True)
class DistanceCheck:
    """A divergence from human talk, in bits."""

    name: str
    value: float
    n: int
    floor: float
    """What so many events of the reference itself would give on average."""
    passed: bool
    """Below `LIMIT`, with enough events."""


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """What was measured, and whether it is human."""

    form_rule: str
    """lexical: with words; duration: from speech alone, which the reference is not made for."""
    conversations: int
    minutes: float
    rates: tuple[RateCheck, ...]
    distances: tuple[DistanceCheck, ...]

    @property
    def passed(self) -> bool:
        return all(r.inside for r in self.rates) and all(d.passed for d in self.distances)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        rates = [asdict(r) | {"inside": r.inside} for r in self.rates]
        head = {"form_rule": self.form_rule, "conversations": self.conversations, "minutes": self.minutes}
        return head | {"passed": self.passed, "rates": rates, "distances": [asdict(d) for d in self.distances]}

    def text(self) -> str:
        """As a table."""
        lines = [f"{self.conversations} conversations, {self.minutes:.1f} min, backchannels by {self.form_rule} rule"]
        lines.append(f"{'divergence from human':40} {'bits':>8} {'events':>7} {'floor':>7}")
        for d in self.distances:
            lines.append(f"{d.name:40} {d.value:8.4f} {d.n:7d} {d.floor:7.4f}  {'ok' if d.passed else 'NOT OK'}")
        lines.append(f"{'rate':40} {'value':>8} {'p25':>7} {'p75':>7} {'pooled':>7}")
        for r in self.rates:
            verdict = "ok" if r.inside else "NOT OK"
            lines.append(f"{r.name:40} {r.value:8.3f} {r.p25:7.3f} {r.p75:7.3f} {r.human:7.3f}  {verdict}")
        return "\n".join(lines)


def speech_only(timeline: Timeline) -> Timeline:
    """The same conversation as a speech detector gives it: intervals without words."""
    return Timeline(Track(timeline.agent.speech), Track(timeline.user.speech), timeline.duration)


def check(timelines: Iterable[Timeline]) -> SelfCheck:
    """Measure conversations by `HumanRules` and compare them with the human reference.

    With words on both sides in all of them backchannels are known by their words, as in the reference; else by
    duration alone.

    Raises:
        ValueError: no conversation.
    """
    return check_description(summarise([observe(t) for t in timelines]))


def check_plans(plans: Sequence[Plan]) -> tuple[SelfCheck, SelfCheck]:
    """The check of plans with their words, and from their speech intervals alone."""
    timelines = [plan_timeline(p) for p in plans]
    return check(timelines), check(speech_only(t) for t in timelines)


def check_description(found: Description) -> SelfCheck:
    """Compare statistics that were measured already."""
    bands = human_reference()["rates_per_call"]
    rates = tuple(
        RateCheck(name, value, bands[name]["p25"], bands[name]["p75"], bands[name]["pooled"])
        for name, value in measured_rates(found).items()
    )
    distances = []
    for name in CHECKED:
        d = found.both[name].human
        assert d is not None
        distances.append(DistanceCheck(name, d.value, d.n, d.floor, d.enough and d.value < LIMIT))
    return SelfCheck(found.form_rule, found.conversations, found.minutes, rates, tuple(distances))


def measured_rates(found: Description) -> dict[str, float]:
    """Every rate that the reference lists under its own name, except laughter."""
    rates = {name: found.both[q].per_min for name, q in COUNTS.items()}
    rates |= {name: found.both[q].s_per_min for name, q in SUMS.items()}
    one, both = (found.seconds_per_min[k] for k in ("one_speaks", "both_speak"))
    rates["speech_both_channels_added_s_per_min"] = one + 2 * both
    rates["speech_at_least_one_s_per_min"] = one + both
    rates["speech_exactly_one_s_per_min"] = one
    rates["nobody_speaks_s_per_min"] = found.seconds_per_min["nobody_speaks"]
    return rates
