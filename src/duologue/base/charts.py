"""Small charts as SVG text, made without a plotting library: histogram, cumulative curves, bars with intervals.

They take their colours from the report page's CSS variables (with fixed colours where there are none), so that one
drawing serves light and dark. Series differ by line style as well as by colour. Values that are not finite are left
out, and the drawing says how many.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate, pairwise

WIDTH = 400
HEIGHT = 240
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 40
INK = "var(--ink, #1c2024)"
SOFT = "var(--soft, #5b636b)"
COLOURS = ("var(--user, #0a62a4)", "var(--agent, #bf4a06)", "var(--third, #1b7a4b)", "var(--fourth, #84419c)")
DASHES = ("", "7 3", "2 3", "9 3 2 3")
MOST_POINTS = 240
CHARACTER = 6.3  # rough width of a letter at the charts' text size


@dataclass(frozen=True, slots=True)
class Reference:
    """A known distribution to compare with: its cumulative share (0 to 1) at rising values `x`."""

    name: str
    x: Sequence[float]
    share: Sequence[float]

    @classmethod
    def from_quantiles(cls, name: str, quantiles: Sequence[float]) -> Reference:
        """From evenly spaced quantiles, the smallest value first and the largest last."""
        last = len(quantiles) - 1
        return cls(name, tuple(quantiles), tuple(i / last for i in range(last + 1)))

    @classmethod
    def from_shares(cls, name: str, edges: Sequence[float], shares: Sequence[float]) -> Reference:
        """From the share of each bin; `edges` has one more entry than `shares`."""
        return cls(name, tuple(edges), (0.0, *accumulate(shares)))

    def at(self, value: float) -> float:
        """The share of the distribution at or below `value`, in a straight line between known points."""
        right = bisect_right(self.x, value)
        if right == 0:
            return 0.0
        if right == len(self.x):
            return self.share[-1]
        x0, x1 = self.x[right - 1], self.x[right]
        y0, y1 = self.share[right - 1], self.share[right]
        return y0 + (y1 - y0) * (value - x0) / (x1 - x0)


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of `bars`: a value with the interval it is known to lie in (NaN or None: not measured)."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None


def histogram(
    values: Iterable[float],
    edges: Sequence[float],
    *,
    x_label: str,
    name: str = "here",
    reference: Reference | None = None,
    open_ends: bool = False,
) -> str:
    """Shares of `values` in the bins between `edges` (left edge in, right edge out; the last bin holds both) as SVG.

    Args:
        values: any finite ones are counted; what is not finite is named in the legend.
        edges: rising bin edges, in the unit of `x_label`.
        x_label: what the values are, with the unit: "floor-transfer offset (s)".
        name: the values' name in the legend.
        reference: drawn as a line over the bars, in the same bins.
        open_ends: count what lies outside the edges in the first and last bin; otherwise it is left out of the bars
            but stays in the total, so that shares remain shares of all values.
    """
    known, lost = _finite(values)
    bins = len(edges) - 1
    counts = [0] * bins
    outside = 0
    for value in known:
        index = bins - 1 if value == edges[-1] else bisect_right(edges, value) - 1
        if not 0 <= index < bins:
            if not open_ends:
                outside += 1
                continue
            index = max(0, min(bins - 1, index))
        counts[index] += 1
    shares = [100 * count / len(known) for count in counts] if known else [0.0] * bins
    expected = _expected(reference, edges, open_ends) if reference else []
    y_max = max([*shares, *expected, 1e-9]) * 1.08
    frame = _Frame(edges[0], edges[-1], 0.0, y_max)
    bars = [
        f'<rect x="{frame.x(a):.1f}" y="{frame.y(s):.1f}" width="{max(0.5, frame.x(b) - frame.x(a) - 1):.1f}" '
        f'height="{frame.y(0) - frame.y(s):.1f}" fill="{COLOURS[0]}" fill-opacity="0.55">'
        f"<title>{_number(a)} to {_number(b)}: {s:.1f} %</title></rect>"
        for (a, b), s in zip(pairwise(edges), shares, strict=True)
        if s
    ]
    legend = [_Entry(_counted(name, len(known), lost, outside), COLOURS[0], "", bar=True)]
    if reference:
        points = [(frame.x(x), frame.y(s)) for (a, b), s in zip(pairwise(edges), expected, strict=True) for x in (a, b)]
        bars.append(_line(points, COLOURS[1], ""))
        legend.append(_Entry(reference.name, COLOURS[1], ""))
    ends = ("≤ " if open_ends else "", "≥ " if open_ends else "")
    body = _axes(frame, x_label, "share (%)", ends=ends) + "".join(bars)
    return _svg(body, legend, f"Histogram of {x_label}", empty=not known and reference is None)


def cumulative(
    series: Mapping[str, Iterable[float]],
    *,
    x_label: str,
    x_range: tuple[float, float] | None = None,
    reference: Reference | None = None,
) -> str:
    """Cumulative shares of up to four sets of values as SVG: at each x, how many percent are at most x.

    Args:
        series: name to values; each gets a colour and a line style.
        x_label: what the values are, with the unit.
        x_range: ends of the axis; None takes the 1st to 99th percentile of everything shown.
        reference: drawn in ink, thin.

    Raises:
        ValueError: more than four series.
    """
    if len(series) > len(COLOURS):
        raise ValueError(f"{len(series)} series; at most {len(COLOURS)} can be told apart")
    known = {name: _finite(values) for name, values in series.items()}
    low, high = x_range or _range([v for v, _ in known.values()], reference)
    frame = _Frame(low, high, 0.0, 100.0)
    lines, legend = [], []
    for (name, (values, lost)), colour, dash in zip(known.items(), COLOURS, DASHES, strict=False):
        legend.append(_Entry(_counted(name, len(values), lost), colour, dash))
        if values:
            lines.append(_line(_steps(sorted(values), frame), colour, dash))
    if reference:
        xs = [low + (high - low) * i / MOST_POINTS for i in range(MOST_POINTS + 1)]
        lines.insert(0, _line([(frame.x(x), frame.y(100 * reference.at(x))) for x in xs], INK, "", width=1.2))
        legend.append(_Entry(reference.name, INK, "", thin=True))
    body = _axes(frame, x_label, "share at or below (%)") + "".join(lines)
    empty = not any(values for values, _ in known.values()) and reference is None
    return _svg(body, legend, f"Cumulative shares of {x_label}", empty=empty)


def curves(series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str) -> str:
    """Up to four curves as SVG, each through its points (x, y) in their order.

    Raises:
        ValueError: more than four series.
    """
    if len(series) > len(COLOURS):
        raise ValueError(f"{len(series)} series; at most {len(COLOURS)} can be told apart")
    known = {name: [(x, y) for x, y in points if math.isfinite(x + y)] for name, points in series.items()}
    everything = [point for points in known.values() for point in points]
    frame = _Frame(*_ends([x for x, _ in everything]), *_ends([y for _, y in everything]))
    lines, legend = [], []
    for (name, points), colour, dash in zip(known.items(), COLOURS, DASHES, strict=False):
        legend.append(_Entry(_counted(name, len(points), len(series[name]) - len(points)), colour, dash))
        if points:
            lines.append(_line([(frame.x(x), frame.y(y)) for x, y in points], colour, dash))
    body = _axes(frame, x_label, y_label) + "".join(lines)
    return _svg(body, legend, f"{y_label} over {x_label}", empty=not any(known.values()))


def bars(rows: Sequence[Bar], *, x_label: str, zero: bool = True) -> str:
    """Values with their intervals as SVG, one row each: a dot, a line from low to high, the numbers at the right.

    Args:
        rows: in the order to be drawn, from above.
        x_label: what the values are, with the unit.
        zero: the axis includes 0 and marks it.
    """
    numbers = [n for row in rows for n in (row.value, row.low, row.high) if n is not None and math.isfinite(n)]
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    margin = (high - low or 1.0) * 0.04
    texts = [_row_text(row) for row in rows]
    left = 10 + min(170.0, max([len(row.label) for row in rows], default=0) * CHARACTER)
    right = 14 + max([len(text) for text in texts], default=0) * CHARACTER
    height = 26 * len(rows) + TOP + BOTTOM
    low, high = low if zero and low == 0 else low - margin, high if zero and high == 0 else high + margin
    frame = _Frame(low, high, 0.0, 1.0, left=left, right=right, height=height)
    parts = [_axes(frame, x_label, "", y_axis=False)]
    if zero:
        parts.append(
            f'<line x1="{frame.x(0):.1f}" x2="{frame.x(0):.1f}" y1="{TOP}" y2="{height - BOTTOM}" stroke="{SOFT}"/>'
        )
    for index, (row, text) in enumerate(zip(rows, texts, strict=True)):
        y = TOP + 26 * index + 13
        label = row.label if len(row.label) * CHARACTER <= 172 else row.label[:26] + "…"
        parts.append(_text(left - 8, y + 4, label, anchor="end", title=row.label))
        parts.append(_text(WIDTH - 4, y + 4, text, anchor="end"))
        if row.value is None or not math.isfinite(row.value):
            continue
        if row.low is not None and row.high is not None and math.isfinite(row.low) and math.isfinite(row.high):
            a, b = frame.x(row.low), frame.x(row.high)
            path = f"M{a:.1f} {y}H{b:.1f}M{a:.1f} {y - 5}V{y + 5}M{b:.1f} {y - 5}V{y + 5}"
            parts.append(f'<path d="{path}" stroke="{COLOURS[0]}" stroke-width="2" fill="none"/>')
        parts.append(f'<circle cx="{frame.x(row.value):.1f}" cy="{y}" r="4.5" fill="{COLOURS[0]}"/>')
    return _svg("".join(parts), [], f"Values of {x_label}", empty=not rows, height=height)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The plot's area and its two scales."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    left: float = LEFT
    right: float = RIGHT
    height: float = HEIGHT

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return self.left + share * (WIDTH - self.left - self.right)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.height - BOTTOM - share * (self.height - BOTTOM - TOP)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the legend."""

    text: str
    colour: str
    dash: str
    bar: bool = False
    thin: bool = False


