"""`duologue evaluate fdb-v1` and `fdb-v1.5`: a model through Full-Duplex-Bench, then scored."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import tyro

from duologue.base.errors import UserError
from duologue.engine.asked import ModelOptions

if TYPE_CHECKING:
    from duologue.base.report import Table
    from duologue.base.run_record import RunRecord
    from duologue.bench.fdb_run import Dataset, Manner, Version
    from duologue.bench.fdb_v1 import Mode, Reference
    from duologue.bench.hearing import Recordings
    from duologue.bench.results import TaskScore
    from duologue.engine.bundle import Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateFdbConfig(ModelOptions):
    """Let a model talk with every sample of Full-Duplex-Bench, and score what it said.

    The run folder holds outputs/DATASET/ID (the benchmark's layout, which duologue score reads too), result.json and
    report.html. After a kill the same command with --resume goes on with the samples that are left.
    """

    data: Annotated[Path, tyro.conf.arg(metavar="ROOT")]
    """A folder of samples (1/input.wav ...), or one that holds such folders, one for each task."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="RUN")] = None
    """The run folder; by default the next free runs/evaluate-fdb-v1-N."""
    text_prompt: str | None = None
    """What the agent is told before; by default PersonaPlex's prompts by task for a model of that kind, else none."""
    voice_prompt: str | None = None
    """Whose voice it takes: a recording (the paper: 3 s), or the name of a voice of the model."""
    lead: float | None = None
    """Seconds of silence before each recording; by default 3 for Moshi, which opens with a phrase, else 0."""
    mode: Literal["compat", "compat-2025", "corrected"] = "corrected"
    """Which rules score it; see duologue score."""
    reference: Path | None = None
    """Backchannels of v1: the benchmark's icc_gt_distribution.json."""
    recogniser: str | None = None
    """Recognise the words instead of taking the model's text: parakeet, or a Whisper size, folder or hub name."""
    limit: int | None = None
    """Only the first so many samples of each dataset."""
    slots: int = 8
    """Samples at once, in each process."""
    workers: int = 1
    """Processes at once, each with the model (with --ray: tasks)."""
    ray: bool = False
    """Give the talking to a Ray cluster (extra ray; RAY_ADDRESS names it), all of whose machines see --data and the
    run's folder."""
    seed: int = 0
    """Of the agent's draws; each sample has its own."""
    greedy: bool = False
    """Take the likeliest token always."""
    resume: bool = False
    """Go on with the run in RUN."""
    json: Path | None = None
    """Also write the results to this file."""


def main_v1(config: EvaluateFdbConfig) -> int:
    """Let a model talk with every sample of Full-Duplex-Bench v1, and score what it said."""
    return evaluate("fdb-v1", config)


def main_v15(config: EvaluateFdbConfig) -> int:
    """Let a model talk with every sample of Full-Duplex-Bench v1.5, with and without the overlap, and score it."""
    return evaluate("fdb-v1.5", config)


def evaluate(version: Version, config: EvaluateFdbConfig) -> int:
    """Talk, then score."""
    check(config)
    from duologue.audio.asr import load_recogniser
    from duologue.base.files import write_json
    from duologue.base.report import write_report
    from duologue.base.runs import RunFolder
    from duologue.bench.fdb_page import MEASURED, score_page
    from duologue.bench.fdb_run import Manner, Ref, datasets, loaded, talk_through
    from duologue.bench.fdb_samples import sample_folders
    from duologue.bench.hearing import Heard, hear
    from duologue.bench.provenance import provenance_table
    from duologue.bench.recognise import missing_words, write_missing_words
    from duologue.bench.score import show
    from duologue.engine.asked import pick_voice, settings
    from duologue.engine.prompts import lead_of

    found = [replace(d, samples=d.samples[: config.limit]) for d in datasets(config.data, version)]
    ref = Ref(config.model, config.device, config.dtype, config.lora)
    bundle = loaded(ref)
    if bundle.text is None and config.recogniser is None:
        mend = "name a recogniser: --recogniser base.en"
        raise UserError("has no tokenizer, so that nobody knows its words", place=config.model, mend=mend)
    recogniser = None if config.recogniser is None else load_recogniser(config.recogniser)
    drawn = settings(bundle.config.sampling, config.seed, 0.0, greedy=config.greedy)
    manner = Manner(
        drawn, pick_voice(config.voice_prompt, bundle), config.text_prompt, lead_of(config.lead, bundle), config.seed,
        config.slots,
    )  # fmt: skip
    record = run_record(version, config, bundle, found, manner)
    free = ("out", "resume", "json", "device", "slots", "workers", "ray")
    with RunFolder.create(
        config.out, f"evaluate {version}", config, resume=config.resume, free=free, record=record
    ) as run:
        heard: dict[Path, Heard | UserError] = {}
        done: list[Scored] = []
        for dataset in found:
            folder = run.path / "outputs" / dataset.name
            talk_through(dataset, folder, ref, manner, words=recogniser is None, workers=config.workers, ray=config.ray)
            if recogniser is not None:
                write_missing_words(missing_words(sample_folders(folder), dataset.task), recogniser)
            names = ("output.wav", "clean_output.wav", "input.wav", "clean_input.wav")
            heard |= hear([p for f in sorted(folder.iterdir()) for n in names if (p := f / n).is_file()])
            done += scored(folder, dataset.task, config, heard, of_dataset(record, dataset))
        results = [{"dataset": each.folder.name} | each.to_json() for each in done]
        for path in (run.path / "result.json", config.json):
            if path is not None:
                write_json(path, results)
        command = shlex.join(["duologue", *sys.argv[1:]])
        tables = [each.table(config.title) for each in done if each.score.task in MEASURED]
        page = score_page(
            [(each.folder, each.score) for each in done], heard, title=f"{config.title} on {version}", command=command,
            more=[*tables, provenance_table(record)],
        )  # fmt: skip
        write_report(run.report_path, page)
        for each in done:
            print(f"\n{each.folder.name}")
            show(each.score)
            if each.score.task in MEASURED:
                print_table(each.table(config.title))
        print(run.report_path)
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One scored task of a dataset, with reference agents on the same samples."""

    folder: Path
    score: TaskScore
    references: Mapping[str, Mapping[str, Any]]
    """Summaries by agent; empty where they were not scored."""
    record: RunRecord
    """How the model was put to it."""

    def to_json(self) -> dict[str, Any]:
        from duologue.bench.provenance import provenance

        return self.score.to_json() | {"reference_agents": dict(self.references), "made": provenance(self.record)}

    def table(self, model: str) -> Table:
        """The model beside reference agents."""
        from duologue.bench.fdb_reference import reference_table

        task, name = self.score.task.replace("_", " "), self.folder.name
        where = "" if name == self.score.task else f" ({name})"
        return reference_table(
            f"{task}{where}: reference agents on the same samples", model, self.score, self.references
        )


def run_record(
    version: Version, config: EvaluateFdbConfig, bundle: Bundle, found: Sequence[Dataset], manner: Manner
) -> RunRecord:
    """What an evaluation of a model really uses: for the run's folder."""
    from duologue.base.run_record import RunRecord
    from duologue.bench.fdb_run import prompt_of
    from duologue.bench.provenance import draws, model_identity, voice_identity, words_by

    told = {d.name: prompt_of(manner, bundle, d.task) for d in found}
    samples = {d.name: len(d.samples) for d in found}
    return RunRecord(
        model=config.title,
        settings={"benchmark": version, "samples": samples, **model_identity(bundle)},
        text_prompt=told if len(set(told.values())) > 1 else next(iter(told.values())),
        voice=voice_identity(config.voice_prompt, manner.voice), lead_s=manner.lead_s, sampling=draws(manner.sampling),
        agent_words=words_by(config.recogniser), rules=config.mode,
    )  # fmt: skip


def of_dataset(record: RunRecord, dataset: Dataset) -> RunRecord:
    """The record with the text prompt of one dataset."""
    told = record.text_prompt
    return replace(record, text_prompt=told if isinstance(told, str) else told[dataset.name])


def print_table(table: Table) -> None:
    """A table of the page on the terminal."""
    from rich.console import Console
    from rich.table import Table as View

    view = View(*table.headers, title=table.title, caption=table.note or None, title_justify="left")
    for name, *values in table.rows:
        view.add_row(str(name), *("" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in values))
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(view)


def check(config: EvaluateFdbConfig) -> None:
    """Errors: UserError, options that make no sense."""
    for name in ("slots", "limit", "workers"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"{value} is less than 1", place=f"--{name}", mend="use 1 or more")
    if config.lead is not None and not 0 <= config.lead <= 60:
        raise UserError(f"{config.lead} is no length of a lead", place="--lead", mend="use seconds, from 0 to 60")


def scored(folder: Path, task: str, config: EvaluateFdbConfig, heard: Recordings, record: RunRecord) -> list[Scored]:
    """The scores of a dataset: of v1 one, of v1.5 timing, and the voice before and after if Praat is there."""
    from duologue.bench.fdb_page import MEASURED
    from duologue.bench.fdb_reference import NO_WORDS, SYNTHETIC, is_synthetic, reference_summaries
    from duologue.bench.fdb_v1 import read_reference
    from duologue.bench.provenance import provenance_notes

    reference = None if config.reference is None else read_reference(config.reference)
    told = [*provenance_notes(record), *[SYNTHETIC] * is_synthetic(folder)]
    found = []
    for score in task_scores(folder, task, config.mode, reference, heard):
        references, notes = {}, [*score.notes, *told]
        if config.mode == "corrected":
            references = reference_summaries(folder, score.task, heard, reference)
        elif score.task in MEASURED:
            notes.append(NO_WORDS)
        found.append(Scored(folder=folder, score=replace(score, notes=notes), references=references, record=record))
    return found


def task_scores(
    folder: Path, task: str, mode: Mode, reference: Reference | None, heard: Recordings
) -> Iterator[TaskScore]:
    """What the model scores; a part of v1.5 that cannot be scored is printed and left out."""
    from duologue.bench.fdb_timing import score_timing
    from duologue.bench.fdb_v1 import Options, Task, score_task
    from duologue.bench.fdb_voice import score_before_after

    if task != "timing":
        yield score_task(folder, cast("Task", task), Options(mode=mode, reference=reference), heard)
        return
    for rule in (partial(score_timing, folder, mode, heard), partial(score_before_after, folder, mode)):
        try:
            yield rule()
        except UserError as error:
            print(f"{folder.name}: not scored: {error}")
