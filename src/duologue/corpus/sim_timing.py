"""Draws of the simulator: times and lengths from the human quantiles, and a knob for each rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache

import numpy as np
from numpy.typing import NDArray

from duologue.base.errors import UserError
from duologue.dialogue.lexicon import human_lexicon, plain_words
from duologue.dialogue.reference import human_reference

TABLES: dict[str, tuple[str, ...]] = {
    "turn_words": ("durations", "turn_words", "q0_100_words"),
    "ipu_words": ("durations", "ipu_words", "q0_100_words"),
    "pause": ("durations", "within_turn_pause_0.2_to_3.0_s", "q0_100_s"),
    "offset": ("floor_transfer_offset", "main", "q0_100_s"),
    "backchannel_delay": ("backchannels", "delay_since_partner_ipu_end_when_started_in_silence_s", "q0_100_s"),
    "gives_up": ("overlaps_and_interruptions", "interrupter_gives_up_after_s", "q0_100_s"),
    "uh": ("disfluencies", "uh_dur_s", "q0_100_s"),
    "um": ("disfluencies", "um_dur_s", "q0_100_s"),
}
"""Where the 101 quantiles of each drawn quantity stand in `human_dynamics.json`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """How often things happen, as multiples of the human rate: 1 is human, 0 never."""

    pauses: float = 1.0
    """Silences inside turns."""
    fillers: float = 1.0
    """Uh and um."""
    backchannels: float = 1.0
    """Short feedback of the listener."""
    overlaps: float = 1.0
    """Turns that begin within half a second of the end of the turn before."""
    interruptions: float = 1.0
    """Turns that begin while the other has half a second or more to say; in some of them the other breaks off."""
    insertions: float = 1.0
    """Interruptions that are given up: the holder of the floor talks on."""
    false_starts: float = 1.0
    """Words broken off and begun again, and words said twice."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if not 0 <= value <= 10:
                raise UserError(
                    f"{value} is not a multiple", place=f"--knobs.{f.name.replace('_', '-')}", mend="use 0 to 10"
                )


@cache
def quantiles(name: str) -> NDArray[np.float64]:
    """The 101 human quantiles of a quantity of `TABLES`."""
    node = human_reference()
    for key in TABLES[name]:
        node = node[key]
    return np.array(node, dtype=np.float64)


def draw(name: str, rng: np.random.Generator, low: float = 0.0, high: float = 0.995) -> float:
    """One value of a quantity, between two quantiles: the outermost half percent holds slips of the alignment."""
    return float(np.interp(rng.uniform(low, high) * 100.0, np.arange(101.0), quantiles(name)))


@dataclass(slots=True)
class Offsets:
    """Floor-transfer offsets for one conversation. What does not fit where it is drawn is kept for a later transfer.

    So that the offsets of a conversation as a whole are those drawn, though not every turn can be overlapped by much.
    """

    rng: np.random.Generator
    knobs: Knobs
    kept: list[float] = field(default_factory=list)

    def draw(self) -> float:
        """One offset in seconds; the knobs weigh overlaps and interruptions against transfers after silence."""
        while True:
            offset = draw("offset", self.rng, low=0.005)
            weight = 1.0 if offset >= 0 else self.knobs.overlaps if offset > -0.5 else self.knobs.interruptions
            if self.rng.random() * max(1.0, self.knobs.overlaps, self.knobs.interruptions) < weight:
                return offset


@cache
def feedback() -> tuple[tuple[str, ...], NDArray[np.float64], Mapping[str, float]]:
    """Backchannels as people word them: forms, their shares, and the median length of each in seconds."""
    lexicon = human_lexicon()
    rows = [
        r for r in human_reference()["backchannels"]["lexicon_top60"] if lexicon.is_backchannel(plain_words(r["form"]))
    ]
    n = np.array([r["n"] for r in rows], dtype=np.float64)
    return tuple(r["form"] for r in rows), n / n.sum(), {r["form"]: float(r["median_dur_s"]) for r in rows}


def answered_share(pause_s: float) -> float:
    """Share of the speaker's pauses of this length in which a listener gives feedback (human reference)."""
    table = human_reference()["backchannels"]["answered_pause_share_by_pause_length"]
    for edge, key in ((0.4, "0.2_to_0.4_s"), (0.7, "0.4_to_0.7_s"), (1.0, "0.7_to_1.0_s"), (2.0, "1.0_to_2.0_s")):
        if pause_s <= edge:
            return float(table[key])
    return float(table["2.0_to_up_s"])
