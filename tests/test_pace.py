"""Hints to who trains on a busy machine."""

from __future__ import annotations

import pytest

from duologue.base.pace import Pace, busy_at


def test_a_machine_is_busy_if_more_runs_than_it_has_cores() -> None:
    assert busy_at(2.0, 2) is None
    told = busy_at(7.25, 2)
    assert told is not None
    assert "load 7.2 on 2 cores" in told
    assert "--threads 1" in told


def test_a_slow_step_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    pace = Pace()
    for step, seconds in enumerate([9.0, 25.0, 25.0, 60.0, 85.0, 478.0], 1):
        pace.note({"step": step, "seconds": seconds})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("step 5 took 85 s, the first ones 25 s")
    assert "--threads 1" in line


def test_what_was_known_before_is_not_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    pace = Pace("this machine is busy")
    for step, seconds in enumerate([1.0, 1.0, 1.0, 99.0], 1):
        pace.note({"step": step, "seconds": seconds})
    assert capsys.readouterr().err == "this machine is busy\n"


def test_rows_without_seconds_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    pace = Pace()
    pace.note({"step": 1, "held_out_loss": 1.0})
    assert capsys.readouterr().err == ""
