"""A temporal transformer that starts from a text model gives its logits; the text models are small and random."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from duologue.base.errors import UserError
from duologue.model.config import LMConfig
from duologue.model.from_text import from_text_model, hidden_scale, text_model_config
from duologue.model.layers import Gating
from duologue.model.lm import DuplexLM
from duologue.model.text_source import open_text_source

BASE = LMConfig(
    n_q=4, dep_q=2, card=30, delays=(0, 0, 1, 0, 1), context=64, depformer_dim=16, depformer_num_layers=2,
    depformer_num_heads=2, hidden_scale=4.0,
)  # fmt: skip
SHAPE: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 45, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-8, "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": None,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "grouped heads": {},
    "all heads": {"num_key_value_heads": 4},
    "another rope": {"rope_theta": 500000.0},
    "tied embeddings": {"tie_word_embeddings": True},
    "an even width": {"intermediate_size": 44},
    "epsilon 1e-5": {"rms_norm_eps": 1e-5},
    "epsilon 1e-6": {"rms_norm_eps": 1e-6, "initializer_range": 0.02},
    "a mistral": {"model_type": "mistral", "sliding_window": 7},
    "a helium": {"model_type": "helium", "head_dim": 8},
}
Make = Callable[..., tuple[torch.nn.Module, Path]]


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    return pytest.importorskip("transformers", reason="the oracle for text models is not installed")


@pytest.fixture
def make(transformers: ModuleType, tmp_path: Path) -> Make:
    """Make a text model of `SHAPE` with changes, and write it to a folder, in several files if `shards`."""

    def made(*, shards: bool = False, **changes: Any) -> tuple[torch.nn.Module, Path]:
        values = SHAPE | changes
        kind = values.pop("model_type", "llama").title()
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**values)
        model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
        for name, parameter in model.named_parameters():
            if "norm" in name:  # not all ones, or a norm that is missing would not be missed
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
        model.save_pretrained(tmp_path, max_shard_size="20KB" if shards else "1GB")
        return model, tmp_path

    return made


def logits(lm: DuplexLM, ids: torch.Tensor) -> torch.Tensor:
    """Text logits of text alone, [B, T, text_card]."""
    tokens = torch.full((len(ids), 1 + lm.config.n_q, ids.shape[1]), -1)
    tokens[:, 0] = ids
    with torch.no_grad():
        return lm.text_linear(lm.temporal(tokens))


def reference(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(ids).logits


IDS = torch.randint(0, 50, (2, 30), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("case", CASES)
def test_logits_on_text_equal_the_text_model_s(make: Make, case: str) -> None:
    source, folder = make(**CASES[case])
    lm = from_text_model(folder, text_model_config(folder, BASE))
    expected = reference(source, IDS)
    assert expected.std() > 0.1  # a flat model would agree with anything
    torch.testing.assert_close(logits(lm, IDS)[..., :50], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("epsilon", "tolerance"), [(1e-5, 0.02), (1e-6, 0.002)])
def test_without_folding_epsilon_weights_stay_and_logits_are_near(make: Make, epsilon: float, tolerance: float) -> None:
    source, folder = make(rms_norm_eps=epsilon, initializer_range=0.02)
    config = text_model_config(folder, BASE)
    lm = from_text_model(folder, config, fold_epsilon=False)
    expected = reference(source, IDS)
    error = (logits(lm, IDS)[..., :50] - expected).abs().max() / expected.abs().max()
    assert tolerance / 20 < error < tolerance
    assert torch.equal(lm.text_emb.weight[:50], source.get_input_embeddings().weight)
    folded = from_text_model(folder, config)
    torch.testing.assert_close(folded.text_emb.weight, lm.text_emb.weight * (1e-8 / epsilon) ** 0.5)
    # New weights that join the stream are in proportion, so that sound weighs as much beside text as without folding.
    torch.testing.assert_close(folded.emb[0].weight, lm.emb[0].weight * (1e-8 / epsilon) ** 0.5)


def test_several_files_give_the_same_model(make: Make, tmp_path: Path) -> None:
    source, folder = make(shards=True)
    assert len(list(folder.glob("*.safetensors"))) > 2
    lm = from_text_model(folder, text_model_config(folder, BASE))
    torch.testing.assert_close(logits(lm, IDS)[..., :50], reference(source, IDS), atol=1e-4, rtol=0)


def test_new_text_ids_get_the_mean_and_the_initial_id_gets_bos(make: Make) -> None:
    source, folder = make()
    config = text_model_config(folder, BASE)
    assert (config.text_card, config.existing_text_padding_id, config.existing_text_end_padding_id) == (52, 50, 51)
    lm = from_text_model(folder, config)
    rows, head = source.get_input_embeddings().weight, source.lm_head.weight
    torch.testing.assert_close(lm.text_emb.weight[50:52], rows.mean(0).expand(2, -1))
    torch.testing.assert_close(lm.text_linear.weight[50:], head.mean(0).expand(2, -1))
    assert torch.equal(lm.text_emb.weight[52], rows[1])
    other = from_text_model(folder, config, rows={52: 7, 50: 2})
    assert torch.equal(other.text_emb.weight[52], rows[7])
    assert torch.equal(other.text_emb.weight[50], rows[2])
    assert torch.equal(other.text_linear.weight[50], head[2])


def test_pad_and_epad_may_be_ids_of_the_text_model(make: Make) -> None:
    _, folder = make()
    config = text_model_config(folder, BASE, pad=3, epad=0)
    assert (config.text_card, config.existing_text_padding_id, config.existing_text_end_padding_id) == (50, 3, 0)
    mixed = text_model_config(folder, BASE, pad=3)
    assert (mixed.text_card, mixed.existing_text_padding_id, mixed.existing_text_end_padding_id) == (51, 3, 50)
    with pytest.raises(UserError, match="50 is no id of the text model"):
        text_model_config(folder, BASE, pad=50)


def test_the_depth_transformer_and_the_streams_stay_the_base_s(make: Make) -> None:
    _, folder = make()
    base = replace(BASE, kv_repeat=1)
    config = text_model_config(folder, base)
    assert config.kv_repeat == 2
    for name in ("n_q", "dep_q", "delays", "card", "depth_hidden", "depth_kv_repeat", "depformer_dim"):
        assert getattr(config, name) == getattr(base, name)


def test_new_weights_are_moshi_s_kind_and_follow_the_seed(make: Make) -> None:
    _, folder = make()
    config = text_model_config(folder, replace(BASE, card=400))
    lm, same, other = (from_text_model(folder, config, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(lm.parameters(), same.parameters(), strict=True))
    for name in ("emb.0.weight", "depformer.layers.1.gating.0.linear_out.weight", "linears.1.weight"):
        weight = lm.get_parameter(name)
        assert not torch.equal(weight, other.get_parameter(name))
        spread = weight.shape[1] ** -0.5
        assert weight.std().item() == pytest.approx(0.987 * spread, rel=0.1)  # cutting takes 1.3 %
        assert weight.abs().max() <= 3 * spread
    assert torch.equal(lm.depformer.layers[0].norm1.alpha, torch.ones(1, 1, 16))
    assert all(p.requires_grad and p.isfinite().all() for p in lm.parameters())
    half = from_text_model(folder, config, seed=1, dtype="bf16")
    assert all(torch.equal(a.bfloat16(), b) for a, b in zip(lm.parameters(), half.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"head_dim": 16}, "head_dim = 16 is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported"),
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "llama3"}}, "scaled by 'llama3'"),
        ({"rope_parameters": None, "rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2}}, "'linear'"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor = 0.5"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "full_attention, sliding_attention"),
        ({"num_hidden_layers": None}, "num_hidden_layers = None is no whole number"),
        ({"rms_norm_eps": 0}, "rms_norm_eps = 0 is no number above 0"),
        ({"num_attention_heads": 5, "head_dim": None}, "do not divide"),
        ({"num_hidden_layers": 3}, "lacks model.layers.2."),
        ({"num_hidden_layers": 1}, "holds model.layers.1."),
        ({"vocab_size": 51}, "not .51, 32."),
    ],
)
def test_what_cannot_be_taken_over_is_refused(make: Make, changes: dict[str, Any], problem: str) -> None:
    _, folder = make()
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))
    with pytest.raises(UserError, match=problem):
        text_model_config(folder, BASE)


def test_old_configs_name_their_rope_elsewhere(make: Make) -> None:
    _, folder = make()
    values = json.loads((folder / "config.json").read_text())
    del values["rope_parameters"]
    for old, theta in (({}, 1e4), ({"rope_theta": 5e5, "rope_scaling": None}, 5e5)):
        (folder / "config.json").write_text(json.dumps(values | old))
        assert open_text_source(folder).shape.theta == theta


def test_biases_are_refused(make: Make) -> None:
    _, folder = make(attention_bias=True)
    with pytest.raises(UserError, match=r"holds model\.layers\.0\.self_attn\.k_proj\.bias"):
        text_model_config(folder, BASE)


def test_a_model_without_its_output_layer_is_refused_unless_tied(make: Make) -> None:
    _, folder = make()
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"lacks lm_head\.weight"):
        text_model_config(folder, BASE)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        text_model_config(tmp_path)


def test_a_config_of_another_shape_is_refused_by_its_field(make: Make) -> None:
    _, folder = make(model_type="mistral", sliding_window=7)
    config = text_model_config(folder, BASE)
    assert config.context == 7
    wrong: list[tuple[str, Any]] = [
        ("num_layers", 3), ("kv_repeat", 1), ("max_period", 9.0), ("hidden_scale", 3.0), ("text_card", 49),
        ("context", 8), ("context", None), ("positional_embedding", "none"), ("num_heads", 8),
    ]  # fmt: skip
    for name, value in wrong:
        with pytest.raises(UserError, match=f"^{name}:"):
            from_text_model(folder, replace(config, **{name: value}))
    for rows in ({53: 0}, {-1: 0}, {0: 50}):
        with pytest.raises(UserError, match=r"^rows:"):
            from_text_model(folder, config, rows=rows)


@given(dim=st.integers(1, 64).map(lambda n: 2 * n), hidden=st.integers(1, 500))
def test_the_scale_gives_exactly_the_width_or_is_refused(dim: int, hidden: int) -> None:
    nominal = 4 * dim
    blocked = 2 * nominal // 3 == hidden and 21 * dim // 8 != hidden and hidden % 2
    if blocked:
        with pytest.raises(UserError, match="no hidden_scale"):
            hidden_scale(dim, hidden)
        return
    with torch.device("meta"):
        assert Gating(dim, int(hidden_scale(dim, hidden) * dim)).linear_out.in_features == hidden


def test_a_width_that_no_scale_gives_is_refused() -> None:
    with pytest.raises(UserError, match="no hidden_scale gives a feed-forward of 37 at dim 14"):
        hidden_scale(14, 37)
    assert hidden_scale(4096, 11264) == 4.125  # Moshi's own
    assert int(6 * hidden_scale(6, 16)) == 25  # since 24 = 4 dim gives 15
