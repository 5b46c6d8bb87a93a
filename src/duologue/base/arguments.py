"""Command-line arguments to a config, by tyro, with every mistake as one `UserError` line in place of tyro's box."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from duologue.base.errors import UserError
from duologue.base.typed import nearest

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_RULE = re.compile(r"[─-]{3,}╯?")
_PLAINER = (
    (
        re.compile(r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)"),
        r"\1: \2 is not a whole number",
    ),
    (re.compile(r"Error parsing (\S+): could not convert string to float: (.*)"), r"\1: \2 is not a number"),
    (re.compile(r"Error parsing (\S+): "), r"\1: "),
    (re.compile(r"Missing value for argument '(.*)'\. Expected (\d+) values\."), r"\1: needs a value (\2 in all)"),
    (re.compile(r"^Missing from .*?: "), "missing: "),
    (re.compile(r"^([A-Z])(?=[a-z])"), lambda match: match[1].lower()),
)
_CHOICE = re.compile(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)\.?")


def parse(hint: Any, args: Sequence[str], prog: str, description: str | None = None) -> Any:
    """Make a value of the type `hint`, usually a config's class, from command-line arguments.

    Args:
        hint: what to make; its field docstrings are the help.
        args: the arguments, without the name of the program.
        prog: the words before the arguments, such as "duologue score fdb-v1".
        description: the text above the options; the class's docstring if None.

    Raises:
        UserError: the arguments are wrong; the line names the option and value.
        SystemExit: with status 0 after `--help`, which tyro has printed on stdout.
    """
    import tyro

    caught = io.StringIO()
    # tyro fits its error box to the terminal; in a very wide one no message is broken, so none need be joined again.
    asks_help = "-h" in args or "--help" in args
    width: contextlib.AbstractContextManager[None] = contextlib.nullcontext() if asks_help else _columns(10_000)
    try:
        with contextlib.redirect_stderr(caught), width:
            value = tyro.cli(hint, prog=prog, description=description, args=list(args))
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise condense(caught.getvalue(), prog) from None
    sys.stderr.write(caught.getvalue())  # warnings, if any
    return value


def condense(box: str, prog: str) -> UserError:
    """Read tyro's error box: its first part is the problem, "Perhaps you meant" the mend, the rest is left out."""
    parts = _parts(_ANSI.sub("", box))
    problem = ", ".join(parts[0]).replace(":, ", ": ") if parts else "cannot read the command line"
    for pattern, plainer in _PLAINER:
        problem = pattern.sub(plainer, problem)
    if choice := _CHOICE.fullmatch(problem):
        value, option, choices = choice[1], choice[2], choice[3].replace("'", "").rstrip(",")
        mend = nearest(value, choices.split(", "))
        guess = f" ({mend})" if mend.startswith("did") else ""
        problem = f"{option}: {value!r} is not one of {choices}{guess}"
    meant = [line for part in parts for line in part[1:] if part[0].startswith("Perhaps you meant")]
    options = [line.split()[0].rstrip(",") for line in meant if line.startswith("-")]
    guess = f" (did you mean {' or '.join(options[:3])}?)" if options else ""
    return UserError(problem.rstrip(".") + guess, mend=f"see {prog} --help")


def _parts(box: str) -> list[list[str]]:
    """The lines of a box between its rules; lines that are indented twice explain others and are dropped.

    tyro draws its boxes with lines, or, where stdout is not UTF-8, with dashes: the first line holds the title, the
    others have a margin of two characters.
    """
    parts: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:
        text = line[2:].rstrip().removesuffix("│").rstrip()
        if _RULE.fullmatch(text):
            parts.append([])
        elif text and not text.startswith(" " * 8):
            parts[-1].append(text.strip())
    full = [part for part in parts if part]
    # Not a box after all: keep what there is, so that no message is lost.
    return full or [[textwrap.shorten(box, 300)]] if box.strip() else full


@contextlib.contextmanager
def _columns(width: int) -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
