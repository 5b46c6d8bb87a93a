"""Adapters on disk, in Kyutai's format: `lora.safetensors`, and beside it a `config.json` with rank and scaling.

Matched: moshi-finetune, which writes such folders (`checkpoint_N/consolidated`), and moshi 0.2.13's loader, which reads
them (`get_moshi_lm(lora_weights=...)`, `--lora-weight` and `--config-path` of its server). Embeddings that were trained
whole (`ft_embed`) stand in the same file under the model's own names.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from duologue.base.errors import UserError
from duologue.base.files import make_folder, write_json
from duologue.codec.weights import read_weights, save_tensors
from duologue.model.checkpoint import CONFIG, OURS, read_values, split_names
from duologue.model.config import LMConfig, kyutai_config
from duologue.model.hub import Source, resolve
from duologue.model.lm import DuplexLM
from duologue.model.lora import LoRAConfig, LoRALinear, adapted_layers, embeddings, plain_layers, replace_layer

ADAPTERS = "lora.safetensors"
"""The file of adapters in a folder."""
USUAL_SCALING = LoRAConfig().scaling
"""What moshi's loader takes where a config.json does not say it."""
PAIR = re.compile(r"(?P<layer>.+)\.lora_(?P<half>[AB])\.weight")


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """Where adapters lie, and what the config.json beside them says, before they are read."""

    source: Source
    """What they were named by."""
    path: Path
    """The file."""
    scaling: float | None
    """`lora_scaling`; None where nothing says it."""
    rank: int | None
    """`lora_rank`; None where nothing says it."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What duologue.json beside them says: lineage, and modes that they were trained for."""


@dataclass(frozen=True, slots=True)
class Adapters:
    """Adapters of one model, as they were read; every name and shape fits it."""

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    """A [rank, in] and B [out, rank] by layer."""
    tables: Mapping[str, Tensor]
    """Embeddings that were trained whole, by name."""
    scaling: float
    """Factor of B A."""


def save_lora(model: DuplexLM, folder: Path) -> None:
    """Write adapters, with the embeddings that are trained, into a folder that moshi and `--lora` read.

    moshi's loader wants a pair for every linear layer, so a layer without an adapter gets one of zeros.

    Raises:
        UserError: the model has no adapters, or the folder cannot be made.
    """
    layers = adapted_layers(model)
    if not layers:
        raise UserError("the model has no adapters", place=folder, mend="add them with add_lora")
    rank, scaling = next((layer.rank, layer.scaling) for layer in layers.values())
    state: dict[str, Tensor] = {}
    for name, layer in layers.items():
        state |= {f"{name}.lora_A.weight": layer.lora_A.weight, f"{name}.lora_B.weight": layer.lora_B.weight}
    for name, plain in plain_layers(model).items():
        down, up = (rank, plain.in_features), (plain.out_features, rank)
        like = plain.weight
        state |= {f"{name}.lora_A.weight": like.new_zeros(down), f"{name}.lora_B.weight": like.new_zeros(up)}
    state |= {f"{name}.weight": x.weight for name, x in embeddings(model).items() if x.weight.requires_grad}
    make_folder(folder)
    save_tensors(folder / ADAPTERS, {name: x.detach() for name, x in state.items()})
    said = {"lora": True, "lora_rank": rank, "lora_scaling": scaling}
    write_json(folder / CONFIG, kyutai_config(model.config) | said)


def find_lora(name: str | Path) -> AdapterFile:
    """Adapters by their name: a file, a folder that holds lora.safetensors, or owner/name on the Hugging Face hub.

    Raises:
        UserError: no such file, or a config.json beside it that makes no sense.
    """
    source = resolve(name)
    path = source.weights or source.need(ADAPTERS, mend="name a file of adapters, or a folder that holds it")
    config = source.find(CONFIG)
    values = read_values(config, source.find(OURS))
    scaling, rank = values.get("lora_scaling"), values.get("lora_rank")
    for key, value in (("lora_scaling", scaling), ("lora_rank", rank)):
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
        if value is not None and not number:
            raise UserError(f"{key} is {value!r}", place=config or path, mend="take the file that came with them")
    return AdapterFile(
        source, path, None if scaling is None else float(scaling), None if rank is None else int(rank),
        values["duologue"],
    )  # fmt: skip


