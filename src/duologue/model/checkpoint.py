"""Language-model weights on disk: Kyutai's and NVIDIA's files read unchanged, and files that their loaders read.

Names on disk are the model's own, but for attention: older files (and PersonaPlex's) hold all steps' projections in one
flat tensor, `self_attn.in_proj_weight` and `self_attn.out_proj.weight`; newer ones hold `in_projs.{i}.weight`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from duologue.base.errors import UserError
from duologue.base.files import atomic_path, read_json, write_json
from duologue.base.progress import meter, track
from duologue.codec.weights import Rows, Shape, WeightFiles, open_weights, write_tensors
from duologue.codec.weights import read_weights as read_weights
from duologue.model.config import LMConfig, config_from_kyutai, kyutai_config
from duologue.model.lm import DuplexLM

WEIGHTS, CONFIG, OURS = "model.safetensors", "config.json", "duologue.json"
"""Files of a language model. What upstream's loader would not accept in config.json lies in duologue.json beside it."""
FLAT = re.compile(r"^(?P<layer>(?:dep|trans)former\.layers\.\d+)\.self_attn\.(?P<side>in|out)_proj[._]weight$")
STEP = re.compile(
    r"^(?P<group>linears|depformer_in|depformer_emb|depformer\.layers\.\d+\.(?:gating|self_attn\.(?:in|out)_projs))"
    r"\.(?P<step>\d+)\.(?P<rest>.+)$"
)
FLOAT32 = ("condition_provider.", "fuser.")
"""Weights that stay in float32 at any precision, as in upstream's loader."""


class Part(NamedTuple):
    """Where one of the model's tensors lies on disk: under which name, and in which rows (all if None)."""

    name: str
    rows: Rows | None
    shape: Shape


def load_weights(
    path: Path, config: LMConfig, *, device: torch.device, dtype: torch.dtype, mapped: bool = True
) -> DuplexLM:
    """Load a language model of a known shape from a file of weights, tensor by tensor.

    A file with half of the depth weights that the config asks for is accepted, as PersonaPlex's own loader does: the
    other half is copied (a Moshi file starts a PersonaPlex), and a warning says so.

    Args:
        path: the file, or the index of several.
        config: the model's shape.
        device: where the weights go.
        dtype: their number format.
        mapped: on the CPU, let weights that need no conversion be the file's own pages, which processes share.

    Raises:
        UserError: no such file, a broken one, or weights of another shape (the key, what was expected, what was found).
    """
    with torch.device("meta"):
        model = DuplexLM(config)
    weights = open_weights(path)
    parts = plan(model, weights, path)
    state: dict[str, Tensor] = {}
    for name, shape in track(_shapes(model).items(), "reading weights"):
        precision = torch.float32 if name.startswith(FLOAT32) else dtype
        part = parts.get(name)
        if part is None:  # what the copied half of the depth weights has no model for: it starts as "absent"
            state[name] = torch.zeros(shape, device=device, dtype=precision)
        else:
            state[name] = weights.read(part.name, rows=part.rows, device=device, dtype=precision, mapped=mapped)
    model.load_state_dict(state, assign=True)
    return model


def plan(model: DuplexLM, weights: WeightFiles, place: Path) -> dict[str, Part]:
    """Find each of the model's tensors in a checkpoint and compare all shapes, without reading any weights.

    Raises:
        UserError: one is missing, unknown, or of another shape.
    """
    expected, config = _shapes(model), model.config
    found = sum(re.fullmatch(r"linears\.\d+\.weight", name) is not None for name in weights.shapes)
    half = found > 0 and config.dep_q == 2 * found and config.depth_schedule == tuple(range(config.dep_q))
    sets = found if half else 1 + max(config.depth_schedule, default=0)
    parts = locate(weights.shapes, sets)
    if half:
        parts = _second_half(parts, expected, found)
        warnings.warn(
            f"{place}: has the depth weights of {found} codebooks of {config.dep_q}; the others are copies of them",
            stacklevel=2,
        )
    _check(expected, parts, weights.shapes, place, absent={f"depformer_emb.{found - 1}.weight"} if half else set())
    return parts


def locate(shapes: Mapping[str, Shape], sets: int) -> dict[str, Part]:
    """The model's names for the tensors of a checkpoint: flat attention tensors are one for each set of weights.

    Args:
        shapes: of the tensors on disk.
        sets: sets of weights of the depth transformer.

    Raises:
        UserError: the rows of a flat tensor do not divide.
    """
    parts: dict[str, Part] = {}
    for name, shape in shapes.items():
        match = FLAT.match(name)
        if match is None:
            parts[name] = Part(name, None, shape)
            continue
        count = sets if match["layer"].startswith("depformer") else 1
        rows, rest = divmod(shape[0], count)
        if rest:
            raise UserError(f"{shape[0]} rows do not divide into {count} steps", place=name)
        for i in range(count):
            own = f"{match['layer']}.self_attn.{match['side']}_projs.{i}.weight"
            parts[own] = Part(name, (i * rows, (i + 1) * rows), (rows, *shape[1:]))
    return parts


def split_names(state: Mapping[str, Tensor], config: LMConfig) -> dict[str, Tensor]:
    """Flat attention tensors as one tensor per set of weights; everything else as it is."""
    parts = locate({k: tuple(x.shape) for k, x in state.items()}, 1 + max(config.depth_schedule, default=0))
    return {own: state[p.name] if p.rows is None else state[p.name][slice(*p.rows)] for own, p in parts.items()}


