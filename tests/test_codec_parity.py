"""Mimi equals upstream: moshi 0.2.13 on random weights; and its streams equal the whole signal."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from duologue.base.errors import UserError
from duologue.codec.mimi import Mimi, MimiConfig, load_mimi
from duologue.codec.seanet import SEANetConfig
from duologue.codec.stream import clone_state, keep_rows
from duologue.codec.transformer import TransformerConfig

SEANET = SEANetConfig(dimension=16, n_filters=4, ratios=(4, 3, 2), n_residual_layers=2)
TINY = MimiConfig(
    sample_rate=4800,
    frame_rate=100.0,
    seanet=SEANET,
    transformer=TransformerConfig(num_layers=2, num_heads=2, dim_feedforward=32, context=10),
    n_q=5,
    bins=20,
    quantizer_dim=8,
)


def random_codec(config: MimiConfig = TINY, n_codebooks: int = 4) -> Mimi:
    torch.manual_seed(0)
    codec = Mimi(config, n_codebooks).eval()
    with torch.no_grad():
        for name, x in codec.state_dict().items():
            if "layer_scale" in name or "norm" in name or name.endswith("bias"):
                x.add_(0.3 * torch.randn_like(x))
            elif name.endswith("cluster_usage"):
                x.uniform_(0.5, 2)
    return codec


def upstream(config: MimiConfig, n_codebooks: int) -> torch.nn.Module:
    """The same codec, built of moshi's parts."""
    from moshi.models.compression import MimiModel
    from moshi.modules.seanet import SEANetDecoder, SEANetEncoder
    from moshi.modules.transformer import ProjectedTransformer
    from moshi.quantization import SplitResidualVectorQuantizer

    s, t = config.seanet, config.transformer
    seanet = {
        "dimension": s.dimension, "n_filters": s.n_filters, "n_residual_layers": s.n_residual_layers, "causal": True,
        "ratios": list(s.ratios), "kernel_size": s.kernel_size, "last_kernel_size": s.last_kernel_size,
        "residual_kernel_size": s.residual_kernel_size, "pad_mode": "constant", "true_skip": True,
    }  # fmt: skip
    transformer = {
        "d_model": s.dimension, "num_heads": t.num_heads, "num_layers": t.num_layers, "causal": True,
        "layer_scale": 0.01, "context": t.context, "conv_layout": True, "max_period": 10000, "gating": "none",
        "norm": "layer_norm",
        "positional_embedding": "rope", "dim_feedforward": t.dim_feedforward, "input_dimension": s.dimension,
        "output_dimensions": [s.dimension],
    }  # fmt: skip
    encoder, decoder = SEANetEncoder(**seanet), SEANetDecoder(**seanet)
    quantizer = SplitResidualVectorQuantizer(
        dimension=config.quantizer_dim, n_q=config.n_q, bins=config.bins, input_dimension=s.dimension,
        output_dimension=s.dimension,
    )  # fmt: skip
    codec = MimiModel(
        encoder, decoder, quantizer, channels=1, sample_rate=config.sample_rate, frame_rate=config.frame_rate,
        encoder_frame_rate=config.frame_rate * config.downsampling, causal=True, resample_method="conv",
        encoder_transformer=ProjectedTransformer(**transformer),
        decoder_transformer=ProjectedTransformer(**transformer),
    )  # fmt: skip
    codec.eval()
    codec.set_num_codebooks(n_codebooks)
    return codec


def noise(*shape: int, seed: int = 3) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(*shape)


class TestMoshi:
    @pytest.fixture
    def pair(self, moshi_lm: ModuleType) -> tuple[Mimi, torch.nn.Module]:
        ours = random_codec()
        theirs = upstream(TINY, ours.n_codebooks)
        theirs.load_state_dict(ours.state_dict())
        return ours, theirs

    def test_parameters_have_kyutai_s_names(self, pair: tuple[Mimi, torch.nn.Module]) -> None:
        ours, theirs = pair
        assert ours.state_dict().keys() == theirs.state_dict().keys()

    @pytest.mark.parametrize("samples", [48, 48 * 7, 500])
    def test_latents_codes_and_audio_are_equal(self, pair: tuple[Mimi, torch.nn.Module], samples: int) -> None:
        ours, theirs = pair
        audio = noise(3, 1, samples)
        with torch.no_grad():
            padded = torch.nn.functional.pad(audio, (0, -samples % 48))
            expected = theirs.encode_to_latent(audio, quantize=False)
            torch.testing.assert_close(ours.latent(padded), expected, atol=1e-4, rtol=0)
            codes = theirs.encode(audio)
            assert torch.equal(ours.encode(audio), codes)
            torch.testing.assert_close(ours.decode(codes), theirs.decode(codes), atol=1e-4, rtol=0)

    def test_streams_are_equal_frame_by_frame(self, pair: tuple[Mimi, torch.nn.Module]) -> None:
        ours, theirs = pair
        audio = noise(2, 1, 48 * 4)
        state = ours.initial_state(2)
        with torch.no_grad(), theirs.streaming(2):
            for frame in audio.split(48, dim=-1):
                codes, state = ours.encode_step(frame, state)
                assert torch.equal(codes, theirs.encode(frame))
                wave, state = ours.decode_step(codes, state)
                torch.testing.assert_close(wave, theirs.decode(codes), atol=1e-4, rtol=0)


