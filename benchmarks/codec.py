"""How fast Mimi encodes and decodes, beside moshi on the same weights and threads, in the same run.

    python benchmarks/codec.py                    Kyutai's shape, random weights, one thread, on the CPU
    python benchmarks/codec.py --json codec.json  also write the numbers

Needs the parity oracle, as `make test` installs it. Speed is in seconds of audio, all rows together, a second.
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
from duologue.codec.checkpoint import lay_out
from duologue.codec.mimi import Mimi
from made import made

Task = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--frames", type=int, default=125, help="of a whole signal of one row; more rows share them")
    parser.add_argument("--steps", type=int, default=25, help="frames of a stream")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, in turn; the fastest counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    ours = Mimi(n_codebooks=8).eval()
    theirs = upstream(ours)
    lay_out(ours)  # as load_codec does
    rows = []
    with torch.no_grad():
        for batch in options.batch:
            for name, frames, mine, other in tasks(ours, theirs, batch, options.frames, options.steps):
                seconds = fastest(mine, other, options.repeats)
                speeds = [batch * frames / ours.frame_rate / s for s in seconds]
                row = {"task": name, "batch": batch, "frames": frames, "duologue": speeds[0], "moshi": speeds[1]}
                row |= {"duologue_frame_ms": seconds[0] / frames * 1e3, "moshi_frame_ms": seconds[1] / frames * 1e3}
                rows.append(row | {"ratio": speeds[0] / speeds[1]})
                print(
                    f"{name:15} batch {batch:2} {speeds[0]:7.2f} {speeds[1]:7.2f} s/s "
                    f"{row['duologue_frame_ms']:7.1f} {row['moshi_frame_ms']:7.1f} ms a frame  "
                    f"{speeds[0] / speeds[1]:.2f}x",
                    flush=True,
                )
    if options.json:
        how = made("codec.py", arguments, options.threads)
        how["parameters"] = sum(p.numel() for p in ours.parameters())
        write_json(options.json, {"made": how, "rows": rows})
    return 0


def upstream(ours: Mimi) -> nn.Module:
    """moshi's Mimi with the same weights."""
    with oracle():
        from moshi.models.loaders import get_mimi

        model: nn.Module = get_mimi(None, num_codebooks=ours.n_codebooks)
    model.load_state_dict(ours.state_dict())
    return model


def tasks(ours: Mimi, theirs: nn.Module, batch: int, frames: int, steps: int) -> list[tuple[str, int, Task, Task]]:
    """Name, frames a row, ours and theirs."""
    frames = max(1, frames // batch)
    audio = torch.randn(batch, 1, ours.frame_size * max(frames, steps))
    codes = ours.encode(audio)
    whole, whole_codes = audio[..., : ours.frame_size * frames], codes[..., :frames]
    parts = audio[..., : ours.frame_size * steps].split(ours.frame_size, dim=-1)
    few = codes[..., :steps].split(1, dim=-1)
    return [
        ("encode, stream", steps, lambda: stream(ours.encode_step, ours, parts), lambda: live("encode", theirs, parts)),
        ("decode, stream", steps, lambda: stream(ours.decode_step, ours, few), lambda: live("decode", theirs, few)),
        ("encode, whole", frames, lambda: ours.encode(whole), lambda: theirs.encode(whole)),
        ("decode, whole", frames, lambda: ours.decode(whole_codes), lambda: theirs.decode(whole_codes)),
    ]


def stream(step: Callable[..., tuple[Tensor, dict[str, Tensor]]], codec: Mimi, parts: Sequence[Tensor]) -> None:
    state = codec.initial_state(len(parts[0]))
    for part in parts:
        _, state = step(part, state, reuse=True)


def live(what: str, codec: nn.Module, parts: Sequence[Tensor]) -> None:
    step: Callable[[Tensor], Tensor] = getattr(codec, what)
    with codec.streaming(len(parts[0])):
        for part in parts:
            step(part)


if __name__ == "__main__":
    sys.exit(main())
