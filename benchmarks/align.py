"""How fast a step of alignment is on a CPU, beside the straightforward way with moshi on the same weights, in one run.

    python benchmarks/align.py                      nano, 8 groups of 8 rollouts of shipped segments, two threads
    python benchmarks/align.py --json align.json    also write the numbers

Needs the parity oracle, as `make test` installs it. Both play the same segments with the same context and number of
rollouts, decode the agent's sound, find its speech, and take one optimiser step of the same surrogate and divergence on
what they drew (rewards are random numbers: they cost nothing here).

Straightforward: moshi's LMGen, one group at a time, which hears the context frame by frame; sound decoded and speech
detected rollout by rollout; forward and backward of the whole model, depth transformer included, group by group, with
passes of its own for the log-probabilities before and for the reference. Ours: `Roller` and `Updater` as `duologue
align` uses them, in float32 and with bfloat16 hidden states. Frames are those that are acted and scored.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
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
from duologue.train.align_settings import AlignSettings, nano_demo
from duologue.train.align_update import Updater
from duologue.train.rollouts import Episode, Recorded, Roller
from made import made

CONTEXT_S = 4.0


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
    found = shaped(read_segments(sample_segments("train"), rolled.axes, bundle, Path("unused")), rolled)
    chosen = [found[axis][i] for i in range(options.groups) for axis in rolled.axes][: options.groups]
    frames = options.group * sum(acted(r, bundle) for r in chosen)
    gains = torch.randn(options.groups, options.group, generator=torch.Generator().manual_seed(0))
    sides = {"moshi": Straightforward(bundle, chosen, settings, gains)}
    for autocast in (False, True):
        how = replace(settings, update=replace(settings.update, autocast=autocast))
        sides["bfloat16" if autocast else "float32"] = Ours(bundle, chosen, how, gains)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(options.repeats):
        for name, side in sides.items():
            start = time.perf_counter()
            drawn = side.roll()
            between = time.perf_counter()
            side.learn(drawn)
            times[name].append((between - start, time.perf_counter() - between))
            print(name, *(f"{x:.2f} s" for x in times[name][-1]), flush=True)
    rows = {name: row(found, frames) for name, found in times.items()}
    for name, numbers in rows.items():
        slow = rows["moshi"]
        ratios = {kind: slow[f"{kind}_s"] / numbers[f"{kind}_s"] for kind in ("rollout", "update", "whole")}
        numbers |= {f"{kind}_ratio": ratio for kind, ratio in ratios.items()}
        told = ", ".join(f"{kind} {numbers[f'{kind}_fps']:.0f} ({ratio:.2f}x)" for kind, ratio in ratios.items())
        print(f"{name:9} frames a second: {told}")
    if options.json:
        write_json(options.json, {"made": made("align.py", arguments, options.threads), "frames": frames, "rows": rows})
    return 0


def acted(recorded: Recorded, bundle: Bundle) -> int:
    rate = bundle.need_codec().frame_rate
    return min(-int(-recorded.segment.end * rate // 1), recorded.user.shape[1]) - int(recorded.segment.start * rate)


def row(times: Sequence[tuple[float, float]], frames: int) -> dict[str, float]:
    rollout, update = (statistics.median(part) for part in zip(*times, strict=True))
    told = {"rollout": rollout, "update": update, "whole": rollout + update}
    return {f"{k}_s": v for k, v in told.items()} | {f"{k}_fps": frames / v for k, v in told.items()}


class Ours:
    """As `AlignLearner` puts them together."""

    def __init__(
        self, bundle: Bundle, chosen: Sequence[Recorded], settings: AlignSettings, gains: torch.Tensor
    ) -> None:
        self.bundle, self.gains = replace(bundle, lm=copy.deepcopy(bundle.lm)), gains
        room = longest_frames([r.segment for r in chosen], settings.rollouts, 12.5)
        self.roller = Roller(self.bundle, settings.rollouts.slots, frames=room + 14)
        drawn = sampling_of(settings.rollouts, bundle.config.sampling)
        seeds = range(settings.rollouts.group)
        each = tuple(replace(drawn, text_seed=i, audio_seed=i) for i in seeds)
        self.episodes = [Episode(r, CONTEXT_S, each) for r in chosen]
        self.updater = Updater(self.bundle.lm.requires_grad_(True).eval(), settings, self.roller.demonstration, drawn)

    def roll(self) -> object:
        return self.roller.play(self.episodes)

    def learn(self, drawn: object) -> None:
        self.updater.update(1, drawn, self.gains, [], None)  # type: ignore[arg-type]


class Straightforward:
    """moshi's own parts, used as its documentation shows."""

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

    @torch.no_grad()
    def roll(self) -> list[tuple[torch.Tensor, int]]:
        s, found = self.sampling, []
        for recorded in self.chosen:
            start, end = int(recorded.segment.start * 12.5), recorded.user.shape[1]
            begin = max(start - round(CONTEXT_S * 12.5), 0)
            gen = self.gen(self.model, temp=s.audio_temperature, temp_text=s.text_temperature, top_k=s.audio_top_k,
                           top_k_text=s.text_top_k)  # fmt: skip
            user = recorded.user[:, begin:end]
            said = []
            with gen.streaming(self.settings.rollouts.group):
                for t in range(user.shape[1]):
                    step = gen.step(user[None, :, t : t + 1].expand(self.settings.rollouts.group, -1, -1))
                    if step is not None:
                        said.append(step)
            tokens = torch.cat(said, 2)
            for one in tokens:
                sound = self.codec.decode(one[None, 1:].clamp(min=0))[0, 0]
                detect_speech([Audio(sound.numpy()[None], self.codec.sample_rate)])
            heard = user[None, :, : tokens.shape[2]].expand(len(tokens), -1, -1)
            found.append((torch.cat((tokens, heard), 1), start - begin))
        return found

    def learn(self, drawn: list[tuple[torch.Tensor, int]]) -> None:
        total = sum(codes.shape[0] * (codes.shape[2] - first) for codes, first in drawn)
        for (codes, first), gain in zip(drawn, self.gains, strict=True):
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
