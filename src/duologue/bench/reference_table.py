"""The table that every report of rewards has: models beside people, silence and simple machines, on equal segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from duologue.axes import AXES
from duologue.axes.reference_agents import REFERENCE_AGENTS
from duologue.base.report import Cell, Fact, Table
from duologue.bench.metrics import METRICS, label_of
from duologue.bench.reference import SHOWN, SUMS

REWARDS = (*AXES, *(name for _, name in SUMS))
"""Metrics of the table of rewards."""
OVER_TALK = (*(f"{axis}_over_talk" for axis in AXES), "backchannel_per_minute", "pause_speech")
"""Metrics of the table of over-talk."""


def reference_rows_table(
    title: str,
    metrics: Sequence[str],
    agents: Mapping[str, Mapping[str, float]],
    models: Mapping[str, Mapping[str, float]],
    *,
    shown: Sequence[str] = SHOWN,
    note: str = "",
) -> Table:
    """Metrics as rows, models and then agents as columns.

    Args:
        title: of the table.
        metrics: which, by their names in rows.
        agents: rows of reference agents by name (`reference.reference_rows`).
        models: rows of models by what they are called (`reference.model_row`).
        shown: which agents.
        note: below it.
    """
    columns = {**models, **{REFERENCE_AGENTS[name].label: agents[name] for name in shown}}
    rows: list[tuple[Fact | Cell, ...]] = [
        (row_label(metric), *(row.get(metric) for row in columns.values())) for metric in metrics
    ]
    return Table(title, ("", *columns), rows, note)


def row_label(metric: str) -> Cell:
    """A metric's name with what it is."""
    sums = {name: label for label, name in SUMS}
    if metric in sums:
        return Cell(sums[metric], "over the axes; z-scores are over the reference agents in each segment")
    name = f"reward_{metric}" if metric in AXES else metric
    return Cell(label_of(name), METRICS[name][2] if name in METRICS else "")
