"""`duologue compare`: runs beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duologue.base.command import Group, Verb, run
from duologue.base.config import read_yaml, to_yaml
from duologue.base.files import read_json, write_json, write_text
from duologue.base.metrics import append_row

VERBS = Group("x", {"compare": Verb("x", "duologue.bench.compare:main")})


def compare(*arguments: object) -> int:
    return run(VERBS, ["compare", *map(str, arguments)], version="0")


def made(folder: Path, rewards: list[float], verb: str = "align", **config: Any) -> Path:
    folder.mkdir()
    write_text(folder / "config.yaml", to_yaml({"verb": verb, "config": {"out": str(folder), **config}}))
    for step, reward in enumerate(rewards, 1):
        append_row(folder / "metrics.jsonl", {"step": step, "reward": reward, "kl": 0.5})
    return folder


def test_options_that_differ_stand_above_the_means_of_the_last_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = made(tmp_path / "a", [9.0, 1.0, 2.0], recipe="x", set=["steps=1"], seed=3)
    b = made(tmp_path / "b", [9.0, 3.0, 5.0], recipe="y", set=["steps=1"], seed=4)
    assert compare(a, b, "--last", "2", "--json", tmp_path / "t.json") == 0
    printed = capsys.readouterr().out
    assert "recipe" in printed
    assert "steps" not in printed, "they do not differ in it"
    assert [(c["options"], c["metrics"]["reward"]["mean"]) for c in read_json(tmp_path / "t.json")] == [
        ({"recipe": "x"}, 1.5), ({"recipe": "y"}, 4.0),
    ]  # fmt: skip


def test_a_recipe_that_came_to_other_settings_is_another_column(tmp_path: Path) -> None:
    folders = [made(tmp_path / str(rate), [1.0], recipe="x") for rate in (1, 2)]
    for folder, rate in zip(folders, (0.1, 0.2), strict=True):
        said = read_yaml(folder / "config.yaml") | {"record": {"settings": {"rate": rate, "steps": 4}}}
        write_text(folder / "config.yaml", to_yaml(said))
    assert compare(*folders, "--json", tmp_path / "t.json") == 0
    assert [c["options"] for c in read_json(tmp_path / "t.json")] == [
        {"record.settings.rate": 0.1}, {"record.settings.rate": 0.2},
    ]  # fmt: skip


def test_seeds_are_one_column_with_student_s_interval(tmp_path: Path) -> None:
    folders = [made(tmp_path / str(i), [x], recipe="x", seed=i) for i, x in enumerate((1.0, 2.0, 3.0))]
    assert compare(*folders, "--json", tmp_path / "t.json", "--metrics", "rew") == 0
    (column,) = read_json(tmp_path / "t.json")
    assert set(column["metrics"]) == {"reward"}
    assert column["metrics"]["reward"] == {"mean": 2.0, "half_width": pytest.approx(2.4841, abs=1e-4), "runs": 3}


def test_a_demo_shows_what_changed(tmp_path: Path) -> None:
    folder = made(tmp_path / "a", [1.0], verb="demo")
    write_json(
        folder / "result.json", {"difference": {"reward_pause": [0.25, 0.1, 0.4], "content": [None, None, None]}}
    )
    assert compare(folder, "--json", tmp_path / "t.json") == 0
    assert read_json(tmp_path / "t.json")[0]["metrics"]["change of reward_pause"]["mean"] == 0.25


@pytest.mark.parametrize("wrong", ["empty", "other", "nothing", "metric"])
def test_mistakes_end_in_one_line(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = made(tmp_path / "good", [1.0])
    arguments, said = {
        "empty": ([tmp_path], "is no run folder"),
        "other": ([good, made(tmp_path / "b", [1.0], verb="train lm")], "runs of different commands"),
        "nothing": ([made(tmp_path / "c", [])], "has measured nothing yet"),
        "metric": ([good, "--metrics", "nope"], "no run has such a metric; for example reward, kl"),
    }[wrong]
    assert compare(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
