"""The six shipped dialogues: whole, on one clock, and as their README says, to the ear and to the scorer."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

import duologue.bench
from duologue.audio.vad import detect_speech
from duologue.audio.wave import read_audio
from duologue.audio.words import Words, read_two_sided_words, read_words
from duologue.base.files import read_json
from duologue.bench.fdb_v1 import Options, Task, read_reference, score_task
from duologue.bench.hearing import hear
from duologue.bench.results import SampleScore
from duologue.dialogue.intervals import merge
from duologue.dialogue.timeline import Track

ROOT = Path(duologue.bench.__file__).parent / "dialogues"
SAMPLES = sorted(p.parent for p in ROOT.glob("*/*/about.json"))
EVENTS = {
    "pause_handling": "pause.json",
    "smooth_turn_taking": "turn_taking.json",
    "user_interruption": "interrupt.json",
}
VAD_SLACK_S = 0.15

each_sample = pytest.mark.parametrize("folder", SAMPLES, ids=lambda p: f"{p.parent.name}-{p.name}")


def both_sides(folder: Path) -> tuple[Words, Words]:
    """(user, agent)."""
    user, agent = read_two_sided_words(folder / "transcription.json")
    assert user
    assert agent
    return user, agent


def test_there_are_six_and_they_are_small() -> None:
    assert [f"{p.parent.name}/{p.name}" for p in SAMPLES] == [
        "backchannel/1",
        "pause_handling/1",
        "pause_handling/2",
        "smooth_turn_taking/1",
        "user_interruption/1",
        "user_interruption/2",
    ]
    assert sum(p.stat().st_size for p in ROOT.rglob("*") if p.is_file()) < 3_500_000
    assert "No person speaks here" in (ROOT / "README.md").read_text(encoding="utf-8")


@each_sample
def test_both_files_are_one_channel_on_one_clock(folder: Path) -> None:
    user, agent = read_audio(folder / "input.wav"), read_audio(folder / "output.wav")
    assert (user.channels, agent.channels) == (1, 1)
    assert user.duration == agent.duration == read_json(folder / "about.json")["seconds"]
    assert 6 <= user.duration <= 12
    assert max(np.abs(user.samples).max(), np.abs(agent.samples).max()) < 0.9
    assert read_json(folder / "about.json")["synthetic"] is True


@each_sample
def test_detected_speech_is_where_the_words_are(folder: Path) -> None:
    sounds = [read_audio(folder / name) for name in ("input.wav", "output.wav")]
    for heard, words in zip(detect_speech(sounds), both_sides(folder), strict=True):
        spoken = merge(Track.from_words(words).speech, 0.5)
        heard = merge(heard, 0.5)
        assert heard.shape == spoken.shape
        np.testing.assert_allclose(heard, spoken, atol=VAD_SLACK_S)


@each_sample
def test_events_are_where_the_words_say(folder: Path) -> None:
    user, agent = both_sides(folder)
    if folder.parent.name == "backchannel":
        return
    event = read_json(folder / EVENTS[folder.parent.name])[0]
    start, end = event["timestamp"]
    starts, ends = {w.start for w in user}, {w.end for w in user}
    if folder.parent.name == "pause_handling":
        assert (start in ends, end in starts) == (True, True)
        assert not any(w.start < end and w.end > start for w in user)
    elif folder.parent.name == "smooth_turn_taking":
        assert (start, end) == (user[-1].end, agent[0].start)
    else:
        assert event["interrupt"] == " ".join(w.text for w in user if w.start >= start)
        assert event["context"] == " ".join(w.text for w in user if w.end <= start)
        assert any(w.start < start for w in agent)


@each_sample
def test_output_json_is_what_the_benchmark_s_recogniser_would_hear(folder: Path) -> None:
    _, agent = both_sides(folder)
    written = read_words(folder / "output.json")
    if folder.parent.name != "user_interruption":
        assert written == agent
        return
    end = read_json(folder / "interrupt.json")[0]["timestamp"][1]
    assert [w.text for w in written] == [w.text for w in agent if w.end > end]
    assert all(w.start >= end for w in written)


def test_the_reference_has_a_bin_for_every_fifth_of_a_second() -> None:
    reference = read_reference(ROOT / "backchannel" / "reference.json")
    duration = read_audio(ROOT / "backchannel" / "1" / "output.wav").duration
    assert list(reference) == ["1"]
    assert len(reference["1"]) == int(duration / 0.2) + 1
    assert sum(reference["1"]) == pytest.approx(1)


def scored(task: Task, **options: object) -> dict[str, SampleScore]:
    chosen = Options(**options)  # type: ignore[arg-type]
    return dict(score_task(ROOT / task, task, chosen, hear(sorted((ROOT / task).glob("*/*put.wav")))).samples)


class TestScores:
    def test_one_agent_waits_and_one_barges_in(self) -> None:
        assert {name: s.take_over for name, s in scored("pause_handling").items()} == {"1": 0, "2": 1}
        official = scored("pause_handling", mode="compat")
        assert {name: s.take_over for name, s in official.items()} == {"1": 1, "2": 1}

    def test_the_answer_comes_after_0_3_s(self) -> None:
        sample = scored("smooth_turn_taking")["1"]
        assert sample.latency_s == pytest.approx(0.3, abs=0.06)
        assert scored("smooth_turn_taking", mode="compat")["1"].latency_s == pytest.approx(0.3, abs=1e-6)

    def test_one_agent_stops_and_answers_and_one_talks_on(self) -> None:
        samples = scored("user_interruption")
        assert samples["1"].latency_s == pytest.approx(0.45, abs=0.06)
        assert samples["1"].details["stop_latency_s"] == pytest.approx(0.35, abs=0.1)
        assert (samples["2"].take_over, samples["2"].details["talked_through"]) == (0, True)

    def test_two_backchannels_and_no_turn(self) -> None:
        reference = read_reference(ROOT / "backchannel" / "reference.json")
        sample = scored("backchannel", reference=reference)["1"]
        assert sample.take_over == 0
        assert len(sample.details["backchannels"]) == 2
        assert sample.jsd is not None
        assert sample.jsd < 0.5


def test_the_files_belong_to_the_script() -> None:
    script = Path(__file__).parents[1] / "tools" / "make_dialogues.py"
    if not script.is_file():
        pytest.skip("the development tools are not here")
    for dialogue in runpy.run_path(str(script))["DIALOGUES"]:
        folder = ROOT / dialogue.task / dialogue.name
        assert read_json(folder / "about.json")["story"] == dialogue.story
        said = {side: " ".join(x.text for x in dialogue.lines if x.side == side) for side in ("user", "agent")}
        user, agent = (" ".join(w.text for w in words) for words in both_sides(folder))
        assert user == said["user"]
        if any(x.yields_to is not None for x in dialogue.lines):
            assert said["agent"].startswith(agent[:20])
        else:
            assert agent == said["agent"]
