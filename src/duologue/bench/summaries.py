"""From samples to the numbers of a task: the official means, and means that keep every attempted sample in view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from duologue.bench.results import SampleScore, counts, mean, median, wilson_interval


def summarise_compat(task: str, samples: Mapping[str, SampleScore]) -> dict[str, Any]:
    """The official means: over the samples that the official script can score, latencies over take-overs only.

    The official scripts stop at the first sample that they cannot read, so they have no number for a folder with one;
    here it is left out of the means and listed.
    """
    ok = [s for s in samples.values() if s.status == "ok"]
    summary = _common(samples, mean(s.take_over for s in ok))
    summary["n_scored"] = len(ok)
    if task == "user_interruption":
        summary["n_judged"] = sum(s.judge_score is not None for s in ok)
    if task == "backchannel" and ok:
        summary["take_over_rate_sd"] = _sd([s.take_over for s in ok])
        summary["frequency_sd"] = _sd([s.frequency for s in ok])
        summary["jsd_sd"] = _sd([s.jsd for s in ok])
    return summary


def summarise_corrected(task: str, samples: Mapping[str, SampleScore]) -> dict[str, Any]:
    """Means whose denominator keeps the missing and invalid samples and leaves out those that exercise nothing.

    `take_over_rate` counts the take-overs that were seen; `take_over_rate_range` says what the rate would be if every
    missing or invalid sample had gone one way or the other, so that losing samples can never pass for doing well.
    """
    attempted = [s for s in samples.values() if s.status != "not_exercised"]
    taken = sum(s.take_over or 0 for s in attempted)
    unknown = sum(s.take_over is None for s in attempted)
    n = len(attempted)
    summary = _common(samples, taken / n if n else None)
    summary |= {
        "n_scored": n - unknown,
        "n_attempted": n,
        "take_over_rate_range": [taken / n, (taken + unknown) / n] if n else None,
        "take_over_rate_ci95": wilson_interval(taken, n),
    }
    if task in ("smooth_turn_taking", "user_interruption"):
        summary["latency_median_s"] = median(s.latency_s for s in attempted)
    if task == "smooth_turn_taking":
        summary["early_start_rate"] = _share(attempted, "early_start")
        summary["talked_through_rate"] = _share(attempted, "talked_through")
    if task == "user_interruption":
        stops = [v for s in attempted if isinstance(v := s.details.get("stop_latency_s"), float)]
        summary["stop_latency_s"] = mean(stops)
        summary["stop_latency_median_s"] = median(stops)
        summary["talked_through_rate"] = _share(attempted, "talked_through")
        summary["n_judged"] = sum(s.judge_score is not None for s in attempted)
    return summary


def _common(samples: Mapping[str, SampleScore], take_over_rate: float | None) -> dict[str, Any]:
    ok = [s for s in samples.values() if s.status == "ok"]
    return {
        "n": len(samples),
        "counts": counts(samples.values()),
        "take_over_rate": take_over_rate,
        "latency_s": mean(s.latency_s for s in ok if s.take_over == 1),
        "backchannel_frequency": mean(s.frequency for s in ok),
        "jsd": mean(s.jsd for s in ok),
        "judge_score": mean(s.judge_score for s in ok),
    }


def _share(samples: Sequence[SampleScore], key: str) -> float | None:
    """Share of the samples with a yes/no measurement in which it is yes."""
    known = [bool(s.details[key]) for s in samples if s.details.get(key) is not None]
    return sum(known) / len(known) if known else None


def _sd(values: Sequence[float | None]) -> float | None:
    """Population standard deviation, as the official backchannel script prints it."""
    known = [v for v in values if v is not None]
    return float(np.std(known)) if known else None
