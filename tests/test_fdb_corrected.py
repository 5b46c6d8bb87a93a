"""The corrected rules: each known fault of the official scripts, and what is scored instead."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.audio.words import Chunk
from duologue.bench import fdb_official
from duologue.bench.fdb_corrected import (
    JOIN_SECONDS,
    TURN,
    agent_track,
    heard_onset,
    is_backchannel,
    score_backchannels,
    score_interruption,
    score_pauses,
    score_turn_taking,
    timed_words,
)
from duologue.dialogue.intervals import merge
from duologue.dialogue.takeover import stretches
from duologue.dialogue.timeline import Track, Word


def speaks(*spans: tuple[float, float], words: list[Word] | None = None) -> Track:
    return Track.of(list(spans), words)


def test_two_short_words_far_apart_are_no_turn() -> None:
    agent = speaks((0.5, 0.7), (8.5, 8.7))
    assert not any(TURN.takes(s) for s in stretches(agent, JOIN_SECONDS))


def test_four_quick_words_are_a_turn_and_two_are_a_backchannel() -> None:
    four = speaks((1, 1.8), words=[Word(w, 1 + i / 5, 1.2 + i / 5) for i, w in enumerate("abcd")])
    two = speaks((1, 1.8), words=[Word("oh", 1, 1.4), Word("yeah", 1.4, 1.8)])
    assert TURN.takes(stretches(four, JOIN_SECONDS)[0])
    assert is_backchannel(stretches(two, JOIN_SECONDS)[0])


class TestPauses:
    def test_talk_before_and_after_the_pause_is_not_a_take_over(self) -> None:
        score = score_pauses(speaks((0, 2), (9, 12)), [(4.0, 5.0)], 12.0)
        assert (score.take_over, score.details["talks_elsewhere"]) == (0, True)

    def test_a_turn_that_starts_in_the_pause_is(self) -> None:
        score = score_pauses(speaks((4.5, 6.0)), [(4.0, 5.0)], 12.0)
        assert score.take_over == 1
        assert "starts in the pause" in score.why

    def test_a_start_just_after_the_pause_was_decided_in_it(self) -> None:
        assert score_pauses(speaks((5.1, 7.0)), [(4.0, 5.0)], 12.0).take_over == 1
        assert score_pauses(speaks((5.3, 7.0)), [(4.0, 5.0)], 12.0).take_over == 0

    def test_a_backchannel_in_the_pause_is_not(self) -> None:
        assert score_pauses(speaks((4.2, 4.7)), [(4.0, 5.0)], 12.0).take_over == 0

    def test_a_recording_that_ends_before_the_pause_exercises_nothing(self) -> None:
        score = score_pauses(speaks(), [(4.0, 5.0)], 3.0)
        assert (score.status, score.take_over) == ("not_exercised", None)


class TestTurnTaking:
    def test_latency_is_signed(self) -> None:
        late, early = score_turn_taking(speaks((5.4, 8)), 5.0), score_turn_taking(speaks((4.4, 8)), 5.0)
        assert late.latency_s == pytest.approx(0.4)
        assert (early.latency_s, early.details["early_start"]) == (pytest.approx(-0.6), True)

    def test_talking_from_the_beginning_is_not_a_perfect_answer(self) -> None:
        score = score_turn_taking(speaks((0, 9)), 5.0)
        assert (score.take_over, score.latency_s, score.details["talked_through"]) == (0, None, True)

    def test_a_greeting_and_a_backchannel_do_not_answer(self) -> None:
        score = score_turn_taking(speaks((0, 2), (4.6, 5.1), (6.2, 9)), 5.0)
        assert score.latency_s == pytest.approx(1.2)

    def test_an_answer_starts_with_its_short_first_word(self) -> None:
        assert score_turn_taking(speaks((5.4, 5.8), (6.5, 9)), 5.0).latency_s == pytest.approx(0.4)
        assert score_turn_taking(speaks((5.4, 5.8), (7.0, 9)), 5.0).latency_s == pytest.approx(2.0)

    def test_silence_takes_no_turn(self) -> None:
        score = score_turn_taking(speaks((0, 2)), 5.0)
        assert (score.take_over, score.latency_s) == (0, None)


class TestInterruption:
    def test_stop_and_answer(self) -> None:
        score = score_interruption(speaks((1, 6.3), (8.5, 11)), 5.5, 8.0)
        assert (score.take_over, score.latency_s) == (1, pytest.approx(0.5))
        assert score.details["stop_latency_s"] == pytest.approx(0.8)
        assert score.details["talked_through"] is False

    def test_an_answer_right_after_stopping_is_not_joined_to_what_was_interrupted(self) -> None:
        score = score_interruption(speaks((1, 7.8), (8.5, 11)), 5.5, 8.0)
        assert score.latency_s == pytest.approx(0.5)

    def test_the_onset_is_the_user_s_first_speech_in_the_annotated_span(self) -> None:
        user = merge([(0, 2), (6.1, 7.9)])
        assert heard_onset(user, 5.5, 8.0) == pytest.approx(6.1)
        assert heard_onset(user, 3.0, 4.0) == 3.0
        assert heard_onset(None, 5.5, 8.0) == 5.5

    def test_never_stopping_is_no_answer(self) -> None:
        score = score_interruption(speaks((1, 20)), 5.5, 8.0)
        assert (score.take_over, score.latency_s, score.details["talked_through"]) == (0, None, True)

    def test_an_agent_that_was_silent_was_not_interrupted(self) -> None:
        score = score_interruption(speaks((1, 3), (8.5, 11)), 5.5, 8.0)
        assert (score.status, score.take_over, score.latency_s) == ("not_exercised", None, None)
        assert score.details["latency_if_not_interrupted_s"] == pytest.approx(0.5)


class TestBackchannels:
    def test_one_take_over_decides_whatever_comes_after(self) -> None:
        agent = speaks((1, 4), (6, 6.5))
        assert score_backchannels(agent, 10.0, 10.0, None).take_over == 1
        assert fdb_official.backchannel_verdict([(1, 3.9), (6, 6.5)], [], forget_on_take_over=False)[0] is False

    def test_speech_after_the_user_s_end_is_an_answer(self) -> None:
        score = score_backchannels(speaks((2, 2.5), (8.3, 12)), 8.0, 12.0, None)
        assert (score.take_over, score.frequency) == (0, pytest.approx(1 / 8))

    def test_no_reference_means_not_measured(self) -> None:
        assert score_backchannels(speaks((2, 2.5)), 8.0, 8.0, None).jsd is None

    def test_no_backchannel_is_the_largest_divergence(self) -> None:
        assert score_backchannels(speaks(), 8.0, 8.0, [1.0] * 41).jsd == 1.0

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.tuples(st.floats(0, 9), st.floats(0.1, 0.9)), max_size=5),
        st.lists(st.floats(0, 1), min_size=2, max_size=80).filter(lambda bins: sum(bins) > 1),
    )
    def test_divergence_is_between_zero_and_one(self, spans, reference) -> None:
        score = score_backchannels(speaks(*((s, s + n) for s, n in spans)), 10.0, 10.0, reference)
        assert score.jsd is not None
        assert 0 <= score.jsd <= 1

    def test_the_reference_itself_has_no_divergence(self) -> None:
        reference = [0.0] * 51
        reference[10:13] = [1.0] * 3
        assert score_backchannels(speaks((2.0, 2.5)), 10.0, 10.0, reference).jsd == pytest.approx(0, abs=1e-12)


def test_chunks_without_times_are_mended_or_left_out() -> None:
    chunks = [Chunk("a", 1.0, None), Chunk("b", None, 2.0), Chunk("c", 3.0, 2.5)]
    assert timed_words(chunks) == [Word("a", 1.0, 1.2), Word("c", 3.0, 3.0)]


def test_without_audio_the_words_are_the_speech() -> None:
    track = agent_track(None, [Word("a", 1.0, 1.5), Word("b", 1.5, 2.2)])
    assert track.speech.tolist() == [[1.0, 2.2]]
