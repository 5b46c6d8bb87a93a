"""Integrated loudness against values that the standard gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from duologue.audio.loudness import loudness
from duologue.audio.wave import Audio
from duologue.base.errors import UserError


def sine(hz, level, rate=48_000, channels=1, seconds=3.0):
    t = np.arange(round(seconds * rate)) / rate
    return Audio(np.tile(level * np.sin(2 * np.pi * hz * t), (channels, 1)).astype(np.float32), rate)


def test_full_scale_997_hz_is_minus_3_01_lufs():
    """BS.1770-4, annex 1: a 0 dBFS sine of 997 Hz in one of the front channels reads -3.01 LKFS."""
    assert loudness(sine(997, 1.0)) == pytest.approx(-3.01, abs=0.05)


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100])
def test_level_and_channels_add_up(rate):
    one = loudness(sine(997, 0.1, rate))
    assert one == pytest.approx(-23.01, abs=0.1)
    assert loudness(sine(997, 0.2, rate)) - one == pytest.approx(6.02, abs=0.02)
    assert loudness(sine(997, 0.1, rate, channels=2)) - one == pytest.approx(3.01, abs=0.02)


def test_pauses_are_gated_out():
    speech = sine(997, 0.1).samples
    with_pause = Audio(np.concatenate((speech, np.zeros_like(speech)), axis=1), 48_000)
    assert loudness(with_pause) == pytest.approx(loudness(Audio(speech, 48_000)), abs=0.3)


def test_silence_is_minus_infinity():
    assert loudness(Audio(np.zeros((1, 48_000), np.float32), 48_000)) == -math.inf
    assert loudness(sine(997, 1e-6)) == -math.inf


@pytest.mark.parametrize("samples", [0, 100, 19_199])
def test_too_short_cannot_be_measured(samples):
    assert math.isnan(loudness(Audio(np.ones((1, samples), np.float32), 48_000)))


def test_one_block_is_enough():
    assert loudness(sine(997, 0.1, seconds=0.4)) == pytest.approx(-23, abs=0.3)


def test_six_channels_are_refused():
    with pytest.raises(UserError, match="6 channels"):
        loudness(sine(997, 0.1, channels=6))
