"""Voices by name: an engine, one of its voices, and changes to pitch, rate and loudness that make it another person."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from duologue.audio.resample import resample
from duologue.base.errors import UserError
from duologue.base.files import atomic_path
from duologue.corpus.align import Method, align, proportional, spoken_words
from duologue.corpus.spoken import Spoken
from duologue.dialogue.timeline import Word

RATE = 24_000
Times: TypeAlias = Literal["align", "letters"]
"""Where word times come from: a forced aligner (PocketSphinx), or shares of the time by letters."""

_SPEC = re.compile(
    r"(?P<engine>[a-z]\w*)/(?P<voice>[\w.-]+?)(?:@(?P<pitch>\d*\.?\d+))?(?:x(?P<tempo>\d*\.?\d+))?"
    r"(?:(?P<gain>[+-]\d*\.?\d+)dB)?"
)
_FORMAT = 1
"""Of the cache: raised when the same text and voice would give other content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceSpec:
    """A voice as text: `engine/voice@pitch x tempo ± gain dB`, all but the first two left out at 1, 1 and 0."""

    engine: str
    """A name in `VOICES`."""
    voice: str
    """The engine's own name of it."""
    pitch: float = 1.0
    """Factor on pitch and formants, by resampling: above 1 a smaller person."""
    tempo: float = 1.0
    """Factor on the speed of talk, by the engine."""
    gain: float = 0.0
    """Decibels above the side's usual loudness."""

    @classmethod
    def parse(cls, text: str) -> VoiceSpec:
        """Read "pico/en-US@1.08x0.95-3dB". Errors: UserError, not of this form or out of range."""
        found = _SPEC.fullmatch(text)
        if found is None:
            raise UserError(f"{text!r} names no voice", mend="write ENGINE/VOICE, such as pico/en-US@1.08x0.95-3dB")
        part = found.groupdict()
        spec = cls(engine=part["engine"], voice=part["voice"], pitch=float(part["pitch"] or 1),
                   tempo=float(part["tempo"] or 1), gain=float(part["gain"] or 0))  # fmt: skip
        for name, value, low, high in (
            ("pitch", spec.pitch, 0.5, 2), ("tempo", spec.tempo, 0.5, 2), ("gain", spec.gain, -40, 20),
        ):  # fmt: skip
            if not low <= value <= high:
                raise UserError(f"{name} {value:g} of voice {text!r}", mend=f"use {low} to {high}")
        return spec

    def __str__(self) -> str:
        pitch = "" if self.pitch == 1 else f"@{self.pitch:g}"
        tempo = "" if self.tempo == 1 else f"x{self.tempo:g}"
        gain = "" if self.gain == 0 else f"{self.gain:+g}dB"
        return f"{self.engine}/{self.voice}{pitch}{tempo}{gain}"


class Engine(Protocol):
    """A synthesiser."""

    name: str
    rate: int
    """Of its sound, in Hz."""

    @property
    def version(self) -> str:
        """Changes when the same text sounds otherwise."""

    @property
    def voices(self) -> tuple[str, ...]:
        """The names of its voices."""

    def knows(self, voice: str) -> bool:
        """Whether it can speak as this voice; Kokoro also mixes those of `voices`."""

    def licence(self, voice: str) -> str:
        """Of the sound of a voice."""

    def say(self, text: str, voice: str, speed: float) -> NDArray[np.float32]:
        """Speak: float32 [S] at `rate`. Errors: UserError, not installed, or the text cannot be said."""


def _pico(weights: Path | None) -> Engine:
    from duologue.corpus.voice_pico import PicoEngine

    return PicoEngine()


def _kokoro(weights: Path | None) -> Engine:
    from duologue.corpus.voice_kokoro import KokoroEngine

    return KokoroEngine(weights)


def _piper(weights: Path | None) -> Engine:
    from duologue.corpus.voice_piper import PiperEngine

    return PiperEngine(weights)


