"""What is heard of a plan: the words of its stretches at their places in time."""

from __future__ import annotations

import math

from duologue.corpus.spoken import Placed, Plan
from duologue.dialogue.timeline import Timeline, Track, Word


def plan_timeline(plan: Plan) -> Timeline:
    """A plan's words as a timeline: shifted to their places, those after a cut left out, the cut one a fragment."""
    words: tuple[list[Word], list[Word]] = ([], [])
    for p in plan.placed:
        words[p.side].extend(heard_words(p))
    return Timeline(Track.from_words(words[0]), Track.from_words(words[1]), plan.duration)


def heard_words(placed: Placed) -> list[Word]:
    """The words of a stretch that are heard, in seconds of the conversation; "w-" where the cut falls into one."""
    until = math.inf if placed.until is None else placed.until
    heard = []
    for w in placed.spoken.words:
        if w.start >= until - 1e-6:
            break
        cut = w.end > until + 1e-6
        text = w.text.rstrip(".,?!;:")[: max(len(w.text) // 2, 1)].rstrip("-") + "-" if cut else w.text
        heard.append(Word(text, placed.start + w.start, placed.start + min(w.end, until)))
    return heard
