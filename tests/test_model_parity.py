"""The language model equals upstream: moshi 0.2.13 on random weights, and numbers recorded from PersonaPlex's code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from duologue.base.errors import UserError
from duologue.model import load_lm
from duologue.model.checkpoint import save_lm
from duologue.model.config import LMConfig, config_from_kyutai, kyutai_config
from duologue.model.initial import random_lm
from duologue.model.lm import DuplexLM
from duologue.model.presets import PRESETS

TINY = LMConfig(
    n_q=4, dep_q=2, card=30, text_card=40, delays=(0, 0, 1, 0, 2), dim=32, num_layers=2, num_heads=4, context=12,
    depformer_dim=16, depformer_num_layers=2, depformer_num_heads=2,
)  # fmt: skip
SHAPES = {
    "moshi": TINY,
    "grouped heads": replace(TINY, kv_repeat=2),
    "no limit of context": replace(TINY, context=None),
    "shared depth weights": replace(TINY, dep_q=3, depformer_weights_per_step_schedule=(0, 1, 1)),
    "one set of depth weights": replace(TINY, depformer_weights_per_step=False),
    "one input projection": replace(TINY, depformer_multi_linear=False),
    "extra heads": replace(TINY, extra_heads_num_heads=2),
}


def random_model(config: LMConfig, seed: int = 0, spread: float = 0.2) -> DuplexLM:
    torch.manual_seed(seed)
    model = DuplexLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return model.eval()


def random_codes(config: LMConfig, T: int, *, holes: bool, seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    text = torch.randint(0, config.text_card, (2, 1, T))
    audio = torch.randint(0, config.card, (2, config.n_q, T))
    codes = torch.cat((text, audio), dim=1)
    return codes.masked_fill(torch.rand(codes.shape) < 0.2, -1) if holes else codes


@pytest.mark.parametrize("holes", [False, True], ids=["whole", "with holes"])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_moshi_s(moshi_lm: ModuleType, shape: str, holes: bool) -> None:
    config = SHAPES[shape]
    ours = random_model(config)
    theirs = moshi_lm.LMModel(**kyutai_config(config)).eval()
    theirs.load_state_dict(ours.state_dict())
    codes = random_codes(config, 20, holes=holes)
    with torch.no_grad():
        expected, got = theirs(codes), ours(codes)
    assert torch.equal(got.audio_mask, expected.mask)
    assert torch.equal(got.text_mask, expected.text_mask[:, 0])
    wanted = expected.logits.nan_to_num(0) * expected.mask[..., None]
    torch.testing.assert_close(got.audio_logits, wanted, atol=1e-4, rtol=0)
    wanted = expected.text_logits[:, 0].nan_to_num(0) * got.text_mask[..., None]
    torch.testing.assert_close(got.text_logits, wanted, atol=1e-4, rtol=0)


def test_a_mid_sized_model_scores_as_moshi_s(moshi_lm: ModuleType) -> None:
    config = PRESETS["nano"].lm
    ours = random_lm(config, 0, device="cpu", dtype="fp32")
    theirs = moshi_lm.LMModel(**kyutai_config(config)).eval()
    theirs.load_state_dict(ours.state_dict())
    codes = random_codes(config, 25, holes=True)
    with torch.no_grad():
        expected, got = theirs(codes), ours(codes)
    wanted = expected.logits.nan_to_num(0) * expected.mask[..., None]
    torch.testing.assert_close(got.audio_logits, wanted, atol=1e-4, rtol=0)
    wanted = expected.text_logits[:, 0].nan_to_num(0) * got.text_mask[..., None]
    torch.testing.assert_close(got.text_logits, wanted, atol=1e-4, rtol=0)


class TestPersonaPlex:
    @pytest.fixture
    def folder(self, shared_data: Path) -> Path:
        return shared_data / "goldens" / "personaplex_tiny"

    @pytest.mark.parametrize("case", ["tf", "tf_hole", "tf_long"])
    def test_teacher_forced_logits_equal_the_recorded_ones(self, folder: Path, case: str) -> None:
        golden = load_file(folder / "golden.safetensors")
        model = load_lm(folder, device="cpu", dtype="fp32")
        with torch.no_grad():
            got = model(golden[f"{case}.codes"])
        assert torch.equal(got.audio_mask, golden[f"{case}.mask"].bool())
        assert torch.equal(got.text_mask, golden[f"{case}.text_mask"][:, 0].bool())
        expected = golden[f"{case}.logits"].nan_to_num(0) * got.audio_mask[..., None]
        torch.testing.assert_close(got.audio_logits, expected, atol=1e-5, rtol=0)
        text = golden[f"{case}.text_logits"][:, 0].nan_to_num(0) * got.text_mask[..., None]
        torch.testing.assert_close(got.text_logits, text, atol=1e-5, rtol=0)

    def test_streams_are_told_apart(self, folder: Path) -> None:
        config = load_lm(folder, device="cpu").config
        assert (config.dep_q, config.agent_streams, config.user_streams) == (16, 8, 8)


@pytest.mark.parametrize("flat", [True, False])
def test_saved_files_load_equally_here_and_in_moshi(moshi_lm: ModuleType, tmp_path: Path, flat: bool) -> None:
    config = SHAPES["shared depth weights"]
    ours = random_model(config)
    save_lm(ours, tmp_path, flat=flat)
    again = load_lm(tmp_path, device="cpu")
    assert again.config == replace(config, depformer_dim_feedforward=config.depth_hidden, depformer_kv_repeat=1)
    codes = random_codes(config, 10, holes=False)
    theirs = moshi_lm.LMModel(**kyutai_config(config)).eval()
    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.no_grad():
        expected = ours(codes)
        assert torch.equal(again(codes).text_logits, expected.text_logits)
        torch.testing.assert_close(theirs(codes).text_logits[:, 0], expected.text_logits, atol=1e-5, rtol=0)


def test_masked_positions_are_zero_and_without_gradient() -> None:
    model = random_model(TINY)
    codes = random_codes(TINY, 12, holes=True)
    out = model(codes)
    assert not out.audio_logits.isnan().any()
    assert (out.audio_logits[~out.audio_mask] == 0).all()
    assert (out.text_logits[~out.text_mask] == 0).all()
    (out.audio_logits * ~out.audio_mask[..., None]).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_fewer_depth_steps_change_nothing_in_the_others() -> None:
    config = replace(TINY, dep_q=4)
    model = random_model(config).double()  # in float32 the sizes of products change their last bits
    codes = random_codes(config, 9, holes=False)
    with torch.no_grad():
        whole, part, text = model(codes), model(codes, depth_steps=2), model(codes, depth_steps=0)
    torch.testing.assert_close(part.audio_logits, whole.audio_logits[:, :2], atol=1e-12, rtol=0)
    assert torch.equal(text.text_logits, whole.text_logits)
    assert text.audio_logits.shape == (2, 0, 9, config.card)


def test_a_model_that_writes_no_audio_hears_all_its_streams() -> None:
    config = replace(TINY, dep_q=0)
    assert (config.agent_streams, config.user_streams) == (0, 4)
    with torch.no_grad():
        out = random_model(config)(random_codes(config, 7, holes=False))
    assert (out.text_logits.shape, out.audio_logits.shape[1]) == ((2, 7, config.text_card), 0)


def test_moshi_7b_is_the_default_with_its_published_number_of_weights() -> None:
    with torch.device("meta"):
        model = DuplexLM(LMConfig())
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(7.688e9, rel=1e-3)
    assert len(list(model.parameters())) == 439


def test_research_packages_are_read_without_running_them(tmp_path: Path) -> None:
    ours = random_model(TINY)
    torch.save({"fsdp_best_state": {"model": ours.state_dict()}, "epoch": 3}, tmp_path / "best.pt")
    again = load_lm(tmp_path / "best.pt", device="cpu", config=TINY)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True))
    torch.save({"model": Path("anything but plain data")}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="cannot be read safely"):
        load_lm(tmp_path / "other.pt", device="cpu", config=TINY)
    torch.save({"weights": {}}, tmp_path / "none.pt")
    with pytest.raises(UserError, match="no weights that are known"):
        load_lm(tmp_path / "none.pt", device="cpu", config=TINY)


class TestBadInput:
    def test_weights_of_another_shape_are_named(self, tmp_path: Path) -> None:
        save_lm(random_model(TINY), tmp_path)
        with pytest.raises(UserError, match=r"text_emb\.weight is \[41, 32\], not \[51, 32\]"):
            load_lm(tmp_path, device="cpu", config=replace(TINY, text_card=50))

    def test_missing_and_strange_weights_are_named(self, tmp_path: Path) -> None:
        save_lm(random_model(TINY), tmp_path)
        with pytest.raises(UserError, match=r"lacks transformer\.layers\.2"):
            load_lm(tmp_path, device="cpu", config=replace(TINY, num_layers=3))
        with pytest.raises(UserError, match=r"holds transformer\.layers\.1"):
            load_lm(tmp_path, device="cpu", config=replace(TINY, num_layers=1))

    def test_a_file_that_is_cut_short(self, tmp_path: Path) -> None:
        save_lm(random_model(TINY), tmp_path)
        file = tmp_path / "model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
        with pytest.raises(UserError, match="cannot be read"):
            load_lm(tmp_path, device="cpu")

    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"model\.safetensors"):
            load_lm(tmp_path, device="cpu")

    @pytest.mark.parametrize(
        ("values", "named"),
        [
            ({"model_type": "tts"}, "tts"),
            ({"norm": "layer_norm"}, "norm"),
            ({"dimm": 3}, "dimm"),
            ({"delays": [0, 1]}, "delays"),
            ({"dim": 33}, "33 is no multiple of 32"),
        ],
    )
    def test_configs_that_are_not_ours(self, values: dict, named: str) -> None:
        with pytest.raises(UserError, match=named):
            config_from_kyutai(values)

    def test_keys_that_upstream_pops_or_ignores_are_accepted(self) -> None:
        config = config_from_kyutai(
            {"mimi_name": "x", "depformer_causal": True, "depformer_context": 8, "causal": True}
        )
        assert config == LMConfig()
