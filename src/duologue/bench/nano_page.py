"""The report of `duologue evaluate nano`: every row with its target, and talks to be seen and heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.audio.wave import read_audio
from duologue.base.report import Cell, Fact, Lane, Page, Sample, Span, Table
from duologue.bench.nano_speech import Talked, talk_facts, talk_table
from duologue.bench.rows import Row, number
from duologue.dialogue.timeline import Timeline

if TYPE_CHECKING:
    from duologue.base.report.model import Sound


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One talk on the page."""

    talk: Talked
    title: str
    kind: str
    """What it tests, such as "pause"; the page filters by it."""
    timeline: Timeline
    sound: Path
    """Stereo, agent and user; beside the page."""


def page(
    model: str, rows: Sequence[Row], scripted: Sequence[Shown], users: Sequence[Shown], command: str,
    *, notes: Sequence[str] = (), more: Sequence[Table] = (),
) -> Page:  # fmt: skip
    """The whole page; sound is read while it is written. `more` tables come after those of rows and talks."""
    met = sum(row.passed is True for row in rows)
    judged = sum(row.passed is not None for row in rows)
    missing = sum(row.value is None for row in rows)
    tables = [row_table(rows)]
    for title, shown in (("Talks with scripted users", scripted), ("Talks with recorded users", users)):
        if shown:
            tables.append(talk_table(title, [s.talk for s in shown]))
    lacking: dict[str, list[str]] = {}
    for row in rows:
        if row.value is None:
            lacking.setdefault(row.note.removeprefix("not measured: "), []).append(row.what)
    missed = [f"Not measured ({reason}): {'; '.join(names)}." for reason, names in lacking.items()]
    return Page(
        title=f"Evaluation of {model}",
        subtitle=f"{met} of {judged} targets met; {missing} rows not measured",
        tables=[*tables, *more],
        samples=[card(shown) for shown in (*scripted, *users)],
        notes=[*notes, *missed],
        command=command,
    )


def row_table(rows: Sequence[Row]) -> Table:
    """All rows; notes are shown when a name is pointed at."""
    cells: list[tuple[Fact | Cell, ...]] = [
        (
            Cell(row.what, row.note) if row.note else row.what,
            None if row.value is None else number(row.value),
            None if row.interval is None else f"{number(row.interval[0])} to {number(row.interval[1])}",
            row.n,
            row.target,
            {True: "met", False: "missed", None: ""}[row.passed],
        )
        for row in rows
    ]
    return Table("What was measured", ("", "value", "95 % interval", "n", "target", "verdict"), cells)


def card(shown: Shown) -> Sample:
    """One talk on its timeline."""
    lanes = [
        Lane(name, [Span(a, b) for a, b in side.speech.tolist()], side.words and list(side.words), wave=wave)
        for wave, (name, side) in enumerate(zip(("agent", "user"), shown.timeline.tracks, strict=True))
    ]
    return Sample(
        id=shown.talk.name, title=shown.title, duration=max(shown.timeline.duration, 0.1), lanes=lanes,
        verdict=shown.kind, facts=talk_facts(shown.talk), audio=partial(_read, shown.sound),
    )  # fmt: skip


def _read(path: Path) -> Sound:
    audio = read_audio(path)
    return audio.samples, audio.rate
