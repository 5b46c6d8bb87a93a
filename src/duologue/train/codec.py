"""`duologue train codec`: a codec from folders of recordings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from duologue.base.errors import UserError
from duologue.train.codec_learning import CodecLearning
from duologue.train.loop import LoopConfig

if TYPE_CHECKING:
    from torch import Tensor

    from duologue.codec.split import SplitCodec
    from duologue.train.crops import Sound


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainCodecConfig:
    """Train a codec on every sound file in folders: the codec of `nano`, or of another preset.

    The folder of the run holds codec.safetensors and its shape, metrics.jsonl and a checkpoint; after a kill the same
    command with --resume goes on to the same numbers. With --start and --learning.train decoder a codec's sound is
    improved without changing its codes.
    """

    sounds: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDERS")]
    """Folders (or files) of recordings."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="RUN")] = None
    """The folder of the run; by default runs/train-codec-N."""
    weights: tuple[float, ...] = ()
    """How often each folder is drawn from, in their order; by default all alike."""
    channels: tuple[int, ...] = ()
    """Which channel of each folder's files counts, in their order; -1 and by default all, each as a recording."""
    shifted: float = 0.3
    """Share of stretches that are played faster or slower, as if others spoke."""
    preset: str = "nano"
    """Whose shape: nano, tiny, mini (Mimi's own)."""
    start: Path | None = None
    """A codec to go on from, instead of random weights."""
    teacher: Path | None = None
    """Folder of a Whisper model in CTranslate2's format, whose encoder teaches the semantic codebook (extra asr)."""
    teacher_hours: float = 4.0
    """How much the teacher hears."""
    teacher_file: Path | None = None
    """Where the teacher's features are kept; by default RUN/teacher.npy."""
    learning: CodecLearning = field(default_factory=CodecLearning)
    """How it learns."""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """How long, and how often to tell."""
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


def main(config: TrainCodecConfig) -> int:
    """Train a codec on every sound file in folders: the codec of `nano`, or of another preset."""
    if not config.sounds:
        raise UserError("no folder of recordings", place="FOLDERS", mend="name one or more")
    for name in ("weights", "channels"):
        given = len(getattr(config, name))
        if given not in (0, len(config.sounds)):
            problem = f"{given} {name} for {len(config.sounds)} folders"
            raise UserError(problem, place=f"--{name}", mend="give one for each")
    if any(weight <= 0 for weight in config.weights):
        raise UserError("a weight is above 0", place="--weights", mend="leave out the folder instead")
    import torch

    from duologue.base.compute import pick_device, seed_everything
    from duologue.base.files import write_json
    from duologue.base.runs import RunFolder
    from duologue.train.codec_learner import CodecLearner
    from duologue.train.crops import Crops, is_held_out, list_sounds
    from duologue.train.loop import train
    from duologue.train.teacher import Taught

    device = pick_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    seed_everything(config.seed)
    codec = start_codec(config)
    channels = config.channels or (-1,) * len(config.sounds)
    listed = [
        list_sounds(folder, None if channel == -1 else channel)
        for folder, channel in zip(config.sounds, channels, strict=True)
    ]
    kept = [[s for s in sounds if not is_held_out(s.ref.path)] or sounds for sounds in listed]
    free = ("out", "resume", "json", "device", "threads", "teacher", "teacher_file", "loop.log_every",
            "loop.validate_every", "loop.save_minutes",
            "loop.keep_checkpoints")  # fmt: skip
    with RunFolder.create(config.out, "train codec", config, resume=config.resume, free=free) as run:
        taught = None
        if config.teacher is not None:
            file = config.teacher_file or run.path / "teacher.npy"
            sounds = [s for source in kept for s in source]
            taught = Taught(sounds, config.teacher, config.teacher_hours, file, config.seed)
        crops = Crops(kept, config.weights or [1.0] * len(kept), codec.sample_rate, shifted=config.shifted)
        learner = CodecLearner(
            codec, crops, checks(listed, codec), config.learning, steps=config.loop.steps, seed=config.seed,
            taught=taught, device=device,
        )  # fmt: skip
        total = sum(s.seconds for sounds in listed for s in sounds)
        size = sum(p.numel() for p in codec.parameters()) / 1e6
        print(f"{run.path}: {total / 3600:.2f} h of sound, {size:.2f} M parameters, {config.loop.steps} steps")
        train(learner, run, config.loop)
        last = run.rows()[-1]
        print(f"{run.path / 'codec.safetensors'}: {', '.join(f'{k} {v:.4g}' for k, v in last.items() if v)}")
        if config.json is not None:
            write_json(config.json, last)
    return 0


def start_codec(config: TrainCodecConfig) -> SplitCodec:
    """The codec to begin with. Errors: UserError, no such preset or file."""
    from duologue.base.typed import nearest
    from duologue.codec.checkpoint import load_codec
    from duologue.codec.spectral import SpectralCodec, SpectralConfig
    from duologue.codec.split import SplitCodec
    from duologue.model.initial import random_codec
    from duologue.model.presets import PRESETS

    if config.start is not None:
        codec = load_codec(config.start, device="cpu")
        assert isinstance(codec, SplitCodec)
        return codec
    if config.preset not in PRESETS:
        raise UserError(f"{config.preset!r} is no preset", place="--preset", mend=nearest(config.preset, PRESETS))
    shape = PRESETS[config.preset].codec
    if isinstance(shape, SpectralConfig):
        return SpectralCodec(shape)
    return random_codec(shape, PRESETS[config.preset].n_codebooks, config.seed, device="cpu")


def checks(listed: list[list[Sound]], codec: SplitCodec) -> list[Tensor]:
    """Up to 24 stretches of 4 s with speech in them from what is held out, alike for every run."""
    import numpy as np
    import torch

    from duologue.train.crops import Crops, is_held_out

    found = []
    for sounds in listed:
        held = [s for s in sounds if is_held_out(s.ref.path)]
        if held:
            crops, rng = Crops([held], [1.0], codec.sample_rate, quiet=0.0), np.random.default_rng(0)
            found += [torch.from_numpy(crops.batch(rng, 4, 4.0))[:, None] for _ in range(max(1, 6 // len(listed)))]
    return found
