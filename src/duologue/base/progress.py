"""Progress of long work, on stderr and only where a person watches: a terminal, not a log."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

T = TypeVar("T")


class Meter:
    """One progress line, moved by hand; without a display behind it, it does nothing."""

    def __init__(self, display: Progress | None = None, task: TaskID | None = None) -> None:
        self._display = display
        self._task = task

    def advance(self, steps: float = 1) -> None:
        """Note that `steps` more are done."""
        if self._display is not None and self._task is not None:
            self._display.advance(self._task, steps)

    def relabel(self, label: str) -> None:
        """Change the text of the line, for example to show the current loss."""
        if self._display is not None and self._task is not None:
            self._display.update(self._task, description=label)


@contextmanager
def meter(label: str, total: float | None = None, *, quiet: bool = False) -> Iterator[Meter]:
    """Show a progress line for as long as the `with` block runs; `total=None` means that nobody knows the amount.

    Lines may be nested, also across threads: they share one display. Nothing is shown when stderr is not a terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield Meter()
        return
    display = _terminal.enter()
    task = display.add_task(label, total=total)
    try:
        yield Meter(display, task)
    finally:
        _terminal.leave(display, task)


def track(iterable: Iterable[T], label: str, total: float | None = None, *, quiet: bool = False) -> Iterator[T]:
    """Go through `iterable` and show how far it is. The total is its length where it has one."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with meter(label, total, quiet=quiet) as line:
        for item in iterable:
            yield item
            line.advance()


class _Terminal:
    """The one live display that a process can have, started with the first line and stopped with the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._display: Progress | None = None
        self._lines = 0

    def enter(self) -> Progress:
        with self._lock:
            if self._display is None:
                self._display = _new_display()
                self._display.start()
            self._lines += 1
            return self._display

    def leave(self, display: Progress, task: TaskID) -> None:
        with self._lock:
            self._lines -= 1
            if self._lines:
                display.remove_task(task)
            else:
                display.stop()
                self._display = None


_terminal = _Terminal()


def _new_display() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Transient: the finished line would only repeat what the command prints next. `print` keeps its own stream.
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
