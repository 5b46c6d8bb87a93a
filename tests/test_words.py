"""Word times: every format gives the same words, and what is broken is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.audio.words import Chunk, read_fdb_chunks, read_two_sided_words, read_words, write_words
from duologue.base.errors import UserError
from duologue.dialogue.timeline import Word

HELLO = (Word("Oh,", 0.5, 0.75), Word("hello", 0.75, 1.25))


def save(folder: Path, value: object, name: str = "words.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def chunk(text: str, start: Any, end: Any) -> dict[str, Any]:
    return {"text": text, "timestamp": [start, end]}


def timed(text: str, start: Any, end: Any) -> dict[str, Any]:
    return {"word": text, "start": start, "end": end}


class TestOneSpeaker:
    @pytest.mark.parametrize(
        "value",
        [
            {"text": " Oh, hello", "chunks": [chunk(" Oh,", 0.5, 0.75), chunk(" hello", 0.75, 1.25)]},
            {"segments": [{"words": [timed(" Oh,", 0.5, 0.75)]}, {"words": [timed(" hello", 0.75, 1.25)]}]},
            {"language": "en", "words": [timed("Oh,", 0.5, 0.75), timed("hello", 0.75, 1.25)]},
            [timed(" Oh,", 0.5, 0.75) | {"probability": 0.9}, timed(" hello", 0.75, 1.25) | {"probability": 0.9}],
            [["Oh,", 0.5, 0.75], ["hello", 0.75, 1.25]],
            [["hello", 0.75, 1.25], [" ", 0.0, 0.1], ["Oh,", 0.5, 0.75]],
        ],
        ids=["full-duplex-bench", "whisper", "openai", "faster-whisper", "triples", "unsorted"],
    )
    def test_every_json_format_gives_the_same_words(self, tmp_path: Path, value: object) -> None:
        assert read_words(save(tmp_path, value)) == HELLO

    def test_ctm(self, tmp_path: Path) -> None:
        text = ";; a comment\ncall 1 0.75 0.50 hello 0.98\n\ncall 1 0.50 0.25 Oh,\n"
        assert read_words(save(tmp_path, text, "words.ctm")) == HELLO

    @pytest.mark.parametrize("value", [[], {"chunks": [], "text": ""}, {"segments": []}])
    def test_no_words_is_not_an_error(self, tmp_path: Path, value: object) -> None:
        assert read_words(save(tmp_path, value)) == ()

    def test_null_end_becomes_the_start(self, tmp_path: Path) -> None:
        path = save(tmp_path, {"chunks": [chunk("a", 1.0, 1.5), chunk("b", 2, None)]})
        assert read_words(path) == (Word("a", 1.0, 1.5), Word("b", 2.0, 2.0))

    def test_word_without_times_stands_where_the_one_before_ends(self, tmp_path: Path) -> None:
        path = save(tmp_path, {"segments": [{"words": [timed("in", 1.0, 1.5), {"word": "2014."}, timed("or", 2, 3)]}]})
        assert read_words(path) == (Word("in", 1.0, 1.5), Word("2014.", 1.5, 1.5), Word("or", 2.0, 3.0))

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ("[[\"a\", NaN, 1.0]]", "word 0: time nan is not finite"),
            ({"chunks": [chunk("a", 0, 1), chunk("b", 1, "2")]}, "chunk 1: time '2' is not a number"),
            ({"segments": [{"words": [timed("a", True, 1)]}]}, "segment 0 word 0: time True is not a number"),
            ([["a", 2.0, 1.0]], r"word 0 \('a'\) ends at 1.0, before it starts at 2.0"),
            ([["a", None, 1.0]], "has an end, 1.0, but no start"),
            ({"chunks": [{"text": "a"}]}, "chunk 0: .* is not a text with a start and an end"),
            ({"segments": [{"text": "a"}]}, 'segment 0 has no list "words"'),
            ({"text": "a"}, "holds no words in a known format"),
            (3, "holds no words in a known format"),
            ([{"speaker": 0, "item": []}], "two speakers"),
        ],
    )  # fmt: skip
    def test_what_is_broken_is_named(self, tmp_path: Path, value: object, says: str) -> None:
        with pytest.raises(UserError, match=says) as caught:
            read_words(save(tmp_path, value))
        assert "words.json" in caught.value.place
        assert caught.value.mend

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("call 1 0.5 hello", "line 1: .* has under 5 fields"),
            ("call 1 x 0.5 hello", "line 1: 'x' is not a number"),
            ("call 1 0.5 inf hello", "'inf' is not a number"),
            ("call 1 0.5 -0.1 hello", "duration -0.1 is negative"),
            ("call 1 0.5 0.1 hello\ncall 2 0.5 0.1 hello", "line 2: a second recording or channel"),
        ],
    )
    def test_broken_ctm_is_named(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(UserError, match=says):
            read_words(save(tmp_path, text, "words.ctm"))


class TestTwoSpeakers:
    def test_moshi_finetune_has_the_first_side_only(self, tmp_path: Path) -> None:
        value = {"alignments": [["Oh,", [0.5, 0.75], "SPEAKER_MAIN"], ["hello", [0.75, 1.25], "SPEAKER_MAIN"]]}
        assert read_two_sided_words(save(tmp_path, value)) == (HELLO, None)
        assert read_two_sided_words(save(tmp_path, {"alignments": []})) == ((), None)

    def test_the_main_speaker_comes_first_whatever_the_other_is_called(self, tmp_path: Path) -> None:
        value = {"alignments": [["a", [0, 1], "A"], ["b", [1, 2], "SPEAKER_MAIN"]]}
        assert read_two_sided_words(save(tmp_path, value)) == ((Word("b", 1, 2),), (Word("a", 0, 1),))

    def test_full_duplex_bench_transcription(self, tmp_path: Path) -> None:
        one = {"speaker": 1, "item": [chunk("Oh,", 0.5, 0.75)]}
        two = {"speaker": 1, "item": [chunk("hello", 0.75, 1.25)]}
        assert read_two_sided_words(save(tmp_path, [one, two])) == (None, HELLO)
        assert read_two_sided_words(save(tmp_path, [one, {"speaker": 0, "item": []}, two])) == ((), HELLO)
        assert read_two_sided_words(save(tmp_path, [])) == (None, None)

    def test_utterances_stay_whole_and_labels_are_sorted(self, tmp_path: Path) -> None:
        value = [
            {"speaker": "P08", "words": "good morning to you", "start_time": "1.5", "end_time": "3.0"},
            {"speaker": "P05", "words": "hello", "start_time": 0, "end_time": 1},
        ]
        sides = read_two_sided_words(save(tmp_path, value))
        assert sides == ((Word("hello", 0.0, 1.0),), (Word("good morning to you", 1.5, 3.0),))

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ([{"speaker": i, "item": []} for i in range(3)], "has 3 speakers: 0, 1, 2"),
            ([{"speaker": 0, "item": [chunk("a", 2, 1)]}], "entry 0 word 0 .* ends at 1.0, before"),
            ([{"speaker": 0, "words": "a", "start_time": "soon", "end_time": 1}], "entry 0: time 'soon'"),
            ([{"speaker": 0, "item": []}, {"speaker": 1}], "entry 1 is not what one speaker says"),
            ({"alignments": [["a", 0, 1]]}, "alignment 0: .* is not"),
            ({"chunks": []}, "is not a two-sided transcript"),
        ],
    )
    def test_what_is_broken_is_named(self, tmp_path: Path, value: object, says: str) -> None:
        with pytest.raises(UserError, match=says):
            read_two_sided_words(save(tmp_path, value))


class TestFdbChunks:
    def test_nothing_is_repaired(self, tmp_path: Path) -> None:
        chunks = [chunk(" b", 3.0, None), chunk("", 1, 0.5), chunk("a ", None, None)]
        transcript = read_fdb_chunks(save(tmp_path, {"text": " b a ", "chunks": chunks}))
        assert transcript.text == " b a "
        assert transcript.chunks == (Chunk(" b", 3.0, None), Chunk("", 1.0, 0.5), Chunk("a ", None, None))

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ([], 'has no list "chunks"'),
            ({"chunks": {}}, 'has no list "chunks"'),
            ({"text": None, "chunks": []}, '"text" is None'),
            ({"chunks": [chunk("a", 0, 1), {"timestamp": [0, 1]}]}, "chunk 1: "),
            ({"chunks": [{"text": "a", "timestamp": [0]}]}, "chunk 0: "),
            ('{"chunks": [{"text": "a", "timestamp": [0, Infinity]}]}', "time inf is not finite"),
            ('{"chunks": [', "not JSON"),
        ],
    )
    def test_malformed_content_is_named(self, tmp_path: Path, value: object, says: str) -> None:
        with pytest.raises(UserError, match=says):
            read_fdb_chunks(save(tmp_path, value))

    def test_official_samples(self, shared_data: Path) -> None:
        root = shared_data / "full-duplex-bench"
        words = read_words(root / "pause_handling_example/1/output.json")
        assert words[0] == Word("A", 0.0, 1.64)
        assert read_fdb_chunks(root / "pause_handling_example/1/output.json").chunks[0].text == " A"
        first, second = read_two_sided_words(root / "smooth_turn_taking_example/1/transcription.json")
        assert first
        assert second
        assert first[0].text == "I"


spoken = st.lists(
    st.builds(
        lambda text, start, length: Word(text, start, start + length),
        st.text(min_size=1).map(str.strip).filter(bool),
        st.floats(0, 1e5),
        st.floats(0, 10),
    ),
    max_size=6,
)


@given(spoken)
def test_written_words_are_read_back_equal(tmp_path_factory: pytest.TempPathFactory, words: list[Word]) -> None:
    path = tmp_path_factory.mktemp("words") / "output.json"
    write_words(path, words)
    assert read_words(path) == tuple(sorted(words, key=lambda w: (w.start, w.end)))
    assert [c.text for c in read_fdb_chunks(path).chunks] == [w.text for w in words]
