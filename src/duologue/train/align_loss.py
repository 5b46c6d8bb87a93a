"""The loss of rollouts: policy gradient on chosen tokens, held to a reference.

Log-probabilities are recomputed by teacher forcing from the stored tokens. Of the text alone the temporal transformer
is all that runs; semantic or all audio tokens bring in the depth transformer. Output layers and divergences run on the
frames that count, some at a time, and again for the gradient, so that no vocabulary times all frames is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from duologue.base.errors import UserError
from duologue.engine.sampling import Sampling
from duologue.model.lm import ABSENT, DuplexLM, Hidden
from duologue.rl.actions import Projection, action_of, speak_or_silent
from duologue.rl.divergence import Estimator, estimated_kl, exact_kl
from duologue.rl.policy import PolicyConfig, PolicyLoss, aggregate, policy_loss
from duologue.train.align_sampler import under_sampler
from duologue.train.rollout_batches import Tokens as Drawn

Tokens: TypeAlias = Literal["text", "text_semantic", "all"]
Under: TypeAlias = Literal["model", "sampler"]
Reference: TypeAlias = Callable[[], AbstractContextManager[DuplexLM]]
"""Opens the frozen policy for a while."""
CHUNK = 2048
"""Frames whose logits are in memory at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KLConfig:
    """How closely the policy is held to its reference. The defaults are those of arXiv 2606.11167."""

    beta: float = 0.01
    """Weight; 0: the reference does not run."""
    estimator: Literal["exact"] | Estimator = "exact"
    """exact: over the whole vocabulary, at every frame; else from the tokens that were drawn."""
    audio: float = 0.0
    """Weight of the divergence of audio streams that nothing is learned from: so that what is learned of the text does
    not change how it sounds, since the depth transformer reads the same hidden states. Not in the papers."""
    audio_streams: int = 1
    """How many of them are held, the semantic one first."""

    def __post_init__(self) -> None:
        if not (self.beta >= 0 and self.audio >= 0 and self.audio_streams >= 1):
            problem = "weights are 0 or more, streams 1 or more"
            raise UserError(problem, place="update.kl", mend="mend beta, audio or audio_streams")


class Rows(NamedTuple):
    """Rollouts side by side."""

    codes: Tensor
    """[N, K, T]; -1 behind the end of a shorter one, and where a late stream's code would have come after that end."""
    mask: Tensor
    """bool [N, T]: frames that were acted in."""

    def counted(self, stream: int) -> Tensor:
        """bool [N, T]: frames in which a token of this stream was drawn."""
        return self.mask & (self.codes[:, stream] != ABSENT)


class Scores(NamedTuple):
    """Of one stream's tokens; [N, T], 0 where nothing counts."""

    new: Tensor
    """Log-probability."""
    kl: Tensor
    """Divergence from the reference."""
    entropy: Tensor
    """Without a gradient."""
    outside: Tensor
    """The model's probability of what could not be drawn; 0 where nobody asked."""
    mask: Tensor


class RolloutLoss(NamedTuple):
    """A loss to minimise, and what to log."""

    loss: Tensor
    policy: tuple[PolicyLoss, ...]
    """Of each stream."""
    kl: Tensor
    """Mean over the streams' tokens."""
    kl_audio: Tensor
    """Mean over the tokens of streams that are held only; 0 without."""
    entropy: Tensor
    """Mean of the text's."""
    outside: Tensor
    """Mean of the text's."""


def pack(rollouts: Sequence[Drawn], model: DuplexLM) -> Rows:
    """Rollouts as one batch on the model's device, each of which is scored as if it were alone."""
    device = model.text_emb.weight.device
    mask = pad_sequence([r.scored for r in rollouts], batch_first=True)
    return Rows(side_by_side([r.codes for r in rollouts], model).to(device), mask.to(device))


def side_by_side(codes: Sequence[Tensor], model: DuplexLM) -> Tensor:
    """Codes [K, T] each as [N, K, longest T], -1 behind each end. A stream that is d frames late predicts its last d
    codes from frames behind the end: these are -1 too, as they are out of reach where a row is alone or the longest."""
    cut = [x.clone() for x in codes]
    for row in cut:
        for stream, delay in enumerate(model.config.delays):
            row[stream, max(row.shape[1] - delay, 0) :] = ABSENT
    return pad_sequence([x.t() for x in cut], batch_first=True, padding_value=ABSENT).transpose(1, 2)


def streams_of(tokens: Tokens, model: DuplexLM) -> int:
    """Audio streams that are learned from."""
    return {"text": 0, "text_semantic": 1, "all": model.config.agent_streams}[tokens]