def _finite(values: Iterable[float]) -> tuple[list[float], int]:
    """The finite values, and how many were not."""
    everything = [float(value) for value in values]
    known = [value for value in everything if math.isfinite(value)]
    return known, len(everything) - len(known)


def _counted(name: str, known: int, lost: int, outside: int = 0) -> str:
    remarks = [f"n = {known}"]
    if lost:
        remarks.append(f"{lost} not measured")
    if outside:
        remarks.append(f"{outside} outside")
    return f"{name} ({', '.join(remarks)})"


def _expected(reference: Reference, edges: Sequence[float], open_ends: bool) -> list[float]:
    """The reference's share of each bin in percent."""
    cuts = [reference.at(edge) for edge in edges]
    if open_ends:
        cuts[0], cuts[-1] = 0.0, reference.share[-1]
    return [100 * (b - a) for a, b in pairwise(cuts)]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest, or some place around a single value."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _range(sets: Sequence[Sequence[float]], reference: Reference | None) -> tuple[float, float]:
    """From the smallest 1st to the largest 99th percentile of all sets."""
    ends = []
    for values in sets:
        ordered = sorted(values)
        if ordered:
            ends += [ordered[len(ordered) // 100], ordered[-1 - len(ordered) // 100]]
    if reference:
        last = len(reference.x) - 1
        ends += [
            reference.x[min(bisect_left(reference.share, 0.01), last)],
            reference.x[min(bisect_left(reference.share, 0.99), last)],
        ]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _steps(ordered: Sequence[float], frame: _Frame) -> list[tuple[float, float]]:
    """The stairs of sorted values within the frame, thinned to what can be seen."""
    total = len(ordered)
    points = [(frame.x(frame.x_low), frame.y(100 * bisect_left(ordered, frame.x_low) / total))]
    for i in range(MOST_POINTS + 1) if total > MOST_POINTS else ():
        x = frame.x_low + (frame.x_high - frame.x_low) * i / MOST_POINTS
        points.append((frame.x(x), frame.y(100 * bisect_right(ordered, x) / total)))
    if total <= MOST_POINTS:
        for index, value in enumerate(ordered):
            if frame.x_low <= value <= frame.x_high:
                points += [
                    (frame.x(value), frame.y(100 * index / total)),
                    (frame.x(value), frame.y(100 * (index + 1) / total)),
                ]
    points.append((frame.x(frame.x_high), frame.y(100 * bisect_right(ordered, frame.x_high) / total)))
    return points


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round values between `low` and `high`, at most about `most` of them."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _axes(frame: _Frame, x_label: str, y_label: str, *, ends: tuple[str, str] = ("", ""), y_axis: bool = True) -> str:
    bottom = frame.height - BOTTOM
    right = WIDTH - frame.right
    parts = []
    if y_axis:
        for value in _ticks(frame.y_low, frame.y_high, 5):
            y = frame.y(value)
            parts.append(
                f'<line x1="{frame.left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{SOFT}" stroke-opacity="0.2"/>'
            )
            parts.append(_text(frame.left - 6, y + 4, _number(value), anchor="end", colour=SOFT))
        middle = (TOP + bottom) / 2
        parts.append(
            f'<text transform="translate(12 {middle:.1f}) rotate(-90)" text-anchor="middle" font-size="12" '
            f'fill="{SOFT}">{escape(y_label)}</text>'
        )
    parts.append(f'<line x1="{frame.left:.1f}" x2="{right:.1f}" y1="{bottom}" y2="{bottom}" stroke="{SOFT}"/>')
    ticks = _ticks(frame.x_low, frame.x_high, max(2, round((right - frame.left) / 60)))
    for value in ticks:
        x = frame.x(value)
        end = ends[0] if value == frame.x_low else ends[1] if value == frame.x_high else ""
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="{SOFT}"/>')
        parts.append(_text(x, bottom + 17, end + _number(value), anchor="middle", colour=SOFT))
    parts.append(_text((frame.left + right) / 2, frame.height - 5, x_label, anchor="middle", colour=SOFT))
    return "".join(parts)


def _svg(body: str, legend: Sequence[_Entry], title: str, *, empty: bool, height: float = HEIGHT) -> str:
    if empty:
        body = _text(WIDTH / 2, height / 2, "nothing was measured", anchor="middle", colour=SOFT)
        legend = ()
    keys = []
    for index, entry in enumerate(legend):
        y = height + 8 + 17 * index
        key = (
            f'<rect x="{LEFT}" y="{y - 5:.1f}" width="24" height="10" fill="{entry.colour}" fill-opacity="0.55"/>'
            if entry.bar
            else _line([(LEFT, y), (LEFT + 24, y)], entry.colour, entry.dash, width=1.2 if entry.thin else 2.2)
        )
        keys.append(key + _text(LEFT + 32, y + 4, entry.text))
    total = height + (17 * len(legend) + 4 if legend else 0)
    names = "; ".join(entry.text for entry in legend)
    spoken = escape(f"{title}: {names}" if names else title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total:g}" role="img" aria-label="{spoken}" '
        f'font-family="system-ui, sans-serif" font-size="12">{body}{"".join(keys)}</svg>'
    )


def _line(points: Sequence[tuple[float, float]], colour: str, dash: str, *, width: float = 2.2) -> str:
    style = f' stroke-dasharray="{dash}"' if dash else ""
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"{style}/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK, title: str = "") -> str:
    hint = f"<title>{escape(title)}</title>" if title and title != text else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}{hint}</text>'


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _row_text(row: Bar) -> str:
    if row.value is None or not math.isfinite(row.value):
        return "not measured"
    text = _number(row.value)
    if row.low is not None and row.high is not None and math.isfinite(row.low) and math.isfinite(row.high):
        text += f" [{_number(row.low)}, {_number(row.high)}]"
    return text
