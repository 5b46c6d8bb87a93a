"""The rewards by the rules of one unit, against a slow second statement of their docstrings on random timelines.

Times are whole ticks of 50 ms, and speech is a row of ticks: no interval of the package takes part, so that rounding,
joining, clipping and matching are checked as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.axes import AXES
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import ReferenceEvent
from duologue.dialogue.timeline import Timeline, Track

TICK_S = 0.05
SECOND = 20
"""Ticks."""
AGENT, USER = 0, 1
Ticks = list[tuple[int, int]]
Event = tuple[str, int, int, int]
"""Kind, start, end, side."""


def stretches(count: int, last: int) -> st.SearchStrategy[Ticks]:
    """At most so many stretches of speech, in order and apart, that end by `last`, often nearly a second apart."""
    silence = st.integers(1, 50) | st.sampled_from([9, 10, 11, 19, 20, 21])
    length = st.integers(1, 60) | st.sampled_from([1, 19, 20, 21])

    def laid(pairs: list[tuple[int, int]]) -> Ticks:
        at, spans = -1, []
        for gap, long in pairs:
            start = at + gap
            if start + long > last:
                break
            spans.append((start, start + long))
            at = start + long
        return spans

    return st.lists(st.tuples(silence, length), max_size=count).map(laid)


def scene_of(start: int, end: int, agent: Ticks, events: Sequence[Event]) -> Scene:
    """A scene in seconds."""
    tracks = Track.of([(a * TICK_S, b * TICK_S) for a, b in agent]), Track.of([])
    told = tuple(ReferenceEvent(kind, a * TICK_S, b * TICK_S, side) for kind, a, b, side in events)
    timeline = Timeline(*tracks, end * TICK_S)
    return Scene(id="x", timeline=timeline, start=start * TICK_S, end=end * TICK_S, events=told)


def earned(axis: str, start: int, end: int, agent: Ticks, events: Sequence[Event]) -> float:
    return AXES[axis].reward(scene_of(start, end, agent, events))[axis]


def row_of(spans: Ticks, length: int) -> list[bool]:
    """Whether each tick lies in a span."""
    return [any(a <= t < b for a, b in spans) for t in range(length)]


def spans_of(row: Sequence[bool]) -> Ticks:
    spans: Ticks = []
    for t, on in enumerate(row):
        if on and spans and spans[-1][1] == t:
            spans[-1] = (spans[-1][0], t + 1)
        elif on:
            spans.append((t, t + 1))
    return spans


def filled(row: Sequence[bool], longest: int) -> list[bool]:
    """The row with every silence of at most `longest` ticks between two sounds filled."""
    row = list(row)
    for a, b in spans_of([not on for on in row]):
        if a > 0 and b < len(row) and b - a <= longest:
            row[a:b] = [True] * (b - a)
    return row


def units(agent: Ticks, start: int, end: int) -> Ticks:
    """Speech joined over silences of at most a second, as far as it lies in the span."""
    whole = filled(row_of(agent, max([end, *(b for _, b in agent)])), SECOND)
    return spans_of([on and start <= t < end for t, on in enumerate(whole)])


def over_talk(agent: Ticks, start: int, end: int, events: Sequence[Event]) -> float:
    """All of 1 for three seconds of speech in the user's turns that is further than a second from the human's."""
    speaks = row_of(agent, end)
    turns = row_of([(a, b) for kind, a, b, side in events if side == USER and kind in ("turn", "interruption")], end)
    near = row_of([(a - SECOND, b + SECOND) for _, a, b, side in events if side == AGENT], end)
    alone = sum(speaks[t] and turns[t] and not near[t] for t in range(start, end))
    return min(alone / (3 * SECOND), 1.0)


def answer(agent: Ticks, user_end: int, end: int, hold: int) -> int | None:
    """When the answer begins, in ticks."""
    parts = [(a, min(b, end)) for a, b in agent if a < end]
    groups: list[Ticks] = []
    for part in parts:
        last = groups[-1][-1][1] if groups else None
        longest = hold if last is not None and last < user_end else SECOND
        if last is not None and part[0] - last <= longest:
            groups[-1].append(part)
        else:
            groups.append([part])
    for group in groups:
        begin, finish = group[0][0], group[-1][1]
        if finish <= user_end:
            continue
        allowed = [a for i, (a, _) in enumerate(group) if i == 0 or group[i - 1][1] - begin <= SECOND]
        nearest = min(allowed, key=lambda a: abs(a - user_end))
        if sum(b - a for a, b in group if a >= nearest) > SECOND:
            return nearest
    return None


def delay(agent: Ticks, user_end: int, end: int, hold: int) -> float:
    """What the answer's distance from the user's end costs, in seconds, at most as much as none."""
    begins, rest = answer(agent, user_end, end, hold), max(end - user_end, 0)
    return (rest if begins is None else min(abs(begins - user_end), rest)) * TICK_S


def pairs(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """The most pairs within a second, by trying every partner of the first."""
    if not ours or not theirs:
        return 0
    first, *others = ours
    best = pairs(others, theirs)
    for i, moment in enumerate(theirs):
        if abs(moment - first) <= SECOND:
            best = max(best, 1 + pairs(others, [*theirs[:i], *theirs[i + 1 :]]))
    return best


STARTS = st.integers(0, 60)


@settings(max_examples=300, deadline=None)
@given(STARTS, stretches(6, 300), st.integers(61, 260))
def test_pauses(start: int, agent: Ticks, end: int) -> None:
    events = [("turn", start, end, USER)]
    takes = any(b - a > SECOND for a, b in units(agent, start, end))
    expected = -1.0 if takes else -over_talk(agent, start, end, events)
    assert earned("pause", start, end, agent, events) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=300, deadline=None)
@given(STARTS, stretches(6, 300), st.integers(90, 260), stretches(4, 240))
def test_backchannels(start: int, agent: Ticks, end: int, human: Ticks) -> None:
    theirs = [(a, b) for a, b in human if start <= a and b <= end and b - a <= SECOND]
    events = [("turn", start, end, USER), *(("backchannel", a, b, AGENT) for a, b in theirs)]
    ours = units(agent, start, end)
    short = [a for a, b in ours if b - a <= SECOND]
    count = len(ours) + len(theirs)
    f1 = 2 * pairs(short, [a for a, _ in theirs]) / count if count else 1.0
    expected = f1 - over_talk(agent, start, end, events)
    assert earned("backchannel", start, end, agent, events) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=500, deadline=None)
@given(STARTS, stretches(8, 420), st.integers(61, 250), st.integers(-60, 60), st.integers(21, 120))
def test_turns(start: int, agent: Ticks, user_end: int, gap: int, long: int) -> None:
    reply = max(user_end + gap, start)
    end = max(user_end + 2 * SECOND, reply + long)
    events = [("turn", start, user_end, USER), ("answer", reply, reply + long, AGENT)]
    expected = -delay(agent, user_end, end, SECOND) - over_talk(agent, start, end, events)
    assert earned("turn_taking", start, end, agent, events) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=500, deadline=None)
@given(
    STARTS, stretches(8, 420), st.integers(20, 80), st.integers(30, 100), st.integers(1, 20), st.integers(30, 100),
    st.integers(-20, 40),
)  # fmt: skip
def test_interruptions(start: int, agent: Ticks, turn: int, broken: int, overlap: int, long: int, gap: int) -> None:
    first_end = start + turn
    broken_end = first_end + broken
    cut_in = broken_end - overlap
    user_end = cut_in + long
    reply = max(user_end + gap, broken_end + 1)
    end = max(user_end + 2 * SECOND, reply + 60)
    events = [
        ("turn", start, first_end, USER), ("interrupted", first_end, broken_end, AGENT),
        ("interruption", cut_in, user_end, USER), ("answer", reply, reply + 60, AGENT),
    ]  # fmt: skip
    expected = -delay(agent, user_end, end, SECOND // 2) - over_talk(agent, start, end, events)
    assert earned("interruption", start, end, agent, events) == pytest.approx(expected, abs=1e-6)
