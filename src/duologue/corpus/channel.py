"""What the user's sound goes through before the agent hears it: room, echo, noise, a telephone, a gain."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from duologue.audio.wave import Audio, read_audio
from duologue.base.errors import UserError
from duologue.corpus.render import CEILING

_BAND = (300.0, 3400.0)
Span: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConfig:
    """How often each thing happens to the user's channel (0: never, 1: always), and how strongly.

    The ranges are Moshi's recipe (arXiv 2410.00037, section 4.4), which uses gain 0.5, noise 0.3, and echo with
    reverberation 0.3; its noise is recorded, ours is made unless a folder of recordings is given.
    """

    gain: float = 0.0
    """Share of conversations whose user is louder or quieter than the target."""
    gain_db: Span = (-24.0, 15.0)
    """Of the gain, drawn evenly."""
    noise: float = 0.0
    """Share with noise."""
    snr_db: Span = (-6.0, 30.0)
    """Power of the user's speech over that of the noise, drawn evenly."""
    noise_folder: Path | None = None
    """Recordings (.wav, .flac) to take noise from; without it noise is white, pink or a hum of 50 or 60 Hz."""
    echo: float = 0.0
    """Share in which the agent's own sound comes back in the user's channel."""
    echo_gain: Span = (0.0, 0.2)
    """Factor on the agent's sound, drawn evenly."""
    echo_delay: Span = (0.1, 0.5)
    """Seconds, drawn evenly."""
    telephone: float = 0.0
    """Share through a telephone's band, 300 to 3400 Hz."""
    room: float = 0.0
    """Share in a room (shoebox, by the image method; needs pyroomacoustics)."""
    rt60: Span = (0.15, 0.6)
    """Seconds until reverberation has fallen by 60 dB, drawn evenly."""

    def __post_init__(self) -> None:
        for name in ("gain", "noise", "echo", "telephone", "room"):
            share: float = getattr(self, name)
            if not 0 <= share <= 1:
                raise UserError(f"{share:g} is not a share", place=f"channel.{name}", mend="use 0 to 1")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and not value[0] <= value[1]:
                raise UserError(f"{value[0]:g} to {value[1]:g} is no range", place=f"channel.{field.name}",
                                mend="give the smaller first")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What happens in one conversation; None or False: not. What chance decides beyond it hangs on `seed`."""

    seed: int
    gain_db: float | None = None
    snr_db: float | None = None
    noise: str | None = None
    """white, pink, hum, or the name of a file in the noise folder."""
    echo: tuple[float, float] | None = None
    """Gain and delay in seconds."""
    telephone: bool = False
    rt60: float | None = None


def draw_effects(config: ChannelConfig, seed: int) -> Effects:
    """Draw what happens in the conversation of a seed. Each thing has draws of its own, used or not."""
    draws = np.random.default_rng([seed, 0xC4A])
    happens = draws.random(5)
    amounts = draws.random(6)
    gain = _between(config.gain_db, amounts[0]) if happens[0] < config.gain else None
    noisy = happens[1] < config.noise
    kinds = _noise_names(config) if noisy else [""]
    echo = (_between(config.echo_gain, amounts[3]), _between(config.echo_delay, amounts[4]))
    return Effects(
        seed=seed,
        gain_db=gain,
        snr_db=_between(config.snr_db, amounts[1]) if noisy else None,
        noise=kinds[int(amounts[2] * len(kinds))] if noisy else None,
        echo=echo if happens[2] < config.echo else None,
        telephone=bool(happens[3] < config.telephone),
        rt60=_between(config.rt60, amounts[5]) if happens[4] < config.room else None,
    )


def apply_effects(audio: Audio, effects: Effects, noise_folder: Path | None = None) -> Audio:
    """The conversation [2, S] with its user's channel (row 1) changed; the agent's stays as it is.

    Order: room (the user, and the agent's echo), echo, noise, telephone, gain. Timing stays: the direct sound is not
    delayed. Where the result would clip it is turned down as a whole.

    Raises:
        UserError: a room is asked for and pyroomacoustics is not installed, or a noise file cannot be used.
    """
    agent, user = audio.samples.astype(np.float64)
    speech_power = float(np.mean(user[user != 0] ** 2)) if user.any() else 0.0
    size = len(user)
    if effects.echo is not None:
        gain, delay = effects.echo
        late = min(size, round(delay * audio.rate))
        user = user + gain * np.concatenate((np.zeros(late), agent[: size - late]))
    if effects.rt60 is not None:
        user = reverberated(user, audio.rate, effects.rt60, effects.seed)
    if effects.snr_db is not None and effects.noise is not None and speech_power > 0:
        sound = _noise(effects, size, audio.rate, noise_folder)
        power = float(np.mean(sound**2))
        user = user + sound * np.sqrt(speech_power / max(power, 1e-20) / 10 ** (effects.snr_db / 10))
    if effects.telephone:
        user = telephone(user, audio.rate)
    if effects.gain_db is not None:
        user = user * 10 ** (effects.gain_db / 20)
    user = user * min(1.0, CEILING / max(float(np.abs(user).max(initial=0.0)), 1e-12))
    return Audio(np.stack([audio.samples[0], user.astype(np.float32)]), audio.rate)


def telephone(samples: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """Sound [S] through 300 to 3400 Hz: Butterworth of order 4, run both ways, so that nothing is delayed."""
    from scipy.signal import butter, sosfiltfilt

    out: NDArray[np.float64] = sosfiltfilt(butter(4, _BAND, "bandpass", fs=rate, output="sos"), samples)
    return out


def reverberated(samples: NDArray[np.float64], rate: int, rt60: float, seed: int) -> NDArray[np.float64]:
    """Sound [S] in a shoebox room drawn from a seed, moved and scaled so that the direct sound stays as it was."""
    try:
        import pyroomacoustics as pra
    except ImportError:
        mend = "install it (pip install pyroomacoustics), or set channel.room to 0"
        raise UserError("pyroomacoustics, which makes rooms, is not installed", mend=mend) from None
    from scipy.signal import fftconvolve

    draws = np.random.default_rng([seed, 0x400])
    size = draws.uniform([3.0, 3.0, 2.3], [7.0, 6.0, 3.2])
    # Sabine's formula bounds what a room of this size can have: a small one cannot ring for long with no absorption.
    absorption, order = pra.inverse_sabine(max(rt60, 0.1), size)
    shoebox = pra.ShoeBox(size, fs=rate, materials=pra.Material(min(absorption, 0.99)), max_order=min(order, 12))
    talker = draws.uniform([0.8, 0.8, 1.0], size - [0.8, 0.8, 0.6])
    shoebox.add_source(talker)
    step = draws.standard_normal(3)
    listener = np.clip(talker + 0.7 * step / np.linalg.norm(step), 0.3, size - 0.3)
    shoebox.add_microphone(listener)
    shoebox.compute_rir()
    response = np.asarray(shoebox.rir[0][0], np.float64)
    direct = int(np.argmax(np.abs(response)))
    out: NDArray[np.float64] = fftconvolve(samples, response[direct:] / response[direct])[: len(samples)]
    return out


def made_noise(kind: str, size: int, rate: int, draws: np.random.Generator) -> NDArray[np.float64]:
    """Noise [size] of any level: white, pink (power falls with 1/f), or hum (50 or 60 Hz and odd overtones)."""
    if kind == "hum":
        base = (50.0, 60.0)[int(draws.integers(2))]
        t = np.arange(size) / rate
        phases = draws.uniform(0, 2 * np.pi, 8)
        tones = [np.sin(2 * np.pi * base * (2 * k + 1) * t + p) / (k + 1) for k, p in enumerate(phases)]
        return np.asarray(np.sum(tones, axis=0) + 0.05 * draws.standard_normal(size))
    white = draws.standard_normal(size)
    if kind == "white":
        return white
    spectrum = np.fft.rfft(white)
    frequency = np.fft.rfftfreq(size, 1 / rate)
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 20.0)), size)


def _noise(effects: Effects, size: int, rate: int, folder: Path | None) -> NDArray[np.float64]:
    draws = np.random.default_rng([effects.seed, 0x9015E])
    name = effects.noise or "white"
    if name in ("white", "pink", "hum"):
        return made_noise(name, size, rate, draws)
    path = (folder or Path()) / name
    sound = read_audio(path).mono().resampled(rate).samples[0].astype(np.float64)
    if not sound.any():
        raise UserError("is silent", place=path, mend="take it out of the noise folder")
    start = int(draws.integers(len(sound)))
    return np.resize(np.roll(sound, -start), size)


def _noise_names(config: ChannelConfig) -> list[str]:
    if config.noise_folder is None:
        return ["white", "pink", "hum"]
    found = sorted(p.name for p in config.noise_folder.glob("*") if p.suffix.lower() in (".wav", ".flac"))
    if not found:
        raise UserError("holds no .wav or .flac file", place=config.noise_folder, mend="name a folder of noise")
    return found


def _between(span: Span, at: float) -> float:
    return round(float(span[0] + (span[1] - span[0]) * at), 4)
