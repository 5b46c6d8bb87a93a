"""Every command ends in one of five ways, and a mistake ends in one line."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import tyro

from duologue.base.command import Group, Verb, run
from duologue.base.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Vad:
    threshold: float = 0.5
    """Speech is above it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    task: tyro.conf.Positional[Literal["pause_handling", "backchannel"]]
    """What to score."""
    folder: tyro.conf.Positional[Path]
    """Where the outputs are."""
    mode: Literal["compat", "corrected"] = "corrected"
    """Which rules."""
    json: Path | None = None
    """Where to write the result."""
    jobs: int = 1
    """Processes."""
    vad: Vad = field(default_factory=Vad)

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UserError(f"{self.jobs} processes are too few", place="--jobs", mend="use 1 or more")


def score(config: ScoreConfig) -> None:
    """Score existing outputs."""
    print(config.task, config.folder, config.mode, config.vad.threshold)


@dataclass(frozen=True)
class Empty:
    pass


def seven(_: Empty) -> int:
    return 7


def mistaken(_: Empty) -> None:
    raise UserError("sample rate 0\nis not positive", place="talk.wav", mend="resample it")


def defective(_: Empty) -> None:
    raise ZeroDivisionError("no way")


def interrupted(_: Empty) -> None:
    raise KeyboardInterrupt


def endless(_: Empty) -> None:
    while True:
        print("line")


def socket_broke(_: Empty) -> None:
    raise BrokenPipeError("peer")


def unannotated(config) -> None:  # type: ignore[no-untyped-def]
    raise AssertionError(config)


HERE = __name__
VERBS = Group(
    "Full-duplex speech models.",
    {
        "score": Group("Score outputs.", {"fdb-v1": Verb("Full-Duplex-Bench v1.", f"{HERE}:score")}),
        **{
            f.__name__: Verb("Ends.", f"{HERE}:{f.__name__}")
            for f in (seven, mistaken, defective, interrupted, endless, socket_broke, unannotated)
        },
        "absent": Verb("Never imported.", "duologue.no_such_module:main"),
    },
)


def end(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = run(VERBS, argv)
    out, err = capsys.readouterr()
    return status, out, err


def test_positional_arguments_and_options_reach_the_function(capsys: pytest.CaptureFixture[str]) -> None:
    args = ("score", "fdb-v1", "pause_handling", "outputs", "--mode", "compat", "--vad.threshold", "0.25")
    assert end(capsys, *args) == (0, "pause_handling outputs compat 0.25\n", "")


def test_a_verb_chooses_its_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(capsys, "seven") == (7, "", "")


@pytest.mark.parametrize("boxes", ["utf-8", "ascii"])
@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("", "no command given; use one of score, "),
        ("scroe", "'scroe' is not a command; did you mean score? (see duologue --help)"),
        ("score fdb", "'fdb' is not a command; did you mean fdb-v1? (see duologue score --help)"),
        ("score fdb-v1", "missing: {pause_handling,backchannel}, PATH; see duologue score fdb-v1 --help"),
        ("score fdb-v1 pause x", "task: 'pause' is not one of pause_handling, backchannel"),
        (
            "score fdb-v1 backchannel x --mode corected",
            "--mode: 'corected' is not one of compat, corrected (did",
        ),
        ("score fdb-v1 backchannel x --moed compat", "unrecognized options: --moed, compat (did you mean --mode?)"),
        ("score fdb-v1 backchannel x y", "unrecognized options: y; see"),
        ("score fdb-v1 backchannel x --jobs two", "--jobs: 'two' is not a whole number; see"),
        ("score fdb-v1 backchannel x --vad.threshold x", "--vad.threshold: 'x' is not a number; see"),
        ("score fdb-v1 backchannel x --jobs", "--jobs: needs a value"),
        ("score fdb-v1 backchannel x --jobs 0", "--jobs: 0 processes are too few; use 1 or more"),
        ("mistaken", "talk.wav: sample rate 0 is not positive; resample it"),
    ],
)
def test_a_mistake_ends_with_2_and_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, argv: str, line: str, boxes: str
) -> None:
    # tyro chooses how to draw the errors that are condensed here by the encoding of stdout.
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=boxes)
    monkeypatch.setattr(sys, "stdout", stdout)
    status, _, err = end(capsys, *argv.split())
    assert (status, stdout.tell()) == (2, 0)
    assert err.startswith(f"duologue: {line}")
    assert err.count("\n") == 1


def test_a_long_value_is_not_broken_by_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    value = "very-long-mode-" * 20
    _, _, err = end(capsys, "score", "fdb-v1", "backchannel", "x", "--mode", value)
    assert f"--mode: '{value}' is not one of" in err
    assert os.environ["COLUMNS"] == "40"


def test_a_defect_ends_with_1_a_traceback_and_one_closing_line(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = end(capsys, "defective")
    assert status == 1
    assert "Traceback" in err
    assert "ZeroDivisionError: no way" in err
    assert err.splitlines()[-1].startswith("duologue: unexpected ZeroDivisionError")


def test_a_broken_pipe_that_is_not_stdout_is_a_defect(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = end(capsys, "socket_broke")
    assert (status, "BrokenPipeError: peer" in err) == (1, True)


def test_a_function_without_an_annotated_parameter_is_a_defect(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = end(capsys, "unannotated")
    assert (status, "must have one parameter, annotated" in err) == (1, True)


def test_ctrl_c_ends_with_130_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(capsys, "interrupted") == (130, "", "duologue: interrupted\n")


def test_help_lists_verbs_without_importing_them(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = end(capsys, "--help")
    assert (status, err) == (0, "")
    assert "Never imported." in out
    assert "Full-Duplex-Bench v1." in end(capsys, "score", "-h")[1]


def test_help_of_a_verb_tells_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = end(capsys, "score", "fdb-v1", "--help")
    assert status == 0
    assert all(text in out for text in ("Score existing outputs.", "--mode", "Which rules.", "usage: duologue score"))


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(VERBS, ["--version"], version="1.2.3") == 0
    assert capsys.readouterr().out == "duologue 1.2.3\n"


def test_when_the_reader_goes_the_command_ends_quietly() -> None:
    code = f"import sys; from {HERE} import VERBS, run; sys.exit(run(VERBS, ['endless']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parent
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), err) == (141, b"")


def test_the_command_layer_imports_nothing_heavy() -> None:
    code = "import sys, duologue, duologue.base.command; print(sorted(set(sys.modules) & set(sys.argv[1:])))"
    heavy = ["numpy", "torch", "tyro", "rich", "httpx", "yaml", "scipy"]
    started = time.perf_counter()
    run_ = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert run_.stdout == "[]\n"
    # Generous: it is 0.04 s on an idle core, and this machine may be busy.
    assert time.perf_counter() - started < 5
