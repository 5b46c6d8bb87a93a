"""Conversations as corpora hold them: two speakers on tracks of their own, whose roles nobody has given yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from duologue.dialogue.intervals import Intervals
from duologue.dialogue.timeline import Track, Word

DefectKind: TypeAlias = Literal[
    "unreadable", "missing", "silent", "length", "swapped_times", "word_order", "overlapping", "bleed", "clipping",
    "outside", "empty",
]  # fmt: skip
"""What can be wrong with a conversation; `corpus.defects` says how each is known, and what is done about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundRef:
    """Where one speaker's sound lies: a channel of a file, or of a member of a tar file, which is read in place."""

    path: Path
    """The file."""
    channel: int = 0
    """Which of its channels."""
    member: str | None = None
    """Name of the file in the tar file `path`; None if `path` is the sound itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One speaker."""

    speaker: str
    """The corpus's own name for them; "" if it has none."""
    sound: SoundRef | None = None
    """None: the corpus was given without its sound."""
    speech: Intervals | None = None
    """When they speak, in seconds, if the corpus says so; None: to be detected, or taken from the words."""
    words: tuple[Word, ...] | None = None
    """What they say, with times; None if the corpus does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """Something wrong with a conversation, and what was done about it."""

    kind: DefectKind
    detail: str
    """One line: the value and the place."""
    mended: bool
    """True: mended by the rule of its kind. False: the conversation was set aside for it."""
    side: int | None = None
    """Which side, if one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Two speakers in one conversation. Sides are in the corpus's order, not roles: each can be taken for the user."""

    id: str
    """Unique in its corpus, stable between runs: "4a/2005"."""
    corpus: str
    """The reader's name: "fisher"."""
    duration: float
    """Seconds."""
    sides: tuple[Side, Side]
    defects: tuple[Defect, ...] = ()
    """Those that were mended."""
    info: Mapping[str, str] = field(default_factory=dict)
    """What else the corpus says: topic, session, sex of the speakers."""

    def track(self, side: int) -> Track | None:
        """Speech and words of a side without looking at its sound; None if neither is known."""
        known = self.sides[side]
        if known.speech is not None:
            return Track.of(known.speech, known.words)
        return None if known.words is None else Track.from_words(known.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A conversation that was set aside, and why."""

    id: str
    corpus: str
    defects: tuple[Defect, ...]
    """At least one that was not mended."""
    duration: float | None = None
    """Seconds, if known."""


Read: TypeAlias = Conversation | Rejected
"""What a reader yields for each conversation that it finds."""
