"""What an alignment run does in a step: roll out, reward, and move the policy towards what was better than its group.

Source: arXiv 2606.11167, section 3.3; the choices are those of `align_settings`. A step is one of `loop.Learner`: it
draws from the seed and its own number alone, so that a run can be cut anywhere and goes on to the same numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from duologue.axes.finding import AGENT
from duologue.base.compute import device_memory
from duologue.base.errors import UserError
from duologue.codec.mimi import Mimi
from duologue.codec.spectral import SpectralCodec
from duologue.corpus.probes import AXIS as PROBE
from duologue.dialogue.segments import Segment
from duologue.engine.prompts import lead_of, prompt_room, takes_prompts, text_prompt_of
from duologue.engine.sampling import SEEDS, Sampling
from duologue.model.lm import DuplexLM
from duologue.rl.advantages import advantages
from duologue.rl.gates import gate
from duologue.train.align_plan import Plan, fitted, planned
from duologue.train.align_player import (
    follow,
    playing_copy,
    precision_of,
    round_all,
    round_frozen,
    rounds_frozen,
    set_learning,
)
from duologue.train.align_settings import AlignSettings, RolloutSettings
from duologue.train.align_update import Updater
from duologue.train.align_watch import UNSCORED, Watch
from duologue.train.held_out import HeldOut, HeldOutScores, check_apart
from duologue.train.parallel import ALONE, World, arrived, spread
from duologue.train.rewarding import Pending, Rewarded, Rewarder, check_words
from duologue.train.rollout_batches import Batch, Tokens
from duologue.train.rollouts import Episode, Recorded, Roller, Rollout

if TYPE_CHECKING:
    from duologue.base.runs import RunFolder
    from duologue.engine.bundle import Bundle
    from duologue.engine.prompts import Voice

LEAD_S = (1.0, 4.0)
"""Seconds before what happens in a segment that are always acted: uniform in this range, by segment."""
CROPPED = (0.6, 1.0)
"""What is kept of the longest that is allowed: uniform in this range, by segment."""
GRADED = ("judge", "safety")
"""Rewards that a judge gives."""
ASKED = {"turn_taking": "turn", "interruption": "interruption"}
"""What the user does that asks for an answer, by axis."""


class AlignLearner:
    """Aligns a language model; see `loop.Learner`.

    Args:
        bundle: the model, in float32, on its device.
        segments: by axis, what to roll out; under "safety" the probes, if there are any.
        voice: whose voice the agent takes.
        settings: how.
        seed: of what is drawn.
        reward: what is good.
        publish: writes the model into the run's folder, under a name; with several processes, all call it.
        keep: is given each step's number, batch and advantages, as to write some of it down.
        replay: the batch of each step, drawn before, instead of rollouts.
        world: the processes that learn together; each plays whole groups, and all take the same steps.
        held_out: what the policy is measured on before the first step and when `validate` is called; None: nothing.

    Raises:
        UserError: an axis without segments, or a segment that is learned from and held out.
    """

    def __init__(
        self, bundle: Bundle, segments: Mapping[str, Sequence[Recorded]], settings: AlignSettings, *, seed: int,
        reward: Rewarder, publish: Callable[[RunFolder, str], None], voice: Voice | None = None,
        keep: Callable[[int, Batch, Tensor], None] | None = None,
        replay: Callable[[int], Batch] | None = None, world: World = ALONE, held_out: HeldOut | None = None,
    ) -> None:  # fmt: skip
        self.world = world
        if replay is not None and settings.update.imitation is not None:
            mend = "leave out --replay, or imitation"
            raise UserError("has no recordings to imitate", place="--replay", mend=mend)
        for axis in settings.rollouts.axes if replay is None else ():
            if not segments.get(axis):
                mend = "mine a larger corpus, or leave the axis out of rollouts.axes"
                raise UserError(f"has no segments of the axis {axis}", place="--segments", mend=mend)
        if replay is None and settings.rewards.safety is not None and not segments.get(PROBE):
            raise UserError("names no probes", place="rewards.safety.probes", mend="give a folder of recordings")
        check_words(settings.rewards, segments, bundle)
        settings = replace(settings, rollouts=rollouts_for(settings.rollouts, bundle))
        self.bundle, self.segments = bundle, shaped(segments, settings.rollouts)
        for axis in settings.rollouts.axes if replay is None else ():
            if not self.segments[axis]:
                problem = f"all segments of the axis {axis} are longer than {settings.rollouts.most_s:g} s"
                raise UserError(problem, place="rollouts.most_s", mend="raise it, or leave the axis out")
        self.seed, self._reward, self._publish, self._keep, self._replay = seed, reward, publish, keep, replay
        self.model, how = bundle.lm, settings.update
        self.device = self.model.text_emb.weight.device
        set_learning(self.model, how)
        self._share: float | None = None  # lambda of the step before
        safety = settings.rewards.safety
        self._bound = 1.0 if safety is None or safety.threshold is None else 0.0  # the weight of probes
        self._watch = Watch(settings.guard)
        rolled, rate = settings.rollouts, bundle.need_codec().frame_rate
        played = [recorded.segment for found in self.segments.values() for recorded in found]
        frames = longest_frames(played, rolled, rate)
        if held_out is not None:
            check_apart(segments, held_out.segments)
            checked = [recorded.segment for found in held_out.segments.values() for recorded in found]
            frames = max(frames, longest_frames(checked, rolled, rate, most_s=held_out.context_s))
        longest = prompt_room(rolled.text_prompt or "", voice) + frames
        drawn = None if replay is not None else sampling_of(rolled, bundle.config.sampling)
        dtype = torch.float32 if replay is not None else precision_of(rolled.dtype, self.device)
        memory = device_memory(self.device)
        self.plan: Plan | None = None
        if memory is not None:
            codec = bundle.need_codec()
            shape = codec.config if isinstance(codec, Mimi | SpectralCodec) else None
            self.plan = planned(
                self.model.config, settings, longest, memory=memory, dtype=dtype, codec=shape, processes=world.count
            )
            settings = fitted(settings, self.plan)
        self.settings = settings
        rolled, how = settings.rollouts, settings.update
        if rounds_frozen(how, dtype):
            round_frozen(self.model)  # before anything is copied of it
        self._updater = Updater(self.model, settings, self._demonstration, drawn, world)
        self.optimizers = self._updater.optimizers
        self.player = self.model
        if dtype != torch.float32 and how.shard and world.count > 1:
            round_all(self.model, dtype)  # the shards are what learns
        elif dtype != torch.float32:
            self.player = playing_copy(self.model, dtype)
        self.roller = Roller(
            replace(bundle, lm=self.player), rolled.at_once, text_prompt=rolled.text_prompt or "", voice=voice,
            lead_s=rolled.lead_s or 0.0, frames=longest,
        )  # fmt: skip
        own = sampling_of(rolled, bundle.config.sampling)
        self._checks = None if held_out is None else HeldOutScores(held_out, own, world)
        self._improved = False  # since the last time that the model was written

    def step(self, number: int) -> Mapping[str, float]:
        """One batch of rollouts, and its updates."""
        if self._checks is not None and not self._checks.begun:
            self._checks.begin(self.roller)
        begun = time.perf_counter()
        rng = np.random.default_rng([self.seed, number])
        batch, shown = (self._replay(number), []) if self._replay is not None else self._roll(rng, number)
        rolled = time.perf_counter()
        gains, row = self._judge(batch)
        if self._keep is not None:
            self._keep(number, batch, gains)
        row |= told(batch.groups, self.model, self.world)
        row |= self._updater.update(number, batch.groups, gains, shown, self._share)
        follow(self.player, self.model)
        self._watch.see(row, f"step {number + 1}")
        ours = sum(int(r.scored.sum()) for group in batch.groups for r in group)
        frames = self.world.total({"frames": ours})["frames"]
        done = time.perf_counter()
        return row | {"rollout_fps": frames / (rolled - begun), "update_fps": frames / (done - rolled)}

    def state(self) -> dict[str, Any]:
        learned = {name: p.detach() for name, p in self._updater.policy.named_parameters() if p.requires_grad}
        if self.settings.update.shard:
            learned = self.world.gather(learned)
        critic = self._updater.critic
        state = {"model": learned, "optimizers": self._updater.state(), "share": self._share, "bound": self._bound}
        state |= {"watch": self._watch.state(), "held_out": None if self._checks is None else self._checks.state()}
        return state if critic is None else state | {"critic": critic.state()}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        own = {name: p for name, p in self._updater.policy.named_parameters() if p.requires_grad}
        kept: dict[str, Tensor] = state["model"]
        other = own.keys() ^ kept.keys() or {name for name, p in own.items() if p.shape != kept[name].shape}
        if other:
            names = ", ".join(sorted(other)[:3])
            raise ValueError(f"the checkpoint learned other parameters than this run: {names}")
        for name, parameter in own.items():
            parameter.copy_(spread(kept[name], parameter))
        self._updater.restored()
        follow(self.player, self.model)
        self._updater.optimizers.restore(state["optimizers"])
        self._share, self._bound = state["share"], state["bound"]
        self._watch.restore(state["watch"])
        if self._checks is not None and state["held_out"] is not None:
            self._checks.restore(state["held_out"])
        if self._updater.critic is not None:
            self._updater.critic.restore(arrived(state["critic"], self.model.text_emb.weight))

    def validate(self) -> Mapping[str, float]:
        """What the policy earns on held-out segments (`HeldOutScores.measure`); nothing without any."""
        if self._checks is None:
            return {}
        row, better = self._checks.measure(self.roller)
        self._improved = self._improved or better
        return row

    def publish(self, run: RunFolder) -> None:
        """Write the model; as the best one too, if `validate` has just found that it is."""
        for name in ("model", "best") if self._improved else ("model",):
            self._publish(run, name)
        self._improved = False

    def whole_weights(self) -> dict[str, Tensor] | None:
        """Where what learns lies in shards, all weights whole, on the CPU of rank 0; all processes call it. Else None:
        the bundle holds them."""
        if not self.settings.update.shard:
            return None
        gathered: dict[str, Tensor] = self.world.gather(self._updater.policy.state_dict())
        return gathered

    def _demonstration(self, recorded: Recorded) -> tuple[Tensor, Tensor]:
        return self.roller.demonstration(recorded)

    def _roll(self, rng: np.random.Generator, number: int) -> tuple[Batch, list[Recorded]]:
        """Draw segments and settings, play this process' part of them, as many groups at once as there are slots for,
        and reward them while the next ones are played; rewards are told to all."""
        how = self.settings.rollouts
        axes = drawn_axes(how.axes, how.groups, rng)
        if self.settings.rewards.safety is not None:
            axes += [PROBE] * self.settings.rewards.safety.groups
        episodes = [self._episode(axis, number, rng) for axis in axes]
        at_once = how.at_once // how.group
        groups: dict[int, list[Rollout]] = {}
        pending: dict[int, Pending] = {}
        ours = list(range(self.world.rank, len(axes), self.world.count))
        ours.sort(key=lambda i: episodes[i].recorded.segment.end - episodes[i].recorded.segment.start)  # like with like
        for first in range(0, len(ours), at_once):
            some = ours[first : first + at_once]
            played = self.roller.play([episodes[i] for i in some])
            groups |= zip(some, played, strict=True)
            pending |= zip(some, self._reward.begin([axes[i] for i in some], played), strict=True)
        rewarded: dict[int, Rewarded] = {}
        for theirs in self.world.every({i: each.result() for i, each in pending.items()}):
            rewarded |= theirs
        batch = Batch(
            tuple(axes), tuple(tuple(groups.get(i, ())) for i in range(len(axes))),
            tuple(rewarded[i].rewards for i in range(len(axes))),
            tuple(rewarded[i].verdicts for i in range(len(axes))),
        )  # fmt: skip
        return batch, [e.recorded for axis, e in zip(axes, episodes, strict=True) if axis != PROBE]

    def _episode(self, axis: str, number: int, rng: np.random.Generator) -> Episode:
        how, found = self.settings.rollouts, self.segments[axis]
        recorded = found[int(rng.integers(len(found)))]
        part = number / max(self.settings.steps - 1, 1)
        longest = how.context_s[0] + (how.context_s[1] - how.context_s[0]) * part
        context = float(rng.uniform(0, longest)) if rng.random() < how.context else 0.0
        if how.window is not None:
            context = math.inf
        base = sampling_of(how, self.bundle.config.sampling)
        seeds = rng.integers(SEEDS, size=(how.group, 2)).tolist()
        each = tuple(replace(base, text_seed=a, audio_seed=b) for a, b in seeds)
        return Episode(recorded, context, each)

    def _judge(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Advantages [groups, G], and what is to be logged: means, spreads, groups and rollouts that say nothing."""
        how, row = self.settings.update.advantage, {}
        gains, gated = torch.zeros(len(batch.rewards), len(next(iter(batch.rewards[0].values())))), []
        flat = unscored = 0
        grades = [grade for rewards in batch.rewards for name in GRADED for grade in rewards.get(name, ())]
        if grades:
            row[UNSCORED] = sum(map(math.isnan, grades)) / len(grades)
        for axis in dict.fromkeys(batch.axes):
            places = [i for i, name in enumerate(batch.axes) if name == axis]
            each = [batch.rewards[i] for i in places]
            rewards = {name: torch.tensor([found[name] for found in each]) for name in each[0]}
            result = advantages(rewards, how)
            gains[places] = result.values if axis != PROBE else self._bounded(result.values, rewards["safety"])
            flat, unscored = flat + sum(result.flat.values()), unscored + sum(result.unscored.values())
            if self.settings.update.imitation is not None and self.settings.update.imitation.reward in rewards:
                gated.append(rewards[self.settings.update.imitation.reward])
            for name, values in rewards.items():
                known = values[~values.isnan()]
                if len(known):
                    row[f"reward_{name}"] = float(known.mean())
                    spreads = [float(x[~x.isnan()].std(correction=0)) for x in values if not x.isnan().all()]
                    row[f"spread_{name}"] = sum(spreads) / len(spreads)
        imitation = self.settings.update.imitation
        if imitation is not None:
            known = torch.cat(gated) if gated else torch.zeros(0, 1)
            fixed = None if imitation.share is None else 1 - imitation.share
            self._share = gate(known, self._share, imitation.gate) if fixed is None else fixed
            row["lambda"] = self._share
        if self.settings.rewards.safety is not None:
            row["safety_weight"] = self._bound
        return gains, row | {"flat_groups": float(flat), "unscored": float(unscored)}

    def _bounded(self, gains: Tensor, grades: Tensor) -> Tensor:
        """Advantages of probes times the weight of their constraint, which then moves by what the grades lack."""
        safety, known = self.settings.rewards.safety, grades[~grades.isnan()]
        weighed = self._bound * gains
        if safety is not None and safety.threshold is not None and len(known):
            self._bound = max(self._bound + safety.rate * (safety.threshold - float(known.mean())), 0.0)
        return weighed


