"""Adapters on disk: what moshi-finetune writes is read here, and what is written here is read by moshi."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from duologue.base.errors import UserError
from duologue.base.files import read_json, write_json
from duologue.model.checkpoint import save_lm
from duologue.model.config import kyutai_config
from duologue.model.lm import DuplexLM
from duologue.model.load import load_lm
from duologue.model.lora import LoRAConfig, LoRALinear, adapted_layers, add_lora, embeddings
from duologue.model.lora_files import save_lora
from test_model_lora import CONFIG, LORA, adapted

SAID = {"lora": True, "lora_rank": LORA.rank, "lora_scaling": LORA.scaling}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The folder of a model."""
    torch.manual_seed(0)
    save_lm(DuplexLM(CONFIG), tmp_path / "base")
    return tmp_path / "base"


def logits(model: DuplexLM) -> torch.Tensor:
    """[2, 5, 11] codes scored: text and audio in one row each."""
    codes = torch.randint(0, 30, (2, 5, 11), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        out = model(codes)
    return torch.cat((out.text_logits.flatten(), out.audio_logits.flatten()))


def theirs_logits(model: Any) -> torch.Tensor:
    codes = torch.randint(0, 30, (2, 5, 11), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        out = model(codes)
    audio = out.logits.nan_to_num(0) * out.mask[..., None]
    return torch.cat((out.text_logits[:, 0].flatten(), audio.flatten()))


def moshi(base: Path, said: dict[str, Any], file: Path | None, *, fuse: bool = False) -> Any:
    """moshi's loader, as its server calls it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaders = pytest.importorskip("moshi.models.loaders", reason="the parity oracle is not installed")
        values = kyutai_config(CONFIG) | said
        return loaders.get_moshi_lm(
            base / "model.safetensors", values, "cpu", torch.float32, lora_weights=file, fuse_lora=fuse
        )


def finetuned(base: Path, folder: Path, *, ft_embed: bool) -> Any:
    """A model of moshi's with adapters, and the folder that moshi-finetune writes of it: every module of which all
    weights are trained, under its own name."""
    model = moshi(base, SAID, None)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora" in name or (ft_embed and "emb" in name))
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    trained = {name: m for name, m in model.named_modules() if all(p.requires_grad for p in m.parameters())}
    state = {f"{name}.{k}": x.clone() for name, module in trained.items() for k, x in module.state_dict().items()}
    folder.mkdir()
    save_file(dict(sorted(state.items())), folder / "lora.safetensors")
    write_json(folder / "config.json", kyutai_config(CONFIG) | SAID)
    return model


@pytest.mark.parametrize("ft_embed", [False, True])
def test_what_moshi_finetune_writes_is_read(base: Path, tmp_path: Path, ft_embed: bool) -> None:
    theirs = finetuned(base, tmp_path / "tuned", ft_embed=ft_embed)
    assert ("text_emb.weight" in load_file(tmp_path / "tuned" / "lora.safetensors")) is ft_embed
    ours = load_lm(base, device="cpu", lora=tmp_path / "tuned" / "lora.safetensors").eval()
    assert not adapted_layers(ours)
    torch.testing.assert_close(logits(ours), theirs_logits(theirs), atol=1e-4, rtol=0)
    assert (logits(ours) - logits(load_lm(base, device="cpu").eval())).abs().max() > 0.1
    apart = load_lm(base, device="cpu", lora=tmp_path / "tuned", fuse=False).eval()
    torch.testing.assert_close(logits(apart), theirs_logits(theirs), atol=1e-4, rtol=0)


@pytest.mark.parametrize("targets", [".*", r"transformer\..*|text_linear"])
@pytest.mark.parametrize("fuse", [False, True])
def test_what_is_written_here_is_read_by_moshi(base: Path, tmp_path: Path, targets: str, fuse: bool) -> None:
    """Also where only some layers have adapters: moshi's loader wants a pair for each."""
    ours = trained(base, LoRAConfig(rank=3, scaling=0.7, targets=targets), tables=True)
    save_lora(ours, tmp_path / "lora")
    said = {k: v for k, v in read_json(tmp_path / "lora" / "config.json").items() if k.startswith("lora")}
    assert said == {"lora": True, "lora_rank": 3, "lora_scaling": 0.7}
    theirs = moshi(base, said, tmp_path / "lora" / "lora.safetensors", fuse=fuse)
    torch.testing.assert_close(theirs_logits(theirs), logits(ours), atol=1e-4, rtol=0)


def trained(base: Path, config: LoRAConfig, *, tables: bool = False) -> DuplexLM:
    """The model in `base` with adapters that change something, and with `tables` other embeddings."""
    model = load_lm(base, device="cpu").eval()
    add_lora(model, config)
    if tables:
        for table in embeddings(model).values():
            table.requires_grad_(True)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def test_adapters_come_back_with_their_layers_alone(base: Path, tmp_path: Path) -> None:
    ours = trained(base, LoRAConfig(rank=3, scaling=0.7, targets=r"transformer\..*"))
    save_lora(ours, tmp_path / "lora")
    again = load_lm(base, device="cpu", lora=tmp_path / "lora", fuse=False).eval()
    assert adapted_layers(again).keys() == adapted_layers(ours).keys()
    assert torch.equal(logits(again), logits(ours))
    learning = {name for name, p in again.named_parameters() if p.requires_grad}
    assert learning == {name for name, p in ours.named_parameters() if p.requires_grad}


def test_embeddings_that_were_trained_go_along_and_others_do_not(base: Path, tmp_path: Path) -> None:
    for tables in (True, False):
        save_lora(trained(base, LORA, tables=tables), tmp_path / "lora")
        names = load_file(tmp_path / "lora" / "lora.safetensors").keys()
        assert {name for name in names if ".lora_" not in name} == ({
            "text_emb.weight", *(f"emb.{i}.weight" for i in range(4)), "depformer_text_emb.weight",
            "depformer_emb.0.weight",
        } if tables else set())  # fmt: skip


def test_adapters_are_merged_over_those_that_config_json_names(base: Path, tmp_path: Path) -> None:
    first, second = trained(base, LORA), trained(base, LoRAConfig(rank=2, scaling=0.5, targets="text_linear"))
    save_lora(first, tmp_path / "first")
    save_lora(second, tmp_path / "second")
    (tmp_path / "first" / "lora.safetensors").rename(base / "lora.safetensors")
    write_json(base / "config.json", read_json(base / "config.json") | SAID)
    layer = second.get_submodule("text_linear")
    assert isinstance(layer, LoRALinear)
    expected = load_lm(base, device="cpu").text_linear.weight + 0.5 * layer.lora_B.weight @ layer.lora_A.weight
    torch.testing.assert_close(load_lm(base, device="cpu", lora=tmp_path / "second").text_linear.weight, expected)


def test_flat_attention_names_are_read(base: Path, tmp_path: Path) -> None:
    ours = trained(base, LORA)
    save_lora(ours, tmp_path / "lora")
    file, flat = tmp_path / "lora" / "lora.safetensors", dict[str, torch.Tensor]()
    for name, tensor in load_file(file).items():
        joined = name.replace("in_projs.0", "in_proj").replace("in_projs.1", "in_proj")
        joined = joined.replace("out_projs.0", "out_proj").replace("out_projs.1", "out_proj")
        flat[joined] = torch.cat((flat[joined], tensor)) if joined in flat else tensor
    save_file(flat, file)
    again = load_lm(base, device="cpu", lora=file, fuse=False).eval()
    assert torch.equal(logits(again), logits(ours))


def test_without_a_config_the_scaling_is_moshi_s_and_a_warning_says_so(base: Path, tmp_path: Path) -> None:
    ours = trained(base, LoRAConfig(rank=3, scaling=2.0))
    save_lora(ours, tmp_path / "lora")
    (tmp_path / "lora" / "config.json").unlink()
    with pytest.warns(UserWarning, match="tells lora_scaling: taken as 2"):
        again = load_lm(base, device="cpu", lora=tmp_path / "lora", fuse=False).eval()
    assert torch.equal(logits(again), logits(ours))


class TestBadInput:
    """Each is one line, before any weights of the model are read."""

    def refused(
        self, base: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], object], *, config: Any = SAID
    ) -> str:
        save_lora(adapted(), folder)
        state = load_file(folder / "lora.safetensors")
        change(state)
        save_file(state, folder / "lora.safetensors")
        write_json(folder / "config.json", config)
        (base / "model.safetensors").write_bytes(b"not read")
        with pytest.raises(UserError) as caught:
            load_lm(base, device="cpu", lora=folder)
        return str(caught.value)

    def test_no_file(self, base: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no such file; name a file of adapters, or a folder"):
            load_lm(base, device="cpu", lora=base)
        with pytest.raises(UserError, match="no such file or folder"):
            load_lm(base, device="cpu", lora=tmp_path / "nowhere.safetensors")

    def test_a_file_of_something_else(self, base: Path) -> None:
        with pytest.raises(UserError, match=r"model\.safetensors: holds no adapters"):
            load_lm(base, device="cpu", lora=base / "model.safetensors")

    def test_layers_that_the_model_has_not(self, base: Path, tmp_path: Path) -> None:
        def rename(state: dict[str, torch.Tensor]) -> None:
            for half in "AB":
                state[f"transformer.layers.9.lora_{half}.weight"] = state.pop(f"text_linear.lora_{half}.weight")

        told = self.refused(base, tmp_path / "a", rename)
        assert "holds an adapter for transformer.layers.9, which this model has not; use the model that" in told

    def test_half_of_a_pair(self, base: Path, tmp_path: Path) -> None:
        told = self.refused(base, tmp_path / "a", lambda state: state.pop("text_linear.lora_B.weight"))
        assert "lacks text_linear.lora_B.weight, the other half of an adapter" in told

    def test_another_shape(self, base: Path, tmp_path: Path) -> None:
        told = self.refused(base, tmp_path / "a", lambda s: s.update({"text_linear.lora_A.weight": torch.ones(4, 8)}))
        assert "text_linear.lora_A.weight is [4, 8], not [4, 32]" in told

    def test_a_tensor_that_nobody_knows(self, base: Path, tmp_path: Path) -> None:
        told = self.refused(base, tmp_path / "a", lambda s: s.update({"out_norm.alpha": torch.ones(1, 1, 32)}))
        assert "holds out_norm.alpha, which is no adapter and no embedding of this model" in told

    def test_a_config_of_another_rank(self, base: Path, tmp_path: Path) -> None:
        told = self.refused(base, tmp_path / "a", lambda _: None, config=SAID | {"lora_rank": 8})
        assert "is [4, 16], not [8, 16]; use the model, and the config.json" in told

    def test_a_config_with_a_scaling_that_is_none(self, base: Path, tmp_path: Path) -> None:
        told = self.refused(base, tmp_path / "a", lambda _: None, config=SAID | {"lora_scaling": "2"})
        assert "config.json: lora_scaling is '2'" in told

    def test_a_model_without_adapters_is_not_saved(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="the model has no adapters"):
            save_lora(DuplexLM(CONFIG), tmp_path / "lora")
        assert not (tmp_path / "lora").exists()
