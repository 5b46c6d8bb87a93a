"""Reference agents on the samples of Full-Duplex-Bench: the shipped dialogues, whose timing is known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from duologue.base.files import read_json, write_json
from duologue.base.run_record import RunRecord
from duologue.bench.evaluate_fdb import EvaluateFdbConfig, scored
from duologue.bench.fdb_reference import NO_WORDS, is_synthetic, reference_summaries, reference_table
from duologue.bench.hearing import Heard, Recordings
from duologue.bench.provenance import provenance_notes
from duologue.bench.reference import SHOWN
from duologue.bench.results import TaskScore
from duologue.dialogue.intervals import as_intervals

DIALOGUES = Path(str(files("duologue.bench"))) / "dialogues"


def user_by_words(root: Path) -> Recordings:
    """The users of samples, by the words of their transcripts: no detector is needed."""
    found = {}
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        side = read_json(folder / "transcription.json")[0]["item"]
        speech = as_intervals([word["timestamp"] for word in side])
        found[folder / "input.wav"] = Heard(speech, read_json(folder / "about.json")["seconds"])
    return found


def test_silence_answers_nobody_and_a_person_does() -> None:
    root = DIALOGUES / "smooth_turn_taking"
    found = reference_summaries(root, "smooth_turn_taking", user_by_words(root))
    assert list(found) == list(SHOWN)
    answered = {name: row["take_over_rate"] for name, row in found.items()}
    assert answered == {"human": 1.0, "silence": 0.0, "metronome": 1.0, "vad_rule": 1.0}, "a clock answers too"
    assert found["human"]["latency_s"] == pytest.approx(0.3, abs=0.01), "as about.json says"
    assert found["vad_rule"]["latency_s"] == pytest.approx(0.7, abs=0.01), "it waits for so long"


def test_a_voice_activity_rule_takes_the_pause_and_stops_when_interrupted() -> None:
    root = DIALOGUES / "pause_handling"
    pauses = reference_summaries(root, "pause_handling", user_by_words(root))
    assert pauses["silence"]["take_over_rate"] == 0.0
    assert pauses["metronome"]["take_over_rate"] == 1.0, "what answers by the clock takes pauses by the clock"
    assert pauses["vad_rule"]["take_over_rate"] == 1.0, "pauses of 1.2 s are longer than it waits"
    root = DIALOGUES / "user_interruption"
    stops = reference_summaries(root, "user_interruption", user_by_words(root))
    assert stops["vad_rule"]["stop_latency_s"] == pytest.approx(0.5, abs=0.05)
    assert stops["silence"]["n_attempted"] == 0, "who is silent is not interrupted"


def test_words_and_ratings_of_the_system_are_not_the_agents(tmp_path: Path) -> None:
    root = tmp_path / "user_interruption"
    shutil.copytree(DIALOGUES / "user_interruption", root)
    heard = user_by_words(root)
    before = reference_summaries(root, "user_interruption", heard)
    for folder in root.iterdir():
        (folder / "output.json").unlink()
        (folder / "output.wav").unlink()
        write_json(folder / "rating.json", {"analysis": "", "rating": 5})
    assert reference_summaries(root, "user_interruption", heard) == before
    assert all(row["judge_score"] is None for row in before.values())


def test_a_sample_without_a_second_person_has_no_human(tmp_path: Path) -> None:
    root = tmp_path / "pause_handling"
    shutil.copytree(DIALOGUES / "pause_handling", root)
    heard = user_by_words(root)
    (root / "1" / "transcription.json").unlink()
    found = reference_summaries(root, "pause_handling", heard)
    assert (found["human"]["n"], found["silence"]["n"]) == (1, 2)
    (root / "2" / "transcription.json").unlink()
    assert "human" not in reference_summaries(root, "pause_handling", heard)


def test_official_rules_read_words_that_agents_lack() -> None:
    root = DIALOGUES / "pause_handling"
    config = EvaluateFdbConfig(data=root, mode="compat")
    (official,) = scored(root, "pause_handling", config, user_by_words(root), RunRecord(model="nano"))
    assert official.references == {}
    assert NO_WORDS in official.score.notes
    (corrected,) = scored(root, "pause_handling", replace(config, mode="corrected"), user_by_words(root),
                          RunRecord(model="nano"))  # fmt: skip
    assert corrected.references
    assert NO_WORDS not in corrected.score.notes


def test_a_record_of_several_prompts_says_each() -> None:
    notes = provenance_notes(RunRecord(model="x", text_prompt={"pause_handling": "A.", "user_interruption": ""}))
    assert notes[:2] == [
        'The agent is told "A." in pause handling.', "Nothing is told to the agent before in user interruption.",
    ]  # fmt: skip


def test_the_table_says_why_agents_have_no_numbers() -> None:
    score = TaskScore(
        benchmark="fdb-v1", task="pause_handling", mode="compat", summary={"take_over_rate": 0.5}, samples={}
    )
    table = reference_table("x", "nano", score, {})
    assert [row[0] for row in table.rows] == ["nano", "human", "silence", "deaf metronome", "voice-activity rule"]
    assert table.rows[0][1] == 0.5
    assert all(row[1] is None for row in table.rows[1:])
    assert table.note == NO_WORDS
    assert is_synthetic(DIALOGUES / "pause_handling")
