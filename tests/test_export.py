"""What `duologue export` writes, moshi's own loader and PersonaPlex's file layout agree with."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from duologue.base.errors import UserError
from duologue.base.files import read_json, write_json
from duologue.cli import main
from duologue.codec import load_codec, save_codec
from duologue.codec.spectral import SpectralCodec
from duologue.codec.weights import write_tensors
from duologue.engine.bundle import KYUTAI_CODEC, Bundle, load
from duologue.engine.card import model_card
from duologue.engine.export import export
from duologue.engine.lineage import INTERACTIVITY, MOSHI, PERSONAPLEX, learned, lineage
from duologue.model.presets import PRESETS

TINY = "random:tiny"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in nano's shape."""
    made = tmp_path_factory.mktemp("nano") / "first"
    export(load("random:nano", device="cpu", dtype="fp16"), made)
    return made


@pytest.fixture
def bundle() -> Bundle:
    return load(TINY, device="cpu")


def codes_of(bundle: Bundle, frames: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, bundle.lm.config.card, (2, 17, frames), generator=generator)


class TestUpstream:
    def test_moshi_s_loader_gives_the_same_logits_and_codes(
        self, bundle: Bundle, tmp_path: Path, moshi_lm: ModuleType
    ) -> None:
        folder = tmp_path / "out"
        drawn = replace(bundle, config=replace(bundle.config, lm_gen_config={"temp": 0.6}))
        export(drawn, folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from moshi.models.loaders import CheckpointInfo

            info = CheckpointInfo.from_hf_repo(
                "nobody/nothing",
                moshi_weights=folder / "model.safetensors",
                mimi_weights=folder / "mimi.safetensors",
                tokenizer=folder / "none.model",
                config_path=folder / "config.json",
                mimi_config_path=folder / "mimi.json",
            )
            theirs, mimi = info.get_moshi(device="cpu", dtype=torch.float32), info.get_mimi(device="cpu")
        assert (info.model_type, info.lm_gen_config) == ("moshi", {"temp": 0.6})
        codes = codes_of(bundle)
        audio = 0.1 * torch.randn(1, 1, 9600, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            wanted, got = theirs(codes), bundle.lm(codes)
            assert torch.equal(mimi.encode(audio), bundle.need_codec().encode(audio))
        mask = got.audio_mask
        torch.testing.assert_close(got.audio_logits[mask], wanted.logits[mask], atol=1e-4, rtol=0)
        torch.testing.assert_close(
            got.text_logits[got.text_mask], wanted.text_logits[:, 0][got.text_mask], atol=1e-4, rtol=0
        )

    def test_unknown_keys_would_break_moshi_s_loader(
        self, bundle: Bundle, tmp_path: Path, moshi_lm: ModuleType
    ) -> None:
        """Why ours lie in duologue.json."""
        export(bundle, tmp_path / "out")
        values = read_json(tmp_path / "out" / "config.json")
        known = {k: v for k, v in values.items() if not k.endswith("_name") and k != "model_type"}
        moshi_lm.LMModel(**known)
        with pytest.raises(TypeError, match="duologue"):
            moshi_lm.LMModel(**known, duologue={})

    def test_personaplex_s_files_come_back_as_they_were(self, shared_data: Path, tmp_path: Path) -> None:
        source = shared_data / "goldens" / "personaplex_tiny"
        bundle = load(source, device="cpu", codec=False)
        export(bundle, tmp_path / "out")
        before, after = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "out"))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        again = load(tmp_path / "out", device="cpu", codec=False)
        assert again.lm.config.user_lag == bundle.lm.config.user_lag == 0


