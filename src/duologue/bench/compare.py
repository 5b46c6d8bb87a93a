"""`duologue compare`: runs beside each other, what they were asked and what they came to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from duologue.bench.segment_scores import Difference, Played
    from duologue.bench.significance import Comparisons

PLACES = (
    "out",
    "json",
    "resume",
    "seed",
    "device",
    "threads",
    "save_minutes",
    "keep_checkpoints",
    "plan",
    "memory_gb",
    "devices",
    "keep_every",
    "keep_tokens",
    "shown",
    "tracker",
)
"""Options that say where and how, not what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareConfig:
    """Tabulate runs: the options in which they differ, and the means of their last rows of metrics.

    Runs that differ in their seed alone are one column, with their mean and its 95 % interval. Runs of duologue demo,
    or of duologue evaluate align, have a second table: what changed on the segments that they were measured on, with
    intervals over segments and seeds, and what of it survives Holm's correction for the number of comparisons.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUNS")]
    """Run folders."""
    metrics: tuple[str, ...] = ()
    """Names of metrics, or their beginnings; by default all."""
    last: int = 10
    """Rows of metrics that are averaged, the last of each run."""
    json: Path | None = None
    """Also write the table as JSON to this file."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One run, read."""

    path: Path
    verb: str
    options: dict[str, Any]
    """By dotted name, without where it was and with which seed."""
    values: dict[str, float]
    """By metric."""
    part: str
    """What it was measured on; empty if it was not."""
    played: list[Played]
    """What its models did in each segment before and after."""


@dataclass(frozen=True, slots=True)
class Column:
    """Runs that were asked the same."""

    name: str
    options: Mapping[str, Any]
    values: Mapping[str, tuple[float, float, int]]
    """By metric: mean, half of the interval's width (NaN for one run), runs."""
    part: str
    """What its runs were measured on; empty if they were not, or not on the same."""
    changed: Mapping[str, Difference]
    """What changed from before to after, by metric, over seeds and segments."""
    comparisons: Comparisons
    """Which of that holds for all comparisons of the column together."""


def main(config: CompareConfig) -> int:
    """Tabulate runs beside each other."""
    from duologue.base.files import write_json

    if not config.runs:
        raise UserError("no runs were given", mend="name one or more run folders")
    if config.last < 1:
        raise UserError(f"{config.last} rows are none", place="--last", mend="use 1 or more")
    ran = [read_run(path, config.last) for path in config.runs]
    if len({run.verb for run in ran}) > 1:
        told = ", ".join(sorted({run.verb for run in ran}))
        raise UserError(f"runs of different commands: {told}", place="RUNS", mend="compare runs of one command")
    columns = grouped(ran)
    names = [name for name in dict.fromkeys(n for c in columns for n in c.values)
             if not config.metrics or name.startswith(config.metrics)]  # fmt: skip
    changes = [name for name in dict.fromkeys(n for c in columns for n in c.changed)
               if not config.metrics or name.startswith(config.metrics)]  # fmt: skip
    if not names and not changes:
        raise UserError("no run has such a metric", place="--metrics", mend=f"for example {_some(columns)}")
    show(columns, names)
    if changes:
        show_changes(columns, changes)
    if config.json is not None:
        write_json(config.json, [
            {"runs": c.name, "options": dict(c.options), "metrics": {n: _plain(c.values.get(n)) for n in names}}
            | ({"part": c.part, "changes": _plain_changes(c, changes), "comparisons": c.comparisons.total}
               if c.changed else {})
            for c in columns
        ])  # fmt: skip
    return 0


def read_run(path: Path, last: int) -> Ran:
    """A run from its folder. Errors: UserError, it is none, or it has measured nothing."""
    from duologue.base.config import read_yaml
    from duologue.base.files import read_json
    from duologue.base.metrics import read_rows
    from duologue.bench.evidence import SCORED
    from duologue.bench.segment_scores import played_rows

    if not (path / "config.yaml").is_file():
        raise UserError("is no run folder (no config.yaml)", place=path, mend="name what a command wrote with -o")
    made = read_yaml(path / "config.yaml")
    rows = read_rows(path / "metrics.jsonl") if (path / "metrics.jsonl").is_file() else []
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name != "step"]
    means = {name: _mean([row[name] for row in rows if name in row][-last:]) for name in names}
    values = {name: mean for name, mean in means.items() if mean is not None}
    kept: dict[str, Any] = {"part": "", "segments": []}
    if (path / SCORED).is_file():
        kept = read_json(path / SCORED)
    if not values and not kept["segments"]:
        raise UserError("has measured nothing yet", place=path, mend="wait for its first row of metrics")
    verb, played = str(made.get("verb")), played_rows(kept["segments"])
    return Ran(path, verb, options_of(made), values, kept["part"], played)


