"""The buffer of a user's sound: nothing waits longer than it must."""

from __future__ import annotations

import numpy as np
import pytest

from duologue.serve.ear import WATCHED, Ear


class TestEar:
    @pytest.fixture
    def ear(self) -> Ear:
        return Ear(10, 50, lambda: 0.0)

    def test_what_is_put_in_comes_out_in_frames(self, ear: Ear) -> None:
        for part in np.split(np.arange(40, dtype=np.float32), [3, 17, 18, 33]):
            ear.put(part)
        assert [int(ear.take()[0]) for _ in range(4)] == [0, 10, 20, 30]  # type: ignore[index]
        assert ear.take() is None

    def test_too_much_drops_the_oldest(self, ear: Ear) -> None:
        ear.put(np.arange(73, dtype=np.float32))
        found = ear.take()
        assert found is not None
        assert found[0] == 23
        assert (ear.counts().dropped, ear.counts().starved, ear.counts().buffered) == (23, 0, 40)

    def test_too_little_is_counted_and_stays(self, ear: Ear) -> None:
        ear.put(np.ones(9, np.float32))
        assert ear.take() is None
        assert (ear.counts().starved, ear.counts().buffered) == (10, 9)
        ear.put(np.ones(1, np.float32))
        assert ear.take() is not None

    def test_what_a_stall_left_over_is_given_up_after_two_seconds(self, ear: Ear) -> None:
        ear.take()
        ear.put(np.zeros(40, np.float32))  # a stall, and what it held up at once
        levels = []
        for _ in range(3 * WATCHED):
            ear.take()
            levels.append(ear.counts().buffered)
            ear.put(np.zeros(10, np.float32))
        assert levels[:WATCHED] == [30] * (WATCHED - 1) + [10]
        assert set(levels[WATCHED:]) == {10}
        assert ear.counts().dropped == 20

    def test_a_line_that_trembles_keeps_what_it_needs(self, ear: Ear) -> None:
        for n in range(4 * WATCHED):  # sound comes two frames at a time
            if n % 2 == 0:
                ear.put(np.zeros(20, np.float32))
            assert ear.take() is not None
        assert (ear.counts().dropped, ear.counts().starved) == (0, 0)

    def test_it_knows_since_when_a_frame_waits(self) -> None:
        now = 0.0
        ear = Ear(10, 50, lambda: now)
        ear.put(np.zeros(9, np.float32))
        assert ear.full_since is None
        now = 3.0
        ear.put(np.zeros(9, np.float32))
        assert ear.full_since == 3.0
        ear.clear()
        assert ear.full_since is None
