"""Take-over and latency primitives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.dialogue.takeover import Stretch, TurnRule, first_answer, joined, stop_latency, stretches
from duologue.dialogue.timeline import Track, Word

OURS = [Stretch(1.0, 1.4), Stretch(3.0, 6.0), Stretch(8.0, 9.5)]
PAPER = TurnRule()
FDB = TurnRule(inclusive=True, words=3)


def test_stretches_join_and_count_the_words_whose_middle_they_hold() -> None:
    words = [Word("a", 0.0, 1.0), Word("b", 0.9, 1.3), Word("c", 2.0, 2.0)]
    track = Track.of([(0, 1), (1.5, 2.0), (2.6, 3.0)], words)
    assert stretches(track, 0.5) == [(0, 2, 3), (2.6, 3.0, 0)]
    assert stretches(track, 0.4) == [(0, 1, 1), (1.5, 2.0, 1), (2.6, 3.0, 0)]
    assert stretches(Track.of([(0, 1)]), 0.5) == [(0, 1, None)]


def test_unknown_words_stay_unknown_when_joined() -> None:
    assert joined([Stretch(0, 1, 2), Stretch(1.5, 2, 3)], 1.0) == [(0, 2, 5)]
    assert joined([Stretch(0, 1, 2), Stretch(1.5, 2)], 1.0) == [(0, 2, None)]


def test_a_turn_is_long_or_wordy_as_the_rule_says() -> None:
    assert PAPER.takes(Stretch(0, 1.1))
    assert not PAPER.takes(Stretch(0, 1.0, 9))
    assert FDB.takes(Stretch(0.3, 1.3))
    assert FDB.takes(Stretch(0, 0.5, 4))
    assert not FDB.takes(Stretch(0, 0.5, 3))
    assert not FDB.takes(Stretch(0, 0.5))  # unknown words leave it to the length


@pytest.mark.parametrize(
    ("user_end", "earliest", "latency"),
    [(2.5, 0.5, 0.5), (3.5, 1.5, -0.5), (3.5, 3.5, 4.5), (6.0, 4.0, 2.0), (9.5, 7.5, None)],
)
def test_latency_is_signed_and_none_without_an_answer(user_end: float, earliest: float, latency: float | None) -> None:
    answer = first_answer(OURS, user_end, PAPER, earliest=earliest, join_s=1.0)
    assert (None if answer is None else answer.start - user_end) == pytest.approx(latency)


def test_an_answer_starts_with_its_short_first_word() -> None:
    ours = [Stretch(5.4, 5.8), Stretch(6.5, 9.0)]
    assert first_answer(ours, 5.0, PAPER, earliest=3.0, join_s=1.0) == (5.4, 9.0, None)
    assert first_answer(ours, 5.0, PAPER, earliest=3.0, join_s=0.5) == (6.5, 9.0, None)


def test_stopping_is_measured_only_when_somebody_was_talking() -> None:
    assert stop_latency(OURS, 4.0, 7.0) == (2.0, False)
    assert stop_latency(OURS, 4.0, 5.0) == (2.0, True)
    for silent in (2.0, 3.0, 6.0, 0.5, 9.6):
        assert stop_latency(OURS, silent, 10.0) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=8),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_an_answer_is_a_turn_that_outlasts_the_user_and_comes_first(steps, user_end, earliest) -> None:
    ours, now = [], 0.0
    for silence, length in steps:
        ours.append(Stretch(now + silence / 10, now + silence / 10 + length / 10))
        now = ours[-1].end
    end, first = user_end / 10 + 0.05, earliest / 10 + 0.05
    answer = first_answer(ours, end, PAPER, earliest=first, join_s=1.0)
    fitting = [s for s in joined([s for s in ours if s.start >= first], 1.0) if s.duration > 1.000001 and s.end > end]
    assert answer == (fitting[0] if fitting else None)
