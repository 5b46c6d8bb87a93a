"""How fast the language model scores and learns, beside moshi on the same weights, in the same run.

    python benchmarks/model.py                    a mid-sized model, on the CPU
    python benchmarks/model.py --json model.json  also write the numbers

Needs the parity oracle, as `make test` installs it. Weights are random.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from beside import fastest, oracle
from duologue.base.files import write_json
from duologue.model.config import LMConfig, kyutai_config
from duologue.model.lm import DuplexLM
from made import made


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dim", type=int, default=512, help="width of the temporal transformer; the depth one has half"
    )
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, in turn; the fastest counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = LMConfig(
        dim=options.dim,
        num_layers=options.layers,
        num_heads=options.dim // 64,
        text_card=8000,
        depformer_dim=options.dim // 2,
        depformer_num_heads=options.dim // 64,
        depformer_num_layers=4,
    )
    ours = DuplexLM(config)
    theirs = upstream(config)
    theirs.load_state_dict(ours.state_dict())
    text = torch.randint(0, config.text_card, (options.batch, 1, options.frames))
    audio = torch.randint(0, config.card, (options.batch, config.n_q, options.frames))
    codes = torch.cat((text, audio), dim=1)
    tasks: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "forward, text and audio": (lambda: scored(ours, codes), lambda: scored(theirs, codes)),
        "forward and backward, text and audio": (
            lambda: learnt_ours(ours, codes),
            lambda: learnt_theirs(theirs, codes),
        ),
        "forward and backward, text alone (policy gradient)": (
            lambda: learnt_ours(ours, codes, depth_steps=0),
            lambda: learnt_theirs(theirs, codes),
        ),
    }
    rows = []
    for name, (mine, other) in tasks.items():
        seconds = fastest(mine, other, options.repeats)
        speeds = [options.batch * options.frames / s for s in seconds]
        rows.append({"task": name, "duologue": speeds[0], "moshi": speeds[1], "ratio": speeds[0] / speeds[1]})
        print(f"{name:52} {speeds[0]:8.0f} {speeds[1]:8.0f} frames/s  {speeds[0] / speeds[1]:.2f}x")
    if options.json:
        how = made("model.py", arguments, options.threads)
        how["parameters"] = sum(p.numel() for p in ours.parameters())
        write_json(options.json, {"made": how, "rows": rows})
    return 0


def upstream(config: LMConfig) -> nn.Module:
    """moshi's model of the same shape."""
    with oracle():
        from moshi.models.lm import LMModel

        model: nn.Module = LMModel(**kyutai_config(config))
        return model


def scored(model: nn.Module, codes: Tensor) -> None:
    with torch.no_grad():
        model(codes)


def learnt_ours(model: DuplexLM, codes: Tensor, depth_steps: int | None = None) -> None:
    out = model(codes, depth_steps=depth_steps)
    (out.text_logits.square().mean() + out.audio_logits.square().sum() / max(1, out.audio_logits.numel())).backward()


def learnt_theirs(model: nn.Module, codes: Tensor) -> None:
    out = model(codes)
    (out.text_logits.square().mean() + out.logits.nan_to_num(0).square().mean()).backward()


if __name__ == "__main__":
    sys.exit(main())