def flat_name(name: str) -> str:
    """The name under which PersonaPlex's own loader (and moshi's) read a tensor: all sets of a projection are one."""
    match = re.match(r"^(.+\.self_attn)\.(in|out)_projs\.\d+\.weight$", name)
    if match is None:
        return name
    return f"{match[1]}.{'in_proj_weight' if match[2] == 'in' else 'out_proj.weight'}"


class Weight(NamedTuple):
    """A tensor to be written, made when its turn comes: no two of them need be in memory."""

    shape: Shape
    dtype: torch.dtype
    read: Callable[[], Tensor]


def weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Weight]:
    """Tensors that are there, to be written."""
    return {name: Weight(tuple(x.shape), x.dtype, lambda x=x: x) for name, x in tensors.items()}  # type: ignore[misc]


def save_lm(model: DuplexLM, folder: Path, *, flat: bool = True, dtype: torch.dtype | None = None) -> None:
    """Write model.safetensors and config.json so that moshi's and PersonaPlex's loaders read them, and duologue.json.

    Args:
        model: without adapters (`lora.fuse_lora` merges them).
        folder: where the files go.
        flat: attention under the names that all loaders read; otherwise one tensor for each set.
        dtype: of the weights on disk; the model's own if None.
    """
    save_weights(folder / WEIGHTS, weights_of(model.state_dict()), flat=flat, dtype=dtype)
    write_json(folder / CONFIG, kyutai_config(model.config))
    write_json(folder / OURS, own_config(model.config))


def save_weights(
    path: Path, weights: Mapping[str, Weight], *, flat: bool = True, dtype: torch.dtype | None = None
) -> None:
    """Write the weights of a language model, tensor by tensor, atomically; as `save_lm`.

    Args:
        path: the file.
        weights: by the model's own names, in its order.
        flat: attention under the names that all loaders read; otherwise one tensor for each set.
        dtype: of the weights on disk; their own if None.
    """
    sets: dict[str, list[Weight]] = {}
    for name, x in weights.items():
        sets.setdefault(flat_name(name) if flat else name, []).append(x)  # sets come in order, as the model lists them
    described = {}
    for name, found in sets.items():
        shape = found[0].shape if len(found) == 1 else (sum(x.shape[0] for x in found), *found[0].shape[1:])
        precision = found[0].dtype if dtype is None or name.startswith(FLOAT32) else dtype
        described[name] = (tuple(shape), precision)
    with atomic_path(path) as aside, meter("writing weights", len(described)) as line:

        def pieces(name: str) -> Iterator[Tensor]:
            line.advance()
            return (weight.read() for weight in sets[name])

        write_tensors(aside, described, pieces)


def own_config(config: LMConfig) -> dict[str, Any]:
    """What duologue.json says of the model: upstream's loader knows no place for it."""
    return {"user_lag": config.user_lag}


def read_config(path: Path) -> LMConfig:
    """Read config.json, and duologue.json beside it. Errors: UserError as `config_from_kyutai`, or not an object."""
    return config_from_kyutai(read_values(path, path.with_name(OURS)), path)


def read_values(config: Path | None, ours: Path | None) -> dict[str, Any]:
    """What config.json says, with what duologue.json says under the key `duologue`; {} where there are no files.

    Raises:
        UserError: not JSON, or not an object.
    """
    found: list[dict[str, Any]] = []
    for path in (config, ours):
        values = read_json(path) if path is not None and path.is_file() else {}
        if not isinstance(values, dict):
            raise UserError("is not an object", place=path or "", mend="take the file that came with the weights")
        found.append(values)
    return found[0] | {"duologue": (found[0].get("duologue") or {}) | found[1]}


def _shapes(model: DuplexLM) -> dict[str, Shape]:
    return {name: tuple(x.shape) for name, x in model.state_dict().items()}


def _second_half(parts: Mapping[str, Part], expected: Mapping[str, Shape], half: int) -> dict[str, Part]:
    """Give each missing depth weight of step i >= half the one of step i - half."""
    filled = dict(parts)
    for name in expected:
        match = STEP.match(name)
        if match is None or name in parts or int(match["step"]) < half:
            continue
        twin = f"{match['group']}.{int(match['step']) - half}.{match['rest']}"
        if twin in parts:
            filled[name] = parts[twin]
    return filled


def _check(
    expected: Mapping[str, Shape], parts: Mapping[str, Part], disk: Mapping[str, Shape], place: Path, absent: set[str]
) -> None:
    mend = "is config.json of this model?"
    missing = [name for name in expected if name not in parts and name not in absent]
    if missing:
        raise UserError(f"lacks {missing[0]} ({len(missing)} in all)", place=place, mend=mend)
    strange = [name for name in parts if name not in expected]
    if strange:
        raise UserError(f"holds {strange[0]}, which this model has not", place=place, mend=mend)
    for name, shape in expected.items():
        part = parts.get(name)
        if part is None or part.shape == shape:
            continue
        found = disk[part.name]
        count = found[0] // part.shape[0] if part.shape else 1
        wanted = [count * shape[0], *shape[1:]]
        raise UserError(f"{part.name} is {list(found)}, not {wanted}", place=place, mend=mend)
