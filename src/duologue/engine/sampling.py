"""How a slot draws its tokens: temperature, top-k, top-p, and a stream of chance of its own.

Each draw needs one number in [0, 1), a hash of the slot's seed, the frame and the stream; the token is where it falls
in the cumulative probabilities of what temperature, top-k and top-p leave. So what a slot draws hangs on nothing but
its own logits: not on its neighbours, its place in the batch, or how often anybody else drew. Defaults are Moshi's
(moshi 0.2.13, LMGen).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from duologue.base.errors import UserError

SEEDS = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Settings of one slot. A temperature of 0 is greedy; a top_k of 0 keeps all tokens, a top_p of 1 likewise."""

    text_temperature: float = 0.7
    """Of the text."""
    text_top_k: int = 25
    """Text tokens that can be drawn."""
    text_top_p: float = 1.0
    """Probability of the text tokens that can be drawn."""
    text_seed: int = 0
    """Of the text's draws."""
    audio_temperature: float = 0.8
    """Of the audio."""
    audio_top_k: int = 250
    """Audio tokens that can be drawn."""
    audio_top_p: float = 1.0
    """Probability of the audio tokens that can be drawn."""
    audio_seed: int = 0
    """Of the audio's draws."""
    padding_bonus: float = 0.0
    """Added to the logit of PAD: above 0 the agent speaks less."""
    pad_temperature: float | None = None
    """Of the choice between PAD and all else, before the text temperature decides what else: 1 keeps as learned when
    the agent speaks, however careful its words are. None: PAD is a token like any other. A given text (`Script`) and
    greedy text do not take it."""
    guidance: float = 1.0
    """Classifier-free guidance by text: audio logits are those without the text, plus this many times what the text
    changes. 1: none. Above 1 the sound follows the words more closely, and each frame is read twice. For models that
    learned with `text_dropout`."""

    def __post_init__(self) -> None:
        for kind in ("text", "audio"):
            temperature, top_k, top_p = (getattr(self, f"{kind}_{x}") for x in ("temperature", "top_k", "top_p"))
            if not 0 <= temperature < float("inf"):
                raise UserError(f"{temperature} is no temperature", place=f"{kind}_temperature", mend="use 0 or more")
            if top_k < 0:
                raise UserError(f"{top_k} is no number of tokens", place=f"{kind}_top_k", mend="use 0 for all of them")
            if not 0 < top_p <= 1:
                raise UserError(f"{top_p} is no probability", place=f"{kind}_top_p", mend="use more than 0, at most 1")
            if self.pad_temperature is not None and not 0 < self.pad_temperature < float("inf"):
                problem = f"{self.pad_temperature} is no temperature of PAD"
                raise UserError(problem, place="pad_temperature", mend="use more than 0, such as 1, or none")
            if not 0 <= self.guidance < float("inf"):
                raise UserError(f"{self.guidance} is no guidance", place="guidance", mend="use 1 for none, or 1.5 to 3")
            seed = getattr(self, f"{kind}_seed")
            if not 0 <= seed < SEEDS:
                raise UserError(f"{seed} is no seed", place=f"{kind}_seed", mend=f"use 0 to {SEEDS - 1}")


GREEDY = Sampling(text_temperature=0.0, audio_temperature=0.0)


