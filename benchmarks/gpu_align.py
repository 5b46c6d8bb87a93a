"""How long a step of alignment takes on one GPU: Moshi 7B shapes, random weights, adapters of rank 128.

    python benchmarks/gpu_align.py                         512 rollouts of 20 s in slots of 64, 16 optimiser steps
    python benchmarks/gpu_align.py --json gpu_align.json   also write the numbers
    python benchmarks/gpu_align.py --preset tiny --device cpu --groups 2 --group 4 --seconds 2 --updates 2   a trial

Everything of a step but the judge: prompts and context read once for a group, rollouts, Mimi's decoding, speech
detection, rewards by rule, log-probabilities of policy and reference, and the optimiser steps. Segments are noise; the
weights are random, so that only time and memory mean anything. The target of the design is 120 s on one H200.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from duologue.base.files import write_json
from duologue.dialogue.segments import ReferenceEvent, Segment
from duologue.dialogue.timeline import Timeline, Track
from duologue.engine.bundle import Bundle, load
from duologue.model.lora import LoRAConfig, add_lora
from duologue.train.align_learner import longest_frames, sampling_of
from duologue.train.align_recipes import kyutai_lora
from duologue.train.align_settings import AlignSettings, RewardSettings
from duologue.train.align_update import Updater
from duologue.train.rewarding import AxesRewarder
from duologue.train.rollouts import Episode, Recorded, Roller
from made import made

CONTEXT_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="moshi-7b")
    parser.add_argument("--groups", type=int, default=32)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--updates", type=int, default=16)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--recompute", action="store_true", help="keep less for the gradient")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--dtype", default="bf16", help="of the weights; adapters are in it too, which only a timing may"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    bundle = load(f"random:{options.preset}", device=options.device, dtype=options.dtype)
    settings = settings_of(options)
    bundle.lm.requires_grad_(False)
    add_lora(bundle.lm, LoRAConfig(rank=options.rank, targets="transformer.*"))
    segments = [noise(bundle, i, options.seconds) for i in range(options.groups)]
    times = step(bundle, settings, segments)
    times["whole"] = sum(times.values())
    for name, seconds in times.items():
        print(f"{name:10} {seconds:8.1f} s")
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
    print(f"peak memory {'not measured' if peak is None else f'{peak:.1f} GiB'}")
    if options.json:
        how = made("gpu_align.py", arguments, torch.get_num_threads())
        how["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        write_json(options.json, {"made": how, "seconds": times, "peak_gib": peak})
    return 0


def settings_of(options: argparse.Namespace) -> AlignSettings:
    base = kyutai_lora()
    rolled = replace(
        base.rollouts, groups=options.groups, group=options.group, slots=options.slots, text_prompt="",
        context_s=(CONTEXT_S, CONTEXT_S),
    )  # fmt: skip
    update = replace(
        base.update, updates=options.updates, rows=options.rows, recompute=options.recompute, autocast=False
    )
    return replace(base, rollouts=rolled, update=update)


def noise(bundle: Bundle, number: int, seconds: float) -> Recorded:
    """A segment of random tokens with a user who talks half of the time."""
    c, end = bundle.lm.config, CONTEXT_S + seconds
    frames = round(end * bundle.need_codec().frame_rate)
    draw = torch.Generator().manual_seed(number)
    agent = torch.randint(0, c.card, (1 + c.agent_streams, frames), generator=draw)
    agent[0] = c.existing_text_padding_id
    turn = (CONTEXT_S, CONTEXT_S + seconds / 2)
    timeline = Timeline(Track.of([]), Track.of([turn]), end)
    segment = Segment(
        id=str(number), axis="turn_taking", conversation=str(number), offset=0.0, start=CONTEXT_S, end=end,
        timeline=timeline, events=(ReferenceEvent("turn", *turn, 1),),
    )  # fmt: skip
    return Recorded(segment, agent, torch.randint(0, c.card, (c.user_streams, frames), generator=draw))


def step(bundle: Bundle, settings: AlignSettings, segments: Sequence[Recorded]) -> dict[str, float]:
    """Seconds of each part of one step; a first small batch warms up what is compiled and captured."""
    how, codec = settings.rollouts, bundle.need_codec()
    frames = longest_frames([r.segment for r in segments], how, codec.frame_rate)
    roller = Roller(bundle, how.slots, frames=frames + 14)
    drawn = sampling_of(how, bundle.config.sampling)
    each = [replace(drawn, text_seed=i, audio_seed=i) for i in range(how.group)]
    episodes = [Episode(r, CONTEXT_S, tuple(each)) for r in segments]
    updater = Updater(bundle.lm.eval(), settings, roller.demonstration, drawn)
    short = replace(segments[0].segment, end=segments[0].segment.start + 1.0)
    roller.play([Episode(replace(segments[0], segment=short), CONTEXT_S, tuple(each))])
    at_once, times = how.slots // how.group, {}
    begun = now()
    groups = [g for i in range(0, len(episodes), at_once) for g in roller.play(episodes[i : i + at_once])]
    times["rollouts"] = now() - begun
    begun = now()
    AxesRewarder(RewardSettings()).begin(["turn_taking"] * len(groups), groups)
    times["rewards"] = now() - begun
    begun = now()
    gains = torch.randn(len(groups), how.group, generator=torch.Generator().manual_seed(0))
    updater.update(1, groups, gains, [], None)
    times["updates"] = now() - begun
    return times


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
