"""What waits to be sent over one connection. Belongs to the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from duologue.client.sound import Format, Samples
from duologue.client.wire import Close, Kind, build_meta, build_text

FRAMES = 25
"""Frames (2 s) of sound that may wait; beyond, the oldest are dropped."""
ITEMS = 1000
"""Messages of all kinds that may wait; beyond, the client is given up."""


@dataclass(frozen=True, slots=True)
class End:
    """The last thing that is sent: the reason, then the connection is closed."""

    reason: str
    code: Close


Item = bytes | End | tuple[Samples]
"""A message, the end, or sound that is yet to be put into the connection's format."""


class Link:
    """One connection of a session, as far as sending goes.

    Args:
        format: of the sound.
        meta: whether the client wants metadata.
    """

    def __init__(self, format: Format, *, meta: bool) -> None:
        self.format, self.wants_meta = format, meta
        self.unsent = 0
        """Frames that were dropped."""
        self._items: deque[Item] = deque()
        self._frames = 0
        self._some = asyncio.Event()

    @property
    def stuck(self) -> bool:
        """Whether so much waits that nobody can be reading."""
        return len(self._items) > ITEMS

    def message(self, data: bytes) -> None:
        """Send a message."""
        self._items.append(data)
        self._some.set()

    def text(self, kind: Kind, text: str) -> None:
        """Send a message of text."""
        self.message(build_text(kind, text))

    def meta(self, value: dict[str, Any]) -> None:
        """Send metadata, if it is wanted."""
        if self.wants_meta:
            self.message(build_meta(value))

    def sound(self, samples: Samples) -> bool:
        """Send a frame of sound; whether an older one had to be dropped for it."""
        self._items.append((samples,))
        self._some.set()
        if self._frames < FRAMES:
            self._frames += 1
            return False
        oldest = next(i for i, item in enumerate(self._items) if isinstance(item, tuple))
        del self._items[oldest]
        self.unsent += 1
        return True

    def end(self, reason: str, code: Close) -> None:
        """Send the reason and close; sound that waits is not sent any more."""
        self._items = deque(item for item in self._items if not isinstance(item, tuple))
        self.meta({"type": "end", "reason": reason})
        self._items.append(End(reason, code))
        self._some.set()

    async def next(self) -> Item:
        """The next thing to send."""
        while not self._items:
            self._some.clear()
            await self._some.wait()
        item = self._items.popleft()
        self._frames -= isinstance(item, tuple)
        return item
