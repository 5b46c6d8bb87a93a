"""How fast conversations are stepped on a GPU: Moshi 7B shapes, random weights, bfloat16, with moshi beside it.

    python benchmarks/gpu_engine.py                          1, 8, 16, 32 and 64 conversations
    python benchmarks/gpu_engine.py --json gpu_engine.json   also write the numbers

Each number of conversations is stepped with its memory as long as a talk of --context frames (240 s) has filled it; the
codec is timed apart. moshi's LMGen (the parity oracle) runs one conversation; it attends to all of its ring always.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from beside import oracle
from duologue.base.files import write_json
from duologue.engine.engine import Engine
from duologue.engine.sampling import Sampling
from duologue.model.config import kyutai_config
from duologue.model.initial import random_codec, random_lm
from duologue.model.lm import DuplexLM
from duologue.model.presets import PRESETS
from made import made


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="moshi-7b", choices=sorted(PRESETS))
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8, 16, 32, 64])
    parser.add_argument("--context", type=int, default=3000, help="frames that every conversation has behind it")
    parser.add_argument("--frames", type=int, default=50, help="frames that are timed")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    preset = PRESETS[options.preset]
    model = random_lm(preset.lm, 0, device=options.device, dtype=options.dtype)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    rows: list[dict[str, Any]] = []
    for slots in options.slots:
        try:
            rows.append({"slots": slots} | stepped(model, slots, options.context, options.frames))
        except torch.cuda.OutOfMemoryError:
            rows.append({"slots": slots, "ms": None, "why": "out of memory"})
        print(rows[-1], flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    codec = random_codec(preset.codec, preset.n_codebooks, 0, device=options.device)
    sounds = [{"slots": slots} | sounded(codec, slots, options.frames) for slots in options.slots]
    for row in sounds:
        print("codec", row)
    other = None
    if options.device != "cpu" or options.preset in ("tiny", "nano"):
        other = {"slots": 1, "ms": 1000 * upstream(model, options.frames)}
        print("moshi", other)
    if options.json:
        how = made("gpu_engine.py", arguments, torch.get_num_threads())
        how["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        how["weights_gb"] = size / 1e9
        write_json(options.json, {"made": how, "rows": rows, "codec": sounds, "moshi": other})
    return 0


def stepped(model: DuplexLM, slots: int, context: int, frames: int) -> dict[str, float]:
    """Median milliseconds of a frame, with the memory filled, and the most memory that was in use."""
    engine = Engine(model, slots)
    config = model.config
    state = engine.initial_state([Sampling(text_seed=i, audio_seed=i) for i in range(slots)])
    filled = min(context, config.context or context)
    state.lm.steps.fill_(filled)  # what is remembered does not matter for time
    state.calls = [filled] * slots
    user = torch.randint(0, config.card, (slots, config.user_streams), device=engine.device)
    seconds = timed(lambda: engine.step(state, user), frames)
    used = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
    return {"ms": 1000 * seconds, "memory_gb": used}


def sounded(codec: Any, slots: int, frames: int) -> dict[str, float]:
    """Median milliseconds to encode and to decode a frame."""
    device = next(codec.parameters()).device
    sound = torch.randn(slots, 1, codec.frame_size, device=device)
    codes = torch.randint(0, codec.card, (slots, codec.n_codebooks, 1), device=device)
    ears, mouth = codec.initial_state(slots), codec.initial_state(slots)
    with torch.no_grad():
        encode = timed(lambda: codec.encode_step(sound, ears), frames)
        decode = timed(lambda: codec.decode_step(codes, mouth), frames)
    return {"encode_ms": 1000 * encode, "decode_ms": 1000 * decode}


def upstream(model: DuplexLM, frames: int) -> float:
    """Median seconds of a frame of moshi's LMGen on the same weights."""
    with oracle():
        from moshi.models.lm import LMGen, LMModel
    like = model.text_linear.weight
    with torch.device("meta"):
        theirs = LMModel(**kyutai_config(model.config), dtype=like.dtype).eval()
    theirs.load_state_dict(model.state_dict(), assign=True)
    generator = LMGen(theirs)
    generator.streaming_forever(1)
    user = torch.zeros(1, model.config.user_streams, 1, dtype=torch.long, device=like.device)
    return timed(lambda: generator.step(user), frames)


def timed(step: Callable[[], object], frames: int) -> float:
    """Median seconds of a call, after five that warm up."""
    found = []
    for i in range(frames + 5):
        start = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if i >= 5:
            found.append(time.perf_counter() - start)
    return statistics.median(found)


if __name__ == "__main__":
    sys.exit(main())
