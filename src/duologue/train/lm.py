"""`duologue train lm`: a language model from conversations as codec tokens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from duologue.base.errors import UserError
from duologue.train.lm_learner import LMLearning
from duologue.train.loop import LoopConfig

if TYPE_CHECKING:
    from duologue.base.runs import RunFolder
    from duologue.codec.interface import Codec
    from duologue.corpus.token_cache import CacheHeader
    from duologue.engine.bundle import Bundle
    from duologue.model.lm import DuplexLM
    from duologue.train.lm_lora import LoRATraining
    from duologue.train.parallel import World
    from duologue.train.talks import Mix


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainLMConfig:
    """Train a language model on conversations, from random weights or from a model that exists.

    A mix is a YAML file that lists sources: a corpus, its tokens (duologue encode), and how it is drawn from. The
    folder of the run holds model/ (what duologue talk --model takes) or lora/ (what --lora takes), metrics.jsonl and a
    checkpoint; after a kill the same command with --resume goes on to the same numbers. On several devices: torchrun
    --nproc-per-node N COMMAND train lm ..., where COMMAND is the file that `which duologue` names.
    """

    mix: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MIX")]
    """The YAML file of the sources."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="RUN")] = None
    """The folder of the run; by default runs/train-lm-N."""
    codec: Path | None = None
    """The codec that made the tokens; needed unless --start has it."""
    tokenizer: Path | None = None
    """The text tokenizer; needed unless --start has one."""
    preset: str = "nano"
    """Shape of a new model: nano, mini, tiny, or those of 7B."""
    text_model: Path | None = None
    """Folder of a text model in Hugging Face's format (a Llama such as SmolLM2-135M) whose weights and shape the
    temporal transformer of a new model begins with; the tokenizer is its own."""
    embed_codes: bool = False
    """Begin the embeddings of codes as the vectors that they stand for in the codec: codes that sound alike are alike
    from the first step. With --start only those of the user's codes."""
    start: str | None = None
    """A model to go on from, instead of random weights: a folder, or a name that duologue talk takes."""
    lora: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="NAME=VALUE ...")] = None
    """Train adapters of --start alone, as moshi-finetune does: rank=128, scaling=2, targets=REGULAR-EXPRESSION (all
    linear layers if not said), embeddings=true to train those too, merged=true to write the merged model as well. With
    no values: those defaults."""
    held_out: float = 0.03
    """Share of each corpus that is kept for validation."""
    learning: LMLearning = field(default_factory=LMLearning)
    """How it learns."""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """How long, and how often to tell."""
    seed: int = 0
    """Of everything drawn."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; under torchrun each process takes its own."""
    threads: int | None = None
    """Of the CPU; by default all."""
    resume: bool = False
    """Go on with the run in RUN."""
    json: Path | None = None
    """Also write the last metrics to this file."""


def main(config: TrainLMConfig) -> int:
    """Train a language model on conversations, from random weights or from a model that exists."""
    import torch

    from duologue.base.compute import seed_everything
    from duologue.train.parallel import join

    if not 0 <= config.held_out < 1:
        raise UserError(f"{config.held_out} is no share", place="--held-out", mend="use 0 to below 1")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    seed_everything(config.seed)
    with join(config.device) as (world, device):
        _train(config, world, str(device))
    return 0


