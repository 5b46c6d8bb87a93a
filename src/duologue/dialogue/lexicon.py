"""Which short utterances are backchannels by their words: the lexicon of the human reference and its matching rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from duologue.dialogue.reference import human_reference

SPELLINGS = {
    "mm-hmm": "mhm", "mm-hm": "mhm", "mmhmm": "mhm", "mmhm": "mhm", "mhmm": "mhm", "m-hm": "mhm",
    "mm": "hm", "mmm": "hm", "hmm": "hm", "hmmm": "hm", "uhhuh": "uh-huh", "o.k": "okay", "yea": "yeah", "yeh": "yeah",
    "uhm": "um", "umm": "um", "uhh": "uh", "ahh": "ah", "ohh": "oh",
}  # fmt: skip
"""Spellings that recognisers write for forms of the lexicon. None occurs in the lexicon itself."""

EDGE_MARKS = '.,?!;:"“”…()[]{}<>*♪'


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Forms of backchannels and fillers, lower case; phrases are tuples of words."""

    words: frozenset[str]
    phrases: frozenset[tuple[str, ...]]
    optional_anywhere: frozenset[str]
    optional_first: frozenset[str]
    fillers: frozenset[str]

    @classmethod
    def read(cls, raw: dict[str, Any]) -> Lexicon:
        """Read the lexicon of `human_dynamics.json` (`meta.definitions.backchannel_lexicon`)."""
        sets = {k: frozenset(raw[k]) for k in ("words", "optional_anywhere", "optional_first", "fillers")}
        return cls(phrases=frozenset(tuple(p.split()) for p in raw["phrases"]), **sets)

    def is_filler_only(self, words: Sequence[str]) -> bool:
        """Whether plain `words` are nothing but uh, um, er, eh and word fragments (an empty sequence is)."""
        return all(w in self.fillers or is_fragment(w) for w in words)

    def is_backchannel(self, words: Sequence[str]) -> bool:
        """Whether plain `words` split completely into units of the lexicon, of which at least one is needed.

        Fragments are skipped, uh and um may stand anywhere, "well" may open (rule 4 of the human reference).
        """
        kept = [w for w in words if not is_fragment(w)]
        if kept and kept[0] in self.optional_first:
            kept = kept[1:]
        longest = max(map(len, self.phrases))
        reached = {0: False}  # how many words are covered -> whether a unit of the lexicon is among them
        for i, word in enumerate(kept):
            if i not in reached:
                continue
            if word in self.words:
                reached[i + 1] = True
            elif word in self.optional_anywhere:
                reached[i + 1] = reached[i] or reached.get(i + 1, False)
            for j in range(i + 2, min(i + longest, len(kept)) + 1):
                if tuple(kept[i:j]) in self.phrases:
                    reached[j] = True
        return reached.get(len(kept), False)


@cache
def human_lexicon() -> Lexicon:
    """The lexicon that ships with the human reference: 35 words, 46 phrases."""
    return Lexicon.read(human_reference()["meta"]["definitions"]["backchannel_lexicon"])


def plain_words(text: str) -> list[str]:
    """Transcribed text as the lexicon spells it: lower case, straight apostrophes, no punctuation around words."""
    words = (w.strip(EDGE_MARKS) for w in text.lower().replace("’", "'").split())
    return [SPELLINGS.get(w, w) for w in words if w.strip("-'")]


def is_fragment(word: str) -> bool:
    """Whether a word was broken off: written with a hyphen at an end, as in `w[ord]-`."""
    return word.endswith("-") or word.startswith("-")
