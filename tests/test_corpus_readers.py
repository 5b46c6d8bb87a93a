"""Every corpus format, in tiny files as the corpora hold them."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus_files import call, noise, put, tar_bytes, wav_bytes
from duologue.base.errors import UserError
from duologue.corpus.conversation import Conversation, Read, Rejected
from duologue.corpus.heard import Agreement
from duologue.corpus.readers import READERS, ReadOptions, find_reader, read_corpus
from duologue.corpus.readers.switchboard import isip_word
from duologue.corpus.readers.timed import read_ctm, read_rttm, read_textgrid, read_vtt
from duologue.corpus.report import ReadReport
from duologue.corpus.sound import read_sound
from duologue.dialogue.timeline import Word


def reads(root: Path, format: str | None = None, **options: Any) -> list[Read]:
    return list(read_corpus(root, format, ReadOptions(**options)))


def only(root: Path, format: str | None = None, **options: Any) -> Conversation:
    (read,) = reads(root, format, **options)
    assert isinstance(read, Conversation), read
    return read


def reason(root: Path, format: str | None = None, **options: Any) -> tuple[str, str, str]:
    (read,) = reads(root, format, **options)
    assert isinstance(read, Rejected), read
    return read.id, read.defects[-1].kind, read.defects[-1].detail


def stereo(seconds: float = 2.0, seed: int = 0) -> bytes:
    return wav_bytes(noise(seconds, 2 * seed), noise(seconds, 2 * seed + 1))


def rows(words: tuple[Word, ...] | None) -> list[tuple[str, float, float]] | None:
    return None if words is None else [tuple(w) for w in words]


class TestMoshi:
    def corpus(self, root: Path, alignments: Any) -> None:
        put(root, "data.jsonl", '{"path": "talks/a.wav", "duration": 2.0}\n\n')
        put(root, "talks/a.wav", stereo())
        put(root, "talks/a.json", {"alignments": alignments})

    def test_left_is_the_agent_and_has_the_words(self, tmp_path: Path) -> None:
        self.corpus(tmp_path, [[" hi", [0.5, 1.0], "SPEAKER_MAIN"], ["there", [1.4, 1.2], "SPEAKER_MAIN"]])
        c = only(tmp_path)
        assert (c.corpus, c.id, c.duration, c.info["roles"]) == ("moshi-finetune", "data/000001", 2.0, "agent,user")
        assert [s.speaker for s in c.sides] == ["agent", "user"]
        assert [s.sound and s.sound.channel for s in c.sides] == [0, 1]
        assert rows(c.sides[0].words) == [("hi", 0.5, 1.0), ("there", 1.2, 1.4)]
        assert c.sides[1].words is None
        assert [d.kind for d in c.defects] == ["swapped_times"]

    def test_other_labels_are_the_user(self, tmp_path: Path) -> None:
        self.corpus(tmp_path, [["hi", [0.5, 1], "SPEAKER_MAIN"], ["so", [1, 2], "SPEAKER_01"]])
        assert rows(only(tmp_path).sides[1].words) == [("so", 1.0, 2.0)]

    @pytest.mark.parametrize(
        ("line", "kind", "says"),
        [
            ('{"path": "b.wav"}', "missing", "b.wav: no such file"),
            ("{", "unreadable", "line 2: not JSON"),
            ('{"duration": 3}', "unreadable", "line 2: has no path"),
            ('{"path": "mono.wav"}', "unreadable", "has 1 channels"),
            ('{"path": "a.wav", "duration": "x"}', "unreadable", "duration 'x'"),
            ('{"path": "bad.wav"}', "unreadable", "is not [word, [start, end], speaker]"),
        ],
    )
    def test_a_bad_line_is_set_aside_alone(self, tmp_path: Path, line: str, kind: str, says: str) -> None:
        put(tmp_path, "a.wav", stereo())
        put(tmp_path, "mono.wav", wav_bytes(noise(1.0)))
        put(tmp_path, "bad.wav", stereo())
        put(tmp_path, "bad.json", {"alignments": [["a", 1, 2]]})
        put(tmp_path, "d.jsonl", f'{{"path": "a.wav", "duration": 2}}\n{line}\n')
        good, bad = reads(tmp_path)
        assert isinstance(good, Conversation)
        assert isinstance(bad, Rejected)
        assert (bad.id, bad.defects[0].kind) == ("d/000002", kind)
        assert says in bad.defects[0].detail


ONE, TWO = "V00_S0039_I00000581_P0062", "V00_S0039_I00000581_P0059A"
LINE = {"words": [{"word": "Oh", "start": 0.5, "end": 1.0, "score": 0.7}, {"word": "2014."}], "start": 0.5, "end": 1.0}
SAID = [LINE | {"transcript": "Oh 2014."}]
VAD = [{"start": 0.4, "end": 1.1}]


def metadata(id: str) -> dict[str, Any]:
    return {"id": id, "metadata:transcript": SAID, "metadata:vad": VAD}


class TestSeamless:
    def check(self, c: Conversation) -> None:
        assert (c.corpus, c.id, c.duration) == ("seamless", "V00_S0039_I00000581", 2.0)
        assert [s.speaker for s in c.sides] == ["P0059A", "P0062"]
        assert rows(c.sides[1].words) == [("Oh", 0.5, 1.0), ("2014.", 1.0, 1.0)]
        assert np.array_equal(c.sides[0].speech, [[0.4, 1.1]])
        for side, seed in zip(c.sides, (2, 1), strict=True):
            assert side.sound is not None
            assert np.allclose(read_sound(side.sound).samples[0], noise(2.0, seed), atol=1e-4)

    def sounds(self) -> dict[str, bytes]:
        return {ONE: wav_bytes(noise(2.0, 1)), TWO: wav_bytes(noise(2.0, 2))}

    def test_local_files(self, tmp_path: Path) -> None:
        for id, data in self.sounds().items():
            put(tmp_path, f"improvised/dev/0000/0005/{id}.wav", data)
            put(tmp_path, f"improvised/dev/0000/0005/{id}.json", metadata(id))
            put(tmp_path, f"improvised/dev/0000/0005/{id}.npz", b"PK")
        c = only(tmp_path)
        self.check(c)
        assert dict(c.info) == {"label": "improvised", "split": "dev"}

    def test_tars_are_read_in_place_and_pairs_may_be_in_two(self, tmp_path: Path) -> None:
        import json

        for i, (id, data) in enumerate(self.sounds().items()):
            members = {f"{id}.json": json.dumps(metadata(id)).encode(), f"{id}.mp4": b"x" * 700, f"{id}.wav": data}
            put(tmp_path, f"naturalistic/train/0000/{i:04d}.tar", tar_bytes(members))
        c = only(tmp_path)
        self.check(c)
        assert dict(c.info) == {"label": "naturalistic", "split": "train"}
        assert sorted(p.suffix for p in tmp_path.rglob("*.*")) == [".tar", ".tar"]

    def test_a_loose_file_comes_before_the_same_in_a_tar(self, tmp_path: Path) -> None:
        put(tmp_path, "a.tar", tar_bytes({f"{id}.wav": wav_bytes(noise(1.0)) for id in (ONE, TWO)}))
        for id, data in self.sounds().items():
            put(tmp_path, f"z/{id}.wav", data)
        c = only(tmp_path)
        assert c.duration == 2.0
        assert [s.sound and s.sound.member for s in c.sides] == [None, None]

    def test_bucket_layout(self, tmp_path: Path) -> None:
        import json

        for id, data in self.sounds().items():
            put(tmp_path, f"improvised/test/audio/{id}.wav", data)
            put(tmp_path, f"improvised/test/metadata/transcript/{id}.jsonl", json.dumps(SAID[0]) + "\n")
            put(tmp_path, f"improvised/test/metadata/vad/{id}.jsonl", json.dumps(VAD[0]) + "\n")
            put(tmp_path, f"improvised/test/annotations/1P-IS/{id}.json", {"annotation": "x"})
        self.check(only(tmp_path))

    @pytest.mark.parametrize("people", [1, 3])
    def test_not_two_participants(self, tmp_path: Path, people: int) -> None:
        for i in range(people):
            put(tmp_path, f"V00_S1_I2_P{i}.wav", wav_bytes(noise(1.0, i)))
        id, kind, detail = reason(tmp_path)
        assert (id, kind) == ("V00_S1_I2", "missing")
        assert f"has {people} participant(s), P0" in detail

    def test_silent_sound_with_empty_vad_is_set_aside(self, tmp_path: Path) -> None:
        for id, data in (self.sounds() | {TWO: wav_bytes(np.zeros(16000))}).items():
            put(tmp_path, f"{id}.wav", data)
            put(tmp_path, f"{id}.json", {"id": id, "metadata:vad": VAD if id == ONE else []})
        assert reason(tmp_path)[1:] == ("empty", "no speech at all")

    def test_a_broken_or_cut_tar_is_named_and_the_rest_is_read(self, tmp_path: Path) -> None:
        whole = tar_bytes({f"{id}.wav": data for id, data in self.sounds().items()})
        put(tmp_path, "a.tar", whole)
        put(tmp_path, "b.tar", b"\x1f\x8b no tar")
        put(tmp_path, "c.tar", whole[:-20000])
        good, *bad = reads(tmp_path)
        assert isinstance(good, Conversation)
        assert [(r.id, r.defects[0].kind) for r in bad] == [("b.tar", "unreadable"), ("c.tar", "unreadable")]

    def test_speech_from_the_sound_and_how_far_it_agrees(self, tmp_path: Path) -> None:
        burst = noise(4.0, 1, 0.001)
        burst[8000:24000] += noise(2.0, 3, 0.5)
        for id in (ONE, TWO):
            put(tmp_path, f"{id}.wav", wav_bytes(burst))
            put(tmp_path, f"{id}.json", {"metadata:vad": [{"start": 1.0, "end": 3.0}], "metadata:transcript": []})
        from duologue.audio.vad import VadConfig

        c = only(tmp_path, speech="vad", vad=VadConfig(backend="energy"))
        for i, side in enumerate(c.sides):
            assert side.speech is not None
            assert side.speech == pytest.approx(np.array([[1.0, 3.0]]), abs=0.1)
            assert Agreement.of_line(c.info[f"vad_agreement_{i}"]).agree > 0.95
        report = ReadReport()
        report.add(c)
        assert report.to_json()["agreement"]["hours"] == pytest.approx(8 / 3600)
        assert "of the detector" in report.table()


class TestFisher:
    TEXT = (
        "# fe_03_00001.sph\n# Transcribed at the LDC\n\n"
        "0.50 1.20 A: hello ((there))\n\n1.00 1.80 B: [laughter]\n1.9 2.5 B: um\n"
    )

    def test_sound_and_utterances(self, tmp_path: Path) -> None:
        put(tmp_path, "audio/000/fe_03_00001.sph", call(3.0))
        put(tmp_path, "trans/000/fe_03_00001.txt", self.TEXT)
        c = only(tmp_path)
        assert (c.corpus, c.id, c.duration, c.info) == ("fisher", "fe_03_00001", 3.0, {"words": "utterances"})
        assert [s.sound and s.sound.channel for s in c.sides] == [0, 1]
        assert [rows(s.words) for s in c.sides] == [[("hello there", 0.5, 1.2)], [("um", 1.9, 2.5)]]
        assert [np.asarray(s.speech).tolist() for s in c.sides] == [[[0.5, 1.2]], [[1.9, 2.5]]]

    def test_one_half_alone(self, tmp_path: Path) -> None:
        put(tmp_path, "t/fe_03_00001.txt", self.TEXT)
        c = only(tmp_path)
        assert (c.sides[0].sound, c.duration) == (None, 2.5)
        put(tmp_path, "a/fe_03_00002.sph", call(1.0))
        missing, without_text = reads(tmp_path)
        assert isinstance(missing, Rejected)
        assert missing.defects[0].kind == "missing"
        assert isinstance(without_text, Conversation)
        assert without_text.sides[0].words is None

    def test_a_line_that_is_none(self, tmp_path: Path) -> None:
        put(tmp_path, "fe_03_11487.txt", "1.0 2.0 A: hm\n3.0 4.0 C: what\n")
        id, kind, detail = reason(tmp_path)
        assert (id, kind) == ("fe_03_11487", "unreadable")
        assert "line 2: '3.0 4.0 C: what' is no utterance" in detail


class TestSwitchboard:
    def put_words(self, root: Path, letter: str, text: str, suffix: str = "text") -> None:
        put(root, f"20/2001/sw2001{letter}-ms98-a-word.{suffix}", text)

    def test_word_times(self, tmp_path: Path) -> None:
        n = "sw2001A-ms98-a-0001"
        self.put_words(
            tmp_path, "A", f"{n} 0.000000 0.977625 [silence]\n{n} 0.977625 1.561375 okay\n{n} 1.6 2.0 [laughter-so]\n"
        )
        self.put_words(
            tmp_path, "B", "sw2001B-ms98-a-0001 0.0 3.5 [silence]\nsw2001B-ms98-a-0002 3.5 4.0 th[at]-\n", "trans"
        )
        c = only(tmp_path)
        assert (c.corpus, c.id, c.duration, c.sides[0].sound) == ("switchboard", "sw2001", 4.0, None)
        assert rows(c.sides[0].words) == [("okay", 0.977625, 1.561375), ("so", 1.6, 2.0)]
        assert rows(c.sides[1].words) == [("th-", 3.5, 4.0)]
        put(tmp_path, "disc1/sw02001.sph", call(4.2))
        assert only(tmp_path).duration == pytest.approx(4.2)

    @pytest.mark.parametrize(
        ("token", "word"),
        [
            ("[silence]", ""), ("[vocalized-noise]", ""), ("[laughter]", ""), ("<b_aside>", ""),
            ("[laughter-yeah]", "yeah"),
            ("w[ould]-", "w-"), ("-[ca]use", "-use"), ("{yuppiedom}", "yuppiedom"), ("them_1", "them"),
            ("[splace/space]", "space"), ("[laughter-th[at]-]", "th-"), ("uh-huh", "uh-huh"), ("-", ""),
        ],
    )  # fmt: skip
    def test_marks(self, token: str, word: str) -> None:
        assert isip_word(token) == word

    def test_one_side_is_missing(self, tmp_path: Path) -> None:
        self.put_words(tmp_path, "A", "x 0 1 hi\n")
        assert reason(tmp_path)[:2] == ("sw2001", "missing")


class TestCandor:
    HEAD = "turn_id,speaker,start,stop,utterance,backchannel,backchannel_speaker,backchannel_start,backchannel_stop\n"

    def corpus(self, root: Path, folder: str = "processed/") -> None:
        put(root, f"uu-1/{folder}uu-1.wav", stereo(4.0))
        put(root, f"uu-1/{folder}channel_map.json", {"L": "ann", "R": "bob"})

    def test_backchannels_are_the_others(self, tmp_path: Path) -> None:
        self.corpus(tmp_path)
        turns = '0,bob,0.5,2.5,"so, I\nsaid",mhm,ann,1.0,1.2\n1,ann,2.6,3.5,right,,,,\n'
        put(tmp_path, "uu-1/transcription/transcript_backbiter.csv", self.HEAD + turns)
        c = only(tmp_path)
        assert (c.corpus, c.id, dict(c.info)) == ("candor", "uu-1", {"transcript": "backbiter", "words": "utterances"})
        assert [s.speaker for s in c.sides] == ["ann", "bob"]
        assert rows(c.sides[0].words) == [("mhm", 1.0, 1.2), ("right", 2.6, 3.5)]
        assert rows(c.sides[1].words) == [("so, I said", 0.5, 2.5)]

    @pytest.mark.parametrize("name", ["audiophile", "cliffhanger"])
    def test_the_other_transcripts(self, tmp_path: Path, name: Any) -> None:
        self.corpus(tmp_path, "")
        put(
            tmp_path,
            f"uu-1/transcript_{name}.csv",
            "turn_id,speaker,start,stop,utterance\n0,ann,0,1,hi\n1,bob,1,2,ho\n",
        )
        assert [rows(s.words) for s in only(tmp_path, candor=name).sides] == [[("hi", 0, 1)], [("ho", 1, 2)]]
        assert only(tmp_path).sides[0].words is None

    def test_word_times_of_the_recogniser(self, tmp_path: Path) -> None:
        self.corpus(tmp_path)

        def channel(name: str, word: str) -> dict[str, Any]:
            said = {
                "start_time": "1.0",
                "end_time": "1.5",
                "type": "pronunciation",
                "alternatives": [{"content": word}],
            }
            return {"channel_label": name, "items": [said, {"type": "punctuation", "alternatives": [{"content": "."}]}]}

        found = {"results": {"channel_labels": {"channels": [channel("ch_1", "ho"), channel("ch_0", "hi")]}}}
        put(tmp_path, "uu-1/transcription/transcribe_output.json", found)
        assert [rows(s.words) for s in only(tmp_path, candor="aws").sides] == [[("hi.", 1, 1.5)], [("ho.", 1, 1.5)]]

    def test_one_file_for_each_participant(self, tmp_path: Path) -> None:
        for i, name in enumerate(("ann", "bob")):
            put(tmp_path, f"uu-1/processed/{name}.wav", wav_bytes(noise(1.0, i)))
        put(tmp_path, "uu-1/processed/channel_map.json", {"L": "bob", "R": "ann"})
        assert [s.sound and s.sound.path.stem for s in only(tmp_path).sides] == ["bob", "ann"]

    @pytest.mark.parametrize(
        ("channels", "turns", "says"),
        [
            ({"L": "ann"}, "", "does not name two participants"),
            ({"L": "ann", "R": "bob"}, "0,eve,0,1,hi,,,,\n", "speaker 'eve' is not in the channel map"),
            ({"L": "ann", "R": "bob"}, "0,ann,0,x,hi,,,,\n", "utterance has no times"),
            ({"L": "ann", "R": "bob"}, "0,ann,0,1,hi,mm,bob,,\n", "backchannel has no times"),
        ],
    )
    def test_reasons(self, tmp_path: Path, channels: Any, turns: str, says: str) -> None:
        self.corpus(tmp_path)
        put(tmp_path, "uu-1/processed/channel_map.json", channels)
        put(tmp_path, "uu-1/transcription/transcript_backbiter.csv", self.HEAD + turns)
        id, kind, detail = reason(tmp_path)
        assert (id, kind) == ("uu-1", "unreadable")
        assert says in detail


LONG_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "left"
        xmin = 0
        xmax = 2
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = "say ""12 [3]"" 4"
        intervals [2]:
            xmin = 1.5
            xmax = 2
            text = ""
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 2
        points: size = 1
        points [1]:
            number = 1
            mark = "x"
    item [3]:
        class = "IntervalTier"
        name = "right"
        xmin = 0
        xmax = 2
        intervals: size = 1
        intervals [1]:
            xmin = 0.5
            xmax = 2
            text = "ho"
"""
SHORT_GRID = '"ooTextFile"\n"TextGrid"\n0\n2\n<exists>\n1\n"IntervalTier"\n"A - words"\n0\n2\n1\n0.25\n1\n"hi"\n'
VTT = (
    "WEBVTT - x\n\nNOTE a --> b\n\n1\n00:00.500 --> 00:01.000 align:left\n<v.loud Left>hi <i>you</i></v>\n\n"
    "00:00:01.000 --> 00:00:02.000\n<v right>ho\n"
)
RTTM = (
    "SPKR-INFO x 1 <NA> <NA> <NA> unknown B <NA>\nSPEAKER x 1 0.50 0.50 <NA> <NA> A <NA> <NA>\n"
    "SPEAKER x 1 1.00 1.00 <NA> <NA> B <NA> <NA>\n"
)
CTM = ";; c\nx 1 0.5 0.5 hi 0.9\nx 2 1.0 1.0 ho\n"


