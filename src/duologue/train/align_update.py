"""The updates of a batch of rollouts: policy gradient, beside imitation if wanted, or preference between the best and
the worst of each group."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from duologue.base.errors import UserError
from duologue.engine.sampling import Sampling
from duologue.model.lm import DuplexLM
from duologue.model.lora import without_lora
from duologue.rl.policy import policy_loss, size_of
from duologue.rl.preference import dpo_loss
from duologue.train.align_critic import Credit, Critic
from duologue.train.align_loss import Reference, Rows, Scores, pack, rollout_loss, scores, side_by_side, streams_of
from duologue.train.align_settings import AlignSettings, PreferenceSettings
from duologue.train.align_shards import Ask, Shards
from duologue.train.lm_loss import Sizes, Weights, losses, sizes_of
from duologue.train.loop import rate_at
from duologue.train.optimizers import Optimizers
from duologue.train.parallel import ALONE, World, whole
from duologue.train.rollout_batches import Tokens
from duologue.train.rollouts import Recorded

Groups = Sequence[Sequence[Tokens]]
LOGGED = ("loss", "kl", "kl_audio", "entropy", "outside", "clipped", "old_kl")
"""What is told of a batch: its loss, and the mean over frames of the others."""
CHANGE_EVERY = 10
"""Steps between two in which it is measured how far weights moved."""


class Demonstrations(NamedTuple):
    """What the humans did in a step's segments."""

    batches: Sequence[tuple[Tensor, Tensor]]
    """Of this process: codes [N, K, T], and the frames [N, T] that count."""
    sizes: Sizes
    """Of all processes' batches."""
    weights: Weights


