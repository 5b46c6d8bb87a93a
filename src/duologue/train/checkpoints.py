"""Checkpoints of a training run: whole files, the last N of them, read by one process for all.

`checkpoints/step-0000010.pt` holds whole tensors, whatever the number of processes that wrote it. It is written aside
and renamed, and older ones go only then, so that a kill at any moment leaves the former checkpoint whole. Rank 0 maps
the file into memory and sends each tensor, or its shards, to the others when it is asked for (`parallel.spread`).
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from duologue.base.errors import UserError
from duologue.base.files import atomic_path

FORMER = "last.pt"
"""The one checkpoint of a run, as runs before numbered ones kept it."""


def kept(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return [*folder.glob(FORMER), *sorted(folder.glob("step-*.pt"))]


def save(folder: Path, step: int, state: dict[str, Any], keep: int) -> None:
    """Write the checkpoint of a step, and then remove all but the last `keep`."""
    import torch

    with atomic_path(folder / f"step-{step:07d}.pt") as aside:
        torch.save({"step": step, "learner": state}, aside)
    for path in kept(folder)[:-keep]:
        path.unlink()


def read(path: Path) -> tuple[int, dict[str, Any]]:
    """Step and state of a checkpoint; its tensors stay in the file until they are used. Errors: UserError."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError, OSError) as error:
        raise broken(path, f"is no checkpoint: {first_line(error)}") from None
    match content:
        case {"step": int() as step, "learner": dict() as state}:
            return step, state
    raise broken(path, "is no checkpoint of training")


def broken(path: Path, problem: str) -> UserError:
    """The error of a checkpoint that cannot be gone on from; an older one is named where there is one."""
    older = [other for other in kept(path.parent) if other != path]
    return UserError(
        problem, place=path, mend=f"remove it to go on from {older[-1].name}" if older else "remove it to start anew"
    )


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
