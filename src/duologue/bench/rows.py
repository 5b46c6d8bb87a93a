"""One measured number beside its target: the rows of `duologue evaluate nano`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_HEADS = ("what", "value", "95 % interval", "n", "target", "")
_RIGHT = (False, True, True, True, False, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A measurement, or the reason why there is none."""

    what: str
    """What was measured, with its unit."""
    value: float | None
    """None: not measured."""
    n: int | None
    """How many things the value is about (turns, utterances, frames)."""
    interval: tuple[float, float] | None
    """Of 95 %."""
    target: str
    """As a person reads it: ">= 0.70", "reported"."""
    passed: bool | None
    """None: nothing to pass, or not measured."""
    note: str = ""
    """How it was measured, what falls short, or why it was not."""


def table(rows: Sequence[Row]) -> str:
    """An aligned table in plain text, one line a row; notes below it, numbered."""
    notes = list(dict.fromkeys(row.note for row in rows if row.note))
    cells = [_HEADS, *(_cells(row, notes) for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(_HEADS))]
    lines = ["  ".join(_put(*cell) for cell in zip(line, widths, _RIGHT, strict=True)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths).rstrip())
    return "\n".join(lines + [f"[{n}] {note}" for n, note in enumerate(notes, 1)])


def number(value: float) -> str:
    """Three or four figures that matter, without an exponent below a million."""
    size = abs(value)
    if size >= 1e6:
        return f"{value:.3g}"
    return f"{value:.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.3f}"


def _cells(row: Row, notes: list[str]) -> tuple[str, ...]:
    value = "not measured" if row.value is None else number(row.value)
    interval = "" if row.interval is None else f"{number(row.interval[0])} to {number(row.interval[1])}"
    verdict = {True: "met", False: "missed", None: ""}[row.passed]
    mark = f"[{notes.index(row.note) + 1}]" if row.note else ""
    count = "" if row.n is None else str(row.n)
    return (row.what, value, interval, count, row.target, f"{verdict} {mark}".strip())


def _put(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
