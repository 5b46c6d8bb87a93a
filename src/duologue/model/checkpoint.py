"""Language-model weights on disk: Kyutai's and NVIDIA's files read unchanged, and files that their loaders read.

Names on disk are the model's own, but for attention: older files (and PersonaPlex's) hold all steps' projections in one
flat tensor, `self_attn.in_proj_weight` and `self_attn.out_proj.weight`; newer ones hold `in_projs.{i}.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from duologue.base.compute import pick_device, pick_dtype
from duologue.base.errors import UserError
from duologue.base.files import atomic_path, read_json, write_json
from duologue.model.config import LMConfig, config_from_kyutai
from duologue.model.lm import DuplexLM

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FLAT = re.compile(r"^(?P<layer>(?:dep|trans)former\.layers\.\d+)\.self_attn\.(?P<side>in|out)_proj[._]weight$")


def load_lm(path: str | Path, *, device: str = "auto", dtype: str = "auto", config: LMConfig | None = None) -> DuplexLM:
    """Load a language model.

    Args:
        path: a folder with model.safetensors (and config.json; without one it is Moshi 7B, as the 2024 repos are), or
            a .safetensors or .pt file, beside which config.json is looked for.
        device: "auto", "cpu", "cuda", "cuda:1".
        dtype: "auto" (float32 on CPU, bfloat16 on CUDA), "fp32", "bf16", "fp16".
        config: the model's shape, instead of config.json.

    Raises:
        UserError: no such file, a broken one, or weights of another shape (the key, what was expected, what was found).
    """
    place = Path(path)
    weights = place / WEIGHTS if place.is_dir() else place
    if not weights.is_file():
        raise UserError("no such file", place=weights, mend=f"name a folder with {WEIGHTS}, or the file itself")
    if config is None:
        beside = weights.with_name(CONFIG)
        config = read_config(beside) if beside.is_file() else LMConfig()
    target = pick_device(device)
    precision = pick_dtype(dtype, target)
    with torch.device("meta"):
        model = DuplexLM(config)
    found = read_weights(weights)
    state = split_names(found, config)
    _check(model, state, weights)
    model.load_state_dict({k: v.to(target, precision) for k, v in state.items()}, assign=True)
    return model


def read_config(path: Path) -> LMConfig:
    """Read config.json. Errors: UserError as `config_from_kyutai`, or not an object."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError("is not an object", place=path, mend="take the file that came with the weights")
    return config_from_kyutai(values, path)


RESEARCH_KEYS = (("fsdp_best_state", "model"), ("model",))
"""Where research packages (.pt) keep the weights."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, or of a research package (.pt), which is read without running any of it.

    Raises:
        UserError: a file that is cut short, of another kind, or a package that holds more than plain data.
    """
    if path.suffix == ".pt":
        return _read_package(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot be read: {error}", place=path, mend="download it again") from None


def _read_package(path: Path) -> dict[str, Tensor]:
    import pickle

    try:
        package = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        problem = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"cannot be read safely: {problem}", place=path, mend="convert it to safetensors") from None
    for keys in RESEARCH_KEYS:
        found = package
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, dict) and found and all(isinstance(x, Tensor) for x in found.values()):
            return found
    raise UserError("holds no weights that are known", place=path, mend="use fsdp_best_state/model, or safetensors")


def split_names(state: Mapping[str, Tensor], config: LMConfig) -> dict[str, Tensor]:
    """Flat attention tensors as one tensor per set of weights; everything else as it is."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = FLAT.match(name)
        if match is None:
            named[name] = tensor
            continue
        deep = match["layer"].startswith("depformer")
        sets = 1 + max(config.depth_schedule) if deep else 1
        if tensor.shape[0] % sets:
            raise UserError(f"{tensor.shape[0]} rows do not divide into {sets} steps", place=name)
        for i, part in enumerate(tensor.chunk(sets)):
            named[f"{match['layer']}.self_attn.{match['side']}_projs.{i}.weight"] = part
    return named


def flat_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names that PersonaPlex's own loader (and moshi's) read: all sets of a projection in one tensor."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = re.match(r"^(.+\.self_attn)\.(in|out)_projs\.(\d+)\.weight$", name)
        if match is None:
            named[name] = tensor
            continue
        flat = f"{match[1]}.in_proj_weight" if match[2] == "in" else f"{match[1]}.out_proj.weight"
        # Sets come in order, as the model lists them.
        named[flat] = torch.cat((named[flat], tensor)) if flat in named else tensor
    return named


def save_lm(model: DuplexLM, folder: Path, *, flat: bool = True) -> None:
    """Write model.safetensors and config.json so that moshi's and PersonaPlex's loaders read them."""
    state = {k: v.detach().contiguous().cpu() for k, v in model.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as aside:
        save_file(flat_names(state) if flat else state, str(aside))
    write_json(folder / CONFIG, kyutai_config(model.config))


def kyutai_config(config: LMConfig) -> dict[str, Any]:
    """The arguments of upstream's LMModel, with what it would leave to its defaults written out."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
    fixed = {
        "causal": True, "norm": "rms_norm_f32", "gating": "silu", "layer_scale": None, "depformer_gating": "silu",
        "depformer_pos_emb": "none", "depformer_layer_scale": None, "depformer_dim_feedforward": config.depth_hidden,
        "depformer_kv_repeat": config.depth_kv_repeat,
    }  # fmt: skip
    return values | fixed


def _check(model: DuplexLM, state: Mapping[str, Tensor], place: Path) -> None:
    expected = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    mend = "is config.json of this model?"
    missing = [name for name in expected if name not in state]
    if missing:
        raise UserError(f"lacks {missing[0]} ({len(missing)} in all)", place=place, mend=mend)
    strange = [name for name in state if name not in expected]
    if strange:
        raise UserError(f"holds {strange[0]}, which this model has not", place=place, mend=mend)
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            found = list(state[name].shape)
            raise UserError(f"{name} is {found}, not {list(shape)}", place=place, mend=mend)
