"""Adapters: equal to moshi's, off means the frozen model, fused means the same numbers."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch

from duologue.base.errors import UserError
from duologue.model.config import LMConfig, kyutai_config
from duologue.model.lm import DuplexLM
from duologue.model.lora import LoRAConfig, LoRALinear, add_lora, fuse_lora, without_lora

CONFIG = LMConfig(
    n_q=4, dep_q=2, card=30, text_card=40, delays=(0, 0, 1, 0, 1), dim=32, num_layers=2, num_heads=4, context=12,
    depformer_dim=16, depformer_num_layers=2, depformer_num_heads=2,
)  # fmt: skip
LORA = LoRAConfig(rank=4, scaling=1.5)


@pytest.fixture
def codes() -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randint(0, 30, (2, 5, 11))


def adapted(config: LMConfig = CONFIG, lora: LoRAConfig = LORA) -> DuplexLM:
    torch.manual_seed(0)
    model = DuplexLM(config)
    add_lora(model, lora)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.normal_(0, 0.3)
    return model.eval()


def test_adapters_equal_moshi_s(moshi_lm: ModuleType, codes: torch.Tensor) -> None:
    from moshi.modules.lora import replace_all_linear_with_lora

    ours = adapted()
    theirs = moshi_lm.LMModel(**kyutai_config(CONFIG)).eval()
    replace_all_linear_with_lora(theirs, LORA.rank, LORA.scaling)
    theirs.load_state_dict({k.replace(".frozen_W", ""): v for k, v in ours.state_dict().items()})
    with torch.no_grad():
        expected, got = theirs(codes), ours(codes)
    torch.testing.assert_close(got.text_logits, expected.text_logits[:, 0], atol=1e-4, rtol=0)
    audio = expected.logits.nan_to_num(0) * expected.mask[..., None]
    torch.testing.assert_close(got.audio_logits, audio, atol=1e-4, rtol=0)


def test_fused_adapters_give_the_same_logits(codes: torch.Tensor) -> None:
    model = adapted()
    with torch.no_grad():
        before = model(codes)
        fuse_lora(model)
        after = model(codes)
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    torch.testing.assert_close(after.audio_logits, before.audio_logits, atol=1e-4, rtol=1e-5)


def test_off_is_the_frozen_model_and_new_adapters_change_nothing(codes: torch.Tensor) -> None:
    torch.manual_seed(0)
    plain = DuplexLM(CONFIG).eval()
    model = adapted()
    with torch.no_grad():
        with without_lora(model):
            assert torch.equal(model(codes).text_logits, plain(codes).text_logits)
        assert not torch.equal(model(codes).text_logits, plain(codes).text_logits)
        expected = plain(codes).text_logits
        add_lora(plain, LORA)
        assert torch.equal(plain(codes).text_logits, expected)


def test_only_adapters_learn(codes: torch.Tensor) -> None:
    model = adapted(lora=replace(LORA, targets=r"transformer\..*|text_linear"))
    model(codes, depth_steps=0).text_logits.square().mean().backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learning
    assert all(".lora_" in name and not name.startswith("depformer") for name in learning)


def test_moshi_7b_has_337_linear_layers() -> None:
    with torch.device("meta"):
        model = DuplexLM(LMConfig())
    assert len(add_lora(model, LoRAConfig())) == 337
    assert sum(p.numel() for n, p in model.named_parameters() if ".lora_" in n) == pytest.approx(387.9e6, rel=1e-3)


def test_merging_rounds_once(codes: torch.Tensor) -> None:
    model = adapted().to(torch.bfloat16)
    layer = model.get_submodule("text_linear")
    assert isinstance(layer, LoRALinear)
    a, b, w = (x.weight.double() for x in (layer.lora_A, layer.lora_B, layer.frozen_W))
    assert torch.equal(layer.merged().weight, (w + LORA.scaling * b @ a).bfloat16())


def test_what_was_merged_learns_as_a_whole() -> None:
    model = adapted()
    fuse_lora(model)
    assert all(p.requires_grad for p in model.parameters())


def test_adapters_are_added_once() -> None:
    model = adapted(lora=replace(LORA, targets="text_linear"))
    assert "text_linear" not in (added := add_lora(model, LORA))
    assert not [name for name in added if "lora" in name or "frozen" in name]


class TestBadInput:
    def test_targets_that_match_nothing(self) -> None:
        with pytest.raises(UserError, match="matches no layer"):
            add_lora(DuplexLM(CONFIG), replace(LORA, targets="nothing"))
        with pytest.raises(UserError, match="regular expression"):
            replace(LORA, targets="(")

    @pytest.mark.parametrize("wrong", [{"rank": 0}, {"scaling": 0.0}, {"scaling": float("nan")}])
    def test_numbers_that_make_no_sense(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(UserError, match=r"lora\.(rank|scaling)"):
            LoRAConfig(**wrong)
