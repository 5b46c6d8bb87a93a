"""`duologue align`: reinforcement learning for interactivity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from duologue.base.errors import UserError
from duologue.base.trackers import Tracker

if TYPE_CHECKING:
    from torch import Tensor

    from duologue.base.run_record import RunRecord
    from duologue.corpus.token_cache import TokenCache
    from duologue.engine.bundle import Bundle
    from duologue.train.align_learner import AlignLearner
    from duologue.train.align_settings import AlignSettings
    from duologue.train.held_out import HeldOut
    from duologue.train.parallel import World
    from duologue.train.rollout_batches import Batch
    from duologue.train.rollouts import Recorded

BATCH = "batch.safetensors"
SAMPLE = "sample"
"""The segments of the corpus that comes with the package."""
FREE = (
    "out", "resume", "json", "device", "threads", "save_minutes", "keep_checkpoints", "keep_every", "tracker",
    "recipe", "set", "model", "plan", "memory_gb", "devices",
)  # fmt: skip
"""Options that may differ when a run goes on: where and how often, and names whose meaning the run's record holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignConfig:
    """Align a model: roll out segments of recorded conversations, reward how it takes part, and learn from the better.

    A recipe is the name of a paper's settings (kyutai-2606.11167, kyutai-lora, aspirin, nano-demo) or a YAML file of
    such settings; --set changes single ones. The folder of the run holds model/ (what duologue talk --model takes),
    metrics.jsonl, rollouts/ to listen to, and a checkpoint; after a kill the same command with --resume goes on to the
    same numbers.
    """

    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """Name of a recipe, or a YAML file."""
    segments: str = SAMPLE
    """Folder of segments with clips, from duologue mine; sample: those of the corpus that comes with the package."""
    model: str = "nano"
    """What to align: nano, a folder or file, or owner/name on the Hugging Face hub."""
    lora: str | None = None
    """Adapters to merge into it first: a lora.safetensors, or the folder or hub repository that holds one."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="RUN")] = None
    """The folder of the run; by default runs/align-N."""
    set: tuple[str, ...] = ()
    """Settings that differ from the recipe's: NAME=VALUE, such as steps=10 or update.optimizer.rate=1e-5."""
    dev: str | None = None
    """Folder of segments that are measured on while learning, none of which is learned from; by default the held-out
    part of the corpus that comes with the package where its other part is learned from, else nothing; none: nothing."""
    evaluate_every: int = 10
    """Steps between two measurements on --dev; 0: at the end alone. best/ holds the model that was best on them."""
    dev_segments: int = 16
    """Of each axis, the first so many of --dev."""
    keep_every: int = 10
    """Steps between two whose best and worst rollouts are kept as sound; 0: none are."""
    keep_tokens: bool = False
    """Keep the tokens and rewards of all rollouts, 0.1 MB a minute of talk: what --replay takes."""
    replay: Path | None = None
    """A run whose kept rollouts are learned from again, in order, instead of new ones: for updates alone, and for
    learning offline."""
    save_minutes: float = 10.0
    """Between two checkpoints."""
    keep_checkpoints: int = 2
    """Checkpoints that are kept: the last ones."""
    tracker: Tracker = "none"
    """Where metrics go besides the run's folder: none, tensorboard or wandb (extras of those names)."""
    seed: int = 0
    """Of everything drawn."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int | None = None
    """Of the CPU; by default all."""
    resume: bool = False
    """Go on with the run in RUN."""
    json: Path | None = None
    """Also write the last metrics to this file."""
    plan: bool = False
    """Print how much memory the run would need, by part, and how many rollouts fit, and do nothing else; reads no
    weights."""
    memory_gb: float | None = None
    """With --plan: a device's memory in GB, where it is not this machine's."""
    devices: int = 1
    """With --plan: how many devices, with a process each."""


def main(config: AlignConfig) -> int:
    """Align a model by reinforcement learning on segments of recorded conversations."""
    from duologue.train.parallel import join

    if config.plan:
        from duologue.train.align_plan_table import show_plan

        show_plan(config)
        return 0
    with join(config.device) as (world, device):
        _align(config, world, str(device))
    return 0


def _align(config: AlignConfig, world: World, device: str) -> None:
    import torch

    from duologue.base.compute import seed_everything
    from duologue.base.config import to_dict
    from duologue.base.files import write_json
    from duologue.base.runs import RunFolder
    from duologue.base.trackers import tracked
    from duologue.engine.asked import pick_voice
    from duologue.engine.bundle import load
    from duologue.train.align_learner import AlignLearner, prompts_line, rollouts_for
    from duologue.train.loop import LoopConfig, train
    from duologue.train.parallel import shared_run
    from duologue.train.rewarding import AxesRewarder, probes_of, reward_remarks, rewarder_of
    from duologue.train.rollout_batches import save_batch
    from duologue.train.rollout_files import keep_rollouts, keep_verdicts

    settings = read_settings(config.recipe, config.set)
    if world.count > 1 and (config.keep_tokens or config.replay is not None):
        mend = "start one process, or leave out --keep-tokens and --replay"
        raise UserError(f"kept rollouts and {world.count} processes", place="--keep-tokens or --replay", mend=mend)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    seed_everything(config.seed)
    bundle = load(config.model, device=device, dtype="fp32", lora=config.lora)  # 2e-7 is lost in bf16
    settings = replace(settings, rollouts=rollouts_for(settings.rollouts, bundle))
    voice = pick_voice(settings.rollouts.voice_prompt, bundle)
    # Kept rollouts have their rewards.
    rewarder = rewarder_of(settings, device) if config.replay is None else AxesRewarder(settings.rewards)

    def create() -> RunFolder:
        record = run_record(settings, bundle)
        return RunFolder.create(config.out, "align", config, resume=config.resume, free=FREE, record=record)

    with rewarder as reward, shared_run(world, create) as run:
        segments: dict[str, list[Recorded]] = {}
        for first in (True, False):  # rank 0 mines and encodes, the others read what it has made
            if config.replay is None and world.leads == first:
                folder = mined(config.segments, run.path / "segments")
                segments = read_segments(folder, settings.rollouts.axes, bundle, run.path / "tokens")
            world.tell(None)
        if config.replay is None:
            segments |= probes_of(settings.rewards, bundle)
        counts = ", ".join(f"{len(found)} {axis}" for axis, found in segments.items())
        print(f"{run.path}: segments {counts}; {settings.steps} steps of {settings.rollouts.groups} x "
              f"{settings.rollouts.group} rollouts")  # fmt: skip
        for line in [prompts_line(settings.rollouts, bundle), *reward_remarks(settings)]:
            if config.replay is None:
                print(line)
        wordless = sum(not recorded.worded for found in segments.values() for recorded in found)
        if wordless and settings.rollouts.context:
            why = "the agent's words in it are unknown" if bundle.text else "the model has no tokenizer for its words"
            print(f"{wordless} segments are played without the recording before them: {why}")

        def keep(number: int, batch: Batch, gains: Tensor) -> None:
            folder = run.rollouts / f"step-{number:05d}"
            if config.keep_tokens:
                save_batch(folder / BATCH, batch)
            if world.leads:
                keep_verdicts(folder, batch)
            if config.keep_every and number % config.keep_every == 0 and config.replay is None:
                keep_rollouts(folder, batch, gains)

        learner = AlignLearner(
            bundle, segments, settings, seed=config.seed, reward=reward, voice=voice,
            publish=lambda run, name: publish(learner, run.path / name, config.recipe, config.segments), keep=keep,
            replay=replay_of(config.replay), world=world,
            held_out=held_out_of(config, settings, bundle, run.path, world),
        )  # fmt: skip
        if learner.plan is not None:
            print(learner.plan.line())
        long = sum(map(len, segments.values())) - sum(map(len, learner.segments.values()))
        if long > 0 and settings.rollouts.window is None:
            print(f"{long} segments are longer than {settings.rollouts.most_s:g} s and left out")
        loop = LoopConfig(
            steps=settings.steps,
            log_every=1,
            validate_every=config.evaluate_every or settings.steps,
            save_minutes=config.save_minutes,
            keep_checkpoints=config.keep_checkpoints,
        )
        with tracked(run, config.tracker if world.leads else "none", to_dict(settings)):
            train(learner, run, loop, world)
        if not world.leads:
            return
        last = last_row(run.rows())
        print(f"{run.path / 'model'}: {', '.join(f'{k} {v:.4g}' for k, v in last.items() if v)}")
        if config.json is not None:
            write_json(config.json, last)


def last_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All that was measured at the last step, held-out segments included."""
    step = rows[-1]["step"]
    return {name: value for row in rows if row["step"] == step for name, value in row.items()}


