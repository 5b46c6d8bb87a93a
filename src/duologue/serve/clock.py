"""The server's clock, which tests can replace."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Time in seconds, from any beginning, that never goes back."""

    def now(self) -> float:
        """The time."""

    def wait(self, until: float | None, wake: threading.Event) -> None:
        """Sleep until a time (None: for ever), or until `wake` is set."""


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def wait(self, until: float | None, wake: threading.Event) -> None:
        """See `Clock`."""
        if until is None:
            wake.wait()
        elif (left := until - time.monotonic()) > 0:
            wake.wait(left)
