"""A model's weights with its adapters merged, one tensor at a time: to be written without a second model in memory."""

from __future__ import annotations

from duologue.model.checkpoint import Weight, weights_of
from duologue.model.lm import DuplexLM
from duologue.model.lora import LoRALinear

FROZEN, ADAPTER = ".frozen_W.weight", (".lora_A.weight", ".lora_B.weight")


def merged_weights(model: DuplexLM) -> dict[str, Weight]:
    """The weights of a model by the names that they have without adapters; each is merged when it is read."""
    adapted = {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}
    weights: dict[str, Weight] = {}
    for name, weight in weights_of(model.state_dict()).items():
        layer = name.removesuffix(FROZEN)
        if name.endswith(FROZEN) and layer in adapted:
            weights[f"{layer}.weight"] = weight._replace(read=lambda module=adapted[layer]: module.merged().weight)  # type: ignore[misc]
        elif not any(name.removesuffix(part) in adapted for part in ADAPTER if name.endswith(part)):
            weights[name] = weight
    return weights