def held_out_of(
    config: AlignConfig, settings: AlignSettings, bundle: Bundle, folder: Path, world: World
) -> HeldOut | None:
    """What a run is measured on while it learns; None for nothing. Rank 0 mines and encodes what the others read.

    Raises:
        UserError: no segments there.
    """
    from duologue.corpus.store import SegmentStore
    from duologue.train.align_learner import shaped
    from duologue.train.held_out import HeldOut

    if config.dev == "none" or (config.dev is None and config.segments != SAMPLE):
        return None
    rolled = replace(settings.rollouts, window=None)
    segments: dict[str, list[Recorded]] = {}
    for first in (True, False):
        if world.leads == first:
            place = dev_folder(config.dev or SAMPLE, bundle, folder)
            present = SegmentStore(place).axes
            axes = [axis for axis in rolled.axes if axis in present]
            segments = read_segments(place, axes, bundle, folder / "dev-tokens")
        world.tell(None)
    played = {axis: found[: config.dev_segments] for axis, found in shaped(segments, rolled).items()}
    given = {axis: found for axis, found in played.items() if found}
    lacking = [axis for axis in rolled.axes if axis not in given]
    if lacking:
        print(f"nothing is held out of {', '.join(lacking)}")
    return HeldOut(segments=given, context_s=rolled.context_s[1] if rolled.context else 0.0) if given else None


