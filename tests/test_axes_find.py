"""Finders of the four axes: equal to a second, brute-force statement of the criteria, and right on each edge."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.axes import AXES, backchannel, interruption, pause, turn_taking
from duologue.axes.backchannel import BackchannelConfig
from duologue.axes.finding import AxisConfig, Found
from duologue.axes.interruption import InterruptionConfig
from duologue.axes.pause import PauseConfig
from duologue.axes.turn_taking import TurnTakingConfig
from duologue.base.errors import UserError
from duologue.dialogue.timeline import Timeline, Track

Spans = list[tuple[int, int]]
"""Speech in whole milliseconds."""


def timeline(agent: Spans, user: Spans, duration: int = 200_000) -> Timeline:
    tracks = [Track.of(np.array(spans, dtype=float).reshape(-1, 2) / 1000) for spans in (agent, user)]
    return Timeline(tracks[0], tracks[1], duration / 1000)


# ---- the criteria a second time, in milliseconds and without any shared code -------------------------------------


def merged(spans: Spans) -> Spans:
    out: Spans = []
    for a, b in spans:
        if out and a - out[-1][1] <= 1000:
            out[-1] = (out[-1][0], b)
        else:
            out.append((a, b))
    return out


def line(agent: Spans, user: Spans) -> list[tuple[int, int, str]]:
    return sorted([(a, b, "Y") for a, b in merged(agent)] + [(a, b, "X") for a, b in merged(user)])


def brute_pause(agent: Spans, user: Spans) -> list[tuple[int, int]]:
    found = []
    for a, b in merged(user):
        pieces = [s for s in user if a <= s[0] and s[1] <= b]
        if b - a >= 4000 and len(pieces) >= 2 and all(d <= a or c >= b for c, d in agent):
            found.append((a, b))
    return found


def brute_turn(agent: Spans, user: Spans, least_gap: float = -500) -> list[tuple[int, int]]:
    u = line(agent, user)
    return [
        (u[i][0], u[i + 1][1])
        for i in range(len(u) - 1)
        if u[i][2] + u[i + 1][2] == "XY"
        and u[i][1] - u[i][0] >= 5000
        and u[i + 1][1] - u[i + 1][0] >= 5000
        and least_gap <= u[i + 1][0] - u[i][1] <= 400
    ]


def brute_backchannel(agent: Spans, user: Spans) -> list[tuple[int, int]]:
    found = []
    for a, b in merged(user):
        shared = [(c, d) for c, d in merged(agent) if c < b and d > a]
        if b - a >= 5000 and shared and all(d - c <= 1000 and a <= c and d <= b for c, d in shared):
            found.append((a, b))
    return found


def brute_interruption(agent: Spans, user: Spans, least_gap: float = -math.inf) -> list[tuple[int, int]]:
    u = line(agent, user)
    return [
        (u[i][0], u[i + 3][1])
        for i in range(len(u) - 3)
        if "".join(x[2] for x in u[i : i + 4]) == "XYXY"
        and all(x[1] - x[0] >= 3000 for x in u[i : i + 4])
        and u[i + 2][0] < u[i + 1][1]
        and u[i + 3][0] - u[i + 2][1] >= least_gap
    ]


BRUTE: dict[str, Callable[..., list[tuple[int, int]]]] = {
    "pause": brute_pause,
    "turn_taking": brute_turn,
    "backchannel": brute_backchannel,
    "interruption": brute_interruption,
}


@st.composite
def talks(draw: st.DrawFn) -> tuple[Spans, Spans]:
    """Two sides that mostly take turns, with lengths and silences on and around every threshold."""
    lengths = st.sampled_from([300, 999, 1000, 1001, 2999, 3000, 3500, 3999, 4000, 4999, 5000, 5001, 7000])
    steps = st.sampled_from([-6000, -3001, -3000, -1500, -500, -1, 1, 399, 400, 401, 999, 1000, 1001, 2000])
    sides: tuple[Spans, Spans] = ([], [])
    now = 0
    for side, step, length in draw(st.lists(st.tuples(st.integers(0, 1), steps, lengths), min_size=3, max_size=14)):
        start = max(now + step, sides[side][-1][1] + 1 if sides[side] else 0)
        sides[side].append((start, start + length))
        now = start + length
    return sides


@pytest.mark.parametrize("axis", AXES)
@settings(max_examples=400, deadline=None)
@given(talks())
def test_finders_select_exactly_what_the_criteria_say(axis: str, talk: tuple[Spans, Spans]) -> None:
    agent, user = talk
    found = AXES[axis].find(timeline(agent, user))
    expected = BRUTE[axis](agent, user)
    assert [round(f.start * 1000) for f in found] == [a for a, _ in expected]
    for f, (_, end) in zip(found, expected, strict=True):
        assert f.end * 1000 >= end - 0.01  # a tail may follow, never cut
        assert all(e.side in (0, 1) and e.start < e.end for e in f.events)
        assert list(f.events) == sorted(f.events, key=lambda e: e.start)
        assert f.rule


@pytest.mark.parametrize(
    ("axis", "config", "least_gap"),
    [
        ("turn_taking", TurnTakingConfig(least_gap_s=-math.inf), -math.inf),  # as in the paper
        ("turn_taking", TurnTakingConfig(least_gap_s=0), 0),
        ("interruption", InterruptionConfig(least_gap_s=-0.5), -500),
    ],
)
@settings(max_examples=200, deadline=None)
@given(talks())
def test_how_early_an_answer_may_begin_is_a_choice(
    axis: str, config: AxisConfig, least_gap: float, talk: tuple[Spans, Spans]
) -> None:
    found = AXES[axis].find(timeline(*talk), config)
    assert [round(f.start * 1000) for f in found] == [a for a, _ in BRUTE[axis](*talk, least_gap)]


def test_random_talks_hold_segments_of_every_axis() -> None:
    """The property above is not empty."""
    counts = dict.fromkeys(AXES, 0)

    @settings(max_examples=400, deadline=None, database=None)
    @given(talks())
    def count(talk: tuple[Spans, Spans]) -> None:
        for axis in AXES:
            counts[axis] += len(BRUTE[axis](*talk))

    count()
    assert min(counts.values()) >= 10, counts


# ---- edges -------------------------------------------------------------------------------------------------------


def spans(found: list[Found]) -> list[tuple[float, float]]:
    return [(round(f.start, 3), round(f.end, 3)) for f in found]


@pytest.mark.parametrize(("silence", "taken"), [(1000, True), (1001, False), (40, True)])
def test_a_silence_of_one_second_is_a_pause_and_a_longer_one_ends_the_utterance(silence: int, taken: bool) -> None:
    user = [(10_000, 12_000), (12_000 + silence, 15_500)]
    assert bool(pause.find(timeline([], user))) == taken


@pytest.mark.parametrize(("end", "taken"), [(14_000, True), (13_999, False)])
def test_an_utterance_of_exactly_the_least_length_counts(end: int, taken: bool) -> None:
    assert bool(pause.find(timeline([], [(10_000, 11_000), (11_500, end)]))) == taken


def test_an_utterance_without_a_pause_is_no_pause_segment() -> None:
    assert pause.find(timeline([], [(10_000, 18_000)])) == []


@pytest.mark.parametrize(("partner", "taken"), [((15_000, 16_000), True), ((14_990, 16_000), False),
                                                ((9_000, 10_000), True), ((12_000, 12_050), False)])  # fmt: skip
def test_the_partner_is_silent_from_the_first_word_to_the_last(partner: tuple[int, int], taken: bool) -> None:
    assert bool(pause.find(timeline([partner], [(10_000, 12_000), (12_500, 15_000)]))) == taken


def test_silence_around_the_utterance_can_be_asked_for() -> None:
    talk = timeline([(8_500, 9_500), (15_800, 16_000)], [(10_000, 12_000), (12_500, 15_000)])
    assert pause.find(talk, PauseConfig(silent_before_s=0.5, silent_after_s=0.8))
    assert not pause.find(talk, PauseConfig(silent_before_s=0.6))
    assert not pause.find(talk, PauseConfig(silent_after_s=0.9))
    assert not pause.find(talk, PauseConfig(least_pause_s=0.6))


def test_pauses_are_the_events_of_a_pause_segment() -> None:
    (found,) = pause.find(timeline([], [(10_000, 12_000), (12_500, 15_000), (15_250, 16_000)]))
    assert [(e.kind, e.start, e.end, e.side) for e in found.events] == [
        ("turn", 10.0, 16.0, 1), ("pause", 12.0, 12.5, 1), ("pause", 15.0, 15.25, 1),
    ]  # fmt: skip
    assert found.rule == ("user speaks 6.00 s (>= 4) with 2 pauses, the longest 0.50 s (<= 1); partner silent")


@pytest.mark.parametrize(("start", "taken"), [(15_400, True), (15_401, False), (14_500, True), (14_499, False)])
def test_a_gap_of_four_tenths_is_smooth(start: int, taken: bool) -> None:
    talk = timeline([(start, 22_000)], [(10_000, 15_000)])
    assert bool(turn_taking.find(talk)) == taken
    assert turn_taking.find(talk, TurnTakingConfig(least_gap_s=0.41)) == []


@pytest.mark.parametrize(
    ("agent", "user"), [((15_200, 20_199), (10_000, 15_000)), ((15_200, 20_200), (10_001, 15_000))]
)
def test_both_turns_must_be_long(agent: tuple[int, int], user: tuple[int, int]) -> None:
    assert turn_taking.find(timeline([agent], [user])) == []


def test_a_backchannel_between_two_turns_parts_them() -> None:
    assert turn_taking.find(timeline([(12_000, 12_500), (15_200, 21_000)], [(10_000, 15_000)])) == []


def test_the_span_leaves_room_for_an_answer_up_to_the_end_of_the_recording() -> None:
    talk = [(8_500, 14_000)], [(8_000, 15_000)]  # the answer began early and ended before the turn did
    early = TurnTakingConfig(least_gap_s=-math.inf)
    assert spans(turn_taking.find(timeline(*talk), early)) == [(8.0, 17.0)]
    assert spans(turn_taking.find(timeline(*talk, duration=16_000), early)) == [(8.0, 16.0)]
    assert turn_taking.find(timeline(*talk), replace(early, longest_s=8.9)) == []


@pytest.mark.parametrize(("partner", "taken"), [
    ([(12_000, 13_000)], True), ([(12_000, 13_001)], False), ([], False),
    ([(12_000, 12_600), (13_200, 13_500)], False),  # they merge into one utterance of 1.5 s
    ([(12_000, 12_400), (13_500, 13_900)], True),
    ([(9_800, 10_300), (12_000, 12_500)], False), ([(12_000, 12_500), (17_800, 18_100)], False),
    ([(12_000, 12_500), (18_000, 25_000)], True),
    ([(10_000, 10_500)], True), ([(17_500, 18_000)], True),
])  # fmt: skip
def test_backchannels_are_short_and_inside(partner: Spans, taken: bool) -> None:
    assert bool(backchannel.find(timeline(partner, [(10_000, 18_000)]))) == taken


def test_a_backchannel_over_the_edge_can_be_taken_and_silence_too() -> None:
    talk = timeline([(17_800, 18_100)], [(10_000, 18_000)])
    (found,) = backchannel.find(talk, BackchannelConfig(straddling="take"))
    assert [(e.kind, e.side) for e in found.events] == [("turn", 1), ("backchannel", 0)]
    assert backchannel.find(timeline([], [(10_000, 18_000)]), BackchannelConfig(least_backchannels=0))


FOUR = [(13_200, 17_000), (20_300, 24_000)], [(10_000, 13_000), (16_500, 20_000)]


def test_four_utterances_with_an_overlap_are_an_interruption() -> None:
    (found,) = interruption.find(timeline(*FOUR))
    assert (found.start, found.end) == (10.0, 24.0)
    assert [(e.kind, e.side) for e in found.events] == [
        ("turn", 1), ("interrupted", 0), ("interruption", 1), ("answer", 0),
    ]  # fmt: skip
    assert found.rule.endswith("the third starts 0.50 s before the second ends")
    (later,) = interruption.find(timeline(*FOUR), InterruptionConfig(span="from_second"))
    assert (later.start, later.end) == (13.2, 24.0)


@pytest.mark.parametrize(("start", "taken"), [(16_999, True), (17_000, False), (17_200, False)])
def test_the_interruption_starts_before_the_other_ends(start: int, taken: bool) -> None:
    agent, user = FOUR
    assert bool(interruption.find(timeline(agent, [user[0], (start, 20_200)]))) == taken


@pytest.mark.parametrize("which", range(4))
def test_each_of_the_four_is_long_enough(which: int) -> None:
    agent, user = [list(side) for side in FOUR]
    side, i = ((user, 0), (agent, 0), (user, 1), (agent, 1))[which]
    start, end = side[i]
    # Shortened at the end that does not touch the overlap, to exactly the least length and just below it.
    for length, taken in ((3000, True), (2999, False)):
        side[i] = (end - length, end) if which in (0, 1) else (start, start + length)
        assert bool(interruption.find(timeline(agent, user))) == taken


@pytest.mark.parametrize(("start", "taken"), [(19_500, True), (19_499, False)])
def test_an_interruption_may_be_taken_only_where_its_answer_waits_for_it(start: int, taken: bool) -> None:
    (_, broken), user = FOUR[0][::-1], FOUR[1]
    talk = timeline([broken, (start, 24_000)], user)
    assert interruption.find(talk)
    assert bool(interruption.find(talk, InterruptionConfig(least_gap_s=-0.5))) == taken


def test_roles_matter() -> None:
    talk = timeline(*FOUR)
    assert interruption.find(talk)
    assert interruption.find(talk.swapped()) == []


def test_silence_and_empty_tracks_hold_nothing() -> None:
    for axis in AXES.values():
        assert axis.find(timeline([], [])) == []


def test_thresholds_of_the_paper_are_the_defaults() -> None:
    configs = {name: axis.config_type()() for name, axis in AXES.items()}
    assert {name: c.least_s for name, c in configs.items()} == {
        "pause": 4.0, "turn_taking": 5.0, "backchannel": 5.0, "interruption": 3.0,
    }  # fmt: skip
    assert {c.utterance_silence_s for c in configs.values()} == {1.0}
    assert TurnTakingConfig().longest_gap_s == 0.4
    assert BackchannelConfig().backchannel_s == 1.0


@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_impossible_thresholds_are_refused(value: float) -> None:
    with pytest.raises(UserError, match="least_s"):
        AxisConfig(least_s=value)


def test_a_backchannel_between_the_four_can_be_left_out() -> None:
    agent, user = FOUR
    talk = timeline([(11_000, 11_400), *agent], user)  # inside the user's first utterance
    assert interruption.find(talk) == []
    (found,) = interruption.find(talk, InterruptionConfig(backchannels="skip"))
    assert (found.start, found.end) == (10.0, 24.0)
