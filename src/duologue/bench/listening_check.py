"""The listening check: does a model earn its rewards by hearing this user, or by a rhythm that would suit any?

The same model plays the same segments with the same draws, but hears another segment's user, and is scored against what
happened in its own. The gain of hearing is the reward with the segment's user less that with the other one. An agent
that keeps time earns the same whomever it hears: its gain is 0, however high its rewards are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from duologue.train.rollouts import Recorded


def with_other_user(segments: Mapping[str, Sequence[Recorded]], seed: int) -> dict[str, list[Recorded]]:
    """Each segment with the user of another one of its axis, in the segment and in what comes before it.

    No segment keeps its own user, nor gets one of its own conversation unless that conversation has more than half of
    the axis' segments. Who gets whom, and where in the other recording the sound begins, hang on `seed` alone. It
    begins anywhere and goes round: segments of an axis are cut around what happens in them, and are so much alike in
    when the user ends that another user, cut at the same place, would end nearly as the own one did.

    Args:
        segments: by axis; an axis with fewer than two has nobody else, and is left out.
        seed: of the exchange.

    Returns:
        The segments in the same order, with the same events, timelines and agent's side; `user` alone differs.
    """
    exchanged = {}
    for place, (axis, recorded) in enumerate(segments.items()):
        if len(recorded) < 2:
            continue
        rng = np.random.default_rng((seed, place))
        partners = derangement([r.segment.conversation for r in recorded], rng)
        exchanged[axis] = [
            replace(own, user=looped(recorded[other].user, own.user.shape[1], float(rng.random())))
            for own, other in zip(recorded, partners, strict=True)
        ]
    return exchanged


def derangement(kinds: Sequence[str], rng: np.random.Generator) -> list[int]:
    """For each place another place, each taken once, in no fixed order.

    Places of one kind are exchanged with other kinds only, unless a kind has more than half of all places: then some
    stay within it. Errors: ValueError, fewer than two places.
    """
    count = len(kinds)
    if count < 2:
        raise ValueError(f"{count} places have no derangement")
    names = sorted(set(kinds))
    ranks = dict(zip(names, rng.permutation(len(names)).tolist(), strict=True))
    noise = rng.permutation(count).tolist()
    order = sorted(range(count), key=lambda i: (ranks[kinds[i]], noise[i]))
    shift = min(max(kinds.count(name) for name in names), count - 1)
    partners = [0] * count
    for i, place in enumerate(order):
        partners[place] = order[(i + shift) % count]
    return partners


def looped(codes: Tensor, frames: int, phase: float) -> Tensor:
    """Codes [K, T] as [K, frames]: from the part `phase` (0 to 1) of them on, round and round; padding (-1) is left
    out."""
    known = codes[:, (codes >= 0).all(0)]
    first = int(phase * known.shape[1])
    return known[:, (first + torch.arange(frames)) % known.shape[1]]
