"""How the agent sounds in whole talks: words that are heard as they were meant, quality, level, silence, repetition."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from duologue.audio.loudness import loudness
from duologue.audio.wave import Audio, clipping
from duologue.base.report import Fact, Table
from duologue.bench.nano_codec import (
    NO_RECOGNISER,
    NO_TOKENIZER,
    predicted,
    quality_row,
    quiet_frames,
    texts,
    unmeasured,
)
from duologue.bench.nano_words import count_edits, rate_interval, ratio_interval, repetition, spoken_form
from duologue.bench.rows import Row
from duologue.dialogue.intervals import Intervals

if TYPE_CHECKING:
    from duologue.audio.words import Recogniser
    from duologue.dialogue.timeline import Word
    from duologue.engine.bundle import Bundle
    from duologue.engine.converse import Conversation

MOST_S = 20.0
"""Seconds of a talk's speech by which its quality is predicted."""
LEAST_S = 1.0
"""Less speech than this is not judged."""
ERRORS, MOS = "agent speech: recognised against its own words, word error rate (%)", "agent speech: DistillMOS"
REPETITION = "text of the talks: runs of 4 words that came before (share)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Talked:
    """What was measured of the agent in one talk."""

    name: str
    seconds: float
    level: float
    """Loudness in LUFS; -inf where nothing is to be heard, NaN below 0.4 s."""
    clipped: float
    """Share of samples at full scale."""
    silent: float
    """Share of frames below -50 dBFS."""
    said: str | None
    """Its words by its text stream; None without a tokenizer."""
    heard: str | None
    """Its words as recognised; None without a recogniser."""
    repeated: tuple[int, int]
    """Runs of four words that came before in the talk, and all runs: of its own words, or of the recognised ones."""
    mos: float | None
    """DistillMOS of up to 20 s of its speech; None where that was not predicted."""


def measure_talk(
    name: str, agent: Audio, speech: Intervals, words: Sequence[Word] | None, *, recogniser: Recogniser | None,
    quality: bool,
) -> Talked:  # fmt: skip
    """Measure one talk.

    Args:
        name: of the talk.
        agent: its channel.
        speech: where it speaks, in seconds [N, 2].
        words: of its text stream.
        recogniser: None: nothing is recognised.
        quality: whether to predict the quality of its speech.
    """
    spoken = speech_of(agent, speech) if quality else None
    said = None if words is None else " ".join(w.text for w in words)
    heard = None if recogniser is None else texts(recogniser, [agent])[0]
    told = said if said is not None else heard
    return Talked(
        name=name, seconds=agent.duration, level=loudness(agent), clipped=clipping(agent),
        silent=float(quiet_frames(agent).mean()) if agent.duration >= 0.08 else math.nan, said=said, heard=heard,
        repeated=repetition(spoken_form(told or "")), mos=None if spoken is None else predicted(spoken),
    )  # fmt: skip


def speech_of(audio: Audio, speech: Intervals, most: float = MOST_S, least: float = LEAST_S) -> Audio | None:
    """The stretches [N, 2] of one channel one after the other, up to `most` seconds; None if `least` is not reached."""
    parts = [audio.samples[:, round(a * audio.rate) : round(b * audio.rate)] for a, b in speech.tolist()]
    whole = np.concatenate([np.zeros((1, 0), np.float32), *parts], axis=1)[:, : round(most * audio.rate)]
    return Audio(whole, audio.rate) if whole.shape[1] >= least * audio.rate else None


def speech_rows(talks: Sequence[Talked], *, quality: bool) -> list[Row]:
    """Intelligibility and quality of the agent's speech over talks."""
    return [_error_row(talks), quality_row(MOS, [talk.mos for talk in talks], 3.0, quality)]