def _train(config: TrainLMConfig, world: World, device: str) -> None:
    """All of it, in one of the processes."""
    from duologue.base.files import write_json
    from duologue.base.runs import RunFolder
    from duologue.engine.prompts import tones
    from duologue.model.words import TextLayout
    from duologue.train.excerpts import Excerpts
    from duologue.train.lm_learner import LMLearner
    from duologue.train.lm_lora import FOLDER, check_start, prepare, read_training
    from duologue.train.loop import train
    from duologue.train.parallel import shared_run
    from duologue.train.talks import cache_header, load_mix, read_mix

    mix, beside = read_mix(config.mix), config.mix.parent
    lora = None if config.lora is None else read_training(config.lora)
    if lora is not None:
        check_start(config.start, lora, embed_codes=config.embed_codes)
    bundle = declared(begin(replace(config, device=device), cache_header(mix, beside)), mix)
    lm, codec, text = bundle.lm, bundle.need_codec(), bundle.need_text()
    if lora is not None:
        prepare(lm, lora, config.seed)
    sources = load_mix(mix, beside, text, TextLayout.of(lm.config), config.held_out)
    tone = tones(codec, kyutai=bundle.config.kyutai_codec)
    frames = config.learning.frames
    learned = Excerpts(sources, lm.config, text, tone, frames)
    checked = Excerpts(sources, lm.config, text, tone, frames, held_out=True)
    free = ("out", "resume", "json", "device", "threads", "loop.log_every", "loop.validate_every", "loop.save_minutes",
            "loop.keep_checkpoints")  # fmt: skip

    def create() -> RunFolder:
        return RunFolder.create(config.out, "train lm", config, resume=config.resume, free=free)

    with shared_run(world, create) as run:
        spoken = {s.config.tokens: s.talks for s in sources if s.config.tokens}.values()  # each corpus once
        hours = sum(t.frames for talks in spoken for t in talks) / codec.frame_rate / 3600
        pieces = sum(t.frames for s in sources if not s.config.tokens for t in s.talks)
        texts = f", {pieces / 1e6:.2f} M pieces of text" if pieces else ""
        size, learning = (sum(p.numel() for p in lm.parameters() if p.requires_grad >= x) / 1e6 for x in (False, True))
        part = "" if learning == size else f", of which {learning:.2f} M learn"
        print(f"{run.path}: {hours:.2f} h of conversation{texts}, {size:.2f} M parameters{part}, "
              f"{config.loop.steps} steps")  # fmt: skip
        learner = LMLearner(
            lm, learned, checked, config.learning, steps=config.loop.steps, seed=config.seed,
            publish=lambda run: export_model(bundle, run, world, lora), world=world,
        )  # fmt: skip
        train(learner, run, config.loop, world)
        if not world.leads:
            return
        last = run.rows()[-1]
        print(f"{run.path / (FOLDER if lora else 'model')}: {', '.join(f'{k} {v:.4g}' for k, v in last.items() if v)}")
        if config.json is not None:
            write_json(config.json, last)


def begin(config: TrainLMConfig, header: CacheHeader | None) -> Bundle:
    """The model to begin with, in float32; with a header of tokens, which must be this model's.

    Raises:
        UserError: codec or tokenizer are missing, or not those that the tokens and the model were made with.
    """
    from torch import nn

    from duologue.codec.tokens import codes_hash
    from duologue.engine.bundle import load
    from duologue.model.presets import codebooks

    if config.start is None:
        bundle = new_model(config)
    else:
        if config.text_model:
            raise UserError("is for a new model", place="--text-model", mend="leave out --start")
        bundle = load(config.start, device=config.device, dtype="fp32")
        if config.embed_codes:
            _embed_codes(bundle.lm, bundle.need_codec(), config)
    codec = bundle.need_codec()
    if header is None:
        return bundle
    assert isinstance(codec, nn.Module)
    if codes_hash(codec) != header.codec:
        mend = "encode the corpus again with this codec, or name the one that made them"
        raise UserError("the tokens come from another codec", place=config.mix, mend=mend)
    needed = codebooks(bundle.lm.config)
    if header.codebooks < needed:
        problem = f"have {header.codebooks} codebooks a side, the model {needed}"
        raise UserError(f"the tokens {problem}", place=config.mix, mend="encode the corpus with this model's codec")
    return bundle


