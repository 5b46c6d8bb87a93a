"""Low-rank adapters in Kyutai's format: y = W x + scaling * B A x, beside frozen weights.

Matched: moshi 0.2.13, modules/lora.py (keys `...lora_A.weight`, `...lora_B.weight`; `scaling` is not alpha over rank).
Source: Hu et al., "LoRA" (arXiv 2106.09685).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from duologue.base.errors import UserError
from duologue.codec.weights import read_weights, save_tensors
from duologue.model.checkpoint import split_names
from duologue.model.lm import DuplexLM


@dataclass(frozen=True, slots=True, kw_only=True)
class LoRAConfig:
    """Which layers get adapters, and how large they are. The defaults are Kyutai's."""

    rank: int = 128
    """Width of the bottleneck."""
    scaling: float = 2.0
    """Factor of the adapter's output."""
    targets: str = ".*"
    """Regular expression of the layers' names, such as `transformer.*` for the temporal transformer alone."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"rank {self.rank} is not 1 or more", place="lora.rank")
        try:
            re.compile(self.targets)
        except re.error as error:
            raise UserError(f"{self.targets!r} is no regular expression: {error}", place="lora.targets") from None


class LoRALinear(nn.Module):
    """A linear layer with an adapter. `active` turns the adapter off, which gives the frozen layer back."""

    def __init__(self, frozen: nn.Linear, config: LoRAConfig) -> None:
        super().__init__()
        like = frozen.weight
        self.frozen_W = frozen.requires_grad_(False)
        self.lora_A = nn.Linear(frozen.in_features, config.rank, bias=False, device=like.device, dtype=like.dtype)
        self.lora_B = nn.Linear(config.rank, frozen.out_features, bias=False, device=like.device, dtype=like.dtype)
        nn.init.zeros_(self.lora_B.weight)  # a new adapter changes nothing
        self.scaling = config.scaling
        self.active = True

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.frozen_W(x)
        return y + self.scaling * self.lora_B(self.lora_A(x)) if self.active else y

    def merged(self) -> nn.Linear:
        """One linear layer that does the same."""
        out, inner = self.frozen_W.weight.shape
        layer = nn.Linear(inner, out, bias=False, device="meta")
        with torch.no_grad():
            update = self.scaling * (self.lora_B.weight @ self.lora_A.weight)
            layer.weight = nn.Parameter(self.frozen_W.weight + update)
        return layer


def add_lora(model: DuplexLM, config: LoRAConfig) -> list[str]:
    """Give adapters to the linear layers whose names match, in place, and freeze all other weights; returns the names.

    Raises:
        UserError: no layer matches.
    """
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(config.targets, name)
    ]
    if not found:
        raise UserError(f"{config.targets!r} matches no layer", place="lora.targets", mend="try .* for all of them")
    model.requires_grad_(False)
    for name in found:
        _replace(model, name, LoRALinear(_linear(model, name), config))
    return found


def fuse_lora(model: DuplexLM) -> None:
    """Merge every adapter into its layer, in place."""
    for name, module in [(n, m) for n, m in model.named_modules() if isinstance(m, LoRALinear)]:
        _replace(model, name, module.merged())


@contextmanager
def without_lora(model: DuplexLM) -> Iterator[None]:
    """Turn all adapters off for a while: the model is then the one that they were added to."""
    layers = [m for m in model.modules() if isinstance(m, LoRALinear)]
    before = [layer.active for layer in layers]
    for layer in layers:
        layer.active = False
    try:
        yield
    finally:
        for layer, active in zip(layers, before, strict=True):
            layer.active = active


def save_lora(model: DuplexLM, path: Path) -> None:
    """Write the adapters alone, as moshi reads them."""
    state = {k: v for k, v in model.state_dict().items() if ".lora_" in k}
    if not state:
        raise UserError("the model has no adapters", place=path, mend="add them with add_lora")
    save_tensors(path, state)


def load_lora(model: DuplexLM, path: Path) -> None:
    """Read adapters into a model that has them (`add_lora`), also from files with flat attention names.

    Raises:
        UserError: adapters for other layers, or of another shape: the file belongs to another model or rank.
    """
    state = split_lora_names(read_weights(path), model)
    own = {k: v for k, v in model.state_dict().items() if ".lora_" in k}
    for name in sorted(own.keys() ^ state.keys())[:1]:
        problem = f"lacks {name}" if name in own else f"holds {name}, for which the model has no adapter"
        raise UserError(problem, place=path, mend="use the model and targets that it was trained with")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            problem = f"{name} is {list(tensor.shape)}, not {list(own[name].shape)}"
            raise UserError(problem, place=path, mend="use the rank and model that it was trained with")
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)


def split_lora_names(state: Mapping[str, Tensor], model: DuplexLM) -> dict[str, Tensor]:
    """Adapters of flat attention tensors (`in_proj.lora_A.weight`) as one per set of weights, like the weights."""
    named: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(.+\.self_attn\.(?:in|out)_proj)\.(lora_[AB])\.weight", name)
        if match is None:
            named[name] = tensor
            continue
        for split, part in split_names({f"{match[1]}.weight": tensor}, model.config).items():
            named[split.replace(".weight", f".{match[2]}.weight")] = part
    return named


def _linear(model: nn.Module, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    if not isinstance(module, nn.Linear):
        raise TypeError(f"{name} is a {type(module).__name__}")
    return module


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    model.get_submodule(parent).add_module(child, module)
