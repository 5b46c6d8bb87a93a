"""Read a text model in Hugging Face's format: what it is, and its tensors one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from duologue.base.errors import UserError
from duologue.base.files import read_json
from duologue.codec.weights import WeightFiles, open_weights

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
KINDS = ("llama", "mistral", "qwen2", "helium")
"""Values of `model_type` whose computation is the temporal transformer's."""
HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShape:
    """A text model's shape, by the names of this package."""

    dim: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int
    theta: float
    epsilon: float
    window: int | None
    interleaved: bool
    """Whether rotary positions turn neighbouring entries (Helium) or halves of a head (all others)."""
    bos: int | None
    tied: bool
    """Whether the output layer may be missing: the embedding is used then."""


@dataclass(frozen=True, slots=True)
class TextSource:
    """A text model on disk."""

    folder: Path
    shape: TextShape
    weights: WeightFiles

    @property
    def tied(self) -> bool:
        """Whether the output layer is the embedding."""
        return HEAD not in self.weights.shapes

    def take(self, name: str) -> Tensor:
        """Read one tensor, in float32."""
        return self.weights.read(name, dtype=torch.float32)


def open_text_source(folder: str | Path) -> TextSource:
    """Look at a text model, without reading its weights.

    Raises:
        UserError: no such model; or one with parts that the temporal transformer has not: another kind, biases, scaled
            or partial rotary positions, another activation, heads wider than dim / heads, layers of several windows.
    """
    place = Path(folder)
    shape = _read_shape(place / "config.json")
    weights = open_weights(place / INDEX if (place / INDEX).is_file() else place / WEIGHTS)
    expected, found = _expected(shape), weights.shapes
    if HEAD not in found and shape.tied:
        del expected[HEAD]
    for name in sorted(expected.keys() - found.keys())[:1]:
        raise UserError(f"lacks {name}", place=place, mend="use a whole model with its output layer, as ForCausalLM")
    strange = sorted(name for name in found.keys() - expected.keys() if not name.endswith("rotary_emb.inv_freq"))
    for name in strange[:1]:
        raise UserError(f"holds {name}, which has no place here", place=place, mend="use a model without it")
    for name, size in expected.items():
        if found[name] != size:
            problem = f"{name} is {list(found[name])}, not {list(size)}"
            raise UserError(problem, place=place, mend="is config.json of this model?")
    return TextSource(place, shape, weights)


def _read_shape(place: Path) -> TextShape:
    values = read_json(place)
    if not isinstance(values, dict):
        raise UserError("is not an object", place=place, mend="take the file that came with the weights")
    kind = values.get("model_type")
    if kind not in KINDS:
        raise UserError(f"model_type {kind!r} is not supported", place=place, mend=f"use one of {', '.join(KINDS)}")
    dim, heads = _whole(values, "hidden_size", place), _whole(values, "num_attention_heads", place)
    kv_heads = heads if values.get("num_key_value_heads") is None else _whole(values, "num_key_value_heads", place)
    if dim % heads or heads % kv_heads:
        raise UserError(f"{dim} / {heads} / {kv_heads} do not divide", place=f"{place}, num_attention_heads")
    only = {"head_dim": dim // heads, "hidden_act": "silu", "partial_rotary_factor": 1.0}
    rotary = _rotary(values)
    for name, value in only.items():
        found = values.get(name, rotary.get(name))
        if found is not None and found != value:
            raise UserError(f"{name} = {found!r} is not supported", place=place, mend=f"only {value!r} is")
    return TextShape(
        dim=dim,
        layers=_whole(values, "num_hidden_layers", place),
        heads=heads,
        kv_heads=kv_heads,
        hidden=_whole(values, "intermediate_size", place),
        vocabulary=_whole(values, "vocab_size", place),
        theta=_theta(rotary, kind, place),
        epsilon=_number(values, "rms_norm_eps", place),
        window=_window(values, kind, place),
        interleaved=kind == "helium",
        bos=values["bos_token_id"] if isinstance(values.get("bos_token_id"), int) else None,
        tied=values.get("tie_word_embeddings") is not False,
    )


def _rotary(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the rotary positions, wherever this age of the format keeps them."""
    top = {"rope_theta": values["rope_theta"]} if "rope_theta" in values else {}
    return top | (values.get("rope_scaling") or {}) | (values.get("rope_parameters") or {})


def _theta(rotary: Mapping[str, Any], kind: str, place: Path) -> float:
    scaling = rotary.get("rope_type", rotary.get("type", "default"))
    if scaling != "default":
        mend = "use a model with default rotary positions"
        raise UserError(f"rotary positions scaled by {scaling!r} are not supported", place=place, mend=mend)
    # The first Llama's config.json does not say what it has.
    return 10000.0 if kind == "llama" and "rope_theta" not in rotary else _number(rotary, "rope_theta", place)


def _window(values: Mapping[str, Any], kind: str, place: Path) -> int | None:
    """Steps that each layer sees, itself included; None for all."""
    layers = set(values.get("layer_types") or ())
    if len(layers) > 1 or layers - {"full_attention", "sliding_attention"}:
        found = ", ".join(sorted(layers))
        raise UserError(f"layers of {found} are not supported", place=place, mend="use a model with one kind of layer")
    used = kind == "mistral" or (kind == "qwen2" and values.get("use_sliding_window"))
    if "full_attention" in layers or not used or values.get("sliding_window") is None:
        return None
    return _whole(values, "sliding_window", place)


def _whole(values: Mapping[str, Any], name: str, place: Path) -> int:
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{name} = {value!r} is no whole number above 0", place=place)
    return value


def _number(values: Mapping[str, Any], name: str, place: Path) -> float:
    value = values.get(name)
    if not isinstance(value, (int, float)) or not value > 0:
        raise UserError(f"{name} = {value!r} is no number above 0", place=place)
    return float(value)


def _expected(shape: TextShape) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of such a text model."""
    D, H, V = shape.dim, shape.hidden, shape.vocabulary
    groups = D // shape.heads * shape.kv_heads
    of_layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (D,), "post_attention_layernorm": (D,), "self_attn.q_proj": (D, D),
        "self_attn.k_proj": (groups, D), "self_attn.v_proj": (groups, D), "self_attn.o_proj": (D, D),
        "mlp.gate_proj": (H, D), "mlp.up_proj": (H, D), "mlp.down_proj": (D, H),
    }  # fmt: skip
    whole: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,), HEAD: (V, D)}
    return whole | {
        f"model.layers.{i}.{name}.weight": size for i in range(shape.layers) for name, size in of_layer.items()
    }
