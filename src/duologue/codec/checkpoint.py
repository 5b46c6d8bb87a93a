"""Codecs on disk: Kyutai's file and transformers' folder read, and files that moshi's loader reads written.

Names on disk are Kyutai's, which are the model's own, or transformers' (`codec.names`); the file says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from duologue.base.compute import pick_device
from duologue.base.config import from_dict, to_dict
from duologue.base.errors import UserError
from duologue.base.files import read_json, write_json
from duologue.codec.config import MimiConfig, from_kyutai, from_transformers, to_kyutai
from duologue.codec.interface import Codec
from duologue.codec.layout import lay_out
from duologue.codec.mimi import Mimi
from duologue.codec.names import joined, names_on_disk
from duologue.codec.spectral import SpectralCodec, SpectralConfig
from duologue.codec.split import SplitCodec, encodes
from duologue.codec.weights import Shape, in_eight_bits, open_weights, save_tensors

NAME, CONFIG = "mimi.safetensors", "config.json"
SPECTRAL = "spectral"
"""What `architecture` says in the shape of a spectral codec."""
KNOWN = (NAME, "codec.safetensors", "tokenizer-*.safetensors", "mimi*.safetensors", "model.safetensors")
"""What a codec's file is called in a folder whose config.json does not say, in the order of preference."""


def load_codec(
    path: str | Path, *, device: str = "auto", n_codebooks: int | None = None,
    config: MimiConfig | SpectralConfig | None = None,
) -> Codec:  # fmt: skip
    """Load a codec, always in float32.

    Args:
        path: Kyutai's file (tokenizer-e351c8d8-checkpoint125.safetensors), a folder that holds one, a folder of
            transformers' MimiModel (kyutai/mimi), a research package (.pt), or what `save_codec` wrote.
        device: "auto", "cpu", "cuda", "cuda:1".
        n_codebooks: how many codebooks `encode` uses; 8 if None, or all where there are fewer.
        config: the codec's shape. Without it NAME.json beside NAME.safetensors says it, in Kyutai's form, or
            config.json, if it is transformers' or names such a file (mimi_config_name); else it is Kyutai's Mimi.

    Raises:
        UserError: no such file, a broken one, or weights of another shape (the key, what was expected, what was found).
    """
    place = _codec_file(Path(path))
    shape = config or _config_of(place)
    if isinstance(shape, SpectralConfig):
        return _load(SpectralCodec(shape, n_codebooks), place, device)
    return load_mimi(place, device=device, n_codebooks=n_codebooks, config=shape)


def load_mimi(
    path: str | Path, *, device: str = "auto", n_codebooks: int | None = None, config: MimiConfig | None = None
) -> Mimi:
    """`load_codec`, for those who need Mimi itself, such as its training. Arguments and errors are the same."""
    place = _codec_file(Path(path))
    shape = config or _config_of(place)
    if isinstance(shape, SpectralConfig):
        raise UserError("is no Mimi but a spectral codec", place=place, mend="load it with load_codec")
    return _load(Mimi(shape, n_codebooks), place, device)


AnyCodec = TypeVar("AnyCodec", Mimi, SpectralCodec)


def _load(model: AnyCodec, place: Path, device: str) -> AnyCodec:
    files, state = open_weights(place), model.state_dict()
    names = names_on_disk(state, files.shapes) if isinstance(model, Mimi) else {name: (name,) for name in state}
    _check({name: tuple(x.shape) for name, x in state.items()}, names, files.shapes, place)
    heads = model.config.transformer.num_heads if isinstance(model, Mimi) else 1
    for name, parts in names.items():
        state[name].copy_(joined([files.read(part) for part in parts], heads))
    model = model.to(pick_device(device)).eval()
    lay_out(model)
    return model


