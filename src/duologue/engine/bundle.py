"""A model that can talk: language model, codec, text tokenizer and voices, found by one name.

bundle = load("kyutai/personaplex-rl-seamless")  # Bundle(lm, codec, text, config, voices)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from duologue.base.errors import UserError
from duologue.base.typed import nearest
from duologue.codec import load_codec
from duologue.codec.checkpoint import read_shape
from duologue.codec.interface import Codec
from duologue.engine.lineage import Layer, learned, lineage, no_lineage
from duologue.engine.modes import Modes, read_modes
from duologue.engine.sampling import Sampling
from duologue.engine.voices import Voices
from duologue.model.checkpoint import CONFIG, OURS, WEIGHTS
from duologue.model.config import LMConfig
from duologue.model.hub import Source, resolve
from duologue.model.initial import random_codec, random_lm
from duologue.model.lm import DuplexLM
from duologue.model.load import Checkpoint, add_adapters, find_checkpoint, load_checkpoint
from duologue.model.lora_files import AdapterFile, find_lora, read_lora
from duologue.model.presets import PRESETS, Preset, codebooks
from duologue.model.text import TextTokenizer, load_text

CODEC, TEXT = "tokenizer-e351c8d8-checkpoint125.safetensors", "tokenizer_spm_32k_3.model"
"""Kyutai's codec and tokenizer, where a config.json names no others."""
KYUTAI_CODEC = re.compile(r".*e351c8d8.*\.safetensors|hf://kyutai/mimi/.*")
"""Names of the one codec that Kyutai's and NVIDIA's models share: e351c8d8 is its signature."""
NANO = Path(__file__).with_name("nano")
"""The model that comes with the package."""
OWN_SAMPLING = ("pad_temperature",)
"""Settings of `Sampling` that moshi's LMGen does not have; duologue.json holds them."""
RANDOM = re.compile(r"random:(?P<preset>[^@]*)(?:@(?P<seed>.*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleConfig:
    """What is known of a bundle besides its parts."""

    name: str
    """What it was loaded by."""
    model_type: str = "moshi"
    """Kyutai's word for its kind."""
    sampling: Sampling = field(default_factory=Sampling)
    """How its authors sample from it."""
    lm_gen_config: Mapping[str, Any] = field(default_factory=dict)
    """The same as config.json has it."""
    lineage: tuple[Layer, ...] = ()
    """Whose weights it is made of."""
    source: Source | None = None
    """Where its files are; None for random weights."""
    text_file: Path | None = None
    """The tokenizer's file."""
    kyutai_codec: bool = False
    """Whether the codec is Kyutai's trained Mimi, by its name: then its codes of a silence or a tone are known."""
    modes: Modes = field(default_factory=Modes)
    """What it can do besides talking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The parts of a model. Text or codec may be missing; `need_text` and `need_codec` then say so."""

    lm: DuplexLM
    """The language model."""
    codec: Codec | None
    """The codec, in float32; None if it was not asked for."""
    text: TextTokenizer | None
    """The text tokenizer; None if the model has none, as random ones."""
    config: BundleConfig
    """What else is known."""
    voices: Voices
    """Voice prompts by name; files are fetched at the first look."""

    def need_codec(self) -> Codec:
        """The codec. Errors: UserError, there is none."""
        if self.codec is None:
            raise UserError("was loaded without its codec", place=self.config.name, mend="load it with codec=True")
        return self.codec

    def need_text(self) -> TextTokenizer:
        """The tokenizer. Errors: UserError, there is none."""
        if self.text is None:
            mend = "leave out what has words in it, or use a model with a tokenizer"
            raise UserError("has no text tokenizer", place=self.config.name, mend=mend)
        return self.text


def load(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    codec: bool = True,
    lora: str | Path | None = None,
    fuse: bool = True,
) -> Bundle:
    """Load a model and everything that it needs to talk.

    Args:
        name: a folder, a file of weights with the others beside it, owner/name[@revision] on the Hugging Face hub,
            `random:PRESET@SEED` (seed 0 if left out), or `nano`, which comes with the package.
        device: "auto" (CUDA where there is any), "cpu", "cuda", "cuda:1".
        dtype: of the language model: "auto" (float32 on CPU, bfloat16 on CUDA), "fp32", "bf16", "fp16". The codec
            stays in float32.
        codec: False leaves the codec out; otherwise the model must have one.
        lora: adapters over those that config.json names, if any: a file, a folder with lora.safetensors, or owner/name
            on the hub; their rank is the file's, their scaling what the config.json beside them says.
        fuse: merge adapters into the weights, so that the model is as fast as without, or keep the last ones apart.

    Raises:
        UserError: a name that stands for nothing, files that are missing or broken or do not fit together, a repository
            that is gated, or no network.
    """
    checkpoint = find(name)
    adapters = None if lora is None else find_lora(lora)
    if checkpoint is None:
        bundle = _random(str(name), device=device, dtype=dtype, codec=codec)
        if adapters is None:
            return bundle
        add_adapters(bundle.lm, [read_lora(adapters, bundle.lm.config)], fuse=fuse)
        return replace(bundle, config=_adapted(bundle.config, adapters, bundle.lm.config))
    parts = _Parts(checkpoint)
    # Small files come first: what is missing is said before 15 GB are loaded.
    tokenizer = parts.text()
    silent = frozenset({checkpoint.config.existing_text_padding_id, checkpoint.config.existing_text_end_padding_id})
    words = None if tokenizer is None else load_text(tokenizer, silent=silent)
    sound = parts.codec(device) if codec else None
    config = _config(checkpoint, tokenizer)
    return Bundle(
        lm=load_checkpoint(checkpoint, device=device, dtype=dtype, lora=adapters, fuse=fuse),
        codec=sound,
        text=words,
        config=config if adapters is None else _adapted(config, adapters, checkpoint.config),
        voices=Voices(checkpoint.source),
    )


def codec_of(name: str | Path, *, device: str = "auto") -> Codec:
    """The codec of a model alone, without reading its language model. Names and errors as `load`."""
    checkpoint = find(name)
    return _random_codec(str(name), device) if checkpoint is None else _Parts(checkpoint).codec(device)


def find(name: str | Path) -> Checkpoint | None:
    """What a name stands for, as `load`, before any weights are read; None for random weights."""
    if RANDOM.fullmatch(str(name)):
        return None
    return find_checkpoint(resolve(_nano() if name == "nano" and not _holds_model(Path(name)) else name))


def _holds_model(place: Path) -> bool:
    """Whether a file, or a folder with weights, stands there: another folder of that name is nobody's model."""
    return place.is_file() or any(place.glob("*.safetensors"))


class _Parts:
    """Finds the files of a checkpoint besides its language model."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._source, self._values = checkpoint.source, checkpoint.values
        self._codebooks = codebooks(checkpoint.config)

    def text(self) -> Path | None:
        named = self._values.get("tokenizer_name")
        if named is None:
            return self._source.find(TEXT)
        return self._source.need(named, mend="tokenizer_name in config.json names it")

    def codec(self, device: str) -> Codec:
        mend = "put the codec beside the model, or load it with codec=False"
        file = self._source.need(self._values.get("mimi_name") or CODEC, mend=mend)
        shape = self._values.get("mimi_config_name")
        if shape is None:
            return load_codec(file, device=device, n_codebooks=self._codebooks)
        path = self._source.need(shape, mend="mimi_config_name in config.json names it")
        return load_codec(file, device=device, n_codebooks=self._codebooks, config=read_shape(path))


def _config(checkpoint: Checkpoint, text: Path | None) -> BundleConfig:
    source, values = checkpoint.source, checkpoint.values
    given = values["duologue"].get("lineage")
    known = tuple(Layer(**layer) for layer in given) if given else lineage(source.repo or source.short)
    drawn = values.get("lm_gen_config") or {}
    return BundleConfig(
        name=source.name,
        model_type=values.get("model_type", "moshi"),
        sampling=read_sampling(drawn, values["duologue"].get("sampling") or {}),
        lm_gen_config=drawn,
        lineage=known,
        source=source,
        text_file=text,
        kyutai_codec=KYUTAI_CODEC.fullmatch(values.get("mimi_name") or CODEC) is not None,
        modes=_found(read_modes(values["duologue"].get("modes"), checkpoint.config, f"{source.name}, {OURS}"), source),
    )


def _adapted(config: BundleConfig, adapters: AdapterFile, shape: LMConfig) -> BundleConfig:
    """What is known of a model with adapters: their own duologue.json says whose they are and what they were taught."""
    given, place = adapters.values, f"{adapters.path.parent / OURS}"
    if given.get("lineage"):
        layers = tuple(Layer(**layer) for layer in given["lineage"])
    else:
        layers = learned(config.lineage, "Adapters (LoRA)", adapters.source.repo or adapters.source.short, "unknown")
    modes = config.modes
    if given.get("modes"):
        taught = _found(read_modes(given["modes"], shape, place), adapters.source)
        transcribe = taught.transcribe if "transcribe" in given["modes"] else modes.transcribe
        modes = Modes(transcribe=transcribe, speak=taught.speak if "speak" in given["modes"] else modes.speak)
    return replace(config, name=f"{config.name} with {adapters.source.name}", lineage=layers, modes=modes)


def _found(modes: Modes, source: Source) -> Modes:
    """The modes, with the model that transcribes where it lies. Errors: UserError, it is not there."""
    mode = modes.transcribe
    if mode is None or mode.model is None:
        return modes
    mend = f"modes.transcribe.model in {OURS} names its folder"
    *_, weights = (source.need(f"{mode.model}/{name}", mend=mend) for name in (CONFIG, OURS, WEIGHTS))
    return replace(modes, transcribe=replace(mode, model=weights.parent))


def read_sampling(values: Mapping[str, Any], own: Mapping[str, Any] = MappingProxyType({})) -> Sampling:
    """Kyutai's `lm_gen_config` (arguments of moshi's LMGen) as ours; what is not about sampling is left out.

    `own` is what duologue.json holds under `sampling`: settings that moshi does not have, and would stumble on.
    """
    names = {
        "temp": "audio_temperature", "temp_text": "text_temperature", "top_k": "audio_top_k",
        "top_k_text": "text_top_k",
    }  # fmt: skip
    given = {ours: values[theirs] for theirs, ours in names.items() if theirs in values}
    if values.get("use_sampling") is False:
        given |= {"audio_temperature": 0.0, "text_temperature": 0.0}
    if values.get("cfg_is_no_text"):  # without it, cfg_coef is about conditions
        given["guidance"] = values.get("cfg_coef", 1.0)
    return Sampling(**given, **{name: own[name] for name in OWN_SAMPLING if name in own})


def _random(name: str, *, device: str, dtype: str, codec: bool) -> Bundle:
    shapes, number = preset_of(name)
    return Bundle(
        lm=random_lm(shapes.lm, number, device=device, dtype=dtype),
        codec=_random_codec(name, device) if codec else None,
        text=None,
        config=BundleConfig(name=name, lineage=no_lineage(name), modes=read_modes(None, shapes.lm, name)),
        voices=Voices(),
    )


def _random_codec(name: str, device: str) -> Codec:
    shapes, number = preset_of(name)
    return random_codec(shapes.codec, shapes.n_codebooks, number, device=device)


def preset_of(name: str) -> tuple[Preset, int]:
    """The shapes and the seed in random:PRESET@SEED. Errors: UserError."""
    match = RANDOM.fullmatch(name)
    preset, seed = match.groups() if match else ("", None)
    if preset not in PRESETS:
        raise UserError(f"{preset!r} is no preset", place=name, mend=nearest(preset, PRESETS))
    if seed is not None and not (seed.isascii() and seed.isdecimal() and int(seed) < 2**63):
        raise UserError(f"{seed!r} is no seed", place=name, mend=f"use a whole number, as in random:{preset}@0")
    return PRESETS[preset], int(seed or 0)


def _nano() -> Path:
    if not (NANO / CONFIG).is_file():
        mend = "install the package whole, or name another model"
        raise UserError("is not in this installation", place="nano", mend=mend)
    return NANO
