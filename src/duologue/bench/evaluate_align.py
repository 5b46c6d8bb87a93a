"""`duologue evaluate align`: what an alignment changed, on segments it never saw, beside people and machines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle
    from duologue.train.align_settings import AlignSettings
    from duologue.train.rollouts import Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateAlignConfig:
    """Put the model of a run of duologue align, and the one that it began with, to the same segments.

    The run folder gets report.html, result.json and scored.json, as duologue demo writes them: what changed and how
    sure it is, the rows of reference agents, the listening check, over-talk and content.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of the run."""
    part: Literal["dev", "test"] = "dev"
    """Which of the shipped segments: dev to choose settings, test once settings are fixed."""
    segments: Path | None = None
    """A folder of segments with clips, from duologue mine, instead of the shipped ones: none that was learned from."""
    held_out: int = 64
    """Segments of each axis, at most."""
    context: float = 4.0
    """Seconds of the recording that are given before a segment."""
    scenarios: int = 12
    """Live talks with scripted users, before and after."""
    shown: int = 2
    """Segments of each axis on the page: those whose reward changed most."""
    recogniser: str | None = None
    """Also tell how far the agent's speech agrees with its words, as a recogniser hears it (extra asr or parakeet): a
    folder, size or hub name of Whisper, or parakeet."""
    language_model: str | None = None
    """A causal language model of transformers, a folder or a name on the hub, that says how well answers fit their
    turns instead of the shipped one."""
    seed: int = 0
    """Of everything drawn."""
    threads: int | None = None
    """Of the CPU; by default all."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="OUT")] = None
    """Also write the result to this file."""


def main(config: EvaluateAlignConfig) -> int:
    """Put the model of a run of duologue align, and the one that it began with, to the same segments."""
    import torch

    from duologue.audio.asr import load_recogniser
    from duologue.base.compute import seed_everything
    from duologue.base.metrics import read_rows
    from duologue.bench.content_model import model_named
    from duologue.bench.outcome_report import (
        SIMULATED,
        ReportFiles,
        model_notes,
        report,
        show,
        trial_of,
        write_result,
    )
    from duologue.engine.asked import pick_voice
    from duologue.engine.bundle import load

    name, settings = read_run(config.run)
    recogniser = None if config.recogniser is None else load_recogniser(config.recogniser, config.device)
    answer_model = model_named(config.language_model)
    began = time.perf_counter()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    seed_everything(config.seed)
    before, after = (load(model, device=config.device, dtype="fp32") for model in (name, str(config.run / "model")))
    segments = segments_of(config, before)
    trial = trial_of(
        segments, settings, before, pick_voice(settings.rollouts.voice_prompt, before), context_s=config.context,
        scenarios=config.scenarios, seed=config.seed, answer_model=answer_model,
    )  # fmt: skip
    part = config.part if config.segments is None else str(config.segments)
    notes = [
        *model_notes(name, config.recogniser, config.language_model),
        *([SIMULATED] if config.segments is None else []),
    ]
    files = ReportFiles(
        folder=config.run, title=name, curve=read_rows(config.run / "metrics.jsonl"), shown=config.shown, notes=notes,
        json=config.json,
    )  # fmt: skip
    evidence, outcome = report(trial, part, before, after, files, recogniser)
    write_result({"seconds": time.perf_counter() - began, **outcome}, files)
    show(evidence)
    print(config.run / "report.html")
    return 0


def read_run(folder: Path) -> tuple[str, AlignSettings]:
    """What a run of duologue align or demo began with, and its settings. Errors: UserError, it is none."""
    from duologue.base.config import from_dict, read_yaml
    from duologue.train.align_settings import AlignSettings

    if not (folder / "config.yaml").is_file() or not (folder / "model").is_dir():
        raise UserError("holds no aligned model", place=folder, mend="name the folder of a run of duologue align")
    made = read_yaml(folder / "config.yaml")
    config, record = made.get("config") or {}, made.get("record") or {}
    if "settings" not in record or "model" not in config or made.get("verb") not in ("align", "demo"):
        raise UserError("is no run of duologue align that says its settings", place=folder, mend="align again")
    return str(config["model"]), from_dict(AlignSettings, record["settings"], place=str(folder / "config.yaml"))


def segments_of(config: EvaluateAlignConfig, bundle: Bundle) -> dict[str, list[Recorded]]:
    """The segments to measure on, by axis. Errors: UserError, none, or of another codec."""
    from duologue.axes import AXES
    from duologue.bench.outcome_report import shipped_segments
    from duologue.train.align import read_segments

    if config.segments is None:
        found = shipped_segments(config.part, tuple(AXES), bundle)
    else:
        found = read_segments(config.segments, tuple(AXES), bundle, config.run / "evaluated")
    return {axis: recorded[: config.held_out] for axis, recorded in found.items()}
