"""Inter-pausal units and utterances: one speaker's speech, merged over short silences.

Two rule sets stand side by side. `AlignmentRules` is the literal one of the alignment paper (arXiv 2606.11167):
speech merges over every silence of at most 1.0 s, and an utterance of at most 1 s is a backchannel. `HumanRules` is
that of the human reference (`human_dynamics.json`, `meta.definitions`, rules 2 to 4): a silence in which the partner
took a turn ends the utterance, and a backchannel is known by its words.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duologue.dialogue.intervals import TOLERANCE_S, Intervals, merge
from duologue.dialogue.lexicon import Lexicon, human_lexicon, plain_words
from duologue.dialogue.timeline import Timeline, Track, Word

Form = Literal["full", "backchannel", "filler"]
FormRule = Literal["lexical", "duration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanRules:
    """Thresholds of the human reference, in seconds."""

    ipu_silence_s: float = 0.2
    "Words or speech of one speaker at most this far apart are one inter-pausal unit."
    utterance_silence_s: float = 1.0
    "Inter-pausal units of one speaker at most this far apart are one utterance."
    split_at_partner_turns: bool = True
    "End an utterance at a silence that holds the midpoint of a full utterance's IPU of the partner."
    short_s: float = 1.0
    "Longest utterance that can be a backchannel or filler-only."
    barge_in_s: float = 0.5
    "Least speech the interrupted speaker still has to say for an interruption to count as a barge-in."
    longest_pause_s: float = 3.0
    "Longest within-turn pause that enters the distribution of pauses, as in the reference."


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentRules:
    """Thresholds of arXiv 2606.11167, in seconds."""

    ipu_silence_s: float = 0.2
    "For the statistics of IPUs, which the paper does not define; its utterances are made of speech as detected."
    utterance_silence_s: float = 1.0
    "Speech of one speaker at most this far apart is one utterance; the silences inside are pauses."
    backchannel_s: float = 1.0
    "Longest utterance that is a backchannel."


HUMAN_RULES = HumanRules()
ALIGNMENT_RULES = AlignmentRules()


class Utterance(NamedTuple):
    """One utterance: `side` 0 or 1, seconds, the IPUs it is made of (`first` inclusive to `stop` exclusive)."""

    start: float
    end: float
    side: int
    first: int
    stop: int
    form: Form

    @property
    def duration(self) -> float:
        return self.end - self.start


def ipus(track: Track, max_silence: float = 0.2) -> Intervals:
    """Inter-pausal units [N, 2] of one speaker: speech merged over silences of at most `max_silence` seconds."""
    return merge(track.speech, max_silence)


def form_rule(timeline: Timeline) -> FormRule:
    """How backchannels are told from turns: by words where both sides are transcribed, else by duration alone."""
    return "lexical" if all(t.words is not None for t in timeline.tracks) else "duration"


def human_utterances(
    timeline: Timeline, rules: HumanRules = HUMAN_RULES
) -> tuple[tuple[Intervals, Intervals], tuple[list[Utterance], list[Utterance]]]:
    """IPUs and utterances of both sides by the rules of the human reference.

    The rule is circular: where an utterance ends depends on which of the partner's are full, and that on where they
    end. The reference settles it in one pass, and so does this: utterances without the exception are classified, their
    full ones cut the partner's, and what results is classified anew. (Iterating on may oscillate.)

    Without words on both sides every utterance of at most `short_s` counts as a backchannel and none as filler-only.
    With words, a short utterance on which no word falls (laughter, noise) is filler-only: it never takes the floor.
    """
    units = (ipus(timeline.agent, rules.ipu_silence_s), ipus(timeline.user, rules.ipu_silence_s))
    texts: list[list[list[str]] | None] = [None, None]
    if form_rule(timeline) == "lexical":
        texts = [words_of_units(u, t.words or ()) for u, t in zip(units, timeline.tracks, strict=True)]
    lexicon = human_lexicon()
    found = [_group(s, units[s], texts[s], np.empty(0), rules, lexicon) for s in (0, 1)]
    if rules.split_at_partner_turns:
        middles = [_middles_of_full(units[s], found[s]) for s in (0, 1)]
        found = [_group(s, units[s], texts[s], middles[1 - s], rules, lexicon) for s in (0, 1)]
    return units, (found[0], found[1])


def alignment_utterances(track: Track, side: int, rules: AlignmentRules = ALIGNMENT_RULES) -> list[Utterance]:
    """Utterances of one side by the literal rule; `first` and `stop` index `track.speech`."""
    silences = track.speech[1:, 0] - track.speech[:-1, 1]
    cuts = np.flatnonzero(silences > rules.utterance_silence_s + TOLERANCE_S) + 1
    made = []
    for first, stop in _runs(cuts, len(track.speech)):
        start, end = float(track.speech[first, 0]), float(track.speech[stop - 1, 1])
        short = end - start <= rules.backchannel_s + TOLERANCE_S
        made.append(Utterance(start, end, side, first, stop, "backchannel" if short else "full"))
    return made


def words_of_units(units: Intervals, words: Sequence[Word]) -> list[list[str]]:
    """The plain words of each unit: a word belongs to the unit that holds its midpoint, else to the nearest one."""
    texts: list[list[str]] = [[] for _ in range(len(units))]
    if len(units) == 0 or len(words) == 0:
        return texts
    middles = np.array([(w.start + w.end) / 2 for w in words])
    after = np.clip(np.searchsorted(units[:, 0], middles, side="right") - 1, 0, len(units) - 1)
    following = np.minimum(after + 1, len(units) - 1)
    nearer = units[following, 0] - middles < middles - units[after, 1]
    nearer &= middles > units[after, 1]
    for word, unit in zip(words, np.where(nearer, following, after).tolist(), strict=True):
        if word.end > word.start:  # zero-length words are not speech (rule 1)
            texts[unit].extend(plain_words(word.text))
    return texts


def _group(
    side: int,
    units: Intervals,
    texts: list[list[str]] | None,
    partner_middles: NDArray[np.float64],
    rules: HumanRules,
    lexicon: Lexicon,
) -> list[Utterance]:
    """Utterances of one side; `partner_middles` (sorted) are the moments that end an utterance when in a silence."""
    if len(units) == 0:
        return []
    from_, to = units[:-1, 1], units[1:, 0]
    partner_in = np.searchsorted(partner_middles, to, side="right") > np.searchsorted(partner_middles, from_)
    cuts = np.flatnonzero((to - from_ > rules.utterance_silence_s + TOLERANCE_S) | partner_in) + 1
    made = []
    for first, stop in _runs(cuts, len(units)):
        start, end = float(units[first, 0]), float(units[stop - 1, 1])
        form: Form = "full"
        if end - start <= rules.short_s + TOLERANCE_S:
            form = "backchannel" if texts is None else _short_form([w for t in texts[first:stop] for w in t], lexicon)
        made.append(Utterance(start, end, side, first, stop, form))
    return made


def _short_form(words: list[str], lexicon: Lexicon) -> Form:
    if lexicon.is_filler_only(words):
        return "filler"
    return "backchannel" if lexicon.is_backchannel(words) else "full"


def _middles_of_full(units: Intervals, utterances: list[Utterance]) -> NDArray[np.float64]:
    kept = [np.arange(u.first, u.stop) for u in utterances if u.form == "full"]
    return units[np.concatenate(kept)].mean(axis=1) if kept else np.empty(0)


def _runs(cuts: NDArray[np.intp], n: int) -> list[tuple[int, int]]:
    edges = [0, *cuts.tolist(), n]
    return list(pairwise(edges)) if n else []


def unit_at(units: Intervals, time: float) -> int | None:
    """Index of the unit strictly inside which `time` falls, or None."""
    i = bisect_left(units[:, 0], time) - 1
    return i if i >= 0 and units[i, 1] > time else None
