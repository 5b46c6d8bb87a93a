"""Verbs of the command line: found by name, imported only when used, and ended in one way.

A verb is a function of one parameter, whose annotation says what to make from the arguments:

    def main(config: ScoreConfig) -> int | None:
        \"\"\"Score existing outputs.\"\"\"

`run` ends with 0 when it is done (or with what the verb returns), 2 after a mistake of the user's (one line on
stderr), 130 after Ctrl-C (one line), 141 when the reader of stdout has gone, and 1 after anything else (a traceback
and one closing line).
"""

from __future__ import annotations

import importlib
import inspect
import os
import select
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from duologue.base.errors import UserError
from duologue.base.typed import nearest

Function: TypeAlias = Callable[[object], int | None]

DONE, FAILED, MISTAKE, INTERRUPTED, NO_READER = 0, 1, 2, 130, 141


@dataclass(frozen=True, slots=True)
class Verb:
    """One command: a line of help and where its function lives, as "package.module:function"."""

    summary: str
    target: str


@dataclass(frozen=True, slots=True)
class Group:
    """Commands under a common word, such as `score fdb-v1` and `score nano`."""

    summary: str
    verbs: Mapping[str, Verb | Group]


def run(root: Group, argv: Sequence[str] | None = None, *, prog: str = "duologue", version: str = "") -> int:
    """Do what the arguments say and return the exit status.

    Args:
        root: all verbs; its summary stands at the top of `prog --help`.
        argv: the arguments without the name of the program; those of this process if None.
        prog: the name of the program.
        version: what `prog --version` prints.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _status(root, args, prog, version)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return NO_READER
        traceback.print_exc()
        print(f"{prog}: unexpected {type(error).__name__}; please report the lines above", file=sys.stderr)
        return FAILED


def load(verb: Verb) -> tuple[Function, object]:
    """Import a verb's function; return it and the annotation of its one parameter.

    Raises:
        TypeError: the function has not exactly one parameter, with an annotation.
    """
    module, _, name = verb.target.partition(":")
    function: Function = getattr(importlib.import_module(module), name)
    parameters = list(inspect.signature(function).parameters)
    hints = typing.get_type_hints(function, include_extras=True)
    if len(parameters) != 1 or parameters[0] not in hints:
        raise TypeError(f"{verb.target} must have one parameter, annotated with its config")
    return function, hints[parameters[0]]


def _status(root: Group, args: list[str], prog: str, version: str) -> int:
    if args == ["--version"]:
        print(prog, version)
        return DONE
    try:
        return _dispatch(root, args, prog)
    except SystemExit as stop:  # `--help` ends so, and libraries may
        if isinstance(stop.__context__, BrokenPipeError):  # rich's way to say that the reader of stdout has gone
            return NO_READER
        return stop.code if isinstance(stop.code, int) else DONE if stop.code is None else FAILED


def _dispatch(entry: Group | Verb, args: list[str], prog: str) -> int:
    """Follow the words of a command to its verb, then parse the rest for it and call it."""
    if isinstance(entry, Verb):
        from duologue.base.arguments import parse

        function, hint = load(entry)
        result = function(parse(hint, args, prog, description=inspect.getdoc(function)))
        return DONE if result is None else result
    word = args[0] if args else ""
    if word in ("-h", "--help"):
        print(help_text(entry, prog))
        return DONE
    if word not in entry.verbs:
        problem = f"{word!r} is not a command" if word else "no command given"
        raise UserError(problem, mend=f"{nearest(word, entry.verbs)} (see {prog} --help)")
    return _dispatch(entry.verbs[word], args[1:], f"{prog} {word}")


def help_text(group: Group, prog: str) -> str:
    """The page of `prog --help`: one line for each verb, without importing any."""
    width = max((len(name) for name in group.verbs), default=0)
    lines = [f"  {name:<{width}}  {entry.summary}" for name, entry in group.verbs.items()]
    usage = f"usage: {prog} COMMAND ..."
    return "\n".join([usage, "", group.summary, "", *lines, "", f"`{prog} COMMAND --help` tells more about each."])


def _reader_is_gone() -> bool:
    """Whether stdout leads nowhere, as after `duologue ... | head`; a broken pipe elsewhere is an error like any."""
    if sys.platform == "win32":
        return False
    try:
        pipe = sys.stdout.fileno()
    except OSError:  # not a real file, as in a notebook
        return False
    poll = select.poll()
    poll.register(pipe, 0)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if gone:
        # What is still buffered would fail again at exit, with a complaint; let it go where everything may go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), pipe)
    return gone
