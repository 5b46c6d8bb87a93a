"""A hint for who trains beside other work: two threads that wait for each other on busy cores lose most of the time."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from statistics import median

FIRST = 3
"""Steps that say how long a step takes."""
SLOW = 3.0
"""A step that takes so many times as long is slow."""
HINT = "with --threads 1 a run beside other work is faster (the same command with --resume --threads 1 goes on)"


def busy() -> str | None:
    """A line that says so, if the machine's load is above its number of cores; None also where nobody knows it."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        return None
    return busy_at(load, os.cpu_count() or 1)


def busy_at(load: float, cores: int) -> str | None:
    """The same of a load average."""
    if load <= cores:
        return None
    return f"this machine is busy (load {load:.1f} on {cores} core{'s' * (cores > 1)}): {HINT}"


class Pace:
    """Watches the seconds of steps and prints one line, once, if they become slow or the machine was busy before."""

    def __init__(self, known: str | None = None) -> None:
        self._steps: list[float] = []
        self._told = known is not None
        if known is not None:
            print(known, file=sys.stderr)

    def note(self, row: Mapping[str, object]) -> None:
        """Take a row of metrics with its `seconds`."""
        seconds = row.get("seconds")
        if self._told or not isinstance(seconds, float):
            return
        self._steps.append(seconds)
        usual = median(self._steps[:FIRST])
        if len(self._steps) > FIRST and seconds > SLOW * usual:
            self._told = True
            print(f"step {row['step']} took {seconds:.0f} s, the first ones {usual:.0f} s: {HINT}", file=sys.stderr)
