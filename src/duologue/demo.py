"""`duologue demo`: the main job on the embedded default.

Segments of people's timing are rolled out, the bundled model is aligned by reinforcement learning, and what it does
before and after is measured on segments that it never saw, shown and heard.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle
    from duologue.train.rollouts import Recorded

HELD_OUT = 64
"""Segments of each axis that models are measured on."""
PARTS = 4
"""Of a corpus's conversations, one in so many is held out."""
FREE = ("out", "resume", "json", "device", "threads", "shown", "recipe", "set", "model")
"""Options that may differ when a run goes on: where, and names whose meaning the run's record holds."""
OF_CORPUS = "held-out part of the corpus"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """Align the bundled model by reinforcement learning, and show with numbers, pictures and sound what changed.

    The run folder holds model/ (the aligned model), metrics.jsonl, result.json, scored.json (what both models did in
    every segment) and report.html. After a kill the same command with --resume goes on.
    """

    out: Annotated[Path | None, tyro.conf.arg(name="output", aliases=["-o", "--out"], metavar="DIR")] = None
    """The run folder; the default is the next free runs/demo-N."""
    model: str = "nano"
    """What to align."""
    corpus: Path | None = None
    """A two-channel corpus to mine instead of the segments that come with the package; one conversation in four is held
    out. Another model than nano needs one, for the shipped segments are nano's tokens."""
    recipe: str = "nano-demo"
    """Name of an alignment recipe, or a YAML file."""
    set: tuple[str, ...] = ()
    """Settings that differ from the recipe's: NAME=VALUE, such as steps=4."""
    part: Literal["dev", "test"] | None = None
    """Which of the shipped segments are measured on: test if not said. To choose settings read dev."""
    held_out: int = HELD_OUT
    """Segments of each axis to measure on, at most."""
    context: float = 4.0
    """Seconds of the recording that are given before a held-out segment."""
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
    resume: bool = False
    """Go on with the run in DIR."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="OUT")] = None
    """Also write the result to this file: every metric before, after and its difference, reference agents, listening
    check and content."""


def main(config: DemoConfig) -> int:
    """Align the bundled model by reinforcement learning, and show what changed."""
    import torch

    from duologue.audio.asr import load_recogniser
    from duologue.base.compute import seed_everything
    from duologue.base.pace import Pace, busy
    from duologue.base.runs import RunFolder
    from duologue.bench.content_model import model_named
    from duologue.bench.outcome_report import ReportFiles, report, show, trial_of, write_result
    from duologue.engine.asked import pick_voice
    from duologue.engine.bundle import load
    from duologue.train.align import publish, read_settings, run_record
    from duologue.train.align_learner import AlignLearner
    from duologue.train.loop import LoopConfig, train
    from duologue.train.rewarding import probes_of, rewarder_of

    part = part_of(config)
    settings = read_settings(config.recipe, config.set)
    rewarder = rewarder_of(settings, config.device)
    recogniser = None if config.recogniser is None else load_recogniser(config.recogniser, config.device)
    answer_model = model_named(config.language_model)
    began = time.perf_counter()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    seed_everything(config.seed)
    bundle, before = (load(config.model, device=config.device, dtype="fp32") for _ in range(2))
    voice = pick_voice(settings.rollouts.voice_prompt, bundle)
    record = run_record(settings, bundle)
    with (
        rewarder as reward,
        RunFolder.create(config.out, "demo", config, resume=config.resume, free=FREE, record=record) as run,
    ):
        learned, held_out = segments_of(config, settings.rollouts.axes, bundle, run.path)
        counts = ", ".join(f"{len(learned.get(axis, ()))} + {len(found)} {axis}" for axis, found in held_out.items())
        print(f"{run.path}: segments to learn from + of the {part} to measure on: {counts}")
        pace = Pace(busy() if torch.get_num_threads() > 1 else None)
        run.listeners.append(pace.note)
        learner = AlignLearner(
            bundle, learned | probes_of(settings.rewards, bundle), settings, seed=config.seed, reward=reward,
            voice=voice,
            publish=lambda run, name: publish(learner, run.path / name, config.recipe, source(config)),
        )  # fmt: skip
        train(learner, run, LoopConfig(steps=settings.steps, log_every=1, validate_every=settings.steps))
        trial = trial_of(
            held_out, settings, before, voice, context_s=config.context, scenarios=config.scenarios, seed=config.seed,
            answer_model=answer_model,
        )  # fmt: skip
        files = ReportFiles(
            folder=run.path, title=config.model, curve=run.rows(), shown=config.shown, notes=remarks(config),
            json=config.json,
        )  # fmt: skip
        evidence, outcome = report(trial, part, before, bundle, files, recogniser)
        seconds = time.perf_counter() - began
        count = sum(len(recorded) for recorded in learned.values())
        write_result({"seconds": seconds, "segments": count, **outcome}, files)
    show(evidence)
    print(f"{seconds:.0f} s; {run.report_path}")
    return 0


def part_of(config: DemoConfig) -> str:
    """Which segments both models are measured on. Errors: UserError, a part of a corpus, which has none."""
    if config.corpus is None:
        return config.part or "test"
    if config.part is not None:
        mend = "leave --part out, or name no corpus"
        raise UserError("is given with a corpus, which has no parts", place=f"--part {config.part}", mend=mend)
    return OF_CORPUS


def segments_of(
    config: DemoConfig, axes: Sequence[str], bundle: Bundle, folder: Path
) -> tuple[dict[str, list[Recorded]], dict[str, list[Recorded]]]:
    """Segments by axis, to learn from and held out; of the shipped ones all axes are held out, whatever is learned.

    Raises:
        UserError: none of an axis, or another codec's tokens.
    """
    from duologue.axes import AXES
    from duologue.bench.outcome_report import shipped_segments
    from duologue.corpus.candidates import MiningConfig
    from duologue.corpus.mine import read_corpus
    from duologue.corpus.mining import mine
    from duologue.train.align import read_segments

    if config.corpus is None:
        learning = shipped_segments("train", axes, bundle)
        checking = shipped_segments(config.part or "test", tuple(AXES), bundle)
    else:
        mined = folder / "segments"
        if not (mined / "index.parquet").is_file():
            mine(read_corpus(config.corpus, None), mined, MiningConfig(axes=tuple(axes)))
        found = read_segments(mined, axes, bundle, folder / "tokens")
        learning = {axis: [r for r in x if not is_held_out(r)] for axis, x in found.items()}
        checking = {axis: [r for r in x if is_held_out(r)] for axis, x in found.items()}
        for axis in axes:
            if not checking[axis]:
                mend = "give a larger corpus, or leave the axis out: --set rollouts.axes=[...]"
                raise UserError(f"leaves no segment of the axis {axis} held out", place=config.corpus, mend=mend)
    return learning, {axis: x[: config.held_out] for axis, x in checking.items()}


def is_held_out(recorded: Recorded) -> bool:
    """By the conversation's name, so that no conversation is on both sides."""
    from zlib import crc32

    return crc32(recorded.segment.conversation.encode()) % PARTS == 0


def source(config: DemoConfig) -> str:
    """What was learned from, for the model card."""
    return "simulated conversations (Duologue's sample)" if config.corpus is None else config.corpus.name


def remarks(config: DemoConfig) -> list[str]:
    """What must be known to read the numbers."""
    from duologue.bench.outcome_report import SIMULATED, model_notes

    notes = model_notes(config.model, config.recogniser, config.language_model)
    return [*notes, *([SIMULATED] if config.corpus is None else [])]
