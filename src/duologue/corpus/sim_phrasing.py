"""From a turn's text to stretches of speech: where people pause, say uh, break off and say a word twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duologue.corpus.sim_timing import Knobs, draw
from duologue.corpus.spoken import Kind
from duologue.dialogue.lexicon import human_lexicon, plain_words
from duologue.dialogue.reference import human_reference

JOINING = frozenset({
    "and", "but", "so", "because", "or", "if", "when", "that", "which", "who", "while", "then", "than", "though",
    "since", "until", "where", "to", "with", "for", "about",
})  # fmt: skip
"""A pause is plausible before these words."""
BINDING = frozenset({
    "a", "an", "the", "my", "your", "his", "her", "our", "their", "this", "to", "of", "in", "on", "at", "for", "i",
    "i'm", "is", "are", "was", "very", "not", "and", "or",
})  # fmt: skip
"""No pause is plausible after these words (it happens, but rarely)."""

CHUNK_LOW = 0.28
"""Stretches take their words from the human IPU lengths above this share: the shortest fifth are backchannels."""
FILLER_CUT = 1.05
"""Fillers that are drawn, as a multiple of the human rate: some find no place, as two never stand together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One stretch of a turn and the silence before it."""

    text: str
    pause_s: float
    """Seconds of silence before it; 0 for the first."""
    kind: Kind = "turn"
    repair: bool = False
    """A broken-off beginning comes before it, at its very start."""


def phrase(text: str, knobs: Knobs, rng: np.random.Generator, tempo: float = 1.0) -> list[Piece]:
    """Cut a turn's text into stretches, with fillers, repetitions and the silences between; at least one piece.

    Stretches are as long as human IPUs, and end where that is plausible: at punctuation, before conjunctions, never
    after an article if it can be helped. Silences are drawn from the human within-turn pauses; of those of a turn the
    longer ones stand at the ends of sentences. `tempo` is the voice's speaking rate as a multiple of the human one: a
    fast voice says more words in a stretch, not more stretches in a minute.
    """
    chunks = [_with_repetitions(c, knobs, rng) for c in split(text.split(), knobs, rng, tempo)]
    chunks, alone = _with_fillers(chunks, knobs, rng)
    repairs = _repairs(chunks, knobs, rng)
    pauses = _pauses(chunks, rng)
    return [
        Piece(text=" ".join(c), pause_s=p, kind="filler" if a else "turn", repair=r)
        for c, p, a, r in zip(chunks, pauses, alone, repairs, strict=True)
    ]


def split(words: list[str], knobs: Knobs, rng: np.random.Generator, tempo: float = 1.0) -> list[list[str]]:
    """Cut words into stretches of human lengths at plausible places; `knobs.pauses` 0 leaves one stretch."""
    chunks = []
    while words:
        wanted = draw("ipu_words", rng, low=CHUNK_LOW) * tempo / max(knobs.pauses, 1e-9)
        if len(words) <= wanted + 1:
            chunks.append(words)
            break
        places = range(max(1, round(0.5 * wanted)), min(len(words) - 1, round(1.5 * wanted) + 1) + 1)
        at = max(places, key=lambda i: _plausible(words, i) - 3.0 * abs(i - wanted) / wanted + rng.normal(0.0, 0.5))
        chunks.append(words[:at])
        words = words[at:]
    return chunks


def _plausible(words: list[str], at: int) -> float:
    """How plausible a pause is between words at - 1 and at."""
    before, after = words[at - 1], words[at].lower()
    score = 3.0 if before[-1] in ".?!" else 2.0 if before[-1] in ",;:" else 0.0
    if score == 0.0 and before.lower() in BINDING:
        score -= 2.0
    return score + (1.0 if after in JOINING else 0.0)


def _with_repetitions(chunk: list[str], knobs: Knobs, rng: np.random.Generator) -> list[str]:
    """Say some short words twice, as people do 1.5 times in 100 words."""
    rate = knobs.false_starts * human_reference()["disfluencies"]["immediate_word_repetitions_per_100_words"] / 100.0
    said = []
    for word in chunk:
        if word.isalpha() and len(word) <= 4 and rng.random() < 2.0 * rate:  # about half of all words are such
            said.append(word)
        said.append(word)
    return said


def _with_fillers(
    chunks: list[list[str]], knobs: Knobs, rng: np.random.Generator
) -> tuple[list[list[str]], list[bool]]:
    """Put uh and um before, after, within and between stretches, in human shares; which stretches are only that."""
    facts = human_reference()["disfluencies"]
    rate = knobs.fillers * facts["fillers_per_100_words"] / 100.0 * FILLER_CUT
    place = facts["filler_position_share"]
    both = place["silence_both_sides"]
    before, after = place["silence_above_0.2_s_before"] - both, place["silence_above_0.2_s_after"] - both
    um = facts["fillers_by_form_per_100_words"]["um"] / facts["fillers_per_100_words"]
    made: list[list[str]] = []
    alone: list[bool] = []
    for k, chunk in enumerate(chunks):
        said, ahead = list(chunk), False
        for _ in range(rng.binomial(len(chunk), min(rate, 1.0))):
            filler = "um" if rng.random() < um else "uh"
            u = rng.random()
            if u < before:
                at: int | None = 0
            elif u < before + after and k + 1 < len(chunks):
                at = len(said)
            elif u < before + after + both and k > 0:
                at, ahead = None, True
            else:  # a turn seldom ends with one
                at = int(rng.integers(1, len(said) + 1)) if k + 1 < len(chunks) else 0
            if at is not None and not {"uh", "um"}.intersection(said[max(at - 1, 0) : at + 1]):
                said.insert(at, filler)
        if ahead:
            made.append(["um" if rng.random() < um else "uh"])
            alone.append(True)
        made.append(said)
        alone.append(False)
    return made, alone


def _repairs(chunks: list[list[str]], knobs: Knobs, rng: np.random.Generator) -> list[bool]:
    """Which stretches begin with a word broken off: 0.9 in 100 words."""
    rate = knobs.false_starts * human_reference()["disfluencies"]["fragments_per_100_words"] / 100.0
    return [len(c) >= 3 and bool(rng.random() < rate * len(c)) for c in chunks]


def _pauses(chunks: list[list[str]], rng: np.random.Generator) -> list[float]:
    """Silence before each stretch; the longer ones after the ends of sentences, none above 0.9 s after a mere yeah."""
    ends = np.array([3.0 if c[-1][-1] in ".?!" else 1.0 if c[-1][-1] == "," else 0.0 for c in chunks[:-1]])
    drawn = np.sort([draw("pause", rng, low=0.003) for _ in ends])
    order = np.argsort(ends + rng.normal(0.0, 2.0, len(ends)))
    pauses = np.zeros(len(ends))
    pauses[order] = drawn
    if len(pauses) and human_lexicon().is_backchannel(plain_words(" ".join(chunks[0]))):
        pauses[0] = min(pauses[0], 0.9)
    return [0.0, *pauses.tolist()]
