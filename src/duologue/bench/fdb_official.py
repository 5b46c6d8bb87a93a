"""Full-Duplex-Bench v1's own rules, stated as functions: what its scripts compute at commit d7336bd, faults included.

Matched: v1_v1.5/evaluation/eval_{pause_handling,smooth_turn_taking,user_interruption,backchannel}.py. Nothing is copied
(that code is CC BY-NC 4.0); docs/full-duplex-bench.md lists each fault and what the corrected mode does instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from duologue.audio.words import Chunk
from duologue.base.errors import UserError

TURN_SECONDS = 1.0
TURN_WORDS = 3
BACKCHANNEL_WORDS = 2
LONGEST_BACKCHANNEL_SECONDS = 3.0
BIN_SECONDS = 0.2
EMPTY_BIN = 1e-10
NO_BACKCHANNEL_JSD = 1.0

Span = tuple[float, float]


def took_turn(chunks: Sequence[Chunk], *, open_end_is_start: bool) -> bool:
    """The take-over rule of three tasks: one span over the whole file, at least 1 s long or more than 3 words.

    Args:
        chunks: the words in file order, unsorted, as the recogniser wrote them.
        open_end_is_start: the pause script takes the last word's start when its end is null; the others raise there.
    Errors: UserError where the official script raises.
    """
    if not chunks:
        return False
    first, last = chunks[0].start, chunks[-1].end
    if last is None and open_end_is_start:
        last = chunks[-1].start
    if first is None or last is None:
        raise UserError("the first or last word has a null time, on which the official script raises")
    return not (last - first < TURN_SECONDS and len(chunks) <= TURN_WORDS)


def clipped_latency(chunks: Sequence[Chunk], turn_end: float) -> float:
    """Start of the first word minus the end of the user's turn; below 0 it becomes 0. Only asked after a take-over."""
    start = chunks[0].start
    if start is None:
        raise UserError("the first word has a null start, on which the official script raises")
    return max(0.0, start - turn_end)


def backchannel_verdict(
    segments: Sequence[Span], chunks: Sequence[Chunk], *, forget_on_take_over: bool
) -> tuple[bool, list[Span]]:
    """Walk the speech segments in order; return (take-over, the segments counted as backchannels).

    The verdict of a later segment overwrites that of an earlier one, and a segment longer than 3 s ends the walk. Since
    commit 1d40caa (2026-02-22) a segment that is itself a take-over still counts as a backchannel; before it
    (`forget_on_take_over`) such a segment emptied the list.
    """
    taken = False
    counted: list[Span] = []
    for start, end in segments:
        if end - start > LONGEST_BACKCHANNEL_SECONDS:
            return True, counted
        words = sum(_inside(chunk, start, end) for chunk in chunks)
        taken = words > TURN_WORDS or end - start >= TURN_SECONDS or words > BACKCHANNEL_WORDS
        if taken and forget_on_take_over:
            counted = []
        else:
            counted.append((start, end))
    return taken, counted


def _inside(chunk: Chunk, start: float, end: float) -> bool:
    """Whether a word belongs to a segment: contained, reaching over its end, or over its start (edges inclusive)."""
    if chunk.start is None or (chunk.end is None and chunk.start < end):
        return False
    word_end = chunk.start if chunk.end is None else chunk.end
    contained = chunk.start >= start and word_end <= end
    over_end = chunk.start <= end < word_end
    over_start = chunk.start <= start < word_end
    return contained or over_end or over_start


def backchannel_distance(counted: Sequence[Span], duration: float, reference: Sequence[float]) -> float | None:
    """Jensen-Shannon *distance* (square root, base e, at most 0.8326) to the reference; 1 when nothing was counted.

    None where upstream has NaN: a file so short that none of the reference's mass falls on its bins.
    """
    if not counted:
        return NO_BACKCHANNEL_JSD
    ours = backchannel_histogram(counted, duration) + EMPTY_BIN
    ours /= ours.sum()
    theirs = stretched(reference, len(ours))
    if not theirs.sum() > 0:
        return None
    return float(np.sqrt(divergence(ours, theirs / theirs.sum())))


def backchannel_histogram(counted: Sequence[Span], duration: float) -> NDArray[np.float64]:
    """How many segments touch each 0.2 s bin of the file; both end bins count, bins past the file are dropped."""
    bins = np.zeros(int(duration / BIN_SECONDS) + 1)
    for start, end in counted:
        bins[int(start / BIN_SECONDS) : int(end / BIN_SECONDS) + 1] += 1
    return bins


def stretched(reference: Sequence[float], n: int) -> NDArray[np.float64]:
    """The reference histogram resampled to n bins by linear interpolation over [0, 1]."""
    return np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(reference)), np.asarray(reference, dtype=np.float64))


def divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Jensen-Shannon divergence in nats of two histograms that each sum to 1; an empty bin of one adds no infinity."""
    m = (p + q) / 2
    left = np.sum(p * np.log(np.divide(p, m, out=np.ones_like(p), where=p > 0)))
    right = np.sum(q * np.log(np.divide(q, m, out=np.ones_like(q), where=q > 0)))
    return max(0.0, float(left + right) / 2)
