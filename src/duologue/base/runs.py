"""The run folder: what a run was asked, what it measured, and what it made; enough to repeat it and to go on with it.

config.yaml      the command line, its options, what they came to (`RunRecord`), versions, commit, dates
metrics.jsonl    one JSON object a line, appended
checkpoints/     rollouts/     report.html
"""

from __future__ import annotations

import contextlib
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duologue
from duologue.base import metrics
from duologue.base.config import differences, fingerprint, read_yaml, to_dict, to_yaml, without
from duologue.base.errors import UserError
from duologue.base.files import AnyPath, make_folder, write_text
from duologue.base.run_record import RunRecord, commit_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RUNS = Path("runs")
PACKAGES = ("numpy", "torch", "silero-vad", "soxr")
"""What can change a run's numbers: the versions of these are recorded, without importing them."""


class RunFolder:
    """A run's folder, locked for as long as it is open, so that no two processes write in it.

        with RunFolder.create(config.out, "align", config, resume=config.resume) as run:
            run.log({"step": 1, "loss": 0.7})

    `resumed` says whether the folder held this run before.
    """

    def __init__(self, path: Path, lock: contextlib.ExitStack, resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self.listeners: list[Callable[[Mapping[str, object]], None]] = []
        """Called with every row that is logged."""
        self._lock = lock

    @classmethod
    def create(
        cls,
        path: AnyPath | None,
        verb: str,
        config: DataclassInstance,
        *,
        resume: bool = False,
        free: Collection[str] = ("out", "resume"),
        command: Sequence[str] | None = None,
        record: RunRecord | None = None,
    ) -> RunFolder:
        """Open a new run folder, or with `resume` one that holds this run already.

        Resuming a folder that is new or empty starts the run, so that a job may always pass `--resume`.

        Args:
            path: the folder; None for `runs/<verb>-<n>` with the next free number.
            verb: the command's words, such as "train lm".
            config: its resolved config.
            resume: go on with the run in the folder; its config must be the same.
            free: dotted names of fields that may differ when it goes on, and that do not count in the fingerprint.
            command: the command line to record; this process's if None.
            record: what the config came to; it must be the same when the run goes on, and counts in the fingerprint.

        Raises:
            UserError: the folder holds another run, or other files, or is in use, or cannot be made.
        """
        if path is None:
            if resume:
                raise UserError("there is no run to resume", mend="name its folder")
            folder = _next_folder(RUNS, re.sub(r"\W+", "-", verb).strip("-"))
        else:
            folder = Path(path)
            make_folder(folder)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_locked(folder))
            made = _describe(verb, config, free, sys.argv if command is None else command, record)
            resumed = _settle(folder, made, resume, free)
            metrics.repair(folder / "metrics.jsonl")
            return cls(folder, stack.pop_all(), resumed)

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints, made on first use."""
        return self._made("checkpoints")

    @property
    def rollouts(self) -> Path:
        """The folder of rollouts, made on first use."""
        return self._made("rollouts")

    def log(self, row: Mapping[str, object]) -> None:
        """Append one row to `metrics.jsonl`; it survives a kill of this process from here on."""
        metrics.append_row(self.metrics_path, row)
        for listener in self.listeners:
            listener(row)

    def rows(self) -> list[dict[str, Any]]:
        """All rows of `metrics.jsonl`."""
        return metrics.read_rows(self.metrics_path)

    def rewind(self, step: int) -> None:
        """Forget the rows after `step`, when the run goes on from the checkpoint of that step."""
        metrics.rewind(self.metrics_path, step)

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A mistake found before anything was made leaves no folder that says nothing.
        made_nothing = {p.name for p in self.path.iterdir()} <= {"config.yaml", ".lock"}
        if kind is not None and issubclass(kind, UserError) and made_nothing and not self.resumed:
            shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def _made(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        return folder


def _next_folder(parent: Path, stem: str) -> Path:
    make_folder(parent)
    taken = [int(found[1]) for p in parent.iterdir() if (found := re.fullmatch(rf"{re.escape(stem)}-(\d+)", p.name))]
    number = max(taken, default=0)
    while True:
        number += 1
        folder = parent / f"{stem}-{number}"
        # Another process may take the number first; then the next one is tried.
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. The system lets go of it when the process ends, however it ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError("another process is writing here", place=folder, mend="wait for it or pass another") from None
    try:
        yield
    finally:
        lock.release()


def _describe(
    verb: str, config: DataclassInstance, free: Collection[str], command: Sequence[str], record: RunRecord | None
) -> dict[str, Any]:
    """What config.yaml says: how to repeat the run, and with what it was made."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    versions = {"duologue": duologue.__version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    recorded = {} if record is None else {"record": record.plain()}
    return {
        "verb": verb,
        "command": shlex.join([Path(command[0]).name, *command[1:]]) if command else "",
        "date": now,
        "versions": versions,
        "commit": commit_of(),
        "platform": platform.platform(),
        "fingerprint": fingerprint(config, free=free),
        "config": to_dict(config),
    } | recorded


def _settle(folder: Path, made: dict[str, Any], resume: bool, free: Collection[str]) -> bool:
    """Write config.yaml, or see that the one here is of the same run; return whether the run was here before."""
    file = folder / "config.yaml"
    if not file.exists():
        others = sorted(p.name for p in folder.iterdir() if p.name != ".lock")
        if others:
            raise UserError(f"holds other files ({others[0]})", place=folder, mend="pass a new or empty folder")
        write_text(file, to_yaml(made))
        return False
    if not resume:
        raise UserError("holds a run already", place=folder, mend="pass another folder or --resume")
    found = read_yaml(file)
    _check_same(_comparable(found, free), _comparable(made, free), folder)
    again = {key: made[key] for key in ("date", "command", "versions", "commit", "platform")}
    write_text(file, to_yaml({**found, "resumed": [*found.get("resumed", []), again]}))
    return True


def _comparable(said: Mapping[str, Any], free: Collection[str]) -> dict[str, Any]:
    """What must be the same for a run to go on: the verb, the record, and the options that are not free."""
    record = {"record": said["record"]} if "record" in said else {}
    return {"verb": said.get("verb"), **record, **without(said.get("config") or {}, free)}


def _check_same(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Errors: UserError, a run differs from that in the folder; the first difference is named with both values."""
    mend = "ask the same, or pass another folder"
    if "record" in new and "record" not in old:
        raise UserError("holds a run whose settings were not written down", place=folder, mend="pass another folder")
    changed = differences(old, new)
    if not changed:
        return
    first, more = changed[0], f", and {len(changed) - 1} more that differ" * (len(changed) > 1)
    values = (_value(old, first), _value(new, first))
    name = first.removeprefix("record.")
    raise UserError(f"holds a run with {name} = {values[0]!r}, not {values[1]!r}{more}", place=folder, mend=mend)


def _value(fields: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted name; None where there is none."""
    value: Any = fields
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
