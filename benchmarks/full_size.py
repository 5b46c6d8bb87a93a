"""Does a full-size model load with little more memory than its weights, and score?

    python benchmarks/full_size.py FOLDER                     Moshi 7B in bf16: 15.4 GB in FOLDER, removed afterwards
    python benchmarks/full_size.py FOLDER --preset nano       a smaller one
    python benchmarks/full_size.py FOLDER --json result.json  also write the numbers

Weights are random, under the names of the published files. Loading and scoring run in a process of their own, whose
peak of resident memory is reported; pages of the file that are mapped at that moment count in it.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from duologue.base.files import write_json
from duologue.model import load_lm
from made import made

BLOCK = 1 << 24
"""Random numbers that are drawn once; all weights are cut from them."""
KIND = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the weights are written; it must not hold any")
    parser.add_argument("--preset", default="moshi-7b")
    parser.add_argument("--dtype", default="bf16", choices=KIND, help="on disk")
    parser.add_argument("--into", choices=KIND, help="in memory; as on disk if left out")
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", action="store_true", help="load and score what is in the folder, and print JSON")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.measure:
        print(json.dumps(measured(options.folder, options.into or options.dtype, options.frames)))
        return 0
    if (options.folder / "model.safetensors").exists():
        parser.error(f"{options.folder} holds a model")
    try:
        start = time.perf_counter()
        size = write_model(options.folder, options.preset, KIND[options.dtype])
        result: dict[str, object] = {"preset": options.preset, "dtype": options.dtype, "weights_gb": size / 1e9}
        result["write_s"] = time.perf_counter() - start
        again = [str(options.folder), "--measure", "--dtype", options.into or options.dtype]
        again += ["--frames", str(options.frames)]
        again += ["--threads", str(options.threads)]
        done = subprocess.run([sys.executable, __file__, *again], stdout=subprocess.PIPE, check=True)
        result |= json.loads(done.stdout)
    finally:
        for name in ("model.safetensors", "config.json"):
            (options.folder / name).unlink(missing_ok=True)
    result["above_weights_gb"] = float(str(result["peak_gb"])) - size / 1e9
    record = {"made": made("full_size.py", arguments, options.threads), **result}
    print(json.dumps(record, indent=2))
    if options.json:
        write_json(options.json, record)
    return 0


def write_model(folder: Path, preset: str, dtype: torch.dtype) -> int:
    """Write random weights of a preset under the published names, without ever holding them; returns their bytes."""
    from duologue.codec.weights import write_tensors
    from duologue.model.checkpoint import flat_name
    from duologue.model.config import kyutai_config
    from duologue.model.lm import DuplexLM
    from duologue.model.presets import PRESETS

    with torch.device("meta"):
        model = DuplexLM(PRESETS[preset].lm)
    described: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for name, x in model.state_dict().items():
        flat = flat_name(name)
        rows = described[flat][0][0] if flat in described else 0
        described[flat] = ((rows + x.shape[0], *x.shape[1:]), dtype)
    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0))

    def pieces(name: str) -> list[Tensor]:
        shape = described[name][0]
        if name.endswith(".alpha"):
            return [torch.ones(shape)]
        whole, rest = divmod(math.prod(shape), BLOCK)
        scaled = block / math.sqrt(shape[-1])
        return [scaled] * whole + [scaled[:rest]]

    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", described, pieces)
    write_json(folder / "config.json", kyutai_config(model.config))
    return sum(math.prod(shape) * dtype.itemsize for shape, _ in described.values())


def measured(folder: Path, dtype: str, frames: int) -> dict[str, object]:
    """Load and score; seconds, and peaks of resident memory in GB."""
    before = peak()
    start = time.perf_counter()
    model = load_lm(folder, device="cpu", dtype=dtype)
    loaded = time.perf_counter() - start
    after_load = peak()
    config = model.config
    text = torch.randint(0, config.text_card, (1, 1, frames))
    codes = torch.cat((text, torch.randint(0, config.card, (1, config.n_q, frames))), dim=1)
    start = time.perf_counter()
    with torch.no_grad():
        out = model(codes)
    scored = time.perf_counter() - start
    finite = bool(out.text_logits.isfinite().all() and out.audio_logits.isfinite().all())
    return {
        "load_s": loaded, "score_s": scored, "frames": frames, "depth_steps": config.dep_q, "finite": finite,
        "peak_before_gb": before, "peak_after_load_gb": after_load, "peak_gb": peak(),
    }  # fmt: skip


def peak() -> float:
    """The most memory that was resident so far, in GB (Linux counts in KiB, macOS in bytes)."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e9 if sys.platform == "darwin" else most * 1024 / 1e9


if __name__ == "__main__":
    sys.exit(main())