class TestFolder:
    def test_ours_is_kept(self, bundle: Bundle, tmp_path: Path) -> None:
        odd = replace(bundle.lm.config, user_lag=0)
        bundle.lm.config = odd
        export(replace(bundle, config=replace(bundle.config, lineage=(MOSHI, PERSONAPLEX))), tmp_path / "a")
        export(load(tmp_path / "a", device="cpu"), tmp_path / "b")
        again = load(tmp_path / "b", device="cpu")
        assert again.lm.config.user_lag == 0
        assert again.config.lineage == (MOSHI, PERSONAPLEX)

    def test_tokenizer_and_voices_go_along(self, bundle: Bundle, tmp_path: Path) -> None:
        sentencepiece = pytest.importorskip("sentencepiece")
        source = tmp_path / "source"
        export(bundle, source)
        (source / "voices").mkdir()
        (source / "voices" / "NATF0.pt").write_bytes(b"x")
        text = tmp_path / "text.txt"
        text.write_text("a short text about nothing much\nand another one\n" * 20)
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=str(source / "words"), vocab_size=20, minloglevel=2
        )
        write_json(source / "config.json", read_json(source / "config.json") | {"tokenizer_name": "words.model"})
        export(load(source, device="cpu"), tmp_path / "out")
        again = load(tmp_path / "out", device="cpu")
        assert again.need_text().encode("a text") == load(source, device="cpu").need_text().encode("a text") != []
        assert list(again.voices) == ["NATF0"]
        export(load(source, device="cpu"), tmp_path / "silent", voices=False)
        assert not (tmp_path / "silent" / "voices").exists()

    def test_only_kyutai_s_codec_goes_under_kyutai_s_name(
        self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("duologue.codec.mimi.MimiConfig", lambda: PRESETS["tiny"].codec)  # as if Mimi were small
        kyutai = replace(bundle, config=replace(bundle.config, kyutai_codec=True))
        files = {}
        for name, given in (("random", bundle), ("kyutai", kyutai)):
            export(given, tmp_path / name)
            files[name] = {k: v for k, v in read_json(tmp_path / name / "config.json").items() if k.startswith("mimi")}
        assert files["random"] == {"mimi_name": "mimi.safetensors", "mimi_config_name": "mimi.json"}
        assert files["kyutai"] == {"mimi_name": "tokenizer-e351c8d8-checkpoint125.safetensors"}
        assert (tmp_path / "kyutai" / files["kyutai"]["mimi_name"]).is_file()
        assert not load(tmp_path / "random", device="cpu").config.kyutai_codec

    @pytest.mark.parametrize(
        ("name", "kyutai"),
        [
            ("tokenizer-e351c8d8-checkpoint125.safetensors", True),
            ("mimi-pytorch-e351c8d8@125.safetensors", True),
            ("hf://kyutai/mimi/model.safetensors", True),
            ("mimi.safetensors", False),
        ],
    )
    def test_kyutai_s_codec_is_known_by_its_name(self, name: str, kyutai: bool) -> None:
        assert (KYUTAI_CODEC.fullmatch(name) is not None) is kyutai

    def test_nothing_is_left_of_a_failed_export(
        self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> str:
            raise RuntimeError("full disk")

        monkeypatch.setattr("duologue.engine.card.model_card", fail)
        with pytest.raises(RuntimeError):
            export(bundle, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_is_replaced_only_if_it_is_an_export_and_that_was_asked_for(
        self, bundle: Bundle, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        out.mkdir()
        export(bundle, out)  # empty: taken
        (out / "old").touch()
        with pytest.raises(UserError, match=r"holds files already.*--force"):
            export(bundle, out)
        export(bundle, out, force=True)
        assert not (out / "old").exists()
        (out / "duologue.json").unlink()
        with pytest.raises(UserError, match="was not written by an export"):
            export(bundle, out, force=True)
        assert (out / "model.safetensors").exists()
        with pytest.raises(UserError, match="is a file"):
            export(bundle, out / "config.json")


class TestCard:
    def card(self, bundle: Bundle, repo: str) -> str:
        config = replace(bundle.config, name=repo, lineage=lineage(repo))
        return model_card(replace(bundle, config=config), "mine", {"model.safetensors": 123_000_000})

    def test_every_layer_has_its_licence(self, bundle: Bundle) -> None:
        text = self.card(bundle, INTERACTIVITY.weights)
        rows = [line for line in text.splitlines() if line.startswith("| ") and "licence" not in line]
        assert [row.count("CC BY 4.0") for row in rows if "moshiko" in row] == [1]
        assert any("nvidia/personaplex-7b-v1" in row and "NVIDIA Open Model License" in row for row in rows)
        assert any(INTERACTIVITY.weights in row and "CC BY-NC 4.0" in row for row in rows)
        assert "license: other" in text
        assert "| `model.safetensors` | 123.00 MB |" in text

    def test_one_licence_is_named_as_the_hub_does(self, bundle: Bundle) -> None:
        text = self.card(bundle, MOSHI.weights)
        assert "license: cc-by-4.0" in text.split("---")[1]
        assert f"- {MOSHI.weights}" in text.split("---")[1]

    def test_what_is_not_known_is_said(self, bundle: Bundle) -> None:
        assert "find it out before" in self.card(bundle, "somebody/something")

    def test_places_on_this_machine_are_not_told(self, bundle: Bundle, tmp_path: Path) -> None:
        export(bundle, tmp_path / "first")
        (tmp_path / "first" / "duologue.json").unlink()
        export(load(tmp_path / "first", device="cpu"), tmp_path / "second")
        text = (tmp_path / "second" / "README.md").read_text() + (tmp_path / "second" / "duologue.json").read_text()
        assert str(tmp_path) not in text
        assert "`first`" in text

    def test_what_was_learned_is_a_layer_of_its_own(self, bundle: Bundle) -> None:
        once = learned(bundle.config.lineage, "Training", "talks", "CC BY-SA 3.0")
        assert [x.weights for x in once] == ["talks"]
        assert learned(once, "Training", "talks", "CC BY-SA 3.0") == once
        assert [x.weights for x in learned((MOSHI,), "Training", "talks", "x")] == [MOSHI.weights, "talks"]
        card = model_card(replace(bundle, config=replace(bundle.config, lineage=once)), "m", {})
        assert "license: cc-by-sa-3.0" in card

    def test_random_weights_need_no_licence(self, bundle: Bundle) -> None:
        text = model_card(bundle, "mine", {})
        assert "random numbers" in text
        assert "license" not in text.split("---")[1]


class TestCommand:
    def test_it_writes_a_folder_that_loads(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out, said = tmp_path / "out", tmp_path / "said.json"
        assert main(["export", "random:tiny@3", "-o", str(out), "--dtype", "bf16", "--json", str(said)]) == 0
        assert "bf16" in capsys.readouterr().out
        result = json.loads(said.read_text())
        assert set(result["files"]) == {path.name for path in out.iterdir()}
        found = load_file(out / "model.safetensors")
        assert {x.dtype for x in found.values()} == {torch.bfloat16}
        model, again = load("random:tiny@3", device="cpu").lm, load(out, device="cpu").lm
        assert torch.equal(again.text_linear.weight, model.text_linear.weight.bfloat16().float())

    def test_the_format_of_the_source_is_kept(self, tmp_path: Path) -> None:
        assert main(["export", TINY, "-o", str(tmp_path / "a"), "--dtype", "fp16"]) == 0
        assert main(["export", str(tmp_path / "a"), "-o", str(tmp_path / "b")]) == 0
        assert load_file(tmp_path / "b" / "model.safetensors")["text_emb.weight"].dtype == torch.float16

    def test_a_mistake_is_one_line_and_nothing_is_read(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "letter.txt").touch()
        for source, out in (("nowhere/at/all", tmp_path / "out"), ("random:moshi-7b", tmp_path / "mine")):
            assert main(["export", source, "-o", str(out)]) == 2
            assert capsys.readouterr().err.count("\n") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]


class TestNanosCodec:
    """The codec of `nano`, whose decoder may be trained on and which may be kept in half precision."""

    def test_half_precision_halves_it_and_sampling_is_written(self, folder: Path, tmp_path: Path) -> None:
        write_json(tmp_path / "drawn.json", {"temp": 0.5, "pad_temperature": 0.9})
        small = [str(folder), "-o", str(tmp_path / "out"), "--codec-dtype", "fp16"]
        assert main(["export", *small, "--sampling", str(tmp_path / "drawn.json")]) == 0
        sizes = [(f / "codec.safetensors").stat().st_size for f in (folder, tmp_path / "out")]
        assert sizes[1] < 0.52 * sizes[0]
        assert sum(f.stat().st_size for f in (tmp_path / "out").iterdir()) < 60e6
        again = load(tmp_path / "out", device="cpu")
        assert again.config.sampling.audio_temperature == 0.5
        assert again.config.sampling.pad_temperature == 0.9
        assert "pad_temperature" not in read_json(tmp_path / "out" / "config.json")["lm_gen_config"], "moshi has none"
        assert next(again.need_codec().parameters()).dtype == torch.float32  # type: ignore[attr-defined]

    def test_a_decoder_that_was_trained_on_takes_the_other_s_place(self, folder: Path, tmp_path: Path) -> None:
        codec = load_codec(folder / "codec.safetensors", device="cpu")
        assert isinstance(codec, SpectralCodec)
        with torch.no_grad():
            codec.head.out.bias += 1
        save_codec(codec, tmp_path / "on.safetensors")
        given = ["export", str(folder), "--no-voices", "--codec-file", str(tmp_path / "on.safetensors"), "-o"]
        assert main([*given, str(tmp_path / "out")]) == 0
        assert torch.equal(load_codec(tmp_path / "out", device="cpu").head.out.bias, codec.head.out.bias)  # type: ignore[attr-defined]
        with torch.no_grad():
            codec.fold.bias += 1
        save_codec(codec, tmp_path / "on.safetensors")
        assert main([*given, str(tmp_path / "other")]) == 2
        assert not (tmp_path / "other").exists()


def test_tensors_are_written_as_safetensors_reads_them(tmp_path: Path) -> None:
    held = {"a": torch.arange(3, dtype=torch.int64), "b": torch.randn(4, 5), "c": torch.tensor(2.5)}
    described = {"a": ((3,), torch.int64), "b": ((4, 5), torch.bfloat16), "c": ((), torch.float32)}
    write_tensors(
        tmp_path / "x.safetensors", described, lambda name: held[name].split(1) if name == "b" else [held[name]]
    )
    found = load_file(tmp_path / "x.safetensors")
    assert torch.equal(found["a"], held["a"])
    assert torch.equal(found["b"], held["b"].bfloat16())
    assert torch.equal(found["c"], held["c"])
    with pytest.raises(ValueError, match="the pieces make 24 bytes"):
        write_tensors(tmp_path / "x.safetensors", {"a": ((4,), torch.int64)}, lambda name: [held[name]])