def save_codec(
    codec: SplitCodec, path: str | Path, dtype: torch.dtype = torch.float32, *, eight_bits: bool = False
) -> Path:
    """Write a codec, atomically: Mimi so that moshi's loaders.get_mimi reads it.

    Args:
        codec: the codec.
        path: a .safetensors file, or a folder, in which it will be mimi.safetensors. Its shape goes into a .json file
            of the same name beside it: what config.json of a model calls mimi_config_name.
        dtype: of the numbers on disk; codebooks, which are sums and counts, stay in float32.
        eight_bits: keep the decoder's matrices in 8 bits. What encodes stays as it is, and so do all codes.

    Returns:
        the file written.
    """
    target = Path(path)
    file = target if target.suffix == ".safetensors" else target / NAME
    state = codec.state_dict()
    kept = {name: x if "_codebook" in name else x.to(dtype) for name, x in state.items()}
    if eight_bits:
        kept |= in_eight_bits({name: x for name, x in kept.items() if not encodes(name)})
    save_tensors(file, kept)
    write_json(file.with_suffix(".json"), describe(codec.shape))
    return file


def describe(shape: object) -> dict[str, Any]:
    """A codec's shape as JSON: Kyutai's form for Mimi. `read_shape` reads it."""
    if isinstance(shape, MimiConfig):
        return to_kyutai(shape)
    assert isinstance(shape, SpectralConfig)
    return {"architecture": SPECTRAL} | to_dict(shape)


def read_shape(path: Path) -> MimiConfig | SpectralConfig:
    """The shape of a codec in a JSON file. Errors: UserError, a field that no codec has, or a value it cannot have."""
    values = _object(path, required=True)
    if values.get("architecture") != SPECTRAL:
        return from_kyutai(values, path)
    return from_dict(SpectralConfig, {k: v for k, v in values.items() if k != "architecture"}, place=path)


def _codec_file(place: Path) -> Path:
    """The codec's file: the path itself, or what its folder holds."""
    if place.is_file():
        return place
    if not place.is_dir():
        raise UserError("no such file", place=place, mend="name the codec's .safetensors file, or its folder")
    named = _object(place / CONFIG).get("mimi_name")
    if isinstance(named, str) and (place / named).is_file():
        return place / named
    for pattern in KNOWN:
        for file in sorted(place.glob(pattern)):
            if pattern != "model.safetensors" or _is_transformers(place / CONFIG):
                return file
    raise UserError("holds no codec that is known", place=place, mend="name the codec's .safetensors file itself")


def _config_of(file: Path) -> MimiConfig | SpectralConfig:
    """The shape of the codec in a file, by the JSON beside it."""
    own, beside = file.with_suffix(".json"), file.with_name(CONFIG)
    if own != beside and own.is_file():
        return read_shape(own)
    values = _object(beside)
    if _is_transformers(beside):
        return from_transformers(values, beside)
    named = values.get("mimi_config_name")
    if isinstance(named, str) and values.get("mimi_name") == file.name:
        return read_shape(file.with_name(named))
    return MimiConfig()


def _is_transformers(config: Path) -> bool:
    return _object(config).get("model_type") == "mimi"


def _object(path: Path, *, required: bool = False) -> dict[str, Any]:
    """The object in a JSON file; nothing if there is no file, unless one is required."""
    if not path.is_file() and not required:
        return {}
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError("is not an object", place=path, mend="take the file that came with the weights")
    return values


def _check(
    expected: Mapping[str, Shape], names: Mapping[str, tuple[str, ...]], found: Mapping[str, Shape], place: Path
) -> None:
    mend = f"is it Mimi? If of another shape, put that into {place.with_suffix('.json').name} beside it"
    missing = [part for parts in names.values() for part in parts if part not in found]
    if missing:
        raise UserError(f"lacks {missing[0]} ({len(missing)} in all)", place=place, mend=mend)
    for name, parts in names.items():
        rows, *rest = expected[name]
        shape = (rows // len(parts), *rest)
        for part in parts:
            if found[part] != shape:
                raise UserError(f"{part} is {list(found[part])}, not {list(shape)}", place=place, mend=mend)
    strange = found.keys() - {part for parts in names.values() for part in parts}
    if strange:
        raise UserError(f"holds {min(strange)}, which this codec has not", place=place, mend=mend)
