"""Whether prompts take effect: the same scripted talks under each text prompt, and under each voice prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from duologue.audio.prosody import pitch_stats
from duologue.audio.wave import Audio, read_audio
from duologue.base.errors import UserError
from duologue.bench.live import LiveResult, VoiceOf, run_live
from duologue.bench.nano_codec import NO_TOKENIZER, unmeasured
from duologue.bench.nano_timing import measure, middle, resampled
from duologue.bench.rows import Row
from duologue.corpus.scenarios import Scenario
from duologue.engine.prompts import read_voice

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle
    from duologue.engine.prompts import Voice

WORDS, NODS = "agent's words a minute", "agent's backchannels a minute of user speech"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meet:
    """Who meets whom: the same under each prompt."""

    bundle: Bundle = field(kw_only=False)
    chosen: Sequence[Scenario] = field(kw_only=False)
    slots: int
    seed: int
    voice: VoiceOf

    def talks(self, text_prompt: str | None = None, agent_voice: Voice | None = None) -> Iterator[LiveResult]:
        """All talks under a prompt."""
        return run_live(
            self.bundle, self.chosen, slots=self.slots, seed=self.seed, voice=self.voice, text_prompt=text_prompt,
            agent_voice=agent_voice,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """What one talk says about a text prompt."""

    words: float
    """Of the agent."""
    minutes: float
    """Of the talk."""
    nods: float
    """Backchannels of the agent."""
    heard: float
    """Minutes that the user spoke."""


def style_rows(meet: Meet, styles: Sequence[str]) -> list[Row]:
    """Words and backchannels a minute under each text prompt, and the last's words over the first's."""
    if meet.bundle.text is None:
        return [unmeasured(f"prompt {style!r}: {WORDS}", "reported", NO_TOKENIZER) for style in styles]
    rows, found = [], []
    for style in styles:
        talks = {r.scenario.id: told(r) for r in meet.talks(text_prompt=style)}
        found.append([talks[s.id] for s in meet.chosen])
        rows += [
            _rate(f"prompt {style!r}: {WORDS}", found[-1], lambda t: t.words, lambda t: t.minutes),
            _rate(f"prompt {style!r}: {NODS}", found[-1], lambda t: t.nods, lambda t: t.heard),
        ]
    return [*rows, effect_row(found[0], found[-1])] if len(found) > 1 else rows


def told(result: LiveResult) -> Told:
    """What a talk says about its text prompt."""
    measured = measure(result)
    nods = len(measured.observed.values["backchannel"][0])
    words = len(result.timeline.agent.words or ())
    return Told(words, result.timeline.duration / 60, nods, measured.user_s / 60)


def effect_row(first: Sequence[Told], last: Sequence[Told]) -> Row:
    """Words a minute under the last prompt over those under the first, with the same users."""
    a, b = (np.array([[t.words, t.minutes] for t in talks]) for talks in (first, last))

    def ratio(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        one, two = counts @ a, counts @ b
        return np.asarray(two[:, 0] / two[:, 1] / (one[:, 0] / one[:, 1]))

    what, target = "words a minute: under the last prompt over under the first", "> 1"
    value = float(ratio(np.ones((1, len(first)), np.int64))[0]) if a[:, 0].sum() else math.nan
    if not math.isfinite(value):
        return unmeasured(what, target, "the agent said nothing under the first prompt")
    interval = middle(resampled(len(first), ratio))
    passed = interval is not None and interval[0] > 1
    note = "the same users; met if the whole interval is above 1"
    return Row(what=what, value=value, n=len(first), interval=interval, target=target, passed=passed, note=note)


def voice_rows(meet: Meet, prompts: Sequence[Path]) -> list[Row]:
    """How far the agent's pitch is from that of each voice prompt, beside how far it is without one."""
    rows: list[Row] = []
    own = list(spoken_pitch(meet.talks())) if prompts else []
    for path in prompts:
        what, wanted = f"voice prompt {path.name}: agent's pitch from it, semitones", pitch(read_audio(path))
        if wanted is None:
            raise UserError("holds no voice", place=path, mend="give a few seconds of speech")
        voice = read_voice(path, meet.bundle.need_codec(), meet.bundle.lm.config)
        under = list(spoken_pitch(meet.talks(agent_voice=voice)))
        if not under or not own:
            rows.append(unmeasured(what, "reported", "the agent said too little"))
            continue
        far, plain = (12 * np.log2(np.array(found) / wanted) for found in (under, own))
        value = float(np.median(far))
        interval = middle(np.median(np.random.default_rng(0).choice(far, (2000, len(far))), axis=1))
        note = f"medians over talks; without a prompt {float(np.median(plain)):+.1f}"
        rows.append(
            Row(what=what, value=value, n=len(far), interval=interval, target="reported", passed=None, note=note)
        )
    return rows


def spoken_pitch(results: Iterator[LiveResult]) -> Iterator[float]:
    """The agent's mean pitch, Hz, in each talk in which it speaks for a second at least."""
    for result in results:
        agent = result.audio.channel(0)
        cuts = [
            agent.samples[:, round(a * agent.rate) : round(b * agent.rate)] for a, b in result.timeline.agent.speech
        ]
        if sum(c.shape[1] for c in cuts) >= agent.rate:
            found = pitch(Audio(np.concatenate(cuts, 1), agent.rate))
            if found is not None:
                yield found


def pitch(audio: Audio) -> float | None:
    """Mean pitch in Hz; None where nothing is voiced."""
    return pitch_stats(audio.samples[0], audio.rate).mean_hz


def _rate(what: str, talks: Sequence[Told], above: Callable[[Told], float], below: Callable[[Told], float]) -> Row:
    top, bottom = np.array([above(t) for t in talks], float), np.array([below(t) for t in talks], float)
    if not bottom.sum() > 0:
        return unmeasured(what, "reported", "no user spoke")
    interval = middle(resampled(len(talks), lambda counts: np.asarray((counts @ top) / (counts @ bottom))))
    value = float(top.sum() / bottom.sum())
    return Row(what=what, value=value, n=len(talks), interval=interval, target="reported", passed=None,
               note="n counts talks")  # fmt: skip
