"""`duologue evaluate nano`: one command fills the table, and one line tells each mistake."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corpus_files import noise, put, wav_bytes
from duologue.audio.wave import read_audio
from duologue.base.command import Group, Verb, run
from duologue.base.config import read_yaml
from duologue.bench.evaluate import EvaluateNanoConfig, run_record
from duologue.bench.live import run_live, user_voices
from duologue.bench.nano_parts import Job, Watch, first_scenarios
from duologue.bench.provenance import provenance_notes
from duologue.bench.reference import SHOWN
from duologue.corpus.scenarios import AXES
from duologue.engine.bundle import load

VERBS = Group("x", {"evaluate": Group("x", {"nano": Verb("x", "duologue.bench.evaluate:main")})})


def evaluate(out: Path, *options: str) -> int:
    fixed = ("--model", "random:tiny@0", "--device", "cpu", "--threads", "1")
    return run(VERBS, ["evaluate", "nano", *fixed, "-o", str(out), *options], version="0")


def short(out: Path, *options: str) -> dict[str, Any]:
    assert evaluate(out, "--scenarios", "3", "--seconds", "2", "--slots", "2", *options) == 0
    found: dict[str, Any] = json.loads((out / "result.json").read_text())
    return found


def test_every_group_fills_its_rows_and_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user = put(tmp_path, "input.wav", wav_bytes(noise(1.0)))
    found = short(tmp_path / "run", "--speed-seconds", "0.2", "--batch", "4", "--user-voice", "mock",
                  "--users", str(user), "--json", str(tmp_path / "out.json"))  # fmt: skip
    assert json.loads((tmp_path / "out.json").read_text()) == found
    names = [row["what"] for row in found["rows"]]
    starts = (
        "codec, agent",
        "silence in",
        "user turns",
        "agent speech",
        "speak",
        "transcribe",
        "text",
        "prompt",
        "one conv",
        "package",
    )
    assert [s for s in starts if not any(name.startswith(s) for name in names)] == []
    assert len(set(names)) == len(names)
    assert all(row["note"] for row in found["rows"] if row["value"] is None)
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    logged = [json.loads(line)["what"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert logged == names
    first = [s.id for s in first_scenarios(3)]
    assert [talk["name"] for talk in found["scripted"]] == first
    assert sorted(p.stem for p in (tmp_path / "run" / "samples").iterdir()) == sorted([*first, "user-1"])
    assert read_audio(tmp_path / "run" / "samples" / "user-1.flac").samples.shape == (2, 24_000)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Not measured (this model has no tokenizer, so no words): agent speech" in page
    assert first[0] in page
    assert "Talks with recorded users" in page
    assert "Reference agents on the shipped dev segments, not in these talks" in page
    agents = found["reference_agents"]
    assert (agents["part"], agents["rules"], list(agents["agents"])) == ("dev", "one_unit", list(SHOWN))
    assert agents["agents"]["human"]["sum_z"] > agents["agents"]["metronome"]["sum_z"]


def test_the_folder_and_the_result_say_what_was_run(tmp_path: Path) -> None:
    found = short(tmp_path / "run", "--rows", "text", "--user-voice", "mock", "--no-report")
    record = read_yaml(tmp_path / "run" / "config.yaml")["record"]
    assert record == found["made"]["record"]
    assert (record["text_prompt"], record["agent_words"], record["user_words"]) == ("", "none", "script")
    assert record["sampling"]["text_top_k"] > 0
    assert len(record["settings"]["weights"]) == 16
    assert "Nothing is told to the agent before." in found["notes"]
    asked = run_record(EvaluateNanoConfig(text_prompt="Hi."), load("random:tiny@0", device="cpu"))
    assert provenance_notes(asked)[0] == 'The agent is told "Hi.".'
    assert "The weights are random: the numbers say nothing of any trained model." in found["notes"]
    assert found["reference_agents"] is None, "there is no row on timing"


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    options = ("--rows", "timing", "text", "--no-report", "--user-voice", "mock")
    first, again, other = (
        short(tmp_path / name, *options, "--seed", seed) for name, seed in (("a", "0"), ("b", "0"), ("c", "1"))
    )
    assert first == again
    assert first["scripted"] != other["scripted"]
    assert not (tmp_path / "a" / "report.html").exists()
    assert not any(row["what"].startswith(("codec", "agent speech", "speak")) for row in first["rows"])


def test_only_the_rows_asked_for_come(tmp_path: Path) -> None:
    found = short(tmp_path / "run", "--rows", "speech", "--no-report", "--user-voice", "mock")
    assert [row["what"].split(":")[0] for row in found["rows"]] == ["agent speech"] * 2 + ["speak", "transcribe"]
    (tmp_path / "people").mkdir()
    put(tmp_path, "people/a.wav", wav_bytes(noise(0.5)))
    given = ["--rows", "speech", "--no-report", "--user-voice", "mock", "--recordings", str(tmp_path / "people")]
    assert short(tmp_path / "more", *given)["rows"][-1]["what"].startswith("transcribe, recorded speech")


def test_talks_are_shown_in_the_order_of_the_scenarios_whichever_ends_first(tmp_path: Path) -> None:
    bundle, chosen = load("random:tiny@0", device="cpu"), first_scenarios(2, seconds=0.8)
    ended = list(run_live(bundle, chosen, slots=2, seed=0, voice=user_voices("mock")))
    watch = Watch(Job(EvaluateNanoConfig(heard=0), bundle, tmp_path, None), [s.id for s in chosen])
    assert list(watch(iter(ended[::-1]))) == ended[::-1]
    shown = watch.shown()
    assert [talk.title for talk in shown] == [s.id for s in chosen]
    for talk, result in zip(shown, ended, strict=True):
        assert read_audio(talk.sound).samples == pytest.approx(result.audio.samples.clip(-1, 1), abs=1e-4)


def test_a_recorded_user_has_one_channel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = put(tmp_path, "both.wav", wav_bytes(noise(0.5), noise(0.5)))
    assert evaluate(tmp_path / "run", "--users", str(both)) == 2
    assert "both.wav: has 2 channels" in capsys.readouterr().err


def test_the_scenarios_are_a_fixed_mix() -> None:
    first = first_scenarios(24, seconds=5.0)
    assert [s.id for s in first[:3]] == ["interruption-10", "turn_taking-01", "turn_taking-08"]
    assert {s.axis for s in first} == set(AXES)
    assert {s.limit for s in first} == {5.0}
    assert len({s.id for s in first_scenarios(200)}) == 200
    assert [s.id for s in first_scenarios(200)[:24]] == [s.id for s in first]
    more = first_scenarios(450)
    assert len({s.id for s in more}) == 450
    assert [replace(s, id="") for s in more[200:400]] == [replace(s, id="") for s in more[:200]]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--prompted", "201"], "--prompted: there are 200"),
        (["--scenarios", "0"], "--scenarios: 0 is too few"),
        (["--seconds", "0"], "--seconds: 0.0 is no length"),
        (["--seed", "-1"], "--seed: -1 is no seed"),
        (["--corpus", "x"], "--tokens: is missing"),
        (["--agent-voice", "nobody/x"], "no engine 'nobody'"),
        (["--users", "gone.wav"], "gone.wav: no such file"),
        (["--recordings", "gone"], "gone: no such folder"),
        (["--model", "random:tinny"], "'tinny' is no preset"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(tmp_path / "run", *options) == 2
    said = capsys.readouterr().err.strip()
    assert named in said
    assert said.count("\n") == 0
    assert not (tmp_path / "run").exists()
