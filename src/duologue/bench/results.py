"""What a scored benchmark task is: one status per sample, one summary per task, one JSON shape for all modes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from duologue.base.errors import UserError
from duologue.base.files import read_json, write_json

Status = Literal["ok", "missing", "invalid", "not_exercised"]
STATUSES: tuple[Status, ...] = ("ok", "missing", "invalid", "not_exercised")

Detail = float | int | str | bool | None | list[list[float]] | list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleScore:
    """How one sample went. A value that could not be measured is None, never 0."""

    status: Status = "ok"
    """ok: scored; missing: a needed file is absent; invalid: a file is broken; not_exercised: it tests nothing."""
    why: str = ""
    """One sentence: what decided the verdict, or what is missing or broken."""
    take_over: int | None = None
    """1 when the agent took the turn by the task's rule, 0 when it did not."""
    latency_s: float | None = None
    """Seconds from the end of the user's turn to the agent's onset; signed in the corrected mode."""
    frequency: float | None = None
    """Backchannels per second."""
    jsd: float | None = None
    """Distance between when this agent and when people backchannel; which distance is the mode's choice."""
    judge_score: float | None = None
    """The judge's rating, 0 to 5."""
    details: Mapping[str, Detail] = field(default_factory=dict)
    """Measurements that only this task or mode has, units in their names."""

    def to_json(self) -> dict[str, Any]:
        fixed = {
            "take_over": self.take_over,
            "latency_s": self.latency_s,
            "jsd": self.jsd,
            "frequency": self.frequency,
            "judge_score": self.judge_score,
            "status": self.status,
            "why": self.why,
        }
        return {**fixed, **self.details}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """One task of one benchmark in one mode: the summary and every sample behind it."""

    benchmark: str
    task: str
    mode: str
    summary: Mapping[str, Any]
    samples: Mapping[str, SampleScore]
    notes: Sequence[str] = ()
    """What a reader must know before comparing the numbers: proxies, missing references, rules not applied."""

    def to_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "task": self.task,
            "mode": self.mode,
            "summary": dict(self.summary),
            "notes": list(self.notes),
            "samples": {name: sample.to_json() for name, sample in self.samples.items()},
        }


def write_score(path: Path, score: TaskScore) -> None:
    """Write the JSON contract of `duologue score`."""
    write_json(path, score.to_json())


def read_summary(path: Path) -> dict[str, Any]:
    """Read back a file written by `write_score`, checking that it is one.

    Errors: UserError when the file is not a result of `duologue score`.
    """
    value = read_json(path)
    needed = ("benchmark", "task", "mode", "summary", "samples")
    if not isinstance(value, dict) or not all(key in value for key in needed) or not isinstance(value["summary"], dict):
        raise UserError("not a result of `duologue score`", place=path, mend="give files written with --json")
    return value


def counts(samples: Iterable[SampleScore]) -> dict[str, int]:
    """How many samples have each status; every status is listed."""
    seen = Counter(sample.status for sample in samples)
    return {status: seen[status] for status in STATUSES}


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what was measured; None when nothing was."""
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known) if known else None


def median(values: Iterable[float | None]) -> float | None:
    """Median of what was measured; None when nothing was."""
    known = sorted(v for v in values if v is not None)
    middle = len(known) // 2
    return None if not known else known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2


def wilson_interval(successes: float, n: int, z: float = 1.96) -> tuple[float, float] | None:
    """95 % confidence interval of a rate (Wilson 1927), which stays inside [0, 1] at small n. None when n is 0."""
    if n == 0:
        return None
    p = successes / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
