"""One name gives all parts of a model, and a part that is not there is said in one line."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import duologue
from duologue.base.errors import UserError
from duologue.base.files import read_json, write_json
from duologue.engine.bundle import NANO, Bundle, find, load, read_sampling
from duologue.engine.export import export
from duologue.engine.lineage import INTERACTIVITY, MOSHI, PERSONAPLEX, lineage
from duologue.engine.modes import Mode
from duologue.engine.voices import Voices
from duologue.model.hub import resolve
from duologue.model.lora import LoRAConfig, LoRALinear, add_lora, fuse_lora
from duologue.model.lora_files import save_lora

TINY = "random:tiny"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    export(load(TINY, device="cpu"), tmp_path / "model")
    return tmp_path / "model"


def same(a: Bundle, b: Bundle) -> bool:
    pairs = zip(a.lm.state_dict().items(), b.lm.state_dict().items(), strict=True)
    return all(k == n and torch.equal(x, y) for (k, x), (n, y) in pairs)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, duologue; assert 'torch' not in sys.modules; assert callable(duologue.load)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert duologue.load is load


class TestRandom:
    def test_a_seed_is_a_model(self) -> None:
        assert same(load(TINY, device="cpu"), load("random:tiny@0", device="cpu"))
        assert not same(load(TINY, device="cpu"), load("random:tiny@1", device="cpu"))

    def test_it_hears_and_speaks(self) -> None:
        bundle = load(TINY, device="cpu")
        codec = bundle.need_codec()
        audio = 0.1 * torch.randn(1, 1, 24_000, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            codes = codec.encode(audio)
            wave = codec.decode(codes)
        assert codes.shape == (1, 8, 13)
        assert all(len(row.unique()) > 4 for row in codes[0])
        assert wave.shape == (1, 1, 13 * 1920)
        assert 0.01 < wave.std() < 1

    def test_its_codec_is_the_same_in_another_process_and_leaves_the_global_generator_alone(self) -> None:
        code = (
            "import torch; torch.manual_seed(99); from duologue.engine import load;"
            "codec = load('random:tiny@4', device='cpu').codec;"
            "print(*(x.double().sum().item() for x in codec.state_dict().values()))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        torch.manual_seed(5)
        codec = load("random:tiny@4", device="cpu").codec
        drawn = torch.rand(1)
        assert [float(x) for x in done.stdout.split()] == [x.double().sum().item() for x in codec.state_dict().values()]
        torch.manual_seed(5)
        assert torch.equal(torch.rand(1), drawn)

    def test_it_has_no_words(self) -> None:
        with pytest.raises(UserError, match="random:tiny: has no text tokenizer"):
            load(TINY, device="cpu").need_text()

    @pytest.mark.parametrize(
        ("name", "named"),
        [
            ("random:tinny@1", "'tinny' is no preset.*tiny"),
            ("random:", "'' is no preset"),
            ("random:tiny@", "'' is no seed"),
            ("random:tiny@-1", "'-1' is no seed"),
            ("random:tiny@x", "'x' is no seed"),
        ],
    )
    def test_what_is_no_preset_or_seed(self, name: str, named: str) -> None:
        with pytest.raises(UserError, match=named):
            load(name, device="cpu")


def test_an_installation_without_nano_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from duologue.engine import bundle

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundle, "NANO", tmp_path / "absent")
    with pytest.raises(UserError, match="nano: is not in this installation"):
        load("nano")


def test_only_a_folder_with_weights_stands_in_for_nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano").mkdir()
    shipped, made = find(NANO), find("nano")
    assert made is not None
    assert shipped is not None
    assert made.source == shipped.source
    export(load(TINY, device="cpu"), tmp_path / "nano")
    made = find("nano")
    assert made is not None
    assert made.source != shipped.source


class TestFolder:
    def test_it_loads_as_what_was_written(self, folder: Path) -> None:
        first, again = load(TINY, device="cpu"), load(folder, device="cpu")
        assert same(first, again)
        assert again.lm.config == replace(
            first.lm.config, depformer_dim_feedforward=first.lm.config.depth_hidden, depformer_kv_repeat=1
        )
        assert again.config.lineage == first.config.lineage
        audio = 0.1 * torch.randn(1, 1, 9600, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(first.need_codec().encode(audio), again.need_codec().encode(audio))

    def test_a_file_of_weights_stands_for_its_folder(self, folder: Path) -> None:
        assert same(load(folder / "model.safetensors", device="cpu"), load(folder, device="cpu"))

    def test_the_language_model_takes_the_number_format_and_the_codec_stays(self, folder: Path) -> None:
        bundle = load(folder, device="cpu", dtype="bf16")
        assert bundle.lm.text_linear.weight.dtype == torch.bfloat16
        assert {x.dtype for x in bundle.codec.parameters()} == {torch.float32}

    def test_without_a_codec(self, folder: Path) -> None:
        (folder / "mimi.safetensors").unlink()
        with pytest.raises(UserError, match=r"mimi\.safetensors.*codec=False"):
            load(folder, device="cpu")
        bundle = load(folder, device="cpu", codec=False)
        with pytest.raises(UserError, match="was loaded without its codec"):
            bundle.need_codec()

    def test_small_parts_are_missed_before_the_weights_are_read(self, folder: Path) -> None:
        write_json(folder / "config.json", read_json(folder / "config.json") | {"tokenizer_name": "words.model"})
        (folder / "model.safetensors").write_bytes(b"broken")
        with pytest.raises(UserError, match=r"words\.model: no such file; tokenizer_name in config\.json"):
            load(folder, device="cpu")

    def test_ours_may_also_stand_in_config_json(self, folder: Path) -> None:
        ours = read_json(folder / "duologue.json")
        (folder / "duologue.json").unlink()
        write_json(folder / "config.json", read_json(folder / "config.json") | {"duologue": ours | {"user_lag": 0}})
        assert load(folder, device="cpu").lm.config.user_lag == 0

    def test_sampling_of_the_authors(self, folder: Path) -> None:
        drawn = {"temp": 0.6, "temp_text": 0.5, "top_k": 100, "top_k_text": 10, "cfg_coef": 1.0}
        write_json(folder / "config.json", read_json(folder / "config.json") | {"lm_gen_config": drawn})
        found = load(folder, device="cpu").config.sampling
        assert (found.audio_temperature, found.text_temperature) == (0.6, 0.5)
        assert (found.audio_top_k, found.text_top_k) == (100, 10)
        assert read_sampling({"use_sampling": False}).text_temperature == 0
        assert read_sampling({"cfg_coef": 2.0}).guidance == 1  # by conditions, not by text
        assert read_sampling({"cfg_coef": 2.0, "cfg_is_no_text": True}).guidance == 2


class TestAdapters:
    @pytest.fixture
    def adapted(self, folder: Path) -> tuple[Path, Bundle]:
        """A folder with adapters beside the weights, and the model that they make."""
        bundle = load(folder, device="cpu")
        add_lora(bundle.lm, LoRAConfig(rank=3, scaling=1.5))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for module in bundle.lm.modules():
                if isinstance(module, LoRALinear):
                    module.lora_B.weight.normal_(0, 0.1, generator=generator)
        save_lora(bundle.lm, folder / "lora")
        shutil.copyfile(folder / "lora" / "lora.safetensors", folder / "lora.safetensors")
        fuse_lora(bundle.lm)
        return folder, bundle

    @pytest.mark.parametrize("named", [True, False])
    def test_a_config_with_lora_loads_merged(self, adapted: tuple[Path, Bundle], named: bool) -> None:
        folder, wanted = adapted
        config = {"lora": True, "lora_rank": 3, "lora_scaling": 1.5} | (
            {"lora_name": "lora.safetensors"} if named else {}
        )
        write_json(folder / "config.json", read_json(folder / "config.json") | config)
        assert same(load(folder, device="cpu"), wanted)
        apart = load(folder, device="cpu", fuse=False)
        assert any(isinstance(module, LoRALinear) for module in apart.lm.modules())
        export(apart, folder.parent / "out")  # they are merged as they are written
        assert same(load(folder.parent / "out", device="cpu"), wanted)

    def test_a_config_that_promises_adapters_must_have_them(self, folder: Path) -> None:
        write_json(folder / "config.json", read_json(folder / "config.json") | {"lora": True})
        with pytest.raises(UserError, match=r"lora\.safetensors: no such file; config\.json says lora"):
            load(folder, device="cpu")

    def test_adapters_go_over_any_model_also_random_weights(self, adapted: tuple[Path, Bundle]) -> None:
        folder, wanted = adapted
        assert same(load(folder, device="cpu", lora=folder / "lora"), wanted)
        assert same(load(TINY, device="cpu", lora=folder / "lora" / "lora.safetensors"), wanted)

    def test_what_lies_beside_them_says_whose_they_are_and_what_they_were_taught(
        self, adapted: tuple[Path, Bundle]
    ) -> None:
        folder, _ = adapted
        last = load(folder, device="cpu", lora=folder / "lora").config.lineage[-1]
        assert (last.what, last.weights, last.licence) == ("Adapters (LoRA)", "lora", "unknown")
        layer = {"what": "Training", "weights": "talk", "licence": "CC BY 4.0"}
        taught = {"lineage": [layer], "modes": {"transcribe": {"prompt": "write", "text_delay": 0.4}}}
        write_json(folder / "lora" / "duologue.json", taught)
        config = load(folder, device="cpu", lora=folder / "lora").config
        assert config.name == f"{folder} with {folder / 'lora'}"
        assert [layer] == [asdict(x) for x in config.lineage]
        assert config.modes.transcribe == Mode(prompt="write", text_delay=0.4)
        assert config.modes.speak == load(folder, device="cpu").config.modes.speak

    def test_adapters_of_another_model(self, folder: Path, tmp_path: Path) -> None:
        other = load(TINY, device="cpu").lm
        add_lora(other, LoRAConfig(rank=2, targets=r"transformer\.layers\.1.*"))
        save_lora(other, tmp_path)
        load(folder, device="cpu", lora=tmp_path / "lora.safetensors")
        small = random_of(layers=1)
        export(small, tmp_path / "small")
        with pytest.raises(UserError, match=r"holds an adapter for transformer\.layers\.1.*, which this model has not"):
            load(tmp_path / "small", device="cpu", lora=tmp_path / "lora.safetensors")
        export(random_of(dim=64), tmp_path / "wide")
        with pytest.raises(UserError, match=r"lora_A\.weight is \[2, 32\], not \[2, 64\]"):
            load(tmp_path / "wide", device="cpu", lora=tmp_path / "lora.safetensors")


def random_of(*, layers: int = 2, dim: int = 32) -> Bundle:
    from duologue.model.initial import random_lm

    bundle = load(TINY, device="cpu")
    config = replace(bundle.lm.config, num_layers=layers, dim=dim)
    return replace(bundle, lm=random_lm(config, device="cpu"))


def pack(archive: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(archive, "w:gz") as packed:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))


class TestVoices:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("DUOLOGUE_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    def test_a_folder(self, folder: Path) -> None:
        assert dict(load(folder, device="cpu").voices) == {}
        (folder / "voices").mkdir()
        for name in ("VARM1.pt", "NATF0.pt", ".hidden"):
            (folder / "voices" / name).write_bytes(b"x")
        voices = load(folder, device="cpu").voices
        assert list(voices) == ["NATF0", "VARM1"]
        assert voices.pick("NATF0") == folder / "voices" / "NATF0.pt"
        with pytest.raises(UserError, match="'NATF9' is no voice of this model; use one of NATF0, VARM1"):
            voices.pick("NATF9")

    def test_an_archive_is_unpacked_once_and_at_the_first_look(self, folder: Path, cache: Path) -> None:
        pack(folder / "voices.tgz", {"voices/NATF0.pt": b"zero", "voices/NATM1.pt": b"one"})
        voices = load(folder, device="cpu").voices
        assert not cache.exists()
        assert voices["NATM1"].read_bytes() == b"one"
        made = voices["NATM1"].stat().st_mtime_ns
        assert Voices(resolve(folder))["NATM1"].stat().st_mtime_ns == made
        assert len(voices) == 2

    @pytest.mark.parametrize("spoil", ["cut", "escape"])
    def test_a_broken_or_hostile_archive(self, folder: Path, cache: Path, spoil: str) -> None:
        archive = folder / "voices.tgz"
        pack(archive, {"../../outside.pt" if spoil == "escape" else "voices/NATF0.pt": bytes(range(256)) * 40})
        if spoil == "cut":
            archive.write_bytes(archive.read_bytes()[:60])
        with pytest.raises(UserError, match=r"voices\.tgz: cannot be unpacked"):
            list(load(folder, device="cpu").voices)
        assert not [path for path in cache.rglob("*") if path.is_file()]
        assert not (cache.parent / "outside.pt").exists()


def test_the_lineage_of_known_repositories() -> None:
    assert lineage("kyutai/personaplex-rl-seamless") == (MOSHI, PERSONAPLEX, INTERACTIVITY)
    assert [x.licence for x in lineage("somebody/something")] == ["unknown"]


def test_a_repository_tells_its_lineage_by_its_name_and_sends_voices_when_asked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = pytest.importorskip("huggingface_hub.errors")
    monkeypatch.setenv("DUOLOGUE_CACHE", str(tmp_path / "cache"))
    pack(folder / "voices.tgz", {"voices/NATF0.pt": b"zero"})
    (folder / "duologue.json").unlink()
    asked: list[str] = []

    def download(repo: str, file: str, *, revision: str | None = None) -> str:
        asked.append(file)
        if not (folder / file).is_file():
            raise errors.EntryNotFoundError.__new__(errors.EntryNotFoundError)
        return str(folder / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    bundle = load("kyutai/personaplex-rl-seamless@main", device="cpu")
    assert bundle.config.lineage == (MOSHI, PERSONAPLEX, INTERACTIVITY)
    assert bundle.text is None
    assert "voices.tgz" not in asked
    assert list(bundle.voices) == ["NATF0"]
    assert asked.count("voices.tgz") == 1