def read_lora(file: AdapterFile, config: LMConfig) -> Adapters:
    """Read adapters for a model of this shape, also from files with flat attention names; pairs of zeros are left out.

    Without a config.json that tells the scaling it is 2, as in moshi's loader, and a warning says so.

    Raises:
        UserError: no adapters in the file, or those of another model: other layers, other shapes, half of a pair; or
            the config.json beside them tells another rank.
    """
    with torch.device("meta"):
        model = DuplexLM(config)
    place = file.path
    state = split_lora_names(read_weights(place), config)
    halves = {match["layer"] for name in state if (match := PAIR.fullmatch(name))}
    if not halves:
        raise UserError("holds no adapters", place=place, mend="name a file of lora_A and lora_B weights")
    pairs = _pairs(state, halves, plain_layers(model), file)
    tables = {name: x for name, x in state.items() if not PAIR.fullmatch(name)}
    known = {f"{name}.weight": module.weight for name, module in embeddings(model).items()}
    for name, table in tables.items():
        if name not in known:
            raise UserError(f"holds {name}, which is no adapter and no embedding of this model", place=place, mend=MEND)
        _check_shape(name, table, tuple(known[name].shape), place)
    if file.scaling is None:
        warnings.warn(f"{place}: no {CONFIG} tells lora_scaling: taken as {USUAL_SCALING:g}", stacklevel=2)
    scaling = USUAL_SCALING if file.scaling is None else file.scaling
    return Adapters(pairs, {name.removesuffix(".weight"): x for name, x in tables.items()}, scaling)


def attach_lora(model: DuplexLM, adapters: Adapters) -> None:
    """Give a model adapters, in place, and freeze all that is not theirs (`fuse_lora` merges them)."""
    layers, known = plain_layers(model), embeddings(model)
    model.requires_grad_(False)
    for name, halves in adapters.pairs.items():
        layer = layers[name]
        down, up = (x.to(layer.weight, copy=True) for x in halves)
        replace_layer(model, name, LoRALinear(layer, down, up, adapters.scaling))
    for name, table in adapters.tables.items():
        known[name].weight = nn.Parameter(table.to(known[name].weight, copy=True))


def split_lora_names(state: Mapping[str, Tensor], config: LMConfig) -> dict[str, Tensor]:
    """Adapters of flat attention tensors (`in_proj.lora_A.weight`) as one per set of weights, like the weights."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(.+\.self_attn\.(?:in|out)_proj)\.(lora_[AB])\.weight", name)
        if match is None:
            named[name] = tensor
            continue
        for split, part in split_names({f"{match[1]}.weight": tensor}, config).items():
            named[split.replace(".weight", f".{match[2]}.weight")] = part
    return named


MEND = "use the model that they were trained on"


def _pairs(
    state: Mapping[str, Tensor], names: set[str], layers: Mapping[str, nn.Linear], file: AdapterFile
) -> dict[str, tuple[Tensor, Tensor]]:
    """The pairs by layer, checked against the model's layers. Errors: UserError, one does not fit."""
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    rank = file.rank
    for name in sorted(names):
        if name not in layers:
            raise UserError(f"holds an adapter for {name}, which this model has not", place=file.path, mend=MEND)
        keys = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
        for key in keys:
            if key not in state:
                raise UserError(f"lacks {key}, the other half of an adapter", place=file.path, mend="write it again")
        down, up = (state[key] for key in keys)
        if rank is None and down.dim() == 2:
            rank = down.shape[0]
        layer = layers[name]
        _check_shape(keys[0], down, (rank or 0, layer.in_features), file.path)
        _check_shape(keys[1], up, (layer.out_features, rank or 0), file.path)
        if down.any() or up.any():
            pairs[name] = down, up
    return pairs


def _check_shape(name: str, x: Tensor, shape: tuple[int, ...], place: Path) -> None:
    """Errors: UserError, a tensor has another shape."""
    if tuple(x.shape) != shape:
        problem = f"{name} is {list(x.shape)}, not {list(shape)}"
        raise UserError(problem, place=place, mend="use the model, and the config.json, that it was trained with")
