"""From a `Page` to one HTML file that needs nothing else: no network, no server, no script of others."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from duologue import __version__
from duologue.base.files import AnyPath, atomic_path
from duologue.base.plain import plain
from duologue.base.progress import track
from duologue.base.report.model import Cell, Fact, Figure, Page, Sample, Table, TimedWord
from duologue.base.report.sound import Pressed, SoundPress

SCRIPTS = ("timeline.js", "player.js", "card.js", "page.js")
MISSING = '<abbr class="missing" title="not measured">—</abbr>'
# What a cell of text may hold to be aligned like a number: "0.42 ± 0.03", "< 5", "12.5 %", "[0.1, 0.3]", "80 ms".
_NUMBERLIKE = re.compile(r"[\d\s.,;:+\-−–±×<>≤≥~≈%/()\[\]eE]*\d[\d\s.,;:+\-−–±×<>≤≥~≈%/()\[\]eE]*(s|ms|h|min)?")


def write_report(path: AnyPath, page: Page) -> Path:
    """Write `page` as one HTML file, whole or not at all, and return its path.

    Memory holds the texts of all samples, but the audio of only one at a time.

    Raises:
        UserError: the file cannot be written.
        ValueError: audio that is not [channels, samples], or a duration that is not a positive number.
    """
    with atomic_path(path) as aside, aside.open("wb") as file:
        for piece in _pieces(page):
            # File names can hold lone surrogates, which UTF-8 refuses.
            file.write(piece.encode("utf-8", "replace"))
    return Path(path)


def format_fact(value: Fact, decimals: int = 3) -> str | None:
    """A value as the page prints it; None where nothing was measured. A number that is not 0 never reads as 0."""
    known = plain(value)  # numpy's numbers become Python's; NaN and infinities None
    if known is None or isinstance(known, str):
        return known
    if isinstance(known, bool):
        return "yes" if known else "no"
    if isinstance(known, int):
        return f"{known:,d}" if abs(known) >= 10_000 else str(known)
    number = known + 0.0  # -0.0 becomes 0.0
    fixed = f"{number:,.{decimals}f}" if abs(number) >= 10_000 else f"{number:.{decimals}f}"
    return f"{number:.2g}" if number and not float(fixed.replace(",", "")) else fixed


def _pieces(page: Page) -> Iterator[str]:
    """The file from top to bottom. Texts come before sound, so that a browser shows the cards while it still reads."""
    style = _asset("page.css")
    script = "\n".join(_asset(name) for name in SCRIPTS)
    yield _head(page.title, style, script)
    yield _header(page)
    if page.tables:
        yield '<section class="tables" aria-label="Summary">' + "".join(map(_table, page.tables)) + "</section>\n"
    if page.figures:
        yield '<section class="figures" aria-label="Figures">' + "".join(map(_figure, page.figures)) + "</section>\n"
    if page.samples:
        yield _asset("samples.html").replace("COUNT", str(len(page.samples)))
    yield _footer(page)
    yield '<script type="application/json" id="samples-data">['
    for index, sample in enumerate(page.samples):
        yield (",\n" if index else "") + _json(_sample(sample))
    yield f"]</script>\n<script>{script}</script>\n"
    press = SoundPress(page.samples, page.audio_budget_mb * 1e6)
    for index, sample in enumerate(track(page.samples, "Writing the report")):
        yield from _sound(index, press.press(sample))
    yield f'<script type="application/json" id="sound-summary">{_json(press.summary())}</script>\n</body>\n</html>\n'


def _head(title: str, style: str, script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    # The second lock after escaping: no other script runs and nothing is fetched, whatever the texts contain.
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
    )


def _header(page: Page) -> str:
    subtitle = f'<p class="subtitle">{_text(page.subtitle)}</p>' if page.subtitle else ""
    notes = "".join(f"<p>{_text(note)}</p>" for note in page.notes)
    aside = f'<aside class="notes" aria-label="Notes">{notes}</aside>' if notes else ""
    return f"<header><h1>{_text(page.title)}</h1>{subtitle}{aside}</header>\n<main>\n"


def _footer(page: Page) -> str:
    made = (page.made or datetime.now().astimezone()).strftime("%Y-%m-%d %H:%M %Z").strip()
    command = f"<p>Made by <code>{_text(page.command)}</code></p>" if page.command else ""
    return (
        f"</main>\n<footer>{command}<p>Duologue {_text(__version__)}, {_text(made)}</p></footer>\n"
        '<div id="tooltip" aria-hidden="true" hidden></div>\n'
    )


def _table(table: Table) -> str:
    right = [_is_numeric(column) for column in zip(*table.rows, strict=True)] or [False] * len(table.headers)
    if len(right) != len(table.headers):
        raise ValueError(f"table {table.title!r} has {len(table.headers)} headers and {len(right)} columns")
    sides = [' class="number"' if numeric else "" for numeric in right]
    head = "".join(f'<th scope="col"{s}>{_text(h)}</th>' for h, s in zip(table.headers, sides, strict=True))
    body = "".join(f"<tr>{_row(row, sides, table.decimals)}</tr>\n" for row in table.rows)
    note = f'<p class="note">{_text(table.note)}</p>' if table.note else ""
    return (
        f'<section><h2>{_text(table.title)}</h2><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{_text(table.title)}"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'
        f"{note}</section>\n"
    )


def _row(row: Sequence[Fact | Cell], sides: Sequence[str], decimals: int) -> str:
    cells = [_cell(cell, decimals) for cell in row]
    # A first column of text names its row, also for a screen reader.
    heading = 'th scope="row"' if sides and not sides[0] else f"td{sides[0] if sides else ''}"
    first = f"<{heading}>{cells[0]}</{heading[:2]}>" if cells else ""
    return first + "".join(f"<td{side}>{cell}</td>" for cell, side in zip(cells[1:], sides[1:], strict=True))


def _cell(cell: Fact | Cell, decimals: int) -> str:
    if isinstance(cell, Cell):
        tip = f'<span class="hint">{_text(cell.tip)}</span>'
        return f'<span class="tip" tabindex="0">{_cell(cell.value, decimals)}{tip}</span>'
    shown = format_fact(cell, decimals)
    return MISSING if shown is None else _text(shown)


def _is_numeric(column: Iterable[Fact | Cell]) -> bool:
    values = [cell.value if isinstance(cell, Cell) else cell for cell in column]
    present = [v for v in values if format_fact(v) is not None]
    return bool(present) and all(not isinstance(v, str) or _NUMBERLIKE.fullmatch(v.strip()) for v in present)


def _figure(figure: Figure) -> str:
    caption = f'<p class="note">{_text(figure.caption)}</p>' if figure.caption else ""
    return f"<figure><figcaption>{_text(figure.title)}</figcaption>{figure.svg}{caption}</figure>\n"


def _sample(sample: Sample) -> dict[str, Any]:
    """A sample without its sound, as the page's scripts read it. What has no finite time cannot be drawn and is not."""
    if not (math.isfinite(sample.duration) and sample.duration > 0):
        raise ValueError(f"sample {sample.id!r} lasts {sample.duration} s; expected a positive number")
    return {
        "id": sample.id,
        "title": sample.title,
        "duration": _time(sample.duration),
        "verdict": sample.verdict or sample.status,
        "status": sample.status,
        "why": sample.why,
        "facts": [[name, format_fact(value), _sort_key(value)] for name, value in sample.facts.items()],
        "lanes": [
            {
                "name": lane.name,
                "wave": lane.wave,
                "spans": _drawable(lane.spans, 2),
                "words": None if lane.words is None else [_word(word) for word in lane.words],
            }
            for lane in sample.lanes
        ],
        "bands": _drawable(sample.bands, 2),
        "marks": _drawable(sample.marks, 1),
        "brackets": _drawable(sample.brackets, 2),
    }


