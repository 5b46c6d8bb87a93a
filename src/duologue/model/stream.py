"""The streaming view of the language model: one frame at a time, with explicit state, on the weights of `DuplexLM`.

`read` takes the tokens of one frame and gives the text logits; `DepthPass` then writes the frame's audio streams one by
one; `prefill` reads many frames at once. All give the logits of `DuplexLM.forward`. Matched: moshi 0.2.13,
LMModel.forward_text and forward_depformer. Where PersonaPlex's ring of keys sees one step fewer than its context once
it is full, this one sees all of it.

On a CPU most of a small model's time goes into calls, not numbers, so this file makes few: tokens of all streams are
looked up in one table, a residual is added by the product that needs it, attention looks at what is filled alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.codec.layout import lay_out
from duologue.model.kernels import EAGER, Kernels, length_of
from duologue.model.layers import Attention, Gating, Layer
from duologue.model.lm import DuplexLM
from duologue.model.memory import LMState, Place

PLACES = 32
"""Attention over several rows looks at a multiple of this many places, so that a row's sums do not hang on others."""
EVERY = slice(None)
CHUNK = 256
"""Frames that `prefill` reads at once."""


class StreamLM:
    """A language model, ready to be streamed. Make it anew after the model is moved or its layers are replaced.

    Training the weights in place is seen at once. Embeddings are laid side by side in memory, and on a CPU matrices
    turned (`codec.layout`); the parameters stay the same objects.
    """

    def __init__(self, model: DuplexLM, kernels: Kernels = EAGER) -> None:
        self.model, self.config, self._kernels = model, model.config, kernels
        c = self.config
        lay_out(model)
        self.table = _pack([model.text_emb.weight, *(e.weight for e in model.emb)])  # type: ignore[list-item]
        self.device = self.table.device
        sizes = [c.text_card + 1] + [c.card + 1] * c.n_q
        self._first = torch.tensor([sum(sizes[:k]) for k in range(len(sizes))], device=self.device)
        self._nothing = len(self.table) - 1
        self._least = length_of(model.out_norm.alpha)
        self._layers = [_Block(layer, kernels) for layer in model.transformer.layers]
        self._deep: list[list[_Block]] = []  # for each set of weights, all layers
        if c.dep_q:
            sets = range(1 + max(c.depth_schedule))
            self._deep = [[_Block(layer, kernels, i) for layer in model.depformer.layers] for i in sets]
        head = c.dim // c.num_heads
        self._rates = None
        if c.positional_embedding == "rope":
            index = torch.arange(head // 2, device=self.device).float()
            self._rates = torch.exp(index * (-math.log(c.max_period) * 2 / head))

    def initial_state(self, batch: int, frames: int | None = None, *, int8: bool = False) -> LMState:
        """State of `batch` streams before their first frame.

        Args:
            batch: rows.
            frames: the most frames that will be read, where fewer than the context need room; needed when the context
                has no limit.
            int8: remember in 8 bits.

        Raises:
            ValueError: neither a context nor a number of frames.
        """
        c = self.config
        sizes = [n for n in (c.context, frames) if n is not None]
        if not sizes:
            raise ValueError("a model without a limit of context needs a number of frames")
        shape = (c.num_layers, batch, 2, c.num_heads // c.kv_repeat, min(sizes), c.dim // c.num_heads)
        steps = torch.zeros(batch, dtype=torch.long, device=self.device)
        if int8:
            scale = self.table.new_zeros(shape[:-1])
            return LMState(torch.zeros(shape, dtype=torch.int8, device=self.device), steps, scale)
        return LMState(self.table.new_zeros(shape), steps)

    def read(
        self, tokens: Tensor, state: LMState, active: Tensor | None = None, *, window: int | None = None,
        together: bool = False, condition: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Read one frame of delayed tokens [B, K] into the state.

        Args:
            tokens: text first; -1 = absent.
            state: changed in place.
            active: [B]; rows that are false stay as they were (their output means nothing).
            window: places of the ring that hold anything, this frame included, if the caller knows.
            together: all rows stand at the same step, which is `window` - 1.
            condition: from `condition_provider`, [B or 1, 1, dim].

        Returns:
            hidden [B, dim] for the depth transformer, and text logits [B, text_card].
        """
        capacity, steps = state.capacity, state.steps
        filled = window or int(steps.max()) + 1
        mask = None
        if len(tokens) > 1:  # a row alone sees exactly what it has
            filled = filled + -filled % PLACES
            seen = torch.arange(min(filled, capacity), device=self.device) <= steps[:, None]
            mask = seen[:, None, None]
        filled = min(filled, capacity)
        x = self._embed(tokens)
        if condition is not None:
            x = x + condition[:, 0].to(x.dtype)
        turn = None if self._rates is None else _turn(steps, self._rates)[:, None]
        rows, slot = torch.arange(len(tokens), device=self.device), steps % capacity
        # A paused row's place is overwritten by its next frame before anything looks at it.
        place: Place = (rows, EVERY, EVERY, slot)
        if together and window is not None:
            place = (EVERY, EVERY, EVERY, (window - 1) % capacity)
        seen_places = (EVERY, EVERY, EVERY, slice(filled))
        for layer, block in enumerate(self._layers):
            q, kv = block.project(x, turn)
            state.store(layer, place, kv)
            keys, values = state.look(layer, seen_places, x.dtype).unbind(1)
            y = F.scaled_dot_product_attention(q[:, :, None], keys, values, mask, enable_gqa=block.grouped)
            x = block.feed(_add(x, block.out, y.flatten(1)))
        steps.add_(1 if active is None else active.long())
        hidden = self._kernels.norm(x, self.model.out_norm.alpha, self._least)
        return hidden, self.model.text_linear(hidden)

    def prefill(self, tokens: Tensor, state: LMState, rows: Sequence[int], *, condition: Tensor | None = None) -> None:
        """Read many frames of delayed tokens [R, K, S] into the given rows: what S calls of `read` would leave.

        All of the rows must have read equally many frames so far.

        Raises:
            ValueError: rows that stand at different steps.
        """
        for part in torch.split(tokens, CHUNK, dim=2):
            x = self._embed(part.transpose(1, 2).flatten(0, 1)).view(len(rows), -1, self.config.dim)
            self._prefill(x if condition is None else x + condition.to(x.dtype), state, list(rows))

    def prefill_embedded(self, x: Tensor, state: LMState, rows: Sequence[int]) -> None:
        """The same for frames whose sums of embeddings [R, S, dim] are given, conditions included."""
        for part in torch.split(x, CHUNK, dim=1):
            self._prefill(part, state, list(rows))

    def _prefill(self, x: Tensor, state: LMState, rows: list[int]) -> None:
        begun = [int(n) for n in state.steps[rows].tolist()]
        if len(set(begun)) > 1:
            raise ValueError(f"rows stand at different steps: {begun}")
        (B, S, _), c, capacity = x.shape, self.config, state.capacity
        at = torch.arange(begun[0], begun[0] + S, device=self.device)
        past = torch.arange(max(0, begun[0] - capacity + 1), begun[0], device=self.device)
        seen = torch.cat((past, at))
        back = at[:, None] - seen
        mask = (back >= 0) & (back < (c.context or back.numel() + 1))
        turn = None if self._rates is None else _turn(at, self._rates).repeat(B, 1)[:, None]
        kept = at[-capacity:]
        index = torch.tensor(rows, device=self.device)
        flat = x.flatten(0, 1)
        for layer, block in enumerate(self._layers):
            q, kv = block.project(flat, turn)
            q, kv = (y.view(B, S, *y.shape[1:]).movedim(1, -2) for y in (q, kv))
            before = state.look(
                layer, (index[:, None], EVERY, EVERY, past % capacity), x.dtype
            )  # [B, past, 2, heads, D]
            both = torch.cat((before.permute(0, 2, 3, 1, 4), kv), dim=3)
            y = F.scaled_dot_product_attention(q, both[:, 0], both[:, 1], mask, enable_gqa=block.grouped)
            last = kv[:, :, :, -len(kept) :].permute(0, 3, 1, 2, 4)
            state.store(layer, (index[:, None], EVERY, EVERY, kept % capacity), last)
            flat = block.feed(_add(flat, block.out, y.transpose(1, 2).reshape(B * S, -1)))
        state.steps[index] += S

    def _embed(self, tokens: Tensor) -> Tensor:
        """Sum of the embeddings of [N, K] tokens, -1 = none: [N, dim]."""
        index = torch.where(tokens < 0, self._nothing, tokens + self._first)
        return F.embedding(index, self.table).sum(1)

    def depth(self, hidden: Tensor) -> DepthPass:
        """Begin to write the audio streams of a frame, given `hidden` [B, dim] of `read`."""
        return DepthPass(self.model, hidden, self._deep)


class DepthPass:
    """Writes the audio streams of one frame: logits of stream q, given the text and the streams before it.

    Each pass begins anew; nothing is remembered from frame to frame.
    """

    def __init__(self, model: DuplexLM, hidden: Tensor, deep: Sequence[Sequence[_Block]]) -> None:
        self._model, self._hidden, self._deep = model, hidden, deep
        c = model.config
        heads = c.depformer_num_heads // c.depth_kv_repeat
        shape = (c.depformer_num_layers, len(hidden), 2, heads, c.dep_q, c.depformer_dim // c.depformer_num_heads)
        self._cache = hidden.new_empty(shape).unbind(0)
        self._inputs: dict[int, Tensor] = {}
        self._q = 0

    def step(self, token: Tensor, *, absent: bool = True) -> Tensor:
        """Logits [B, card] of the next stream.

        Args:
            token: the token [B] before it (the text token for the first).
            absent: whether it may be -1; a caller who knows better saves time.
        """
        model, q = self._model, self._q
        c = model.config
        embedding = model.depformer_text_emb if q == 0 else model.depformer_emb[q - 1]
        known: Tensor = embedding(token) if absent else F.embedding(token, embedding.weight)  # type: ignore[arg-type]
        which = c.input_schedule[q]
        if which not in self._inputs:
            self._inputs[which] = model.depformer_in[which](self._hidden)
        x = known + self._inputs[which]
        for block, cache in zip(self._deep[c.depth_schedule[q]], self._cache, strict=True):
            query, kv = block.project(x, None)
            cache[:, :, :, q] = kv
            if q == 0 and not block.grouped:
                y = kv[:, 1]  # one key: it is all that is seen
            else:
                keys, values = cache[:, 0, :, : q + 1], cache[:, 1, :, : q + 1]
                y = F.scaled_dot_product_attention(query[:, :, None], keys, values, enable_gqa=block.grouped)
            x = block.feed(_add(x, block.out, y.flatten(1)))
        self._q += 1
        return model.linears[q](x)  # type: ignore[no-any-return]


class _Block:
    """A layer with one of its sets of weights, on rows [N, D] that are one step each."""

    def __init__(self, layer: nn.Module, kernels: Kernels, index: int = 0) -> None:
        assert isinstance(layer, Layer)
        attention: Attention = layer.self_attn
        which = min(index, len(attention.in_projs) - 1)
        gating = layer.gating[index] if isinstance(layer.gating, nn.ModuleList) else layer.gating
        assert isinstance(gating, Gating)
        self.into, self.out = attention.in_projs[which], attention.out_projs[which]
        self.heads, self.kv_heads = attention.heads, attention.kv_heads
        self.grouped = attention.heads != attention.kv_heads
        self.norm1, self.norm2 = layer.norm1.alpha, layer.norm2.alpha
        self.wide, self.narrow = gating.linear_in, gating.linear_out
        self.least = length_of(self.norm1)
        self.kernels = kernels

    def project(self, x: Tensor, turn: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries [N, heads, head], keys and values [N, 2, kv heads, head] of rows [N, D], turned to their places."""
        heads, kv_heads = self.heads, self.kv_heads
        y = self.into(self.kernels.norm(x, self.norm1, self.least)).view(len(x), heads + 2 * kv_heads, -1)
        if turn is not None:
            both = y[:, : heads + kv_heads]
            pairs = torch.view_as_complex(both.float().unflatten(-1, (-1, 2)))
            if y.dtype == torch.float32:
                pairs.mul_(turn)  # a view: turned in place
            else:
                both.copy_(torch.view_as_real(pairs * turn).flatten(-2))
        return y[:, :heads], y[:, heads:].unflatten(1, (2, kv_heads))

    def feed(self, x: Tensor) -> Tensor:
        """Rows after the feed-forward."""
        return _add(x, self.narrow, self.kernels.gate(self.wide(self.kernels.norm(x, self.norm2, self.least))))


def _pack(weights: Sequence[nn.Parameter]) -> Tensor:
    """Lay embeddings [n_i, D] in one table with a row of zeros at its end; the parameters become views of it."""
    first = weights[0]
    end = first.data_ptr()
    storage = first.untyped_storage()
    for weight in weights:
        if weight.data_ptr() != end or weight.untyped_storage().data_ptr() != storage.data_ptr():
            break
        end += weight.numel() * weight.element_size()
    else:  # packed before
        rows = sum(len(w) for w in weights) + 1
        if storage.nbytes() == rows * first.shape[1] * first.element_size():
            return first.data.as_strided((rows, first.shape[1]), (first.shape[1], 1))
    with torch.no_grad():
        table = torch.cat([*(w.data for w in weights), first.data.new_zeros(1, first.shape[1])])
        begin = 0
        for weight in weights:
            weight.data = table[begin : begin + len(weight)]
            begin += len(weight)
    return table


def _add(x: Tensor, layer: nn.Module, y: Tensor) -> Tensor:
    """x [N, D] plus a layer of y [N, E]; in one product where the layer is a plain one."""
    if type(layer) is nn.Linear:
        return torch.addmm(x, y, layer.weight.t())
    return x + layer(y)  # type: ignore[no-any-return]


def _turn(steps: Tensor, rates: Tensor) -> Tensor:
    """Rotation of each step [N] as complex numbers [N, head // 2]."""
    angles = steps[:, None].float() * rates
    return torch.polar(torch.ones_like(angles), angles)
