"""From a name to a language model: which files it has, of what shape it is, its weights, its adapters."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.base.compute import pick_device, pick_dtype
from duologue.base.errors import UserError
from duologue.codec.weights import INDEX, open_weights, shards
from duologue.model.checkpoint import CONFIG, OURS, WEIGHTS, load_weights, read_values
from duologue.model.config import LMConfig, config_from_kyutai
from duologue.model.hub import Source, resolve
from duologue.model.lm import DuplexLM
from duologue.model.lora import fuse_lora
from duologue.model.lora_files import ADAPTERS, USUAL_SCALING, AdapterFile, Adapters, attach_lora, find_lora, read_lora

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
        lora: adapters for it, as `find_lora` names them, over those that config.json names, if any.
        fuse: merge the adapters into the weights, or keep the last ones apart to train on.

    Raises:
        UserError: no such file, a broken one, weights or adapters of another shape, or nothing that can be downloaded.
    """
    file = None if lora is None else find_lora(lora)
    return load_checkpoint(find_checkpoint(resolve(name), config), device=device, dtype=dtype, lora=file, fuse=fuse)


def load_checkpoint(
    checkpoint: Checkpoint, *, device: str, dtype: str, lora: AdapterFile | None = None, fuse: bool = True
) -> DuplexLM:
    """As `load_lm`, for a checkpoint and adapters that have been found."""
    target = pick_device(device)
    files = [file for file in (_named_adapters(checkpoint), lora) if file is not None]
    # Adapters come first: what does not fit is said before 15 GB are loaded.
    adapters = [read_lora(file, checkpoint.config) for file in files]
    model = load_weights(checkpoint.weights, checkpoint.config, device=target, dtype=pick_dtype(dtype, target))
    add_adapters(model, adapters, fuse=fuse)
    return model


def add_adapters(model: DuplexLM, adapters: Sequence[Adapters], *, fuse: bool = True) -> None:
    """Merge adapters into a model one after the other, in place; without `fuse` the last ones stay apart."""
    for number, some in enumerate(adapters, start=1):
        attach_lora(model, some)
        if fuse or number < len(adapters):
            fuse_lora(model)


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


def _weights(source: Source, name: str | None) -> Path:
    """The file that config.json names, else model.safetensors, else the index of several files."""
    if name is not None:
        return source.need(name, mend="moshi_name in config.json names it")
    found = source.find(WEIGHTS) or source.find(WEIGHTS + INDEX)
    if found is not None and found.name.endswith(INDEX) and source.folder is None:
        for part in shards(found):
            source.need(part)
    return found or source.need(WEIGHTS, mend="name a folder that holds it, or the file of weights itself")


def _named_adapters(checkpoint: Checkpoint) -> AdapterFile | None:
    """The adapters of a config.json that says `lora`."""
    values = checkpoint.values
    if not values.get("lora"):
        return None
    path = checkpoint.source.need(values.get("lora_name") or ADAPTERS, mend="config.json says lora")
    return AdapterFile(
        checkpoint.source, path, float(values.get("lora_scaling", USUAL_SCALING)), values.get("lora_rank")
    )


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
