"""Charts: the numbers in the drawing are those that went in."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.base.charts import Bar, Reference, bars, cumulative, histogram

NAN = float("nan")


def shares_of(svg: str) -> list[float]:
    return [float(share) for share in re.findall(r": ([\d.]+) %</title>", svg)]


def test_histogram_counts_every_value_once():
    svg = histogram([0.0, 0.5, 1.0, 1.5, 2.0], [0, 1, 2], x_label="delay (s)")
    assert shares_of(svg) == [
        40.0,
        60.0,
    ]  # an inner edge belongs to the bin on its right, the last edge to the last bin


def test_values_outside_are_counted_at_open_ends_and_named_elsewhere():
    values = [-5, 0.5, 9, 9]
    assert shares_of(histogram(values, [0, 1, 2], x_label="x", open_ends=True)) == [50.0, 50.0]
    closed = histogram(values, [0, 1, 2], x_label="x")
    assert shares_of(closed) == [25.0]
    assert "(n = 4, 3 outside)" in closed


def test_values_not_measured_are_named_not_drawn():
    svg = histogram([0.5, NAN, float("inf")], [0, 1], x_label="x", name="nano")
    assert shares_of(svg) == [100.0]
    assert "nano (n = 1, 2 not measured)" in svg
    assert "nan" not in svg.replace("nano", "")


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=40))
def test_shares_with_open_ends_sum_to_one_hundred(values):
    svg = histogram(values, [-2, -1, 0, 1, 2], x_label="x", open_ends=True)
    assert sum(shares_of(svg)) == pytest.approx(100, abs=0.5)


def test_reference_is_the_same_however_it_is_given():
    by_quantiles = Reference.from_quantiles("human", [0.0, 1.0, 3.0])
    by_shares = Reference.from_shares("human", [0.0, 1.0, 3.0], [0.5, 0.5])
    for value, share in ((-1, 0), (0.5, 0.25), (1, 0.5), (2, 0.75), (3, 1), (9, 1)):
        assert by_quantiles.at(value) == by_shares.at(value) == pytest.approx(share)


def test_reference_with_repeated_quantiles_jumps_there():
    reference = Reference.from_quantiles("words", [1, 1, 1, 2, 5])
    assert reference.at(0.99) == 0
    assert reference.at(1) == 0.5


@settings(max_examples=50)
@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(NAN), max_size=300),
    st.sampled_from([None, Reference.from_quantiles("human", [-1.0, 0.0, 2.0])]),
)
def test_drawings_are_well_formed_and_inside_their_frame(values, reference):
    for svg in (
        histogram(values, [-1, 0, 1, 2], x_label="a <b> & c", reference=reference),
        cumulative({"one": values, "two": values[:3]}, x_label="x", reference=reference),
        bars([Bar("<b>", value, value - 1, value + 1) for value in values[:5]], x_label="x"),
    ):
        root = ElementTree.fromstring(svg)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        for path in root.iter("{http://www.w3.org/2000/svg}path"):
            for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.attrib["d"]):
                assert -1 <= float(x) <= width + 1
                assert -1 <= float(y) <= height + 1


def test_cumulative_curve_passes_through_the_median():
    svg = cumulative({"one": [float(i) for i in range(1001)]}, x_label="x", x_range=(0, 1000))
    points = [tuple(map(float, p)) for p in re.findall(r"(-?[\d.]+) (-?[\d.]+)", re.search(r'd="(M46.*?)"', svg)[1])]
    (left, bottom), (right, top) = points[0], points[-1]
    middle = min(points, key=lambda p: abs(p[0] - (left + right) / 2))
    assert middle[1] == pytest.approx((bottom + top) / 2, abs=1)


def test_more_curves_than_can_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="5 series"):
        cumulative({str(i): [1.0] for i in range(5)}, x_label="x")


def test_bars_print_value_and_interval_and_name_what_is_missing():
    svg = bars([Bar("pause", 0.12, 0.05, 0.19), Bar("gap", None)], x_label="change")
    assert "0.12 [0.05, 0.19]" in svg
    assert "not measured" in svg
    assert svg.count("<circle") == 1


def test_nothing_measured_is_said():
    for svg in (histogram([NAN], [0, 1], x_label="x"), cumulative({"a": []}, x_label="x"), bars([], x_label="x")):
        assert "nothing was measured" in svg
