"""Every command from the outside: it runs, it helps, and it tells the user's mistake in one line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import duologue
from duologue.base.command import Group
from duologue.cli import COMMANDS, main
from fdb_folders import make_sample, transcript, turn_taking


def run(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from duologue.cli import main; sys.exit(main())", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    root = tmp_path / "samples"
    words = transcript(*((f"w{i}", 5.3 + i, 6.2 + i) for i in range(4)))
    make_sample(root, "1", output=words, turn_taking=turn_taking(5.0))
    make_sample(root, "2", turn_taking=turn_taking(5.0))
    return root


def test_importing_the_package_or_its_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, duologue, duologue.cli as c; c.main(['--help']);"
        "heavy = {'torch', 'scipy', 'soundfile', 'tyro', 'rich', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def commands(group: Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, however deep."""
    for word, entry in group.verbs.items():
        if isinstance(entry, Group):
            yield from commands(entry, (*before, word))
        else:
            yield (*before, word)


LEAVES = sorted(commands(COMMANDS))
GROUPS = sorted({words[:-1] for words in LEAVES if len(words) > 1})


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_verb_has_a_help_page(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"usage: duologue {' '.join(words)} ")
    assert "--json" in page


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_every_group_lists_its_verbs_and_names_the_nearest(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    inside = [leaf[-1] for leaf in LEAVES if leaf[:-1] == words]
    assert main([*words, "--help"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert sorted(listed) == inside
    assert main([*words, f"{inside[0]}x"]) == 2
    assert inside[0] in capsys.readouterr().err


def test_the_verbs_of_training_and_evaluation_stand_in_groups() -> None:
    assert {("train", "codec"), ("train", "lm"), ("train", "tokenizer"), ("evaluate", "nano")} <= set(LEAVES)


def test_help_pages_do_not_wait_for_torch() -> None:
    code = (
        "import sys, duologue.cli as c\n"
        f"for words in {LEAVES!r}:\n"
        "    c.main([*words, '--help'])\n"
        "    'torch' in sys.modules and sys.exit(f'{words} imports torch')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["duologue", duologue.__version__]


def test_score_writes_its_contract(samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    task = ("score", "fdb-v1", "smooth_turn_taking", str(samples))
    done = run(*task, "--mode", "compat", "--json", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert {k: result[k] for k in ("benchmark", "task", "mode")} == {
        "benchmark": "fdb-v1",
        "task": "smooth_turn_taking",
        "mode": "compat",
    }
    assert result["summary"]["n"] == 2
    assert result["summary"]["take_over_rate"] == 1.0
    assert result["summary"]["latency_s"] == pytest.approx(0.3)
    assert set(result["summary"]) >= {"backchannel_frequency", "jsd", "judge_score"}
    assert result["samples"]["1"]["status"] == "ok"
    assert result["samples"]["2"] | {"why": ""} == {
        "take_over": None,
        "latency_s": None,
        "jsd": None,
        "frequency": None,
        "judge_score": None,
        "status": "missing",
        "why": "",
    }
    run_folder = tmp_path / "runs" / "score-1"
    assert "duologue" in (run_folder / "config.yaml").read_text()
    assert "<html" in (run_folder / "report.html").read_text()[:2000].lower()


def test_a_killed_run_is_made_again_in_its_folder(samples: Path, tmp_path: Path) -> None:
    args = ("score", "fdb-v1", "smooth_turn_taking", str(samples), "--out", "here", "--no-report")
    assert run(*args, cwd=tmp_path).returncode == 0
    (tmp_path / "here" / "result.json").unlink()  # as if killed before it was written
    refused = run(*args, cwd=tmp_path)
    assert (refused.returncode, "--resume" in refused.stderr) == (2, True)
    assert run(*args, "--resume", cwd=tmp_path).returncode == 0
    assert (tmp_path / "here" / "result.json").exists()


def test_table_reads_what_score_wrote(samples: Path, tmp_path: Path) -> None:
    run("score", "fdb-v1", "smooth_turn_taking", str(samples), "--json", "r.json", "--no-report", cwd=tmp_path)
    done = run("table", "r.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Freeze-Omni" in done.stdout


def test_a_reader_that_leaves_is_no_failure(samples: Path, tmp_path: Path) -> None:
    run("score", "fdb-v1", "smooth_turn_taking", str(samples), "--json", "r.json", "--no-report", cwd=tmp_path)
    code = "import sys; from duologue.cli import main; sys.exit(main(['table', 'r.json']))"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    assert child.stdout is not None
    child.stdout.close()
    _, told = child.communicate(timeout=60)
    assert (child.returncode, told) == (141, b"")


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["score", "fdb-v1", "no_such_task", "samples"], "no_such_task"),
        (["score", "fdb-v1", "timing", "samples"], "pause_handling"),
        (["score", "fdb-v3", "timing", "samples"], "fdb-v3"),
        (["score", "fdb-v1", "pause_handling", "nowhere"], "nowhere"),
        (["score", "fdb-v1", "pause_handling", "samples", "--mode", "exact"], "exact"),
        (["score", "fdb-v1", "pause_handling", "samples", "--reference", "x.json"], "--reference"),
        (["score", "fdb-v1", "backchannel", "samples", "--reference", "x.json"], "x.json"),
        (["score", "fdb-v1", "user_interruption", "samples", "--judge", "http://localhost:1"], "--judge-model"),
        (["score", "fdb-v1.5", "behavior", "samples"], "--judge"),
        (["score", "fdb-v1", "pause_handling"], "dir"),
        (["table", "nowhere.json"], "nowhere.json"),
        (["table"], "no results"),
        (["describe", "nowhere.wav"], "nowhere.wav"),
        (["scroe"], "score"),
        ([], "command"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    samples: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str], args: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert re.search(re.escape(named), printed.err, re.IGNORECASE)
    assert list(tmp_path.glob("runs/*")) == []
