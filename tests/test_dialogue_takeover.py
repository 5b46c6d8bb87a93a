"""Take-over and latency primitives."""

from __future__ import annotations

import pytest

from duologue.dialogue.intervals import as_intervals, merge
from duologue.dialogue.takeover import (
    TurnRule,
    classify_segments,
    first_turn_after,
    is_turn,
    response_latency,
    stop_latency,
    words_in,
)
from duologue.dialogue.timeline import Word

SPEECH = merge([(1.0, 1.4), (3.0, 6.0), (8.0, 9.0)])


def test_the_first_turn_is_the_first_long_enough_segment_that_starts_later() -> None:
    assert first_turn_after(SPEECH, 0.0) == (1.0, 1.4)
    assert first_turn_after(SPEECH, 0.0, 1.0) == (3.0, 6.0)
    assert first_turn_after(SPEECH, 4.0) == (8.0, 9.0)
    assert first_turn_after(SPEECH, 4.0, ongoing=True) == (3.0, 6.0)
    assert first_turn_after(SPEECH, 3.0) == (3.0, 6.0)
    assert first_turn_after(SPEECH, 8.5) is None


def test_latency_is_signed_and_none_without_an_answer() -> None:
    assert response_latency(SPEECH, 2.5) == pytest.approx(0.5)
    assert response_latency(SPEECH, 3.5) == pytest.approx(-0.5)
    assert response_latency(SPEECH, 3.5, ongoing=False) == pytest.approx(4.5)
    assert response_latency(SPEECH, 6.0) == pytest.approx(2.0)
    assert response_latency(SPEECH, 9.0) is None
    assert response_latency(as_intervals([]), 0.0) is None


def test_stopping_is_measured_only_when_somebody_was_talking() -> None:
    stop = stop_latency(SPEECH, 4.0, 7.0)
    assert stop is not None
    assert stop.latency_s == pytest.approx(2.0)
    assert not stop.talked_through
    through = stop_latency(SPEECH, 4.0, 5.0)
    assert through is not None
    assert through.latency_s == pytest.approx(2.0)
    assert through.talked_through
    for silent in (2.0, 3.0, 6.0, 0.5, 9.5):
        assert stop_latency(SPEECH, silent, 10.0) is None


def test_a_turn_is_long_or_wordy_as_the_rule_says() -> None:
    either, both = TurnRule(duration_s=1.0, words=3), TurnRule(duration_s=1.0, words=3, either=False)
    assert is_turn(1.1) is True
    assert is_turn(1.0) is False  # not longer than 1 s
    assert is_turn(0.5, 4, either) is True
    assert is_turn(0.5, 3, either) is False
    assert is_turn(2.0, 1, both) is False
    assert is_turn(2.0, 4, both) is True
    assert is_turn(2.0, None, both) is True  # unknown words leave it to duration


def test_words_count_where_their_middle_is() -> None:
    words = [Word("a", 0.0, 1.0), Word("b", 0.9, 1.3), Word("c", 2.0, 2.0)]
    assert words_in(words, 0.0, 1.0) == 1
    assert words_in(words, 1.0, 2.0) == 1
    assert words_in(words, 0.0, 3.0) == 3


def test_segments_are_classified_one_by_one() -> None:
    words = [Word(t, 1.05 + i * 0.05, 1.1 + i * 0.05) for i, t in enumerate(["we", "did", "go", "there"])]
    assert classify_segments(SPEECH, None) == ["backchannel", "turn", "backchannel"]
    assert classify_segments(SPEECH, words, TurnRule(words=3)) == ["turn", "turn", "backchannel"]
