"""Change of sample rate: lengths, tones, streaming, and the sinc resampler's properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.audio.resample import StreamResampler, resample, sinc_resample
from duologue.base.errors import UserError

RATES = [8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]
BOTH = pytest.mark.parametrize("function", [resample, sinc_resample])


def tone(rate, hz=440.0, seconds=0.5, phase=0.3):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate + phase)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), st.sampled_from(RATES), st.sampled_from(RATES))
def test_lengths(samples, old, new):
    wave = np.zeros((2, 1, samples), np.float32)
    assert resample(wave, old, new).shape == (2, 1, math.floor(samples * new / old + 0.5))
    assert sinc_resample(wave, old, new).shape == (2, 1, math.ceil(samples * new / old))


@BOTH
@pytest.mark.parametrize("old", RATES)
@pytest.mark.parametrize("new", [16_000, 24_000])
def test_a_tone_keeps_its_pitch_phase_and_level(function, old, new):
    got, want = function(tone(old), old, new), tone(new)
    inner = slice(new // 20, len(want) - new // 20)
    # The short Hann-windowed sinc has a ripple of about 0.2 % in its passband; soxr's is far below.
    np.testing.assert_allclose(got[inner], want[inner], atol=1e-4 if function is resample else 2e-3)


@BOTH
def test_gain_at_zero_frequency_is_one(function):
    out = function(np.ones(4800, np.float32), 48_000, 16_000)
    np.testing.assert_allclose(out[400:-400], 1, atol=2e-3)


@BOTH
def test_what_the_new_rate_cannot_hold_is_removed(function):
    out = function(tone(48_000, hz=11_000), 48_000, 16_000)
    assert np.abs(out[500:-500]).max() < 0.01


@BOTH
def test_equal_rates_change_nothing(function):
    wave = tone(16_000)
    np.testing.assert_array_equal(function(wave, 16_000, 16_000), wave)


@BOTH
def test_channels_do_not_mix(function):
    wave = np.stack((tone(24_000), np.zeros(12_000, np.float32)))
    out = function(wave, 24_000, 16_000)
    np.testing.assert_allclose(out[0], function(wave[0], 24_000, 16_000), atol=1e-6)
    assert not out[1].any()


def test_sinc_kernel_by_hand():
    """48 to 16 kHz of a unit impulse: sinc(x) cos^2(pi x / 12) * 0.99 / 3 at x = 0.33 * distance in input samples."""
    wave = np.zeros(301, np.float32)
    wave[150] = 1
    distance = 150 - 3 * np.arange(101)
    x = 0.99 * distance / 3
    want = np.where(np.abs(x) < 6, np.sinc(x) * np.cos(np.pi * x / 12) ** 2, 0) * 0.99 / 3
    np.testing.assert_allclose(sinc_resample(wave, 48_000, 16_000), want, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(RATES),
    st.integers(1, 2),
    st.integers(0, 6000),
    st.lists(st.integers(0, 4000), min_size=1, max_size=5),
)
def test_stream_equals_whole_bit_by_bit(rate, channels, length, sizes):
    wave = np.random.default_rng(length).standard_normal((channels, length)).astype(np.float32)
    stream, parts, at = StreamResampler(rate, 16_000, channels), [], 0
    for size in sizes:
        parts.append(stream.push(wave[:, at : at + size].T))
        at += size
    parts.append(stream.push(wave[:, at:].T))
    parts.append(stream.finish())
    np.testing.assert_array_equal(np.concatenate(parts).T, resample(wave, rate, 16_000))


@pytest.mark.parametrize("rates", [(0, 16_000), (16_000, -1)])
def test_rates_must_be_positive(rates):
    for function in (resample, sinc_resample):
        with pytest.raises(UserError, match="is not positive"):
            function(np.zeros(5, np.float32), *rates)
