"""`duologue align` end to end, and one line for each mistake."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from duologue.audio.wave import read_audio
from duologue.base.command import Group, Verb, run
from duologue.base.config import from_dict, read_yaml, to_yaml
from duologue.base.errors import UserError
from duologue.base.files import read_json
from duologue.base.metrics import read_rows
from duologue.bench.compare import read_run
from duologue.engine.bundle import load
from duologue.train.align import mined, read_segments, read_settings
from duologue.train.align_learner import rollouts_for
from duologue.train.align_settings import AlignSettings

VERBS = Group("x", {"align": Verb("x", "duologue.train.align:main")})
SMALL = [
    "--model", "random:tiny@0", "--threads", "1", "--device", "cpu", "--keep-every", "1", "--dev", "none", "--set",
    "steps=2",
    "rollouts.groups=2", "rollouts.group=2", "rollouts.slots=4", "update.rows=2",
]  # fmt: skip


def align(*arguments: object) -> int:
    return run(VERBS, ["align", *map(str, arguments)], version="0")


def test_the_shipped_corpus_aligns_a_model_that_then_loads(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert align("nano-demo", "-o", out, *SMALL, "rollouts.axes=[pause, interruption]", "--json", tmp_path / "x") == 0
    rows = read_rows(out / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    assert {"loss", "gradient", "flat_groups", "pad_share", "repetition", "rollout_fps"} <= set(rows[0])
    assert read_json(tmp_path / "x") == rows[-1]
    model = load(out / "model", device="cpu")
    assert model.config.lineage[-1].what == "Alignment by Duologue"
    sounds = sorted((out / "rollouts" / "step-00000").glob("*.wav"))
    assert sounds
    assert read_audio(sounds[0]).channels == 2
    told = read_json(sounds[0].with_suffix(".json"))
    assert {"agent", "user", "events", "advantage"} <= set(told)


def test_held_out_segments_are_measured_while_it_learns_and_choose_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default those of the shipped corpus, where its other part is learned from."""
    out, small = tmp_path / "run", [x for x in SMALL if x not in ("--dev", "none")]
    small[small.index("--set") : small.index("--set")] = ["--dev-segments", "2", "--evaluate-every", "1"]
    given = ("nano-demo", "-o", out, *small, "rollouts.axes=[pause, interruption]", "--json", tmp_path / "x")
    assert align(*given) == 0
    rows = read_rows(out / "metrics.jsonl")
    held = [row for row in rows if "held_out_z" in row]
    assert [row["step"] for row in held] == [1, 2]
    assert all({"held_out_reward_pause", "held_out_first_pause", "held_out_z_pause"} <= row.keys() for row in held)
    assert "nothing is held out of interruption" in capsys.readouterr().out
    assert read_json(tmp_path / "x")["held_out_z"] == held[-1]["held_out_z"]
    assert load(out / "best", device="cpu").config.lineage[-1].what == "Alignment by Duologue"
    names = [path.name for path in (out / "checkpoints").iterdir()]
    assert sorted(names) == ["step-0000001.pt", "step-0000002.pt"]
    assert "held_out_z" in read_run(out, 10).values, "duologue compare reads it"


def test_a_run_says_every_setting_and_goes_on_only_with_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same settings by other names are the same; one other setting is named, and nothing is lost."""
    out, small = tmp_path / "run", [*SMALL, "rollouts.axes=[pause]", "steps=1"]
    assert align("nano-demo", "-o", out, *small) == 0
    said = read_yaml(out / "config.yaml")
    record = said["record"]
    asked = read_settings("nano-demo", tuple(small[11:]))
    asked = replace(asked, rollouts=rollouts_for(asked.rollouts, load("random:tiny@0", device="cpu")))
    assert from_dict(AlignSettings, record["settings"]) == asked
    assert (record["model"], record["judge"], record["agent_words"]) == ("random:tiny@0", "none", "none")
    assert "text_seed" not in record["sampling"]
    assert "commit" in said
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(to_yaml(record["settings"]))
    assert align(recipe, "-o", out, *SMALL[:11], "steps=1", "--resume") == 0
    capsys.readouterr()
    rows = read_rows(out / "metrics.jsonl")
    assert align("nano-demo", "-o", out, *small, "update.policy.high=0.3", "--resume") == 2
    said_now = capsys.readouterr().err
    assert "holds a run with settings.update.policy.high = 0.2, not 0.3" in said_now
    assert read_rows(out / "metrics.jsonl") == rows


def test_tokens_beside_segments_are_taken_if_this_codec_made_them(tmp_path: Path) -> None:
    """Then no sound is needed; another codec's are left alone, and the sound is encoded into the run's own cache."""
    folder, out = tmp_path / "segments", tmp_path / "cache"
    mined("sample", folder)
    model = load("random:tiny@0", device="cpu")
    (fresh,) = (read_segments(folder, ("interruption",), model, out)[x] for x in ("interruption",))
    assert sorted(path.name for path in out.iterdir()) == ["cache.json", "codes.u16", "index.parquet", "journal.jsonl"]
    out.rename(folder / "tokens")
    shutil.rmtree(folder / "clips")
    (again,) = (read_segments(folder, ("interruption",), model, out)[x] for x in ("interruption",))
    assert not out.exists()
    assert len(again) == len(fresh) > 0
    for a, b in zip(fresh, again, strict=True):
        assert torch.equal(a.agent, b.agent)
        assert torch.equal(a.user, b.user)
    with pytest.raises(UserError, match="interruption"):
        read_segments(folder, ("interruption",), load("random:tiny@1", device="cpu"), out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nano-demoo"], "nano-demoo: is neither a recipe nor a file; did you mean nano-demo"),
        (["nano-demo", "--set", "stepz=2"], "unknown field 'stepz'"),
        (["nano-demo", "--set", "steps"], "'steps' sets nothing; use NAME=VALUE"),
        (["nano-demo", "--set", "steps.more=1"], "'steps' in steps.more has no fields"),
        (["nano-demo", "--set", "update.lora.rank=x"], "update.lora.rank: 'x' is not a whole number"),
        (["nano-demo", "--set", "update.policy.low=[", "--model", "random:tiny"], "'[' is no value"),
        (["nano-demo", "--segments", "nowhere", "--model", "random:tiny"], "nowhere: no segments here"),
        (["nano-demo", "--model", "random:tiny", "--lora", "x.safetensors"], "x.safetensors: no such file or folder"),
        (["nano-demo", "--model", "random:tiny", "--set", "rollouts.voice_prompt=x.wav"], "x.wav"),
        (["kyutai-2606.11167", "--model", "random:tiny"], "rewards.judge: the paper of this recipe rewards answers"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert align(*arguments, "-o", tmp_path / "run") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
