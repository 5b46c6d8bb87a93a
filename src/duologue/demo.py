"""`duologue demo`: score the six shipped dialogues (synthetic voices) on their tasks and write one page.

This stands in for the main job, which the alignment of the bundled model will be.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from duologue.base.runs import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """Score the shipped dialogues on the four tasks of Full-Duplex-Bench v1, and write a page to see and hear them."""

    out: Path | None = None
    """The run folder; the default is the next free runs/demo-N."""
    resume: bool = False
    """Use a run folder that holds this very run already, after a kill; its results are made again."""
    json: Path | None = None
    """Also write the results as JSON to this file."""


def main(config: DemoConfig) -> int:
    """Score every shipped task in the corrected mode."""
    from rich.console import Console
    from rich.table import Table

    from duologue.base.files import write_json
    from duologue.base.report import write_report
    from duologue.bench.fdb_page import score_page
    from duologue.bench.fdb_v1 import TASKS, Options, read_reference, score_task
    from duologue.bench.hearing import hear

    note = (
        "These dialogues were made by this project with synthetic voices; the numbers say nothing of any real system."
    )
    with (
        resources.as_file(resources.files("duologue.bench") / "dialogues") as dialogues,
        RunFolder.create(config.out, "demo", config, resume=config.resume) as run,
    ):
        reference = read_reference(dialogues / "backchannel" / "reference.json")
        tasks = [task for task in TASKS if (dialogues / task).is_dir()]
        recordings = hear(sorted(dialogues.glob("*/*/*put.wav")))
        scores = [
            (dialogues / t, score_task(dialogues / t, t, Options(reference=reference), recordings)) for t in tasks
        ]
        page = score_page(scores, recordings, title="Six dialogues, scored", command="duologue demo", notes=[note])
        write_report(run.report_path, page)
        results = [score.to_json() for _, score in scores]
        write_json(run.path / "result.json", results)
        if config.json is not None:
            write_json(config.json, results)
    table = Table(
        "task",
        "dialogue",
        "take-over",
        "latency s",
        "why",
        title="Full-Duplex-Bench v1, corrected",
        title_justify="left",
    )
    for _, score in scores:
        for name, sample in score.samples.items():
            latency = "" if sample.latency_s is None else f"{sample.latency_s:+.2f}"
            table.add_row(
                score.task, name, "" if sample.take_over is None else str(sample.take_over), latency, sample.why
            )
    console = Console()
    console.print(table)
    console.print(note, highlight=False)
    print(run.report_path)
    return 0
