"""Recognisers of words with times: Whisper (extra `asr`) and Parakeet (extra `parakeet`).

Neither is part of the base install, and the weights are the user's: a folder, a file, or a name on the Hugging Face
hub. Full-Duplex-Bench's own numbers since 2025-06-05 use Parakeet (`nvidia/parakeet-tdt-0.6b-v2`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duologue.audio.vad import detect_speech
from duologue.audio.wave import Audio
from duologue.audio.words import Recogniser, Words
from duologue.base.compute import pick_device
from duologue.base.errors import UserError
from duologue.base.progress import track
from duologue.dialogue.intervals import Intervals
from duologue.dialogue.timeline import Word

RATE = 16_000
"""What both recognisers hear."""
PARAKEET = "nvidia/parakeet-tdt-0.6b-v2"
PARAKEET_MIN_S = 1.0
"""NeMo pads shorter audio on both sides, which would shift its times; here it is padded at the end first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecogniserConfig:
    """How words are recognised."""

    language: str = "en"
    """Whisper's code of the spoken language; Parakeet knows its own"""
    beam: int = 5
    """width of Whisper's beam search; 1 is greedy and about a third faster"""
    batch: int = 16
    """recordings per batch (Parakeet)"""
    gate_s: float | None = 1.0
    """drop words whose midpoint is further than this from any detected speech, in seconds; None keeps all"""

    def __post_init__(self) -> None:
        for name, value in (("beam", self.beam), ("batch", self.batch)):
            if value < 1:
                raise UserError(f"{value} is not 1 or more", place=f"recogniser.{name}")
        if self.gate_s is not None and not self.gate_s >= 0:
            raise UserError(
                f"{self.gate_s} is not a distance in seconds", place="recogniser.gate_s", mend="use 0 or more"
            )


def load_recogniser(name: str | Path, device: str = "auto", config: RecogniserConfig | None = None) -> Recogniser:
    """Load a recogniser.

    Args:
        name: "parakeet", a hub name with "parakeet" in it, or a `.nemo` file; else Whisper: a folder in CTranslate2's
            format (model.bin, config.json, tokenizer.json), a size ("tiny.en", "base", "large-v3") or a hub name.
        device: "auto" (CUDA if there is one), "cpu", "cuda", "cuda:1".
        config: see `RecogniserConfig`.

    Raises:
        UserError: the extra is not installed, or these weights cannot be loaded.
    """
    chosen = config or RecogniserConfig()
    text = str(name)
    if text.endswith(".nemo") or "parakeet" in text.lower():
        return _Parakeet(PARAKEET if text == "parakeet" else text, device, chosen)
    return _Whisper(text, device, chosen)


def words_in_speech(words: Iterable[Word], speech: Intervals, gate_s: float) -> Words:
    """Keep the words whose midpoint is at most `gate_s` seconds from detected speech [N, 2].

    Whisper invents words on silence ("Thank you."), and each would count as talk of a silent agent. A small gate would
    also drop real words: Whisper stretches the first word of an utterance into the silence before it, by 0.4 s in a
    typical case.
    """
    kept = []
    for word in words:
        middle = (word.start + word.end) / 2
        away = np.maximum(speech[:, 0] - middle, middle - speech[:, 1])
        if away.size and away.min() <= gate_s:
            kept.append(word)
    return tuple(kept)


