"""Models on the same segments: each alone, and what changed between two."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from duologue.bench.segment_scores import differences
from duologue.engine.sampling import Sampling
from duologue.train.align_settings import RewardSettings
from duologue.train.rollouts import Roller, record
from duologue.train.segment_scores import Scored, score_segments, summary
from test_rollouts import bundle, segment


def scored(name: str, *values: float, axis: str = "pause", metric: str = "m") -> list[Scored]:
    return [Scored(axis, name, k, {metric: value}) for k, value in enumerate(values)]


def test_differences_pair_segments_and_average_repeats() -> None:
    before = scored("a", 1, 3) + scored("b", 0, 0) + scored("only before", 9) + scored("c", math.nan)
    after = scored("a", 4) + scored("b", 2, 4) + scored("c", 7)
    found = differences(before, after)["m"]
    assert (found.before, found.after, found.mean, found.segments) == (1, 3.5, 2.5, 2)
    assert (found.low, found.high) == (2, 3)
    assert found.clear
    assert summary(after)["m"] == pytest.approx((4 + 3 + 7) / 3)


def test_nothing_shared_is_no_difference_and_one_segment_has_no_interval() -> None:
    assert differences(scored("a", 1), scored("b", 1)) == {}
    found = differences(scored("a", 1), scored("a", 2))["m"]
    assert found.mean == 1
    assert math.isnan(found.low)
    assert not found.clear


def test_a_model_is_scored_alike_every_time_and_equals_itself() -> None:
    model = bundle()
    segments = {"pause": record(model, [segment(1.0, 2.5), segment(1.0, 2.0, "t")])}
    first, again = (
        score_segments(Roller(model, slots), segments, Sampling(), RewardSettings(), repeats=2, seed=3)
        for slots in (4, 3)
    )
    assert first == again
    assert [(s.segment, s.repeat) for s in first] == [("s", 0), ("s", 1), ("t", 0), ("t", 1)]
    assert {"reward_pause", "pause_take_over", "pause_speech", "pause_over_talk"} == set(first[0].values)
    parts = [
        score_segments(Roller(model, 2), segments, Sampling(), RewardSettings(), repeats=2, seed=3, share=(rank, 3))
        for rank in range(3)
    ]
    assert sorted((s for part in parts for s in part), key=lambda s: (s.segment, s.repeat)) == first
    same = differences(first, again)
    assert all(x.mean == 0 and not x.clear for x in same.values())
    other = score_segments(
        Roller(replace(model, lm=bundle(0).lm), 4), segments, Sampling(padding_bonus=1e6), RewardSettings(), seed=3
    )
    assert {s.segment for s in other} == {"s", "t"}
