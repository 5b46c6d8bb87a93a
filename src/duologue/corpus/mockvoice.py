"""A voice without sound: it gives words with human durations, so that hours of timing can be tried in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from duologue.corpus.sim_timing import draw, feedback
from duologue.corpus.spoken import Spoken
from duologue.dialogue.lexicon import is_fragment, plain_words
from duologue.dialogue.reference import human_reference
from duologue.dialogue.timeline import Word


@dataclass(frozen=True, slots=True)
class MockVoice:
    """A person of whom only the timing is known. A text's length in seconds depends on the text, `seed` and `tempo`."""

    seed: int = 0
    tempo: float = 1.0
    """Multiple of the human speaking rate."""

    @property
    def name(self) -> str:
        return f"mock/{self.seed}@{self.tempo:g}"

    @property
    def licence(self) -> str:
        return "none: no sound"

    def speak(self, text: str) -> Spoken:
        """Say a text: its rate is drawn from that of human IPUs with as many words, shared out by letters."""
        rng = np.random.default_rng([self.seed, crc32(text.encode())])
        tokens = text.split()
        if not tokens:
            return Spoken(text=text, words=())
        seconds = self._seconds(text, len(tokens), rng)
        weights = np.array([2.0 + len(t.strip(".,?!;:-'")) for t in tokens])
        ends = np.cumsum(weights) / weights.sum() * seconds
        starts = np.append(0.0, ends[:-1])
        words = tuple(Word(t, float(a), float(b)) for t, a, b in zip(tokens, starts, ends, strict=True))
        return Spoken(text=text, words=words)

    def _seconds(self, text: str, n: int, rng: np.random.Generator) -> float:
        plain = plain_words(text)
        form = " ".join(plain)
        if form in ("uh", "um"):
            return max(draw(form, rng, low=0.05) / self.tempo, 0.05)
        medians = feedback()[2]
        if form in medians:
            return float(np.clip(medians[form] * rng.lognormal(0.0, 0.3), 0.12, 0.99) / self.tempo)
        table = human_reference()["durations"]["speaking_rate_by_ipu_length_words_per_s"]
        key = next(k for most, k in _LENGTHS if n <= most)
        row = table[key]
        levels = [row[p] for p in ("p5", "p25", "p50", "p75", "p95")]
        rate = float(np.interp(rng.uniform(3, 97), [5, 25, 50, 75, 95], levels)) * self.tempo
        return max(n - 0.5 * sum(is_fragment(w) for w in plain), 0.5) / rate


_LENGTHS = (
    (1, "1_words"), (2, "2_words"), (4, "3_to_4_words"), (9, "5_to_9_words"), (19, "10_to_19_words"),
    (10**9, "20_and_more_words"),
)  # fmt: skip


def mock_pair(seed: int) -> Callable[[int, str], Spoken]:
    """Two mock voices of one conversation as `arrange` wants them; their tempos differ as those of people do."""
    rng = np.random.default_rng([seed, 5])
    spread = human_reference()["durations"]["speaking_rate_per_call_side_words_per_s"]
    q = np.array(spread["q0_100_words_per_s"]) / spread["mean_words_per_s"]
    voices = [
        MockVoice(seed=2 * seed + side, tempo=float(np.interp(rng.uniform(2, 98), np.arange(101), q)))
        for side in (0, 1)
    ]
    return lambda side, text: voices[side].speak(text)
