"""Pitch and intensity: known tones, the edges, and the built-in back end against Praat itself on real speech."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import duologue.bench
from duologue.audio.prosody import (
    INTENSITY_WINDOW_S,
    PITCH_WINDOW_S,
    intensity_curve,
    intensity_stats,
    pitch_curve,
    pitch_stats,
)
from duologue.audio.wave import read_audio
from duologue.base.errors import UserError

DIALOGUES = Path(duologue.bench.__file__).parent / "dialogues"
PRAAT = importlib.util.find_spec("parselmouth") is not None
needs_praat = pytest.mark.skipif(not PRAAT, reason="the extra `prosody` is not installed")
each_backend = pytest.mark.parametrize("backend", [pytest.param("praat", marks=needs_praat), "builtin"])


def voice(hz: float, seconds: float, rate: int) -> np.ndarray:
    """A vowel-like sound: harmonics that fall by 6 dB an octave."""
    t = np.arange(round(seconds * rate)) / rate
    return 0.1 * sum(np.sin(2 * np.pi * hz * k * t + k) / k for k in range(1, 1 + int(3000 / hz)))


def speech(shared_data: Path) -> list[tuple[np.ndarray, int]]:
    paths = sorted(shared_data.glob("full-duplex-bench/*/1/*put.wav"))
    assert len(paths) == 6
    return [(a.samples[0], a.rate) for a in (read_audio(p).mono().resampled(16_000) for p in paths)]


@each_backend
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("hz", [70.0, 150.0, 310.5, 520.0])
def test_pitch_of_a_steady_voice(backend, rate: int, hz: float) -> None:
    stats = pitch_stats(voice(hz, 0.5, rate), rate, backend)
    assert stats.mean_hz == pytest.approx(hz, rel=2e-3)
    assert stats.sd_hz == pytest.approx(0, abs=1e-2 * hz)
    assert stats.voiced_frames == len(pitch_curve(voice(hz, 0.5, rate), rate, backend))
    assert stats.backend == backend


@settings(max_examples=15, deadline=None)
@given(st.floats(60, 590), st.sampled_from([8_000, 16_000, 24_000]), st.floats(1e-3, 0.5))
def test_pitch_does_not_depend_on_level_or_rate(hz: float, rate: int, gain: float) -> None:
    curve = pitch_curve(gain * voice(hz, 0.3, rate), rate, "builtin")
    np.testing.assert_allclose(curve, hz, rtol=5e-3)


@each_backend
def test_intensity_of_a_tone_is_its_mean_square(backend) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)
    stats = intensity_stats(tone, 16_000, backend)
    assert stats.mean_db == pytest.approx(10 * np.log10(0.125 / 4e-10), abs=0.01)
    assert stats.sd_db == pytest.approx(0, abs=0.01)
    louder = intensity_stats(2 * tone, 16_000, backend)
    assert louder.mean_db == pytest.approx(stats.mean_db + 20 * np.log10(2), abs=1e-6)


@each_backend
def test_silence_and_noise_have_no_pitch_and_silence_no_intensity(backend) -> None:
    silence, noise = np.zeros(16_000), np.random.default_rng(0).normal(0, 0.1, 16_000)
    for sound in (silence, noise):
        stats = pitch_stats(sound, 16_000, backend)
        assert (stats.mean_hz, stats.sd_hz, stats.voiced_frames) == (None, None, 0)
    quiet = intensity_stats(silence, 16_000, backend)
    assert (quiet.mean_db, quiet.sd_db, quiet.frames) == (None, None, 0)


@each_backend
def test_voiced_and_silent_stretches_are_told_apart(backend) -> None:
    sound = np.concatenate([np.zeros(8_000), voice(120, 0.5, 16_000), np.zeros(8_000)])
    voiced = np.flatnonzero(pitch_curve(sound, 16_000, backend)) * 0.01 + PITCH_WINDOW_S / 2
    assert (voiced[0], voiced[-1]) == (pytest.approx(0.5, abs=0.03), pytest.approx(1.0, abs=0.03))


@each_backend
def test_sound_shorter_than_the_window_is_not_measured(backend) -> None:
    for curve, window in ((pitch_curve, PITCH_WINDOW_S), (intensity_curve, INTENSITY_WINDOW_S)):
        size = round(window * 16_000)
        assert len(curve(voice(150, 1, 16_000)[: size - 1], 16_000, backend)) == 0
        assert len(curve(voice(150, 1, 16_000)[:size], 16_000, backend)) == 1
    one = pitch_stats(voice(150, PITCH_WINDOW_S, 16_000), 16_000, backend)
    assert (one.voiced_frames, one.sd_hz) == (1, None)
    assert pitch_stats([], 16_000, backend).voiced_frames == 0


def test_long_sound_is_worked_in_blocks() -> None:
    sound = voice(140, 6.0, 8_000)  # 595 frames: more than a block
    assert np.ptp(pitch_curve(sound, 8_000, "builtin")) < 0.5
    assert np.ptp(intensity_curve(sound, 8_000, "builtin")) < 0.2


@needs_praat
def test_builtin_pitch_equals_praat_s_on_real_speech(shared_data: Path) -> None:
    errors = []
    for samples, rate in speech(shared_data):
        praat, ours = (pitch_curve(samples, rate, b) for b in ("praat", "builtin"))
        assert praat.shape == ours.shape
        assert np.mean((praat > 0) == (ours > 0)) > 0.995
        both = (praat > 0) & (ours > 0)
        errors.append(np.abs(ours[both] / praat[both] - 1))
    pooled = np.concatenate(errors)
    assert np.median(pooled) < 1e-4
    assert np.mean(pooled > 0.2) < 0.005


@needs_praat
def test_builtin_intensity_equals_praat_s_on_real_speech(shared_data: Path) -> None:
    for samples, rate in speech(shared_data):
        praat, ours = (intensity_curve(samples, rate, b) for b in ("praat", "builtin"))
        np.testing.assert_allclose(ours, praat, atol=0.01)


@needs_praat
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_both_back_ends_have_the_same_frames(rate: int) -> None:
    audio = read_audio(DIALOGUES / "pause_handling" / "2" / "output.wav").resampled(rate)
    for extra in (0, 1, rate // 100 - 1, rate // 100, rate // 100 + 1):
        samples = audio.samples[0, 2 * rate : 3 * rate + extra]
        for curve in (pitch_curve, intensity_curve):
            praat, ours = (curve(samples, rate, b) for b in ("praat", "builtin"))
            np.testing.assert_allclose(ours, praat, rtol=2e-3)


@needs_praat
def test_statistics_are_those_of_the_benchmark_s_script() -> None:
    import parselmouth

    audio = read_audio(DIALOGUES / "smooth_turn_taking" / "1" / "output.wav")
    sound = parselmouth.Sound(audio.samples[0].astype(np.float64), sampling_frequency=audio.rate)
    hz = sound.to_pitch(time_step=0.01, pitch_floor=50, pitch_ceiling=600).selected_array["frequency"]
    db = sound.to_intensity(time_step=0.01).values.flatten()
    pitch, loud = pitch_stats(audio.samples[0], audio.rate), intensity_stats(audio.samples[0], audio.rate)
    assert (pitch.mean_hz, pitch.sd_hz) == (np.mean(hz[hz > 0]), np.std(hz[hz > 0], ddof=1))
    assert (loud.mean_db, loud.sd_db) == (np.mean(db[db > -200]), np.std(db[db > -200], ddof=1))


def test_praat_is_chosen_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = voice(150, 0.2, 16_000)
    assert pitch_stats(sound, 16_000).backend == ("praat" if PRAAT else "builtin")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert pitch_stats(sound, 16_000).backend == intensity_stats(sound, 16_000).backend == "builtin"
    with pytest.raises(UserError, match=r"Praat is not installed; install it \(pip install 'duologue\[prosody\]'\)"):
        intensity_stats(sound, 16_000, "praat")


def test_what_is_no_row_of_numbers_is_refused() -> None:
    for bad in (np.zeros((2, 4_000)), np.full(4_000, np.nan)):
        with pytest.raises(UserError, match="not one row of finite numbers"):
            pitch_stats(bad, 16_000, "builtin")
