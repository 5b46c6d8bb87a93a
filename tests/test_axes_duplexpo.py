"""DuplexPO's reward by hand, and what silence and babble earn."""

from __future__ import annotations

import math

import pytest

from duologue.axes.duplexpo import DuplexPOReward, reward
from duologue.base.errors import UserError
from duologue.dialogue.scenes import Scene
from test_axes_reward import Spans, scene


def earned(axis: str, agent: Spans, config: DuplexPOReward | None = None) -> float:
    return reward(scene(axis, agent), config)["duplexpo"]


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ([(6.2, 9)], 1.0),  # where the human began
        ([(6.8, 9)], math.exp(-0.5)),
        ([(5.9, 9)], math.exp(-0.5)),  # early is judged more strictly
        ([], -0.5),
    ],
)
def test_the_onset_of_a_turn(agent: Spans, expected: float) -> None:
    assert earned("turn_taking", agent) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("agent", "expected"),
    [([(3.2, 3.6)], 1.0), ([(3.9, 4.3)], math.exp(-1)), ([(3.2, 5.2)], 0.5), ([], -0.5)],
)
def test_a_backchannel(agent: Spans, expected: float) -> None:
    assert earned("backchannel", agent) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("agent", "expected"),
    [([(4.2, 9.0)], 0.0), ([(4.2, 9.24)], 0.0), ([(4.2, 10.24)], -0.5), ([(4.2, 15)], -1.0)],
)
def test_stopping_is_measured_from_the_human(agent: Spans, expected: float) -> None:
    """Onsets weigh nothing here: the human went on for 1 s after the interruption began."""
    assert earned("interruption", agent, DuplexPOReward(on=0, missed=0)) == pytest.approx(expected)


def test_speech_where_the_human_is_silent_is_a_false_alarm() -> None:
    assert earned("pause", []) == 0
    assert earned("pause", [(3, 3.4)]) == -0.5


def test_what_happens_outside_the_window_does_not_count() -> None:
    whole = scene("backchannel", [(3.2, 3.6)])
    window = Scene(id="w", timeline=whole.timeline, start=5.0, end=7.0, events=whole.events)
    assert reward(window)["duplexpo"] == 0


def test_a_good_partner_earns_more_than_silence_and_babble() -> None:
    good = earned("turn_taking", [(6.3, 11)]) + earned("backchannel", [(3.4, 3.8)]) + earned("pause", [])
    for agent in ([], [(0.1, 12)]):
        assert sum(earned(axis, agent) for axis in ("turn_taking", "backchannel", "pause")) < good - 1


def test_widths_are_lengths() -> None:
    for bad in ({"late_s": 0}, {"stop_s": -1}, {"horizon_s": 0}):
        with pytest.raises(UserError):
            DuplexPOReward(**bad)
