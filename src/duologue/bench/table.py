"""`duologue table`: scored results beside the published numbers, each row with its source and whether it compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import tyro

from duologue.base.errors import UserError
from duologue.base.files import write_json, write_text
from duologue.bench.results import read_summary

OURS = "this run"
LABELS = {
    "take_over_rate": "take-over",
    "take_over_rate_synthetic": "take-over, synthetic",
    "take_over_rate_candor": "take-over, Candor",
    "latency_s": "latency s",
    "backchannel_frequency": "backchannels /s",
    "jsd": "JSD",
    "judge_score": "judge 0-5",
    "stop_latency_s": "stop s",
    "talked_through_rate": "talked through",
    "early_start_rate": "early starts",
}
OWN_METRICS = {
    "pause_handling": ("take_over_rate",),
    "smooth_turn_taking": ("take_over_rate", "latency_s", "early_start_rate"),
    "user_interruption": ("take_over_rate", "judge_score", "latency_s", "stop_latency_s", "talked_through_rate"),
    "backchannel": ("take_over_rate", "backchannel_frequency", "jsd"),
    "timing": ("stop_latency_s", "latency_s", "talked_through_rate"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableConfig:
    """Tabulate results of `duologue score` beside published ones, with what makes rows comparable or not."""

    results: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """JSON files written by `duologue score ... --json FILE`."""
    json: Path | None = None
    """Also write the table as JSON."""
    markdown: Path | None = None
    """Also write the table as Markdown."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a system, its numbers by column, their source, and whether they compare with ours."""

    system: str
    metrics: Mapping[str, float | None]
    source: str
    comparable: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The table of one benchmark task: our rows first, published rows after."""

    benchmark: str
    task: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def main(config: TableConfig) -> int:
    """Print one table per benchmark task."""
    if not config.results:
        raise UserError("no results were given", mend="name one or more JSON files written by `duologue score --json`")
    tables = compare([(path.stem, read_summary(path)) for path in config.results])
    for table in tables:
        _show(table)
    if config.json:
        write_json(config.json, [_as_json(t) for t in tables])
    if config.markdown:
        write_text(config.markdown, "\n".join(_as_markdown(t) for t in tables))
    return 0


@cache
def published() -> dict[str, Any]:
    """The published rows, their sources and conditions, and the sizes of the official sets (published.json)."""
    import json

    text = resources.files("duologue.bench").joinpath("published.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def compare(results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Comparison]:
    """Put named results beside the published rows of the same benchmark and task, in the order in which they came."""
    tasks = list(dict.fromkeys((r["benchmark"], r["task"]) for _, r in results))
    return [
        _compare_task(b, t, [(n, r) for n, r in results if (r["benchmark"], r["task"]) == (b, t)]) for b, t in tasks
    ]


def _compare_task(benchmark: str, task: str, ours: Sequence[tuple[str, Mapping[str, Any]]]) -> Comparison:
    data = published()
    theirs = [r for r in data["rows"] if (r["benchmark"], r["task"]) == (benchmark, task)]
    own = [_own_row(name, result) for name, result in ours]
    modes = list(dict.fromkeys(result["mode"] for _, result in ours))
    rows = own + [
        Row(r["model"], r["metrics"], data["sources"][r["source"]]["name"], _comparable(r["source"], task, modes))
        for r in theirs
    ]
    columns = dict.fromkeys(name for row in rows for name, value in row.metrics.items() if value is not None)
    return Comparison(benchmark, task, tuple(columns), tuple(rows))


def _own_row(name: str, result: Mapping[str, Any]) -> Row:
    summary = result["summary"]
    benchmark, task = result["benchmark"], result["task"]
    metrics = {m: summary.get(m) for m in OWN_METRICS.get(task, ())}
    if task == "behavior":
        metrics = dict(summary.get("ratios") or {})
    sizes = published()["set_sizes"].get(benchmark, {}).get(task, {})
    fitting = [subset for subset, n in sizes.items() if n == summary["n"]]
    subset = fitting[0] if len(fitting) == 1 else None
    if subset and len(sizes) > 1:  # published numbers are per set
        metrics = {f"{name}_{subset}": value for name, value in metrics.items()}
    lost = sum(summary.get("counts", {}).get(status, 0) for status in ("missing", "invalid"))
    size = f"n = {summary['n']}" + (
        f", the size of the {subset} set" if subset else ", not the size of an official set"
    )
    return Row(name, metrics, f"{OURS}, {result['mode']}", size + (f"; {lost} missing or invalid" if lost else ""))


def _comparable(source: str, task: str, modes: Sequence[str]) -> str:
    """Whether a published row compares with results in these modes, and under which conditions it was made."""
    entry = published()["sources"][source]
    fitting = entry["comparable"].get(task, [])
    shared = [m for m in modes if m in fitting]
    verdict = f"with {', '.join(shared)}" if shared else f"no (fits {' or '.join(fitting)})" if fitting else "no"
    return f"{verdict}: {entry['conditions']}"


def _show(table: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    sources = list(dict.fromkeys((row.source, row.comparable) for row in table.rows))
    view = Table(title=f"{table.benchmark} {table.task}", title_justify="left")
    view.add_column("system")
    for column in table.columns:
        view.add_column(LABELS.get(column, column.replace("_", " ")), justify="right")
    view.add_column("source")
    for row in table.rows:
        cells = [_number(row.metrics.get(c)) for c in table.columns]
        view.add_row(row.system, *cells, f"[{sources.index((row.source, row.comparable)) + 1}]".replace("[", "\\["))
    console = Console()
    console.print(view)
    for index, (source, comparable) in enumerate(sources):
        console.print(f"\\[{index + 1}] {source}. Comparable: {comparable}", highlight=False)
    console.print()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _as_json(table: Comparison) -> dict[str, Any]:
    rows = [
        {"system": r.system, "metrics": dict(r.metrics), "source": r.source, "comparable": r.comparable}
        for r in table.rows
    ]
    return {"benchmark": table.benchmark, "task": table.task, "rows": rows}


def _as_markdown(table: Comparison) -> str:
    head = ["system", *(LABELS.get(c, c.replace("_", " ")) for c in table.columns), "source", "comparable"]
    lines = [f"### {table.benchmark} {table.task}", "", _line(head), _line(["---"] * len(head))]
    lines += [
        _line([r.system, *(_number(r.metrics.get(c)) for c in table.columns), r.source, r.comparable])
        for r in table.rows
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
