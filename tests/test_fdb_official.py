"""The compat rules equal an independent statement of Full-Duplex-Bench's, on words of every shape."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.spatial.distance import jensenshannon

from duologue.audio.words import Chunk
from duologue.base.errors import UserError
from duologue.bench.fdb_official import (
    backchannel_distance,
    backchannel_verdict,
    clipped_latency,
    took_turn,
)

MANY = settings(max_examples=2000, deadline=None)

# Times on a coarse grid, so that "exactly 1 s", "exactly 3 words" and touching edges come up all the time.
times = st.integers(0, 60).map(lambda k: k / 10) | st.floats(0, 60, allow_nan=False)
words = st.builds(
    lambda text, start, length, open_end: Chunk(text, start, None if open_end else start + length),
    st.sampled_from(["yes", " yes", "[UH]", " I"]),
    times,
    st.integers(-3, 15).map(lambda k: k / 10),  # recognisers do write words that end before they start
    st.booleans() | st.just(False),
)
word_lists = st.lists(words, max_size=7)


def stated_take_over(spoken: list[Chunk], null_end: str) -> bool | None:
    """The rule in words: silence never takes the turn; long or wordy output does. None where a null time breaks it."""
    if len(spoken) == 0:
        return False
    end = spoken[-1].end
    if end is None:
        if null_end == "raises":
            return None
        end = spoken[-1].start
    long = end - spoken[0].start >= 1
    wordy = len(spoken) >= 4
    return long or wordy


@MANY
@given(word_lists)
@example([])
@example([Chunk("one", 2.0, 3.0)])
@example([Chunk("a", 0.0, 0.2), Chunk("b", 0.2, 0.4), Chunk("c", 0.5, 0.9)])
@example([Chunk("a", 5.0, 5.2), Chunk("b", 0.0, 0.4)])
@example([Chunk("a", 0.0, None)])
def test_take_over_follows_the_official_rule(spoken: list[Chunk]) -> None:
    assert took_turn(spoken, open_end_is_start=True) == stated_take_over(spoken, "start")
    expected = stated_take_over(spoken, "raises")
    if expected is None:
        with pytest.raises(UserError, match="null"):
            took_turn(spoken, open_end_is_start=False)
    else:
        assert took_turn(spoken, open_end_is_start=False) == expected


@pytest.mark.parametrize(
    ("spoken", "taken"),
    [
        ([], False),
        ([Chunk("mhm", 4.0, 4.4)], False),
        ([Chunk("mhm", 4.0, 5.0)], True),  # exactly 1 s
        ([Chunk("a", 0, 0.1), Chunk("b", 0.2, 0.3), Chunk("c", 0.4, 0.999)], False),  # exactly 3 words
        ([Chunk(w, 0.1, 0.2) for w in "abcd"], True),
        ([Chunk("a", 0.0, 0.2), Chunk("b", 8.0, 8.2)], True),  # two short words far apart: one span
    ],
)
def test_take_over_at_the_edges(spoken: list[Chunk], taken: bool) -> None:
    assert took_turn(spoken, open_end_is_start=False) is taken


@MANY
@given(words, times)
def test_latency_is_clipped_at_zero(word: Chunk, turn_end: float) -> None:
    latency = clipped_latency([word], turn_end)
    assert latency == (word.start - turn_end if word.start >= turn_end else 0)


def stated_backchannels(segments, spoken, before_1d40caa):
    """The walk over segments, stated once more: classes first, then what each does to the list and the verdict."""

    def belongs(word, start, end):
        if word.start is None:
            return False
        if word.end is None and word.start < end:
            return False
        stop = word.end if word.end is not None else word.start
        return (start <= word.start and stop <= end) or word.start <= end < stop or word.start <= start < stop

    def kind(start, end):
        n = len([w for w in spoken if belongs(w, start, end)])
        if end - start > 3:
            return "long"
        if n >= 4 or end - start >= 1 or n == 3:
            return "turn"
        return "backchannel"

    verdict, kept = 0, []
    for segment in segments:
        sort = kind(*segment)
        verdict = int(sort != "backchannel")
        if sort == "long":
            break
        if before_1d40caa and sort == "turn":
            kept = []
            continue
        kept = [*kept, segment]
    return bool(verdict), kept


@pytest.mark.parametrize(
    ("word", "counts"),
    [
        (Chunk("w", 1.9, 2.4), True),  # starts exactly where the segment ends
        (Chunk("w", 0.6, 1.0), False),  # ends exactly where it starts
        (Chunk("w", 0.6, 1.1), True),
        (Chunk("w", 1.0, 1.9), True),
        (Chunk("w", 2.0, 2.4), False),
        (Chunk("w", 1.5, None), False),  # open, and before the segment's end
        (Chunk("w", None, 1.5), False),
    ],
)
def test_which_words_belong_to_a_segment(word: Chunk, counts: bool) -> None:
    taken, _ = backchannel_verdict([(1.0, 1.9)], [word, word, word], forget_on_take_over=False)
    assert taken is counts  # a segment under 1 s takes the turn by three words


segment_lists = st.lists(st.tuples(st.integers(0, 99), st.integers(1, 40)), max_size=6).map(
    lambda pairs: [(round(s / 10, 1), round((s + n) / 10, 1)) for s, n in sorted(pairs)]
)


@MANY
@given(segment_lists, word_lists, st.booleans())
def test_backchannels_follow_the_official_walk(segments, spoken, before_1d40caa) -> None:
    ours = backchannel_verdict(segments, spoken, forget_on_take_over=before_1d40caa)
    assert ours == stated_backchannels(segments, spoken, before_1d40caa)


@settings(max_examples=300, deadline=None)
@given(
    segment_lists,
    st.floats(0.5, 12),
    st.lists(st.integers(0, 9).map(float), min_size=2, max_size=60),
)
def test_distance_equals_scipy_s_over_the_official_bins(segments, duration, reference) -> None:
    n = int(duration / 0.2) + 1
    assume(np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(reference)), reference).sum() > 0)
    ours = backchannel_distance(segments, duration, reference)
    if not segments:
        assert ours == 1
        return
    bins = [0] * (int(duration / 0.2) + 1)
    for start, end in segments:
        for i in range(int(start / 0.2), int(end / 0.2) + 1):
            if i < len(bins):
                bins[i] += 1
    p = (np.array(bins) + 1e-10) / np.sum(np.array(bins) + 1e-10)
    q = interp1d(np.linspace(0, 1, len(reference)), reference, kind="linear")(np.linspace(0, 1, len(p)))
    with np.errstate(invalid="ignore"):
        theirs = jensenshannon(p, q)
    # Of equal histograms scipy may take the root of a rounding error below 0. The root also turns an error of 1e-16 in
    # the divergence of nearly equal ones into 1e-8.
    assert ours == pytest.approx(np.nan_to_num(theirs), abs=1e-9 if theirs > 1e-4 else 1e-7)


def test_distance_of_disjoint_histograms_is_the_square_root_of_ln_2() -> None:
    reference = [0.0] * 10 + [1.0] * 11
    assert backchannel_distance([(0.0, 0.5)], 4.1, reference) == pytest.approx(math.sqrt(math.log(2)), abs=1e-4)


def test_a_reference_without_mass_on_the_file_gives_no_distance() -> None:
    assert backchannel_distance([(0.0, 0.1)], 0.1, [0.0, 1.0]) is None