def new_model(config: TrainLMConfig) -> Bundle:
    """Random weights in a preset's shape, or those of a text model with new ones for sound; as many codes as the codec.

    The text model's weights stay as they are (`from_text_model` without `fold_epsilon`), so that steps are no larger
    beside them than beside new ones.

    Raises:
        UserError: codec or tokenizer are missing or do not fit, no such preset, or a text model that cannot be used.
    """
    from duologue.base.typed import nearest
    from duologue.codec.checkpoint import load_codec
    from duologue.engine.bundle import Bundle, BundleConfig
    from duologue.engine.lineage import lineage, no_lineage
    from duologue.engine.voices import Voices
    from duologue.model.from_text import from_text_model, text_model_config
    from duologue.model.initial import random_lm
    from duologue.model.presets import PRESETS
    from duologue.model.text import load_text

    if config.preset not in PRESETS:
        raise UserError(f"{config.preset!r} is no preset", place="--preset", mend=nearest(config.preset, PRESETS))
    source = config.text_model
    tokenizer = config.tokenizer or (None if source is None else source / "tokenizer.json")
    for name, file in (("codec", config.codec), ("tokenizer", tokenizer)):
        if file is None:
            raise UserError("is needed for a new model", place=f"--{name}", mend="or go on from --start MODEL")
    assert config.codec is not None
    assert tokenizer is not None
    preset = PRESETS[config.preset]
    codec = load_codec(config.codec, device=config.device, n_codebooks=preset.n_codebooks)
    shape = replace(preset.lm, card=codec.card)
    if source is None:
        name = f"random:{config.preset}@{config.seed}"
        layers, lm = no_lineage(name), random_lm(shape, config.seed, device=config.device, dtype="fp32")
    else:
        name, shape = source.resolve().name, text_model_config(source, shape)
        layers = lineage(name)
        lm = from_text_model(source, shape, fold_epsilon=False, seed=config.seed, device=config.device)
    if config.embed_codes:
        _embed_codes(lm, codec, config)
    silent = frozenset({shape.existing_text_padding_id, shape.existing_text_end_padding_id})
    text = load_text(tokenizer, silent=silent)
    if text.vocab_size > shape.text_card:
        problem = f"has {text.vocab_size} pieces, the model {shape.text_card}"
        raise UserError(problem, place=tokenizer, mend=f"train one of {shape.text_card}")
    told = BundleConfig(name=name, lineage=layers, text_file=tokenizer)
    return Bundle(lm=lm, codec=codec, text=text, config=told, voices=Voices())


def _embed_codes(lm: DuplexLM, codec: Codec, config: TrainLMConfig) -> None:
    """Begin embeddings as the codec has them: those of all streams of a new model, of one that exists the user's."""
    from duologue.codec.split import SplitCodec
    from duologue.model.initial import embed_codes

    if not isinstance(codec, SplitCodec):
        raise UserError("needs a codec with codebooks of its own", place="--embed-codes", mend="leave it out")
    embed_codes(lm, codec, config.seed, agent=config.start is None)


def declared(bundle: Bundle, mix: Mix) -> Bundle:
    """The bundle, which says what it learns from and, if the mix teaches it, how it transcribes and speaks."""
    from duologue.engine.lineage import learned
    from duologue.engine.modes import Mode

    corpora = list(dict.fromkeys(source.corpus.resolve().name for source in mix.sources))
    layers = learned(bundle.config.lineage, "Training by Duologue", " + ".join(corpora), mix.licence)
    bundle = replace(bundle, config=replace(bundle.config, lineage=layers))
    modes = bundle.config.modes
    for source in mix.sources:
        if source.task == "transcribe":
            mode = Mode(prompt=source.prompts[0] if source.prompts else None, text_delay=mix.text_delay)
            modes = replace(modes, transcribe=mode)
            break
    if mix.speak_prompt is not None:
        modes = replace(modes, speak=replace(modes.speak or Mode(), prompt=mix.speak_prompt, text_delay=0.0))
    return replace(bundle, config=replace(bundle.config, modes=modes))


def export_model(bundle: Bundle, run: RunFolder, world: World, lora: LoRATraining | None = None) -> None:
    """Write what was learned so far as a folder that loads, or adapters as one; all processes call it together."""
    from duologue.engine.export import export
    from duologue.train.lm_lora import prepare, publish

    if world.count > 1:
        import torch

        from duologue.model.lm import DuplexLM

        state = world.gather(bundle.lm.state_dict())
        if not world.leads:
            return
        with torch.device("meta"):
            lm = DuplexLM(bundle.lm.config)
        if lora is not None:
            prepare(lm, lora, 0)
        lm.load_state_dict(state, assign=True)
        bundle = replace(bundle, lm=lm)
    if lora is None:
        export(bundle, run.path / "model", force=True)
    else:
        publish(bundle, lora, run.path)
