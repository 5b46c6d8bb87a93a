"""How fast a step of alignment is on a CPU, beside a naive way with moshi on the same weights, in one run.

    python benchmarks/align.py                      nano, 8 groups of 8 rollouts of shipped segments, two threads
    python benchmarks/align.py --json align.json    also write the numbers
    GOMP_SPINCOUNT=0 python benchmarks/align.py     on a machine that others use: threads wait without spinning

Needs the parity oracle, as `make test` installs it. Both sides do the same work, which is counted and must be equal:
the same segments with the same context, heard from its beginning to the segment's end; the same number of rollouts; the
same frames acted, decoded, searched for speech, and learned from in one optimiser step of the same surrogate and
divergence (rewards are random numbers: they cost nothing here).

Naive: moshi's LMGen, one group at a time, which hears the context frame by frame; sound decoded and speech detected
rollout by rollout; forward and backward of the whole model, depth transformer included, group by group, with passes of
its own for the log-probabilities before and for the reference. Ours: `Roller` and `Updater` as `duologue align` uses
them, in float32 and with bfloat16 hidden states.

The sides take turns, so that what else the machine does meets them alike. Seconds are given by the clock and of the
processor; where others use the machine, the ratio of the latter is the one that holds.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from beside import oracle
from duologue.audio.vad import detect_speech
from duologue.audio.wave import Audio
from duologue.base.files import write_json
from duologue.corpus.sample import sample_segments
from duologue.engine.bundle import Bundle, load
from duologue.engine.sampling import Sampling
from duologue.model.config import kyutai_config
from duologue.rl.divergence import exact_kl
from duologue.rl.policy import PolicyConfig, policy_loss
from duologue.train.align import read_segments
from duologue.train.align_learner import longest_frames, sampling_of, shaped
from duologue.train.align_recipes import nano_demo
from duologue.train.align_settings import AlignSettings
from duologue.train.align_update import Updater
from duologue.train.rollouts import Episode, Recorded, Roller, Rollout
from made import made

CONTEXT_S = 4.0
PARTS = ("rollout", "update", "whole")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    settings = nano_demo()
    rolled = replace(
        settings.rollouts, groups=options.groups, group=options.group, slots=options.groups * options.group
    )
    update = replace(settings.update, kl=replace(settings.update.kl, audio=0.0))  # the divergence that both have
    settings = replace(settings, rollouts=rolled, update=update)
    bundle = load("nano", device="cpu", dtype="fp32")
    segments = shaped(read_segments(sample_segments("train"), rolled.axes, bundle, Path("unused")), rolled)
    chosen = [segments[axis][i] for i in range(options.groups) for axis in rolled.axes][: options.groups]
    gains = torch.randn(options.groups, options.group, generator=torch.Generator().manual_seed(0))
    sides: dict[str, Naive | Ours] = {"naive": Naive(bundle, chosen, settings, gains)}
    for name, autocast in (("float32", False), ("bfloat16", True)):
        how = replace(settings, update=replace(settings.update, autocast=autocast))
        sides[name] = Ours(bundle, chosen, how, gains)
    rounds = [
        {name: timed(name, side) for name, side in sides.items()} for _ in range(options.repeats)
    ]  # in turns, so that what else the machine does meets all alike
    work = {name: side.work for name, side in sides.items()}
    for name, done in work.items():
        print(f"{name:9} {done.calls:,} calls, {done.frames:,} frames acted and learned from")
    if len(set(work.values())) > 1:
        raise RuntimeError(f"the sides did not do the same work: {work}")
    rows = {name: row([r["naive"] for r in rounds], [r[name] for r in rounds]) for name in sides}
    for name, numbers in rows.items():
        ratios = (f"{part} {numbers[f'{part}_cpu_ratio']:.2f} ({numbers[f'{part}_ratio']:.2f})" for part in PARTS)
        print(f"{name:9} times as fast as the naive way by processor (by the clock): {', '.join(ratios)}")
    if options.json:
        record = made("align.py", arguments, options.threads)
        write_json(options.json, {"made": record, "work": asdict(work["naive"]), "rounds": rounds, "rows": rows})
    return 0


@dataclass(frozen=True, slots=True)
class Work:
    """What a side did in a step: it must be the same for all."""

    calls: int
    """Frames that the rollouts went through, context and all."""
    frames: int
    """Frames that were acted in the segments, and learned from."""


def timed(name: str, side: Naive | Ours) -> dict[str, float]:
    """One step of a side: seconds of its rollouts, its update and both, by the clock and of the processor."""
    moments = [(time.perf_counter(), time.process_time())]
    side.roll()
    moments.append((time.perf_counter(), time.process_time()))
    side.learn()
    moments.append((time.perf_counter(), time.process_time()))
    spans = dict(zip(PARTS, ((0, 1), (1, 2), (0, 2)), strict=True))
    seconds = {f"{part}_s": moments[b][0] - moments[a][0] for part, (a, b) in spans.items()}
    seconds |= {f"{part}_cpu_s": moments[b][1] - moments[a][1] for part, (a, b) in spans.items()}
    print(name, *(f"{key[:-2]} {value:.1f} s" for key, value in seconds.items()), flush=True)
    return seconds


def row(naive: Sequence[dict[str, float]], ours: Sequence[dict[str, float]]) -> dict[str, float]:
    """Medians over rounds: seconds, and how many times as fast as the naive way in the same round."""
    keys = list(naive[0])
    medians = {key: statistics.median(r[key] for r in ours) for key in keys}
    pairs = list(zip(naive, ours, strict=True))
    return medians | {f"{key[:-2]}_ratio": statistics.median(a[key] / b[key] for a, b in pairs) for key in keys}


class Ours:
    """As `AlignLearner` puts them together."""

    def __init__(
        self, bundle: Bundle, chosen: Sequence[Recorded], settings: AlignSettings, gains: torch.Tensor
    ) -> None:
        self.bundle, self.gains = replace(bundle, lm=copy.deepcopy(bundle.lm)), gains
        room = longest_frames([r.segment for r in chosen], settings.rollouts, 12.5)
        self.roller = Roller(self.bundle, settings.rollouts.at_once, frames=room + 14)
        drawn = sampling_of(settings.rollouts, bundle.config.sampling)
        seeds = range(settings.rollouts.group)
        each = tuple(replace(drawn, text_seed=i, audio_seed=i) for i in seeds)
        self.episodes = [Episode(r, CONTEXT_S, each) for r in chosen]
        self.updater = Updater(self.bundle.lm.requires_grad_(True).eval(), settings, self.roller.demonstration, drawn)
        self.drawn: list[list[Rollout]] = []

    @property
    def work(self) -> Work:
        """Of the last step. The last call of a rollout completes the frame before it, and leaves none of its own."""
        rollouts = [r for group in self.drawn for r in group]
        delay = max(self.bundle.lm.config.delays)
        return Work(sum(r.codes.shape[1] + delay for r in rollouts), sum(int(r.scored.sum()) for r in rollouts))

    def roll(self) -> None:
        self.drawn = self.roller.play(self.episodes)

    def learn(self) -> None:
        self.updater.update(1, self.drawn, self.gains, [], None)


class Naive:
    """moshi's own parts, used as its documentation shows, on the frames that `Roller` would play."""

    def __init__(
        self, bundle: Bundle, chosen: Sequence[Recorded], settings: AlignSettings, gains: torch.Tensor
    ) -> None:
        with oracle():
            from moshi.models.lm import LMGen, LMModel
        self.codec, self.gains, self.settings, self.chosen = bundle.need_codec(), gains, settings, chosen
        self.model = LMModel(**kyutai_config(bundle.lm.config)).eval()
        self.model.load_state_dict(bundle.lm.state_dict())
        self.frozen = copy.deepcopy(self.model).requires_grad_(False)
        self.gen, self.config = LMGen, bundle.lm.config
        self.sampling: Sampling = sampling_of(settings.rollouts, bundle.config.sampling)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=settings.update.optimizer.rate)
        self.drawn: list[tuple[torch.Tensor, int]] = []
        """Of each group: tokens [G, K, T], and the first frame that was acted in the segment."""
        self.calls = 0

    @property
    def work(self) -> Work:
        """Of the last step."""
        return Work(self.calls, sum(codes.shape[0] * (codes.shape[2] - first) for codes, first in self.drawn))

    @torch.no_grad()
    def roll(self) -> None:
        s, group = self.sampling, self.settings.rollouts.group
        self.drawn, self.calls = [], 0
        for recorded in self.chosen:
            begin, acts, end = self._frames(recorded)
            gen = self.gen(self.model, temp=s.audio_temperature, temp_text=s.text_temperature, top_k=s.audio_top_k,
                           top_k_text=s.text_top_k)  # fmt: skip
            user, said = recorded.user[:, begin:end], []
            with gen.streaming(group):
                for t in range(user.shape[1]):
                    step = gen.step(user[None, :, t : t + 1].expand(group, -1, -1))
                    self.calls += group
                    if step is not None:
                        said.append(step)
            tokens = torch.cat(said, 2)
            for one in tokens:
                sound = self.codec.decode(one[None, 1:, acts - begin :].clamp(min=0))[0, 0]
                detect_speech([Audio(sound.numpy()[None], self.codec.sample_rate)])
            heard = user[None, :, : tokens.shape[2]].expand(len(tokens), -1, -1)
            self.drawn.append((torch.cat((tokens, heard), 1), acts - begin))

    def _frames(self, recorded: Recorded) -> tuple[int, int, int]:
        """The user's frames of the first call, of the first that counts, and past the last. What is written in a call
        is heard two frames later, so the segment begins to be acted before it begins."""
        rate, s = self.codec.frame_rate, recorded.segment
        start, end = int(s.start * rate), min(math.ceil(s.end * rate), recorded.user.shape[1])
        begin = start - round(min(CONTEXT_S, s.start) * rate)
        acts = start - 1 - max(self.config.delays)
        if acts <= begin:
            raise RuntimeError(f"segment {s.id} has no context, and is not for this comparison")
        return begin, acts, end - 1

    def learn(self) -> None:
        total = sum(codes.shape[0] * (codes.shape[2] - first) for codes, first in self.drawn)
        for (codes, first), gain in zip(self.drawn, self.gains, strict=True):
            with torch.no_grad():
                before, reference = (m(codes).text_logits[:, 0, first:].float() for m in (self.model, self.frozen))
            logits = self.model(codes).text_logits[:, 0, first:].float()
            text = codes[:, 0, first:, None]
            new, old = (x.log_softmax(-1).gather(-1, text)[..., 0] for x in (logits, before))
            mask = torch.ones_like(new, dtype=torch.bool)
            loss = policy_loss(new, old, gain, mask, PolicyConfig()).loss
            loss = loss + self.settings.update.kl.beta * exact_kl(logits, reference).mean()
            (mask.sum() / total * loss).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


if __name__ == "__main__":
    sys.exit(main())