def repetition_row(talks: Sequence[Talked]) -> Row:
    """How often the agent repeats itself within a talk."""
    if all(talk.said is None and talk.heard is None for talk in talks):
        return unmeasured(REPETITION, "reported", f"{NO_TOKENIZER}; and {NO_RECOGNISER}")
    parts, wholes = ([talk.repeated[i] for talk in talks] for i in (0, 1))
    if not sum(wholes):
        return unmeasured(REPETITION, "reported", "no talk has four words")
    source = "recognised words" if all(talk.said is None for talk in talks) else "words of the text stream"
    return Row(
        what=REPETITION, value=sum(parts) / sum(wholes), n=sum(wholes), interval=ratio_interval(parts, wholes),
        target="reported", passed=None, note=f"{source} of {len(talks)} talks; n: runs; bootstrap over talks",
    )  # fmt: skip


def talk_table(title: str, talks: Sequence[Talked]) -> Table:
    """One row for each talk: level, clipping, silence, repetition, words."""
    headers = ("talk", "s", "LUFS", "clipped %", "silent %", "repeated %", "own words", "recognised", "WER %")
    return Table(title, headers, [_talk_cells(talk) for talk in talks], decimals=1)


def talk_facts(talk: Talked) -> dict[str, Fact]:
    """The same of one talk, by name."""
    names = ("loudness (LUFS)", "clipped (%)", "silent (%)", "repeated (%)", "own words", "recognised words", "WER (%)")
    return dict(zip(names, _talk_cells(talk)[2:], strict=True))


def converse_all(bundle: Bundle, users: Sequence[Audio], *, slots: int, seed: int) -> Iterator[Conversation]:
    """Let the model talk with recorded users of one channel, a few at once. Errors: UserError as `converse`."""
    from duologue.base.progress import meter
    from duologue.bench.nano_codec import sampled
    from duologue.engine.converse import Setup, converse
    from duologue.engine.duplex import Duplex
    from duologue.engine.prompts import Prompter, tones

    codec = bundle.need_codec()
    tone = tones(codec, kyutai=bundle.config.kyutai_codec)
    with meter("talking with recorded users", total=len(users)) as progress:
        for start in range(0, len(users), slots):
            some = users[start : start + slots]
            duplex = Duplex(bundle.lm, codec, len(some))
            setups = [Setup(sampling=sampled(bundle, seed + start + i)) for i in range(len(some))]
            prompter = Prompter(duplex.engine, tone, bundle.need_text)
            yield from converse(duplex, some, setups, prompter, bundle.text)
            progress.advance(len(some))


def _talk_cells(talk: Talked) -> tuple[Fact, ...]:
    rate = None
    if talk.said and talk.heard is not None:
        rate = count_edits([talk.said], [talk.heard]).rate
    runs, told = talk.repeated[1], talk.said is not None or talk.heard is not None
    return (
        talk.name, talk.seconds, talk.level if math.isfinite(talk.level) else None, 100 * talk.clipped,
        100 * talk.silent, 100 * talk.repeated[0] / runs if runs and told else None,
        None if talk.said is None else len(spoken_form(talk.said)),
        None if talk.heard is None else len(spoken_form(talk.heard)), rate,
    )  # fmt: skip


def _error_row(talks: Sequence[Talked]) -> Row:
    target = "<= 15"
    if all(talk.said is None for talk in talks):
        return unmeasured(ERRORS, target, NO_TOKENIZER)
    pairs = [(talk.said, talk.heard) for talk in talks if talk.said is not None and talk.heard is not None]
    if not pairs:
        return unmeasured(ERRORS, target, NO_RECOGNISER)
    counted = count_edits([said for said, _ in pairs], [heard for _, heard in pairs])
    if counted.rate is None:
        return unmeasured(ERRORS, target, "the agent said no words")
    note = f"{int(counted.words.sum())} words of the text stream in {len(pairs)} talks; bootstrap over talks"
    return Row(
        what=ERRORS, value=counted.rate, n=len(pairs), interval=rate_interval(counted), target=target,
        passed=counted.rate <= 15, note=note,
    )  # fmt: skip