def _drawable(items: Iterable[tuple[Any, ...]], times: int) -> list[list[Any]]:
    """The tuples whose first `times` values are finite, these rounded to milliseconds."""
    return [
        [*map(_time, item[:times]), *item[times:]]
        for item in items
        if all(math.isfinite(time) for time in item[:times])
    ]


def _word(word: TimedWord) -> list[Any]:
    text, start, end = word
    return [text, _time(start), _time(end)] if math.isfinite(start) and math.isfinite(end) else [text]


def _time(seconds: float) -> float:
    return round(float(seconds), 3)


def _sort_key(value: Fact) -> float | None:
    known = plain(value)
    return float(known) if isinstance(known, (bool, int, float)) else None


def _sound(index: int, pressed: Pressed) -> Iterator[str]:
    about = {
        "note": pressed.note,
        "seconds": _time(pressed.seconds),
        "peaks": pressed.peaks,
        "peakRate": pressed.peak_rate,
    }
    yield f'<script type="application/json" id="sound-{index}">{_json(about)}</script>\n'
    if pressed.flac:
        yield f'<script type="text/plain" id="flac-{index}">{pressed.flac}</script>\n'


def _json(value: object) -> str:
    """JSON that cannot end the script element around it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _text(value: str) -> str:
    return html.escape(value, quote=True)


def _asset(name: str) -> str:
    return files("duologue.base.report").joinpath(name).read_text(encoding="utf-8")
