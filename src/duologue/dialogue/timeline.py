"""Who speaks when: speech intervals and words of the two speakers of a conversation.

A `Timeline` holds what was observed. Everything else (inter-pausal units, pauses, gaps, turns, backchannels) is
derived from it by the rules beside this file, each with named thresholds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duologue.dialogue.intervals import Intervals, clip, merge, total

SIDES = ("agent", "user")


class Word(NamedTuple):
    """One spoken word and its times in seconds; `start <= end`."""

    text: str
    start: float
    end: float


def earlier(words: Iterable[Word] | None, seconds: float) -> tuple[Word, ...] | None:
    """Words so much earlier, without those that ended before 0; None stays None."""
    if words is None:
        return None
    moved = (Word(w.text, max(w.start - seconds, 0.0), w.end - seconds) for w in words)
    return tuple(w for w in moved if w.end > 0) if seconds else tuple(words)


@dataclass(frozen=True, slots=True)
class Track:
    """One speaker: disjoint speech intervals [N, 2] in seconds, sorted, and the words if they are known.

    `words=None` means that nobody transcribed this side; `words=()` that it was transcribed and no word was found.
    """

    speech: Intervals
    words: tuple[Word, ...] | None = None

    @classmethod
    def of(cls, speech: ArrayLike, words: Iterable[Word] | None = None) -> Track:
        """Make a track from intervals in any order; overlapping or touching ones are united."""
        return cls(merge(speech), None if words is None else tuple(sorted(words, key=lambda w: (w.start, w.end))))

    @classmethod
    def from_words(cls, words: Iterable[Word]) -> Track:
        """Make a track whose speech is its words, as in corpora with word times (zero-length words make no speech)."""
        ordered = tuple(sorted(words, key=lambda w: (w.start, w.end)))
        spans = np.array([(w.start, w.end) for w in ordered if w.end > w.start], dtype=np.float64).reshape(-1, 2)
        return cls(merge(spans), ordered)

    def shifted(self, offset: float) -> Track:
        """The same track, `offset` seconds later."""
        words = self.words and tuple(Word(w.text, w.start + offset, w.end + offset) for w in self.words)
        return Track(self.speech + offset, words)

    def clipped(self, start: float, end: float) -> Track:
        """What is said within [start, end], times unchanged; words that reach across an edge are cut there."""
        words = self.words and tuple(
            Word(w.text, max(w.start, start), min(w.end, end)) for w in self.words if w.end > start and w.start < end
        )
        return Track(clip(self.speech, start, end), words)


@dataclass(frozen=True, slots=True)
class Timeline:
    """A conversation of `duration` seconds: the agent's track and the user's (for two people: first and second)."""

    agent: Track
    user: Track
    duration: float

    @property
    def tracks(self) -> tuple[Track, Track]:
        return self.agent, self.user

    def swapped(self) -> Timeline:
        """The same conversation with the roles exchanged."""
        return Timeline(self.user, self.agent, self.duration)

    def clipped(self, start: float, end: float) -> Timeline:
        """The stretch [start, end], with its beginning as the new zero."""
        agent, user = (t.clipped(start, end).shifted(-start) for t in self.tracks)
        return Timeline(agent, user, end - start)

    def speech_seconds(self) -> NDArray[np.float64]:
        """Seconds of speech of (agent, user)."""
        return np.array([total(t.speech) for t in self.tracks])
