"""How long a step of `duologue align` takes on one GPU, and how much memory: Moshi 7B shapes, random weights.

    python benchmarks/gpu_align.py                         kyutai-lora: 512 rollouts of 20 s, 16 optimiser steps
    python benchmarks/gpu_align.py --json gpu_align.json   also write the numbers
    python benchmarks/gpu_align.py --preset tiny --device cpu --groups 2 --group 4 --seconds 2 --updates 2   a trial

What runs is `AlignLearner.step` on the recipe's settings, as `duologue align` makes them: weights loaded in float32,
rollouts in the format that the device takes, autocast, slots and rows by the plan, a prompt before each rollout. All of
a step but the judge. Segments are noise, and so is a reward beside those by rule, for rollouts of random weights are
all alike by rule; only time and memory mean anything. The first step also captures and compiles; the second counts. The
target of the design is 120 s on one H200.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from duologue.base.config import overridden
from duologue.base.files import write_json
from duologue.dialogue.segments import ReferenceEvent, Segment
from duologue.dialogue.timeline import Timeline, Track
from duologue.engine.bundle import Bundle, load
from duologue.engine.prompts import Voice
from duologue.train.align_learner import AlignLearner
from duologue.train.align_recipes import kyutai_lora
from duologue.train.align_settings import AlignSettings, GuardSettings
from duologue.train.rewarding import AtOnce, AxesRewarder, Group
from duologue.train.rollouts import Recorded
from made import made

CONTEXT_S = 10.0
PROMPT_FRAMES = 100
"""About those of PersonaPlex's system prompt with a voice prompt of 3 s."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="moshi-7b")
    parser.add_argument("--groups", type=int, default=32)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--updates", type=int, default=16)
    parser.add_argument("--set", nargs="*", default=[], help="settings that differ, as of duologue align")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    bundle = load(f"random:{options.preset}", device=options.device, dtype="fp32")
    settings = settings_of(options)
    learner = learner_of(bundle, settings, [noise(bundle, i, options.seconds) for i in range(options.groups)])
    rows = [timed(learner, number) for number in range(2)]
    for name, row in zip(("first", "second"), rows, strict=True):
        print(f"{name:8} {row['seconds']:8.1f} s; rollouts {row['rollout_fps']:.0f} frames a second, "
              f"update {row['update_fps']:.0f}")  # fmt: skip
    peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None
    plan = learner.plan
    print(f"peak memory {'not measured' if peak is None else f'{peak:.1f} GB'}; "
          f"planned: {'nothing on a CPU' if plan is None else plan.line()}")  # fmt: skip
    if options.json:
        how = made("gpu_align.py", arguments, torch.get_num_threads())
        how["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        planned_gb = None if plan is None else plan.total / 1e9
        write_json(options.json, {"made": how, "steps": rows, "peak_gb": peak, "planned_gb": planned_gb})
    return 0


def settings_of(options: argparse.Namespace) -> AlignSettings:
    """The recipe of the command, with rollouts of one length and nothing that stops on random weights."""
    base = kyutai_lora()
    rolled = replace(base.rollouts, groups=options.groups, group=options.group, context_s=(CONTEXT_S, CONTEXT_S),
                     axes=("turn_taking",), longest_s=None, most_s=None)  # fmt: skip
    free = GuardSettings(kl=None, repetition=None, entropy=None)
    given = replace(base, rollouts=rolled, update=replace(base.update, updates=options.updates), guard=free)
    return overridden(given, options.set)


def learner_of(bundle: Bundle, settings: AlignSettings, segments: Sequence[Recorded]) -> AlignLearner:
    """The learner of the command, with rewards by rule and noise."""
    rules, draw = AxesRewarder(settings.rewards), torch.Generator().manual_seed(0)

    def reward(axis: str, group: Group) -> Mapping[str, Sequence[float]]:
        (begun,) = rules.begin([axis], [group])
        return {**begun.result().rewards, "noise": torch.rand(len(group), generator=draw).tolist()}

    c = bundle.lm.config
    frames = PROMPT_FRAMES if c.context is None else min(PROMPT_FRAMES, c.context // 4)
    prompt = Voice(codes=torch.randint(0, c.card, (c.agent_streams, frames), generator=draw))
    return AlignLearner(
        bundle, {"turn_taking": segments}, settings, seed=0, reward=AtOnce(reward), voice=prompt,
        publish=lambda run, name: None,
    )  # fmt: skip


def timed(learner: AlignLearner, number: int) -> dict[str, float]:
    """A step's metrics, with its seconds."""
    begun = now()
    row = dict(learner.step(number))
    return row | {"seconds": now() - begun}


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


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