class TestTimedText:
    def test_each_format(self, tmp_path: Path) -> None:
        assert read_rttm(put(tmp_path, "x", RTTM)) == {"A": [Word("", 0.5, 1.0)], "B": [Word("", 1.0, 2.0)]}
        assert read_ctm(put(tmp_path, "x", CTM)) == {"1": [Word("hi", 0.5, 1.0)], "2": [Word("ho", 1.0, 2.0)]}
        assert read_vtt(put(tmp_path, "x", VTT)) == {
            "Left": [Word("hi you", 0.5, 1.0)],
            "right": [Word("ho", 1.0, 2.0)],
        }
        grid = {"left": [Word('say "12 [3]" 4', 0.0, 1.5)], "right": [Word("ho", 0.5, 2.0)]}
        assert read_textgrid(put(tmp_path, "x", LONG_GRID)) == grid
        assert read_textgrid(put(tmp_path, "x", LONG_GRID.encode("utf-16"))) == grid
        assert read_textgrid(put(tmp_path, "x", SHORT_GRID)) == {"A": [Word("hi", 0.25, 1.0)]}

    @pytest.mark.parametrize(
        ("read", "text", "says"),
        [
            (read_rttm, "SPEAKER x 1 0.5", "line 1: .* under 8 fields"),
            (read_rttm, "SPEAKER x 1 a 1 <NA> <NA> A", "'a' is not a number"),
            (read_ctm, "x 1 0.5", "under 5 fields"),
            (read_vtt, "hi", "does not begin with WEBVTT"),
            (read_vtt, "WEBVTT\n\nhi\n", "block 1: 'hi' is no cue"),
            (read_textgrid, SHORT_GRID[:60], "it ends early"),
            (read_textgrid, '"ooTextFile"\n"PitchTier"', "does not begin"),
            (read_textgrid, '"ooTextFile" "TextGrid" 0 "x"', "where numbers should be"),
        ],
    )
    def test_what_is_broken_is_named(self, tmp_path: Path, read: Any, text: str, says: str) -> None:
        with pytest.raises(UserError, match=says):
            read(put(tmp_path, "x", text))


