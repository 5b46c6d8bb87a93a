"""A run folder belongs to one run, can be gone on with, and loses no whole line of its metrics."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import duologue
from duologue.base.config import from_dict, read_yaml
from duologue.base.errors import UserError
from duologue.base.metrics import append_row, read_rows, repair, rewind
from duologue.base.run_record import RunRecord, commit_of
from duologue.base.runs import RunFolder

ROWS = st.lists(
    st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8) | st.booleans() | st.none(), max_size=4),
    max_size=5,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    steps: int = 10
    rate: float = 1e-5
    out: Path | None = None
    resume: bool = False


def test_a_new_run_says_how_to_repeat_it(tmp_path: Path) -> None:
    config = Config(steps=3)
    with RunFolder.create(tmp_path / "r", "train lm", config, command=["/bin/duologue", "train", "a b"]) as run:
        said = read_yaml(run.config_path)
    assert not run.resumed
    assert from_dict(Config, said["config"]) == config
    assert said["command"] == "duologue train 'a b'"
    assert (said["verb"], said["versions"]["duologue"]) == ("train lm", duologue.__version__)
    assert said["versions"]["numpy"] == np.__version__


def test_without_a_path_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "train-lm-7").mkdir(parents=True)
    (tmp_path / "runs" / "train-lm-x").mkdir()
    for name in ("train-lm-8", "train-lm-9"):
        with RunFolder.create(None, "train lm", Config()) as run:
            assert run.path == Path("runs") / name
    with pytest.raises(UserError, match="no run to resume; name its folder"):
        RunFolder.create(None, "train lm", Config(), resume=True)


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "align", Config()).close()
    with pytest.raises(UserError, match="holds a run already; pass another folder or --resume"):
        RunFolder.create(tmp_path, "align", Config())


def test_resuming_goes_on_with_the_same_run_only(tmp_path: Path) -> None:
    config = Config(out=tmp_path)
    with RunFolder.create(tmp_path, "align", config) as run:
        run.log({"step": 1})
    again = replace(config, out=tmp_path / "same", resume=True)
    with RunFolder.create(tmp_path, "align", again, resume=True) as run:
        run.log({"step": 2})
        assert run.resumed
        assert run.rows() == [{"step": 1}, {"step": 2}]
    assert len(read_yaml(tmp_path / "config.yaml")["resumed"]) == 1
    with pytest.raises(UserError, match="holds a run with steps = 10, not 11, and 1 more that differ"):
        RunFolder.create(tmp_path, "align", replace(config, steps=11, rate=2e-5), resume=True)
    with pytest.raises(UserError, match="holds a run with verb = 'align', not 'train lm'"):
        RunFolder.create(tmp_path, "train lm", config, resume=True)


def test_a_run_says_what_its_options_came_to_and_goes_on_only_with_the_same(tmp_path: Path) -> None:
    """Names may change their meaning between two calls; then the run is another."""
    record = RunRecord(model="nano", settings={"update": {"rate": 2e-7}}, text_prompt="be kind", agent_words="own text")
    with RunFolder.create(tmp_path, "align", Config(), record=record) as run:
        said = read_yaml(run.config_path)
    assert said["record"] == record.plain()
    assert said["record"]["settings"]["update"]["rate"] == 2e-7
    RunFolder.create(tmp_path, "align", Config(), resume=True, record=record).close()
    for changed, problem in (
        (replace(record, settings={"update": {"rate": 1e-5}}), "settings.update.rate = 2e-07, not 1e-05"),
        (replace(record, text_prompt=""), "text_prompt = 'be kind', not ''"),
    ):
        with pytest.raises(UserError, match=problem):
            RunFolder.create(tmp_path, "align", Config(), resume=True, record=changed)


def test_a_run_that_did_not_write_down_its_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "align", Config()).close()
    with pytest.raises(UserError, match="holds a run whose settings were not written down"):
        RunFolder.create(tmp_path, "align", Config(), resume=True, record=RunRecord(model="nano"))


def test_the_commit_is_that_of_a_checkout_and_says_whether_files_were_changed(tmp_path: Path) -> None:
    """An installed package may lie inside somebody else's repository, whose commit says nothing of it."""

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    package = tmp_path / "src" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert commit_of(package) is None
    git("init", "-q")
    assert commit_of(package) is None
    git("add", "src")
    git("commit", "-q", "-m", "x")
    assert commit_of(package) == git("rev-parse", "HEAD")
    (package / "__init__.py").write_text("changed")
    assert commit_of(package) == git("rev-parse", "HEAD") + "-dirty"


