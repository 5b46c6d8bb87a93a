"""A sample of at most N of a stream, whose outcome depends neither on order nor on how the stream is split.

Each item has a key, a hash of its name and a seed; the N smallest are kept. So samples of parts can be merged, and
memory is constant. The keys are uniform: every item is as likely to be kept (bottom-k sampling, Cohen and Kaplan 2007).
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from typing import NamedTuple


class Candidate(NamedTuple):
    """One item: its key, its unique name, and what it holds as bytes."""

    key: int
    id: str
    payload: bytes


def key_of(seed: int, *names: object) -> int:
    """A uniform number in [0, 2^64) for a seed and names; the same everywhere."""
    text = "\x1f".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class Reservoir:
    """The `size` candidates of smallest key of all that were added; each name counts once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._heap: list[tuple[int, str, bytes]] = []  # by minus key, so that the largest key is first
        self._ids: set[str] = set()

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def bound(self) -> int | None:
        """A key above this is not kept; None: there is room."""
        return -self._heap[0][0] if len(self._heap) >= self.size > 0 else None

    def accepts(self, key: int, name: str) -> bool:
        """Whether a candidate of this key and name would be kept."""
        if self.size < 1 or name in self._ids:
            return False
        return len(self._heap) < self.size or (-key, name) > self._heap[0][:2]

    def add(self, candidate: Candidate) -> bool:
        """Take a candidate; whether it is kept for now."""
        if not self.accepts(candidate.key, candidate.id):
            return False
        self._ids.add(candidate.id)
        entry = (-candidate.key, candidate.id, candidate.payload)
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, entry)
        else:
            self._ids.discard(heapq.heapreplace(self._heap, entry)[1])
        return True

    def merge(self, others: Iterable[Candidate]) -> None:
        """Take all of another sample."""
        for candidate in others:
            self.add(candidate)

    def kept(self) -> list[Candidate]:
        """What is kept, by key."""
        return sorted(Candidate(-key, name, payload) for key, name, payload in self._heap)
