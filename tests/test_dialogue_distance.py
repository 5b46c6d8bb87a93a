"""The human reference and distances from it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from duologue.dialogue.distance import (
    DistanceRules,
    divergence,
    histogram,
    human_distance,
    jensen_shannon,
    probabilities,
)
from duologue.dialogue.reference import (
    DISTRIBUTIONS,
    RATES,
    SECONDS,
    Distribution,
    human_distribution,
    human_rate,
    human_seconds,
)

UNIFORM = Distribution(1000, 0.5, np.linspace(0.0, 1.0, 101))


def draw(quantity: str, n: int, seed: int = 0) -> np.ndarray:
    """Values that follow a reference distribution, by its own quantiles (bounded ones only in the last percents)."""
    rng = np.random.default_rng(seed)
    grid = np.linspace(-10, 70, 160_001)
    return np.interp(rng.random(n), human_distribution(quantity).cdf(grid), grid)


def test_bins_are_a_fifth_of_a_second_with_open_tails_and_edges_go_up() -> None:
    counts = histogram([-9.0, -2.0, -1.81, 0.0, 0.2, 2.99, 3.0, 50.0])
    assert len(counts) == 27
    assert counts.sum() == 8
    assert (counts[0], counts[1], counts[11], counts[12], counts[25], counts[26]) == (1, 2, 1, 1, 1, 2)


def test_the_divergence_is_in_bits_and_not_its_root() -> None:
    p, q = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    expected = 0.5 * math.log2(1 / 0.75) + 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25))
    assert jensen_shannon(p, q) == pytest.approx(expected)
    assert jensen_shannon(p, p) == 0.0
    assert jensen_shannon(p, p[::-1]) == pytest.approx(1.0)


def test_a_linear_cdf_gives_equal_bins() -> None:
    found = probabilities(UNIFORM)
    np.testing.assert_allclose(found[11:16], 0.2, atol=0.003)  # the last percents are not linear
    assert found.sum() == pytest.approx(1.0)
    assert found[:11].sum() == 0.0


@pytest.mark.parametrize("quantity", sorted(DISTRIBUTIONS))
def test_every_reference_is_a_distribution_and_its_quantiles_lie_where_they_should(quantity: str) -> None:
    reference = human_distribution(quantity)
    grid = np.linspace(-10, 300, 20_001)
    cdf = reference.cdf(grid)
    assert np.all(np.diff(cdf) >= 0)
    assert cdf[0] == 0.0
    assert cdf[-1] == pytest.approx(1.0)
    strict = np.flatnonzero(np.diff(reference.quantiles_s)[1:-1] > 0) + 1
    np.testing.assert_allclose(reference.cdf(reference.quantiles_s[strict]), strict / 100, atol=1e-9)
    assert probabilities(reference).sum() == pytest.approx(1.0)
    rate = human_rate(quantity)
    assert rate is not None
    assert rate > 0


def test_one_slip_does_not_empty_the_bins_before_it() -> None:
    pause = human_distribution("pause")
    assert pause.quantiles_s[-1] > 60  # one pause of a minute
    shares = probabilities(pause)
    assert 0.002 < shares[21] < 0.006  # 2.0 to 2.2 s: 0.29 % of the pauses in the reference's own calls


def test_rates_without_a_distribution_and_shares_of_time_are_read_too() -> None:
    assert human_rate("barge_in") == pytest.approx(0.733)
    assert human_rate("floor_transfer_offset") == pytest.approx(5.706, abs=1e-3)
    assert human_rate("vap_shift") is None
    assert set(RATES) == {"barge_in", "insertion"}
    assert sum(human_seconds(q) for q in SECONDS) == pytest.approx(60.0, abs=0.01)


@pytest.mark.parametrize("n", [200, 1000, 10_000])
def test_the_floor_is_what_samples_of_the_reference_give(n: int) -> None:
    reference = human_distribution("floor_transfer_offset")
    found = [divergence(draw("floor_transfer_offset", n, seed), reference) for seed in range(60)]
    values = [d.value for d in found]
    assert np.mean(values) == pytest.approx(found[0].floor, rel=0.15)
    assert 0.75 <= np.mean([v <= found[0].floor_p95 for v in values]) <= 1.0


def test_the_floor_follows_the_asymptotic_formula_for_many_events() -> None:
    n, bins = 100_000, 5
    values = np.random.default_rng(1).random(n)
    flat = Distribution(1, 0.5, np.linspace(0.0, 1.0, 101))
    expected = (bins - 1) / (8 * n * math.log(2))
    assert divergence(values, flat).floor == pytest.approx(expected, rel=0.15)


def test_few_events_are_marked_or_refused_and_none_is_nan() -> None:
    reference = human_distribution("ipu")
    few = divergence(draw("ipu", 999), reference)
    assert not few.enough
    assert few.value < 0.05
    assert math.isnan(divergence(draw("ipu", 999), reference, DistanceRules(refuse=True)).value)
    assert divergence(draw("ipu", 1000), reference, DistanceRules(refuse=True)).enough
    none = divergence([], reference)
    assert (none.n, none.enough) == (0, False)
    assert math.isnan(none.value)


def test_the_same_question_has_the_same_answer() -> None:
    assert divergence(draw("ipu", 500), UNIFORM) == divergence(draw("ipu", 500), UNIFORM)


def test_two_samples_are_compared_against_the_floor_of_two() -> None:
    a, b, c = draw("pause", 2000, 1), draw("pause", 2000, 2), draw("pause", 2000, 3) + 0.4
    same, other = divergence(a, b), divergence(a, c)
    assert same.value < same.floor * 2
    assert same.floor > 1.5 * divergence(a, human_distribution("pause")).floor
    assert other.value > 10 * other.floor_p95
    assert not divergence(a, b[:10]).enough


def test_human_talk_is_near_and_late_answers_are_far() -> None:
    offsets = draw("floor_transfer_offset", 3000)
    near = human_distance({"floor_transfer_offset": offsets, "nothing the reference knows": offsets})
    assert list(near) == ["floor_transfer_offset"]
    far = human_distance({"floor_transfer_offset": offsets + 1.0})["floor_transfer_offset"]
    assert near["floor_transfer_offset"].value < near["floor_transfer_offset"].floor_p95 * 1.5
    assert far.value > 0.2
