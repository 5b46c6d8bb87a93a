"""Piper: neural voices in small files, faster than real time on a core; the voice files are the user's to bring."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duologue.audio.resample import resample
from duologue.base.errors import UserError
from duologue.base.files import read_json

_LENGTH = (0.5, 2.0)
"""Least and greatest factor on the length of sounds."""


class PiperEngine:
    """Piper (piper-tts 1.3 or later, GPL-3, so it stays optional); each voice has its own licence, told by its card.

    Its two sources of chance, in sound and in rhythm, are off: the same text sounds the same. Of voices with several
    speakers the first speaks.

    Args:
        weights: folder with voices as Piper distributes them, NAME.onnx beside NAME.onnx.json.

    Raises:
        UserError: no folder given, or it is not there.
    """

    name = "piper"
    rate = 22_050

    def __init__(self, weights: Path | None) -> None:
        mend = "name a folder with its voices (NAME.onnx and NAME.onnx.json): --piper FOLDER"
        if weights is None:
            raise UserError("Piper's voices are not given", place="voice piper", mend=mend)
        if not weights.is_dir():
            raise UserError("is no folder", place=weights, mend=mend)
        self._weights = weights
        self._loaded: dict[str, Any] = {}

    @cached_property
    def voices(self) -> tuple[str, ...]:
        """The files that are there. Errors: UserError, Piper is not installed, or there are none."""
        self._package()
        found = sorted(p.stem for p in self._weights.glob("*.onnx") if p.with_suffix(".onnx.json").is_file())
        if not found:
            mend = "put NAME.onnx and NAME.onnx.json of a voice there"
            raise UserError("holds no voice of Piper", place=self._weights, mend=mend)
        return tuple(found)

    def knows(self, voice: str) -> bool:
        """Whether it is one of `voices`."""
        return voice in self.voices

    def licence(self, voice: str) -> str:
        """Of the sound of a voice."""
        return f"see the card of Piper's voice {voice}"

    @cached_property
    def version(self) -> str:
        """Names the package and the voices by size: part of the cache's key."""
        from importlib.metadata import version

        sizes = (f"{v}:{(self._weights / f'{v}.onnx').stat().st_size}" for v in self.voices)
        return f"{version('piper-tts')} {' '.join(sizes)}"

    def say(self, text: str, voice: str, speed: float) -> NDArray[np.float32]:
        """Float32 [S] at 22,050 Hz. Errors: UserError, not installed, or a broken voice."""
        piper, synth = self._package(), self._voice(voice)
        length = synth.config.length_scale * float(np.clip(1 / speed, *_LENGTH))
        how = piper.SynthesisConfig(noise_scale=0.0, noise_w_scale=0.0, length_scale=length)
        # Words in [[ ]] would be read as phonemes.
        parts = [chunk.audio_float_array for chunk in synth.synthesize(text.replace("[[", "[ ["), how)]
        sound: NDArray[np.float32] = np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32)
        return resample(sound, synth.config.sample_rate, self.rate)  # small voices speak at 16 kHz

    def _voice(self, voice: str) -> Any:
        """A voice, loaded once, on one thread: workers share the cores."""
        if voice in self._loaded:
            return self._loaded[voice]
        import onnxruntime

        piper, model = self._package(), self._weights / f"{voice}.onnx"
        file = model.with_suffix(".onnx.json")
        try:
            config = piper.PiperConfig.from_dict(read_json(file))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError("does not describe a voice of Piper", place=file, mend="fetch the voice again") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the package raises nothing narrower
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"cannot be loaded: {reason}", place=model, mend="fetch the voice again") from None
        self._loaded[voice] = piper.PiperVoice(session=session, config=config)
        return self._loaded[voice]

    @staticmethod
    def _package() -> Any:
        """The package, or the line that says how to get it; before 1.3 it had no SynthesisConfig."""
        try:
            import piper
            from piper import SynthesisConfig  # noqa: F401
        except ImportError:
            mend = "install it: pip install 'piper-tts>=1.3'"
            raise UserError("Piper (piper-tts) is not installed", place="voice piper", mend=mend) from None
        return piper
