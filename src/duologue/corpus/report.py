"""How many hours of a corpus came in, how many went out, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from duologue.corpus.conversation import Conversation, Read
from duologue.corpus.heard import KEY, Agreement, pooled


@dataclass(slots=True, kw_only=True)
class Amount:
    """Conversations and their hours; those of unknown length count no hours."""

    conversations: int = 0
    hours: float = 0.0

    def add(self, seconds: float | None) -> None:
        """Count one more."""
        self.conversations += 1
        self.hours += (seconds or 0.0) / 3600


@dataclass(slots=True, kw_only=True)
class ReadReport:
    """What a reader gave. Made by adding to it; `watch` does so while somebody else goes through the conversations."""

    came: Amount = field(default_factory=Amount)
    kept: Amount = field(default_factory=Amount)
    set_aside: Amount = field(default_factory=Amount)
    unknown: int = 0
    """Of those set aside, how many have no known length."""
    mended: dict[str, Amount] = field(default_factory=dict)
    """By kind of defect: conversations kept in which it was mended. One conversation may count in several."""
    reasons: dict[str, Amount] = field(default_factory=dict)
    """By kind: conversations set aside for it. One conversation may count in several."""
    rejected: list[dict[str, Any]] = field(default_factory=list)
    """Every conversation set aside: id, corpus, duration, and its reasons in words."""
    agreements: list[Agreement] = field(default_factory=list)
    """Of each side whose speech both the corpus and a detector tell."""

    def add(self, read: Read) -> None:
        """Count one conversation."""
        self.came.add(read.duration)
        if isinstance(read, Conversation):
            self.kept.add(read.duration)
            for kind in dict.fromkeys(d.kind for d in read.defects):
                self.mended.setdefault(kind, Amount()).add(read.duration)
            lines = (read.info.get(KEY.format(side)) for side in range(2))
            self.agreements += [Agreement.of_line(line) for line in lines if line is not None]
            return
        self.set_aside.add(read.duration)
        self.unknown += read.duration is None
        why = [d for d in read.defects if not d.mended]
        for kind in dict.fromkeys(d.kind for d in why):
            self.reasons.setdefault(kind, Amount()).add(read.duration)
        reasons = [f"{d.kind}: {d.detail}" if d.side is None else f"{d.kind}, side {d.side}: {d.detail}" for d in why]
        row = {"id": read.id, "corpus": read.corpus, "duration": read.duration, "reasons": reasons}
        self.rejected.append(row)

    def watch(self, reads: Iterable[Read]) -> Iterator[Read]:
        """Pass conversations on and count them."""
        for read in reads:
            self.add(read)
            yield read

    def to_json(self) -> dict[str, Any]:
        """Plain values: hours, counts, and every conversation set aside with its reasons."""

        def amount(a: Amount) -> dict[str, Any]:
            return {"conversations": a.conversations, "hours": a.hours}

        mean = pooled(self.agreements)
        return {
            "in": amount(self.came),
            "out": amount(self.kept),
            "set_aside": amount(self.set_aside) | {"of_unknown_length": self.unknown},
            "mended": {kind: amount(a) for kind, a in sorted(self.mended.items())},
            "reasons": {kind: amount(a) for kind, a in sorted(self.reasons.items())},
            "agreement": None
            if mean is None
            else {
                "hours": mean.seconds / 3600,
                "agree": mean.agree,
                "precision": mean.precision,
                "recall": mean.recall,
            },
            "rejected": self.rejected,
        }

    def table(self) -> str:
        """For people: lines of a table, without a line break at the end."""
        rows = [("", "conversations", "hours"), _row("in", self.came), _row("out", self.kept)]
        rows.append(_row("set aside", self.set_aside))
        rows += [_row(f"  {kind}", a) for kind, a in sorted(self.reasons.items())]
        if self.mended:
            rows.append(("mended", "", ""))
            rows += [_row(f"  {kind}", a) for kind, a in sorted(self.mended.items())]
        width = max(len(name) for name, _, _ in rows)
        lines = [f"{name:<{width}}  {count:>13}  {hours:>10}".rstrip() for name, count, hours in rows]
        if self.unknown:
            lines.append(f"{self.unknown} set aside have no known length and count no hours")
        mean = pooled(self.agreements)
        if mean is not None:
            lines.append(
                f"speech of the corpus and of the detector: {mean.agree:.1%} of {mean.seconds / 3600:.2f} h agree, "
                f"precision {mean.precision:.3f}, recall {mean.recall:.3f}"
            )
        return "\n".join(lines)


def _row(name: str, amount: Amount) -> tuple[str, str, str]:
    return name, f"{amount.conversations:,}", f"{amount.hours:,.3f}"
