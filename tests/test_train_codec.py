"""Training a codec: the command end to end on tiny sounds, the same numbers after a kill, and what stays frozen."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch

from duologue.base.errors import UserError
from duologue.codec import load_codec
from duologue.codec.spectral import SpectralCodec
from duologue.codec.split import encodes
from duologue.codec.tokens import codes_hash, weights_hash
from duologue.train import crops
from duologue.train.codec import TrainCodecConfig, main
from duologue.train.codec_learning import CodecLearning
from duologue.train.crops import list_sounds
from duologue.train.discriminators import Discriminators, fool_loss, judge_loss, match_loss
from duologue.train.loop import LoopConfig, rate_at
from duologue.train.spectra import distances


@pytest.fixture
def sounds(tmp_path):
    """Two stereo files of tones with pauses, 24 kHz."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "sounds"
    folder.mkdir()
    for i in range(2):
        at = np.arange(24_000 * 3) / 24_000
        voice = 0.3 * np.sin(2 * np.pi * (120 + 60 * i) * at) * (np.sin(2 * np.pi * 2 * at) > 0)
        sf.write(folder / f"{i}.wav", np.stack([voice, 0.1 * rng.standard_normal(len(at))], 1), 24_000)
    return folder


def config(sounds, out, steps, **learning) -> TrainCodecConfig:
    small = {"batch": 2, "frames": 4, "skipped": 1, "quantize_from": 2, "autocast": False} | learning
    return TrainCodecConfig(
        sounds=(sounds,), shifted=0.0, out=out, preset="nano", learning=CodecLearning(**small), device="cpu", seed=3,
        loop=LoopConfig(steps=steps, log_every=2, validate_every=100, save_minutes=0.0),
    )  # fmt: skip


@pytest.fixture
def small_codec(monkeypatch):
    from duologue.codec.spectral import SpectralConfig
    from duologue.model import presets

    shape = SpectralConfig(
        mels=20, encoder=(1, 1), encoder_dim=16, dim=24, decoder=(1, 1, 1), head_dim=16, n_q=3, bins=16,
        quantizer_dim=8,
    )  # fmt: skip
    nano = replace(presets.PRESETS["nano"], codec=shape)
    monkeypatch.setattr(presets, "PRESETS", {**presets.PRESETS, "nano": nano})


def test_a_few_steps_make_a_codec_that_loads(sounds, tmp_path, small_codec):
    assert main(config(sounds, tmp_path / "run", 24)) == 0
    codec = load_codec(tmp_path / "run", device="cpu", n_codebooks=3)
    assert isinstance(codec, SpectralCodec)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["step"] == 2
    assert rows[-1]["mel"] < rows[1]["mel"]  # the first with codebooks
    assert rows[-1]["entropy"] > 0


