"""What verbs that run a model share: which model, settings and voices, and how a result says what made it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from duologue.codec.tokens import TokenHeader
    from duologue.engine.bundle import Bundle
    from duologue.engine.prompts import Voice
    from duologue.engine.sampling import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which model a verb runs, and where."""

    model: str = "nano"
    """nano, random:PRESET@SEED, a folder or file, or owner/name on the Hugging Face hub."""
    lora: str | None = None
    """Adapters to merge into it as it is loaded: a lora.safetensors, or the folder or hub repository that holds one,
    with its config.json."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: str = "auto"
    """Of the language model: auto (fp32 on a CPU, bf16 on CUDA), fp32, bf16 or fp16."""

    @property
    def title(self) -> str:
        """The model, and its adapters if it has any, for people."""
        return self.model if self.lora is None else f"{self.model} with {self.lora}"

    @property
    def short(self) -> str:
        """As `title`, without places on this machine: what others are told."""
        names = (Path(x).name if Path(x).exists() else x for x in (self.model, self.lora) if x is not None)
        return " with ".join(names)

    def load(self) -> Bundle:
        """The model, its adapters merged. Errors: UserError, as `bundle.load`."""
        from duologue.engine.bundle import load

        return load(self.model, device=self.device, dtype=self.dtype, lora=self.lora)


def settings(own: Sampling, seed: int, padding_bonus: float, *, greedy: bool, **options: float | None) -> Sampling:
    """A model's own settings, with what the options change (None: nothing). Errors: UserError, no such seed."""
    from duologue.engine.sampling import SEEDS

    if not 0 <= seed < SEEDS:
        raise UserError(f"{seed} is no seed", place="--seed", mend=f"use 0 to {SEEDS - 1}")
    changed: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if greedy:
        changed |= {"text_temperature": 0.0, "audio_temperature": 0.0}
    return replace(own, text_seed=seed, audio_seed=seed, padding_bonus=padding_bonus, **changed)


def pick_voice(name: str | None, bundle: Bundle) -> Voice | None:
    """The voice prompt: a file, else a voice that comes with the model; None for none."""
    from duologue.engine.prompts import read_voice

    if name is None:
        return None
    path = Path(name)
    if not path.exists() and not path.suffix:
        path = bundle.voices.pick(name)
    return read_voice(path, bundle.need_codec(), bundle.lm.config)


def token_header(bundle: Bundle) -> TokenHeader:
    """The header of codes that this model wrote."""
    from torch import nn

    from duologue.codec.tokens import TokenHeader, codes_hash, weights_hash

    codec, c = bundle.need_codec(), bundle.lm.config
    assert isinstance(codec, nn.Module)
    return TokenHeader(
        codec=codes_hash(codec), model=weights_hash(bundle.lm), agent_streams=c.agent_streams,
        user_streams=c.user_streams, user_lag=c.user_lag,
    )  # fmt: skip


def made(bundle: Bundle, header: TokenHeader, config: Any) -> dict[str, Any]:
    """What stands under "made" in a result: command, settings and weights."""
    import shlex
    import sys

    from duologue import __version__
    from duologue.base.config import to_dict

    weight = bundle.lm.text_linear.weight
    return {
        "command": shlex.join(["duologue", *sys.argv[1:]]), "version": __version__, "config": to_dict(config),
        "model": bundle.config.name, "weights": header.model, "codec": header.codec, "device": str(weight.device),
        "dtype": str(weight.dtype),
    }  # fmt: skip