SEGLST = [
    {"session_id": "x", "speaker": "A", "words": "hi", "start_time": "0.5", "end_time": "1.0"},
    {"session_id": "x", "speaker": "B", "words": "ho", "start_time": 1.0, "end_time": 2.0},
]


class TestFiles:
    def test_nothing_but_sound(self, tmp_path: Path) -> None:
        put(tmp_path, "b/y.wav", stereo())
        put(tmp_path, "a/x.sph", call(1.0))
        put(tmp_path, ".hidden.wav", b"")
        assert [r.id for r in reads(tmp_path)] == ["a/x", "b/y"]

    @pytest.mark.parametrize(
        ("suffix", "content", "speech"),
        [
            (".rttm", RTTM, True),
            (".ctm", CTM, False),
            (".vtt", VTT.replace("hi <i>you</i>", "hi"), False),
            (".TextGrid", LONG_GRID.replace('say ""12 [3]"" 4', "hi").replace("xmax = 1.5", "xmax = 1"), False),
            (".seglst.json", SEGLST, False),
            (".json", {"alignments": [["hi", [0.5, 1.0], "SPEAKER_MAIN"], ["ho", [1.0, 2.0], "x"]]}, False),
        ],
    )
    def test_each_transcript(self, tmp_path: Path, suffix: str, content: Any, speech: bool) -> None:
        put(tmp_path, "x.wav", stereo())
        put(tmp_path, f"x{suffix}", content)
        c = only(tmp_path)
        if speech:
            assert [np.asarray(s.speech).tolist() for s in c.sides] == [[[0.5, 1.0]], [[1.0, 2.0]]]
        else:
            said = [rows(s.words) for s in c.sides]
            assert [[r[0] for r in side or []] for side in said] == [["hi"], ["ho"]]

    def test_labels_that_tell_no_channel_need_to_be_told(self, tmp_path: Path) -> None:
        put(tmp_path, "x.wav", stereo())
        put(tmp_path, "x.rttm", RTTM.replace(" A ", " zoe ").replace(" B ", " adam "))
        assert "speakers called adam, zoe do not tell their channel" in reason(tmp_path)[2]
        c = only(tmp_path, speakers=("zoe", "adam"))
        assert np.asarray(c.sides[0].speech).tolist() == [[0.5, 1.0]]

    def test_mono_pairs_and_their_own_transcripts(self, tmp_path: Path) -> None:
        put(tmp_path, "x-user.wav", wav_bytes(noise(1.0, 1)))
        put(tmp_path, "x-agent.wav", wav_bytes(noise(1.0, 2)))
        put(tmp_path, "x-user.json", [["hi", 0.2, 0.4]])
        put(tmp_path, "x-agent.ctm", "x 1 0.5 0.1 ho\n")
        c = only(tmp_path)
        assert (c.id, c.info, [s.speaker for s in c.sides]) == ("x", {"roles": "agent,user"}, ["agent", "user"])
        assert [rows(s.words) for s in c.sides] == [[("ho", 0.5, 0.6)], [("hi", 0.2, 0.4)]]

    def test_a_pair_with_one_transcript_of_both(self, tmp_path: Path) -> None:
        for i, mark in enumerate("AB"):
            put(tmp_path, f"f/x_{mark}.wav", wav_bytes(noise(2.0, i)))
        put(tmp_path, "f/x.rttm", RTTM)
        assert np.asarray(only(tmp_path).sides[1].speech).tolist() == [[1.0, 2.0]]

    def test_numbered_two_channel_files_are_no_pair_and_no_file_is_lost(self, tmp_path: Path) -> None:
        for i in range(3):
            put(tmp_path, f"x_{i}.wav", stereo())
            put(tmp_path, f"y_{i}.wav", wav_bytes(noise(1.0)))
        found = [(r.id, isinstance(r, Conversation)) for r in reads(tmp_path)]
        assert found == [("x_0", True), ("x_1", True), ("x_2", True), ("y", True), ("y_2", False)]

    @pytest.mark.parametrize(
        ("data", "kind", "says"),
        [
            (wav_bytes(noise(1.0)), "missing", "has 1 channel, and no file of the other side"),
            (wav_bytes(*[noise(1.0)] * 3), "unreadable", "has 3 channels"),
            (b"", "unreadable", "is empty"),
        ],
    )
    def test_reasons(self, tmp_path: Path, data: bytes, kind: str, says: str) -> None:
        put(tmp_path, "x.wav", data)
        found = reason(tmp_path)
        assert found[:2] == ("x", kind)
        assert says in found[2]


