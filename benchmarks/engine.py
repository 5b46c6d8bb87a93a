"""How fast conversations are stepped on a CPU, beside moshi's LMGen on the same weights, in the same run.

    python benchmarks/engine.py                     the nano shapes, 1 and 16 conversations, one thread
    python benchmarks/engine.py --json engine.json  also write the numbers

Needs the parity oracle, as `make test` installs it. Weights are random; both sample as Moshi does (0.8 and 250, text
0.7 and 25). Stretches of frames are taken in turn from one conversation of each; the median frame of each counts.
Beside the engine in float32 stand the same in 8-bit weights, and what those cost in accuracy: the divergence of the
text's next-token distribution from that of float32, in nats, by teacher forcing on random codes. At the end, how far a
conversation's logits are from its own in a batch, in float32 and in bfloat16.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from beside import oracle
from duologue.base.files import write_json
from duologue.engine.engine import Engine
from duologue.engine.sampling import GREEDY, Sampling
from duologue.model.config import LMConfig, kyutai_config
from duologue.model.initial import random_lm
from duologue.model.int8 import to_int8
from duologue.model.lm import DuplexLM
from duologue.model.presets import PRESETS
from made import made


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="nano", choices=sorted(PRESETS))
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--frames", type=int, default=375, help="of each conversation; 375 are half a minute")
    parser.add_argument("--stretch", type=int, default=25, help="frames taken in turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = PRESETS[options.preset].lm
    model = random_lm(config, 0, device="cpu", dtype="fp32")
    eight = copy.deepcopy(model)
    to_int8(eight)
    rows = []
    for slots in options.slots:
        user = torch.randint(0, config.card, (options.frames, slots, config.user_streams))
        sides = [ours(model, slots), theirs(model, slots), ours(eight, slots)]
        times: list[list[float]] = [[], [], []]
        for begin in range(0, options.frames, options.stretch):
            for side, found in zip(sides, times, strict=True):
                for frame in user[begin : begin + options.stretch]:
                    start = time.perf_counter()
                    side(frame)
                    found.append(time.perf_counter() - start)
        mine, other, small = (1000 * statistics.median(found) for found in times)
        ratios = {"ratio": other / mine, "int8_ratio": other / small}
        rows.append({"slots": slots, "duologue_ms": mine, "moshi_ms": other, "int8_ms": small} | ratios)
        print(f"{slots:3} conversations: {mine:8.2f} ms a frame, moshi {other:8.2f} ms: {other / mine:.2f}x", end="; ")
        print(f"8-bit weights {small:8.2f} ms: {other / small:.2f}x")
    lost = divergence(model, eight)
    print(f"8-bit weights: {lost:.2e} nats from float32")
    apart = {dtype: batch_difference(config, dtype) for dtype in ("fp32", "bf16")}
    told = ", ".join(f"{dtype} {difference:.1e}" for dtype, difference in apart.items())
    print(f"largest difference of a text logit between 1 and 16 slots: {told}")
    if options.json:
        how = made("engine.py", arguments, options.threads)
        how["parameters"] = sum(p.numel() for p in model.parameters())
        write_json(options.json, {"made": how, "rows": rows, "int8_divergence_nats": lost, "batch_difference": apart})
    return 0


def ours(model: DuplexLM, slots: int) -> Callable[[torch.Tensor], object]:
    engine = Engine(model, slots)
    state = engine.initial_state([Sampling(text_seed=i, audio_seed=i) for i in range(slots)])
    return lambda frame: engine.step(state, frame)


def batch_difference(config: LMConfig, dtype: str) -> float:
    """Between a conversation alone and the same in a batch of 16, over 50 greedy frames that both are forced to say."""
    model = random_lm(config, 0, device="cpu", dtype=dtype)
    user = torch.randint(0, config.card, (50, 1, config.user_streams))
    said = torch.randint(0, config.card, (50, 1, 1 + config.agent_streams))
    found = []
    for slots in (1, 16):
        engine = Engine(model, slots)
        state = engine.initial_state(GREEDY)
        steps = [
            engine.advance(state, u.expand(slots, -1), forced=f.expand(slots, -1))
            for u, f in zip(user, said, strict=True)
        ]
        found.append(torch.stack([step.text_logits[0].float() for step in steps]))
    return float((found[0] - found[1]).abs().max())


@torch.no_grad()
def divergence(model: DuplexLM, other: DuplexLM) -> float:
    config = model.config
    text = torch.randint(0, config.text_card, (1, 1, 200))
    codes = torch.cat((text, torch.randint(0, config.card, (1, config.n_q, 200))), 1)
    a, b = (m(codes, depth_steps=0).text_logits.log_softmax(-1) for m in (model, other))
    return float((a.exp() * (a - b)).sum(-1).mean())


def theirs(model: DuplexLM, slots: int) -> Callable[[torch.Tensor], object]:
    with oracle():
        from moshi.models.lm import LMGen, LMModel
    upstream = LMModel(**kyutai_config(model.config)).eval()
    upstream.load_state_dict(model.state_dict())
    generator = LMGen(upstream)
    generator.streaming_forever(slots)
    return lambda frame: generator.step(frame[:, :, None])


if __name__ == "__main__":
    sys.exit(main())
