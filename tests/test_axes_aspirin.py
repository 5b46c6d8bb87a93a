"""ASPIRin's reward by hand, and what silence and babble earn."""

from __future__ import annotations

import pytest

from duologue.axes.aspirin import AspirinReward, reward
from duologue.base.errors import UserError
from test_axes_reward import Spans, scene


def earned(axis: str, agent: Spans, config: AspirinReward | None = None) -> float:
    return reward(scene(axis, agent), config)["aspirin"]


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ([(6.2, 9)], 1.0),
        ([(7.0, 9)], 1.0),
        ([(7.2, 9)], 0.0),  # late
        ([(5.0, 9)], 1.0),  # a second of overlap passes
        ([(4.5, 9)], 0.0),
        ([], 0.0),
        ([(1, 3), (6.2, 9)], 0.5),  # one of two speaks over the user; both come at once
        ([(6.2, 9), (10.5, 11)], 1.0),  # what follows the agent's own words is no reply
        ([(7.5, 9), (1, 1.5)], 0.5),  # one of two replies is late
        ([(0, 0.7), (1.5, 2.2), (3, 3.7)], 0.0),  # bursts over short silences are one utterance
    ],
)
def test_both_shares_count(agent: Spans, expected: float) -> None:
    """The user speaks from 0 to 6 s."""
    assert earned("turn_taking", agent) == pytest.approx(expected)


def test_limits_are_settings() -> None:
    assert earned("turn_taking", [(7.2, 9)], AspirinReward(latency_s=1.5)) == 1
    assert earned("turn_taking", [(4.5, 9)], AspirinReward(overlap_s=2)) == 1
    with pytest.raises(UserError, match=r"aspirin\.overlap_s"):
        AspirinReward(overlap_s=-1)


def test_a_good_partner_earns_more_than_silence_and_babble() -> None:
    for axis in ("turn_taking", "interruption"):
        good = earned(axis, [(6.2, 9)] if axis == "turn_taking" else [(4.2, 8.5), (12.3, 16)])
        assert good == 1
        assert earned(axis, [(0, 16)]) == 0
        assert earned(axis, []) == 0
