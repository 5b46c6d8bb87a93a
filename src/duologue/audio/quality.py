"""How good speech sounds, as networks predict it: an interface to predictors that are not part of the base install.

A predictor that is not installed, or whose weights cannot be loaded, leaves None for its measures: "not measured",
never a guess. `available_predictors` says why. Scores are mean opinion scores, 1 (bad) to 5 (excellent).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duologue.audio.wave import Audio, write_audio
from duologue.base.errors import UserError

RATE = 16_000
"""What every predictor here hears."""
MIN_S = 0.05
"""Shorter sound is not measured."""

Sound = NDArray[np.float32]
Predict = Callable[[Sound], Mapping[str, float]]
"""A loaded predictor: samples [S] at 16 kHz, in [-1, 1], at least 0.05 s, to its measures."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """One predictor: its name, what it measures, the modules it needs, how to install it, and how to load it."""

    name: str
    measures: tuple[str, ...]
    modules: tuple[str, ...]
    install: str
    load: Callable[[], Predict]


def measure_quality(audio: Audio, predictors: Sequence[str] | None = None) -> dict[str, float | None]:
    """Predict the quality of one recording.

    Args:
        audio: one channel, any rate.
        predictors: names from `PREDICTORS`; by default all of them.

    Returns:
        Every measure of every predictor asked for; None where it was not measured: not installed, or nothing to hear.

    Raises:
        UserError: an unknown predictor, or several channels.
    """
    if audio.channels != 1:
        mend = "choose one with channel(i), or mix them with mono()"
        raise UserError(f"has {audio.channels} channels", place="quality", mend=mend)
    chosen = [_named(name) for name in (PREDICTORS if predictors is None else predictors)]
    scores: dict[str, float | None] = {measure: None for predictor in chosen for measure in predictor.measures}
    # Resampling may overshoot by a little, and a predictor refuses what is beyond full scale.
    sound = np.clip(audio.resampled(RATE).samples[0], -1.0, 1.0)
    if len(sound) < MIN_S * RATE:
        return scores
    for predictor in chosen:
        predict = _loaded(predictor.name)
        if not isinstance(predict, str):
            scores |= {m: float(v) if math.isfinite(v) else None for m, v in predict(sound).items()}
    return scores


def available_predictors() -> dict[str, str | None]:
    """Every predictor that this package knows; None where it can be used, else the reason why not.

    Nothing is loaded: of what is installed, broken weights show only once it was used.
    """
    return {name: _absence(predictor) for name, predictor in PREDICTORS.items()}


def _named(name: str) -> Predictor:
    if name not in PREDICTORS:
        raise UserError(f"unknown predictor {name!r}", place="quality", mend=f"use one of {', '.join(PREDICTORS)}")
    return PREDICTORS[name]


def _absence(predictor: Predictor) -> str | None:
    missing = [module for module in predictor.modules if importlib.util.find_spec(module) is None]
    if missing:
        return f"{', '.join(missing)} not installed; {predictor.install}"
    return _FAILED.get(predictor.name)


_FAILED: dict[str, str] = {}
"""Predictors that are installed and did not load, with the reason."""


@functools.cache
def _loaded(name: str) -> Predict | str:
    """The predictor, loaded once; or why it is absent."""
    predictor = PREDICTORS[name]
    absence = _absence(predictor)
    if absence is not None:
        return absence
    try:
        return predictor.load()
    except (ImportError, OSError, RuntimeError) as error:
        # Installed does not mean usable: a library that it links is absent, or a hub cannot be reached.
        _FAILED[name] = f"installed, but does not load: {error}"
        return _FAILED[name]


def _load_dnsmos() -> Predict:
    """DNSMOS P.835 and P.808 (Reddy et al., 2022), by Microsoft's package, weights inside.

    It hears 9.01 s at a time; shorter recordings are repeated until they are that long.
    """
    from speechmos import dnsmos

    def predict(sound: Sound) -> Mapping[str, float]:
        found = dnsmos.run(sound, RATE)
        return {f"dnsmos_{key}": found[f"{key}_mos"] for key in ("ovrl", "sig", "bak", "p808")}

    return predict


def _load_distillmos() -> Predict:
    """Distill-MOS (Stahl and Gamper, 2025), by Microsoft's package, weights inside."""
    import torch

    model: Any = importlib.import_module("distillmos").ConvTransformerSQAModel().eval()

    def predict(sound: Sound) -> Mapping[str, float]:
        with torch.inference_mode():
            return {"distillmos": model(torch.from_numpy(sound)[None]).item()}

    return predict


def _load_utmosv2() -> Predict:
    """UTMOSv2 (Baba et al., 2024), which Full-Duplex-Bench v1.5 uses; its weights come from a hub.

    It hears random cuts of the recording, so that its scores vary a little from call to call.
    """
    import torch

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    model: Any = importlib.import_module("utmosv2").create_model(pretrained=True, device=device)

    def predict(sound: Sound) -> Mapping[str, float]:
        # A file, since what `data=` means differs between its versions.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sound.wav"
            write_audio(path, Audio(sound[None], RATE))
            found = model.predict(input_path=path, device=device, num_workers=0, verbose=False)
        return {"utmosv2": float(np.ravel(found)[0])}

    return predict


PREDICTORS: dict[str, Predictor] = {
    predictor.name: predictor
    for predictor in (
        Predictor(
            "dnsmos",
            ("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808"),
            ("speechmos", "librosa", "onnxruntime"),
            "pip install 'duologue[quality]'",
            _load_dnsmos,
        ),
        Predictor(
            "distillmos",
            ("distillmos",),
            ("distillmos", "torchaudio"),
            "pip install distillmos",
            _load_distillmos,
        ),
        Predictor(
            "utmosv2",
            ("utmosv2",),
            ("utmosv2",),
            "pip install git+https://github.com/sarulab-speech/UTMOSv2",
            _load_utmosv2,
        ),
    )
}
"""The predictors, by name. To plug in another, add it here."""