@dataclass(frozen=True, slots=True)
class Draw:
    """How the slots of a batch draw one kind of token. Flags spare the steps that no slot needs."""

    temperature: Tensor
    """[B, 1]"""
    top_k: Tensor
    """[B, 1], int64, never 0"""
    top_p: Tensor
    """[B, 1]"""
    width: int
    """The largest top_k."""
    all_greedy: bool
    any_greedy: bool
    same_k: bool
    nucleus: bool
    """Whether any top_p is below 1."""

    @staticmethod
    def of(temperature: list[float], top_k: list[int], top_p: list[float], card: int, device: torch.device) -> Draw:
        """Of each slot's settings, for `card` tokens."""
        kept = [min(k or card, card) for k in top_k]
        cold = [t == 0 for t in temperature]

        def column(values: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        return Draw(
            temperature=column(temperature), top_k=column(kept, torch.int64), top_p=column(top_p), width=max(kept),
            all_greedy=all(cold), any_greedy=any(cold), same_k=len(set(kept)) == 1, nucleus=any(p < 1 for p in top_p),
        )  # fmt: skip

    def pick(self, logits: Tensor, chance: Tensor) -> Tensor:
        """Tokens [B] from logits [B, V], given a number of [0, 1) for each row [B].

        Probabilities add up in the order of the vocabulary, so that no row's draw hangs on how others are sorted.
        """
        if self.all_greedy:
            return logits.argmax(-1)
        scores = logits.float()
        if self.width < scores.shape[1] or not self.same_k:
            top = scores.topk(self.width, sorted=not self.same_k)[0]
            least = top.amin(-1, keepdim=True) if self.same_k else top.gather(1, self.top_k - 1)
            scores = scores.masked_fill(scores < least, -torch.inf)
        p = torch.softmax(scores / self.temperature.clamp(min=1e-6), -1)
        if self.nucleus:  # the likeliest that reach top_p together, at least one
            ranked = p.sort(-1, descending=True)[0]
            last = (ranked.cumsum(-1) - ranked < self.top_p).sum(-1, keepdim=True) - 1
            p = p.masked_fill((p < ranked.gather(1, last)) & (self.top_p < 1), 0.0)
        sums = p.cumsum(-1)
        drawn = torch.searchsorted(sums, chance[:, None] * sums[:, -1:], right=True)[:, 0]
        return torch.where(self.temperature[:, 0] > 0, drawn, logits.argmax(-1)) if self.any_greedy else drawn


@dataclass(frozen=True, slots=True)
class Script:
    """What the slots may write as text in one step, where they follow a given text.

    A slot whose next word is known draws among a few ids. The id that begins its word stands for every id that begins
    one: what counts is that the model begins a word here, not which word it would have said.
    """

    among: Tensor
    """[B, n] ids that can be drawn; a row of -1: all."""
    due: Tensor
    """[B] the id that stands for all that begin a word; -1: none."""
    begins: Tensor
    """[text_card] bool: ids that begin a word."""

    def restrict(self, logits: Tensor) -> Tensor:
        """Text logits [B, text_card] as float32, -inf for what a slot may not write."""
        logits = logits.float()
        due, among = self.due.clamp(min=0)[:, None], self.among.clamp(min=0)
        counted = self.begins.expand(len(logits), -1).scatter(1, due, True)
        together = logits.masked_fill(~counted, -torch.inf).logsumexp(1, keepdim=True)
        own = torch.where(self.due[:, None] >= 0, together, logits.gather(1, due))
        scores = logits.scatter(1, due, own)
        few = torch.full_like(scores, -torch.inf).scatter(1, among, scores.gather(1, among))
        return torch.where(self.among[:, :1] < 0, scores, few)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of all slots of a batch."""

    text: Draw
    audio: Draw
    seeds: Tensor
    """[B, 1 + streams]: whose chance each stream takes."""
    bonus: Tensor | None
    """[B], added to the logit of PAD."""
    guidance: Tensor | None
    """[B, 1], of second readings, if any slot has one."""
    pad: Tensor | None = None
    """[B, 1], temperatures of PAD, if any slot has one; 0: none."""
    script: Script | None = None
    """For this step alone."""

    @staticmethod
    def of(slots: Sequence[Sampling], streams: int, text_card: int, card: int, device: torch.device) -> Settings:
        """Of each slot, for a model with so many audio streams and tokens."""
        text = Draw.of(
            [s.text_temperature for s in slots], [s.text_top_k for s in slots], [s.text_top_p for s in slots],
            text_card, device,
        )  # fmt: skip
        audio = Draw.of(
            [s.audio_temperature for s in slots], [s.audio_top_k for s in slots], [s.audio_top_p for s in slots],
            card, device,
        )  # fmt: skip
        seeds = torch.tensor([[s.text_seed] + [s.audio_seed] * streams for s in slots], device=device)
        bonus = None
        if any(s.padding_bonus for s in slots):
            bonus = torch.tensor([s.padding_bonus for s in slots], device=device)
        guidance = None
        if any(s.guidance != 1 for s in slots):
            guidance = torch.tensor([s.guidance for s in slots], dtype=torch.float32, device=device)[:, None]
        pad = None
        if any(s.pad_temperature for s in slots):
            pad = torch.tensor([s.pad_temperature or 0.0 for s in slots], dtype=torch.float32, device=device)[:, None]
        return Settings(text, audio, seeds, bonus, guidance, pad)

    def pause(self, logits: Tensor, pad: Tensor) -> Tensor:
        """Text logits [B, text_card] that give PAD (its id, [1]) its chance at its own temperature, when drawn from at
        the text's."""
        if self.pad is None:
            return logits
        scores = logits.float()
        heat, rest = self.text.temperature.clamp(min=1e-6), scores.index_fill(1, pad, -torch.inf)
        odds = (scores[:, pad] - rest.logsumexp(1, keepdim=True)) / self.pad.clamp(min=1e-6)
        own = heat * (odds + (rest / heat).logsumexp(1, keepdim=True))
        taken = (self.pad > 0) & (self.text.temperature > 0)
        return scores.index_copy(1, pad, torch.where(taken, own, scores[:, pad]))

    def guide(self, read: Tensor, unread: Tensor) -> Tensor:
        """Audio logits [B, card] of readings with the text and without it (moshi 0.2.13, LMGen.depformer_step)."""
        if self.guidance is None:  # of slots that had some before
            return read
        guided = unread + (read - unread) * self.guidance.to(read.dtype)
        return torch.where(self.guidance == 1, read, guided)

    def tensors(self) -> list[Tensor]:
        """All tensors, in a fixed order."""
        columns = [x for draw in (self.text, self.audio) for x in (draw.temperature, draw.top_k, draw.top_p)]
        script = [] if self.script is None else [self.script.among, self.script.due, self.script.begins]
        extra = [x for x in (self.bonus, self.guidance, self.pad) if x is not None]
        return [*columns, self.seeds, *extra, *script]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Settings:
        """The same kind of settings with other tensors, in the order of `tensors`."""
        text = replace(self.text, temperature=tensors[0], top_k=tensors[1], top_p=tensors[2])
        audio = replace(self.audio, temperature=tensors[3], top_k=tensors[4], top_p=tensors[5])
        script = None if self.script is None else Script(*tensors[-3:])
        extra = iter(tensors[7:])
        bonus, guidance, pad = (None if x is None else next(extra) for x in (self.bonus, self.guidance, self.pad))
        return Settings(text, audio, tensors[6], bonus, guidance, pad, script)

    def kind(self) -> tuple[object, ...]:
        """All that is not in tensors: settings of one kind run the same steps."""
        flags = [(d.width, d.all_greedy, d.any_greedy, d.same_k, d.nucleus) for d in (self.text, self.audio)]
        return (
            *flags,
            self.bonus is None,
            self.guidance is None,
            self.pad is None,
            None if self.script is None else self.script.among.shape[1],
        )


def chances(seeds: Tensor, frames: Tensor) -> Tensor:
    """A number of [0, 1) for each slot and stream, [B, streams] in float32, of seeds [B, streams] and frames [B].

    A hash by multiplication and shifts (the finaliser of MurmurHash3 on 64 bits), equal on every device.
    """
    x = _mix(seeds * _ODD + frames[:, None])
    x = _mix(x * _ODD + torch.arange(seeds.shape[1], device=frames.device))
    # 23 bits: the largest, times a sum near 1, still rounds to less than the sum.
    return ((x >> 41) & (2**23 - 1)).float() / 2**23


_ODD = 0x2545F4914F6CDD1D


def _mix(x: Tensor) -> Tensor:
    """Spread 64 bits. Shifts are logical: the sign's copies are masked out."""
    x = (x ^ ((x >> 33) & (2**31 - 1))) * -0xAE502812AA7333
    x = (x ^ ((x >> 33) & (2**31 - 1))) * -0x3B314601E57A13AD
    return x ^ ((x >> 33) & (2**31 - 1))