def options_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was asked by its config.yaml, by dotted name, and what that came to under `record.`: the same recipe
    may have had other settings then, and the same model other weights."""
    return flat(said.get("config") or {}) | flat(said.get("record") or {}, "record.")


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options by dotted name, without where and with which seed."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        elif prefix or name not in PLACES:
            found[prefix + name] = value
    return found


def grouped(ran: Sequence[Ran]) -> list[Column]:
    """Runs that were asked the same are one column; only options in which columns differ are kept."""
    from duologue.bench.significance import holm

    kinds: list[list[Ran]] = []
    for run in ran:
        same = next((kind for kind in kinds if kind[0].options == run.options), None)
        if same is None:
            kinds.append([run])
        else:
            same.append(run)
    every = list(dict.fromkeys(name for kind in kinds for name in kind[0].options))
    differ = [name for name in every if any(k[0].options.get(name) != kinds[0][0].options.get(name) for k in kinds)]
    columns = []
    for kind in kinds:
        names = dict.fromkeys(name for run in kind for name in run.values)
        values = {name: interval([run.values[name] for run in kind if name in run.values]) for name in names}
        title = kind[0].path.name if len(kind) == 1 else f"{kind[0].path.name} and {len(kind) - 1} more"
        part, changed = changes_of(kind)
        holding = holm({name: d.p for name, d in changed.items()})
        options = {name: kind[0].options.get(name) for name in differ}
        columns.append(Column(title, options, values, part, changed, holding))
    return columns


def changes_of(kind: Sequence[Ran]) -> tuple[str, dict[str, Difference]]:
    """Which segments runs that differ in their seed were measured on, and what changed on those that all have; nothing
    if they share none."""
    from duologue.bench.segment_scores import differences

    measured = [run for run in kind if run.played]
    parts = {run.part for run in measured}
    if len(parts) != 1:
        return "", {}
    return parts.pop(), differences(*(run.played for run in measured))


def interval(values: Sequence[float]) -> tuple[float, float, int]:
    """Mean, half the width of its 95 % interval by Student's t (NaN for one value), and how many."""
    from scipy.stats import t

    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return mean, math.nan, n
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / (n - 1))
    return mean, float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n), n


def show(columns: Sequence[Column], names: Sequence[str]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", *(column.name for column in columns), title="Runs", title_justify="left")
    for option in columns[0].options:
        table.add_row(option, *(str(column.options[option]) for column in columns))
    if columns[0].options:
        table.add_section()
    for name in names:
        table.add_row(name, *(_cell(column.values.get(name)) for column in columns))
    console = Console()
    (console if console.is_terminal else Console(width=max(100, 40 + 24 * len(columns)))).print(table)


def show_changes(columns: Sequence[Column], names: Sequence[str]) -> None:
    """Print what changed from before to after, column by column."""
    from rich.console import Console
    from rich.table import Table

    from duologue.bench.change_page import ONE_SEED, SURVIVES, marked, span
    from duologue.bench.metrics import label_of
    from duologue.bench.rows import number

    console = Console()
    wide = console if console.is_terminal else Console(width=130)
    for column in columns:
        if not column.changed:
            continue
        table = Table("metric", "before", "after", "difference", "95 % interval", "each seed", "segments", "",
                      title=f"{column.name}: before and after ({column.part})", title_justify="left")  # fmt: skip
        for name in names:
            if name in column.changed:
                d = column.changed[name]
                means = [number(x) for x in (d.before, d.after, d.mean)]
                cells = [*means, span(d), ", ".join(map(number, d.by_seed)), str(d.segments)]
                table.add_row(label_of(name), *cells, marked(name, d, column.comparisons))
        wide.print(table)
        print(f"{column.comparisons.total} comparisons; {SURVIVES} survives Holm's correction for all of them.")
        if all(len(d.by_seed) == 1 for d in column.changed.values()):
            print(ONE_SEED)


def _plain_changes(column: Column, names: Sequence[str]) -> dict[str, Any]:
    held, chosen = column.comparisons.surviving, {n: d for n, d in column.changed.items() if n in names}
    return {n: {**d._asdict(), "seeds": len(d.by_seed), "survives": n in held} for n, d in chosen.items()}


def _cell(value: tuple[float, float, int] | None) -> str:
    from duologue.bench.rows import number

    if value is None:
        return ""
    mean, half, n = value
    return number(mean) if math.isnan(half) else f"{number(mean)} ± {number(half)} ({n})"


def _plain(value: tuple[float, float, int] | None) -> dict[str, float | None] | None:
    if value is None:
        return None
    mean, half, n = value
    return {"mean": mean, "half_width": None if math.isnan(half) else half, "runs": n}


def _mean(values: Sequence[object]) -> float | None:
    known = [float(x) for x in values if isinstance(x, (int, float)) and math.isfinite(x)]
    return math.fsum(known) / len(known) if known else None


def _some(columns: Sequence[Column]) -> str:
    return ", ".join(list(columns[0].values)[:3])
