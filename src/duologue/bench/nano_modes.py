"""The model as a speaker of given texts, and as a recogniser: word error rates of `speak` and `transcribe`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from duologue.base.errors import UserError
from duologue.bench.nano_codec import NO_RECOGNISER, NO_TOKENIZER, Unavailable, Utterance, texts, unmeasured
from duologue.bench.nano_words import count_edits, rate_interval
from duologue.bench.rows import Row
from duologue.engine.modes import need_mode, speaking_sampling
from duologue.engine.sampling import SEEDS

if TYPE_CHECKING:
    from duologue.audio.words import Recogniser
    from duologue.engine.bundle import Bundle

SPEAK, TRANSCRIBE = "speak: word error rate (%)", "transcribe: word error rate (%)"
RECORDED = "transcribe, recorded speech: word error rate (%)"
TARGET, VOICES = "reported", "held-out user voices"


def mode_rows(
    bundle: Bundle, read: Callable[[], Sequence[Utterance]], *, recogniser: Recogniser | None, seed: int,
    recorded: Callable[[], Sequence[Utterance]] | None = None,
) -> list[Row]:  # fmt: skip
    """Both rows, on the same utterances: their texts to be said, their sound to be recognised.

    Args:
        bundle: the model.
        read: gives the utterances, each with its text, if anything can be measured.
        recogniser: hears what the model says.
        seed: of the model's draws.
        recorded: gives recordings of people, to be recognised in a third row; those without a text are left out.
    """
    speaks, hears = _absence(bundle, "speak", recogniser), _absence(bundle, "transcribe", recogniser)
    said: Sequence[Utterance] = ()
    try:
        said = () if speaks and hears else read()
    except Unavailable as reason:
        speaks, hears = speaks or str(reason), hears or str(reason)
    rows = [
        unmeasured(SPEAK, TARGET, speaks) if speaks or recogniser is None else _spoken(bundle, said, recogniser, seed),
        unmeasured(TRANSCRIBE, TARGET, hears) if hears else _transcribed(bundle, said, TRANSCRIBE, VOICES),
    ]
    if recorded is not None:
        deaf = _absence(bundle, "transcribe", recogniser)
        told = "by their transcripts"
        rows.append(unmeasured(RECORDED, TARGET, deaf) if deaf else _transcribed(bundle, recorded(), RECORDED, told))
    return rows


def _absence(bundle: Bundle, name: Literal["speak", "transcribe"], recogniser: Recogniser | None) -> str:
    """Why a mode cannot be measured; empty if it can."""
    if bundle.text is None:
        return NO_TOKENIZER
    try:
        need_mode(bundle, name)
    except UserError as error:
        return f"this model has no such mode: {error.problem}"
    return NO_RECOGNISER if name == "speak" and recogniser is None else ""


def _spoken(bundle: Bundle, said: Sequence[Utterance], recogniser: Recogniser, seed: int) -> Row:
    from duologue.engine.speaking import Manner, speak_all

    meant = [u.text for u in said if u.text]
    drawn = replace(speaking_sampling(bundle), text_seed=seed % SEEDS, audio_seed=seed % SEEDS)
    speech = speak_all(bundle, meant, Manner(sampling=drawn))
    heard = texts(recogniser, [one.audio for one in speech])
    cut = sum(one.cut for one in speech)
    return _row(SPEAK, meant, heard, f"as the recogniser hears it; {cut} of {len(speech)} did not fall silent in time")


def _transcribed(bundle: Bundle, said: Sequence[Utterance], what: str, note: str) -> Row:
    from duologue.engine.listening import transcribe_all

    known = [(u.text, u.audio) for u in said if u.text]
    words = transcribe_all(bundle, [audio for _, audio in known])
    heard = [" ".join(w.text for w in one) for one in words]
    return _row(what, [text for text, _ in known], heard, note)


def _row(what: str, meant: Sequence[str], heard: Sequence[str], note: str) -> Row:
    counted = count_edits(meant, heard)
    if counted.rate is None:
        return unmeasured(what, TARGET, "no words to say")
    return Row(
        what=what, value=counted.rate, n=len(meant), interval=rate_interval(counted), target=TARGET, passed=None,
        note=f"{note}; {int(counted.words.sum())} words",
    )  # fmt: skip
