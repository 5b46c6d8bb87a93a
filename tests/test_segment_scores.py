"""Models on the same segments: each alone, and what changed between two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from duologue.bench.segment_scores import Played, differences, hearing, paired, plain_rows, played_rows
from duologue.engine.sampling import Sampling
from duologue.train.align_settings import RewardSettings
from duologue.train.rollouts import Roller, record
from duologue.train.segment_scores import Scored, score_segments, summary
from test_rollouts import bundle, segment


def scored(name: str, *values: float, axis: str = "pause", metric: str = "m") -> list[Scored]:
    return [Scored(axis, name, k, {metric: value}) for k, value in enumerate(values)]


def rewarded(axis: str, rewards: Sequence[float]) -> list[Scored]:
    return [s for i, x in enumerate(rewards) for s in scored(str(i), x, axis=axis, metric=f"reward_{axis}")]


def test_differences_pair_segments_and_average_repeats() -> None:
    before = scored("a", 1, 3) + scored("b", 0, 0) + scored("only before", 9) + scored("c", math.nan)
    after = scored("a", 4) + scored("b", 2, 4) + scored("c", 7)
    found = differences(paired(before, after))["m"]
    assert (found.before, found.after, found.mean, found.segments) == (1, 3.5, 2.5, 2)
    assert (found.low, found.high) == (2, 3)
    assert found.clear
    assert summary(after)["m"] == pytest.approx((4 + 3 + 7) / 3)


def test_nothing_shared_is_no_difference_and_one_segment_has_no_interval() -> None:
    assert differences(paired(scored("a", 1), scored("b", 1))) == {}
    found = differences(paired(scored("a", 1), scored("a", 2)))["m"]
    assert found.mean == 1
    assert math.isnan(found.low)
    assert math.isnan(found.p)
    assert not found.clear


class TestHearing:
    """A model whose rewards hang on whom it hears, and one that keeps time."""

    own = rewarded("pause", [0, 0, -1, 0]) + rewarded("turn_taking", [-1.0, -2.0, -1.0, -2.0])
    deaf = rewarded("pause", [0, -1, -1, 0]) + rewarded("turn_taking", [-1.0, -2.0, -3.0, -4.0])

    def test_its_gain_is_the_reward_with_the_own_user_less_that_with_another(self) -> None:
        rows = paired(self.deaf, self.own, (self.deaf, self.deaf))
        assert {axis: e.mean for axis, e in hearing(rows, "before").items()} == {
            "pause": 0, "turn_taking": 0, "sum_z": 0
        }  # fmt: skip
        gains = hearing(rows, "after")
        assert gains["pause"].mean == 0.25
        assert gains["turn_taking"].mean == 1.0
        assert gains["pause"].segments == 4

    def test_gains_add_up_over_the_spread_of_the_model_before(self) -> None:
        rows = paired(self.deaf, self.own, (self.deaf, self.deaf))
        assert hearing(rows, "after")["sum_z"].mean == pytest.approx(0.25 / 0.5 + 1.0 / math.sqrt(1.25))
        changed = differences(rows)
        assert changed["hearing_sum_z"].mean == pytest.approx(0.25 / 0.5 + 1.0 / math.sqrt(1.25))
        assert changed["reward_sum_z"].before == pytest.approx(0.0)
        assert changed["reward_sum_z"].after == pytest.approx(0.25 / 0.5 + 1.0 / math.sqrt(1.25))
        assert changed["hearing_turn_taking"][:3] == (0.0, 1.0, 1.0)

    def test_without_another_user_nothing_is_said_of_it(self) -> None:
        rows = paired(self.deaf, self.own)
        assert hearing(rows, "after") == {}
        assert not [name for name in differences(rows) if name.startswith("hearing")]


def test_an_axis_on_which_the_model_before_never_varies_has_no_unit() -> None:
    rows = paired(rewarded("pause", [0, 0]), rewarded("pause", [0, -1]))
    assert differences(rows)["reward_pause"].mean == -0.5
    assert "reward_sum_z" not in differences(rows)


def test_over_seeds_shared_segments_are_averaged_and_seeds_widen_the_interval() -> None:
    before = rewarded("pause", [0.0] * 20)
    one, two = (paired(before, rewarded("pause", [x] * 20)) for x in (0.2, 0.6))
    alone, both = differences(one)["reward_pause"], differences(one, two[:15])["reward_pause"]
    assert (alone.low, alone.high, len(alone.by_seed)) == (pytest.approx(0.2), pytest.approx(0.2), 1)
    assert (both.mean, both.segments) == (pytest.approx(0.4), 15)
    assert both.by_seed == pytest.approx((0.2, 0.6))
    assert (both.low, both.high) == (pytest.approx(0.2), pytest.approx(0.6))


def test_what_was_played_is_read_as_it_was_written() -> None:
    rows = paired(TestHearing.deaf, TestHearing.own, (TestHearing.deaf, []))
    assert played_rows(plain_rows(rows)) == rows
    assert rows[0] == Played(
        axis="pause", segment="0", before={"reward_pause": 0}, after={"reward_pause": 0},
        other_before={"reward_pause": 0}, other_after={},
    )  # fmt: skip


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
    same = differences(paired(first, again))
    assert all(x.mean == 0 and not x.clear for x in same.values())
    other = score_segments(
        Roller(replace(model, lm=bundle(0).lm), 4), segments, Sampling(padding_bonus=1e6), RewardSettings(), seed=3
    )
    assert {s.segment for s in other} == {"s", "t"}
