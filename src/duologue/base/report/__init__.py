"""The self-contained report page: one HTML file on which every sample can be seen and heard.

    from duologue.base.report import Lane, Page, Sample, Span, write_report

    lanes = (Lane("user", (Span(0.5, 2.1),), wave=1), Lane("agent", (Span(2.4, 4.0),), wave=0))
    sample = Sample("pause-1", "A question with a pause", 4.0, lanes, verdict="waited", status="good", audio=read)
    write_report("report.html", Page("Pause handling", samples=(sample,)))

`model` says what a page holds, `sound` fits the audio into the page's budget, `write` makes the HTML; the scripts
beside them draw the timelines (`timeline.js`), play the sound (`player.js`), and run one sample (`card.js`) and the
whole page (`page.js`).
"""

from duologue.base.report.model import (
    Band,
    Bracket,
    Cell,
    Fact,
    Figure,
    Lane,
    Mark,
    Page,
    Sample,
    Span,
    Status,
    Table,
    TimedWord,
)
from duologue.base.report.write import write_report

__all__ = [
    "Band",
    "Bracket",
    "Cell",
    "Fact",
    "Figure",
    "Lane",
    "Mark",
    "Page",
    "Sample",
    "Span",
    "Status",
    "Table",
    "TimedWord",
    "write_report",
]