class TestChoosing:
    def test_the_folder_tells_the_format_and_the_name_wins(self, tmp_path: Path) -> None:
        put(tmp_path, "fe_03_00001.sph", call(1.0))
        assert find_reader(tmp_path).name == "fisher"
        assert only(tmp_path).corpus == "fisher"
        assert only(tmp_path, "files").corpus == "files"
        put(tmp_path, "channel_map.json", {})
        with pytest.raises(UserError, match="could be any of fisher, candor"):
            find_reader(tmp_path)

    def test_refusals(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="holds no corpus in a known format"):
            find_reader(tmp_path)
        with pytest.raises(UserError, match="no such folder"):
            find_reader(tmp_path / "x")
        with pytest.raises(UserError, match="unknown corpus format 'x'"):
            reads(tmp_path, "x")
        for name in READERS:
            with pytest.raises(UserError, match=f"holds no conversation of format {name}"):
                reads(tmp_path, name)

    def test_conversations_come_one_by_one(self, tmp_path: Path) -> None:
        for i in range(3):
            put(tmp_path, f"x{i}.wav", stereo())
        lazy = read_corpus(tmp_path, "files")
        assert next(lazy).id == "x0"
        (tmp_path / "x1.wav").write_bytes(b"")
        assert [type(r) for r in lazy] == [Rejected, Conversation]


