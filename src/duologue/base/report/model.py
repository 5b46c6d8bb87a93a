"""What a report page holds: tables, figures and samples, in plain values. Times are seconds from the sample's start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    # float32 [C, S] (or [S]) in [-1, 1], and the sample rate in Hz.
    Sound: TypeAlias = tuple[NDArray[np.float32], int]

TimedWord: TypeAlias = tuple[str, float, float]
"""Text, start, end. A `Word` of the dialogue layer is one. Times that are NaN: in the transcript only."""

Fact: TypeAlias = str | float | None
"""One value of a sample or table. None and NaN are shown as not measured, never as 0."""

Status: TypeAlias = Literal["good", "bad", "info", "missing", "invalid", "not exercised"]
"""How a verdict is to be read: its sign and colour. `info` says neither good nor bad; `missing` that there was
nothing to score; `invalid` that what was there could not be scored; `not exercised` that the sample never came to
the behaviour in question."""

SpanKind: TypeAlias = Literal["speech", "backchannel", "noise"]
BandKind: TypeAlias = Literal["pause", "gap", "overlap", "interruption", "turn", "window"]
MarkKind: TypeAlias = Literal["event", "user", "agent"]


class Span(NamedTuple):
    """A stretch of one lane: speech as a filled bar, a backchannel hollow with a broken line, noise with dots."""

    start: float
    end: float
    kind: SpanKind = "speech"
    label: str = ""


class Band(NamedTuple):
    """A stretch of the whole conversation, shaded across all lanes: a pause, an overlap, the window that is scored."""

    start: float
    end: float
    kind: BandKind = "window"
    label: str = ""


class Mark(NamedTuple):
    """A moment, as a line across all lanes in the colour of `user` or `agent`, or in ink (`event`)."""

    time: float
    label: str
    kind: MarkKind = "event"


class Bracket(NamedTuple):
    """A signed distance, as an arrow from `start` to `end` under the lanes: latency runs from the user's end to the
    agent's onset and points left when the agent was early. Without a label it says the seconds."""

    start: float
    end: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """One speaker of a sample. `user` and `agent` have colours of their own, other names take the next ones."""

    name: str
    spans: Sequence[Span] = ()
    words: Sequence[TimedWord] | None = None
    """None: nobody transcribed it. Empty: transcribed, and no word found."""
    wave: int | None = None
    """Row of the sample's audio that this lane shows and plays."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One card of the page: what happened, why it was judged so, its timeline, its sound."""

    id: str
    """Short and unique on the page; `report.html#ID` leads to it."""
    title: str
    duration: float
    """Length of the timeline; longer audio makes it longer."""
    lanes: Sequence[Lane]
    bands: Sequence[Band] = ()
    marks: Sequence[Mark] = ()
    brackets: Sequence[Bracket] = ()
    verdict: str = ""
    """One of a few words ("take-over", "silent"): the page filters by it. Numbers belong in `facts`."""
    status: Status = "info"
    why: str = ""
    """One sentence: the rule that led to the verdict."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """Named values, the unit in the name ("latency (s)"). The page sorts by those that are numbers."""
    audio: Callable[[], Sound | None] | None = None
    """Called while the page is written, up to twice, and not kept. None, or a call that gives None: no audio."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's value with a remark that is shown when it is pointed at, tapped or focused."""

    value: Fact
    tip: str


@dataclass(frozen=True, slots=True)
class Table:
    """A summary. Columns of numbers are aligned right and printed with `decimals` places."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Fact | Cell]]
    note: str = ""
    decimals: int = 3


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing. `svg` goes into the page as it is: take it from `duologue.base.charts`, which escapes its texts."""

    title: str
    svg: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """All that a report shows, in this order: heading, notes, tables, figures, samples, how it was made."""

    title: str
    subtitle: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    samples: Sequence[Sample] = ()
    notes: Sequence[str] = ()
    """Plain paragraphs: what a reader must know to trust the numbers ("the judge is a proxy")."""
    command: str = ""
    """The command line that made the page."""
    made: datetime | None = None
    """When it was made; None is now. Set it to get the same bytes again."""
    audio_budget_mb: float = 60.0
    """Most megabytes (10^6) of audio in the page. Above it all audio gets coarser, at last some is left out, and the
    page says so."""
