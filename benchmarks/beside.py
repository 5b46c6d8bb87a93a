"""Measuring beside moshi, the parity oracle: importing it quietly, and taking turns with it."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def oracle() -> Iterator[None]:
    """Import moshi inside: uncompiled, and without the warnings of a package made for an older torch."""
    os.environ["NO_TORCH_COMPILE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def fastest(mine: Callable[[], object], other: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of the fastest run of each; they take turns, so that both meet the machine in the same moods."""
    best = [float("inf")] * 2
    for _ in range(repeats + 1):
        for i, task in enumerate((mine, other)):
            start = time.perf_counter()
            task()
            best[i] = min(best[i], time.perf_counter() - start)
    return best
