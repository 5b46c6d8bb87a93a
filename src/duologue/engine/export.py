"""`duologue export`: a model as a folder that Moshi's, PersonaPlex's and our own loaders read."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from duologue.codec.interface import Codec
    from duologue.engine.bundle import Bundle
    from duologue.engine.modes import Modes
    from duologue.model.load import Checkpoint

CARD = "README.md"
EARS = ("config.json", "duologue.json", "model.safetensors")
"""Files of a model that transcribes for another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """Write a model as a folder: merged weights under the names that upstream's loaders read, config, model card."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A folder, owner/name on the Hugging Face hub, or random:PRESET@SEED."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FOLDER")]
    """The folder to write; it must be new or empty."""
    dtype: Literal["same", "fp32", "bf16", "fp16", "int8"] = "same"
    """Number format of the language model on disk; same: as in the source; int8: matrices in 8 bits with a factor for
    each row, which only Duologue reads, and turns back to run it."""
    lora: Path | None = None
    """A file of adapters to merge into the weights, besides any that the source names itself."""
    codec: bool = True
    """Also write the codec."""
    codec_file: Path | None = None
    """Another codec instead, with the same codes: one whose decoder was trained on (duologue train codec)."""
    codec_dtype: Literal["fp32", "fp16", "int8"] = "fp32"
    """Number format of the codec on disk; it always runs in fp32. Other than fp32 only for codecs that are not Mimi.
    int8: the decoder's matrices in 8 bits, all else in fp16, so that codes stay as they are in fp16."""
    transcribe: Path | None = None
    """A model that writes down what it hears, from the same codec's codes and with the same tokenizer, to go along and
    transcribe for this one."""
    sampling: Path | None = None
    """JSON with how it is sampled from by default, as Kyutai's lm_gen_config: temp, temp_text, top_k, top_k_text;
    cfg_coef with cfg_is_no_text."""
    voices: bool = True
    """Also copy the voices that come with the model."""
    force: bool = False
    """Replace a folder that an earlier export wrote."""
    json: Path | None = None
    """Also write what was written, and from what, as JSON to this file."""


def main(config: ExportConfig) -> int:
    """Write a model as a folder."""
    _check_target(config.out, force=config.force)
    from duologue.engine.bundle import find, load

    kept = source_format(find(config.source)) if config.dtype == "same" else config.dtype
    precision = "fp32" if kept == "int8" else kept
    bundle = load(config.source, device="cpu", dtype=precision, codec=config.codec, lora=config.lora)
    bundle = _changed(bundle, config)
    written = export(
        bundle, config.out, voices=config.voices, force=config.force, codec_dtype=config.codec_dtype,
        eight_bits=kept == "int8",
    )  # fmt: skip
    parameters = sum(x.numel() for x in bundle.lm.parameters())
    if config.json is not None:
        from duologue.base.files import write_json

        made = {"source": config.source, "folder": str(config.out), "dtype": kept, "parameters": parameters}
        write_json(config.json, {**made, "lineage": bundle.config.lineage, "files": written})
    total = sum(written.values())
    print(f"{config.out}: {parameters:,} parameters in {kept}, {total / 1e6:,.1f} MB in {len(written)} files")
    return 0


