"""A run's model is written in its source's format, tensor by tensor: no second model is ever in memory."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from duologue.engine.bundle import Bundle, load
from duologue.engine.export import export
from duologue.model.lora import LoRAConfig, LoRALinear, add_lora, fuse_lora
from duologue.train.align import publish
from duologue.train.parallel import ALONE, World


class Peak(TorchDispatchMode):
    """Bytes of tensors that were made inside and live at once, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        known = {x.untyped_storage()._cdata for x in arguments if isinstance(x, Tensor)}
        made = operation(*arguments, **(options or {}))
        if isinstance(made, Tensor):
            storage = made.untyped_storage()
            if storage._cdata not in known | self._seen:
                self._seen.add(storage._cdata)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(made, self._gone, storage._cdata, storage.nbytes())
        return made

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


@dataclass
class Learned:
    """What `publish` needs of a learner."""

    bundle: Bundle
    tensors: Mapping[str, Tensor] | None = None
    world: World = ALONE
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def whole_weights(self) -> Mapping[str, Tensor] | None:
        return self.tensors


def adapted(name: str | Path) -> Bundle:
    """A model with adapters that change it."""
    model = load(name, device="cpu", dtype="fp32")
    add_lora(model.lm, LoRAConfig(rank=4, targets="transformer.*"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.lm.modules():
            if isinstance(module, LoRALinear):
                module.lora_B.weight.normal_(0, 0.1, generator=generator)
    return model


@pytest.mark.parametrize("adapters", [True, False])
def test_what_is_written_is_a_merged_copy_byte_for_byte(tmp_path: Path, adapters: bool) -> None:
    model = adapted("random:tiny@3") if adapters else load("nano", device="cpu", dtype="fp32")
    publish(Learned(model), tmp_path / "out", "a recipe", "segments")  # type: ignore[arg-type]
    merged = copy.deepcopy(model.lm)
    fuse_lora(merged)
    export(Bundle(lm=merged, codec=model.codec, text=model.text, config=model.config, voices=model.voices),
           tmp_path / "copy", dtype=torch.float32 if adapters else torch.float16)  # fmt: skip
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "copy")]
    assert files[0] == files[1]
    assert load(tmp_path / "out", device="cpu").config.lineage[-1].what == "Alignment by Duologue"
    assert any(isinstance(module, LoRALinear) for module in model.lm.modules()) is adapters


@pytest.mark.parametrize("kept", [torch.bfloat16, torch.float16])
def test_the_format_is_the_source_s_whatever_it_was_trained_in(tmp_path: Path, kept: torch.dtype) -> None:
    export(load("random:tiny@3", device="cpu"), tmp_path / "source", dtype=kept)
    model = adapted(tmp_path / "source")
    publish(Learned(model), tmp_path / "out", "a recipe", "segments")  # type: ignore[arg-type]
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert {x.dtype for x in found.values()} == {kept}
    fuse_lora(model.lm)
    name = "transformer.layers.1.gating.linear_in.weight"
    assert torch.equal(found[name], model.lm.get_parameter(name).to(kept))


def test_no_second_model_is_in_memory_while_it_is_written(tmp_path: Path) -> None:
    model = adapted("random:nano@0")
    sizes = {name: x.numel() * x.element_size() for name, x in model.lm.named_parameters()}
    lean = Bundle(lm=model.lm, codec=None, text=None, config=model.config, voices=model.voices)
    with Peak() as peak:
        publish(Learned(lean), tmp_path / "out", "a recipe", "segments")  # type: ignore[arg-type]
    assert 0 < peak.peak <= 4 * max(sizes.values())
    assert peak.peak < sum(sizes.values()) / 8


def test_weights_in_shards_are_written_from_what_was_gathered(tmp_path: Path) -> None:
    """And by rank 0 alone, though all processes gather."""
    model, other = load("random:tiny@3", device="cpu"), load("random:tiny@4", device="cpu")
    publish(Learned(model, other.lm.state_dict()), tmp_path / "out", "r", "s")  # type: ignore[arg-type]
    assert torch.equal(load(tmp_path / "out", device="cpu").lm.text_linear.weight, other.lm.text_linear.weight)
    publish(Learned(model, {}, World(1, 2)), tmp_path / "none", "r", "s")  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()
