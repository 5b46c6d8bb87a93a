"""`duologue reference`: what people, silence and simple machines earn on segments, so that rewards can be read.

A reward is evidence of listening only as far as nobody who cannot listen earns it. Every table of a model's rewards has
some of these rows beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from duologue.axes import AXES
from duologue.axes.reference_agents import REFERENCE_AGENTS, ReferenceAgent
from duologue.base.errors import UserError
from duologue.dialogue.scenes import Scene

if TYPE_CHECKING:
    from duologue.train.align_settings import AlignSettings, RewardSettings

SAMPLE = "sample"
SHOWN = ("human", "silence", "metronome", "vad_rule")
"""The agents whose rows stand beside a model's in every table."""
SUMS = (("sum of rewards", "sum_raw"), ("sum of z-scores over these agents", "sum_z"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceConfig:
    """Print what reference agents earn on segments: the human of each segment, silence, a deaf metronome, a reactive
    "uh-huh", a voice-activity rule, babble, random bursts and an "mhm" every 3 s."""

    segments: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SEGMENTS")] = SAMPLE
    """Folder of segments from duologue mine; sample: those that come with the package."""
    part: Literal["train", "dev", "test"] | None = None
    """Which part of the shipped segments (dev if not said); a folder of segments has none."""
    recipe: str = "nano-demo"
    """Whose reward rules are taken, and how its recipe shortens segments: a name or a YAML file, as in duologue
    align."""
    set: tuple[str, ...] = ()
    """Settings that differ from the recipe's: NAME=VALUE, such as rewards.rules=literal."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="OUT")] = None
    """Also write the table to this file."""


def main(config: ReferenceConfig) -> int:
    """Print what reference agents earn on segments."""
    from rich.console import Console
    from rich.table import Table

    from duologue.base.files import write_json
    from duologue.bench.rows import number
    from duologue.corpus.sample import sample_segments
    from duologue.train.align import read_settings

    settings = read_settings(config.recipe, config.set)
    part = (config.part or "dev") if config.segments == SAMPLE else None
    if config.part is not None and part is None:
        mend = "leave --part out, or name no folder"
        raise UserError("is given with a folder, which has no parts", place=f"--part {config.part}", mend=mend)
    folder = Path(config.segments) if part is None else sample_segments(part)
    scenes = read_scenes(folder, settings)
    rows = reference_rows(scenes, settings.rewards)
    counts = ", ".join(f"{len(x)} {axis}" for axis, x in scenes.items())
    print(f"{part or folder}: {counts}; rules {settings.rewards.rules}")
    table = Table("", *(agent.label for agent in REFERENCE_AGENTS.values()), title_justify="left")
    for label, metric in (*((f"reward: {axis}", axis) for axis in AXES), *SUMS, *((m, m) for m in metric_names(rows))):
        values = (rows[name][metric] for name in REFERENCE_AGENTS)
        table.add_row(label, *("" if math.isnan(value) else number(value) for value in values))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    if config.json is not None:
        write_json(config.json, {"part": part or str(folder), "rules": settings.rewards.rules, "agents": plain(rows)})
    return 0


def read_scenes(folder: Path, settings: AlignSettings) -> dict[str, list[Scene]]:
    """The segments of a folder as the people in it played them, by axis, shortened as a recipe says.

    Raises:
        UserError: no segments.
    """
    from duologue.corpus.store import SegmentStore
    from duologue.train.align_learner import cropped

    store, rolled = SegmentStore(folder), settings.rollouts
    segments = {axis: [store.segment(row) for row in store.rows(axis)] for axis in AXES}
    scenes = {
        axis: [Scene.of(cropped(segment, rolled.longest_s, rolled.after_s)) for segment in x]
        for axis, x in segments.items()
        if x
    }
    if not scenes:
        raise UserError("holds no segments", place=folder, mend="mine a larger corpus")
    return scenes


def reference_rows(
    scenes: Mapping[str, Sequence[Scene]],
    rewards: RewardSettings,
    agents: Mapping[str, ReferenceAgent] = REFERENCE_AGENTS,
) -> dict[str, dict[str, float]]:
    """What each agent earns and does, by metric.

    Args:
        scenes: by axis, as people played them.
        rewards: the rules.
        agents: who plays.

    Returns:
        For each agent: the mean reward of each axis under the axis' name, their sum `sum_raw`, the sum over axes of the
        mean z-score `sum_z` (over the agents in each scene; 0 where all earn the same), and `AXIS_MEASURE`, the mean of
        each measure over the scenes in which it is known. NaN where no scene is.
    """
    names = list(agents)
    rows: dict[str, dict[str, float]] = {name: {} for name in names}
    z_sums = np.zeros(len(names))
    for axis, played in scenes.items():
        acted = [[agents[name].play(scene) for name in names] for scene in played]
        earned = earned_rewards(axis, acted, rewards)
        z_sums += z_scores(earned).mean(axis=0)
        for i, name in enumerate(names):
            rows[name][axis] = float(earned[:, i].mean())
            measures = [AXES[axis].measure(row[i], rewards.of(axis)) for row in acted]
            rows[name] |= {f"{axis}_{m}": known_mean([x[m] for x in measures]) for m in measures[0]}
    for i, name in enumerate(names):
        rows[name] |= {axis: math.nan for axis in AXES if axis not in scenes}
        rows[name] |= {"sum_raw": sum(rows[name][axis] for axis in scenes), "sum_z": float(z_sums[i])}
    return rows


def model_row(
    values: Mapping[tuple[str, str], Mapping[str, float]],
    scenes: Mapping[str, Sequence[Scene]],
    rewards: RewardSettings,
    agents: Mapping[str, ReferenceAgent] = REFERENCE_AGENTS,
) -> dict[str, float]:
    """What a model earned and did, as `reference_rows` has it of agents, in the same units.

    Args:
        values: metrics by name (`reward_AXIS`, `AXIS_MEASURE`), by axis and segment: `segment_scores.by_segment`.
        scenes: of the same segments, by axis, as people played them.
        rewards: the rules by which both were scored.
        agents: the z-scores are over these, without the model.
    """
    row: dict[str, float] = {axis: math.nan for axis in AXES if axis not in scenes}
    z_sum = 0.0
    for axis, played in scenes.items():
        own = [values[axis, scene.id] for scene in played]
        earned = np.array([[metrics[f"reward_{axis}"]] for metrics in own])
        pool = earned_rewards(axis, [[agent.play(scene) for agent in agents.values()] for scene in played], rewards)
        z_sum += float(z_scores(earned, pool).mean())
        row[axis] = float(earned.mean())
        names = dict.fromkeys(n for metrics in own for n in metrics if n.startswith(f"{axis}_"))
        row |= {name: known_mean([metrics.get(name, math.nan) for metrics in own]) for name in names}
    return row | {"sum_raw": sum(row[axis] for axis in scenes), "sum_z": z_sum}


def earned_rewards(axis: str, acted: Sequence[Sequence[Scene]], rewards: RewardSettings) -> NDArray[np.float64]:
    """The axis' reward of scenes as agents played them [scenes, agents]."""
    return np.array([[AXES[axis].reward(scene, rewards.of(axis))[axis] for scene in row] for row in acted])


def known_mean(values: Sequence[float]) -> float:
    """The mean of those that are not NaN; NaN if all are."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def z_scores(rewards: NDArray[np.float64], pool: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Rewards [scenes, agents] in standard deviations over a pool of agents [scenes, N] in each scene, by default over
    the agents themselves; 0 where all of the pool are equal."""
    pool = rewards if pool is None else pool
    spread = pool.std(axis=1, keepdims=True)
    centred = rewards - pool.mean(axis=1, keepdims=True)
    z: NDArray[np.float64] = centred * (spread > 1e-9) / np.maximum(spread, 1e-9)
    return z


def metric_names(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The names of the measures that rows hold, without rewards and their sums."""
    return [name for name in next(iter(rows.values())) if name not in (*AXES, "sum_raw", "sum_z")]


def plain(rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Rows for JSON: None where nothing is known."""
    return {name: {k: None if math.isnan(v) else v for k, v in row.items()} for name, row in rows.items()}
