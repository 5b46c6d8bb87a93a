"""Rewards of the four axes: the paper's numbers by hand, and cheaters that earn less than a plain good partner."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.axes import AXES
from duologue.axes.backchannel import BackchannelReward
from duologue.axes.interruption import InterruptionReward
from duologue.axes.pause import PauseReward
from duologue.axes.scoring import match
from duologue.axes.turn_taking import TurnTakingReward
from duologue.base.errors import UserError
from duologue.dialogue.scenes import Scene
from duologue.dialogue.segments import ReferenceEvent
from duologue.dialogue.timeline import Timeline, Track

Spans = list[tuple[float, float]]
EVENTS: dict[str, list[tuple[str, float, float, int]]] = {
    "pause": [("turn", 0, 8, 1), ("pause", 3, 3.8, 1)],
    "turn_taking": [("turn", 0, 6, 1), ("answer", 6.2, 12, 0)],
    "backchannel": [("turn", 0, 12, 1), ("backchannel", 3, 3.4, 0), ("backchannel", 8, 8.5, 0)],
    "interruption": [
        ("turn", 0, 4, 1),
        ("interrupted", 4.2, 9, 0),
        ("interruption", 8, 12, 1),
        ("answer", 12.3, 16, 0),
    ],
}
ENDS = {"pause": 8.0, "turn_taking": 12.0, "backchannel": 12.0, "interruption": 16.0}


def scene(axis: str, agent: Spans) -> Scene:
    events = tuple(ReferenceEvent(kind, start, end, side) for kind, start, end, side in EVENTS[axis])
    user = sorted((e.start, e.end) for e in events if e.side == 1 and e.kind != "pause")
    end = ENDS[axis]
    tracks = [Track.of(np.array(spans, float).reshape(-1, 2)) for spans in (agent, user)]
    return Scene(id="s", timeline=Timeline(tracks[0], tracks[1], end), start=0.0, end=end, events=events)


def reward(axis: str, agent: Spans, config: object | None = None) -> float:
    return AXES[axis].reward(scene(axis, agent), config)[axis]


def literal(axis: str, agent: Spans) -> float:
    return reward(axis, agent, AXES[axis].literal())


class TestOneUnit:
    """The default rules: speech over silences of at most 1.0 s is one thing on every axis."""

    @pytest.mark.parametrize(
        ("agent", "expected"),
        [
            ([], 0.0),
            ([(2, 3.1)], -1.0),
            ([(1, 1.4), (1.7, 2.1)], -1.0),  # two bursts are one unit of 1.1 s
            ([(1, 1.3), (4, 4.3)], -0.2),  # too far apart to be one: 0.6 s beside a silent human
            ([(2, 3)], -1 / 3),
        ],
    )
    def test_pause(self, agent: Spans, expected: float) -> None:
        assert reward("pause", agent) == pytest.approx(expected)

    def test_over_talk_can_be_free(self) -> None:
        assert reward("pause", [(2, 3)], PauseReward(over_talk=0)) == 0

    @pytest.mark.parametrize(
        ("agent", "expected"),
        [
            ([(6.4, 9)], -0.4),
            ([], -6.0),
            ([(6.4, 7.2)], -6.0),  # too short to be an answer
            ([(6.3, 6.7), (7.3, 9)], -0.3),  # it opens with a short word
            ([(5.5, 9)], -0.5),
            ([(5.49, 9)], -0.51),  # no cliff
            ([(5.2, 5.6), (6.1, 9)], -0.1),  # a backchannel before it is no early start
            ([(5.4, 6.5), (6.8, 11)], -0.6),  # it took the floor at 5.4
            ([(3, 9)], -3 - 2.2 / 3),  # three seconds early, 2.2 s of them beside a silent human
            ([(6.1 + i, 6.2 + i) for i in range(5)], -6.0),  # pips a second apart are no second of speech
            ([(0, 12)], -6 - 1),  # never more than no answer, but for the over-talk
        ],
    )
    def test_turn_taking(self, agent: Spans, expected: float) -> None:
        assert reward("turn_taking", agent) == pytest.approx(expected)

    @given(st.floats(0.01, 5.5), st.floats(0, 0.2))
    def test_an_earlier_start_costs_little_more_than_one_a_little_later(self, early: float, more: float) -> None:
        free = TurnTakingReward(over_talk=0)
        late, soon = (reward("turn_taking", [(6 - x, 9)], free) for x in (early, min(early + more, 5.9)))
        assert late - more - 1e-6 <= soon <= late + 1e-6

    @pytest.mark.parametrize(
        ("agent", "expected"),
        [
            ([(3.2, 3.6), (8.9, 9.3)], 1.0),
            ([(3.2, 3.6)], 2 / 3),
            ([(3.2, 3.6), (3.9, 4.3), (8, 8.4)], 1 / 2),  # two bursts are one unit of 1.1 s, which takes the floor
            ([(5.7, 6.0)], -0.3 / 3),
            ([], 0.0),
        ],
    )
    def test_backchannel(self, agent: Spans, expected: float) -> None:
        assert reward("backchannel", agent) == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("agent", "expected"),
        [
            ([(4.2, 8.5), (12.5, 15)], -0.5),
            ([(4.2, 10.95), (12.1, 15)], -0.1 - 0.55 / 3),  # yields 1.05 s before the end, and answers
            ([(4.2, 11.2), (12.1, 15)], -0.1 - 0.8 / 3),  # 0.8 s before: the same, no cliff
            ([(4.2, 11.8), (12.1, 15)], -4.0 - 0.9 / 3),  # a breath is no yielding
            ([(4.2, 16)], -4.0 - 0.9 / 3),  # never stopped
            ([(4.2, 8.5), (12.6, 12.9)], -4.0),  # "mhm" is no answer
        ],
    )
    def test_interruption(self, agent: Spans, expected: float) -> None:
        near = scene("interruption", agent)
        broken = [e._replace(end=9.4) if e.kind == "interrupted" else e for e in near.events]
        near = Scene(id="s", timeline=near.timeline, start=0, end=16, events=tuple(broken))
        assert AXES["interruption"].reward(near)["interruption"] == pytest.approx(expected)

    def test_what_is_measured_calls_only_a_timely_answer_one(self) -> None:
        assert AXES["turn_taking"].measure(scene("turn_taking", [(0, 12)]))["answered"] == 0
        assert AXES["turn_taking"].measure(scene("turn_taking", [(4.5, 12)]))["answered"] == 1

    def test_over_talk_is_told_apart_from_talk_beside_the_human(self) -> None:
        assert AXES["backchannel"].measure(scene("backchannel", [(3.2, 3.6)]))["over_talk"] == 0
        assert AXES["backchannel"].measure(scene("backchannel", [(5.6, 6)]))["over_talk"] == 1
        assert AXES["pause"].measure(scene("pause", [(5.6, 6)]))["over_talk"] == 1
        assert AXES["turn_taking"].measure(scene("turn_taking", [(6.4, 9)]))["over_talk"] == 0


class TestLiteral:
    """The rules of arXiv 2606.11167, by hand."""

    @pytest.mark.parametrize(
        ("agent", "expected"),
        [([], 0.0), ([(2, 3)], 0.0), ([(2, 3.1)], -1.0), ([(1, 1.6), (1.7, 2.3)], 0.0), ([(7.5, 9)], 0.0)],
    )
    def test_pause(self, agent: Spans, expected: float) -> None:
        assert literal("pause", agent) == expected

    def test_a_pause_s_pieces_can_be_joined_first(self) -> None:
        assert reward("pause", [(1, 1.6), (1.7, 2.3)], PauseReward(join_s=0.2, over_talk=0)) == -1

    @pytest.mark.parametrize(
        ("agent", "expected"),
        [
            ([(6.4, 9)], -0.4),
            ([], -6.0),
            ([(6.4, 7.2)], -6.0),  # too short to be an answer
            ([(6.3, 6.7), (7.3, 9)], -0.3),  # it opens with a short word
            ([(5.8, 9)], -0.2),  # a little early
            ([(4, 9)], -6.0),  # spoke all along
            ([(4, 5.9), (6.1, 9)], -6.0),  # a breath begins nothing
            ([(4, 4.4), (6.1, 9)], -0.1),  # a backchannel before it is no start
            ([(5.4, 6.5), (6.8, 11)], -0.8),  # a backchannel so far, half a second before the end
        ],
    )
    def test_turn_taking(self, agent: Spans, expected: float) -> None:
        assert literal("turn_taking", agent) == pytest.approx(expected)

    def test_turn_taking_against_the_human(self) -> None:
        human = TurnTakingReward(reference="human")
        assert reward("turn_taking", [(6.2, 9)], human) == pytest.approx(0)
        assert reward("turn_taking", [(6.0, 9)], human) == pytest.approx(-0.2)
        free = TurnTakingReward(reference="human", early_cost=0)
        assert reward("turn_taking", [(6.0, 9)], free) == 0

    @pytest.mark.parametrize(
        ("agent", "expected"),
        [
            ([(3.2, 3.6), (8.9, 9.5)], 1.0),
            ([(3.2, 3.6)], 2 / 3),
            ([], 0.0),
            ([(3.2, 3.6), (4, 4.3), (8, 8.4)], 4 / 5),
            ([(3, 5), (8, 8.4)], 1 / 2),  # a take-over is a false positive, wherever it is
            ([(5.5, 6)], 0.0),
        ],
    )
    def test_backchannel(self, agent: Spans, expected: float) -> None:
        assert literal("backchannel", agent) == pytest.approx(expected)

    def test_silence_beside_a_silent_human_is_right(self) -> None:
        quiet = scene("backchannel", [])
        alone = Scene(id="s", timeline=quiet.timeline, start=0, end=12, events=quiet.events[:1])
        assert AXES["backchannel"].reward(alone)["backchannel"] == 1

    @pytest.mark.parametrize(
        ("agent", "expected"),
        [
            ([(4.2, 8.5), (12.5, 15)], -0.5),
            ([(4.2, 8.5)], -4.0),
            ([(4.2, 16)], -4.0),  # never stopped
            ([(4.2, 8.5), (12.6, 12.9)], -0.6),  # any speech answers
            ([(4.2, 8.5), (11.8, 15)], -0.2),
        ],
    )
    def test_interruption(self, agent: Spans, expected: float) -> None:
        assert literal("interruption", agent) == pytest.approx(expected)

    def test_stopping_is_rewarded_apart(self) -> None:
        config = InterruptionReward(stop=True, talked_through=True, over_talk=0)
        found = AXES["interruption"].reward(scene("interruption", [(4.2, 8.5), (12.5, 15)]), config)
        assert found == pytest.approx({"interruption": -0.5, "stop": -0.5, "talked_through": 0})
        found = AXES["interruption"].reward(scene("interruption", [(4.2, 14)]), config)
        assert found == pytest.approx({"interruption": -4, "stop": -6, "talked_through": -1})
        found = AXES["interruption"].reward(scene("interruption", [(13, 14)]), config)
        assert math.isnan(found["stop"])
        assert math.isnan(found["talked_through"])

    def test_what_was_measured(self) -> None:
        assert AXES["pause"].measure(scene("pause", [(2, 4)])) == {
            "take_over": 1, "speech": 0.25, "over_talk": 1,
        }  # fmt: skip
        assert AXES["turn_taking"].measure(scene("turn_taking", [(6.4, 9)])) == pytest.approx(
            {"answered": 1, "latency": 0.4, "over_talk": 0}
        )
        found = AXES["backchannel"].measure(scene("backchannel", [(3.2, 3.6), (8, 10)]))
        assert found == pytest.approx({"take_over": 1, "per_minute": 5, "human_per_minute": 10, "over_talk": 1})
        found = AXES["interruption"].measure(scene("interruption", [(4.2, 8.5), (12.5, 15)]))
        assert found == pytest.approx(
            {"answered": 1, "latency": 0.5, "stop_latency": 0.5, "talked_through": 0, "over_talk": 0}
        )


def every(period: float, length: float, end: float) -> Spans:
    return [(t, t + length) for t in np.arange(0.1, end - length, period).tolist()]


PARTNER: dict[str, Spans] = {
    "pause": [(3.1, 3.5)],
    "turn_taking": [(2, 2.4), (6.3, 11)],
    "backchannel": [(3.4, 3.8), (8.9, 9.3)],
    "interruption": [(4.4, 8.7), (12.6, 15)],
}
CHEATERS: dict[str, dict[str, Spans]] = {
    "instant babble": {axis: [(0.1, end)] for axis, end in ENDS.items()},
    "babble that breathes": {axis: every(1.4, 1.2, end) for axis, end in ENDS.items()},
    "babble in short bursts": {axis: every(1.2, 0.9, end) for axis, end in ENDS.items()},
    "hum": {axis: [(0, end)] for axis, end in ENDS.items()},
    "silence": {axis: [] for axis in ENDS},
    "one word every second": {axis: every(1.0, 0.3, end) for axis, end in ENDS.items()},
    "one word every two seconds": {axis: every(2.0, 0.3, end) for axis, end in ENDS.items()},
    "never stops once begun": {
        "pause": [], "turn_taking": [(6.1, 12)], "backchannel": [(0.5, 12)], "interruption": [(4.1, 16)],
    },
    "always mhm": {axis: every(3.0, 0.5, end) for axis, end in ENDS.items()},
}  # fmt: skip


def total(agent: dict[str, Spans]) -> float:
    return sum(reward(axis, agent[axis]) for axis in AXES)


@pytest.mark.parametrize("cheater", CHEATERS)
def test_cheaters_earn_less_than_a_plain_good_partner(cheater: str) -> None:
    assert total(CHEATERS[cheater]) < total(PARTNER) - 0.5


@given(st.lists(st.integers(0, 40), max_size=5), st.lists(st.integers(0, 40), max_size=5))
def test_matching_finds_the_most_pairs(ours: list[int], theirs: list[int]) -> None:
    def best(a: list[int], b: list[int]) -> int:
        if not a:
            return 0
        free = best(a[1:], b)
        return max([free, *(1 + best(a[1:], b[:i] + b[i + 1 :]) for i, x in enumerate(b) if abs(x - a[0]) <= 10)])

    found = match(np.sort(np.array(ours, float)), np.sort(np.array(theirs, float)), 10)
    assert found == best(ours, theirs)


@pytest.mark.parametrize("axis", AXES)
@given(data=st.data())
def test_rewards_are_finite_and_never_above_perfection(axis: str, data: st.DataObject) -> None:
    edges = data.draw(st.lists(st.integers(0, 200), max_size=12, unique=True).map(sorted))
    agent = [(a / 10, b / 10) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    value = reward(axis, [(a, min(b, ENDS[axis])) for a, b in agent if a < ENDS[axis]])
    assert -20 <= value <= (1 if axis == "backchannel" else 0)


def test_a_scene_of_another_axis_and_a_bad_length_are_refused() -> None:
    with pytest.raises(ValueError, match="no event 'interruption'"):
        AXES["interruption"].reward(scene("pause", []))
    for bad in (
        lambda: PauseReward(longest_s=-1), lambda: TurnTakingReward(early_cost=-1),
        lambda: BackchannelReward(within_s=math.nan), lambda: InterruptionReward(early_s=-0.1),
    ):  # fmt: skip
        with pytest.raises(UserError):
            bad()
    for axis in AXES.values():
        assert axis.reward_type()() is not None