def test_a_thousand_broken_files_end_with_a_thousand_named_reasons(tmp_path: Path) -> None:
    rng = random.Random(1)
    good = [stereo(0.05), call(0.05), wav_bytes(noise(0.05))]
    ways = [
        lambda d: d[: rng.randrange(0, 40)],
        lambda d: rng.randbytes(60),
        lambda d: b"NIST_1A\n   1024\n" + rng.randbytes(rng.randrange(60)),
        lambda d: b"RIFF" + d[4:20] + rng.randbytes(8),
        lambda d: good[2],
        lambda d: d[:8] + rng.randbytes(rng.randrange(4, 40)),
    ]
    for i, way in zip(range(1000), itertools.cycle(ways), strict=False):
        data = way(good[i % 2])
        put(tmp_path, f"{i % 10}/{i:03d}x.{'wav' if i % 2 == 0 else 'sph'}", data)
    report = ReadReport()
    found = list(report.watch(read_corpus(tmp_path, "files")))
    assert len({r.id for r in found}) == 1000
    assert all(isinstance(r, Rejected) for r in found)
    rejected = report.to_json()["rejected"]
    assert len(rejected) == 1000
    for row in rejected:
        (reason,) = row["reasons"]
        assert row["id"] in reason
        assert reason.startswith(("unreadable", "missing", "empty"))
