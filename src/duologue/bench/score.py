"""`duologue score`: score what a full-duplex system has already said, with no model, GPU or network."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import tyro

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from duologue.base.report import Page
    from duologue.bench.hearing import Recordings
    from duologue.bench.judge import Judge
    from duologue.bench.results import TaskScore

V1_TASKS = ("pause_handling", "smooth_turn_taking", "user_interruption", "backchannel")
V15_TASKS = ("behavior", "timing", "before_after")
TASKS = {"fdb-v1": V1_TASKS, "fdb-v1.5": V15_TASKS}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """Score the recorded outputs of a full-duplex system on one task of a benchmark."""

    benchmark: Annotated[Literal["fdb-v1", "fdb-v1.5"], tyro.conf.Positional, tyro.conf.arg(metavar="BENCHMARK")]
    """fdb-v1 or fdb-v1.5: Full-Duplex-Bench v1 or v1.5."""
    task: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
    """fdb-v1: pause_handling, smooth_turn_taking, user_interruption or backchannel;
    fdb-v1.5: behavior, timing or before_after."""
    dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """The folder with one sub-folder per sample (input.wav, output.wav, output.json, the task's event file)."""
    mode: Literal["compat", "compat-2025", "corrected"] = "corrected"
    """compat: the official scripts' numbers, faults included; compat-2025: those before 2026-02-22;
    corrected: without the faults."""
    reference: Path | None = None
    """Backchannel task: the benchmark's icc_gt_distribution.json, or another file of that form."""
    recogniser: str | None = None
    """Recognise the words of recordings without a transcript and write output.json beside them: parakeet, or a Whisper
    size, folder or hub name (extras parakeet and asr)."""
    judge: str | None = None
    """Address of an OpenAI-compatible endpoint that rates answers or labels behaviour (http://localhost:8000/v1)."""
    judge_model: str | None = None
    """Name of the judge's model at that endpoint."""
    judge_prompt: Path | None = None
    """A file with the judge's instructions; without it our own prompt is used and the result is labelled a proxy."""
    judge_key: str | None = None
    """Name of the environment variable that holds the endpoint's key; none is sent without it."""
    judge_budget: int = 2000
    """The most requests that this run may send to the judge."""
    judge_cache: Path = Path("runs/replies")
    """Folder in which the judge's replies are kept, so that the same question is asked once."""
    json: Path | None = None
    """Also write the result as JSON to this file."""
    out: Path | None = None
    """The run folder (config.yaml, result.json, report.html); the default is the next free runs/score-N."""
    resume: bool = False
    """Use a run folder that holds this very run already, after a kill; its results are made again."""
    report: bool = True
    """Write report.html, with every sample to be seen and heard."""


def main(config: ScoreConfig) -> int:
    """Score one task; print the summary, and write the run folder."""
    _check(config)
    from duologue.base.runs import RunFolder
    from duologue.bench.recordings import recordings, unfold
    from duologue.bench.results import write_score

    with RunFolder.create(config.out, "score", config, resume=config.resume) as run:
        if served := recordings(config.dir):
            config = replace(config, dir=unfold(served, run.path / "samples"))
        score, page = _scored(config, _judge(config))
        write_score(run.path / "result.json", score)
        if config.json is not None:
            write_score(config.json, score)
        if page is not None:
            from duologue.base.report import write_report

            write_report(run.report_path, page)
        show(score)
        print(f"{run.report_path if page is not None else run.path / 'result.json'}")
    return 0


def _check(config: ScoreConfig) -> None:
    tasks = TASKS[config.benchmark]
    if config.task not in tasks:
        raise UserError(f"{config.task!r} is not a task of {config.benchmark}", mend=f"use one of {', '.join(tasks)}")
    if (config.judge is None) != (config.judge_model is None):
        raise UserError("a judge needs both an address and a model", mend="give --judge URL and --judge-model NAME")
    if config.judge is not None and config.task not in ("user_interruption", "behavior"):
        raise UserError(f"{config.task} asks no judge", place="--judge", mend="leave it out")
    if config.judge_prompt is not None and config.judge is None:
        raise UserError(
            "a prompt needs a judge", place="--judge-prompt", mend="give --judge URL and --judge-model NAME"
        )
    if config.reference is not None and config.task != "backchannel":
        raise UserError(f"{config.task} uses no reference", place="--reference", mend="leave it out")


def _judge(config: ScoreConfig) -> Judge | None:
    if config.judge is None or config.judge_model is None:
        return None
    from duologue.base.endpoint import EndpointConfig
    from duologue.bench.judge import Judge

    endpoint = EndpointConfig(
        url=config.judge,
        model=config.judge_model,
        key_env=config.judge_key,
        budget=config.judge_budget,
        cache=config.judge_cache,
    )
    kind: Literal["interruption", "behavior"] = "interruption" if config.task == "user_interruption" else "behavior"
    return Judge.connect(kind, endpoint, config.judge_prompt)


def _scored(config: ScoreConfig, judge: Judge | None) -> tuple[TaskScore, Page | None]:
    """The score, and its page if one is wanted; what can be heard in the recordings is found once for both."""
    from duologue.bench.fdb_samples import sample_folders
    from duologue.bench.hearing import hear

    folders = sample_folders(config.dir)
    if config.recogniser is not None:
        from duologue.audio.asr import load_recogniser
        from duologue.bench.recognise import missing_words, write_missing_words

        if jobs := missing_words(folders, config.task):
            written = write_missing_words(jobs, load_recogniser(config.recogniser))
            print(f"{written} transcripts written by {config.recogniser}")
    if config.report or config.mode == "corrected":
        recordings = hear([p for f in folders for n in ("output.wav", "input.wav") if (p := f / n).is_file()])
    else:
        recordings = {}  # the official rules hear for themselves, each in its own way
    score = (
        _score_v1(config, judge, recordings) if config.benchmark == "fdb-v1" else _score_v15(config, judge, recordings)
    )
    if judge is not None:
        score = replace(score, notes=[*score.notes, *judge.notes()])
    if not config.report:
        return score, None
    from duologue.bench.fdb_page import score_page

    command = shlex.join(["duologue", *sys.argv[1:]])
    title = f"{config.benchmark} {config.task.replace('_', ' ')}: {config.dir.resolve().name}"
    return score, score_page([(config.dir, score)], recordings, title=title, command=command)


def _score_v1(config: ScoreConfig, judge: Judge | None, recordings: Recordings) -> TaskScore:
    from duologue.bench.fdb_v1 import Options, Task, read_reference, score_task

    reference = None if config.reference is None else read_reference(config.reference)
    options = Options(mode=config.mode, reference=reference, judge=None if judge is None else judge.rate)
    return score_task(config.dir, cast(Task, config.task), options, recordings)


def _score_v15(config: ScoreConfig, judge: Judge | None, recordings: Recordings) -> TaskScore:
    if config.task == "timing":
        from duologue.bench.fdb_timing import score_timing

        return score_timing(config.dir, config.mode, recordings)
    if config.task == "behavior":
        from duologue.bench.fdb_behavior import score_behavior

        return score_behavior(config.dir, config.mode, None if judge is None else judge.label)
    from duologue.bench.fdb_voice import score_before_after

    return score_before_after(config.dir, config.mode)


def show(score: TaskScore) -> None:
    """Print the summary, the notes, and the samples that were not scored."""
    from rich.console import Console
    from rich.table import Table

    from duologue.bench.fdb_page import summary_table

    table = summary_table(score)
    view = Table(show_header=False)
    view.add_column()
    view.add_column(justify="right")
    for name, value in table.rows:
        view.add_row(
            str(name), "not measured" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
        )
    console = Console()
    console.print(f"{score.benchmark} {table.title}, mode {score.mode}", highlight=False)
    console.print(view)
    for note in score.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    lost = [(name, s) for name, s in score.samples.items() if s.status != "ok"]
    for name, sample in lost[:20]:
        console.print(f"{name}: {sample.status}: {sample.why}", markup=False, highlight=False)
    if len(lost) > 20:
        console.print(f"... and {len(lost) - 20} more (all are in result.json)", markup=False, highlight=False)