def _flite(weights: Path | None) -> Engine:
    from duologue.corpus.voice_program import ProgramEngine

    return ProgramEngine("flite")


def _espeak(weights: Path | None) -> Engine:
    from duologue.corpus.voice_program import ProgramEngine

    return ProgramEngine("espeak")


VOICES: dict[str, Callable[[Path | None], Engine]] = {
    "pico": _pico, "kokoro": _kokoro, "piper": _piper, "flite": _flite, "espeak": _espeak,
}  # fmt: skip
"""The engines by name; each is given the folder of the user's weights, if any."""


def find_voice(
    name: str,
    *,
    weights: Path | None = None,
    cache_folder: Path | None = None,
    times: Times = "align",
    fluent: bool = False,
) -> SynthVoice:
    """The voice of a name.

    Args:
        name: "pico/en-US@1.08" (see `VoiceSpec`).
        weights: folder of the engine's weights, for engines that bring none.
        cache_folder: where to keep what was said, by content; None: keep nothing.
        times: where word times come from.
        fluent: say every text in one go: marks inside it make no pauses. For stretches whose pauses are planned.

    Raises:
        UserError: not a voice's name, no such engine or voice, or the engine is not installed.
    """
    spec = VoiceSpec.parse(name)
    if spec.engine not in VOICES:
        raise UserError(f"no engine {spec.engine!r}", place=f"voice {name}", mend=f"use one of {', '.join(VOICES)}")
    engine = _engine(spec.engine, weights)
    if not engine.knows(spec.voice):
        known = ", ".join(engine.voices)
        raise UserError(f"{spec.engine} has no voice {spec.voice!r}", place=f"voice {name}", mend=f"use one of {known}")
    return SynthVoice(spec, engine, cache_folder, times, fluent=fluent)


@cache
def _engine(name: str, weights: Path | None) -> Engine:
    return VOICES[name](weights)


class SynthVoice:
    """A voice of an engine, changed as its name says; satisfies `spoken.Voice`. The gain is left to who renders."""

    def __init__(
        self, spec: VoiceSpec, engine: Engine, cache_folder: Path | None, times: Times, *, fluent: bool = False
    ) -> None:
        self.spec = spec
        self._engine = engine
        self._folder = cache_folder
        self._times = times
        self._fluent = fluent

    @cached_property
    def name(self) -> str:
        return str(self.spec)

    @property
    def licence(self) -> str:
        return self._engine.licence(self.spec.voice)

    def speak(self, text: str) -> Spoken:
        """Say a text at 24 kHz, beginning and ending with speech."""
        return self.speak_told(text)[0]

    def speak_told(self, text: str) -> tuple[Spoken, Method]:
        """Say a text, and tell how the times of its words are known.

        Raises:
            UserError: the engine or the aligner is not installed, or the text has no words or gives no sound.
        """
        if not spoken_words(text):
            raise UserError(f"{text!r} has no words", place=f"voice {self.name}", mend="write words to say")
        path = None if self._folder is None else self._folder / f"{self._key(text)}.npz"
        if path is not None and (kept := _read(path, text)) is not None:
            return kept
        made = self._make(text)
        if path is not None:
            _write(path, *made)
        return made

    def _make(self, text: str) -> tuple[Spoken, Method]:
        pitch, rate = self.spec.pitch, self._engine.rate
        shown = fluent_text(text) if self._fluent else text
        raw = trimmed(self._engine.say(shown, self.spec.voice, self.spec.tempo / pitch), rate)
        if len(raw) == 0:
            raise UserError(f"no sound came of {text!r}", place=f"voice {self.name}", mend="write words to say")
        words: tuple[Word, ...]
        method: Method
        if self._times == "align":
            words, method = align(raw, rate, text)
        else:
            words, method = proportional(text, len(raw) / rate), "proportional"
        # Sound at `rate`, played as if it were at `rate * pitch`: higher and shorter by the same factor.
        sound = resample(raw, round(rate * pitch), RATE)
        scale = len(sound) / RATE / (len(raw) / rate)
        moved = [Word(w.text, w.start * scale, w.end * scale) for w in words]
        moved[-1] = moved[-1]._replace(end=len(sound) / RATE)
        sixteen = np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16)  # as the cache keeps it
        spoken = Spoken(text=text, words=tuple(moved), samples=_float(sixteen), rate=RATE)
        return spoken, method

    def _key(self, text: str) -> str:
        parts = [_FORMAT, self._engine.name, self._engine.version, str(replace(self.spec, gain=0.0)),
                 self._times, self._fluent, text]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def fluent_text(text: str) -> str:
    """A text without the marks inside it at which a synthesiser pauses; the last mark stays, for its melody."""
    return re.sub(r"[,;:.!?…]+(?=\s+\w)|\s[-–—]+(?=\s)", "", text)


