"""Other users for segments: nobody hears their own, and what is scored stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duologue.bench.listening_check import derangement, looped, with_other_user
from duologue.dialogue.segments import ReferenceEvent, Segment
from duologue.dialogue.timeline import Timeline, Track
from duologue.train.rollouts import Recorded


def recorded(number: int, frames: int, conversation: str = "") -> Recorded:
    end = frames / 12.5
    segment = Segment(
        id=f"s{number}", axis="pause", conversation=conversation or f"c{number}", offset=0.0, start=1.0, end=end,
        timeline=Timeline(Track.of([]), Track.of([(0.5, end)]), end), events=(ReferenceEvent("turn", 1.0, end, 1),),
    )  # fmt: skip
    user = 1000 * number + torch.arange(frames).repeat(2, 1)
    return Recorded(segment, torch.zeros(3, frames, dtype=torch.long), user)


def test_every_segment_has_another_s_user_and_keeps_what_is_scored() -> None:
    own = {"pause": [recorded(n, 20 + n) for n in range(5)], "backchannel": [recorded(n, 30) for n in range(5, 8)]}
    other = with_other_user(own, seed=1)
    assert list(other) == list(own)
    for axis, played in other.items():
        for before, after in zip(own[axis], played, strict=True):
            assert after.segment is before.segment
            assert after.agent is before.agent
            assert after.user.shape == before.user.shape
            assert not set(before.user[0].tolist()) & set(after.user[0].tolist())
        sources = [int(r.user[0, 0]) // 1000 for r in played]
        assert sorted(sources) == sorted(int(r.user[0, 0]) // 1000 for r in own[axis])


def test_who_hears_whom_hangs_on_the_seed_alone() -> None:
    own = {"pause": [recorded(n, 25) for n in range(9)]}
    users = [torch.stack([r.user for r in with_other_user(own, seed)["pause"]]) for seed in (1, 1, 2)]
    assert torch.equal(users[0], users[1])
    assert not torch.equal(users[0], users[2])


def test_the_other_user_begins_anywhere() -> None:
    own = {"pause": [recorded(n, 100) for n in range(30)]}
    firsts = [int(r.user[0, 0]) % 1000 for r in with_other_user(own, seed=0)["pause"]]
    assert max(firsts) > 80
    assert min(firsts) < 20
    assert len(set(firsts)) > 15


def test_an_axis_with_one_segment_has_nobody_else() -> None:
    assert with_other_user({"pause": [recorded(0, 20)]}, seed=0) == {}


def test_a_recording_goes_round_until_it_is_long_enough_without_its_padding() -> None:
    codes = torch.tensor([[5, 6, 7, -1]])
    assert looped(codes, 5, 0.0).tolist() == [[5, 6, 7, 5, 6]]
    assert looped(codes, 4, 0.5).tolist() == [[6, 7, 5, 6]]
    assert looped(codes, 2, 0.99).tolist() == [[7, 5]]


@pytest.mark.parametrize("seed", range(40))
def test_conversations_are_exchanged_as_far_as_they_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = [str(kind) for kind in rng.integers(1 + rng.integers(6), size=2 + seed % 15)]
    partners = derangement(kinds, rng)
    assert sorted(partners) == list(range(len(kinds)))
    assert all(i != j for i, j in enumerate(partners))
    if 2 * max(kinds.count(k) for k in kinds) <= len(kinds):
        assert all(kinds[i] != kinds[j] for i, j in enumerate(partners))


def test_nobody_can_be_exchanged_alone() -> None:
    with pytest.raises(ValueError, match="no derangement"):
        derangement(["a"], np.random.default_rng(0))
