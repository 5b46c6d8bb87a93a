"""Timing of real human talk: the aggregate statistics of 2,438 telephone calls (259 h) that ship with the package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOOR = "floor_transfer_offset"
TALK = "overlaps_and_interruptions"

DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "floor_transfer_offset": (FLOOR, "main"),
    "offset_to_nearest_ipu": (FLOOR, "to_nearest_ipu"),
    "heldner_edlund_offset": (FLOOR, "ipu_level_heldner_edlund"),
    "ipu": ("durations", "ipu_dur_s"),
    "utterance": ("durations", "utterance_dur_s"),
    "turn": ("durations", "turn_dur_s"),
    "within_turn_pause": ("durations", "within_turn_pause_0.2_to_3.0_s"),
    "pause": ("rates_per_call", "mutual_pause_dur_s"),
    "gap": ("rates_per_call", "mutual_gap_dur_s"),
    "overlap": (TALK, "overlap_dur_s"),
    "backchannel": ("backchannels", "duration_s"),
    "backchannel_delay": ("backchannels", "delay_since_partner_ipu_end_when_started_in_silence_s"),
    "backchannel_offset": ("backchannels", "signed_offset_to_nearest_partner_ipu_end_s"),
    "interruption": (TALK, "interrupted_keeps_talking_until_utterance_end_s"),
    "interrupter_gives_up": (TALK, "interrupter_gives_up_after_s"),
    "alignment_utterance": ("durations", "utterance_plain_rule_dur_s"),
}
"""Where each quantity's distribution stands in `human_dynamics.json`."""

RATES = {"barge_in": "interruptions_overlap_ge_0.5_s_per_min", "insertion": "insertions_per_min"}
"""Events per minute that are published without their distribution: the keys under `rates_per_call`."""

SECONDS = {
    "one_speaks": "speech_exactly_one_s_per_min",
    "both_speak": "overlap_s_per_min",
    "nobody_speaks": "nobody_speaks_s_per_min",
}
"""How time is shared out, in seconds per minute: the keys under `rates_per_call`."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """One quantity of the reference: `n` events, their mean, and 101 quantiles (0, 1, ... 100 %) in seconds."""

    n: int
    mean_s: float
    quantiles_s: NDArray[np.float64]

    def cdf(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of events at or below x: linear between the quantiles, exponential within the outermost percents.

        One slip of an alignment can put the 100 % quantile at a minute. Spread evenly up to there, the last percent
        would leave the bins next to it empty; so it decays at the rate seen between the 95 % and 99 % quantiles.
        """
        q, shares = self.quantiles_s, np.linspace(0.0, 1.0, len(self.quantiles_s))
        last = np.append(np.diff(q) > 0, True)  # of equal quantiles the highest share counts
        found = np.interp(x, q[last], shares[last])
        found = np.where(x > q[-2], 1.0 - _tail(x - q[-2], q[-1] - q[-2], q[-2] - q[-6]), found)
        found = np.where(x < q[1], _tail(q[1] - x, q[1] - q[0], q[5] - q[1]), found)
        return np.where(x < q[0], 0.0, np.where(x >= q[-1], 1.0, found))

    def percentile(self, q: float) -> float:
        """The q-th percentile, 0 <= q <= 100, in seconds."""
        return float(np.interp(q, np.arange(101.0), self.quantiles_s))


def _tail(beyond: NDArray[np.float64], reach: float, four_percent: float) -> NDArray[np.float64]:
    """Share of all events farther out than `beyond` the 1 % (or 99 %) quantile; none is farther than `reach`.

    `four_percent` is the distance from there to the 5 % (95 %) quantile: shares of 0.05 and 0.01 give the decay.
    """
    if four_percent <= 0 or reach <= 0:
        return 0.01 * (1.0 - np.clip(beyond / max(reach, 1e-12), 0.0, 1.0))
    decay = np.log(5.0) / four_percent
    left, none = np.exp(-decay * np.clip(beyond, 0.0, reach)), np.exp(-decay * reach)
    return np.asarray(0.01 * (left - none) / (1.0 - none))


@cache
def human_reference() -> dict[str, Any]:
    """`human_dynamics.json` as it ships: read once, when first asked for."""
    loaded: dict[str, Any] = json.loads((files(__package__) / "human_dynamics.json").read_text(encoding="utf-8"))
    return loaded


@cache
def human_distribution(quantity: str) -> Distribution:
    """The human distribution of one quantity of `DISTRIBUTIONS`."""
    node = human_reference()
    for key in DISTRIBUTIONS[quantity]:
        node = node[key]
    return Distribution(node["n"], node["mean_s"], np.array(node["q0_100_s"]))


def human_rate(quantity: str) -> float | None:
    """Human events per minute of conversation (both speakers together, all calls pooled); None if not published."""
    if quantity in RATES:
        return float(human_reference()["rates_per_call"][RATES[quantity]]["pooled"])
    if quantity in DISTRIBUTIONS:
        return human_distribution(quantity).n / float(human_reference()["meta"]["minutes"])
    return None


def human_seconds(quantity: str) -> float:
    """Human seconds per minute of `one_speaks`, `both_speak` or `nobody_speaks` (all calls pooled)."""
    return float(human_reference()["rates_per_call"][SECONDS[quantity]]["pooled"])
