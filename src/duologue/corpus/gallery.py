"""The gallery: a page per axis with its segments to be seen and heard, each with the rule that selected it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.axes import AXES
from duologue.base.report import Band, Fact, Lane, Mark, Page, Sample, Span, Table, write_report
from duologue.corpus.store import Row, SegmentStore
from duologue.dialogue.segments import Segment

if TYPE_CHECKING:
    from duologue.audio.wave import Samples

CARDS = 40
"""Segments on a page: the first of the index, which are in random order."""


def write_gallery(store: SegmentStore, folder: Path, command: str, cards: int = CARDS) -> list[Path]:
    """Write `AXIS.html` for each axis that has segments; the pages' paths."""
    made = []
    for axis in sorted(set(store.axes), key=list(AXES).index):
        total = store.axes.count(axis)
        shown = [row for row, _ in zip(store.rows(axis), range(cards), strict=False)]
        made.append(write_report(folder / f"{axis}.html", gallery_page(store, axis, shown, total, command)))
    return made


def gallery_page(store: SegmentStore, axis: str, rows: Sequence[Row], total: int, command: str) -> Page:
    """The page of one axis."""
    seconds = [row.end - row.start for row in rows]
    facts: list[tuple[Fact, ...]] = [
        ("segments of this axis", float(total)),
        ("shown here", float(len(rows))),
        ("mean length of those (s)", sum(seconds) / len(seconds) if seconds else None),
    ]
    return Page(
        title=f"Segments: {axis.replace('_', ' ')}",
        subtitle=AXES[axis].summary,
        tables=[Table("Here", ("", ""), facts, decimals=1)],
        samples=[card(row, store.segment(row)) for row in rows],
        notes=["Each card shows the context, then the shaded window in which the model acts. The agent's lane is the "
               "person whose place it takes."],
        command=command,
    )  # fmt: skip


def card(row: Row, segment: Segment) -> Sample:
    """One segment on its timeline."""
    short = {(e.start, e.end) for e in row.events if e.kind == "backchannel"}
    lanes = [
        Lane(
            name,
            [
                Span(a, b, "backchannel" if side == 0 and _within(a, b, short) else "speech")
                for a, b in row.speech[side]
            ],
            None if row.words[side] is None else list(row.words[side] or ()),
            wave=side,
        )
        for side, name in enumerate(("agent", "user"))
    ]
    bands = [Band(row.start, row.end, "window", "the model acts")]
    bands += [Band(e.start, e.end, "pause") for e in row.events if e.kind == "pause"]
    bands += [Band(e.start, e.end, "interruption") for e in row.events if e.kind == "interruption"]
    marks = [Mark(e.start, e.kind, "agent" if e.side == 0 else "user") for e in row.events if e.kind != "pause"]
    both = segment.agent_audio is not None and segment.user_audio is not None
    return Sample(
        id=row.id,
        title=f"{row.conversation}, {row.offset + row.start:.1f} s",
        duration=max(row.end, 0.1),
        lanes=lanes,
        bands=sorted(bands),
        marks=[m for m in marks if m.time >= 0],
        verdict=row.axis.replace("_", " "),
        status="info",
        why=row.rule,
        facts={
            "length (s)": row.end - row.start,
            "context (s)": row.start,
            "user": row.speakers[1] or str(row.user_side),
        },
        audio=(lambda: stereo(segment)) if both else None,
    )


def stereo(segment: Segment) -> tuple[Samples, int] | None:
    """Both waveforms as [2, S]; None if they cannot be read any more."""
    from duologue.audio.wave import Audio
    from duologue.base.errors import UserError
    from duologue.corpus.clips import side_by_side

    if segment.agent_audio is None or segment.user_audio is None:
        return None
    try:
        agent, user = segment.agent_audio(), segment.user_audio()
    except UserError:  # a clip that was moved; the page then says that there is no sound
        return None
    joined = side_by_side(Audio(agent[0][None], agent[1]), Audio(user[0][None], user[1]), segment.end)
    return joined.samples, joined.rate


def _within(start: float, end: float, spans: set[tuple[float, float]]) -> bool:
    return any(a - 1e-6 <= start and end <= b + 1e-6 for a, b in spans)