def export(
    bundle: Bundle, folder: Path, *, voices: bool = True, force: bool = False, codec_dtype: str = "fp32",
    eight_bits: bool = False, dtype: torch.dtype | None = None, tensors: Mapping[str, Tensor] | None = None,
) -> dict[str, int]:  # fmt: skip
    """Write a bundle as a folder; returns its files with their sizes in bytes. It appears whole or not at all.

    The language model is written tensor by tensor, and adapters are merged as they are: no second one is in memory.

    Args:
        bundle: what is written.
        folder: new or empty.
        voices: also copy the voices that come with the model.
        force: replace a folder that an earlier export wrote.
        codec_dtype: number format of the codec on disk.
        eight_bits: keep the language model's matrices in 8 bits.
        dtype: number format of the language model on disk; its own if None.
        tensors: the language model's weights by name, where they do not lie in `bundle`, as when it is in shards.

    Raises:
        UserError: the folder holds files.
    """
    from duologue.base.config import to_dict
    from duologue.base.files import atomic_path, write_json, write_text
    from duologue.codec.weights import in_eight_bits, read_weights, save_tensors
    from duologue.engine.bundle import OWN_SAMPLING
    from duologue.engine.card import model_card
    from duologue.model.checkpoint import CONFIG, OURS, WEIGHTS, own_config, save_weights, weights_of
    from duologue.model.config import kyutai_config
    from duologue.model.merged import merged_weights

    _check_target(folder, force=force)
    weights = merged_weights(bundle.lm) if tensors is None else weights_of(tensors)
    with atomic_path(folder) as aside:
        aside.mkdir()
        save_weights(aside / WEIGHTS, weights, dtype=dtype)
        if eight_bits:
            save_tensors(aside / WEIGHTS, in_eight_bits(read_weights(aside / WEIGHTS)))
        values = kyutai_config(bundle.lm.config) | _names(bundle, aside, voices, codec_dtype)
        write_json(aside / CONFIG, values)
        told: dict[str, Any] = {"lineage": [asdict(x) for x in bundle.config.lineage]}
        modes = {name: mode for name, mode in to_dict(_write_ears(bundle, aside)).items() if mode is not None}
        own = {name: value for name in OWN_SAMPLING if (value := getattr(bundle.config.sampling, name)) is not None}
        write_json(
            aside / OURS, own_config(bundle.lm.config) | told | {"modes": modes} | ({"sampling": own} if own else {})
        )
        write_text(aside / CARD, model_card(bundle, folder.name, _listed(aside), eight_bits=eight_bits))
        written = _listed(aside)
        before = folder.with_name(f".{aside.stem.strip('.')}.old")
        if folder.is_dir() and any(folder.iterdir()):  # an earlier export: checked above
            folder.rename(before)
    shutil.rmtree(before, ignore_errors=True)
    return written


def _changed(bundle: Bundle, config: ExportConfig) -> Bundle:
    """With the codec and the sampling that were asked for. Errors: UserError, a codec of other codes."""
    from duologue.base.files import read_json
    from duologue.codec import load_codec
    from duologue.codec.split import SplitCodec
    from duologue.codec.tokens import codes_hash
    from duologue.engine.bundle import OWN_SAMPLING, read_sampling
    from duologue.model.presets import codebooks

    if config.sampling is not None:
        drawn = read_json(config.sampling)
        if not isinstance(drawn, dict):
            raise UserError("is no object", place=config.sampling, mend='write {"temp": 0.8, "temp_text": 0.7}')
        theirs = {name: value for name, value in drawn.items() if name not in OWN_SAMPLING}
        changed = replace(bundle.config, lm_gen_config=theirs, sampling=read_sampling(theirs, drawn))
        bundle = replace(bundle, config=changed)
    if config.codec_file is not None:
        before = bundle.codec
        codec = load_codec(config.codec_file, device="cpu", n_codebooks=codebooks(bundle.lm.config))
        if not (isinstance(codec, SplitCodec) and isinstance(before, SplitCodec)):
            raise UserError("needs a model with a codec", place="--codec-file", mend="leave --no-codec out")
        if codes_hash(codec) != codes_hash(before):
            mend = "take one that was trained with --start and --learning.train decoder"
            raise UserError("has other codes than the model's codec", place=config.codec_file, mend=mend)
        bundle = replace(bundle, codec=codec)
    if config.transcribe is not None:
        bundle = _with_ears(bundle, config.transcribe)
    return bundle


def _with_ears(bundle: Bundle, folder: Path) -> Bundle:
    """The bundle with a model that transcribes for it. Errors: UserError, that does not, or hears something else."""
    from duologue.codec.split import SplitCodec
    from duologue.codec.tokens import codes_hash
    from duologue.engine.bundle import load
    from duologue.engine.lineage import NONE
    from duologue.engine.modes import need_mode

    ears = load(folder, device="cpu", dtype="fp32")
    mode = need_mode(ears, "transcribe")
    one, other = bundle.codec, ears.codec
    if not (isinstance(one, SplitCodec) and isinstance(other, SplitCodec) and codes_hash(one) == codes_hash(other)):
        raise UserError("hears the codes of another codec", place=folder, mend="train it on this model's codes")
    files = bundle.config.text_file, ears.config.text_file
    if None in files or len({file.read_bytes() for file in files if file is not None}) != 1:
        raise UserError("writes with another tokenizer", place=folder, mend="train it with --tokenizer of this model")
    place = mode.model or folder
    for name in EARS:
        if not (place / name).is_file():
            raise UserError(f"has no {name}", place=place, mend="write it as a folder first, with duologue export")
    modes = replace(bundle.config.modes, transcribe=replace(mode, model=place))
    # First, so that the last layer is still the one that the model itself went through.
    heard = [replace(x, what=f"{x.what}, to transcribe") for x in ears.config.lineage if x.licence != NONE]
    layers = (*heard, *(x for x in bundle.config.lineage if x not in heard))
    return replace(bundle, config=replace(bundle.config, modes=modes, lineage=layers))


