"""From a name to a language model: which files it has, of what shape it is, its weights, its adapters."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.base.compute import pick_device, pick_dtype
from duologue.base.errors import UserError
from duologue.codec.weights import INDEX, open_weights, read_weights, shards
from duologue.model.checkpoint import CONFIG, OURS, WEIGHTS, load_weights, read_values
from duologue.model.config import LMConfig, config_from_kyutai
from duologue.model.hub import Source, resolve
from duologue.model.lm import DuplexLM
from duologue.model.lora import LoRAConfig, add_lora, fuse_lora, load_lora, split_lora_names

ADAPTERS = "lora.safetensors"
SHAPE_KEYS = frozenset({"dim", "n_q", "dep_q", "num_layers", "card", "text_card", "delays"})
"""A config.json with none of these says nothing of the model's shape, as PersonaPlex's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a source says of its language model before any weights are read."""

    source: Source
    """Where the files are."""
    values: Mapping[str, Any]
    """config.json, with duologue.json under the key `duologue`."""
    weights: Path
    """The file of weights, or the index of several."""
    config: LMConfig
    """Its shape."""


def load_lm(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    config: LMConfig | None = None,
    lora: str | Path | None = None,
    fuse: bool = True,
) -> DuplexLM:
    """Load a language model.

    Args:
        name: a folder with model.safetensors and config.json, a .safetensors or .pt file beside which config.json is
            looked for, or owner/name[@revision] on the Hugging Face hub. Without a config.json that tells the shape,
            the weights must be Moshi 7B's or PersonaPlex 7B's.
        device: "auto", "cpu", "cuda", "cuda:1".
        dtype: "auto" (float32 on CPU, bfloat16 on CUDA), "fp32", "bf16", "fp16".
        config: the model's shape, instead of config.json.
        lora: a file of adapters for it; if None, those that config.json names, if any.
        fuse: merge the adapters into the weights, or keep them apart to train on.

    Raises:
        UserError: no such file, a broken one, weights or adapters of another shape, or nothing that can be downloaded.
    """
    return load_checkpoint(find_checkpoint(resolve(name), config), device=device, dtype=dtype, lora=lora, fuse=fuse)


def load_checkpoint(
    checkpoint: Checkpoint, *, device: str, dtype: str, lora: str | Path | None = None, fuse: bool = True
) -> DuplexLM:
    """As `load_lm`, for a checkpoint that has been found."""
    target = pick_device(device)
    model = load_weights(checkpoint.weights, checkpoint.config, device=target, dtype=pick_dtype(dtype, target))
    file = Path(lora) if lora is not None else _named_adapters(checkpoint)
    if file is None:
        return model
    attach_lora(model, file, float(checkpoint.values.get("lora_scaling", 2.0)))
    if fuse:
        fuse_lora(model)
    return model


def find_checkpoint(source: Source, config: LMConfig | None = None) -> Checkpoint:
    """Read what a source says of its model, and find its weights.

    Raises:
        UserError: a config.json that is not understood, no weights, or none whose shape is known.
    """
    at, ours = source.find(CONFIG), source.find(OURS)
    values = read_values(at, ours)
    told = bool(SHAPE_KEYS & values.keys())
    place = source.name if at is None else at
    if config is None:  # a model of another kind is refused before 15 GB are downloaded
        kept = values.keys() if told else values.keys() & {"model_type", "tts_config", "duologue"}
        config = config_from_kyutai({k: values[k] for k in kept}, place)
    else:
        told = True
    weights = source.weights or _weights(source, values.get("moshi_name"))
    if not told:
        config = _known_shape(weights, source, "no config.json" if at is None else "a config.json without the shape")
    return Checkpoint(source=source, values=values, weights=weights, config=config)


def attach_lora(model: DuplexLM, file: Path, scaling: float) -> None:
    """Give the model the adapters of a file; their rank and layers are the file's.

    Raises:
        UserError: no such file, or adapters for another model.
    """
    adapters = {k: x for k, x in split_lora_names(read_weights(file), model).items() if k.endswith(".lora_A.weight")}
    names = [k.removesuffix(".lora_A.weight") for k in adapters]
    if not names:
        raise UserError("holds no adapters", place=file, mend="name a file of lora_A and lora_B weights")
    layers = {name for name, _ in model.named_modules()}
    for name in names:
        if name not in layers:
            problem = f"holds an adapter for {name}, which this model has not"
            raise UserError(problem, place=file, mend="use the model that it was trained on")
    rank = next(iter(adapters.values())).shape[0]
    targets = "|".join(re.escape(name) for name in names)
    add_lora(model, LoRAConfig(rank=rank, scaling=scaling, targets=targets))
    load_lora(model, file)


def _weights(source: Source, name: str | None) -> Path:
    """The file that config.json names, else model.safetensors, else the index of several files."""
    if name is not None:
        return source.need(name, mend="moshi_name in config.json names it")
    found = source.find(WEIGHTS) or source.find(WEIGHTS + INDEX)
    if found is not None and found.name.endswith(INDEX) and source.folder is None:
        for part in shards(found):
            source.need(part)
    return found or source.need(WEIGHTS, mend="name a folder that holds it, or the file of weights itself")


def _named_adapters(checkpoint: Checkpoint) -> Path | None:
    """The adapters of a config.json that says `lora`."""
    if not checkpoint.values.get("lora"):
        return None
    return checkpoint.source.need(checkpoint.values.get("lora_name") or ADAPTERS, mend="config.json says lora")


def _known_shape(weights: Path, source: Source, lack: str) -> LMConfig:
    """Tell Moshi 7B from PersonaPlex 7B by the number of codebooks that the file can write."""
    shapes = open_weights(weights).shapes
    steps = sum(re.fullmatch(r"linears\.\d+\.weight", name) is not None for name in shapes)
    kinds = {8: "Moshi 7B", 16: "PersonaPlex 7B"}
    if steps not in kinds or shapes.get("text_emb.weight") != (32001, 4096):
        problem = f"{lack}, and the weights are neither Moshi 7B's nor PersonaPlex 7B's"
        raise UserError(problem, place=weights, mend="put the config.json of the model beside them")
    warnings.warn(f"{source.name}: {lack}: taken for {kinds[steps]} by its weights", stacklevel=2)
    return config_from_kyutai({"dep_q": steps}, source.name)
