"""Mimi's transformers: causal attention over a limited context, LayerNorm, layer scale, plain GELU feed-forward.

Matched: moshi 0.2.13, modules/transformer.py (ProjectedTransformer in its "conv layout"). Where upstream's ring cache
forgets the oldest keys of a chunk too early, a stream here sees exactly what the whole signal would.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from duologue.codec.rope import rotate, rotation
from duologue.codec.stream import CodecState, Pass


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


class Attention(nn.Module):
    """Causal self-attention over the last `context` steps."""

    def __init__(self, dim: int, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.head = config.num_heads, dim // config.num_heads
        self.context, self.max_period = config.context, config.max_period
        self.in_projs = nn.ModuleList([nn.Linear(dim, 3 * dim, bias=False)])
        self.out_projs = nn.ModuleList([nn.Linear(dim, dim, bias=False)])
        self.name = ""

    def initial(self, batch: int, like: Tensor) -> CodecState:
        """No keys and values yet; `steps` counts how many there have been."""
        empty = like.new_zeros(2, batch, self.heads, self.context - 1, self.head).transpose(0, 1)
        return {self.name: empty, f"{self.name}.steps": torch.zeros(batch, dtype=torch.long, device=like.device)}

    def forward(self, x: Tensor, run: Pass | None = None) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.in_projs[0](x).view(B, T, 3, self.heads, self.head).permute(2, 0, 3, 1, 4)
        steps = run.take(f"{self.name}.steps") if run is not None else torch.zeros(B, dtype=torch.long, device=x.device)
        at = steps[:, None] + torch.arange(T, device=x.device)
        turn = rotation(at, self.head, self.max_period)[:, :, None]
        q, k = rotate(q, turn), rotate(k, turn)
        seen = at
        if run is not None:
            past_k, past_v = run.take(self.name).unbind(1)
            k, v = torch.cat((past_k, k), dim=2), torch.cat((past_v, v), dim=2)
            past = past_k.shape[2]
            seen = steps[:, None] + torch.arange(-past, T, device=x.device)
            run.leave(self.name, torch.stack((k, v), dim=1)[:, :, :, T:])
            run.leave(f"{self.name}.steps", steps + T)
        back = at[:, :, None] - seen[:, None]
        mask = (back >= 0) & (back < self.context) & (seen >= 0)[:, None]
        y = F.scaled_dot_product_attention(q, k, v, mask[:, None])
        return self.out_projs[0](y.transpose(1, 2).reshape(B, T, D))  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    """Per-channel scale of what a layer adds (Touvron et al., arXiv 2103.17239)."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm, scaled, beside a skip."""

    def __init__(self, dim: int, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attn = Attention(dim, config)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, config.dim_feedforward, bias=False)
        self.linear2 = nn.Linear(config.dim_feedforward, dim, bias=False)
        self.layer_scale_1, self.layer_scale_2 = (LayerScale(dim, config.layer_scale) for _ in range(2))

    def forward(self, x: Tensor, run: Pass | None = None) -> Tensor:
        x = x + self.layer_scale_1(self.self_attn(self.norm1(x), run))
        return x + self.layer_scale_2(self.linear2(F.gelu(self.linear1(self.norm2(x)))))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Latent [B, D, T] to latent [B, D, T]. Upstream's names have one more `transformer.` in them."""

    def __init__(self, dim: int, config: TransformerConfig) -> None:
        super().__init__()
        layers = nn.ModuleList(Layer(dim, config) for _ in range(config.num_layers))
        self.transformer = nn.ModuleDict({"layers": layers})

    def forward(self, x: Tensor, run: Pass | None = None) -> Tensor:
        x = x.transpose(1, 2)
        for layer in self.transformer["layers"]:  # type: ignore[attr-defined]
            x = layer(x, run)
        return x.transpose(1, 2)
