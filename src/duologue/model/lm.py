"""`DuplexLM`: one temporal and one depth transformer over parallel streams of text and audio tokens.

Matched: moshi 0.2.13, models/lm.py, and PersonaPlex's fork of it. Codes are int64 [B, K, T], un-delayed: row 0 text,
then the agent's codebooks, then the user's; -1 = absent (read as zero, never scored).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.model.conditions import ConditionProvider
from duologue.model.config import LMConfig
from duologue.model.layers import Layer, RMSNorm, Transformer

ABSENT = -1


class LMOutput(NamedTuple):
    """Logits aligned with the codes that they predict. Masked positions are 0, never NaN, and carry no gradient."""

    text_logits: Tensor
    """[B, T, text_card]"""
    text_mask: Tensor
    """[B, T]: whether the text token is there and was predicted."""
    audio_logits: Tensor
    """[B, steps, T, card], the first `steps` audio streams"""
    audio_mask: Tensor
    """[B, steps, T]"""


class Hidden(NamedTuple):
    """What the output layers see, aligned with the codes that they predict; 0 at masked positions."""

    text: Tensor
    """[B, T, dim], for `text_linear`"""
    text_mask: Tensor
    """[B, T]"""
    audio: list[Tensor]
    """[B, T, depformer_dim] for each `linears[q]`"""
    audio_mask: list[Tensor]
    """[B, T] each"""


class Embedding(nn.Embedding):
    """Token embedding; -1 gives exactly zero."""

    def forward(self, tokens: Tensor) -> Tensor:
        absent = (tokens == ABSENT)[..., None]
        return F.embedding(tokens.clamp(min=0), self.weight).masked_fill(absent, 0.0)


class DuplexLM(nn.Module):
    """The language model of Moshi, PersonaPlex and Kyutai's STT, by its config."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.text_emb = Embedding(c.text_card + 1, c.dim)
        self.emb = nn.ModuleList(Embedding(c.card + 1, c.dim) for _ in range(c.n_q))
        period = c.max_period if c.positional_embedding == "rope" else None
        nominal = int(c.hidden_scale * c.dim)
        self.transformer = Transformer([
            Layer(c.dim, c.num_heads, nominal, kv_repeat=c.kv_repeat, context=c.context, max_period=period)
            for _ in range(c.num_layers)
        ])  # fmt: skip
        self.out_norm = RMSNorm(c.dim)
        self.text_linear = nn.Linear(c.dim, c.text_card, bias=False)
        self.extra_heads = nn.ModuleList(
            nn.Linear(c.dim, c.extra_heads_dim, bias=False) for _ in range(c.extra_heads_num_heads)
        )
        self.condition_provider = ConditionProvider(c.conditions, c.dim)
        if c.dep_q == 0:
            return
        sets = 1 + max(c.depth_schedule)
        self.depformer_in = nn.ModuleList(
            nn.Linear(c.dim, c.depformer_dim, bias=False) for _ in range(1 + max(c.input_schedule))
        )
        self.depformer_text_emb = Embedding(c.text_card + 1, c.depformer_dim)
        self.depformer_emb = nn.ModuleList(Embedding(c.card + 1, c.depformer_dim) for _ in range(c.dep_q - 1))
        own = sets if c.depformer_weights_per_step else None
        self.depformer = Transformer([
            Layer(c.depformer_dim, c.depformer_num_heads, c.depth_hidden, kv_repeat=c.depth_kv_repeat, sets=own)
            for _ in range(c.depformer_num_layers)
        ])  # fmt: skip
        self.linears = nn.ModuleList(nn.Linear(c.depformer_dim, c.card, bias=False) for _ in range(c.dep_q))

    def forward(
        self, codes: Tensor, *, depth_steps: int | None = None, condition: Tensor | None = None, recompute: bool = False
    ) -> LMOutput:
        """Score un-delayed codes [B, K, T] by teacher forcing.

        Args:
            codes: tokens; -1 where there is none.
            depth_steps: how many audio streams to score, from the first; all `dep_q` if None, 0 for the text alone. The
                streams that are left out change nothing in the others.
            condition: from `condition_provider`, [B or 1, 1, dim]; models with conditions need it.
            recompute: keep less for the gradient and compute it again (activation checkpointing).
        """
        hidden = self.hidden(codes, depth_steps=depth_steps, condition=condition, recompute=recompute)
        text_logits = self.text_linear(hidden.text)
        if not hidden.audio:
            B, _, T = codes.shape
            none = text_logits.new_zeros(B, 0, T, self.config.card)
            return LMOutput(text_logits, hidden.text_mask, none, hidden.text_mask.new_zeros(B, 0, T))
        logits = [linear(x) for linear, x in zip(self.linears, hidden.audio, strict=False)]
        return LMOutput(text_logits, hidden.text_mask, torch.stack(logits, 1), torch.stack(hidden.audio_mask, 1))

    def hidden(
        self, codes: Tensor, *, depth_steps: int | None = None, condition: Tensor | None = None, recompute: bool = False
    ) -> Hidden:
        """What the output layers see, aligned with the codes; arguments as `forward`."""
        delays = self.config.delays
        steps = self.config.dep_q if depth_steps is None else min(depth_steps, self.config.dep_q)
        delayed = self.delayed(codes)
        hidden = self.temporal(delayed[:, :, :-1], condition, recompute=recompute)
        text, text_mask = _aligned(hidden, delays[0], codes[:, 0])
        if steps == 0:
            return Hidden(text, text_mask, [], [])
        deep = self.depth(hidden, delayed[:, :, 1:], steps, recompute=recompute)
        audio = [_aligned(deep[:, :, q], delays[1 + q], codes[:, 1 + q]) for q in range(steps)]
        return Hidden(text, text_mask, [x for x, _ in audio], [mask for _, mask in audio])

    def extra(self, hidden: Tensor) -> Tensor:
        """Logits [..., heads, classes] of the extra heads of hidden [..., dim]; STT's tell whether a pause has come."""
        return torch.stack([head(hidden) for head in self.extra_heads], -2)

    def delayed(self, codes: Tensor) -> Tensor:
        """Shift stream k right by its delay behind initial tokens, with one initial column in front: [B, K, 1 + T]."""
        c = self.config
        out = codes.new_full((*codes.shape[:2], codes.shape[2] + 1), c.audio_initial_id)
        out[:, 0] = c.text_initial_id
        for k, delay in enumerate(c.delays):
            late = 1 + delay
            out[:, k, late:] = codes[:, k, : max(0, out.shape[2] - late)]
        return out

    def temporal(self, tokens: Tensor, condition: Tensor | None = None, *, recompute: bool = False) -> Tensor:
        """Read delayed tokens [B, K, S]: hidden [B, S, dim], which `text_linear` makes into text logits.

        Raises:
            ValueError: a condition for a model that has none, or none for one that needs it.
        """
        if (condition is None) is bool(self.config.conditions):
            raise ValueError("a condition is needed" if condition is None else "this model has no conditions")
        x = self.text_emb(tokens[:, 0])
        for q, embedding in enumerate(self.emb):
            x = x + embedding(tokens[:, 1 + q])
        if condition is not None:
            x = x + condition.to(x.dtype)
        return self.out_norm(self.transformer(x, recompute=recompute))  # type: ignore[no-any-return]

    def depth(self, hidden: Tensor, targets: Tensor, steps: int, *, recompute: bool = False) -> Tensor:
        """Outputs [B, S, steps, depformer_dim] of the first audio streams, which `linears[q]` makes into their logits.

        Args:
            hidden: of the temporal transformer, [B, S, dim].
            targets: the delayed tokens [B, K, S] to predict; each stream sees those before it.
            steps: how many streams, at least 1.
        """
        c = self.config
        inputs = []
        for q in range(steps):
            project = self.depformer_in[c.input_schedule[q]]
            embedding = self.depformer_text_emb if q == 0 else self.depformer_emb[q - 1]
            inputs.append(project(hidden) + embedding(targets[:, q]))
        x = torch.stack(inputs, dim=2)
        y: Tensor = self.depformer(x.flatten(0, 1), c.depth_schedule, recompute=recompute)
        return y.view_as(x)


def _aligned(x: Tensor, delay: int, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Undo a stream's delay: x [B, T, D] beside the codes [B, T] that it predicts, and where they count.

    Elsewhere x is 0, and so are the logits that a layer without bias makes of it: cheaper than masking the logits.
    """
    T = codes.shape[1]
    mask = codes != ABSENT
    mask[:, max(0, T - delay) :] = False
    return F.pad(x[:, delay:], (0, 0, 0, min(delay, T))).masked_fill(~mask[..., None], 0.0), mask
