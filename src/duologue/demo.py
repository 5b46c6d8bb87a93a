"""`duologue demo`: the main job on the embedded default.

Segments of people's timing are rolled out, the bundled model is aligned by reinforcement learning, and what it does
before and after is measured on segments that it never saw, shown and heard.
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from duologue.bench.before_after import Outcome, Trial
    from duologue.bench.change_page import Pair
    from duologue.bench.segment_scores import Difference
    from duologue.engine.bundle import Bundle
    from duologue.engine.prompts import Voice
    from duologue.train.align_settings import AlignSettings
    from duologue.train.rollouts import Recorded

HELD_OUT = 64
"""Held-out segments of each axis."""
PARTS = 4
"""Of a corpus's conversations, one in so many is held out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """Align the bundled model by reinforcement learning, and show with numbers, pictures and sound what changed.

    The run folder holds model/ (the aligned model), metrics.jsonl, result.json and report.html. After a kill the same
    command with --resume goes on.
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
    held_out: int = HELD_OUT
    """Held-out segments of each axis, at most."""
    context: float = 4.0
    """Seconds of the recording that are given before a held-out segment."""
    scenarios: int = 24
    """Live talks with scripted users, before and after."""
    shown: int = 2
    """Segments of each axis on the page: those whose reward changed most."""
    recogniser: str | None = None
    """Also tell how far the agent's speech agrees with its words, as a recogniser hears it (extra asr or parakeet): a
    folder, size or hub name of Whisper, or parakeet."""
    seed: int = 0
    """Of everything drawn."""
    threads: int | None = None
    """Of the CPU; by default all."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    resume: bool = False
    """Go on with the run in DIR."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="OUT")] = None
    """Also write seconds, segments and every metric before, after and its difference to this file."""


def main(config: DemoConfig) -> int:
    """Align the bundled model by reinforcement learning, and show what changed."""
    import torch

    from duologue.audio.asr import load_recogniser
    from duologue.base.compute import seed_everything
    from duologue.base.files import write_json
    from duologue.base.report import write_report
    from duologue.base.runs import RunFolder
    from duologue.bench.before_after import changes, put_to
    from duologue.bench.change_page import page
    from duologue.engine.asked import pick_voice
    from duologue.engine.bundle import load
    from duologue.train.align import publish, read_settings
    from duologue.train.align_learner import AlignLearner
    from duologue.train.loop import LoopConfig, train
    from duologue.train.rewarding import probes_of, rewarder_of

    settings = read_settings(config.recipe, config.set)
    rewarder = rewarder_of(settings, config.device)
    recogniser = None if config.recogniser is None else load_recogniser(config.recogniser, config.device)
    began = time.perf_counter()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    seed_everything(config.seed)
    bundle, before = (load(config.model, device=config.device, dtype="fp32") for _ in range(2))
    voice = pick_voice(settings.rollouts.voice_prompt, bundle)
    free = ("out", "resume", "json", "device", "threads", "shown")
    with rewarder as reward, RunFolder.create(config.out, "demo", config, resume=config.resume, free=free) as run:
        learned, held_out = segments_of(config, settings.rollouts.axes, bundle, run.path)
        told = ", ".join(f"{len(learned.get(axis, ()))} + {len(found)} {axis}" for axis, found in held_out.items())
        print(f"{run.path}: segments to learn from + held out: {told}")
        learner = AlignLearner(
            bundle, learned | probes_of(settings.rewards, bundle), settings, seed=config.seed, reward=reward,
            voice=voice,
            publish=lambda run, name: publish(learner, run.path / name, config.recipe, source(config)),
        )  # fmt: skip
        train(learner, run, LoopConfig(steps=settings.steps, log_every=1, validate_every=settings.steps))
        trial = trial_of(config, settings, held_out, before, voice)
        outcomes = put_to(trial, before, before.lm, recogniser), put_to(trial, bundle, before.lm, recogniser)
        changed = changes(*outcomes)
        result = summary(time.perf_counter() - began, learned, changed)
        pairs = pairs_of(trial, before, bundle, outcomes, config.shown)
        command = shlex.join(["duologue", *sys.argv[1:]])
        live = outcomes[0].live, outcomes[1].live
        write_report(
            run.report_path,
            page(config.model, changed, live, run.rows(), pairs, notes=remarks(config), command=command),
        )
        for path in (run.path / "result.json", config.json):
            if path is not None:
                write_json(path, result)
    show(changed)
    print(f"{result['seconds']:.0f} s; {run.report_path}")
    return 0