def test_a_run_that_was_cut_goes_on_to_the_same_numbers(sounds, tmp_path, small_codec, monkeypatch):
    main(config(sounds, tmp_path / "whole", 6))
    from duologue.train import codec_learner

    step = codec_learner.CodecLearner.step

    def killed(self, number):
        if number == 4:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(codec_learner.CodecLearner, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        main(config(sounds, tmp_path / "cut", 6))
    monkeypatch.setattr(codec_learner.CodecLearner, "step", step)
    main(replace(config(sounds, tmp_path / "cut", 6), resume=True))
    one, two = (load_codec(tmp_path / name, device="cpu", n_codebooks=3) for name in ("whole", "cut"))
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_training_the_decoder_alone_leaves_every_code_as_it_was(sounds, tmp_path, small_codec):
    main(config(sounds, tmp_path / "first", 4))
    again = config(sounds, tmp_path / "second", 3, train="decoder", adversarial_from=1, head_start=1, unquantized=0.0)
    main(replace(again, start=tmp_path / "first"))
    one, two = (load_codec(tmp_path / name, device="cpu", n_codebooks=3) for name in ("first", "second"))
    audio = 0.2 * torch.randn(1, 1, 24_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one.encode(audio), two.encode(audio))
    assert not torch.equal(one.decode(one.encode(audio)), two.decode(two.encode(audio)))
    assert codes_hash(one) == codes_hash(two)
    assert weights_hash(one) != weights_hash(two)


def test_what_encodes_is_told_from_what_decodes():
    names = [name for name, _ in SpectralCodec().named_parameters()]
    assert {n.split(".")[0] for n in names if encodes(n)} == {
        "enter", "encode_fine", "encode_coarse", "fold", "norm", "quantizer",
    }  # fmt: skip
    assert not encodes("quantizer.rvq_rest.output_proj.weight")
    assert encodes("quantizer.rvq_rest.input_proj.weight")


def test_distances_are_zero_for_the_same_sound_and_grow_with_noise():
    wave = 0.2 * torch.randn(1, 9600, generator=torch.Generator().manual_seed(0))
    assert all(float(d) == 0 for d in distances(wave, wave, 24_000))
    little, much = (distances(wave + level * torch.randn_like(wave), wave, 24_000) for level in (0.01, 0.2))
    assert all(float(a) < float(b) for a, b in zip(little, much, strict=True))


def test_judges_that_know_lose_nothing_and_a_maker_they_see_through_loses_most():
    torch.manual_seed(0)
    real, made = ([[torch.zeros(1, 2, 3), torch.full((1, 1, 3), value)]] for value in (2.0, -2.0))
    assert float(judge_loss(real, made)) == 0
    assert float(fool_loss(made)) == 3
    assert float(fool_loss(real)) == 0
    assert float(match_loss(real, made)) == 0
    found = Discriminators(width=8, layers=1)(torch.randn(2, 4800))
    assert [len(layers) for layers in found] == [2] * 4
    assert found[0][-1].shape[:2] == (2, 1)


def test_the_rate_rises_stays_and_falls():
    shares = [rate_at(step, 100, 10, 0.5, 0.1) for step in range(100)]
    assert shares[0] == 0.1
    assert shares[10:50] == [1.0] * 40
    assert shares[99] == pytest.approx(0.118)
    assert sorted(shares[50:], reverse=True) == shares[50:]


def test_crops_prefer_speech(sounds):
    found = crops.list_sounds(sounds)
    assert len(found) == 4
    silent = [s for s in found if s.ref.channel == 0]
    rng = np.random.default_rng(0)
    drawn = crops.Crops([silent], [1.0], 24_000, quiet=0.0).batch(rng, 40, 0.1)
    asis = crops.Crops([silent], [1.0], 24_000, quiet=1.0).batch(rng, 40, 0.1)
    heard = [np.mean(np.sqrt(np.mean(x**2, axis=1)) > crops.QUIET) for x in (drawn, asis)]
    assert heard[0] > 0.95
    assert heard[1] < 0.9


def test_bad_input_is_named(sounds, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="holds no sound"):
        main(TrainCodecConfig(sounds=(empty,), out=tmp_path / "x"))
    with pytest.raises(UserError, match="weights for"):
        main(TrainCodecConfig(sounds=(sounds,), weights=(1.0, 2.0)))
    with pytest.raises(UserError, match="preset"):
        main(TrainCodecConfig(sounds=(sounds,), preset="nono"))
    with pytest.raises(UserError, match="skipped"):
        CodecLearning(frames=2, skipped=2)


def test_one_channel_of_a_folder_can_be_what_is_learned_from(sounds):
    assert len(list_sounds(sounds)) == 4
    assert [s.ref.channel for s in list_sounds(sounds, 1)] == [1, 1]
    with pytest.raises(UserError, match="no sound with a channel 2"):
        list_sounds(sounds, 2)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"sounds": ()}, "no folder"), ({"weights": (1.0, 1.0)}, "2 weights for 1"), ({"channels": (0, 0)}, "2 channels")],
)
def test_folders_that_do_not_fit_are_told(sounds, tmp_path, change, told):
    with pytest.raises(UserError, match=told):
        main(replace(config(sounds, tmp_path / "run", 4), **change))
