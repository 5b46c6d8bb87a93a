"""Mimi equals upstream: moshi 0.2.13 and transformers on random weights, tiny and mid-sized, whole and as a stream."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from codec_models import MIDDLE, TINY, noise, random_codec, upstream
from duologue.codec.checkpoint import load_mimi
from duologue.codec.config import MimiConfig, to_kyutai
from duologue.codec.mimi import Mimi
from duologue.codec.transformer import TransformerConfig


class TestMoshi:
    @pytest.fixture
    def pair(self, moshi_lm: ModuleType) -> tuple[Mimi, torch.nn.Module]:
        ours = random_codec()
        return ours, upstream(ours)

    def test_parameters_have_kyutai_s_names(self, pair: tuple[Mimi, torch.nn.Module]) -> None:
        ours, theirs = pair
        assert ours.state_dict().keys() == theirs.state_dict().keys()

    def test_the_default_config_is_that_of_kyutai_s_mimi(self, moshi_lm: ModuleType) -> None:
        from moshi.models import loaders

        assert to_kyutai(MimiConfig()) == loaders._mimi_config

    @pytest.mark.parametrize("samples", [1, 48, 48 * 7, 500])
    def test_latents_codes_and_audio_are_equal(self, pair: tuple[Mimi, torch.nn.Module], samples: int) -> None:
        ours, theirs = pair
        audio = noise(3, 1, samples)
        with torch.no_grad():
            assert len(ours.encode(noise(3, 1, 480))[:, 1].unique()) > 10  # not equal because there is but one
            padded = torch.nn.functional.pad(audio, (0, -samples % 48))
            expected = theirs.encode_to_latent(audio, quantize=False)
            torch.testing.assert_close(ours.latent(padded), expected, atol=1e-4, rtol=0)
            codes = theirs.encode(audio)
            assert torch.equal(ours.encode(audio), codes)
            torch.testing.assert_close(ours.decode(codes), theirs.decode(codes), atol=1e-4, rtol=0)

    def test_streams_are_equal_frame_by_frame(self, pair: tuple[Mimi, torch.nn.Module]) -> None:
        """As long as nothing leaves the context: then moshi forgets a key too early, and its stream differs from its
        own output for the whole signal."""
        ours, theirs = pair
        audio = noise(2, 1, 48 * (TINY.transformer.context // TINY.downsampling))
        state = ours.initial_state(2)
        with torch.no_grad(), theirs.streaming(2):
            for frame in audio.split(48, dim=-1):
                codes, state = ours.encode_step(frame, state)
                assert torch.equal(codes, theirs.encode(frame))
                wave, state = ours.decode_step(codes, state)
                torch.testing.assert_close(wave, theirs.decode(codes), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("ratios", [(8, 3, 2), (5, 4)])
    def test_other_shapes_are_equal_too(self, moshi_lm: ModuleType, ratios: tuple[int, ...]) -> None:
        """Without resampling, and with a frame of more steps."""
        seanet = replace(TINY.seanet, ratios=ratios, compress=1, kernel_size=5, last_kernel_size=5, dilation_base=3)
        config = replace(TINY, seanet=seanet, sample_rate=4800 if ratios[0] == 8 else 6000)
        ours = random_codec(config, n_codebooks=5)
        assert config.downsampling == (1 if ratios[0] == 8 else 3)
        theirs, audio = upstream(ours), noise(1, 1, 5 * config.frame_size)
        with torch.no_grad():
            codes = theirs.encode(audio)
            assert torch.equal(ours.encode(audio), codes)
            torch.testing.assert_close(ours.decode(codes), theirs.decode(codes), atol=1e-4, rtol=0)

    def test_a_mid_sized_codec_is_equal(self, moshi_lm: ModuleType) -> None:
        ours = random_codec(MIDDLE, n_codebooks=8)
        assert 5e6 < sum(p.numel() for p in ours.parameters()) < 1e7
        theirs, audio, state = upstream(ours), noise(2, 1, 1920 * 40), ours.initial_state(2)
        with torch.no_grad():
            expected = theirs.encode_to_latent(audio, quantize=False)
            torch.testing.assert_close(ours.latent(audio), expected, atol=1e-4, rtol=0)
            codes = theirs.encode(audio)
            assert all(len(codes[:, i].unique()) > 15 for i in range(8))
            assert torch.equal(ours.encode(audio), codes)
            wave = ours.decode(codes)
            torch.testing.assert_close(wave, theirs.decode(codes), atol=1e-4, rtol=0)
            with theirs.streaming(2):
                for frame in audio[..., : 1920 * 5].split(1920, dim=-1):
                    codes, state = ours.encode_step(frame, state, reuse=True)
                    assert torch.equal(codes, theirs.encode(frame))
                    sound, state = ours.decode_step(codes, state, reuse=True)
                    torch.testing.assert_close(sound, theirs.decode(codes), atol=1e-4, rtol=0)


class TestTransformers:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder that transformers has written, with random weights, and the model itself as `self.model`."""
        monkeypatch.setenv("TQDM_DISABLE", "1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not ours to mend
            transformers = pytest.importorskip("transformers", reason="the second opinion is not installed")
            s, t = TINY.seanet, TINY.transformer
            torch.manual_seed(1)
            self.model = transformers.MimiModel(
                transformers.MimiConfig(
                    sampling_rate=TINY.sample_rate, hidden_size=s.dimension, num_filters=s.n_filters,
                    upsampling_ratios=list(s.ratios), num_residual_layers=s.n_residual_layers,
                    codebook_size=TINY.bins, codebook_dim=TINY.quantizer_dim, num_quantizers=TINY.n_q,
                    vector_quantization_hidden_dimension=TINY.quantizer_dim, upsample_groups=s.dimension,
                    num_hidden_layers=t.num_layers, intermediate_size=t.dim_feedforward, sliding_window=t.context,
                    num_attention_heads=t.num_heads, num_key_value_heads=t.num_heads, rope_theta=500.0,
                )
            )  # fmt: skip
            self.model.save_pretrained(tmp_path)
            # It starts its codebooks as zeros: give them entries on disk, and read them back.
            weights = load_file(tmp_path / "model.safetensors")
            for name, x in weights.items():
                scale = 1.0 if name.endswith("embed_sum") else 0.3
                if name.endswith(("embed_sum", "norm.weight", "bias", ".scale")):
                    x.add_(scale * torch.randn_like(x))
                elif name.endswith("cluster_usage"):
                    x.uniform_(0.5, 2)
            save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
            self.model = transformers.MimiModel.from_pretrained(tmp_path).eval()
        return tmp_path

    def test_codes_and_audio_are_equal(self, folder: Path) -> None:
        ours = load_mimi(folder, device="cpu", n_codebooks=5)
        assert ours.config == replace(TINY, transformer=replace(TINY.transformer, max_period=500.0))
        audio = noise(2, 1, 48 * 16)
        with torch.no_grad():
            codes = self.model.encode(audio).audio_codes
            assert len(codes.unique()) > 20
            assert torch.equal(ours.encode(audio), codes)
            torch.testing.assert_close(ours.decode(codes), self.model.decode(codes).audio_values, atol=1e-4, rtol=0)


def test_mimi_s_default_shape_has_its_published_number_of_weights() -> None:
    with torch.device("meta"):
        codec = Mimi()
    assert sum(p.numel() for p in codec.parameters()) == pytest.approx(79.3e6, rel=1e-3)
    assert (len(codec.state_dict()), codec.frame_size, codec.config.downsampling, codec.card) == (318, 1920, 2, 2048)
    assert codec.config.transformer == TransformerConfig()