def segments_of(
    config: DemoConfig, axes: Sequence[str], bundle: Bundle, folder: Path
) -> tuple[dict[str, list[Recorded]], dict[str, list[Recorded]]]:
    """Segments by axis, to learn from and held out; of the shipped ones all axes are held out, whatever is learned.

    Raises:
        UserError: none of an axis, or another codec's tokens.
    """
    from duologue.axes import AXES
    from duologue.corpus.candidates import MiningConfig
    from duologue.corpus.encoding import header_of
    from duologue.corpus.mine import read_corpus
    from duologue.corpus.mining import mine
    from duologue.corpus.sample import sample_segments
    from duologue.corpus.token_cache import read_header
    from duologue.train.align import read_segments

    if config.corpus is None:
        learned, held_out = sample_segments("train"), sample_segments("dev")
        if read_header(learned / "tokens") != header_of(bundle.need_codec()):
            mend = "give a corpus with sound: --corpus DIR"
            raise UserError("has another codec than the shipped segments", place=config.model, mend=mend)
        learning = read_segments(learned, axes, bundle, folder / "tokens")
        checking = read_segments(held_out, tuple(AXES), bundle, folder / "tokens")
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


def trial_of(
    config: DemoConfig, settings: AlignSettings, held_out: Mapping[str, Sequence[Recorded]], bundle: Bundle,
    voice: Voice | None,
) -> Trial:  # fmt: skip
    """What both models are put to: drawn as in the alignment, with other seeds, and whole segments for windows."""
    from duologue.bench.before_after import Trial
    from duologue.train.align_learner import sampling_of, shaped

    return Trial(
        segments=shaped(held_out, replace(settings.rollouts, window=None)), settings=settings,
        sampling=sampling_of(settings.rollouts, bundle.config.sampling), voice=voice,
        context_s=config.context, scenarios=config.scenarios, seconds=25.0, seed=config.seed + 1,
    )  # fmt: skip


def summary(
    seconds: float, segments: Mapping[str, Sequence[Recorded]], changed: Mapping[str, Difference]
) -> dict[str, Any]:
    """What --json holds."""
    return {
        "seconds": seconds,
        "segments": sum(len(found) for found in segments.values()),
        "before": {metric: d.before for metric, d in changed.items()},
        "after": {metric: d.after for metric, d in changed.items()},
        "difference": {metric: [d.mean, d.low, d.high] for metric, d in changed.items()},
    }


def pairs_of(trial: Trial, before: Bundle, after: Bundle, outcomes: tuple[Outcome, Outcome], count: int) -> list[Pair]:
    """The segments whose reward changed most, as both models played them, with the user to be heard."""
    from duologue.bench.before_after import most_changed, replay
    from duologue.bench.change_page import Pair

    chosen = most_changed(trial, outcomes[0].scored, outcomes[1].scored, count)
    earned = [{s.segment: s.values[f"reward_{s.axis}"] for s in o.scored} for o in outcomes]
    found = []
    for (axis, place), was, now in zip(
        chosen, replay(trial, before, chosen), replay(trial, after, chosen), strict=True
    ):
        recorded = trial.segments[axis][place]
        scenes = [replace(r.scene, user_audio=r.scene.user_audio or spoken(after, recorded)) for r in (was, now)]
        first, last = (e[recorded.segment.id] for e in earned)
        found.append(Pair(axis, scenes[0], scenes[1], (first, last)))
    return found


def spoken(bundle: Bundle, recorded: Recorded) -> Any:
    """Reads the user's sound, decoded from tokens."""
    import torch

    def read() -> tuple[Any, int]:
        codec = bundle.need_codec()
        with torch.no_grad():
            sound = codec.decode(recorded.user.clamp(min=0)[None].to(bundle.lm.text_emb.weight.device))
        return sound[0, 0].cpu().numpy(), codec.sample_rate

    return read


def source(config: DemoConfig) -> str:
    """What was learned from, for the model card."""
    return "simulated conversations (Duologue's sample)" if config.corpus is None else config.corpus.name


def remarks(config: DemoConfig) -> list[str]:
    """What must be known to read the numbers."""
    notes = ["Rollouts are drawn; numbers are of this model, these segments and this seed alone."]
    if config.model == "nano":
        notes.append(
            "nano is a small demonstration model with one synthetic voice. A quarter of its words is misheard."
        )
    if config.corpus is None:
        notes.append(
            "The segments are simulated: people's chats in synthetic voices, with human timing. What is heard of the "
            "user was decoded from tokens."
        )
    heard = "not by a recogniser or by people" if config.recogniser is None else "not by people"
    notes.append(f"Content and speech are measured by proxies, {heard}.")
    return notes


def show(changed: Mapping[str, Difference]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    from duologue.bench.change_page import METRICS, verdict
    from duologue.bench.rows import number

    table = Table("metric", "before", "after", "difference", "95 % interval", "segments", "", title_justify="left",
                  title="Held-out segments, before and after alignment")  # fmt: skip
    for metric, d in changed.items():
        label = METRICS.get(metric, (metric, 0, ""))[0]
        span = "" if math.isnan(d.low) else f"{number(d.low)} to {number(d.high)}"
        cells = (number(d.before), number(d.after), number(d.mean), span, str(d.segments), verdict(metric, d))
        table.add_row(label, *cells)
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)