def dev_folder(name: str, bundle: Bundle, folder: Path) -> Path:
    """The folder of held-out segments: of the sample, those that come with tokens of this model's codec, else the
    held-out part of its sound, mined into `folder`."""
    from duologue.corpus.encoding import header_of
    from duologue.corpus.sample import sample_segments
    from duologue.corpus.token_cache import read_header

    if name != SAMPLE:
        return Path(name)
    shipped = sample_segments("dev")
    if read_header(shipped / "tokens") == header_of(bundle.need_codec()):
        return shipped
    return mined(SAMPLE, folder / "dev", part="heldout")


def read_settings(recipe: str, changes: Sequence[str] = ()) -> AlignSettings:
    """A recipe by its name or file, with changes. Errors: UserError, no such recipe, or settings that cannot be."""
    from duologue.base.config import from_dict, overridden, read_yaml
    from duologue.base.typed import nearest
    from duologue.train.align_recipes import RECIPES
    from duologue.train.align_settings import AlignSettings

    if recipe in RECIPES:
        return overridden(RECIPES[recipe](), changes)
    path = Path(recipe)
    if not path.is_file():
        raise UserError("is neither a recipe nor a file", place=recipe, mend=nearest(recipe, RECIPES))
    return overridden(from_dict(AlignSettings, read_yaml(path), place=str(path)), changes)


def run_record(settings: AlignSettings, bundle: Bundle) -> RunRecord:
    """What an alignment of a model by some settings really uses: for the run's folder."""
    from duologue.axes.judge import JudgeConfig
    from duologue.base.config import to_dict
    from duologue.base.run_record import RunRecord
    from duologue.train.align_learner import rollouts_for, sampling_of

    rolled, rewards = rollouts_for(settings.rollouts, bundle), settings.rewards
    sampling = to_dict(sampling_of(rolled, bundle.config.sampling))
    judge, heard = "none", None if rewards.recogniser is None else f"recogniser {rewards.recogniser}"
    if isinstance(rewards.judge, JudgeConfig):
        judge = f"{rewards.judge.endpoint.model} at {rewards.judge.endpoint.url}"
    return RunRecord(
        model=bundle.config.name, settings=to_dict(settings), text_prompt=rolled.text_prompt or "",
        voice=rolled.voice_prompt, lead_s=rolled.lead_s or 0.0,
        sampling={name: value for name, value in sampling.items() if not name.endswith("_seed")},
        agent_words=heard or ("none" if bundle.text is None else "own text"), user_words=heard or "corpus",
        judge="proxy" if rewards.proxy else judge, rules=rewards.rules,
    )  # fmt: skip


