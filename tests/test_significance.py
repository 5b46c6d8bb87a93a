"""Intervals, tests and their correction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from duologue.bench.significance import Estimate, estimated, holm


def drawn(seeds: int, segments: int, mean: float, number: int = 0) -> np.ndarray:
    return np.random.default_rng(number).normal(mean, 1.0, (seeds, segments))


def test_the_interval_of_one_seed_is_that_of_the_mean() -> None:
    values = drawn(1, 100, 0.3)
    found = estimated([values])
    half = 1.96 * values.std() / 10
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    assert (found.segments, len(found.by_seed)) == (100, 1)


def test_intervals_of_95_per_cent_hold_the_truth_as_often() -> None:
    held = [e.low <= 0.3 <= e.high for e in (estimated([drawn(1, 60, 0.3, n)]) for n in range(120))]
    assert 0.88 <= np.mean(held) <= 0.99


def test_seeds_that_differ_widen_the_interval_though_segments_agree() -> None:
    noise = drawn(1, 400, 0.0)
    apart = np.array([[-0.5], [0.0], [0.5]]) + noise
    together = np.zeros((3, 1)) + noise
    wide, narrow = estimated([apart]), estimated([together])
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_a_segment_that_all_seeds_met_counts_once() -> None:
    """Drawn within each seed, as if every seed had segments of its own, ten seeds would shrink the interval to a
    third."""
    once = drawn(1, 100, 0.0)
    one, ten = estimated([once]), estimated([np.repeat(once, 10, axis=0)])
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.05)


def test_strata_add_up_and_each_keeps_its_number_of_segments() -> None:
    few, many = drawn(1, 10, 1.0), drawn(1, 1000, 2.0, 1)
    found = estimated([few, many])
    assert found.mean == pytest.approx(few.mean() + many.mean())
    assert found.segments == 1010
    spread = math.hypot(few.std() / math.sqrt(10), many.std() / math.sqrt(1000))
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_what_is_unknown_is_left_out() -> None:
    values = np.array([[1.0, 2.0, math.nan, math.nan], [3.0, math.nan, 4.0, math.nan]])
    found = estimated([values])
    assert found.mean == pytest.approx(2.5)
    assert found.segments == 3
    assert found.by_seed == (1.5, 3.5)
    with pytest.raises(ValueError, match="no common mean"):
        estimated([np.full((1, 3), math.nan)])


def test_chance_is_seldom_called_a_difference_and_a_difference_often() -> None:
    by_chance = [estimated([drawn(1, 30, 0.0, n)]).p for n in range(100)]
    assert np.mean(np.array(by_chance) < 0.05) <= 0.1
    assert estimated([drawn(1, 60, 1.0)]).p < 0.001
    assert estimated([drawn(3, 60, 1.0)]).p < 0.001
    assert estimated([np.zeros((1, 8))]).p == 1.0


def test_what_rounding_leaves_is_no_difference() -> None:
    for seeds in (1, 3):
        found = estimated([np.full((seeds, 9), 0.1 + 0.2 - 0.3)])
        assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)
        assert not found.clear


def test_two_segments_never_prove_anything() -> None:
    assert estimated([np.array([[1.0, 1.1]])]).p == pytest.approx(0.5, abs=0.02)


def test_p_is_exact_for_few_segments() -> None:
    """Of the 16 signs of four equal differences two are as far from 0."""
    assert estimated([np.ones((1, 4))]).p == pytest.approx(2 / 16, abs=0.01)


def test_holm_steps_down() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.024, "d": math.nan, "e": 0.3}, 0.05)
    assert found.total == 4
    assert found.surviving == {"a"}  # 0.024 is above 0.05 / 3
    assert holm({"a": 0.01, "b": 0.04, "c": 0.02}, 0.05).surviving == {"a", "b", "c"}


def test_an_estimate_is_clear_if_its_interval_excludes_0() -> None:
    assert Estimate(1, 0.1, 2, 0.01, 9, (1,)).clear
    assert not Estimate(1, -0.1, 2, 0.01, 9, (1,)).clear
    assert not Estimate(1, math.nan, math.nan, math.nan, 1, (1,)).clear
