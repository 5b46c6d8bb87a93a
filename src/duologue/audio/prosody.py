"""Pitch and intensity of speech, as Full-Duplex-Bench v1.5 measures them before and after an overlap.

Two back ends give the same two curves, one value every 10 ms: "praat" is Praat itself (parselmouth, extra `prosody`,
GPL), whose numbers the benchmark's script reports; "builtin" follows Praat's published method in numpy. Every result
says which one made it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duologue.base.errors import UserError

Backend = Literal["praat", "builtin"]
Curve = NDArray[np.float64]

TIME_STEP_S = 0.01
FLOOR_HZ, CEILING_HZ = 50.0, 600.0
SILENT_DB = -200.0
"""Praat writes -300 dB for digital silence; the benchmark leaves out what is not above -200."""

PITCH_WINDOW_S = 3 / FLOOR_HZ
"""Three periods of the lowest pitch."""
MAX_CANDIDATES = 14
SILENCE_THRESHOLD = 0.03
VOICING_THRESHOLD = 0.45
OCTAVE_COST = 0.01
OCTAVE_JUMP_COST = 0.35
VOICING_CHANGE_COST = 0.14
OVERSAMPLING = 4
"""Points of the autocorrelation per sample: a parabola through the raw points would cut the peaks of high voices."""

INTENSITY_WINDOW_S = 6.4 / 100
"""Praat's window for its default lowest pitch of 100 Hz."""
AUDITORY_THRESHOLD_PA2 = 4e-10
"""(2e-5 Pa) squared: Praat takes samples as pressures in pascal."""

FRAMES_PER_BLOCK = 512


@dataclass(frozen=True, slots=True)
class PitchStats:
    """Mean and standard deviation (n - 1) over the voiced frames; None where there are too few of them."""

    mean_hz: float | None
    sd_hz: float | None
    voiced_frames: int
    backend: Backend


@dataclass(frozen=True, slots=True)
class IntensityStats:
    """Mean and standard deviation (n - 1) over the frames above -200 dB, dB re 2e-5; None where there are too few."""

    mean_db: float | None
    sd_db: float | None
    frames: int
    backend: Backend


def pitch_stats(samples: ArrayLike, rate: int, backend: Backend | Literal["auto"] = "auto") -> PitchStats:
    """Statistics of the pitch of samples [S]. "auto" is Praat where it is installed. Errors: as `pitch_curve`."""
    chosen = _backend(backend)
    curve = pitch_curve(samples, rate, chosen)
    mean, sd, n = _mean_and_sd(curve[curve > 0])
    return PitchStats(mean, sd, n, chosen)


def intensity_stats(samples: ArrayLike, rate: int, backend: Backend | Literal["auto"] = "auto") -> IntensityStats:
    """Statistics of the intensity of samples [S]. "auto" as in `pitch_stats`. Errors: as `pitch_curve`."""
    chosen = _backend(backend)
    curve = intensity_curve(samples, rate, chosen)
    mean, sd, n = _mean_and_sd(curve[curve > SILENT_DB])
    return IntensityStats(mean, sd, n, chosen)


def pitch_curve(samples: ArrayLike, rate: int, backend: Backend | Literal["auto"] = "auto") -> Curve:
    """Pitch in Hz [N] every 10 ms, 0 where unvoiced; empty for less than 0.06 s of sound.

    Frames lie symmetrically in the recording, as Praat's do, and are the same for both back ends.

    Errors: UserError when Praat is asked for and not installed, or samples are not one row of finite numbers.
    """
    x = _one_row(samples)
    if len(x) < PITCH_WINDOW_S * rate:
        return np.zeros(0)
    if _backend(backend) == "builtin":
        return _builtin_pitch(x, rate)
    pitch = _praat_sound(x, rate).to_pitch(time_step=TIME_STEP_S, pitch_floor=FLOOR_HZ, pitch_ceiling=CEILING_HZ)
    return np.asarray(pitch.selected_array["frequency"], dtype=np.float64)


def intensity_curve(samples: ArrayLike, rate: int, backend: Backend | Literal["auto"] = "auto") -> Curve:
    """Intensity in dB re 2e-5 [N] every 10 ms, -300 for digital silence; empty for less than 0.064 s of sound.

    Errors: as `pitch_curve`.
    """
    x = _one_row(samples)
    if len(x) < INTENSITY_WINDOW_S * rate:
        return np.zeros(0)
    if _backend(backend) == "builtin":
        return _builtin_intensity(x, rate)
    intensity = _praat_sound(x, rate).to_intensity(time_step=TIME_STEP_S)
    return np.asarray(intensity.values[0], dtype=np.float64)


