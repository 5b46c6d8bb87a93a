"""Codecs on disk: Kyutai's and transformers' forms come in, moshi's loader reads what goes out, mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from codec_models import MIDDLE, TINY, noise, random_codec
from duologue.base.errors import UserError
from duologue.codec import Codec, check_rate, load_codec, save_codec
from duologue.codec.checkpoint import load_mimi
from duologue.codec.config import MimiConfig, from_kyutai, from_transformers, to_kyutai
from duologue.codec.mimi import Mimi
from duologue.codec.tokens import weights_hash

AUDIO = noise(1, 1, 480)


def same(one: Codec, other: Codec) -> bool:
    codes = one.encode(AUDIO)
    return torch.equal(codes, other.encode(AUDIO)) and torch.equal(one.decode(codes), other.decode(codes))


class TestComesBack:
    @pytest.mark.parametrize("name", ["folder", "folder/codec.safetensors"])
    def test_what_was_saved(self, tmp_path: Path, name: str) -> None:
        codec = random_codec()
        file = save_codec(codec, tmp_path / name)
        again = load_mimi(tmp_path / name, device="cpu", n_codebooks=4)
        assert again.config == TINY
        assert weights_hash(again) == weights_hash(codec)
        assert same(again, codec)
        assert not again.training
        assert save_codec(again, tmp_path / "again") != file  # also from the layout in memory that loading chooses
        assert same(load_codec(tmp_path / "again", device="cpu", n_codebooks=4), codec)

    def test_in_moshi_s_own_loader(self, tmp_path: Path, moshi_lm: ModuleType) -> None:
        from moshi.models.loaders import get_mimi

        codec = random_codec()
        file = save_codec(codec, tmp_path)
        theirs = get_mimi(file, json.loads(file.with_suffix(".json").read_text()), num_codebooks=4)
        with torch.no_grad():
            assert torch.equal(theirs.encode(AUDIO), codec.encode(AUDIO))

    def test_older_names(self, tmp_path: Path) -> None:
        codec = random_codec()
        old = {
            name.replace("in_projs.0.weight", "in_proj_weight")
            .replace("out_projs.0.weight", "out_proj.weight")
            .replace("cluster_usage", "cluster_size")
            .replace("_codebook._initialized", "_codebook.inited"): x.contiguous()
            for name, x in codec.state_dict().items()
        }
        save_file(old, tmp_path / "mimi.safetensors")
        assert same(load_codec(tmp_path / "mimi.safetensors", device="cpu", n_codebooks=4, config=TINY), codec)

    def test_a_research_package(self, tmp_path: Path) -> None:
        codec = random_codec()
        torch.save({"model": codec.state_dict(), "epoch": 3}, tmp_path / "mimi.pt")
        assert same(load_codec(tmp_path / "mimi.pt", device="cpu", n_codebooks=4, config=TINY), codec)

    def test_a_model_s_folder_that_names_its_codec(self, tmp_path: Path) -> None:
        codec = random_codec()
        save_codec(codec, tmp_path / "sound.safetensors").with_suffix(".json").rename(tmp_path / "shape.json")
        names = {"dim": 8, "mimi_name": "sound.safetensors", "mimi_config_name": "shape.json"}
        (tmp_path / "config.json").write_text(json.dumps(names))
        (tmp_path / "model.safetensors").write_text("the language model")
        assert same(load_codec(tmp_path, device="cpu", n_codebooks=4), codec)

    def test_half_precision_becomes_single(self, tmp_path: Path) -> None:
        codec = random_codec()
        file = save_codec(codec, tmp_path)
        save_file({name: x.half() for name, x in load_file(file).items()}, file)
        again = load_mimi(tmp_path, device="cpu")
        assert {x.dtype for x in again.state_dict().values()} == {torch.float32}
        weight = "encoder.model.0.conv.conv.weight"
        torch.testing.assert_close(again.state_dict()[weight], codec.state_dict()[weight], atol=1e-2, rtol=1e-2)


class TestConfig:
    @pytest.mark.parametrize("config", [MimiConfig(), TINY, MIDDLE])
    def test_kyutai_s_form_comes_back(self, config: MimiConfig) -> None:
        assert from_kyutai(json.loads(json.dumps(to_kyutai(config)))) == config

    def test_what_is_left_out_is_as_in_mimi(self) -> None:
        assert from_kyutai({}) == from_transformers({"model_type": "mimi"}) == MimiConfig()
        older = {"sampling_rate": 24_000, "frame_rate": 12.5, "rope_theta": 10_000.0, "upsampling_ratios": [8, 6, 5, 4]}
        assert from_transformers(older | {"head_dim": 64, "codebook_dim": 256}) == MimiConfig()

    @pytest.mark.parametrize(
        ("part", "change", "said"),
        [
            ("seanet", {"norm": "weight_norm"}, "norm 'weight_norm' is not supported"),
            ("seanet", {"width": 3}, "unknown field 'width'"),
            ("transformer", {"d_model": 8}, "d_model is not seanet's dimension, 512"),
            ("quantizer", {"n_q": "many"}, "'many' is not a whole number"),
            ("quantizer", {"n_q": 1}, "n_q 1"),
            ("seanet", {"ratios": [7, 6]}, "no whole number of hops of 42"),
            ("transformer", {"num_heads": 3}, "does not divide"),
        ],
    )
    def test_what_this_codec_cannot_be_is_refused(self, part: str, change: dict[str, object], said: str) -> None:
        values = to_kyutai(MimiConfig())
        with pytest.raises(UserError, match=said):
            from_kyutai(values | {part: values[part] | change}, "mimi.json")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"num_key_value_heads": 2}, "num_key_value_heads 2 is not supported; only 8"),
            ({"rope_parameters": {"rope_type": "yarn"}}, "yarn"),
            ({"hidden_act": "silu"}, "hidden_act"),
            ({"num_filters": "wide"}, "'wide'"),
        ],
    )
    def test_what_transformers_can_and_this_codec_cannot(self, change: dict[str, object], said: str) -> None:
        with pytest.raises(UserError, match=said):
            from_transformers({"model_type": "mimi"} | change, "config.json")


class TestMistakes:
    def test_audio_that_cannot_be_encoded(self) -> None:
        codec = random_codec()
        for audio in (torch.zeros(1, 2, 48), torch.zeros(1, 48), torch.zeros(1, 1, 48, dtype=torch.int16)):
            with pytest.raises(UserError, match=r"audio is torch\..* \["):
                codec.encode(audio)
        for step in (codec.encode, lambda x: codec.encode_step(x, codec.initial_state(1)), codec):
            with pytest.raises(UserError, match="audio is empty"):
                step(torch.zeros(1, 1, 0))
        with pytest.raises(UserError, match="50 samples are no whole frames; give multiples of 48"):
            codec.encode_step(torch.zeros(1, 1, 50), codec.initial_state(1))

    def test_audio_at_another_rate(self) -> None:
        check_rate(random_codec(), 4800)
        with pytest.raises(UserError, match=r"^talk\.wav: audio has 16000 samples a second, the codec 4800; resample"):
            check_rate(random_codec(), 16_000, "talk.wav")

    @pytest.mark.parametrize("code", [-1, 32])
    def test_codes_that_no_codebook_has(self, code: int) -> None:
        with pytest.raises(UserError, match=f"code {code} is not from 0 to 31"):
            random_codec().decode(torch.tensor([[[3, code]]]))

    @pytest.mark.parametrize("shape", [(4, 2), (1, 6, 2), (1, 4, 0)])
    def test_codes_of_another_shape(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(UserError, match="codes are"):
            random_codec().decode(torch.zeros(shape, dtype=torch.long))

    def test_more_codebooks_than_there_are(self) -> None:
        assert Mimi(TINY).n_codebooks == 5
        for n in (0, 6):
            with pytest.raises(UserError, match=f"{n} codebooks of 5"):
                Mimi(TINY, n)

    def test_weights_of_another_shape_or_codec(self, tmp_path: Path) -> None:
        file = save_codec(random_codec(), tmp_path)
        good = load_file(file)
        name = "quantizer.rvq_rest.vq.layers.2._codebook.embedding_sum"
        save_file(good | {name: torch.zeros(31, 8)}, file)
        with pytest.raises(UserError, match=rf"mimi\.safetensors: {name} is \[31, 8\], not \[32, 8\]"):
            load_codec(file, device="cpu")
        save_file({key: x for key, x in good.items() if key != name}, file)
        with pytest.raises(UserError, match=rf"lacks {name} \(1 in all\)"):
            load_codec(file, device="cpu")
        save_file(good | {"strange": torch.zeros(1)}, file)
        with pytest.raises(UserError, match="holds strange, which this codec has not"):
            load_codec(file, device="cpu")

    def test_files_that_are_broken_or_absent(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="holds no codec"):
            load_codec(tmp_path)
        with pytest.raises(UserError, match="no such file"):
            load_codec(tmp_path / "none.safetensors")
        file = save_codec(random_codec(), tmp_path)
        file.write_bytes(file.read_bytes()[:500])
        with pytest.raises(UserError, match="cannot be read"):
            load_codec(tmp_path, device="cpu")
        file.with_suffix(".json").write_text("[1]")
        with pytest.raises(UserError, match=r"mimi\.json: is not an object"):
            load_codec(tmp_path, device="cpu")

    def test_a_language_model_s_folder_without_its_codec(self, tmp_path: Path) -> None:
        save_file({"text_emb.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps({"dim": 8, "mimi_name": "absent.safetensors"}))
        with pytest.raises(UserError, match="holds no codec"):
            load_codec(tmp_path)


def test_mimi_is_a_codec() -> None:
    codec: Codec = random_codec()
    assert (codec.sample_rate, codec.frame_rate, codec.frame_size) == (4800, 100, 48)
    assert (codec.n_codebooks, codec.card) == (4, 32)
