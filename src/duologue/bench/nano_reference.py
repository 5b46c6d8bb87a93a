"""Reference agents beside the rows of `duologue evaluate nano`: what they earn on the shipped dev segments.

Scripted users react to whom they talk with, so that a reference agent would need talks of its own; segments are
recorded, and everybody can be put into the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from duologue.axes import AXES
from duologue.axes.reference_agents import REFERENCE_AGENTS
from duologue.base.report import Fact, Table
from duologue.bench.reference import SHOWN, SUMS, metric_names, plain, read_scenes, reference_rows
from duologue.corpus.sample import SegmentPart, sample_segments

PART: SegmentPart = "dev"
RECIPE = "nano-demo"
"""Whose rewards are taken."""


@dataclass(frozen=True, slots=True)
class References:
    """Rows of reference agents on the shipped dev segments."""

    rules: str
    """Of the rewards."""
    segments: Mapping[str, int]
    """How many, by axis."""
    rows: Mapping[str, Mapping[str, float]]
    """By agent, then metric: `reference.reference_rows`."""

    def to_json(self) -> dict[str, Any]:
        return {"part": PART, "rules": self.rules, "segments": dict(self.segments), "agents": plain(self.rows)}

    def table(self) -> Table:
        """Metrics as rows, agents as columns."""
        labels = [*((axis, f"reward: {axis.replace('_', ' ')}") for axis in AXES), *((name, say) for say, name in SUMS)]
        labels += [(name, name.replace("_", " ")) for name in metric_names(self.rows)]
        cells: list[tuple[Fact, ...]] = [(say, *(row[name] for row in self.rows.values())) for name, say in labels]
        counts = ", ".join(f"{n} {axis}" for axis, n in self.segments.items())
        note = (
            f"The model is not in this table: scripted users react, recorded ones do not. {counts}; rewards of "
            f"{RECIPE}, rules {self.rules}; z-scores are over all agents of duologue reference."
        )
        title = f"Reference agents on the shipped {PART} segments, not in these talks"
        return Table(title, ("", *(REFERENCE_AGENTS[name].label for name in self.rows)), cells, note)


def dev_references() -> References:
    """What the shown reference agents earn and do on the shipped dev segments, by the demo's rewards."""
    from duologue.train.align import read_settings

    settings = read_settings(RECIPE)
    scenes = read_scenes(sample_segments(PART), settings)
    rows = reference_rows(scenes, settings.rewards)
    counts = {axis: len(played) for axis, played in scenes.items()}
    return References(settings.rewards.rules, counts, {name: rows[name] for name in SHOWN})
