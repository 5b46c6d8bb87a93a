"""Weights on disk, read one tensor at a time: a safetensors file, several with an index, or a research package.

A model of 15 GB is then loaded with little more than 15 GB of memory: tensors are either the mapped file itself, or
copies after each of which the file's pages are let go. Nothing but headers is read before shapes have been compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from duologue.base.errors import UserError
from duologue.base.files import atomic_path, read_json

INDEX = ".index.json"
"""How the name of a list of several files ends, as Hugging Face writes it."""
RESEARCH_KEYS = (("fsdp_best_state", "model"), ("model",))
"""Where research packages (.pt) keep the weights."""
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""Number formats under their names in a safetensors file."""
ROW_SCALE = ".row_scale"
"""What the name of a matrix in 8 bits has behind it for the tensor that holds a factor for each of its rows."""
LEVELS = 127
SMALLEST = 4096
"""Numbers that a matrix must have to be kept in 8 bits."""
Shape = tuple[int, ...]
Rows = tuple[int, int]


class WeightFiles:
    """Tensors of one checkpoint. `shapes` and `dtypes` say which there are; `read` gives one of them."""

    def __init__(self, files: Mapping[str, Path], held: Mapping[str, Tensor]) -> None:
        self._files, self._held = files, held
        self._mapped: dict[Path, Any] = {}
        self.shapes: dict[str, Shape] = {name: tuple(x.shape) for name, x in held.items()}
        self.dtypes: dict[str, torch.dtype | None] = {name: x.dtype for name, x in held.items()}

    def read(
        self,
        name: str,
        *,
        rows: Rows | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        mapped: bool = False,
    ) -> Tensor:
        """A tensor, or the rows [start, stop) of it; as it is on disk where nothing else is asked for.

        It has memory of its own, unless it may be `mapped` and needs no conversion: then it is the file's pages, read
        when they are first used and shared by all processes. Writing to it changes no file; but the file must not be
        overwritten in place (replacing or removing it does no harm).
        """
        if name in self._held:
            held = self._held[name] if rows is None else self._held[name][slice(*rows)]
            return held.to(device, dtype, copy=True)
        path = self._files[name]
        if name + ROW_SCALE in self._files:
            with _opened(path) as file, _opened(self._files[name + ROW_SCALE]) as other:
                whole = _taken(file, name, rows).float()
                scale = _taken(other, name + ROW_SCALE, rows).float()
            return (whole * scale.view(-1, *[1] * (whole.dim() - 1))).to(device, dtype)
        if mapped and (device is None or device.type == "cpu") and dtype in (None, self.dtypes[name]):
            if path not in self._mapped:
                self._mapped[path] = _opened(path)
            return _taken(self._mapped[path], name, rows)
        # The file is opened anew for each tensor: what a mapping has read counts as memory until it is closed.
        with _opened(path) as file:
            return _taken(file, name, rows).to(device, dtype, copy=True)


def open_weights(path: Path) -> WeightFiles:
    """Look into a .safetensors file, a .safetensors.index.json, or a research package (.pt), which is not run.

    Raises:
        UserError: no such file, one that is cut short or of another kind, or a package that holds more than plain data.
    """
    if not path.is_file():
        raise UserError("no such file", place=path, mend="name a folder with model.safetensors, or the file itself")
    if path.suffix == ".pt":
        return WeightFiles({}, _read_package(path))
    files: dict[str, Path] = {}
    weights = WeightFiles(files, {})
    names = shards(path) if path.name.endswith(INDEX) else [path.name]
    for part in (path.with_name(name) for name in names):
        with _opened(part) as file:
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                found = file.get_slice(name)
                weights.shapes[name], weights.dtypes[name] = tuple(found.get_shape()), DTYPES.get(found.get_dtype())
                files[name] = part
    for name in [x for x in weights.shapes if x.endswith(ROW_SCALE)]:  # of matrices in 8 bits: `read` puts it in
        del weights.shapes[name], weights.dtypes[name]
    return weights


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a file at once. Errors: as `open_weights`."""
    weights = open_weights(path)
    return {name: weights.read(name) for name in weights.shapes}


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as one safetensors file, atomically."""
    described = {name: (tuple(x.shape), x.dtype) for name, x in tensors.items()}
    with atomic_path(path) as aside:
        write_tensors(aside, described, lambda name: (tensors[name],), metadata)


def in_eight_bits(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with the matrices among them in 8 bits, and a factor for each row: what `read` turns back."""
    kept: dict[str, Tensor] = {}
    for name, x in tensors.items():
        if x.dim() < 2 or x.numel() < SMALLEST or not x.is_floating_point():
            kept[name] = x
            continue
        levels, kept[name + ROW_SCALE] = rows_in_eight_bits(x.flatten(1))
        kept[name] = levels.view(x.shape)
    return kept


def rows_in_eight_bits(x: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix as whole numbers int8 [rows, n] and a factor for each row, float32 [rows]: symmetric, to the nearest."""
    full = x.detach().float()
    scale = full.abs().amax(1).clamp(min=1e-12) / LEVELS
    return (full / scale[:, None]).round().to(torch.int8), scale


def write_tensors(
    path: Path,
    described: Mapping[str, tuple[Shape, torch.dtype]],
    pieces: Callable[[str], Iterable[Tensor]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file tensor by tensor; nothing but the piece at hand is held.

    Args:
        path: the file.
        described: shape and format of each tensor.
        pieces: gives a tensor by its name, in one or more pieces along its first dimension; they are converted.
        metadata: texts to go into the header.
    """
    codes = {dtype: code for code, dtype in DTYPES.items()}
    # Wider formats come first, so that each tensor lies at a multiple of its own width.
    order = sorted(described, key=lambda name: -described[name][1].itemsize)
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name in order:
        shape, dtype = described[name]
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": codes[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            for piece in pieces(name):
                data = piece.detach().to("cpu", described[name][1]).contiguous().view(-1)
                file.write(data.view(torch.uint8).numpy().data)
        if file.tell() != 8 + len(text) + end:
            raise ValueError(f"the pieces make {file.tell() - 8 - len(text)} bytes, not {end}")


def shards(index: Path) -> list[str]:
    """The files that an index names; they lie beside it. Errors: UserError, it names none, or one elsewhere."""
    values = read_json(index)
    names = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(names, dict) or not names:
        raise UserError("has no weight_map", place=index, mend="take the file that came with the weights")
    files = sorted({str(name) for name in names.values()})
    outside = [name for name in files if Path(name).name != name]
    if outside:
        raise UserError(f"names {outside[0]!r}, which does not lie beside it", place=index, mend="use files beside it")
    return files


def _taken(file: Any, name: str, rows: Rows | None) -> Tensor:
    found: Tensor = file.get_tensor(name) if rows is None else file.get_slice(name)[slice(*rows)]
    return found


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise UserError("no such file", place=path, mend="the index of the weights names it: download it too")
    try:
        return safe_open(str(path), framework="pt")
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