def _backend(name: Backend | Literal["auto"]) -> Backend:
    installed = importlib.util.find_spec("parselmouth") is not None
    if name == "auto":
        return "praat" if installed else "builtin"
    if name == "praat" and not installed:
        mend = "install it (pip install 'duologue[prosody]'), or use builtin"
        raise UserError("Praat is not installed", place="prosody", mend=mend)
    return name


def _praat_sound(x: Curve, rate: int) -> Any:
    import parselmouth

    return parselmouth.Sound(x, sampling_frequency=float(rate))


def _one_row(samples: ArrayLike) -> Curve:
    x = np.asarray(samples, dtype=np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise UserError("samples are not one row of finite numbers", place="prosody", mend="give one channel, [S]")
    return x


def _mean_and_sd(values: Curve) -> tuple[float | None, float | None, int]:
    n = len(values)
    return (float(values.mean()) if n else None, float(values.std(ddof=1)) if n > 1 else None, n)


def _centres(size: int, rate: int, window_s: float) -> Curve:
    """Centres of the frames [N], in samples from the first one: as many as fit, symmetric about the middle.

    The steps of this arithmetic are Praat's, in seconds: a centre halfway between two samples goes where Praat's goes.
    """
    dx = 1 / rate
    duration = size * dx
    n = int((duration - window_s) / TIME_STEP_S) + 1
    first = 0.5 * duration - 0.5 * (n * TIME_STEP_S) + 0.5 * TIME_STEP_S
    return np.asarray((first + np.arange(n) * TIME_STEP_S - 0.5 * dx) / dx, dtype=np.float64)


# Pitch: Boersma (1993), "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of
# a sampled sound". Autocorrelation of each windowed frame, divided by the window's own; its peaks are the candidates;
# the best path through them is the curve. Constants and roundings are those of Praat 6.1.


def _builtin_pitch(x: Curve, rate: int) -> Curve:
    centres = _centres(len(x), rate, PITCH_WINDOW_S)
    global_peak = float(np.abs(x - x.mean()).max())
    if global_peak == 0:
        return np.zeros(len(centres))
    blocks = [centres[i : i + FRAMES_PER_BLOCK] for i in range(0, len(centres), FRAMES_PER_BLOCK)]
    found = [_candidates(x, rate, block, global_peak) for block in blocks]
    return _best_path(np.concatenate([hz for hz, _ in found]), np.concatenate([score for _, score in found]))


def _candidates(x: Curve, rate: int, centres: Curve, global_peak: float) -> tuple[Curve, Curve]:
    """Pitch candidates of each frame: frequencies [N, K] and strengths [N, K]. Column 0 is "unvoiced" (0 Hz).

    Places without a candidate have the strength -inf.
    """
    half = int(PITCH_WINDOW_S * rate) // 2 - 1
    period = int(rate / FLOOR_HZ)
    offsets = np.arange(-half, half)
    frames = x[np.clip(np.floor(centres).astype(int)[:, None] + 1 + offsets, 0, len(x) - 1)]
    # The mean of one longest period on either side of the centre is taken away: less of it than of the whole window.
    frames = np.asarray(frames - frames[:, half - period : half + period].mean(axis=1, keepdims=True))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, 2 * half + 1) / (2 * half + 1))
    frames = frames * window
    local_peak = np.abs(frames[:, half - period // 2 - 1 : half + period // 2 + 1]).max(axis=1)
    loudness = np.minimum(1.0, local_peak / global_peak)

    lags, peaks = _autocorrelation_peaks(frames, window, period + 2)
    # A peak is a candidate within the range of pitch; of equal ones, the higher pitch is a little stronger.
    hz = np.divide(rate, lags, out=np.zeros_like(lags), where=lags > 0)
    valid = (hz >= FLOOR_HZ) & (hz <= CEILING_HZ) & (peaks > 0.5 * VOICING_THRESHOLD)
    octave = np.log2(CEILING_HZ / np.where(valid, hz, CEILING_HZ))
    strength = np.where(valid, peaks - OCTAVE_COST * octave, -np.inf)
    # Silence and noise: the unvoiced candidate's strength grows as the frame gets quiet.
    quiet = 2 - loudness / (SILENCE_THRESHOLD / (1 + VOICING_THRESHOLD))
    unvoiced = VOICING_THRESHOLD + np.maximum(0.0, quiet)
    return (
        np.concatenate([np.zeros((len(hz), 1)), np.where(valid, hz, 1.0)], axis=1),
        np.concatenate([unvoiced[:, None], strength], axis=1),
    )


def _autocorrelation_peaks(frames: Curve, window: Curve, longest: int) -> tuple[Curve, Curve]:
    """The highest maxima of each autocorrelation up to a lag: lags in samples [N, K], heights [N, K], 0 where none."""
    size = 1 << (len(window) + longest - 1).bit_length()
    spectra = np.concatenate([np.abs(np.fft.rfft(rows, size)) ** 2 for rows in (frames, window[None])])
    # Zeros behind the spectrum put points between the samples of the autocorrelation.
    lagged = np.fft.irfft(spectra, size * OVERSAMPLING)[:, : longest * OVERSAMPLING]
    energy = lagged[:, :1]
    lagged = np.divide(lagged, energy, out=np.zeros_like(lagged), where=energy > 0)
    r = lagged[:-1] / lagged[-1]
    before, here, after = r[:, :-2], r[:, 1:-1], r[:, 2:]
    height = np.where((here > before) & (here >= after) & (here > 0), here, 0.0)
    best = np.argpartition(-height, MAX_CANDIDATES - 1, axis=1)[:, :MAX_CANDIDATES]
    height, left, right = (np.take_along_axis(a, best, axis=1) for a in (height, before, after))
    # The vertex of the parabola through the three points about each maximum.
    slope, bend = (right - left) / 2, 2 * height - left - right
    shift = np.divide(slope, bend, out=np.zeros_like(slope), where=(height > 0) & (bend > 0))
    lags = np.where(height > 0, (best + 1 + shift) / OVERSAMPLING, 0.0)
    top = height + slope * shift / 2
    # Noise about a short lag can lift a corrected peak above 1; it then counts as so much below.
    return lags, np.where(top > 1, 1 / np.maximum(top, 1.0), np.where(height > 0, top, 0.0))


def _best_path(hz: Curve, strength: Curve) -> Curve:
    """The best way through the candidates (Viterbi): strength pays, jumps and changes of voicing cost."""
    voiced = hz > 0
    log_hz = np.log2(np.where(voiced, hz, 1.0))
    score = strength[0]
    came_from = np.zeros(hz.shape, dtype=np.int64)
    for t in range(1, len(hz)):
        jump = OCTAVE_JUMP_COST * np.abs(log_hz[t - 1][:, None] - log_hz[t])
        both = voiced[t - 1][:, None] & voiced[t]
        change = VOICING_CHANGE_COST * (voiced[t - 1][:, None] != voiced[t])
        total = score[:, None] - np.where(both, jump, change)
        came_from[t] = total.argmax(axis=0)
        score = total.max(axis=0) + strength[t]
    path = np.empty(len(hz), dtype=np.int64)
    path[-1] = score.argmax()
    for t in range(len(hz) - 1, 0, -1):
        path[t - 1] = came_from[t, path[t]]
    chosen: Curve = hz[np.arange(len(hz)), path]
    return chosen


# Intensity: the mean square of the pressure under a window whose side lobes are below -190 dB (Praat's manual, "Sound:
# To Intensity..."): Kaiser's with beta = 2 pi^2 + 0.5.


def _builtin_intensity(x: Curve, rate: int) -> Curve:
    half = int(INTENSITY_WINDOW_S * rate / 2)
    offsets = np.arange(-half, half + 1)
    root = np.maximum(0.0, 1 - (offsets / (INTENSITY_WINDOW_S * rate / 2)) ** 2)
    window = np.where(root > 0, np.i0((2 * np.pi**2 + 0.5) * np.sqrt(root)), 0.0)
    centres = np.floor(_centres(len(x), rate, INTENSITY_WINDOW_S) + 0.5).astype(int)
    levels = [_level(x, block[:, None] + offsets, window) for block in _blocks(centres)]
    return np.concatenate(levels)


def _level(x: Curve, places: NDArray[np.int64], window: Curve) -> Curve:
    """Intensity in dB of frames [N, W] of `x`; what a frame would need from beyond the recording does not count."""
    inside = (places >= 0) & (places < len(x))
    frames = x[np.clip(places, 0, len(x) - 1)]
    count = inside.sum(axis=1, keepdims=True)
    frames = frames - np.where(inside, frames, 0.0).sum(axis=1, keepdims=True) / count
    weight = window * inside
    power = (frames**2 * weight).sum(axis=1) / weight.sum(axis=1) / AUDITORY_THRESHOLD_PA2
    decibels: Curve = np.where(power < 1e-30, -300.0, 10 * np.log10(np.maximum(power, 1e-30)))
    return decibels


def _blocks(centres: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for i in range(0, len(centres), FRAMES_PER_BLOCK):
        yield centres[i : i + FRAMES_PER_BLOCK]
