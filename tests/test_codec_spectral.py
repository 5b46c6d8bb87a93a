"""The spectral codec: a stream gives what the whole signal gives, silence stays silent, and files come back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.base.errors import UserError
from duologue.codec import load_codec, save_codec
from duologue.codec.checkpoint import load_mimi
from duologue.codec.layout import lay_out
from duologue.codec.spectral import SpectralCodec, SpectralConfig, mel_bands
from duologue.model.initial import random_codec

TINY = SpectralConfig(
    hop=30, sample_rate=3000, mels=12, encoder=(1, 1), encoder_dim=12, dim=16, decoder=(1, 1, 1), head_dim=12,
    n_q=3, bins=16, quantizer_dim=4,
)  # fmt: skip
SIZE = TINY.frame_size


def tiny(seed: int = 0) -> SpectralCodec:
    codec = random_codec(TINY, 3, seed, device="cpu")
    assert isinstance(codec, SpectralCodec)
    return codec


def noise(batch: int, frames: int, seed: int = 0) -> torch.Tensor:
    return 0.2 * torch.randn(batch, 1, frames * SIZE, generator=torch.Generator().manual_seed(seed))


def test_frames_are_eight_hops_at_12_5_a_second():
    assert SpectralConfig().frame_size == 1920
    assert SpectralConfig().frame_rate == 12.5
    assert SpectralConfig().delay == 480


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 3))
def test_any_cut_of_a_stream_gives_the_whole_signals_codes_and_samples(sizes, seed):
    codec, audio = tiny(seed), noise(2, sum(sizes), seed)
    codes = codec.encode(audio)
    wave = codec.decode(codes)
    state, at, found, heard = codec.initial_state(2), 0, [], []
    for size in sizes:
        part, state = codec.encode_step(audio[..., at * SIZE : (at + size) * SIZE], state)
        back, state = codec.decode_step(part, state)
        found.append(part)
        heard.append(back)
        at += size
    assert torch.equal(torch.cat(found, -1), codes)
    torch.testing.assert_close(torch.cat(heard, -1), wave, atol=1e-6, rtol=1e-5)


def test_later_sound_changes_nothing_before_it():
    codec, audio = tiny(), noise(1, 6)
    other = audio.clone()
    other[..., 4 * SIZE :] = 0.0
    assert torch.equal(codec.encode(audio)[..., :4], codec.encode(other)[..., :4])
    assert not torch.equal(codec.encode(audio), codec.encode(other))


def test_a_paused_row_goes_on_where_it_stopped():
    codec, audio = tiny(), noise(2, 3)
    _, begun = codec.encode_step(audio[..., :SIZE], codec.initial_state(2))
    _, paused = codec.encode_step(audio[..., SIZE : 2 * SIZE], begun, torch.tensor([True, False]))
    assert all(torch.equal(paused[k][1], begun[k][1]) for k in begun)
    assert any(not torch.equal(paused[k][0], begun[k][0]) for k in begun)


def test_the_head_can_make_any_sound_that_its_spectra_say():
    """Spectra of a sine, cut as the head cuts, overlap to the same sine, late by what the config says."""
    config = SpectralConfig(head_dim=4)
    head = SpectralCodec(config).head
    at = torch.arange(24_000) / config.sample_rate
    sine = 0.3 * torch.sin(2 * torch.pi * 440 * at)
    frames = torch.nn.functional.pad(sine, (0, config.window)).unfold(0, config.window, config.hop)[:100]
    spectra = torch.fft.rfft(frames * torch.hann_window(config.window))
    head.norm = torch.nn.Identity()

    class Told(torch.nn.Module):
        def forward(self, x):
            return torch.cat((spectra.abs().clamp(min=1e-9).log(), spectra.angle()), -1)[None]

    head.out = Told()
    wave = head(torch.zeros(1, 100, 4))[0, 0]
    torch.testing.assert_close(wave[1000:20_000], sine[1000:20_000], atol=1e-4, rtol=0)


def test_every_mel_band_hears_something():
    for window, bands in ((960, 80), (128, 16), (64, 40)):
        weights = mel_bands(24_000, window, bands)
        torch.testing.assert_close(weights.sum(0), torch.ones(bands))


def test_a_file_comes_back_equal(tmp_path):
    codec = tiny()
    file = save_codec(codec, tmp_path / "codec.safetensors")
    again = load_codec(tmp_path, device="cpu", n_codebooks=3)
    assert isinstance(again, SpectralCodec)
    assert again.config == TINY
    audio = noise(1, 4)
    assert torch.equal(again.encode(audio), codec.encode(audio))
    assert all(torch.equal(x, codec.state_dict()[name]) for name, x in again.state_dict().items())
    lay_out(codec)  # as a file's weights are laid out, on which the order of sums hangs on some processors
    assert torch.equal(again.decode(again.encode(audio)), codec.decode(codec.encode(audio)))
    with pytest.raises(UserError, match="spectral"):
        load_mimi(file)


def test_a_file_of_half_precision_is_half_as_large_and_sounds_alike(tmp_path):
    codec = tiny()
    whole = save_codec(codec, tmp_path / "a.safetensors").stat().st_size
    half = save_codec(codec, tmp_path / "b.safetensors", torch.float16).stat().st_size
    assert half < 0.75 * whole
    again = load_codec(tmp_path / "b.safetensors", device="cpu", n_codebooks=3)
    codes = codec.encode(noise(1, 4))
    assert (again.decode(codes) - codec.decode(codes)).abs().max() < 0.02 * codec.decode(codes).abs().max()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="n_q"):
        SpectralConfig(n_q=1)
    with pytest.raises(ValueError, match="width"):
        SpectralConfig(dim=0)
