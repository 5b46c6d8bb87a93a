"""Who will speak in the next two seconds: a dense lesson in taking turns, beside the one frame where an answer begins.

Voice activity projection (Ekstedt and Skantze, arXiv 2205.09812): from what both sides did so far, whether each of them
speaks for most of some spans to come. There a state is one of 256, four spans a side; here each span is a question of
its own, in whole frames.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duologue.train.lessons import UNKNOWN

SPANS = (3, 5, 7, 10)
"""Lengths in frames of the spans, one after another: 0.24, 0.4, 0.56, 0.8 s; there 0.2, 0.4, 0.6, 0.8 s."""
AHEAD = sum(SPANS)


def ahead_bits(agent: NDArray[np.bool_], user: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Who speaks in at least half of each span that begins with a frame [T]: the agent's spans first, then the user's.

    Args:
        agent: whether the agent speaks in each frame [T].
        user: the same for the user.

    Returns:
        int64 [T], bit i for span i; UNKNOWN where they reach beyond what is given.
    """
    frames = len(agent)
    found = np.zeros(frames, np.int64)
    for row, side in enumerate((agent, user)):
        sums, begin = np.cumsum(np.pad(side, (1, AHEAD))), 0
        for i, span in enumerate(SPANS):
            spoken = sums[begin + span :][:frames] - sums[begin:][:frames]
            found |= (2 * spoken >= span).astype(np.int64) << (row * len(SPANS) + i)
            begin += span
    found[max(frames - AHEAD + 1, 0) :] = UNKNOWN
    return found
