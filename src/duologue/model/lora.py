"""Low-rank adapters: y = W x + scaling * B A x, beside frozen weights. `lora_files` has them on disk.

Matched: moshi 0.2.13, modules/lora.py (names `...lora_A.weight`, `...lora_B.weight`; `scaling` is not alpha over rank).
Source: Hu et al., "LoRA" (arXiv 2106.09685).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from duologue.base.errors import UserError
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
        if not 0 < self.scaling < math.inf:
            raise UserError(f"{self.scaling} is no factor", place="lora.scaling", mend="use more than 0; Kyutai's is 2")
        try:
            re.compile(self.targets)
        except re.error as error:
            raise UserError(f"{self.targets!r} is no regular expression: {error}", place="lora.targets") from None


class LoRALinear(nn.Module):
    """A linear layer with an adapter. `active` turns the adapter off, which gives the frozen layer back.

    Args:
        frozen: the layer, [out, in].
        down: A, [rank, in].
        up: B, [out, rank].
        scaling: factor of B A.
    """

    def __init__(self, frozen: nn.Linear, down: Tensor, up: Tensor, scaling: float) -> None:
        super().__init__()
        self.frozen_W = frozen.requires_grad_(False)
        self.lora_A, self.lora_B = _linear(down), _linear(up)
        self.scaling = scaling
        self.active = True

    @property
    def rank(self) -> int:
        """Width of the bottleneck."""
        return self.lora_A.out_features

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.frozen_W(x)
        return y + self.scaling * self.lora_B(self.lora_A(x)) if self.active else y

    def merged(self) -> nn.Linear:
        """One linear layer that does the same; computed in float32, and rounded once."""
        frozen = self.frozen_W.weight
        with torch.no_grad():
            update = self.lora_B.weight.float() @ self.lora_A.weight.float()
            return _linear(torch.add(frozen.float(), update, alpha=self.scaling).to(frozen.dtype))


def add_lora(model: DuplexLM, config: LoRAConfig) -> list[str]:
    """Give adapters to the linear layers whose names match, in place, and freeze all other weights; returns the names.

    New adapters change nothing: A is drawn as a linear layer's weights, B is 0.

    Raises:
        UserError: no layer matches.
    """
    matching = {name: layer for name, layer in plain_layers(model).items() if re.fullmatch(config.targets, name)}
    if not matching:
        raise UserError(f"{config.targets!r} matches no layer", place="lora.targets", mend="try .* for all of them")
    model.requires_grad_(False)
    for name, layer in matching.items():
        down = layer.weight.new_empty(config.rank, layer.in_features)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        up = layer.weight.new_zeros(layer.out_features, config.rank)
        replace_layer(model, name, LoRALinear(layer, down, up, config.scaling))
    return list(matching)


def adapted_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The layers that have adapters, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def plain_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers that have none, by name."""
    inside = {f"{name}.{part}" for name in adapted_layers(model) for part in ("frozen_W", "lora_A", "lora_B")}
    modules = model.named_modules()
    return {name: module for name, module in modules if isinstance(module, nn.Linear) and name not in inside}


def embeddings(model: nn.Module) -> dict[str, nn.Embedding]:
    """The embeddings of text, codes and conditions, by name: what moshi-finetune's `ft_embed` trains whole."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Embedding)}


def fuse_lora(model: DuplexLM) -> None:
    """Merge every adapter into its layer, in place: as large and as fast as without adapters, and all of it learns."""
    for name, layer in adapted_layers(model).items():
        replace_layer(model, name, layer.merged())
    model.requires_grad_(True)


@contextmanager
def without_lora(model: DuplexLM) -> Iterator[None]:
    """Turn all adapters off for a while: the model is then the one that they were added to."""
    layers = list(adapted_layers(model).values())
    before = [layer.active for layer in layers]
    for layer in layers:
        layer.active = False
    try:
        yield
    finally:
        for layer, active in zip(layers, before, strict=True):
            layer.active = active


def replace_layer(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one of that name."""
    parent, _, child = name.rpartition(".")
    model.get_submodule(parent).add_module(child, module)


def _linear(weight: Tensor) -> nn.Linear:
    """A layer without bias that has this weight [out, in]."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight)
    return layer