def trimmed(samples: NDArray[np.float32], rate: int, floor_db: float = -40.0) -> NDArray[np.float32]:
    """Speech [S] without the silence before and after it: windows of 10 ms below `floor_db` of the loudest; 3 ms fades.

    Empty if all is silent.
    """
    size = rate // 100
    whole = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
    power = np.mean(np.square(whole, dtype=np.float64), axis=1)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (floor_db / 10))
    if len(loud) == 0:
        return np.zeros(0, np.float32)
    cut = samples[loud[0] * size : (loud[-1] + 1) * size].copy()
    ramp = np.linspace(0, 1, min(len(cut), round(0.003 * rate)), dtype=np.float32)
    cut[: len(ramp)] *= ramp
    cut[len(cut) - len(ramp) :] *= ramp[::-1]
    return cut


def draw_voice(bases: tuple[str, ...], draws: np.random.Generator, *, apart_from: str | None = None) -> str:
    """The name of another person: one of the voices `bases`, changed in pitch, tempo and loudness.

    Pitch is log-uniform over a factor of 0.85 to 1.18, tempo over 0.88 to 1.15; the gain is normal with 3 dB, cut at
    +-8 dB; all on top of what the base's own name says. A base that is also the voice `apart_from` is moved by 8 % in
    pitch at least, so that agent and user can be told apart.
    """
    base = VoiceSpec.parse(bases[int(draws.integers(len(bases)))])
    pitch = float(np.exp(draws.uniform(np.log(0.85), np.log(1.18))))
    tempo = float(np.exp(draws.uniform(np.log(0.88), np.log(1.15))))
    gain = float(np.clip(3 * draws.standard_normal(), -8, 8))
    changed = base.pitch * pitch
    if apart_from is not None:
        other = VoiceSpec.parse(apart_from)
        if (other.engine, other.voice) == (base.engine, base.voice) and abs(np.log(changed / other.pitch)) < np.log(
            1.08
        ):
            changed = other.pitch * (1.1 if changed >= other.pitch else 0.91)
    new = replace(base, pitch=round(changed, 3), tempo=round(base.tempo * tempo, 3), gain=round(base.gain + gain, 1))
    return str(VoiceSpec.parse(str(new)))


def _float(sixteen: NDArray[np.int16]) -> NDArray[np.float32]:
    return sixteen.astype(np.float32) / np.float32(32767)


def _read(path: Path, text: str) -> tuple[Spoken, Method] | None:
    """What is kept under a key; None if nothing is, or what is there is broken."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            told: Mapping[str, Any] = json.loads(str(kept["told"]))
            words = tuple(Word(str(w), float(a), float(b)) for w, a, b in told["words"])
            return Spoken(text=text, words=words, samples=_float(kept["samples"]), rate=RATE), told["method"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _write(path: Path, spoken: Spoken, method: Method) -> None:
    assert spoken.samples is not None
    told = json.dumps({"text": spoken.text, "words": spoken.words, "method": method})
    with atomic_path(path, durable=False) as aside:
        np.savez(aside, samples=np.round(spoken.samples * 32767).astype(np.int16), told=np.array(told))
