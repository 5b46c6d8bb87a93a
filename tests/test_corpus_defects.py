"""Every defect is named, and mended by its rule or set aside."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_files import RATE, call, noise, put, telephone, wav_bytes
from duologue.audio.wave import Audio
from duologue.base.errors import UserError
from duologue.corpus.conversation import Conversation, Read, Rejected, Side, SoundRef
from duologue.corpus.defects import DefectRules, check
from duologue.corpus.heard import Agreement, agreement, pooled
from duologue.corpus.listening import bleed
from duologue.corpus.report import ReadReport
from duologue.dialogue.intervals import as_intervals, merge
from duologue.dialogue.timeline import Word

SPANS = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), max_size=6)
OTHER = Side(speaker="b", words=(Word("yes", 1.0, 2.0),))


def talk(side: Side | None = None, duration: float = 10.0, other: Side = OTHER) -> Conversation:
    return Conversation(id="t", corpus="c", duration=duration, sides=(side or replace(OTHER, speaker="a"), other))


def words(*rows: tuple[str, float, float]) -> Side:
    return Side(speaker="a", words=tuple(Word(*row) for row in rows))


def speech(*rows: tuple[float, float]) -> Side:
    return Side(speaker="a", speech=as_intervals(rows))


def kinds(read: Read) -> list[tuple[str, bool, int | None]]:
    return [(d.kind, d.mended, d.side) for d in read.defects]


def kept(read: Read) -> Conversation:
    assert isinstance(read, Conversation), read
    return read


def sounds(folder: Path, *data: bytes) -> Conversation:
    refs = [SoundRef(path=put(folder, f"{i}.wav", d)) for i, d in enumerate(data)]
    a, b = refs if len(refs) == 2 else (refs[0], replace(refs[0], channel=1))
    return Conversation(
        id="t", corpus="c", duration=0.0, sides=(Side(speaker="a", sound=a), Side(speaker="b", sound=b))
    )


class TestTimes:
    def test_nothing_wrong_changes_nothing(self) -> None:
        c = talk(words(("a", 1.0, 2.0), ("b", 1.9, 3.0)))
        assert check(c) == c

    def test_swapped_words_are_swapped_back(self) -> None:
        read = kept(check(talk(words(("a", 0.0, 0.5), ("b", 2.0, 1.0)))))
        assert kinds(read) == [("swapped_times", True, 0)]
        assert read.sides[0].words == (Word("a", 0.0, 0.5), Word("b", 1.0, 2.0))
        assert "1 of 2 words end before they start, the first 'b' at 2.00 s" in read.defects[0].detail

    def test_words_out_of_order_are_sorted(self) -> None:
        read = kept(check(talk(words(("b", 1.0, 2.0), ("a", 0.0, 0.5)))))
        assert kinds(read) == [("word_order", True, 0)]
        assert [w.text for w in read.sides[0].words or ()] == ["a", "b"]

    def test_overlapping_speech_is_merged_and_touching_speech_is_no_defect(self) -> None:
        read = kept(check(talk(speech((3.0, 4.0), (1.0, 2.0), (1.5, 2.5)))))
        assert kinds(read) == [("overlapping", True, 0)]
        assert np.array_equal(read.sides[0].speech, [[1.0, 2.5], [3.0, 4.0]])
        assert kinds(check(talk(speech((1.0, 2.0), (2.0, 3.0))))) == []

    def test_swapped_speech_is_swapped_back(self) -> None:
        read = kept(check(talk(speech((2.0, 1.0)))))
        assert kinds(read) == [("swapped_times", True, 0)]
        assert np.array_equal(read.sides[0].speech, [[1.0, 2.0]])

    def test_a_little_outside_is_cut(self) -> None:
        read = kept(check(talk(words(("a", 0.0, 9.0), ("b", 9.5, 10.5), ("c", 10.6, 10.7)))))
        assert kinds(read) == [("outside", True, 0)]
        assert read.sides[0].words == (Word("a", 0.0, 9.0), Word("b", 9.5, 10.0))

    def test_much_outside_is_set_aside(self) -> None:
        read = check(talk(speech((5.0, 15.0))))
        assert isinstance(read, Rejected)
        assert kinds(read) == [("outside", False, 0)]
        assert read.duration == 10.0

    def test_within_the_edge_is_cut_in_silence(self) -> None:
        read = kept(check(talk(speech((5.0, 10.04)))))
        assert read.defects == ()
        assert np.array_equal(read.sides[0].speech, [[5.0, 10.0]])

    @pytest.mark.parametrize("side", [words(), speech(), words(("a", 1.0, 1.0))][:2])
    def test_a_side_that_says_nothing_is_set_aside(self, side: Side) -> None:
        assert kinds(check(talk(side))) == [("empty", False, 0)]

    def test_a_side_of_which_nothing_is_known_is_kept(self) -> None:
        assert kept(check(talk(Side(speaker="a")))).sides[0].words is None

    @pytest.mark.parametrize("side", [words(("a", math.nan, 1.0)), speech((0.0, math.inf))])
    @pytest.mark.parametrize("duration", [0.0, 10.0])
    def test_times_that_are_no_numbers_are_set_aside(self, side: Side, duration: float) -> None:
        assert {k[:2] for k in kinds(check(talk(side, duration)))} == {("unreadable", False)}

    def test_without_sound_and_length_the_last_end_is_the_length(self) -> None:
        assert kept(check(talk(words(("a", 4.0, 3.0)), 0.0))).duration == 4.0
        assert kinds(check(talk(words(), 0.0, words()))) == [("empty", False, None)]

    @given(
        st.lists(st.tuples(st.floats(-5, 15), st.floats(-5, 15)), max_size=8),
        st.lists(st.tuples(st.floats(-5, 15), st.floats(-5, 15)), max_size=8),
    )
    def test_whatever_is_kept_is_in_order_and_checking_again_finds_nothing(self, a: Any, b: Any) -> None:
        side = Side(speaker="a", speech=as_intervals(a), words=tuple(Word("w", *row) for row in b))
        read = check(talk(side), rules=DefectRules(max_outside=1.0))
        if isinstance(read, Rejected):
            assert any(not d.mended for d in read.defects)
            return
        mended = read.sides[0]
        assert mended.speech is not None
        assert mended.words is not None
        assert np.array_equal(mended.speech, merge(mended.speech))
        assert all(0 <= w.start <= w.end <= 10 for w in mended.words)
        assert list(mended.words) == sorted(mended.words, key=lambda w: (w.start, w.end))
        again = kept(check(replace(read, defects=())))
        assert again.defects == ()
        assert again.sides[0].words == mended.words


class TestSound:
    def test_two_good_sides_are_kept(self, tmp_path: Path) -> None:
        read = kept(check(sounds(tmp_path, wav_bytes(noise(2.0, 1), noise(2.0, 2))), audio=True))
        assert read.defects == ()
        assert read.duration == 2.0

    @pytest.mark.parametrize(
        ("seconds", "expected"), [(2.4, []), (2.6, [("length", True, None)]), (9.0, [("length", False, None)])]
    )
    def test_lengths_that_differ(self, tmp_path: Path, seconds: float, expected: list[Any]) -> None:
        read = check(sounds(tmp_path, wav_bytes(noise(seconds, 1)), wav_bytes(noise(2.0, 2))))
        assert kinds(read) == expected
        if isinstance(read, Conversation):
            assert read.duration == 2.0

    def test_the_sound_counts_where_the_corpus_tells_another_length(self, tmp_path: Path) -> None:
        c = sounds(tmp_path, wav_bytes(noise(2.0, 1), noise(2.0, 2)))
        assert kinds(check(replace(c, duration=2.4))) == []
        read = kept(check(replace(c, duration=2.6)))
        assert (kinds(read), read.duration) == ([("length", True, None)], 2.0)

    def test_missing_broken_and_empty_sound(self, tmp_path: Path) -> None:
        good = wav_bytes(noise(1.0))
        c = sounds(tmp_path, good, good)
        (tmp_path / "1.wav").unlink()
        assert kinds(check(c)) == [("missing", False, 1)]
        assert kinds(check(sounds(tmp_path, b"RIFF????", good))) == [("unreadable", False, 0)]
        assert kinds(check(sounds(tmp_path, wav_bytes(noise(0.0)), good))) == [("empty", False, None)]

    def test_a_silent_channel_is_found_only_by_listening(self, tmp_path: Path) -> None:
        c = sounds(tmp_path, wav_bytes(noise(2.0), noise(2.0, level=0.0008)))
        assert kinds(check(c)) == []
        assert kinds(check(c, audio=True)) == [("silent", False, 1)]

    def test_clipping(self, tmp_path: Path) -> None:
        loud = np.sin(np.arange(2 * RATE) * 0.1) * 2
        assert kinds(check(sounds(tmp_path, wav_bytes(noise(2.0), loud)), audio=True)) == [("clipping", False, 1)]
        assert kinds(check(sounds(tmp_path, wav_bytes(noise(2.0), loud * 0.49)), audio=True)) == []

    def test_clipping_of_telephone_sound_that_never_reaches_one(self, tmp_path: Path) -> None:
        codes = np.random.default_rng(0).integers(0, 256, (RATE, 2)) | 0x10
        assert kinds(check(sounds(tmp_path, telephone(codes.astype(np.uint8))), audio=True)) == []
        codes[:100, 0] = 0x80
        assert kinds(check(sounds(tmp_path, telephone(codes.astype(np.uint8))), audio=True)) == [("clipping", False, 0)]

    def test_bleed_is_named_with_its_level(self, tmp_path: Path) -> None:
        a, b = noise(4.0, 1), noise(4.0, 2, 0.0002)
        b[0] = 0.01
        leaky = b + 0.1 * np.roll(a, 40)
        read = check(sounds(tmp_path, wav_bytes(a, leaky)), audio=True)
        assert kinds(read) == [("bleed", False, 0)]
        assert "at -20 dB in 100% of its blocks" in read.defects[0].detail
        assert kinds(check(sounds(tmp_path, wav_bytes(a, b + 0.005 * a)), audio=True)) == []  # -46 dB
        assert kinds(check(sounds(tmp_path, wav_bytes(a, b + 0.1 * np.roll(a, 400))), audio=True)) == []  # 50 ms

    def test_the_same_sound_in_both_channels_is_bleed_of_both(self, tmp_path: Path) -> None:
        a = noise(2.0)
        assert kinds(check(sounds(tmp_path, wav_bytes(a, a)), audio=True)) == [("bleed", False, 0), ("bleed", False, 1)]

    def test_bleed_of_silence_is_unknown(self) -> None:
        quiet = Audio(np.zeros((1, RATE), np.float32), RATE)
        assert bleed(quiet, quiet, DefectRules()) == (None, None)

    def test_sound_that_breaks_while_listening_is_set_aside(self, tmp_path: Path) -> None:
        c = sounds(tmp_path, call(1.0))
        assert kinds(check(c, audio=True)) == []

    def test_thresholds_must_make_sense(self) -> None:
        with pytest.raises(UserError, match=r"rules\.length_s"):
            DefectRules(length_s=-1)


class TestAgreement:
    def test_counts_frames_by_their_middle(self) -> None:
        found = agreement(as_intervals([(0.0, 0.5)]), as_intervals([(0.25, 0.75)]), 1.0)
        assert found == Agreement(seconds=1.0, agree=0.5, precision=0.5, recall=0.5)

    def test_nothing_to_compare_is_nan(self) -> None:
        none = as_intervals([])
        found = agreement(none, none, 1.0)
        assert found.agree == 1.0
        assert math.isnan(found.precision)
        assert math.isnan(found.recall)
        assert math.isnan(agreement(none, none, 0.0).agree)

    @given(
        st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), max_size=6),
        st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), max_size=6),
    )
    def test_equals_a_frame_by_frame_count(self, a: Any, b: Any) -> None:
        one, two = (merge(np.sort(as_intervals(x), axis=1)) for x in (a, b))
        middles = [(i + 0.5) * 0.01 for i in range(500)]
        p, q = ([any(s <= m < e for s, e in x) for m in middles] for x in (one, two))
        found = agreement(one, two, 5.0)
        assert found.agree == sum(x == y for x, y in zip(p, q, strict=True)) / 500
        if sum(q):
            assert found.precision == sum(x and y for x, y in zip(p, q, strict=True)) / sum(q)
        assert Agreement.of_line(found.line()).agree == pytest.approx(found.agree, abs=1e-4)

    def test_pooled_weighs_by_seconds_and_leaves_nan_out(self) -> None:
        parts = [
            Agreement(seconds=1, agree=1, precision=math.nan, recall=1),
            Agreement(seconds=3, agree=0.5, precision=0.5, recall=1),
        ]
        assert pooled(parts) == Agreement(seconds=4, agree=0.625, precision=0.5, recall=1)
        assert pooled([]) is None


class TestReport:
    def test_hours_in_out_and_why(self) -> None:
        report = ReadReport()
        bad = replace(talk(speech((5.0, 15.0)), duration=3600.0 * 2), duration=10.0)
        reads = [check(talk(words(("b", 3.0, 4.0), ("a", 2.0, 1.0)), 3600.0)), check(bad), check(talk(duration=1800.0))]
        reads.append(Rejected(id="x", corpus="c", defects=check(talk(words(("a", math.nan, 1.0)))).defects))
        assert list(report.watch(reads)) == reads
        value = report.to_json()
        assert value["in"] == {"conversations": 4, "hours": pytest.approx(1.5 + 10 / 3600)}
        assert value["out"] == {"conversations": 2, "hours": 1.5}
        assert value["set_aside"] == {"conversations": 2, "hours": 10 / 3600, "of_unknown_length": 1}
        assert value["mended"] == {k: {"conversations": 1, "hours": 1.0} for k in ("swapped_times", "word_order")}
        assert {k: v["conversations"] for k, v in value["reasons"].items()} == {"outside": 1, "unreadable": 1}
        assert [r["reasons"][0].split(",")[0] for r in value["rejected"]] == ["outside", "unreadable"]
        table = report.table()
        assert ["set", "aside", "2", "0.003"] in [line.split() for line in table.splitlines()]
        assert "1 set aside have no known length" in table
