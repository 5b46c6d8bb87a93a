"""What a model can do besides talking: transcribe speech, and speak a given text.

Both are the same streams with text and sound shifted against each other (delayed streams modelling, arXiv 2509.08753).
duologue.json, beside a model's config.json, says what it learned:

    "modes": {"transcribe": {"prompt": "transcribe", "text_delay": 1.04}, "speak": {"text_delay": -0.16}}

Without that, a model that writes no audio (Kyutai's speech-to-text) transcribes, and one that does speaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from duologue.base.config import from_dict
from duologue.base.errors import UserError

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle
    from duologue.engine.sampling import Sampling
    from duologue.model.config import LMConfig

LONGEST = 60.0
"""Seconds that text and sound can be apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How a model is told what to do, and where its text stands."""

    prompt: str | None = None
    """The text prompt that stands before; None: nothing does."""
    text_delay: float = 0.0
    """Seconds by which the text is behind (above 0) or ahead of the sound (below 0)."""
    guidance: float | None = None
    """How closely the sound follows the words when it speaks; None: as when it talks."""
    model: Path | None = None
    """Folder of a language model that does this and nothing else, from the same codes and with the same tokenizer; in
    duologue.json, a folder beside it. None: the model itself does."""

    def __post_init__(self) -> None:
        if self.guidance is not None and not 0 <= self.guidance < float("inf"):
            raise UserError(f"{self.guidance} is no guidance", place="guidance", mend="use 1 for none, or 1.5 to 3")
        if not abs(self.text_delay) <= LONGEST:
            mend = f"use seconds, from -{LONGEST:g} to {LONGEST:g}"
            raise UserError(f"{self.text_delay} is no delay", place="text_delay", mend=mend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Modes:
    """The modes of a model; None: it has not learned that."""

    transcribe: Mode | None = None
    """Sound in, words out."""
    speak: Mode | None = None
    """Words in, sound out."""


def read_modes(values: object, config: LMConfig, place: str) -> Modes:
    """The modes that duologue.json declares, and those that a model of this kind has anyway.

    Args:
        values: what stands under `modes`; None if nothing does.
        config: of the language model.
        place: where it was found, for error lines.

    Raises:
        UserError: not an object, a mode or a field that nobody knows, a value that makes no sense, or a mode that this
            kind of model cannot have.
    """
    if values is not None and not isinstance(values, Mapping):
        raise UserError("modes is not an object", place=place, mend='write {"transcribe": {"text_delay": 1.04}}')
    given: dict[str, Any] = dict(values or {})
    try:
        modes = from_dict(Modes, given)
    except UserError as error:
        where = ", ".join(x for x in (place, "modes", error.place) if x)
        raise UserError(error.problem, place=where, mend=error.mend) from None
    if modes.speak is not None and not config.agent_streams:
        raise UserError("declares speak for a model that writes no audio", place=place, mend="take it out")
    if modes.transcribe is not None and not config.user_streams:
        raise UserError("declares transcribe for a model that hears nothing", place=place, mend="take it out")
    if modes.speak is not None and modes.speak.model is not None:
        mend = "only transcribe may have one"
        raise UserError("declares a model of its own for speak", place=place, mend=mend)
    if modes.transcribe is not None and modes.transcribe.guidance is not None:
        raise UserError("declares guidance for transcribe, which writes no sound", place=place, mend="take it out")
    usual = Mode(text_delay=config.audio_delay_seconds)
    if config.dep_q == 0:
        return replace(modes, transcribe=modes.transcribe or usual)
    return replace(modes, speak=modes.speak or (usual if config.agent_streams else None))


def speaking_sampling(bundle: Bundle) -> Sampling:
    """How a model draws when it speaks: as when it talks, with the guidance of the mode. Errors: UserError, no mode."""
    own, mode = bundle.config.sampling, need_mode(bundle, "speak")
    return own if mode.guidance is None else replace(own, guidance=mode.guidance)


def transcribing(bundle: Bundle) -> Bundle:
    """The bundle with the language model that transcribes for it: its own, or the one that its mode names.

    Raises:
        UserError: it does not transcribe, or that model's files are broken or do not fit.
    """
    from duologue.model.checkpoint import load_weights
    from duologue.model.hub import resolve
    from duologue.model.load import find_checkpoint

    mode = need_mode(bundle, "transcribe")
    if mode.model is None:
        return bundle
    like, found = bundle.lm.text_linear.weight, find_checkpoint(resolve(mode.model))
    text = bundle.need_text()
    if found.config.text_card < text.vocab_size:
        problem = f"knows {found.config.text_card} text tokens, the tokenizer {text.vocab_size}"
        raise UserError(problem, place=mode.model, mend="use the model that came with it")
    lm = load_weights(found.weights, found.config, device=like.device, dtype=like.dtype)
    modes = replace(bundle.config.modes, transcribe=replace(mode, model=None))
    return replace(bundle, lm=lm, config=replace(bundle.config, modes=modes))


def need_mode(bundle: Bundle, name: Literal["transcribe", "speak"]) -> Mode:
    """How a model transcribes or speaks. Errors: UserError, it does not."""
    modes = bundle.config.modes
    mode, kind = (modes.transcribe, "speech-to-text") if name == "transcribe" else (modes.speak, "speech")
    if mode is None:
        mend = f"use a {kind} model, or one whose duologue.json declares modes.{name}"
        raise UserError(f"has not learned to {name}", place=bundle.config.name, mend=mend)
    return mode
