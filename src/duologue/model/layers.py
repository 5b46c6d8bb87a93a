"""Layers of both transformers: norm, rotary positions, attention, gated feed-forward. Names are Kyutai's.

Matched: moshi 0.2.13, modules/{transformer,gating,rope}.py. Shapes: B batch, T steps, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from duologue.codec.rope import rotate, rotation

NORM_EPS = 1e-8


class RMSNorm(nn.Module):
    """Root-mean-square norm computed in float32 ("rms_norm_f32")."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], self.alpha.view(-1).float(), NORM_EPS).to(x.dtype)


class Steps(nn.ModuleList):
    """Linear layers of which each step uses one: `schedule[t]` at step t; a single one serves all steps."""

    def __init__(self, count: int, dim_in: int, dim_out: int) -> None:
        super().__init__(nn.Linear(dim_in, dim_out, bias=False) for _ in range(count))

    def run(self, x: Tensor, schedule: Sequence[int]) -> Tensor:
        """Apply to [B, T, D] with a schedule of at least T entries."""
        return per_step(self, x, schedule)


def per_step(modules: nn.ModuleList, x: Tensor, schedule: Sequence[int]) -> Tensor:
    """Apply to each step of x [B, T, D] the module that the schedule names."""
    if len(modules) == 1:
        return modules[0](x)  # type: ignore[no-any-return]
    return torch.stack([modules[schedule[t]](x[:, t]) for t in range(x.shape[1])], dim=1)


class Attention(nn.Module):
    """Causal self-attention, with grouped heads, rotary positions, a limited context and weights per step."""

    def __init__(
        self, dim: int, heads: int, *, kv_repeat: int, context: int | None, max_period: float | None, sets: int
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads = heads, heads // kv_repeat
        self.context, self.max_period = context, max_period
        head = dim // heads
        self.in_projs = Steps(sets, dim, dim + 2 * head * self.kv_heads)
        self.out_projs = Steps(sets, dim, dim)

    def forward(self, x: Tensor, schedule: Sequence[int]) -> Tensor:
        B, T, D = x.shape
        head = D // self.heads
        projected = self.in_projs.run(x, schedule)
        q, k, v = torch.split(projected, [D, head * self.kv_heads, head * self.kv_heads], dim=-1)
        q = q.view(B, T, self.heads, head).transpose(1, 2)
        k, v = (y.view(B, T, self.kv_heads, head).transpose(1, 2) for y in (k, v))
        if self.max_period is not None:
            turn = rotation(torch.arange(T, device=x.device), head, self.max_period)
            q, k = rotate(q, turn), rotate(k, turn)
        limited = self.context is not None and self.context < T
        mask = causal_mask(T, self.context, x.device) if limited else None
        grouped = self.kv_heads != self.heads
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=not limited, enable_gqa=grouped)
        return self.out_projs.run(y.transpose(1, 2).reshape(B, T, D), schedule)


def causal_mask(T: int, context: int | None, device: torch.device) -> Tensor:
    """What each step may see [T, T]: itself and the `context - 1` steps before."""
    at = torch.arange(T, device=device)
    back = at[:, None] - at
    seen = back >= 0
    return seen if context is None else seen & (back < context)


class Gating(nn.Module):
    """Feed-forward with a SiLU gate: two thirds of the nominal width, twice (Kyutai's rule, 21/8 when it is 4 D)."""

    def __init__(self, dim: int, nominal: int) -> None:
        super().__init__()
        hidden = 21 * dim // 8 if nominal == 4 * dim else 2 * nominal // 3
        self.linear_in = nn.Linear(dim, 2 * hidden, bias=False)
        self.linear_out = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.linear_in(x).chunk(2, dim=-1)
        return self.linear_out(F.silu(gate) * value)  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention and gated feed-forward, each behind a norm and beside a skip. With several sets, weights per step."""

    def __init__(self, dim: int, heads: int, nominal: int, *, kv_repeat: int = 1, context: int | None = None,
                 max_period: float | None = None, sets: int | None = None) -> None:  # fmt: skip
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(dim), RMSNorm(dim)
        self.self_attn = Attention(
            dim, heads, kv_repeat=kv_repeat, context=context, max_period=max_period, sets=sets or 1
        )
        self.gating: nn.Module = Gating(dim, nominal)
        if sets is not None:
            self.gating = nn.ModuleList(Gating(dim, nominal) for _ in range(sets))

    def forward(self, x: Tensor, schedule: Sequence[int] = ()) -> Tensor:
        x = x + self.self_attn(self.norm1(x), schedule)
        y = self.norm2(x)
        fed = per_step(self.gating, y, schedule) if isinstance(self.gating, nn.ModuleList) else self.gating(y)
        return x + fed


class Transformer(nn.Module):
    """A stack of layers."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, schedule: Sequence[int] = (), *, recompute: bool = False) -> Tensor:
        """Run all layers; with `recompute`, keep what goes between them alone, and compute the rest again later."""
        for layer in self.layers:
            x = checkpoint(layer, x, schedule, use_reentrant=False) if recompute else layer(x, schedule)
        return x
