"""Progress is seen by a person at a terminal and by nobody else."""

from __future__ import annotations

import io
import sys

import pytest

from duologue.base.progress import meter, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def as_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    return screen


def test_a_log_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(3), "mining")) == [0, 1, 2]
    with meter("training", 3) as line:
        line.advance()
        line.relabel("loss 0.3")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_label_and_amount(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = as_terminal(monkeypatch)
    assert list(track([1, 2, 3], "mining")) == [1, 2, 3]
    assert "mining" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_quiet_is_quiet_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = as_terminal(monkeypatch)
    assert list(track(iter("ab"), "mining", total=2, quiet=True)) == ["a", "b"]
    assert terminal.getvalue() == ""


def test_lines_nest_and_the_display_ends_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = as_terminal(monkeypatch)

    def work() -> None:
        for _ in track(range(2), "outer"):
            for n in track(range(2), "inner"):
                if n:
                    raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        work()
    assert all(label in terminal.getvalue() for label in ("outer", "inner"))
    # The cursor is shown again, and a new line can be started.
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")
    with meter("next") as line:
        line.relabel("renamed")
    assert "renamed" in terminal.getvalue()
