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


def measured(folder: Path, after: list[float], part: str = "test") -> Path:
    """A run of which the rewards in pauses were -1 before, in each segment, and `after` since."""
    rows = [
        {
            "axis": "pause", "segment": str(i), "before": {"reward_pause": -1.0}, "after": {"reward_pause": reward},
            "other_before": {"reward_pause": -1.0}, "other_after": {"reward_pause": -1.0},
        }
        for i, reward in enumerate(after)
    ]  # fmt: skip
    write_json(folder / "scored.json", {"part": part, "segments": rows})
    return folder


def test_a_demo_shows_what_changed_and_what_survives_correction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = measured(made(tmp_path / "a", [1.0], verb="demo"), [0.0] * 12)
    assert compare(one, "--json", tmp_path / "t.json") == 0
    (column,) = read_json(tmp_path / "t.json")
    assert column["part"] == "test"
    assert column["comparisons"] == 2, "the reward and the gain of hearing; nothing before varies, so no sums"
    for name in ("reward_pause", "hearing_pause"):
        assert column["changes"][name]["mean"] == 1.0
        assert column["changes"][name]["survives"]
    assert "one training seed" in capsys.readouterr().out


def test_what_seeds_disagree_on_is_not_clear_though_each_is_sure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every seed's own interval excludes 0; the method's does not."""
    sides = ([0.0] * 20, [-2.0] * 20, [0.0] * 20)
    runs = [measured(made(tmp_path / str(i), [1.0], verb="demo", seed=i), x) for i, x in enumerate(sides)]
    assert compare(*runs, "--json", tmp_path / "t.json") == 0
    (column,) = read_json(tmp_path / "t.json")
    changed = column["changes"]["reward_pause"]
    assert (changed["mean"], changed["seeds"], changed["segments"]) == (pytest.approx(1 / 3), 3, 20)
    assert changed["low"] < 0 < changed["high"]
    assert not changed["survives"]
    assert "one training seed" not in capsys.readouterr().out


def test_runs_on_other_parts_have_no_common_change(tmp_path: Path) -> None:
    runs = [
        measured(made(tmp_path / part, [1.0], verb="demo", seed=i), [0.0, 0.0], part)
        for i, part in enumerate(("dev", "test"))
    ]
    assert compare(*runs, "--json", tmp_path / "t.json") == 0
    (column,) = read_json(tmp_path / "t.json")
    assert "changes" not in column


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
