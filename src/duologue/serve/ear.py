"""Sound of a user that waits for its frame: a short buffer that neither grows nor blocks.

The event loop puts in, the step thread takes out; a lock guards every method. All lengths are in samples.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from duologue.client.sound import Samples

WATCHED = 25
"""Frames (2 s) for which more than a frame must have lain unused before it is given up."""


@dataclass(frozen=True, slots=True)
class EarCounts:
    """What happened to a user's sound."""

    dropped: int
    """Samples that came too fast and were thrown away, the oldest first."""
    starved: int
    """Samples of silence that stood in for sound that did not come in time."""
    buffered: int
    """Samples that wait."""


class Ear:
    """The sound of one user.

    Two rules keep a talk's latency from growing: beyond `limit` the oldest sound is dropped at once; and if over 2 s
    more than one whole frame was always left over, what lay unused but for that one is dropped too. So a stall of the
    line costs silence, and what comes late after it is not heard late for ever.

    Args:
        frame: samples of a frame.
        limit: the most that may wait, in samples, at least one frame.
        now: the time.
        full: called when the first whole frame is there, since the beginning or `clear`.
    """

    def __init__(
        self, frame: int, limit: int, now: Callable[[], float], full: Callable[[], None] = lambda: None
    ) -> None:
        self._frame, self._limit, self._now = frame, max(limit, frame), now
        self._full: float | None = None
        self._when_full = full
        self._lock = threading.Lock()
        self._parts: deque[Samples] = deque()
        self._held = 0
        self._dropped = self._starved = 0
        self._floor, self._watched = 0, 0

    def put(self, sound: Samples) -> None:
        """Add sound [S] at the end."""
        if not len(sound):
            return
        with self._lock:
            self._parts.append(sound)
            self._held += len(sound)
            if self._full is None and self._held >= self._frame:
                self._full = self._now()
                self._when_full()
            if self._held > self._limit:
                self._drop(self._held - self._limit)

    @property
    def full_since(self) -> float | None:
        """When the first whole frame was there, since the beginning or `clear`; None: it is not."""
        with self._lock:
            return self._full

    def take(self) -> Samples | None:
        """The next frame [frame]; None, and counted, if it is not there yet."""
        with self._lock:
            if self._held < self._frame:
                self._starved += self._frame
                self._watched = 0
                return None
            found = self._cut(self._frame)
            self._floor = self._held if self._watched == 0 else min(self._floor, self._held)
            self._watched += 1
            if self._watched == WATCHED:
                spare = self._floor // self._frame - 1
                if spare > 0:
                    self._drop(spare * self._frame)
                self._watched = 0
            return found

    def clear(self) -> None:
        """Forget what waits; it is not counted as dropped."""
        with self._lock:
            self._parts.clear()
            self._held = self._watched = 0
            self._full = None

    def counts(self) -> EarCounts:
        """What happened so far."""
        with self._lock:
            return EarCounts(self._dropped, self._starved, self._held)

    def lose(self, samples: int) -> None:
        """Count sound that was thrown away before it came here."""
        with self._lock:
            self._dropped += samples

    def _drop(self, samples: int) -> None:
        self._cut(samples)
        self._dropped += samples

    def _cut(self, samples: int) -> Samples:
        """Take the oldest samples away."""
        found, missing = [], samples
        while missing:
            part = self._parts.popleft()
            if len(part) > missing:
                self._parts.appendleft(part[missing:])
                part = part[:missing]
            found.append(part)
            missing -= len(part)
        self._held -= samples
        return np.concatenate(found) if found else np.zeros(0, np.float32)
