"""What is wrong with a conversation, and what is done about it: mended by the rule of its kind, or set aside.

`check` takes a conversation as a reader found it: times in any order, ends before starts, a duration of 0 where nobody
told. What it gives back is sorted, disjoint and inside its duration. docs/corpora.md has the rules as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from duologue.base.errors import UserError
from duologue.corpus.conversation import Conversation, Defect, DefectKind, Read, Rejected, Side
from duologue.corpus.sound import MissingError, sound_info
from duologue.dialogue.intervals import TOLERANCE_S, Intervals, as_intervals, clip, merge, total
from duologue.dialogue.timeline import Word


@dataclass(frozen=True, slots=True, kw_only=True)
class DefectRules:
    """From where on something is a defect, and how much of it can be mended."""

    length_s: float = 0.5
    """Difference of two lengths (both sides' sound, or the sound and what the corpus says) that is a defect, in s."""
    max_length_s: float = 5.0
    """Difference of the two sides' sound from which on they are no longer taken for one recording, in seconds."""
    edge_s: float = 0.05
    """How far speech may reach out of the conversation before it is a defect, in seconds; it is cut in any case."""
    max_outside: float = 0.1
    """Share of a side's speech outside the conversation from which on its times belong to something else."""
    silent_db: float = -60.0
    """Peak below which a channel is silent, in dBFS."""
    clipping: float = 1e-3
    """Share of samples at full scale from which on a channel is set aside (heard from about 1e-4)."""
    bleed_correlation: float = 0.6
    """Correlation, at the best lag, from which on the quieter channel is a copy of the louder in a block of 0.5 s."""
    bleed_share: float = 0.3
    """Share of the blocks in which one side is the louder that may be copies in the other."""
    bleed_db: float = -40.0
    """Level of the copy, against the original, under which it does not matter."""
    bleed_lag_s: float = 0.02
    """Greatest lag of a copy, in seconds: 20 ms is 7 m of air."""

    def __post_init__(self) -> None:
        for name in ("length_s", "max_length_s", "edge_s", "max_outside", "clipping", "bleed_share", "bleed_lag_s"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise UserError(f"{value} is not 0 or more", place=f"rules.{name}", mend="leave it out for the default")


def check(conversation: Conversation, audio: bool = False, rules: DefectRules | None = None) -> Read:
    """Name what is wrong, mend what can be mended, or set the conversation aside.

    Args:
        conversation: as a reader found it; a duration of 0 is one that nobody told.
        audio: also listen: silence, clipping, bleed. Without it, no more than the headers of the sound is read.
        rules: the thresholds.
    """
    rules = rules or DefectRules()
    found: list[Defect] = list(conversation.defects)
    length = _length(conversation, rules, found)
    if length is None:
        return _set_aside(conversation, found)
    sides = tuple(_side(i, s, length, rules, found) for i, s in enumerate(conversation.sides))
    mended = replace(conversation, duration=length, sides=(sides[0], sides[1]))
    if not any(d.kind == "unreadable" for d in found):
        found += _empty(mended)
    if audio and all(d.mended for d in found):
        from duologue.corpus.listening import sound_defects

        found += sound_defects(mended, rules)
    kept = replace(mended, defects=tuple(found))
    return kept if all(d.mended for d in found) else _set_aside(kept, found)


def rejected(id: str, corpus: str, kind: DefectKind, detail: str, side: int | None = None) -> Rejected:
    """A conversation that is set aside for one reason, before there is anything to check."""
    return Rejected(id=id, corpus=corpus, defects=(Defect(kind=kind, detail=detail, mended=False, side=side),))


def attempt(id: str, corpus: str, build: Callable[[], Conversation]) -> Read:
    """What `build` gives; if it raises a UserError, the conversation set aside with that line as the reason."""
    try:
        return build()
    except UserError as error:
        return rejected(id, corpus, "missing" if isinstance(error, MissingError) else "unreadable", str(error))


def _set_aside(conversation: Conversation, found: Sequence[Defect]) -> Rejected:
    known = conversation.duration if np.isfinite(conversation.duration) and conversation.duration > 0 else None
    return Rejected(id=conversation.id, corpus=conversation.corpus, defects=tuple(found), duration=known)


def _length(conversation: Conversation, rules: DefectRules, found: list[Defect]) -> float | None:
    """The conversation's duration: of its sound, or as told, or the last end of its speech. None: it has none."""
    lengths: list[float] = []
    for i, side in enumerate(conversation.sides):
        if side.sound is not None:
            try:
                lengths.append(sound_info(side.sound).duration)
            except UserError as error:
                kind: DefectKind = "missing" if isinstance(error, MissingError) else "unreadable"
                found.append(Defect(kind=kind, detail=str(error), mended=False, side=i))
    if found and not all(d.mended for d in found):
        return None
    told = conversation.duration
    if not lengths:
        length = told if told > 0 else max(map(_last_end, conversation.sides))
        if not np.isfinite(length):
            found.append(Defect(kind="unreadable", detail=f"a time or length is {length}", mended=False))
            return None
    else:
        length, longest = min(lengths), max(lengths)
        if length <= 0:
            found.append(Defect(kind="empty", detail="a side's sound has no samples", mended=False))
            return None
        if longest - length > rules.length_s:
            bad = longest - length > rules.max_length_s
            rule = "more than one recording can differ" if bad else "cut to the shorter"
            detail = f"the sides last {lengths[0]:.2f} s and {lengths[-1]:.2f} s: {rule}"
            found.append(Defect(kind="length", detail=detail, mended=not bad))
        elif told > 0 and abs(told - length) > rules.length_s:
            detail = f"lasts {length:.2f} s, not {told:.2f} s as the corpus says: the sound counts"
            found.append(Defect(kind="length", detail=detail, mended=True))
    if length <= 0:
        found.append(Defect(kind="empty", detail="lasts 0 s", mended=False))
        return None
    return length


def _last_end(side: Side) -> float:
    ends = [t for w in side.words or () for t in (w.start, w.end)]
    if side.speech is not None:
        ends += as_intervals(side.speech).ravel().tolist()
    return float(np.max(ends)) if ends else 0.0


def _side(index: int, side: Side, length: float, rules: DefectRules, found: list[Defect]) -> Side:
    """One side with its speech and words in order."""

    def note(kind: DefectKind, detail: str, mended: bool = True) -> None:
        found.append(Defect(kind=kind, detail=detail, mended=mended, side=index))

    words, speech = side.words, None if side.speech is None else as_intervals(side.speech)
    times = [t for w in words or () for t in (w.start, w.end)]
    if not (np.isfinite(times).all() and (speech is None or np.isfinite(speech).all())):
        note("unreadable", "a time is NaN or infinite", False)
        return side
    if words is not None:
        words = _words_in_order(words, note)
        kept = tuple(w for w in words if w.start <= length and w.end >= 0)
        spans = as_intervals([(w.start, w.end) for w in words])
        _outside(spans, length, rules, "words", note)
        cut = (Word(w.text, max(w.start, 0.0), min(w.end, length)) for w in kept)
        words = tuple(sorted(cut, key=lambda w: (w.start, w.end)))
    if speech is not None:
        speech = _speech_in_order(speech, note)
        _outside(speech, length, rules, "speech", note)
        speech = clip(speech, 0.0, length)
    return replace(side, words=words, speech=speech)


Note = Callable[..., None]


def _words_in_order(words: Sequence[Word], note: Note) -> tuple[Word, ...]:
    swapped = [w for w in words if w.end < w.start]
    if swapped:
        w = swapped[0]
        detail = f"{len(swapped)} of {len(words)} words end before they start, the first {w.text!r} at {w.start:.2f} s"
        note("swapped_times", f"{detail}: swapped back")
    straight = [Word(w.text, min(w.start, w.end), max(w.start, w.end)) for w in words]
    back = [(a, b) for a, b in pairwise(straight) if b.start < a.start - TOLERANCE_S]
    if back:
        detail = (
            f"{len(back)} of {len(words)} words come late, the first {back[0][1].text!r} of {back[0][1].start:.2f} s"
        )
        note("word_order", f"{detail}: sorted")
    return tuple(sorted(straight, key=lambda w: (w.start, w.end)))


def _speech_in_order(speech: Intervals, note: Note) -> Intervals:
    swapped = speech[:, 1] < speech[:, 0]
    if swapped.any():
        at = speech[swapped][0]
        detail = f"{swapped.sum()} of {len(speech)} intervals end before they start, the first at {at[0]:.2f} s"
        note("swapped_times", f"{detail}: swapped back")
    straight = np.sort(speech, axis=1)
    straight = straight[np.lexsort((straight[:, 1], straight[:, 0]))]
    reach = np.maximum.accumulate(straight[:, 1]) if len(straight) else straight[:, 1]
    over = straight[1:, 0] < reach[:-1] - TOLERANCE_S
    if over.any():
        at = straight[1:][over][0]
        detail = f"{over.sum()} of {len(speech)} intervals begin inside another, the first at {at[0]:.2f} s"
        note("overlapping", f"{detail}: merged")
    return merge(straight)


def _outside(spans: Intervals, length: float, rules: DefectRules, what: str, note: Note) -> None:
    """Note how much of `spans` (sorted, ends after starts) lies outside the conversation."""
    if len(spans) == 0:
        return
    reach = max(float(spans[:, 1].max()) - length, -float(spans[:, 0].min()))
    if reach <= rules.edge_s:
        return
    whole = total(spans)
    share = 1 - total(clip(spans, 0.0, length)) / whole if whole > 0 else 1.0
    bad = share > rules.max_outside
    rule = "the times are of something else" if bad else "cut"
    note(
        "outside",
        f"{share:.1%} of the {what} lies outside 0 to {length:.2f} s, by up to {reach:.2f} s: {rule}",
        not bad,
    )


def _empty(conversation: Conversation) -> list[Defect]:
    """Sides that are known to say nothing: no conversation."""
    found = []
    for i, side in enumerate(conversation.sides):
        track = conversation.track(i)
        if track is not None and len(track.speech) == 0 and not track.words:
            what = "speech" if side.speech is not None else "words"
            found.append(Defect(kind="empty", detail=f"no {what} at all", mended=False, side=i))
    return found
