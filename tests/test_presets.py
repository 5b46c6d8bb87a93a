"""The named shapes have the sizes that are promised, and random weights of them are the same everywhere."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from duologue.codec.mimi import Mimi
from duologue.codec.spectral import SpectralCodec, SpectralConfig
from duologue.model.initial import initial_tensor, random_lm
from duologue.model.lm import DuplexLM
from duologue.model.presets import FOUR_SETS, PRESETS, codebooks


def parameters(name: str, schedule: tuple[int, ...] | None = None) -> int:
    config = PRESETS[name].lm
    if schedule is not None:
        config = replace(config, depformer_weights_per_step_schedule=schedule)
    with torch.device("meta"):
        return sum(x.numel() for x in DuplexLM(config).parameters())


def codec_values(name: str) -> int:
    with torch.device("meta"):
        shape = PRESETS[name].codec
        codec = SpectralCodec(shape, 8) if isinstance(shape, SpectralConfig) else Mimi(shape, 8)
    return sum(x.numel() for x in codec.state_dict().values())


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("tiny", 50e3, 200e3),
        ("nano", 15e6, 22e6),
        ("mini", 100e6, 150e6),
        ("moshi-7b", 7.68e9, 7.69e9),
        ("personaplex-7b", 8.37e9, 8.38e9),
    ],
)
def test_numbers_of_parameters(name: str, low: float, high: float) -> None:
    assert low <= parameters(name) <= high


def test_nano_fits_in_60_megabytes_with_its_codec() -> None:
    assert 2 * (parameters("nano") + codec_values("nano")) <= 60e6


def test_the_table_of_shared_depth_weights_holds() -> None:
    found = [round(parameters(name, s) / 1e6, 1) for s in (tuple(range(8)), FOUR_SETS) for name in ("nano", "mini")]
    assert found == [24.6, 166.1, 19.0, 136.2]
    assert [round(parameters(name, (0, 1, 1, 1, 1, 1, 1, 1)) / 1e6, 1) for name in ("nano", "mini")] == [16.1, 121.3]


@pytest.mark.parametrize("name", PRESETS)
def test_model_and_codec_fit_together(name: str) -> None:
    preset = PRESETS[name]
    assert preset.lm.card == preset.codec.bins
    assert preset.n_codebooks == codebooks(preset.lm) == 8 <= preset.codec.n_q
    assert (preset.codec.sample_rate, preset.codec.frame_rate) == (24_000, 12.5)


def test_only_personaplex_hears_a_frame_later() -> None:
    assert {name: p.lm.user_lag for name, p in PRESETS.items() if p.lm.user_lag != 1} == {"personaplex-7b": 0}


class TestRandomWeights:
    def test_the_same_seed_gives_the_same_weights_in_another_process(self) -> None:
        code = (
            "from duologue.model.initial import initial_tensor as t; x = t('emb.3.weight', (65, 32), 7);"
            "print(x.sum().item(), x[3, 5].item())"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        x = initial_tensor("emb.3.weight", (65, 32), 7)
        assert done.stdout.split() == [str(x.sum().item()), str(x[3, 5].item())]

    def test_seeds_and_tensors_differ(self) -> None:
        a, b, c = (initial_tensor(*given) for given in (("a", (8, 8), 0), ("a", (8, 8), 1), ("b", (8, 8), 0)))
        assert not torch.equal(a, b)
        assert not torch.equal(a, c)

    def test_the_global_generator_is_left_alone(self) -> None:
        torch.manual_seed(5)
        random_lm(PRESETS["tiny"].lm, 1, device="cpu")
        drawn = torch.rand(1)
        torch.manual_seed(5)
        assert torch.equal(torch.rand(1), drawn)

    def test_logits_are_neither_flat_nor_extreme(self) -> None:
        model = random_lm(PRESETS["tiny"].lm, 0, device="cpu")
        codes = torch.randint(0, 60, (2, 17, 30), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            out = model(codes)
        assert 0.3 < out.text_logits[out.text_mask].std() < 3
        assert 0.3 < out.audio_logits[out.audio_mask].std() < 3