class Updater:
    """Moves a policy. It is frozen as its own reference when this is made.

    Args:
        model: the policy, adapters in place.
        settings: how.
        demonstrate: what the human did in a segment: codes [K, T], and the frames [T] that count.
        sampling: how rollouts are drawn; None: nobody knows, as when kept ones are replayed.
        world: the processes that learn together: each has the whole model and its part of the groups.

    Raises:
        UserError: the log-probabilities of a sampler that is not known, or greedy.
    """

    def __init__(
        self, model: DuplexLM, settings: AlignSettings, demonstrate: Callable[[Recorded], tuple[Tensor, Tensor]],
        sampling: Sampling | None = None, world: World = ALONE,
    ) -> None:  # fmt: skip
        how, self._world = settings.update, world
        greedy = sampling is None or min(sampling.text_temperature, sampling.audio_temperature) == 0
        self._sampling = None if greedy else sampling
        if how.logprob_under == "sampler" and greedy:
            problem = "a greedy sampler, or one that nobody knows, has no log-probabilities"
            raise UserError(problem, place="update.logprob_under", mend="use model, or draw at a temperature")
        self.model, self.settings, self._demonstrate = model, settings, demonstrate
        self._device = model.text_emb.weight.device
        needed = bool(how.kl.beta or how.kl.audio) or how.preference is not None
        self._shards: Shards | None = None
        self._reference: Reference | None = None
        if how.shard and world.count > 1:
            self._shards = Shards(model, reference=needed, world=world)
        elif needed:
            self._reference = reference_of(model, adapters=how.lora is not None)
        self._learns = model if self._shards is None else self._shards.policy
        self.optimizers = Optimizers(self._learns, how.optimizer)
        self.critic = None if how.critic is None else Critic(model, how.critic, world)

    @property
    def policy(self) -> DuplexLM:
        """What learns: the model, or its shards."""
        return self._learns

    def restored(self) -> None:
        """The policy has other weights now."""
        if self._shards is not None:
            self._shards.tell(self.model)

    def state(self) -> list[dict[str, object]]:
        """The optimisers', with whole tensors in rank 0."""
        found = self.optimizers.state()
        return found if self._shards is None else self._world.gather(found)

    def update(
        self, number: int, groups: Groups, gains: Tensor, shown: Sequence[Recorded], share: float | None
    ) -> dict[str, float]:
        """The optimiser steps of a batch, and what is to be logged.

        Args:
            number: of the step.
            groups: what was drawn; empty for those of other processes.
            gains: advantages [groups, G].
            shown: the segments, to imitate.
            share: lambda of the step where imitation is mixed in; None: no imitation.
        """
        learned = [p for p in self._learns.parameters() if p.requires_grad]
        before = [p.detach().clone() for p in learned] if number % CHANGE_EVERY == 0 else None
        preference = self.settings.update.preference
        every = self.settings.update.compare_gradients_every
        compared = self._compared(groups, gains) if every and number % every == 0 else {}
        row = self._follow(number, groups, gains, shown, share) if preference is None else self._prefer(
            number, groups, gains, preference
        )  # fmt: skip
        row |= compared
        if self._shards is not None:
            self._shards.tell(self.model)
        return row if before is None else row | {"change": change(before, learned)}

    def _follow(
        self, number: int, groups: Groups, gains: Tensor, shown: Sequence[Recorded], share: float | None
    ) -> dict[str, float]:
        """Policy gradient; the rollouts' log-probabilities are those before the first optimiser step.

        Each part of the rollouts is one batch over all processes: what its micro-batches give adds up to its loss.
        Groups without spread are left out if the settings say so, and never where a critic learns. Where nothing is
        left and nothing is imitated, weights stay.
        """
        how = self.settings.update
        keep = how.flat_groups == "keep" or self.critic is not None
        learned = [i for i, gain in enumerate(gains) if keep or gain.any()]
        parts = [[(i, j) for i in learned for j in range(p, len(groups[i]), how.updates)] for p in range(how.updates)]
        batches = [[self._rows(groups, gains, part[at : at + how.at_once]) for at in range(0, len(part), how.at_once)]
                   for part in parts]  # fmt: skip
        credits: list[Credit] = []
        if self.critic is not None:
            credits = self.critic.credit([pair for batch in batches for pair in batch])
            frames = iter([credit.advantages for credit in credits])
            batches = [[(rows, next(frames)) for rows, _ in batch] for batch in batches]
        if self._shards is not None:
            self._fill(batches)
        with torch.no_grad():  # the first part's are those that it learns from
            old = [[[s.new for s in self._scores(rows)] for rows, _ in batch] for batch in batches[1:]]
        rest = 0.0 if share is None else 1 - share  # of the loss, for imitation
        imitated = self._demonstrations(shown) if how.imitation is not None and rest > 0 else None
        sums: dict[str, float] = {}
        before: list[Sequence[list[Tensor] | None]] = [[None] * len(batches[0]), *old]
        for p, (batch, drawn) in enumerate(zip(batches, before, strict=True)):
            if not learned and imitated is None:
                continue
            here = dict.fromkeys(LOGGED, 0.0)
            sizes, total = self._sizes([rows for rows, _ in batch])
            for (rows, gain), known in zip(batch, drawn, strict=True):
                found = self._scores(rows, reference=self._reference is not None or self._shards is not None)
                if not len(gain):  # nothing to learn, but a part in gathering weights
                    (0.0 * torch.stack([s.new.sum() + s.kl.sum() for s in found]).sum()).backward()  # type: ignore[no-untyped-call]
                    continue
                if known is None:
                    known = [s.new.detach() for s in found[: 1 + streams_of(how.tokens, self.model)]]
                loss = rollout_loss(
                    found, known, gain, how.policy, how.kl.beta, how.kl.audio, sizes=sizes[: len(found)]
                )
                (self._summed(1.0 if share is None else share) * loss.loss).backward()  # type: ignore[no-untyped-call]
                part = int(rows.mask.sum()) / max(total, 1)
                here["loss"] += float(loss.loss.detach())
                means = (loss.kl, loss.kl_audio, loss.entropy, loss.outside, loss.policy[0].clipped,
                         loss.policy[0].old_kl)  # fmt: skip
                for name, value in zip(LOGGED[1:], means, strict=True):
                    here[name] += part * float(value.detach())
            if imitated is not None:
                here["imitation"] = self._imitate(imitated, rest)
            if self.critic is not None:
                sums["critic"] = sums.get("critic", 0.0) + self.critic.learn(credits) / how.updates
            for name, found_in_all in self._world.total(here).items():
                told = {"outside": self._sampling is not None, "kl_audio": bool(how.kl.audio)}.get(name, True)
                if told and (learned or name == "imitation"):
                    sums[name] = sums.get(name, 0.0) + found_in_all / how.updates
            moved = self._move(number * how.updates + p)
            sums["gradient"] = sums.get("gradient", 0.0) + moved["gradient"] / how.updates
            sums["rate"] = moved["rate"]
        return {"loss": 0.0, "gradient": 0.0} | sums

    def _sizes(self, batch: Sequence[Rows]) -> tuple[list[float], float]:
        """What the means of a batch are over, for each stream, and its frames, over all processes."""
        streams, policy = range(1 + self.model.config.agent_streams), self.settings.update.policy
        own = {str(q): sum(size_of(rows.counted(q), policy) for rows in batch) for q in streams}
        whole = self._world.total(own | {"frames": sum(int(rows.mask.sum()) for rows in batch)})
        return [whole[str(q)] for q in streams], whole["frames"]

    def _summed(self, weight: float) -> float:
        """The weight of a loss so that gradients add up over processes: shards take their mean."""
        return weight if self._shards is None else weight * self._world.count

    def _fill(self, batches: Sequence[list[tuple[Rows, Tensor]]]) -> None:
        """Give each part as many batches as in the process that has most, by empty ones, which have no gains."""
        most = [max(counts) for counts in zip(*self._world.every([len(batch) for batch in batches]), strict=True)]
        streams = 1 + self.model.config.n_q
        empty = Rows(
            torch.zeros(1, streams, 2, dtype=torch.long, device=self._device),
            torch.zeros(1, 2, dtype=torch.bool, device=self._device),
        )
        for batch, count in zip(batches, most, strict=True):
            batch += [(empty, torch.zeros(0, device=self._device))] * (count - len(batch))

    def _compared(self, groups: Groups, gains: Tensor) -> dict[str, float]:
        """Cosine between the policy gradients of the text's tokens and of the audio's, and their lengths, on what both
        reach: of one part of the rollouts, in this process alone."""
        how = self.settings.update
        places = [(i, j) for i, group in enumerate(groups) if gains[i].any() for j in range(len(group))][: how.at_once]
        learned = [p for p in self.model.parameters() if p.requires_grad]
        if not places:
            return {}
        rows, gain = self._rows(groups, gains, places)
        found = scores(self.model, rows, "all", recompute=how.recompute, autocast=how.autocast)
        losses = [policy_loss(s.new, s.new.detach(), gain, s.mask, how.policy).loss for s in found]
        sides = [
            torch.autograd.grad(loss, learned, retain_graph=keep, allow_unused=True)
            for loss, keep in ((losses[0], True), (torch.stack(losses[1:]).mean(), False))
        ]
        shared = [(a.double(), b.double()) for a, b in zip(*sides, strict=True) if a is not None and b is not None]
        if not shared:
            return {}
        dot, text, audio = (
            math.fsum(float((x * y).sum()) for x, y in pairs)
            for pairs in (shared, [(a, a) for a, _ in shared], [(b, b) for _, b in shared])
        )
        told = {"gradient_text": math.sqrt(text), "gradient_audio": math.sqrt(audio)}
        return told | ({"gradient_cosine": dot / math.sqrt(text * audio)} if text and audio else {})

    def _prefer(self, number: int, groups: Groups, gains: Tensor, how: PreferenceSettings) -> dict[str, float]:
        """One optimiser step on pairs: of each group that says something, the best and the worst."""
        every = [
            (i, int(gain.argmax()), int(gain.argmin()))
            for i, gain in enumerate(gains)
            if float(gain.max() - gain.min())
        ]
        pairs = [pair for pair in every if len(groups[pair[0]])]  # those of this process
        sums = {"loss": 0.0, "accuracy": 0.0, "margin": 0.0}
        rows = max(self.settings.update.at_once // 2, 1)
        for first in range(0, len(pairs), rows):
            some = pairs[first : first + rows]
            sides = [pack([groups[i][(good, bad)[k]] for i, good, bad in some], self.model) for k in range(2)]
            new = [self._scores(side)[0] for side in sides]
            assert self._reference is not None
            with torch.no_grad(), self._reference() as frozen:
                old = [self._asked(frozen, side, None)[0].new for side in sides]
            found = dpo_loss(
                new[0].new, new[1].new, old[0], old[1], new[0].mask, new[1].mask, beta=how.beta, by_length=how.by_length
            )
            part = len(some) / len(every)
            (part * found.loss).backward()  # type: ignore[no-untyped-call]
            for name in sums:
                sums[name] += part * float(getattr(found, name).detach())
        sums = self._world.total(sums)
        return sums | {"pairs": float(len(every))} | self._move(number * self.settings.update.updates)

    def _demonstrations(self, shown: Sequence[Recorded]) -> Demonstrations:
        """What the humans did in this process' part of these segments, in as many batches as every process has."""
        how, world = self.settings.update, self._world
        assert how.imitation is not None
        ours, most = shown[world.rank :: world.count], -(-len(shown) // world.count)
        batches: list[tuple[Tensor, Tensor]] = []
        sizes = Sizes(0.0, 0.0)
        for first in range(0, most, how.at_once):
            some = [self._demonstrate(recorded) for recorded in ours[first : first + how.at_once]]
            if not some:  # nothing to learn, but a part in gathering weights
                some = [(torch.zeros(1 + self.model.config.n_q, 2, dtype=torch.long), torch.zeros(2, dtype=torch.bool))]
            codes = side_by_side([codes for codes, _ in some], self.model).to(self._device)
            learn = pad_sequence([mask for _, mask in some], batch_first=True).to(self._device)
            batches.append((codes, learn))
            sizes += sizes_of(self.model, codes, learn, how.imitation.weights)
        whole = world.total({"text": sizes.text, "audio": sizes.audio})
        return Demonstrations(batches, Sizes(whole["text"], whole["audio"]), how.imitation.weights)

    def _imitate(self, found: Demonstrations, weight: float) -> float:
        """Add the gradient of what the humans did, times `weight`; returns this process' part of the loss."""
        total = 0.0
        for codes, learn in found.batches:

            def ask(model: DuplexLM, _: Reference | None, codes: Tensor = codes, learn: Tensor = learn) -> Tensor:
                with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self.settings.update.autocast):
                    return losses(model, codes, learn, found.weights, sizes=found.sizes).total

            loss = self._ask(ask)
            (self._summed(weight) * loss).backward()
            total += float(loss.detach())
        return total

    def _move(self, number: int) -> dict[str, float]:
        """The optimiser step of this number among all of the run."""
        o = self.settings.update.optimizer
        if self._shards is None:
            self._world.add_gradients([p for p in self.model.parameters() if p.requires_grad])
        share = rate_at(number, self.settings.steps * self.settings.update.updates, o.warmup, o.flat, o.end, o.shape)
        return {"gradient": float(self.optimizers.step(share)), "rate": o.rate * share}

    def _scores(self, rows: Rows, *, reference: bool = False) -> list[Scores]:
        found: list[Scores] = self._ask(lambda model, frozen: self._asked(model, rows, frozen), reference=reference)
        return found

    def _ask(self, call: Ask, *, reference: bool = False) -> Any:
        """What is computed of the policy, and of its reference where one is wanted."""
        if self._shards is not None:
            return self._shards.ask(call, reference=reference)
        return call(self.model, self._reference if reference else None)

    def _asked(self, model: DuplexLM, rows: Rows, reference: Reference | None) -> list[Scores]:
        how = self.settings.update
        return scores(
            model, rows, how.tokens, reference=reference, kl=how.kl, projection=how.projection,
            recompute=how.recompute, autocast=how.autocast, sampling=self._sampling, under=how.logprob_under,
        )  # fmt: skip

    def _rows(self, groups: Groups, gains: Tensor, places: Sequence[tuple[int, int]]) -> tuple[Rows, Tensor]:
        rows = pack([groups[i][j] for i, j in places], self.model)
        return rows, torch.stack([gains[i, j] for i, j in places]).to(self._device)


def reference_of(model: DuplexLM, *, adapters: bool) -> Reference:
    """The policy as it is now, frozen: the model without its adapters, or a copy."""
    kept = model if adapters else copy.deepcopy(model).requires_grad_(False).eval()

    @contextmanager
    def opened() -> Iterator[DuplexLM]:
        with without_lora(model) if adapters else nullcontext():
            yield kept

    return opened


def change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """How far weights moved, as a share of their length."""
    moved = math.fsum(
        float(whole((a.detach() - b).double().square().sum())) for a, b in zip(after, before, strict=True)
    )
    length = math.fsum(float(whole(b.double().square().sum())) for b in before)
    return math.sqrt(moved / max(length, 1e-30))