def test_mimi_s_default_shape_has_its_published_number_of_weights() -> None:
    with torch.device("meta"):
        codec = Mimi()
    assert sum(p.numel() for p in codec.parameters()) == pytest.approx(79.3e6, rel=1e-3)
    assert (len(codec.state_dict()), codec.config.frame_size, codec.config.downsampling) == (318, 1920, 2)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8))
def test_a_stream_equals_the_whole_however_it_is_cut(chunks: list[int]) -> None:
    codec = random_codec()
    audio = noise(2, 1, 48 * sum(chunks))
    with torch.no_grad():
        whole = codec.encode(audio)
        wave = codec.decode(whole)
        state, codes, waves = codec.initial_state(2), [], []
        for chunk in audio.split([48 * n for n in chunks], dim=-1):
            part, state = codec.encode_step(chunk, state)
            sound, state = codec.decode_step(part, state)
            codes.append(part)
            waves.append(sound)
    assert torch.equal(torch.cat(codes, -1), whole)
    torch.testing.assert_close(torch.cat(waves, -1), wave, atol=1e-5, rtol=0)


def test_a_paused_row_goes_on_where_it_stopped_and_a_reset_row_starts_anew() -> None:
    codec = random_codec()
    audio = noise(2, 1, 48 * 6)
    a, b, c = audio.split(48 * 2, dim=-1)
    with torch.no_grad():
        _, state = codec.encode_step(a, codec.initial_state(2))
        _, paused = codec.encode_step(b, state, active=torch.tensor([True, False]))
        codes, _ = codec.encode_step(c, paused)
        assert torch.equal(codes[:1], codec.encode(audio)[:1, :, 4:])
        assert torch.equal(codes[1:], codec.encode(torch.cat((a, c), dim=-1))[1:, :, 2:])
        fresh = keep_rows(codec.initial_state(2), state, torch.tensor([True, False]))
        codes, _ = codec.encode_step(b, fresh)
        assert torch.equal(codes[:1], codec.encode(b)[:1])


def test_a_step_leaves_the_state_that_it_was_given_as_it_was() -> None:
    codec = random_codec()
    state = codec.initial_state(1)
    before = clone_state(state)
    with torch.no_grad():
        codec.encode_step(noise(1, 1, 96), state)
    assert all(torch.equal(x, before[name]) for name, x in state.items())


def test_files_load_also_with_older_names(tmp_path: Path) -> None:
    codec = random_codec()
    old = {
        name.replace("in_projs.0.weight", "in_proj_weight").replace("cluster_usage", "cluster_size"): x.contiguous()
        for name, x in codec.state_dict().items()
    }
    save_file(old, tmp_path / "mimi.safetensors")
    again = load_mimi(tmp_path / "mimi.safetensors", device="cpu", n_codebooks=4, config=TINY)
    audio = noise(1, 1, 480)
    with torch.no_grad():
        assert torch.equal(again.encode(audio), codec.encode(audio))


class TestBadInput:
    def test_audio_of_another_shape(self) -> None:
        codec = random_codec()
        for shape in ((1, 2, 48), (1, 48), (1, 1, 0)):
            with pytest.raises(UserError, match="audio is"):
                codec.encode(torch.zeros(*shape))
        with pytest.raises(UserError, match="no whole frames"):
            codec.encode_step(torch.zeros(1, 1, 50), codec.initial_state(1))

    def test_weights_of_another_codec(self, tmp_path: Path) -> None:
        file = tmp_path / "mimi.safetensors"
        save_file(random_codec().state_dict(), file)
        with pytest.raises(UserError, match=r"lacks|holds"):
            load_mimi(file, device="cpu")
        file.write_bytes(file.read_bytes()[:500])
        with pytest.raises(UserError, match="cannot be read"):
            load_mimi(file, device="cpu", config=TINY)
        with pytest.raises(UserError, match="no such file"):
            load_mimi(tmp_path / "none", device="cpu")
