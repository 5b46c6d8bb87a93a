"""Which design of a small codec learns more in the same time: SEANet, or one at the rate of spectra.

    python benchmarks/codec_designs.py RECORDINGS --seconds 600 --json codec_designs.json

Each shape is trained from random weights on the same recordings, with the same losses and draws, for so many seconds of
its own steps on one thread (the codebooks begin after a tenth of them). Then what was never trained on goes through its
codes. `mel` is the distance of log-mel spectra of duologue.train.spectra, lower is better; `Mflop` are multiplications
and additions of encoder and decoder for a frame of 80 ms.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from duologue.base.compute import seed_everything
from duologue.base.files import write_json
from duologue.codec.config import MimiConfig
from duologue.codec.seanet import SEANetConfig
from duologue.codec.spectral import SpectralCodec, SpectralConfig
from duologue.codec.split import SplitCodec
from duologue.codec.transformer import TransformerConfig
from duologue.model.initial import random_codec
from duologue.train.codec import checks
from duologue.train.codec_learner import CodecLearner
from duologue.train.codec_learning import CodecLearning
from duologue.train.crops import Crops, Sound, is_held_out, list_sounds
from made import made


def seanet(filters: int, dimension: int) -> MimiConfig:
    """Mimi with narrower layers and two transformer layers, and the codes of nano."""
    transformer = TransformerConfig(num_layers=2, num_heads=4, dim_feedforward=2 * dimension, context=125)
    return MimiConfig(
        seanet=SEANetConfig(dimension=dimension, n_filters=filters), transformer=transformer, n_q=8, bins=512,
        quantizer_dim=64,
    )  # fmt: skip


SHAPES: Mapping[str, MimiConfig | SpectralConfig] = {
    "spectral (nano)": SpectralConfig(),
    "SEANet, 8 filters": seanet(8, 128),
    "SEANet, 16 filters": seanet(16, 256),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="folder of sound files")
    parser.add_argument("--seconds", type=float, default=600, help="of training, each")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sounds = list_sounds(options.recordings)
    rows = []
    for name, shape in SHAPES.items():
        row = {"design": name} | measure(shape, sounds, options.seconds, options.batch)
        rows.append(row)
        told = (f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float | int))
        print(f"{name:20} {', '.join(told)}", flush=True)
    if options.json:
        write_json(options.json, {"made": made("codec_designs.py", arguments, 1), "rows": rows})
    return 0


def measure(shape: MimiConfig | SpectralConfig, sounds: list[Sound], seconds: float, batch: int) -> dict[str, float]:
    """Train a shape for a time, and listen."""
    seed_everything(0)
    codec = SpectralCodec(shape) if isinstance(shape, SpectralConfig) else random_codec(shape, 8, 0, device="cpu")
    flops = floating(codec)
    crops = Crops([[s for s in sounds if not is_held_out(s.ref.path)]], [1.0], codec.sample_rate)
    steps = estimate(shape, crops, seconds, batch)
    learning = CodecLearning(batch=batch, quantize_from=max(steps // 10, 10))
    learner = CodecLearner(codec, crops, checks([sounds], codec), learning, steps=steps, seed=0)
    begun, mels = time.monotonic(), []
    for number in range(steps):
        mels.append(learner.step(number)["mel"])
    took = time.monotonic() - begun
    codec.eval()
    size = sum(p.numel() for p in codec.parameters()) / 1e6
    return {
        "parameters_m": size, "mflop_a_frame": flops / 1e6, "steps": steps, "seconds": took,
        "mel": sum(mels[-50:]) / len(mels[-50:]), "held_out_mel": learner.validate()["mel"],
    }  # fmt: skip


def estimate(shape: MimiConfig | SpectralConfig, crops: Crops, seconds: float, batch: int) -> int:
    """How many steps fit into a time, from a few of them."""
    codec = SpectralCodec(shape) if isinstance(shape, SpectralConfig) else random_codec(shape, 8, 0, device="cpu")
    learner = CodecLearner(codec, crops, [], CodecLearning(batch=batch, quantize_from=3), steps=10, seed=0)
    times = []
    for number in range(8):
        begun = time.monotonic()
        learner.step(number)
        times.append(time.monotonic() - begun)
    return max(int(seconds / sorted(times[4:])[1]), 20)


@torch.no_grad()
def floating(codec: SplitCodec, frames: int = 25) -> float:
    """Floating-point operations of encoding and decoding a frame."""
    audio = 0.1 * torch.randn(1, 1, frames * codec.frame_size, generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        codec.wave(codec.latent(audio))
    return counter.get_total_flops() / frames


if __name__ == "__main__":
    sys.exit(main())