def _write_ears(bundle: Bundle, folder: Path) -> Modes:
    """Copy the model that transcribes, if it is one of its own; the modes with its place in the folder."""
    modes = bundle.config.modes
    if modes.transcribe is None or modes.transcribe.model is None:
        return modes
    place = Path("transcribe")
    (folder / place).mkdir()
    for name in EARS:
        shutil.copyfile(modes.transcribe.model / name, folder / place / name)
    return replace(modes, transcribe=replace(modes.transcribe, model=place))


def _names(bundle: Bundle, folder: Path, voices: bool, codec_dtype: str) -> dict[str, Any]:
    """Write codec, tokenizer and voices; what config.json says of them."""
    from duologue.engine.voices import copy_voices
    from duologue.model.checkpoint import WEIGHTS

    config = bundle.config
    said: dict[str, Any] = {"model_type": config.model_type, "moshi_name": WEIGHTS}
    if bundle.codec is not None:
        said |= _write_codec(bundle.codec, folder, config.kyutai_codec, codec_dtype)
    if config.text_file is not None:
        said["tokenizer_name"] = config.text_file.name
        shutil.copyfile(config.text_file, folder / config.text_file.name)
    if config.lm_gen_config:
        said["lm_gen_config"] = dict(config.lm_gen_config)
    if voices and config.source is not None:
        copy_voices(config.source, folder)
    return said


def _write_codec(codec: Codec, folder: Path, kyutai: bool, dtype: str) -> dict[str, Any]:
    """Kyutai's own Mimi keeps the name that PersonaPlex's loader looks for; any other has its shape beside it."""
    import torch

    from duologue.codec import save_codec
    from duologue.codec.mimi import MimiConfig
    from duologue.codec.spectral import SpectralCodec
    from duologue.codec.split import SplitCodec
    from duologue.engine.bundle import CODEC

    if not isinstance(codec, SplitCodec):
        raise UserError(f"a {type(codec).__name__} has no place in this layout", mend="export without the codec")
    if dtype != "fp32" and not isinstance(codec, SpectralCodec):
        raise UserError("Mimi is kept in fp32, as its loaders want it", place="--codec-dtype", mend="leave it out")
    kept = kyutai and codec.shape == MimiConfig()
    name = "codec.safetensors" if isinstance(codec, SpectralCodec) else "mimi.safetensors"
    precision = torch.float32 if dtype == "fp32" else torch.float16
    file = save_codec(codec, folder / (CODEC if kept else name), precision, eight_bits=dtype == "int8")
    shape = file.with_suffix(".json")
    if kept:
        shape.unlink()
        return {"mimi_name": file.name}
    return {"mimi_name": file.name, "mimi_config_name": shape.name}


def source_format(checkpoint: Checkpoint | None) -> str:
    """The number format of a source's weights on disk: fp32, bf16, fp16 or int8; fp32 for random weights (None)."""
    import torch

    from duologue.codec.weights import open_weights

    if checkpoint is None:
        return "fp32"
    formats: dict[torch.dtype | None, str] = {
        torch.bfloat16: "bf16", torch.float16: "fp16", torch.int8: "int8",
    }  # fmt: skip
    return formats.get(open_weights(checkpoint.weights).dtypes.get("text_emb.weight"), "fp32")


def _check_target(folder: Path, *, force: bool) -> None:
    """Errors: UserError, the folder holds something that may not be replaced."""
    from duologue.model.checkpoint import CONFIG, OURS

    if folder.is_file():
        raise UserError("is a file", place=folder, mend="name a new folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not force:
        raise UserError("holds files already", place=folder, mend="name a new folder, or pass --force to replace it")
    if not all((folder / name).is_file() for name in (CONFIG, OURS)):
        raise UserError("was not written by an export", place=folder, mend="name a new folder, or empty it yourself")


def _listed(folder: Path) -> dict[str, int]:
    """Files of a folder and their sizes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
