"""Names of a codec's weights on disk: Kyutai's, older ones of Kyutai's, and transformers'.

Matched: moshi 0.2.13 (load hooks of modules/transformer.py and quantization/core_vq.py) and transformers 5.23
(MimiModel, whose files have kept one flat list of names), whose rotary positions turn halves of a head in place of
neighbours: its rows of queries and keys stand in another order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor

FUSED = "self_attn.in_projs.0.weight"
OLDER = {
    "self_attn.in_proj_weight": FUSED,
    "self_attn.in_proj.weight": FUSED,
    "self_attn.out_proj.weight": "self_attn.out_projs.0.weight",
    "_codebook.inited": "_codebook._initialized",
    "_codebook.cluster_size": "_codebook.cluster_usage",
    "_codebook.embed_sum": "_codebook.embedding_sum",
    "_codebook.embed_avg": "_codebook.embedding_sum",
}
"""How names in older files end, and how they end now."""
TRANSFORMERS = {
    "convtr.convtr.convtr.": "conv.",
    "conv.conv.conv.": "conv.",
    "convtr.convtr.": "conv.",
    "conv.conv.": "conv.",
    "coder.model.": "coder.layers.",
    "coder_transformer.transformer.": "coder_transformer.",
    "quantizer.rvq_first.": "quantizer.semantic_residual_vector_quantizer.",
    "quantizer.rvq_rest.": "quantizer.acoustic_residual_vector_quantizer.",
    "quantizer.vq.": "quantizer.",
    "._codebook.": ".codebook.",
    ".embedding_sum": ".embed_sum",
    "._initialized": ".initialized",
    ".norm1.": ".input_layernorm.",
    ".norm2.": ".post_attention_layernorm.",
    ".linear1.": ".mlp.fc1.",
    ".linear2.": ".mlp.fc2.",
    ".layer_scale_1.": ".self_attn_layer_scale.",
    ".layer_scale_2.": ".mlp_layer_scale.",
    ".out_projs.0.": ".o_proj.",
}
"""Parts of our names, and of transformers', to be put in their place in this order."""


def names_on_disk(own: Iterable[str], found: Collection[str]) -> dict[str, tuple[str, ...]]:
    """For each of the model's names, those in a file that holds `found`: one, or transformers' three of attention."""
    if any(name.endswith(".codebook.embed_sum") for name in found):
        return {name: _transformers_names(name) for name in own}
    here = {_newer(name): name for name in found}
    return {name: (here.get(name, name),) for name in own}


def joined(parts: Sequence[Tensor], heads: int) -> Tensor:
    """The model's tensor of what stands on disk for it."""
    if len(parts) == 1:
        return parts[0]
    queries, keys, values = parts
    return torch.cat((_neighbours(queries, heads), _neighbours(keys, heads), values))


def _newer(name: str) -> str:
    for old, new in OLDER.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _transformers_names(name: str) -> tuple[str, ...]:
    for ours, theirs in TRANSFORMERS.items():
        name = name.replace(ours, theirs)
    if not name.endswith(FUSED):
        return (name,)
    return tuple(name.replace(FUSED, f"self_attn.{part}_proj.weight") for part in "qkv")


def _neighbours(rows: Tensor, heads: int) -> Tensor:
    """Rows [heads * head, D] of which those that turn together are half a head apart, put side by side."""
    return rows.view(heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