def read_segments(folder: Path, axes: Sequence[str], bundle: Bundle, cache: Path) -> dict[str, list[Recorded]]:
    """Segments by axis as tokens: those that lie beside them, if this codec made them, else `cache` is filled.

    Raises:
        UserError: no segments there, none of an axis, or no sound.
    """
    from duologue.corpus.store import SegmentStore
    from duologue.train.rollouts import record

    store = SegmentStore(folder, tokens_of(folder, axes, bundle, cache))
    found: dict[str, list[Recorded]] = {}
    for axis in axes:
        found[axis] = record(bundle, [store.segment(row) for row in store.rows(axis)])
        if not found[axis]:
            mend = "mine a larger corpus, or leave the axis out: --set rollouts.axes=[...]"
            raise UserError(f"holds no segments of the axis {axis}", place=folder, mend=mend)
    return found


def tokens_of(folder: Path, axes: Sequence[str], bundle: Bundle, cache: Path) -> TokenCache:
    """The tokens of a folder of segments, encoded into `cache` where they are missing or another codec's."""
    import torch
    from torch import nn

    from duologue.corpus.encode import segment_items
    from duologue.corpus.encoding import encode_items, header_of
    from duologue.corpus.token_cache import INDEX, TokenCache, TokenCacheWriter, read_header

    codec = bundle.need_codec()
    header = header_of(codec)
    for place in (folder / "tokens", cache):
        if (place / INDEX).is_file() and read_header(place) == header:
            return TokenCache(place)
    assert isinstance(codec, nn.Module)
    device: torch.device = next(codec.parameters()).device
    for line in encode_items(codec, device, segment_items(folder, axes), TokenCacheWriter(cache, header)):
        print(f"left out: {line}")
    return TokenCache(cache)


def mined(name: str, folder: Path, part: Literal["train", "heldout"] = "train") -> Path:
    """The folder of segments; a part of the shipped corpus is mined into `folder` first, the same every time."""
    from duologue.corpus.candidates import MiningConfig
    from duologue.corpus.mine import read_corpus
    from duologue.corpus.mining import mine
    from duologue.corpus.sample import sample_folder

    if name != SAMPLE:
        return Path(name)
    if not (folder / "index.parquet").is_file():
        mine(read_corpus(sample_folder(part), None), folder, MiningConfig())
    return folder


def replay_of(run: Path | None) -> Callable[[int], Batch] | None:
    """The batches that a run kept, by step, over and over. Errors: UserError, it kept none."""
    from duologue.train.rollout_batches import load_batch

    if run is None:
        return None
    files = sorted(run.glob(f"rollouts/step-*/{BATCH}"))
    if not files:
        mend = "name the folder of a run of duologue align --keep-tokens"
        raise UserError("keeps no rollouts", place=run, mend=mend)
    return lambda number: load_batch(files[number % len(files)])


def publish(learner: AlignLearner, folder: Path, recipe: str, segments: str) -> None:
    """Write the model as it is now, adapters merged, in its source's number format, with what it was aligned by in its
    lineage. All processes call it; rank 0 writes, tensor by tensor from the CPU."""
    from dataclasses import replace

    from duologue.base.compute import pick_dtype
    from duologue.engine.export import export, source_format
    from duologue.engine.lineage import learned
    from duologue.model.load import find_checkpoint

    tensors = learner.whole_weights()
    if not learner.world.leads:
        return
    bundle = learner.bundle
    source = bundle.config.source
    kept = source_format(None if source is None else find_checkpoint(source))
    precision = "fp32" if kept == "int8" else kept  # 8 bits would lose what was learned
    layers = learned(bundle.config.lineage, "Alignment by Duologue", f"{recipe} on {segments}", "unknown")
    export(
        replace(bundle, config=replace(bundle.config, lineage=layers)), folder, force=True, tensors=tensors,
        dtype=pick_dtype(precision, learner.device),
    )  # fmt: skip
