"""Intervals and timelines: sets of time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialogue_talk import spans_ms, timelines
from duologue.dialogue.intervals import as_intervals, clip, complement, intersect, merge, total
from duologue.dialogue.timeline import Timeline, Track, Word

MS = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 900)).map(lambda x: (x[0], x[0] + x[1])), max_size=15)


def raster(spans: np.ndarray, n: int = 7000) -> np.ndarray:
    line = np.zeros(n, dtype=bool)
    for start, end in spans:
        line[round(start) : round(end)] = True
    return line


@given(MS)
@settings(max_examples=60, deadline=None)
def test_merge_covers_the_same_time_and_is_sorted_and_disjoint(spans: list[tuple[int, int]]) -> None:
    merged = merge(spans)
    np.testing.assert_array_equal(raster(merged), raster(np.array(spans).reshape(-1, 2)))
    assert np.all(merged[1:, 0] > merged[:-1, 1])
    assert np.all(merged[:, 1] > merged[:, 0])


@given(MS, st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_merging_again_changes_nothing(spans: list[tuple[int, int]], silence: int) -> None:
    once = merge(spans, silence)
    np.testing.assert_array_equal(merge(once, silence), once)
    assert np.all(once[1:, 0] - once[:-1, 1] > silence)


@given(MS, MS)
@settings(max_examples=60, deadline=None)
def test_intersect_and_complement_agree_with_a_raster(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    x, y = merge(a), merge(b)
    np.testing.assert_array_equal(raster(intersect(x, y)), raster(x) & raster(y))
    np.testing.assert_array_equal(intersect(x, y), intersect(y, x))
    np.testing.assert_array_equal(raster(complement(x, 0, 7000)), ~raster(x))
    assert total(x) + total(complement(x, 0, 7000)) == pytest.approx(7000)


def test_a_silence_of_exactly_the_threshold_is_merged_in_spite_of_rounding() -> None:
    assert 5.2 - 5.0 > 0.2  # what floating point makes of it
    assert len(merge([(0.0, 5.0), (5.2, 6.0)], 0.2)) == 1
    assert len(merge([(0.0, 5.0), (5.201, 6.0)], 0.2)) == 2


def test_a_long_interval_that_covers_short_ones_keeps_its_end() -> None:
    np.testing.assert_array_equal(merge([(0, 10), (1, 2), (3, 4), (10.5, 11)]), [[0, 10], [10.5, 11]])


def test_empty_sets_have_two_columns_everywhere() -> None:
    nothing = as_intervals([])
    for empty in (
        merge([]),
        clip(nothing, 0, 1),
        intersect(nothing, merge([(0, 1)])),
        complement(merge([(0, 1)]), 0, 1),
    ):
        assert empty.shape == (0, 2)


def test_words_of_no_length_are_no_speech_but_stay_words() -> None:
    track = Track.from_words([Word("b", 1.0, 1.4), Word("a", 0.5, 0.5)])
    np.testing.assert_array_equal(track.speech, [[1.0, 1.4]])
    assert track.words is not None
    assert [w.text for w in track.words] == ["a", "b"]


def test_clipping_cuts_speech_and_words_at_the_edges_and_moves_zero() -> None:
    agent = Track.from_words([Word("one", 0.0, 1.0), Word("two", 2.0, 4.0)])
    part = Timeline(agent, Track.of([(2.5, 9.0)]), 10.0).clipped(3.0, 5.0)
    np.testing.assert_allclose(part.agent.speech, [[0.0, 1.0]])
    np.testing.assert_allclose(part.user.speech, [[0.0, 2.0]])
    assert part.agent.words == (Word("two", 0.0, 1.0),)
    assert part.user.words is None
    assert part.duration == 2.0


def test_no_words_and_no_transcript_stay_apart() -> None:
    heard, unknown = Track.of([(0, 1)], words=()), Track.of([(0, 1)])
    for change in (lambda t: t.shifted(1.0), lambda t: t.clipped(0.0, 0.5)):
        assert change(heard).words == ()
        assert change(unknown).words is None


@given(timelines())
@settings(max_examples=30, deadline=None)
def test_swapping_twice_gives_the_conversation_back(timeline: Timeline) -> None:
    again = timeline.swapped().swapped()
    np.testing.assert_array_equal(again.speech_seconds(), timeline.speech_seconds())
    assert again.agent is timeline.agent


@given(spans_ms())
@settings(max_examples=30, deadline=None)
def test_random_spans_are_disjoint(spans: list[tuple[int, int]]) -> None:
    assert len(merge(spans)) == len(spans)
