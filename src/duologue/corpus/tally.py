"""What came into a run of mining, what was used, what was found, and what was set aside and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from duologue.corpus.conversation import Conversation, Read, Rejected

EXAMPLES = 3
"""Conversations that are named per reason."""


@dataclass(slots=True)
class Share:
    """Conversations, their seconds, and the first few by name."""

    count: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)

    def add(self, other: Share) -> None:
        """Take in another share."""
        self.count += other.count
        self.seconds += other.seconds
        self.examples = (self.examples + other.examples)[:EXAMPLES]


@dataclass(slots=True)
class Tally:
    """Counts that can be added up over parts; `plus` in order of the parts gives the same numbers every time."""

    seen: Share = field(default_factory=Share)
    """All that the corpus holds, as far as its length is known."""
    used: Share = field(default_factory=Share)
    """What was searched, each conversation counted once though both speakers are the user in turn."""
    aside: dict[str, Share] = field(default_factory=dict)
    """What was not, by reason."""
    mended: dict[str, Share] = field(default_factory=dict)
    """What was mended, by kind of defect: a conversation with two kinds counts in both."""
    found: dict[str, int] = field(default_factory=dict)
    """Segments that meet the criteria, by axis, kept or not."""

    def see(self, read: Read) -> None:
        """Count what a reader gave; a rejected conversation is set aside by its first defect that was not mended."""
        self.seen.add(Share(1, read.duration or 0.0))
        if isinstance(read, Rejected):
            defect = next((d for d in read.defects if not d.mended), read.defects[0])
            self.set_aside(read, defect.kind, defect.detail)
        else:
            for kind in sorted({d.kind for d in read.defects}):
                self.mended.setdefault(kind, Share()).add(Share(1, read.duration, [read.id]))

    def set_aside(self, read: Conversation | Rejected, reason: str, detail: str = "") -> None:
        """Count a conversation that cannot be used."""
        named = f"{read.id}: {detail}" if detail else read.id
        self.aside.setdefault(reason, Share()).add(Share(1, read.duration or 0.0, [named]))

    def use(self, seconds: float) -> None:
        """Count a conversation that was searched."""
        self.used.add(Share(1, seconds))

    def find(self, axis: str, count: int) -> None:
        """Count segments that were found."""
        self.found[axis] = self.found.get(axis, 0) + count

    def plus(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.seen.add(other.seen)
        self.used.add(other.used)
        for mine, theirs in ((self.aside, other.aside), (self.mended, other.mended)):
            for name, share in theirs.items():
                mine.setdefault(name, Share()).add(share)
        for axis, count in other.found.items():
            self.find(axis, count)

    def to_json(self) -> dict[str, Any]:
        """As plain values; `from_json` reads them."""
        shares = {name: _plain(share) for name, share in (("seen", self.seen), ("used", self.used))}
        groups = {
            name: {reason: _plain(share) for reason, share in sorted(group.items())}
            for name, group in (("aside", self.aside), ("mended", self.mended))
        }
        return {**shares, **groups, "found": dict(self.found)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """Read what `to_json` made."""
        return cls(
            Share(**value["seen"]),
            Share(**value["used"]),
            {name: Share(**share) for name, share in value["aside"].items()},
            {name: Share(**share) for name, share in value["mended"].items()},
            dict(value["found"]),
        )


def _plain(share: Share) -> dict[str, Any]:
    return {"count": share.count, "seconds": share.seconds, "examples": share.examples}