class _Whisper:
    """faster-whisper: one recording after the other, each in windows of 30 s."""

    def __init__(self, name: str, device: str, config: RecogniserConfig) -> None:
        try:
            import faster_whisper
        except ImportError:
            raise _missing("Whisper", "asr") from None
        if Path(name).is_dir() and not (Path(name) / "model.bin").is_file():
            mend = "convert the weights with ct2-transformers-converter"
            raise UserError("holds no model.bin in CTranslate2's format", place=name, mend=mend)
        place = pick_device(device)
        compute = "float16" if place.type == "cuda" else "int8"
        try:
            self._model: Any = faster_whisper.WhisperModel(
                name, device=place.type, device_index=place.index or 0, compute_type=compute
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise _unloadable(name, error, "give a folder with model.bin, or a size such as base.en") from error
        self._config = config

    def transcribe(self, audios: Sequence[Audio]) -> list[Words]:
        sounds = [_sound(audio, i) for i, audio in enumerate(audios)]
        found = [self._words(sound) for sound in track(sounds, "recognising")]
        return _finished(audios, found, self._config.gate_s)

    def _words(self, sound: NDArray[np.float32]) -> list[tuple[str, float, float]]:
        if not sound.size:
            return []
        segments, _ = self._model.transcribe(
            sound,
            language=self._config.language,
            beam_size=self._config.beam,
            word_timestamps=True,
            # With it on, one invented sentence is repeated through the rest of a quiet recording.
            condition_on_previous_text=False,
        )
        return [(w.word, w.start, w.end) for segment in segments for w in segment.words or ()]


class _Parakeet:
    """NVIDIA's Parakeet through NeMo, in batches. Its times lie on a grid of 80 ms."""

    def __init__(self, name: str, device: str, config: RecogniserConfig) -> None:
        try:
            from nemo.collections.asr.models import ASRModel
        except ImportError:
            raise _missing("Parakeet", "parakeet") from None
        try:
            if name.endswith(".nemo"):
                model = ASRModel.restore_from(name, map_location="cpu")
            else:
                model = ASRModel.from_pretrained(name, map_location="cpu")
        except (ValueError, RuntimeError, OSError) as error:
            raise _unloadable(name, error, f"give a .nemo file, or a hub name such as {PARAKEET}") from error
        self._model: Any = model.to(pick_device(device)).eval()
        self._config = config

    def transcribe(self, audios: Sequence[Audio]) -> list[Words]:
        sounds = [_sound(audio, i) for i, audio in enumerate(audios)]
        if not sounds:
            return []
        at_least = round(PARAKEET_MIN_S * RATE)
        padded = [np.pad(sound, (0, max(0, at_least - len(sound)))) for sound in sounds]
        size = min(self._config.batch, len(padded))
        heard = self._model.transcribe(padded, batch_size=size, timestamps=True, verbose=False)
        found = [[(w["word"], w["start"], w["end"]) for w in one.timestamp["word"]] for one in heard]
        return _finished(audios, found, self._config.gate_s)


def _sound(audio: Audio, index: int) -> NDArray[np.float32]:
    """Samples [S] as both recognisers expect them."""
    if audio.channels != 1:
        mend = "choose one with channel(i), or mix them with mono()"
        raise UserError(f"has {audio.channels} channels", place=f"waveform {index}", mend=mend)
    sound: NDArray[np.float32] = audio.resampled(RATE).samples[0]
    return sound


def _finished(
    audios: Sequence[Audio], found: Iterable[Iterable[tuple[str, float, float]]], gate_s: float | None
) -> list[Words]:
    """Strip and sort the words, keep their times within the recording and ordered, and apply the gate."""
    heard: list[Words] = []
    for audio, words in zip(audios, found, strict=True):
        ordered = []
        for text, start, end in words:
            begins = min(max(0.0, float(start)), audio.duration)
            if text.strip():
                ordered.append(Word(text.strip(), begins, min(max(begins, float(end)), audio.duration)))
        heard.append(tuple(sorted(ordered, key=lambda w: (w.start, w.end))))
    if gate_s is None:
        return heard
    speech = detect_speech(audios)
    return [words_in_speech(words, spans, gate_s) for words, spans in zip(heard, speech, strict=True)]


def _missing(what: str, extra: str) -> UserError:
    mend = f"install it (pip install 'duologue[{extra}]'), or give transcripts that exist"
    return UserError(f"{what} is not installed", place="recogniser", mend=mend)


def _unloadable(name: str, error: Exception, mend: str) -> UserError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return UserError(f"cannot be loaded: {reason[0]}", place=name, mend=mend)