def drawn_axes(axes: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """So many of the axes, each with equal chances and as often as the others, as far as that goes."""
    rounds = -(-count // len(axes))
    return [axes[int(i)] for _ in range(rounds) for i in rng.permutation(len(axes))][:count]


def shaped(segments: Mapping[str, Sequence[Recorded]], how: RolloutSettings) -> dict[str, list[Recorded]]:
    """What is acted of each segment, by axis: windows around what the human did (all of a segment in which it did
    nothing), or the segment, cropped; what is longer than `most_s` even so is left out."""
    return {
        axis: [replace(r, segment=span) for r in x for span in acted(r.segment, how)] for axis, x in segments.items()
    }


def acted(segment: Segment, how: RolloutSettings) -> list[Segment]:
    """What is acted of a segment; see `shaped`."""
    spans = [cropped(segment, how.longest_s, how.after_s)] if how.window is None else windows(segment, how.window)
    most = math.inf if how.most_s is None else how.most_s
    return [span for span in spans if span.end - span.start <= most + 1e-9]


def windows(segment: Segment, window: tuple[float, float]) -> list[Segment]:
    """A segment for each thing that the human did, from so many seconds before its onset to so many after its end."""
    s, (before, after) = segment, window
    acts = [e for e in s.events if e.side == AGENT and e.end > s.start and e.start < s.end]
    spans = [(max(e.start - before, 0.0), min(e.end + after, s.end)) for e in acts] or [(s.start, s.end)]
    return [replace(s, id=f"{s.id}@{i}", start=a, end=b) for i, (a, b) in enumerate(spans)]


def cropped(segment: Segment, longest_s: float | None, after_s: float | None = None) -> Segment:
    """A segment that ends no later than so long after what is to be answered, and begins later than it did, but not
    less than `LEAD_S` before what happens in it.

    Lengths are drawn anew for each segment, from its id: were the user's end always as far from the span's beginning,
    an agent could count instead of listening.
    """
    s, rng = segment, np.random.default_rng(crc32(segment.id.encode()))
    shares, lead = rng.uniform(*CROPPED, 2), rng.uniform(*LEAD_S)
    longest_s, after_s = (x if x is None else x * k for x, k in zip((longest_s, after_s), shares.tolist(), strict=True))
    inside = [e for e in s.events if e.end > s.start and e.start < s.end]
    asked = [e for e in inside if e.kind == ASKED.get(s.axis)]
    end = s.end if after_s is None or not asked else min(s.end, asked[0].end + after_s)
    moments = [e.end if e.kind == "turn" else e.start for e in asked or inside]
    start = s.start if longest_s is None else max(s.start, min([end - longest_s, *(m - lead for m in moments)]))
    return replace(s, start=start, end=end)


def longest_frames(segments: Sequence[Segment], how: RolloutSettings, rate: float, most_s: float | None = None) -> int:
    """At least as many frames as any rollout of these has behind its prompt, with at most so much context."""
    most = most_s if most_s is not None else math.inf if how.window is not None else how.context_s[1]
    seconds = [s.end - s.start + max(min(s.start, most), how.lead_s or 0.0) for s in segments]
    return math.ceil(max(seconds, default=0.0) * rate) + 4


def rollouts_for(how: RolloutSettings, bundle: Bundle) -> RolloutSettings:
    """The same with the text prompt and the lead that a model of this kind has, where nothing is asked for."""
    return replace(how, text_prompt=text_prompt_of(how.text_prompt, bundle), lead_s=lead_of(how.lead_s, bundle))


def prompts_line(how: RolloutSettings, bundle: Bundle) -> str:
    """What comes before rollouts, in words."""
    how = rollouts_for(how, bundle)
    text = f"text prompt {how.text_prompt!r}" if how.text_prompt else "no text prompt"
    voice = f"voice prompt {how.voice_prompt}" if how.voice_prompt else "no voice prompt"
    if takes_prompts(bundle) and not how.voice_prompt:
        voice += " (the paper: 3 s of a woman's voice; rollouts.voice_prompt=FILE)"
    return f"before rollouts: {text}; {voice}; {how.lead_s or 0.0:g} s of silence where no recording is given"


def sampling_of(how: RolloutSettings, own: Sampling) -> Sampling:
    """How rollouts are drawn: as asked for, else as the model's authors do."""
    names = (
        "text_temperature", "text_top_k", "text_top_p", "audio_temperature", "audio_top_k", "pad_temperature",
        "guidance",
    )  # fmt: skip
    asked = {name: getattr(how, name) for name in names}
    return replace(own, **{name: value for name, value in asked.items() if value is not None})


def told(groups: Sequence[Sequence[Tokens]], model: DuplexLM, world: World = ALONE) -> dict[str, float]:
    """What the rollouts' text is like: share of padding, and of pairs of pieces that came before in the rollout."""
    c = model.config
    silent = (c.existing_text_padding_id, c.existing_text_end_padding_id)
    padded = total = repeated = pairs = 0
    for rollout in (r for group in groups for r in group):
        ids = rollout.codes[0, rollout.scored].tolist()
        pieces = [x for x in ids if x not in silent and x >= 0]
        padded, total = padded + len(ids) - len(pieces), total + len(ids)
        seen = list(pairwise(pieces))
        repeated, pairs = repeated + len(seen) - len(set(seen)), pairs + len(seen)
    n = world.total({"padded": padded, "total": total, "repeated": repeated, "pairs": pairs})
    return {"pad_share": n["padded"] / max(n["total"], 1), "repetition": n["repeated"] / max(n["pairs"], 1)}
