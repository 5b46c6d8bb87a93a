"""Mimi's transformers: causal attention over a limited context, LayerNorm, layer scale, plain GELU feed-forward.

Matched: moshi 0.2.13, modules/transformer.py (ProjectedTransformer in its "conv layout"). Where upstream's ring cache
forgets the oldest keys of a chunk too early, a stream here sees exactly what the whole signal would. Positions, masks
and rotations are made once for all layers; long signals attend block by block, so that cost grows with their length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.codec.rope import rotate, rotation
from duologue.codec.stream import CodecState, Pass

BLOCK = 256
"""Most queries of one product with the keys that they see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """Shape of Mimi's transformers."""

    num_layers: int = 8
    """Layers."""
    num_heads: int = 8
    """Attention heads."""
    dim_feedforward: int = 2048
    """Width of the feed-forward."""
    context: int = 250
    """Steps that each step sees, itself included."""
    max_period: float = 10000.0
    """Longest period of the rotary positions."""
    layer_scale: float = 0.01
    """Initial scale of what a layer adds."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some queries of a chunk, the keys that they may see, and which they do see (None: all up to their own)."""

    queries: slice
    keys: slice
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What all layers have in common in one pass."""

    turn: Tensor
    """Rotation [2, B or 1, 1, T, head // 2]."""
    blocks: list[Block]
    slots: Tensor | None = None
    """Where in the ring of keys and values those of the chunk go [B, T]; None without a stream."""
    ring_alone: bool = False
    """Whether the ring has room for the chunk beside all that the chunk sees; if not, keys are joined."""


class Attention(nn.Module):
    """Causal self-attention over the last `context` steps.

    A stream keeps keys and values in a ring with room for `context - 1 + spare` steps; where a step goes, and what a
    slot holds, follows from the number of steps there have been.
    """

    def __init__(self, dim: int, config: TransformerConfig, spare: int) -> None:
        super().__init__()
        self.heads, self.head = config.num_heads, dim // config.num_heads
        self.room = config.context - 1 + spare
        self.in_projs = nn.ModuleList([nn.Linear(dim, 3 * dim, bias=False)])
        self.out_projs = nn.ModuleList([nn.Linear(dim, dim, bias=False)])
        self.name = ""

    def initial(self, batch: int, like: Tensor) -> CodecState:
        """No keys and values yet."""
        return {self.name: like.new_zeros(batch, 2, self.heads, self.room, self.head)}

    def forward(self, x: Tensor, plan: Plan, run: Pass | None = None) -> Tensor:
        B, T, D = x.shape
        qkv = self.in_projs[0](x).view(B, T, 3, self.heads, self.head).permute(2, 0, 3, 1, 4)
        (q, k), v = rotate(qkv[:2], plan.turn), qkv[2]
        if run is not None and plan.slots is not None:
            new, ring = torch.stack((k, v), dim=1), run.take_own(self.name)
            if not plan.ring_alone:
                k, v = torch.cat((ring, new), dim=3).unbind(1)
            _write(ring, plan.slots, new[:, :, :, -self.room :], run.active)
            if plan.ring_alone:
                k, v = ring.unbind(1)
            run.leave_own(self.name, ring)
        parts = [
            F.scaled_dot_product_attention(
                q[:, :, b.queries], k[:, :, b.keys], v[:, :, b.keys], b.mask, is_causal=b.mask is None
            )
            for b in plan.blocks
        ]
        y = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        return self.out_projs[0](y.transpose(1, 2).reshape(B, T, D))  # type: ignore[no-any-return]


def _write(ring: Tensor, slots: Tensor, new: Tensor, active: Tensor | None) -> None:
    """Put new keys and values [B, 2, H, T, head] into their slots [B, T], in active rows."""
    rows, values = torch.arange(len(ring), device=ring.device)[:, None], new.permute(0, 3, 1, 2, 4)
    if active is not None:
        values = torch.where(active[:, None, None, None, None], values, ring[rows, :, :, slots])
    ring[rows, :, :, slots] = values


class LayerScale(nn.Module):
    """Per-channel scale of what a layer adds (Touvron et al., arXiv 2103.17239)."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm, scaled, beside a skip."""

    def __init__(self, dim: int, config: TransformerConfig, spare: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, config, spare)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, config.dim_feedforward, bias=False)
        self.linear2 = nn.Linear(config.dim_feedforward, dim, bias=False)
        self.layer_scale_1, self.layer_scale_2 = (LayerScale(dim, config.layer_scale) for _ in range(2))

    def forward(self, x: Tensor, plan: Plan, run: Pass | None = None) -> Tensor:
        x = x + self.layer_scale_1(self.self_attn(self.norm1(x), plan, run))
        return x + self.layer_scale_2(self.linear2(F.gelu(self.linear1(self.norm2(x)))))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Latent [B, D, T] to latent [B, D, T]. Upstream's names have one more `transformer.` in them.

    A stream is fastest in chunks of up to `spare` steps.
    """

    def __init__(self, dim: int, config: TransformerConfig, spare: int = 1) -> None:
        super().__init__()
        self.context, self.max_period, self.head = config.context, config.max_period, dim // config.num_heads
        self.spare = spare
        layers = nn.ModuleList(Layer(dim, config, spare) for _ in range(config.num_layers))
        self.transformer = nn.ModuleDict({"layers": layers})
        self.name = ""

    def initial(self, batch: int, like: Tensor) -> CodecState:
        """How many steps each row has seen; the layers remember the rest."""
        return {f"{self.name}.steps": torch.zeros(batch, dtype=torch.long, device=like.device)}

    def forward(self, x: Tensor, run: Pass | None = None) -> Tensor:
        steps = torch.zeros(1, dtype=torch.long, device=x.device) if run is None else run.take(f"{self.name}.steps")
        T = x.shape[-1]
        plan = self._plan(steps, T, stream=run is not None)
        if run is not None:
            run.leave(f"{self.name}.steps", steps + T)
        x = x.transpose(1, 2)
        for layer in self.transformer["layers"]:  # type: ignore[attr-defined]
            x = layer(x, plan, run)
        return x.transpose(1, 2)

    def _plan(self, steps: Tensor, T: int, stream: bool) -> Plan:
        """The plan of T steps in rows that have seen `steps` [B] before."""
        at = steps[:, None] + torch.arange(T, device=steps.device)
        turn = rotation(at, self.head, self.max_period)[:, :, None]
        if not stream:
            short = self.context >= T
            return Plan(turn, [Block(slice(None), slice(None), None)] if short else self._blocks(at, at, ring=0))
        room = self.context - 1 + self.spare
        slots, alone = at[:, -room:] % room, self.spare >= T
        # What the slots of the ring hold: the last step that went there, counted with the chunk or without it.
        last = at[:, -1:] if alone else steps[:, None] - 1
        held = last - (last - torch.arange(room, device=steps.device)) % room
        if alone:
            return Plan(turn, self._blocks(at, held, ring=room), slots, ring_alone=True)
        return Plan(turn, self._blocks(at, torch.cat((held, at), dim=1), ring=room), slots)

    def _blocks(self, at: Tensor, seen: Tensor, ring: int) -> list[Block]:
        """Blocks of queries at positions [B, T] over keys at positions `seen`, the first `ring` of them in a ring."""
        blocks = []
        for start in range(0, at.shape[1], BLOCK):
            queries = slice(start, min(start + BLOCK, at.shape[1]))
            # Far enough into a chunk, nothing before it is seen any more.
            first = start - self.context + 1
            keys = slice(ring + first if first > 0 else 0, ring + queries.stop)
            back = at[:, queries, None] - seen[:, None, keys]
            mask = (back >= 0) & (back < self.context) & (seen[:, None, keys] >= 0)
            blocks.append(Block(queries, keys, mask[:, None]))
        return blocks
