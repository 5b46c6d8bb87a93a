"""Sets of time as sorted, disjoint intervals [N, 2] in seconds: pure functions, numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Intervals = NDArray[np.float64]

TOLERANCE_S = 1e-6
"""Slack of every "silence <= threshold" comparison, so that 0.2 s written as 1.2 - 1.0 still counts as 0.2 s."""


def as_intervals(spans: ArrayLike) -> Intervals:
    """Read any sequence of (start, end) pairs as a float64 array [N, 2]; an empty one becomes [0, 2]."""
    return np.asarray(spans, dtype=np.float64).reshape(-1, 2)


def merge(spans: ArrayLike, max_silence: float = 0.0) -> Intervals:
    """Unite intervals that overlap, touch, or are at most `max_silence` seconds apart. Any order in, sorted out."""
    x = as_intervals(spans)
    if len(x) == 0:
        return x
    x = x[np.argsort(x[:, 0], kind="stable")]
    reach = np.maximum.accumulate(x[:, 1])
    opens = np.flatnonzero(np.concatenate(([True], x[1:, 0] - reach[:-1] > max_silence + TOLERANCE_S)))
    return np.stack([x[opens, 0], reach[np.concatenate((opens[1:] - 1, [len(x) - 1]))]], axis=1)


def clip(spans: Intervals, start: float, end: float) -> Intervals:
    """The part of each interval within [start, end]; what becomes empty is dropped."""
    cut = np.clip(spans, start, end)
    return cut[cut[:, 1] > cut[:, 0]]


def complement(spans: Intervals, start: float, end: float) -> Intervals:
    """The silences: what [start, end] holds outside sorted, disjoint `spans`."""
    inner = clip(spans, start, end)
    edges = np.concatenate(([start], inner.ravel(), [end])).reshape(-1, 2)
    return edges[edges[:, 1] > edges[:, 0]]


def intersect(a: Intervals, b: Intervals) -> Intervals:
    """Where both sorted, disjoint sets hold."""
    if len(a) == 0 or len(b) == 0:
        return np.empty((0, 2))
    first = np.searchsorted(b[:, 1], a[:, 0], side="right")
    last = np.searchsorted(b[:, 0], a[:, 1], side="left")
    counts = np.maximum(last - first, 0)
    ia = np.repeat(np.arange(len(a)), counts)
    ib = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    return np.stack([np.maximum(a[ia, 0], b[ib, 0]), np.minimum(a[ia, 1], b[ib, 1])], axis=1)


def total(spans: Intervals) -> float:
    """Summed length in seconds."""
    return float((spans[:, 1] - spans[:, 0]).sum())