def scores(
    model: DuplexLM, rows: Rows, tokens: Tokens, *, reference: Reference | None = None, kl: KLConfig | None = None,
    projection: Projection | None = None, recompute: bool = False, autocast: bool = False, chunk: int = CHUNK,
    sampling: Sampling | None = None, under: Under = "model",
) -> list[Scores]:  # fmt: skip
    """Log-probabilities of the tokens that were drawn, and their divergence from the reference, stream by stream.

    Args:
        model: the policy.
        rows: what was drawn.
        tokens: which streams.
        reference: the frozen policy; None: no divergence.
        kl: how it is measured.
        projection: the text's tokens are one of two actions, to speak or to be silent (ASPIRin).
        recompute: as in `DuplexLM.forward`.
        autocast: hidden states are computed in bfloat16; logits are not.
        chunk: frames whose logits are in memory at once.
        sampling: how the tokens were drawn; None: nobody asks.
        under: whose log-probabilities are wanted: the model's, or those of the sampler.
    """
    steps, kl = streams_of(tokens, model), kl or KLConfig()
    if reference is not None and kl.audio:
        steps = max(steps, min(kl.audio_streams, model.config.agent_streams))

    def run(lm: DuplexLM) -> Hidden:
        with torch.autocast(rows.codes.device.type, dtype=torch.bfloat16, enabled=autocast):
            return lm.hidden(rows.codes, depth_steps=steps, recompute=recompute)

    hidden, theirs = run(model), None
    if reference is not None:
        with torch.no_grad(), reference() as frozen:
            theirs = run(frozen)
    c = model.config
    silent = torch.zeros(c.text_card, dtype=torch.bool, device=rows.codes.device)
    silent[[c.existing_text_padding_id, c.existing_text_end_padding_id]] = True
    estimator = kl.estimator
    kind, found = model.text_emb.weight.dtype, []
    for q in range(1 + steps):
        x, mask = (hidden.text, hidden.text_mask) if q == 0 else (hidden.audio[q - 1], hidden.audio_mask[q - 1])
        mask = mask & rows.mask
        inputs = [x[mask].to(kind)]
        if theirs is not None:
            inputs.append((theirs.text if q == 0 else theirs.audio[q - 1])[mask].to(kind))
        pad = c.existing_text_padding_id if q == 0 else None
        how = _How(q, projection if q == 0 else None, silent, reference, estimator, sampling, under, pad)
        parts = [
            checkpoint(_frames, how, model, *some, use_reentrant=False)
            for some in zip(*(torch.split(y, chunk) for y in (rows.codes[:, q][mask], *inputs)), strict=True)
        ]
        columns = [torch.cat(part) for part in zip(*parts, strict=True)] if parts else [x.new_zeros(0).float()] * 4
        placed = [torch.zeros(mask.shape, device=x.device).masked_scatter(mask, y) for y in columns]
        found.append(Scores(placed[0], placed[1], placed[2], placed[3], mask))
    return found


class _How(NamedTuple):
    stream: int
    projection: Projection | None
    silent: Tensor
    reference: Reference | None
    estimator: Literal["exact"] | Estimator
    sampling: Sampling | None
    under: Under
    pad: int | None


def _head(model: DuplexLM, stream: int) -> nn.Module:
    return model.text_linear if stream == 0 else model.linears[stream - 1]


def _frames(how: _How, model: DuplexLM, tokens: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Log-probability, divergence, entropy and the mass of what could not be drawn [n] of tokens [n], from what the
    policy's head (and that of the reference) sees [n, D]."""
    logits: list[Tensor] = [_head(model, how.stream)(inputs[0]).float()]
    if how.reference is not None:
        with torch.no_grad(), how.reference() as frozen:
            logits.append(_head(frozen, how.stream)(inputs[1]).float())
    chosen, drawn, outside = tokens, None, torch.zeros(len(tokens), device=tokens.device)
    if how.sampling is not None:
        drawn, outside = under_sampler(logits[0], tokens, how.sampling, how.pad)
    if how.projection is not None:
        logits = [speak_or_silent(x, how.silent, how.projection) for x in logits]
        chosen = action_of(tokens, how.silent)
    known = logits[0].log_softmax(-1)
    new = known.gather(1, chosen[:, None])[:, 0]
    entropy = -(known.exp() * known).sum(-1).detach()
    kl = torch.zeros_like(new)
    if len(logits) == 2 and how.estimator == "exact":
        kl = exact_kl(logits[0], logits[1])
    elif len(logits) == 2 and how.estimator != "exact":
        before = logits[1].log_softmax(-1).gather(1, chosen[:, None])[:, 0]
        kl = estimated_kl(new, before, how.estimator)
    return new if drawn is None or how.under == "model" else drawn, kl, entropy, outside


def rollout_loss(
    found: Sequence[Scores], old: Sequence[Tensor], advantages: Tensor, policy: PolicyConfig, beta: float,
    audio_beta: float = 0.0, sizes: Sequence[float] | None = None,
) -> RolloutLoss:  # fmt: skip
    """The surrogate of every stream's tokens plus beta times the divergence, both averaged over the streams.

    The losses of the parts of a batch add up to that of the whole if they are told its sizes.

    Args:
        found: of the policy that learns; streams beyond those of `old` are held to the reference only.
        old: log-probabilities [N, T] under the policy that drew, stream by stream.
        advantages: [N], or [N, T] where each frame has its own; 0 for what could not be scored.
        policy: which surrogate.
        beta: weight of the divergence.
        audio_beta: weight of that of the streams that are held only.
        sizes: of the whole batch, stream by stream, as `rl.policy.size_of` of `Rows.counted`; None: this is the whole.
    """
    whole = [None] * len(found) if sizes is None else sizes
    learned, held_only = found[: len(old)], found[len(old) :]
    losses = [
        policy_loss(s.new, o, advantages, s.mask, policy, size)
        for s, o, size in zip(learned, old, whole[: len(old)], strict=True)
    ]
    leash = [aggregate(s.kl, s.mask, policy, size) for s, size in zip(found, whole, strict=True)]
    total = torch.stack([x.loss for x in losses]).mean()
    if beta:
        total = total + beta * torch.stack(leash[: len(old)]).mean()
    if held_only:
        total = total + audio_beta * torch.stack(leash[len(old) :]).mean()
    return RolloutLoss(
        total,
        tuple(losses),
        _mean_kl(learned),
        _mean_kl(held_only) if held_only else total.new_zeros(()),
        *(x.sum() / found[0].mask.sum().clamp(min=1) for x in (found[0].entropy, found[0].outside)),
    )


def _mean_kl(found: Sequence[Scores]) -> Tensor:
    """Of all tokens of some streams, without a gradient."""
    n = torch.stack([s.mask.sum() for s in found]).sum().clamp(min=1)
    return torch.stack([s.kl.detach().sum() for s in found]).sum() / n
