"""Sound that speech detectors take for speech, made from nothing: for tests, benchmarks, and use without recordings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duologue.dialogue.intervals import Intervals, as_intervals

Samples = NDArray[np.float32]

_FORMANTS_HZ = np.array(
    [
        (730, 1090, 2440),
        (530, 1840, 2480),
        (390, 1990, 2550),
        (270, 2290, 3010),
        (570, 840, 2410),
        (440, 1020, 2240),
        (300, 870, 2240),
    ]
)
"""First three resonances of seven English vowels: Peterson and Barney 1952, men's means."""
_BANDWIDTHS_HZ = (60, 90, 150)
_LEVEL, _NOISE = 0.08, 0.001


def babble(seconds: float, rate: int, seed: int = 0) -> tuple[Samples, Intervals]:
    """One channel of utterances of 2 to 17 random syllables, with pauses of 0.2 to 2 s, over faint noise.

    Returns:
        float32 [S] in [-1, 1], and where the utterances are, [N, 2] in seconds. The same arguments give the same sound.
    """
    rng = np.random.default_rng(seed)
    out = _NOISE * rng.standard_normal(round(seconds * rate))
    spans = []
    at = rng.uniform(0.2, 1.0)
    while at < seconds - 0.5:
        pitch = rng.uniform(90, 220)
        sound = np.concatenate([_syllable(pitch, rate, rng) for _ in range(rng.integers(2, 18))])
        first = round(at * rate)
        sound = sound[: len(out) - first]
        out[first : first + len(sound)] += _LEVEL * sound
        spans.append((first / rate, (first + len(sound)) / rate))
        at += len(sound) / rate + rng.uniform(0.2, 2.0)
    return np.clip(out, -1, 1).astype(np.float32), as_intervals(spans)


def _syllable(pitch: float, rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A burst of noise and a vowel that glides into another, at unit power."""
    from scipy.signal import lfilter

    time = np.linspace(0, 1, round(rng.uniform(0.1, 0.25) * rate))
    phase = np.cumsum(pitch * (1 + 0.15 * np.sin(np.pi * time * rng.uniform(0.5, 1.5)))) / rate
    pulses = np.diff(np.floor(phase), prepend=0.0)
    source = lfilter([1.0], [1.0, -0.95], pulses) + 0.01 * rng.standard_normal(len(time))
    one, other = (_vowel(source, _FORMANTS_HZ[i], rate) for i in rng.integers(len(_FORMANTS_HZ), size=2))
    vowel = (1 - time) * one + time * other
    vowel *= np.sqrt(np.sin(np.pi * time).clip(0)) / (vowel.std() + 1e-9)
    noise = np.diff(rng.standard_normal(round(rng.uniform(0.02, 0.09) * rate) + 1))
    return np.concatenate((rng.uniform(0, 0.3) * noise * np.hanning(len(noise)), vowel))


def _vowel(source: NDArray[np.float64], formants: NDArray[np.int64], rate: int) -> NDArray[np.float64]:
    """Pass the source through one two-pole resonance for each formant below the band's end."""
    from scipy.signal import lfilter

    for frequency, width in zip(formants, _BANDWIDTHS_HZ, strict=True):
        if frequency < 0.45 * rate:
            radius = np.exp(-np.pi * width / rate)
            poles = [1.0, -2 * radius * np.cos(2 * np.pi * frequency / rate), radius**2]
            source = np.asarray(lfilter([1 - radius], poles, source))
    return source