def test_resuming_where_nothing_is_starts_the_run(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "new", "align", Config(), resume=True) as run:
        assert not run.resumed


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds other files \(thesis.tex\)"):
        RunFolder.create(tmp_path, "align", Config())


def test_two_processes_never_share_a_folder_and_a_dead_one_does_not_block(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from test_base_runs import Config, RunFolder; "
    code += "run = RunFolder.create(sys.argv[2], 'align', Config()); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(UserError, match="another process is writing here"):
            RunFolder.create(tmp_path, "align", Config(), resume=True)
        other.kill()
    RunFolder.create(tmp_path, "align", Config(), resume=True).close()


def test_a_refused_folder_is_not_kept_locked(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "align", Config()).close()
    with pytest.raises(UserError):
        RunFolder.create(tmp_path, "align", Config())
    RunFolder.create(tmp_path, "align", Config(), resume=True).close()


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, cut=st.integers(0, 2) | st.integers(0, 60), more=ROWS)
@example(rows=[{"a": 1}, {"b": "é"}], cut=1, more=[{"c": 3}])  # only the line end is lost
@example(rows=[{"a": 1}, {"b": "é"}], cut=4, more=[{"c": 3}])  # a character is cut in two
def test_after_a_kill_all_whole_rows_are_there_and_more_can_follow(
    rows: list[dict[str, Any]], cut: int, more: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("m") / "metrics.jsonl"
    for row in rows:
        append_row(path, row)
    data = path.read_bytes() if rows else b""
    kept = data[: max(0, len(data) - cut)]
    path.write_bytes(kept)
    # A row is whole when all of its line but the line end is there.
    whole = [r for i, r in enumerate(rows) if len(b"".join(data.splitlines(keepends=True)[: i + 1])) - 1 <= len(kept)]
    assert read_rows(path) == whole
    repair(path)
    for row in more:
        append_row(path, row)
    assert read_rows(path) == whole + more


def test_nan_is_written_as_null_and_no_file_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "m.jsonl") == []
    append_row(tmp_path / "m.jsonl", {"loss": math.nan})
    assert read_rows(tmp_path / "m.jsonl") == [{"loss": None}]


@pytest.mark.parametrize("content", [b'{"a": 1}\n{"a": \n{"a": 2}\n', b'{"a": 1}\n[2]\n{"a": 2}\n'])
def test_a_broken_line_that_no_kill_explains_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"m.jsonl, line 2: not a JSON object"):
        read_rows(tmp_path / "m.jsonl")


def test_rewinding_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    rows: list[dict[str, Any]] = [{"note": "start"}, *({"step": n} for n in (1, 2, 3))]
    for row in rows:
        append_row(path, row)
    rewind(path, 2)
    assert read_rows(path) == rows[:3]


@pytest.mark.parametrize("name", ["checkpoints", "rollouts"])
def test_subfolders_are_made_on_first_use(tmp_path: Path, name: str) -> None:
    with RunFolder.create(tmp_path, "align", Config()) as run:
        assert not (tmp_path / name).exists()
        pick: Callable[[], Path] = {"checkpoints": lambda: run.checkpoints, "rollouts": lambda: run.rollouts}[name]
        assert pick() == tmp_path / name
        assert pick().is_dir()


def test_a_mistake_found_before_anything_was_made_leaves_no_folder(tmp_path: Path) -> None:
    def stopped(path: Path, rows: int) -> None:
        with RunFolder.create(path, "score", Config()) as run:
            for step in range(rows):
                run.log({"step": step})
            raise UserError("no such sample")

    for name, rows in (("nothing", 0), ("something", 1)):
        with pytest.raises(UserError, match="no such sample"):
            stopped(tmp_path / name, rows)
    assert not (tmp_path / "nothing").exists()
    assert (tmp_path / "something" / "metrics.jsonl").exists()
