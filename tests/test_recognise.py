"""Recognising what has no transcript, with a stand-in that hears one word where each recording begins."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from duologue.audio.vad import VadConfig
from duologue.audio.wave import Audio
from duologue.audio.words import Words, read_words
from duologue.base.errors import UserError
from duologue.bench.conversations import Recording, hear_conversations
from duologue.bench.recognise import missing_words, write_missing_words
from duologue.bench.score import ScoreConfig, main
from duologue.dialogue.timeline import Word
from fdb_folders import interruption, make_sample, transcript, write_wave


class FirstSample:
    """Hears the first sample's value as a word of 0.1 s at the beginning."""

    def transcribe(self, audios: Sequence[Audio]) -> list[Words]:
        return [(Word(f"{a.samples[0, 0]:.2f}", 0.0, 0.1),) for a in audios]


def ramp(folder: Path, name: str = "output.wav", seconds: float = 4.0) -> None:
    """A recording whose samples rise from 0 to 1, so that a value tells a time."""
    write_wave(folder / name, np.linspace(0, 1, int(16_000 * seconds), endpoint=False), 16_000, "FLOAT")


def test_only_missing_transcripts_are_written(tmp_path: Path) -> None:
    kept, new = make_sample(tmp_path, "1", output=transcript(("old", 1.0, 2.0))), make_sample(tmp_path, "2")
    for folder in (kept, new):
        ramp(folder)
    jobs = missing_words([kept, new], "pause_handling")
    assert write_missing_words(jobs, FirstSample()) == 1
    assert read_words(kept / "output.json")[0].text == "old"
    assert read_words(new / "output.json") == (Word("0.00", 0.0, 0.1),)


def test_an_interrupted_answer_is_heard_from_the_interruption_s_end(tmp_path: Path) -> None:
    folder = make_sample(tmp_path, "1", interrupt=interruption(1.0, 3.0))
    ramp(folder)
    write_missing_words(missing_words([folder], "user_interruption"), FirstSample())
    (word,) = read_words(folder / "output.json")
    assert (word.text, word.start) == ("0.75", 3.0)
    assert word.end == pytest.approx(3.1)


def test_broken_recordings_and_events_are_passed_over(tmp_path: Path) -> None:
    noise, event = make_sample(tmp_path, "1"), make_sample(tmp_path, "2", interrupt="{")
    (noise / "output.wav").write_text("no sound")
    ramp(event)
    assert missing_words([event], "user_interruption") == []
    assert write_missing_words(missing_words([noise], "pause_handling"), FirstSample()) == 0


def test_each_task_hears_the_recordings_whose_words_it_reads(tmp_path: Path) -> None:
    folder = make_sample(tmp_path, "1")
    for name in ("output.wav", "clean_output.wav", "input.wav", "clean_input.wav"):
        ramp(folder, name, 0.1)
    stems = {t: {j.transcript.stem for j in missing_words([folder], t)} for t in ("timing", "before_after", "behavior")}
    assert stems["timing"] == set()
    assert stems["before_after"] == {"output", "clean_output"}
    assert stems["behavior"] == {"output", "clean_output", "input", "clean_input"}


def test_describe_hears_the_sides_that_have_no_words(tmp_path: Path) -> None:
    ramp(tmp_path, "a.wav")
    ramp(tmp_path, "b.wav")
    words = make_sample(tmp_path, "words", known=transcript(("known", 1.0, 2.0))) / "known.json"
    recording = Recording("talk", ((tmp_path / "a.wav", 0), (tmp_path / "b.wav", 0)), words=(words, None))
    (heard,) = hear_conversations([recording], VadConfig(backend="energy"), "vad", ("A", "B"), FirstSample())
    assert [[w.text for w in t.words or ()] for t in heard.timeline.tracks] == [["known"], ["0.00"]]


@pytest.mark.skipif(find_spec("faster_whisper") is not None, reason="faster-whisper is installed")
def test_a_recogniser_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ramp(make_sample(tmp_path / "samples", "1"))
    config = ScoreConfig(benchmark="fdb-v1", task="pause_handling", dir=tmp_path / "samples", recogniser="base.en")
    with pytest.raises(UserError, match=r"duologue\[asr\]"):
        main(config)
