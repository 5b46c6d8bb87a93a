"""A model in the loop over Full-Duplex-Bench's folders."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.base.command import Group, Verb, run
from duologue.base.config import read_yaml
from duologue.base.files import read_json, write_json
from duologue.bench.fdb_run import TEACHER, Manner, datasets, late, prompt_of
from duologue.bench.reference import SHOWN
from duologue.engine.bundle import load
from duologue.engine.prompts import GOOD_TALK, lead_of
from duologue.engine.sampling import Sampling

VERBS = Group("x", {
    "v1": Verb("x", "duologue.bench.evaluate_fdb:main_v1"), "v15": Verb("x", "duologue.bench.evaluate_fdb:main_v15"),
})  # fmt: skip
RAYLESS = pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")


def evaluate(*arguments: object) -> int:
    return run(VERBS, [str(x) for x in arguments], version="0")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five seconds of the shipped dialogues of two tasks, with what another system said to them."""
    folder = tmp_path / "data"
    for task in ("pause_handling", "smooth_turn_taking"):
        for number in ("1", "2"):
            source = Path(str(files("duologue.bench"))) / "dialogues" / task / number
            if source.is_dir():
                place = folder / task / number
                shutil.copytree(source, place)
                sound = read_audio(place / "input.wav").mono()
                write_audio(place / "input.wav", Audio(sound.samples[:, : 5 * sound.rate], sound.rate))
    return folder


def test_it_talks_with_every_sample_and_scores_what_it_said(root: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "run", tmp_path / "x.json"
    assert evaluate("v1", "--data", root, "-o", out, "--device", "cpu", "--json", told, "--lead", "0.5") == 0
    results = read_json(told)
    assert [r["task"] for r in results] == ["pause_handling", "smooth_turn_taking"]
    assert all(s["status"] == "ok" for r in results for s in r["samples"].values())
    made = out / "outputs" / "pause_handling" / "1"
    sound, theirs = read_audio(made / "output.wav"), read_audio(root / "pause_handling" / "1" / "output.wav")
    assert sound.duration == pytest.approx(5.0, abs=1e-3), "the lead is not part of it"
    assert sound.duration != theirs.duration
    assert (made / "pause.json").read_bytes() == (root / "pause_handling" / "1" / "pause.json").read_bytes()
    assert (out / "report.html").stat().st_size > 10_000
    record = read_yaml(out / "config.yaml")["record"]
    assert (record["model"], record["lead_s"]) == ("nano", 0.5), "a name, not where this installation lies"
    assert record["text_prompt"] == ""
    assert record["agent_words"] == "own text"
    assert record["sampling"]["text_temperature"] > 0
    assert len(record["settings"]["weights"]) == 16
    assert all(r["made"]["record"] == record for r in results)
    for told in ("Nothing is told to the agent before.", "The agent takes no voice prompt.", "synthetic"):
        assert all(any(told in note for note in r["notes"]) for r in results)
    pauses = results[0]["reference_agents"]
    assert list(pauses) == list(SHOWN)
    assert pauses["silence"]["take_over_rate"] == 0.0
    # What is there is not made again; what is missing is, to the same bits.
    other = out / "outputs" / "smooth_turn_taking" / "1" / "output.wav"
    write_audio(other, Audio(np.zeros((1, 24_000), np.float32), 24_000))
    before = sound.samples
    for name in ("output.wav", "output.json", "output.own.json"):
        (made / name).unlink()
    (out / "result.json").unlink()
    arguments = ("v1", "--data", root, "-o", out, "--device", "cpu", "--lead", "0.5", "--resume", "--workers", "2")
    assert evaluate(*arguments) == 0
    assert evaluate(*arguments, "--greedy") == 2, "drawn in another way it is another run"
    assert read_audio(other).duration == 1.0
    np.testing.assert_allclose(read_audio(made / "output.wav").samples, before, atol=1e-3)


def test_both_recordings_of_a_v15_sample_are_talked_with(root: Path, tmp_path: Path) -> None:
    sample = tmp_path / "overlap" / "1"
    sample.mkdir(parents=True)
    for name in ("input.wav", "clean_input.wav"):
        shutil.copyfile(root / "pause_handling" / "1" / "input.wav", sample / name)
    event = {"context_text": "a", "current_turn_text": "b", "timestamps": [1.0, 2.0]}
    write_json(sample / "metadata.json", event)
    out = tmp_path / "run"
    assert evaluate("v15", "--data", sample.parent, "-o", out, "--device", "cpu", "--slots", "2") == 0
    made = out / "outputs" / "overlap" / "1"
    pair = [read_audio(made / f"{name}.wav").samples for name in ("output", "clean_output")]
    assert np.array_equal(*pair), "equal sounds and draws"
    timing = read_json(out / "result.json")[0]
    assert timing["task"] == "timing"
    assert list(timing["reference_agents"]) == ["silence", "metronome", "vad_rule"], (
        "nobody wrote down a person's words"
    )
    assert timing["reference_agents"]["silence"]["counts"]["not_exercised"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["v15"], "is of fdb-v1; use duologue evaluate fdb-v1"),
        (["v1", "--slots", "0"], "--slots: 0 is less than 1"),
        (["v1", "--lead", "-1"], "--lead: -1.0 is no length of a lead"),
        (["v1", "--model", "random:tiny"], "has no tokenizer"),
        (["v1", "--data", "nowhere"], "nowhere: is not a folder"),
        pytest.param(["v1", "--ray"], "--ray: Ray is not installed", marks=RAYLESS),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str], said: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = arguments
    data = [] if "--data" in rest else ["--data", root]
    assert evaluate(verb, *data, "-o", tmp_path / "run", "--device", "cpu", *rest) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_prompts_and_lead_are_those_of_the_model_s_kind() -> None:
    tiny = load("random:tiny", device="cpu")
    kyutai = replace(tiny, config=replace(tiny.config, kyutai_codec=True))
    plex = replace(kyutai, lm=load("random:tiny", device="cpu").lm)
    plex.lm.config = replace(plex.lm.config, user_lag=0)
    manner = Manner(Sampling(), None, None, 0.0, 0, 1)
    assert [prompt_of(manner, plex, task) for task in ("backchannel", "user_interruption")] == [GOOD_TALK, TEACHER]
    assert prompt_of(manner, kyutai, "user_interruption") == ""
    assert prompt_of(replace(manner, text_prompt="x"), kyutai, "backchannel") == "x"
    assert [lead_of(None, x) for x in (tiny, kyutai, plex)] == [0.0, 3.0, 0.0]
    assert lead_of(1.5, plex) == 1.5


def test_a_stereo_recording_is_refused() -> None:
    with pytest.raises(Exception, match="has 2 channels"):
        late(Audio(np.zeros((2, 10), np.float32), 8000), 0.0, Path("x.wav"))


def test_the_shared_samples(shared_data: Path, tmp_path: Path) -> None:
    """The benchmark's own three recordings, one each of three tasks."""
    data = shared_data / "full-duplex-bench"
    names = ("pause_handling_example", "smooth_turn_taking_example", "user_interruption_example")
    root = tmp_path / "data"
    for name in names:
        shutil.copytree(data / name, root / name)
    assert [d.task for d in datasets(root, "fdb-v1")] == ["pause_handling", "smooth_turn_taking", "user_interruption"]
    assert evaluate("v1", "--data", root, "-o", tmp_path / "run", "--device", "cpu") == 0
    results = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [r["dataset"] for r in results] == list(names)
    assert all(s["status"] in ("ok", "not_exercised") for r in results for s in r["samples"].values())
