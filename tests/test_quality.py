"""Quality predictors: what is absent is None with a reason, what is there gets clean sound, and DNSMOS ranks noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import duologue.bench
from duologue.audio import quality
from duologue.audio.quality import PREDICTORS, Predict, Predictor, available_predictors, measure_quality
from duologue.audio.wave import Audio, read_audio
from duologue.base.errors import UserError

DIALOGUES = Path(duologue.bench.__file__).parent / "dialogues"
SECOND = Audio(np.full((1, 24_000), 0.5, np.float32), 24_000)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    quality._loaded.cache_clear()
    quality._FAILED.clear()
    yield
    quality._loaded.cache_clear()
    quality._FAILED.clear()


def only(monkeypatch: pytest.MonkeyPatch, *predictors: Predictor) -> None:
    monkeypatch.setattr(quality, "PREDICTORS", {p.name: p for p in predictors})


def test_what_is_not_installed_is_none_and_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Predict:
        raise AssertionError("loaded, though its module is absent")

    only(monkeypatch, Predictor("absent", ("a", "b"), ("no_such_module_1",), "pip install it", load))
    assert measure_quality(SECOND) == {"a": None, "b": None}
    assert available_predictors() == {"absent": "no_such_module_1 not installed; pip install it"}


def test_what_does_not_load_is_none_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Predict:
        raise OSError("libnvrtc.so: cannot open")

    only(monkeypatch, Predictor("broken", ("a",), ("json",), "pip install it", load))
    assert available_predictors() == {"broken": None}
    assert measure_quality(SECOND) == {"a": None}
    assert available_predictors() == {"broken": "installed, but does not load: libnvrtc.so: cannot open"}


def test_a_predictor_is_loaded_once_and_hears_16_khz_within_full_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    loads, heard = [], []

    def load() -> Predict:
        loads.append(1)

        def predict(sound: np.ndarray) -> dict[str, float]:
            heard.append(sound)
            return {"a": 3.5, "b": float("nan")}

        return predict

    only(monkeypatch, Predictor("there", ("a", "b"), ("json",), "", load))
    loud = Audio(np.linspace(-2, 2, 48_000, dtype=np.float32)[None], 48_000)
    assert [measure_quality(x) for x in (SECOND, loud)] == [{"a": 3.5, "b": None}] * 2
    assert len(loads) == 1
    assert [h.shape for h in heard] == [(16_000,), (16_000,)]
    assert np.abs(heard[1]).max() == 1.0


def test_nothing_to_hear_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, Predictor("there", ("a",), ("json",), "", lambda: lambda sound: {"a": 1.0}))
    assert measure_quality(Audio(np.zeros((1, 0), np.float32), 16_000)) == {"a": None}
    assert measure_quality(SECOND, []) == {}


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="unknown predictor 'mos'; use one of dnsmos, distillmos, utmosv2"):
        measure_quality(SECOND, ["mos"])
    with pytest.raises(UserError, match="has 2 channels"):
        measure_quality(Audio(np.zeros((2, 100), np.float32), 16_000))


def test_measures_have_names_of_their_own() -> None:
    measures = [m for p in PREDICTORS.values() for m in p.measures]
    assert len(set(measures)) == len(measures)
    assert set(measure_quality(Audio(np.zeros((1, 0), np.float32), 16_000))) == set(measures)


@pytest.mark.filterwarnings("ignore")  # librosa and onnxruntime have their own
@pytest.mark.parametrize("name", ["dnsmos", "distillmos"])
def test_installed_predictors_rank_noise_below_speech(name: str) -> None:
    if available_predictors()[name] is not None:
        pytest.skip(f"{name}: {available_predictors()[name]}")
    clean = read_audio(DIALOGUES / "smooth_turn_taking" / "1" / "input.wav")
    noise = np.random.default_rng(0).normal(0, 0.05, clean.samples.shape).astype(np.float32)
    good, bad = (measure_quality(x, [name]) for x in (clean, Audio(clean.samples + noise, clean.rate)))
    first = PREDICTORS[name].measures[0]
    assert good[first] is not None
    assert bad[first] is not None
    assert 1 < bad[first] + 0.5 < good[first] < 5
