"""The streaming view of the language model: one frame at a time, with explicit state, on the weights of `DuplexLM`.

`read` takes the tokens of one frame and gives the text logits; `DepthPass` then writes the frame's audio streams one by
one. Both give the logits of `DuplexLM.forward`. Matched: moshi 0.2.13, LMModel.forward_text and forward_depformer.
Where PersonaPlex's ring of keys sees one step fewer than its context once it is full, this one sees all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.codec.rope import rotate, rotation
from duologue.model.layers import Attention, Layer
from duologue.model.lm import DuplexLM


@dataclass(frozen=True, slots=True)
class LMState:
    """What the temporal transformer remembers, one row per stream. `read` changes it in place."""

    keys: Tensor
    """[layers, B, kv heads, capacity, head]: a ring; step s lies at s modulo capacity."""
    values: Tensor
    """The same for values."""
    steps: Tensor
    """[B]: frames read so far."""

    def clone(self) -> LMState:
        """A state that shares no memory with this one."""
        return LMState(self.keys.clone(), self.values.clone(), self.steps.clone())

    def reset(self, rows: Tensor) -> None:
        """Forget everything in the rows [B] that are true: with no steps counted, no key is seen."""
        self.steps.masked_fill_(rows, 0)

    def copy_row(self, source: int, target: int) -> None:
        """Make one row go on where another stands: a shared prefix is computed once."""
        for tensor, dim in ((self.keys, 1), (self.values, 1), (self.steps, 0)):
            tensor.select(dim, target).copy_(tensor.select(dim, source))


def initial_state(model: DuplexLM, batch: int, frames: int | None = None) -> LMState:
    """State of `batch` streams before their first frame.

    Args:
        model: the language model.
        batch: rows.
        frames: the most frames that will be read, where fewer than the context need room; needed when the context has
            no limit.

    Raises:
        ValueError: neither a context nor a number of frames.
    """
    config, like = model.config, model.text_linear.weight
    sizes = [n for n in (config.context, frames) if n is not None]
    if not sizes:
        raise ValueError("a model without a limit of context needs a number of frames")
    shape = (config.num_layers, batch, config.num_heads // config.kv_repeat, min(sizes), config.dim // config.num_heads)
    steps = torch.zeros(batch, dtype=torch.long, device=like.device)
    return LMState(like.new_zeros(shape), like.new_zeros(shape), steps)


def read(model: DuplexLM, tokens: Tensor, state: LMState, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Read one frame of delayed tokens [B, K] into the state.

    Args:
        model: the language model.
        tokens: text first; -1 = absent.
        state: changed in place.
        active: [B]; rows that are false stay as they were (their output means nothing).

    Returns:
        hidden [B, dim] for the depth transformer, and text logits [B, text_card].
    """
    x = model.text_emb(tokens[:, 0])
    for q, embedding in enumerate(model.emb):
        x = x + embedding(tokens[:, 1 + q])
    capacity = state.keys.shape[3]
    slot = state.steps % capacity
    # The step that lies in each place of the ring, this one included; below 0 where nothing lies yet.
    held = state.steps[:, None] - (slot[:, None] - torch.arange(capacity, device=slot.device)) % capacity
    place = _Place(state.steps, slot, held >= 0, active)
    for i, layer in enumerate(model.transformer.layers):
        assert isinstance(layer, Layer)
        x = x + _attend(layer.self_attn, layer.norm1(x), state.keys[i], state.values[i], place)
        x = x + layer.gating(layer.norm2(x))
    state.steps.add_(1 if active is None else active.long())
    hidden = model.out_norm(x)
    return hidden, model.text_linear(hidden)


class _Place(NamedTuple):
    """Where a frame falls: its step, its place in the ring, which places are seen, and which rows take part."""

    steps: Tensor
    slot: Tensor
    seen: Tensor
    active: Tensor | None


def _attend(attention: Attention, x: Tensor, keys: Tensor, values: Tensor, place: _Place) -> Tensor:
    """Attention of one step x [B, D] over a ring of keys and values [B, kv heads, capacity, head], which it joins."""
    head = x.shape[1] // attention.heads
    q, k, v = _heads(attention.in_projs[0](x), attention, head)
    if attention.max_period is not None:
        turn = rotation(place.steps[:, None], head, attention.max_period)[:, :, None]
        q, k = rotate(q, turn), rotate(k, turn)
    rows = torch.arange(len(x), device=x.device)
    for ring, new in ((keys, k[:, :, 0]), (values, v[:, :, 0])):
        kept = new
        if place.active is not None:
            kept = torch.where(place.active[:, None, None], new, ring[rows, :, place.slot])
        ring[rows, :, place.slot] = kept
    grouped = attention.kv_heads != attention.heads
    y = F.scaled_dot_product_attention(q, keys, values, place.seen[:, None, None], enable_gqa=grouped)
    return attention.out_projs[0](y.flatten(1))  # type: ignore[no-any-return]


def _heads(projected: Tensor, attention: Attention, head: int) -> tuple[Tensor, Tensor, Tensor]:
    """One step's projection [B, ...] as queries, keys and values [B, heads, 1, head]."""
    parts = torch.split(
        projected, [head * attention.heads, head * attention.kv_heads, head * attention.kv_heads], dim=-1
    )
    q, k, v = (y.view(len(y), -1, 1, head) for y in parts)
    return q, k, v


class DepthPass:
    """Writes the audio streams of one frame: logits of stream q, given the text and the streams before it.

    Each pass begins anew; nothing is remembered from frame to frame.
    """

    def __init__(self, model: DuplexLM, hidden: Tensor) -> None:
        self._model, self._hidden = model, hidden
        self._past: list[tuple[Tensor, Tensor]] = []
        self._q = 0

    def step(self, token: Tensor) -> Tensor:
        """Logits [B, card] of the next stream, given the token [B] before it (the text token for the first)."""
        model, config, q = self._model, self._model.config, self._q
        embedding = model.depformer_text_emb if q == 0 else model.depformer_emb[q - 1]
        x = model.depformer_in[config.input_schedule[q]](self._hidden) + embedding(token)
        chosen = config.depth_schedule[q]
        for i, layer in enumerate(model.depformer.layers):
            assert isinstance(layer, Layer)
            x = x + self._attend(i, layer.self_attn, layer.norm1(x), chosen)
            gating = layer.gating[chosen] if isinstance(layer.gating, nn.ModuleList) else layer.gating
            x = x + gating(layer.norm2(x))
        self._q += 1
        return model.linears[q](x)  # type: ignore[no-any-return]

    def _attend(self, i: int, attention: Attention, x: Tensor, chosen: int) -> Tensor:
        head = x.shape[1] // attention.heads
        which = chosen if len(attention.in_projs) > 1 else 0
        q, k, v = _heads(attention.in_projs[which](x), attention, head)
        if i < len(self._past):
            k, v = torch.cat((self._past[i][0], k), dim=2), torch.cat((self._past[i][1], v), dim=2)
            self._past[i] = k, v
        else:
            self._past.append((k, v))
        grouped = attention.kv_heads != attention.heads
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=grouped)
        return attention.out_projs[which](y.flatten(1))  # type: ignore[no-any-return]
