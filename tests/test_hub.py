"""A model is found by its name: a folder, a file or a repository; and what cannot be found is said in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from duologue.base.errors import UserError
from duologue.base.files import write_json
from duologue.model import load_lm
from duologue.model.checkpoint import save_lm
from duologue.model.config import kyutai_config
from duologue.model.hub import resolve
from duologue.model.initial import random_lm
from duologue.model.lm import DuplexLM
from duologue.model.presets import PRESETS

errors = pytest.importorskip("huggingface_hub.errors")
TINY = PRESETS["tiny"].lm
REPO = "owner/name"
COPIED = (
    "linears.{}", "depformer_in.{}", "depformer.layers.1.gating.{}.linear_in",
    "depformer.layers.0.self_attn.in_projs.{}", "depformer.layers.1.self_attn.out_projs.{}",
)  # fmt: skip
"""Weights of each depth step."""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may reach a network or see a token of the machine."""
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("asked the hub"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub whose repositories are folders."""
    fake = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fake.download)
    return fake


class Hub:
    def __init__(self, root: Path) -> None:
        self.root, self.asked = root, []

    def download(self, repo: str, file: str, *, revision: str | None = None) -> str:
        self.asked.append((repo, file, revision))
        if not (self.root / repo).is_dir():
            raise made("RepositoryNotFoundError")
        if revision not in (None, "v2"):
            raise made("RevisionNotFoundError")
        if not (self.root / repo / file).is_file():
            raise made("EntryNotFoundError")
        return str(self.root / repo / file)


def made(name: str) -> Exception:
    """An error of the hub's library, without the answer of a server that its constructor asks for."""
    kind = getattr(errors, name)
    error = kind.__new__(kind)
    error.args = (f"{name}: long text\nof several lines",)
    return error


def equal(a: DuplexLM, b: DuplexLM) -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return all(k == n and torch.equal(x, y) for (k, x), (n, y) in pairs)


class TestNames:
    def test_folders_and_files_come_before_repositories(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save_lm(random_lm(TINY, device="cpu"), tmp_path / "owner" / "name")
        monkeypatch.chdir(tmp_path)
        assert resolve(REPO).folder == Path("owner/name")
        assert resolve("owner/name/model.safetensors").weights == Path("owner/name/model.safetensors")
        monkeypatch.chdir("/")
        assert resolve(REPO).repo == REPO

    def test_a_revision_stands_behind_an_at(self) -> None:
        source = resolve("kyutai/moshiko-pytorch-bf16@refs/pr/3")
        assert (source.repo, source.revision) == ("kyutai/moshiko-pytorch-bf16", "refs/pr/3")

    @pytest.mark.parametrize("name", ["", "name", "a/b/c", "./a/b", "owner/na me", "nowhere/model.safetensors/"])
    def test_what_is_nothing_is_said(self, name: str) -> None:
        with pytest.raises(UserError, match="no such file or folder"):
            resolve(name)


class TestDownload:
    def test_a_repository_loads_like_its_folder_and_only_what_is_needed_comes(self, hub: Hub) -> None:
        model = random_lm(TINY, 3, device="cpu")
        save_lm(model, hub.root / REPO)
        assert equal(load_lm(REPO, device="cpu"), model)
        assert {file for _, file, _ in hub.asked} == {"config.json", "duologue.json", "model.safetensors"}

    def test_the_revision_is_asked_for(self, hub: Hub) -> None:
        save_lm(random_lm(TINY, device="cpu"), hub.root / REPO)
        load_lm(f"{REPO}@v2", device="cpu")
        assert {revision for *_, revision in hub.asked} == {"v2"}
        with pytest.raises(UserError, match="has no revision 'v3'"):
            load_lm(f"{REPO}@v3", device="cpu")

    def test_names_in_a_config_lead_to_other_repositories_and_files(self, hub: Hub, tmp_path: Path) -> None:
        model = random_lm(TINY, device="cpu")
        save_lm(model, hub.root / "other" / "base")
        for where in ("hf://other/base/model.safetensors", f"file://{hub.root}/other/base/model.safetensors"):
            folder = tmp_path / "here"
            write_json(folder / "config.json", kyutai_config(TINY) | {"moshi_name": where})
            assert equal(load_lm(folder, device="cpu"), model)
        assert hub.asked[0] == ("other/base", "model.safetensors", None)

    def test_weights_in_several_files(self, hub: Hub) -> None:
        model = random_lm(TINY, device="cpu")
        folder = hub.root / REPO
        save_lm(model, folder)
        whole = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = sorted(whole)
        halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for file, held in halves.items():
            save_file({name: whole[name] for name in held}, folder / file)
        index = {name: file for file, held in halves.items() for name in held}
        write_json(folder / "model.safetensors.index.json", {"weight_map": index})
        assert equal(load_lm(REPO, device="cpu"), model)
        assert equal(load_lm(folder, device="cpu"), model)
        (folder / "b.safetensors").unlink()
        for name in (REPO, folder):
            with pytest.raises(UserError, match=r"b\.safetensors"):
                load_lm(name, device="cpu")

    @pytest.mark.parametrize(
        ("error", "named"),
        [
            (
                "GatedRepoError",
                r"owner/name: is gated.*accept its licence at https://huggingface\.co/owner/name.*HF_TOKEN",
            ),
            ("RepositoryNotFoundError", "no folder here and no repository"),
            (
                "LocalEntryNotFoundError",
                r"config\.json is not in the cache, and the Hugging Face hub cannot be reached",
            ),
            ("OfflineModeIsEnabled", "HF_HUB_OFFLINE is set"),
            ("HfHubHTTPError", r"config\.json cannot be downloaded: HfHubHTTPError: long text"),
        ],
    )
    def test_each_failure_is_one_line(self, monkeypatch: pytest.MonkeyPatch, error: str, named: str) -> None:
        monkeypatch.setattr("huggingface_hub.hf_hub_download", raising(made(error)))
        with pytest.raises(UserError, match=named) as caught:
            load_lm(REPO, device="cpu")
        assert "\n" not in str(caught.value)

    def test_a_token_without_access_is_told_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
        monkeypatch.setattr("huggingface_hub.hf_hub_download", raising(made("GatedRepoError")))
        with pytest.raises(UserError, match="is gated, and your token has no access"):
            load_lm(REPO, device="cpu")

    def test_a_connection_that_breaks_off_and_a_full_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        transport = errors.HfHubHTTPError.__bases__[0]
        for broken in (transport("peer closed connection"), OSError(28, "No space left on device")):
            monkeypatch.setattr("huggingface_hub.hf_hub_download", raising(broken))
            with pytest.raises(UserError, match=r"cannot be downloaded: .*(closed connection|No space left)"):
                load_lm(REPO, device="cpu")

    def test_a_repository_without_weights(self, hub: Hub) -> None:
        write_json(hub.root / REPO / "config.json", kyutai_config(TINY))
        with pytest.raises(UserError, match=r"owner/name: has no file model\.safetensors"):
            load_lm(REPO, device="cpu")

    def test_what_the_cache_knows_to_be_absent_is_absent_without_a_network(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.hf_hub_download", raising(made("LocalEntryNotFoundError")))
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: object())
        assert resolve(REPO).find("config.json") is None


def raising(error: Exception) -> Callable[..., str]:
    def download(*_: object, **__: object) -> str:
        raise error

    return download


class TestShapes:
    def test_a_config_of_another_kind_is_refused_before_any_weights_come(self, hub: Hub) -> None:
        write_json(hub.root / REPO / "config.json", {"model_type": "hibiki"})
        with pytest.raises(UserError, match="hibiki"):
            load_lm(REPO, device="cpu")
        assert all(file != "model.safetensors" for _, file, _ in hub.asked)

    @pytest.mark.parametrize("config", [None, {"model_type": "personaplex", "version": "7b-v1"}])
    def test_without_the_shape_weights_must_be_a_7b_model_s(self, tmp_path: Path, config: dict | None) -> None:
        save_lm(random_lm(TINY, device="cpu"), tmp_path)
        (tmp_path / "config.json").unlink()
        if config is not None:
            write_json(tmp_path / "config.json", config)
        with pytest.raises(UserError, match=r"neither Moshi 7B's nor PersonaPlex 7B's"):
            load_lm(tmp_path, device="cpu")

    @pytest.mark.parametrize(("steps", "kind", "lag"), [(8, "Moshi 7B", 1), (16, "PersonaPlex 7B", 0)])
    def test_7b_models_are_told_apart_by_their_weights(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, kind: str, lag: int
    ) -> None:
        from duologue.model import load

        shapes = {f"linears.{i}.weight": (2048, 1024) for i in range(steps)} | {"text_emb.weight": (32001, 4096)}
        monkeypatch.setattr(load, "open_weights", lambda _: type("Weights", (), {"shapes": shapes}))
        (tmp_path / "model.safetensors").touch()
        with pytest.warns(UserWarning, match=f"no config.json: taken for {kind}"):
            config = load.find_checkpoint(resolve(tmp_path)).config
        assert (config.dep_q, config.user_lag, config.num_layers) == (steps, lag, 32)

    def test_a_moshi_starts_a_personaplex_with_its_depth_weights_twice(self, tmp_path: Path) -> None:
        moshi = random_lm(TINY, device="cpu")
        save_lm(moshi, tmp_path)
        write_json(tmp_path / "config.json", kyutai_config(TINY) | {"dep_q": 16})
        with pytest.warns(UserWarning, match="depth weights of 8 codebooks of 16"):
            started = load_lm(tmp_path, device="cpu")
        own, before = started.state_dict(), moshi.state_dict()
        for q in range(8):
            for group in COPIED:
                first, second = (own[group.format(i) + ".weight"] for i in (q, q + 8))
                assert torch.equal(first, before[group.format(q) + ".weight"])
                assert torch.equal(second, first)
        assert torch.equal(own["depformer_emb.9.weight"], before["depformer_emb.1.weight"])
        assert not own["depformer_emb.7.weight"].any()
        codes = torch.randint(0, 60, (1, 17, 9))
        with torch.no_grad():
            wanted, got = moshi(codes), started(codes, depth_steps=8)
        torch.testing.assert_close(got.audio_logits, wanted.audio_logits, atol=1e-6, rtol=0)


class TestNumberFormats:
    @pytest.mark.parametrize("kept", ["fp32", "bf16", "fp16"])
    def test_weights_are_written_and_read_in_any_format(self, tmp_path: Path, kept: str) -> None:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[kept]
        model = random_lm(TINY, device="cpu", dtype="fp32")
        save_lm(model, tmp_path, dtype=dtype)
        found = load_file(tmp_path / "model.safetensors")
        assert {x.dtype for x in found.values()} == {dtype}
        again = load_lm(tmp_path, device="cpu", dtype="fp32").state_dict()
        assert all(torch.equal(again[name], x.to(dtype).float()) for name, x in model.state_dict().items())
        assert load_lm(tmp_path, device="cpu", dtype=kept).text_linear.weight.dtype == dtype

    def test_a_loaded_model_and_its_file_do_not_change_one_another(self, tmp_path: Path) -> None:
        model = random_lm(TINY, device="cpu")
        save_lm(model, tmp_path)
        again, changed = load_lm(tmp_path, device="cpu"), load_lm(tmp_path, device="cpu")
        with torch.no_grad():
            for x in changed.parameters():
                x.add_(1)
        assert equal(load_lm(tmp_path, device="cpu"), model)
        save_lm(changed, tmp_path)
        shutil.rmtree(tmp_path)
        assert equal(again, model)
