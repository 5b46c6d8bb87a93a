"""When to try again, and when to stop trying: waits, the call budget and the circuit breaker."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def backoff(attempt: int, first_s: float, longest_s: float, rng: random.Random) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 0): doubling, half of it random.

    The random half keeps the many callers of a server that failed them together from coming back together.
    """
    full = min(longest_s, first_s * 2.0 ** min(attempt, 60))
    return full * rng.uniform(0.5, 1.0)


def retry_after(header: str | None, now: datetime | None = None) -> float:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3: seconds or a date); 0 where it says nothing."""
    if header is None:
        return 0.0
    if header.strip().isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


class Budget:
    """A number of calls that may still be made; None is without end. Shared by threads."""

    def __init__(self, calls: int | None) -> None:
        self._left = calls
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Spend one call; False when none is left."""
        with self._lock:
            if self._left is None:
                return True
            if self._left <= 0:
                return False
            self._left -= 1
            return True


class Breaker:
    """Stops calls to a server that keeps failing, and lets one through now and then to see whether it is back.

    Closed: all calls pass. After `failures` in a row it opens: none passes. `cooldown_s` later one call, the probe, may
    pass; its success closes the breaker, its failure opens it for another `cooldown_s`. Shared by threads.
    """

    def __init__(self, failures: int, cooldown_s: float, clock: Callable[[], float]) -> None:
        self._failures = failures
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._lock = threading.Lock()
        self._row = 0
        self._opened_at: float | None = None

    def admits(self) -> bool:
        """Whether a call may be made now; every call so admitted reports `succeeded` or `failed`."""
        with self._lock:
            if self._opened_at is None:
                return True
            if self._clock() - self._opened_at < self._cooldown_s:
                return False
            # This caller is the probe. Until it reports, or its report is overdue, the others wait.
            self._opened_at = self._clock()
            return True

    def succeeded(self) -> None:
        with self._lock:
            self._row = 0
            self._opened_at = None

    def failed(self) -> None:
        with self._lock:
            self._row += 1
            if self._row >= self._failures:
                self._opened_at = self._clock()
