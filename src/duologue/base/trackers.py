"""Rows of metrics to TensorBoard or Weights & Biases as well (extras `tensorboard` and `wandb`)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from duologue.base.runs import RunFolder

Tracker: TypeAlias = Literal["none", "tensorboard", "wandb"]
PROJECT = "duologue"


@contextlib.contextmanager
def tracked(run: RunFolder, tracker: Tracker, config: Mapping[str, Any]) -> Iterator[None]:
    """Send what the run logs inside to a tracker too; `metrics.jsonl` stays what counts.

    Args:
        run: whose rows; its folder holds TensorBoard's files, or is wandb's directory.
        tracker: which.
        config: shown beside the run by wandb.

    Raises:
        UserError: the tracker is not installed.
    """
    if tracker == "none":
        yield
        return
    send, close = (_tensorboard if tracker == "tensorboard" else _wandb)(run.path, config)
    run.listeners.append(send)
    try:
        yield
    finally:
        run.listeners.remove(send)
        close()


def _tensorboard(folder: Path, config: Mapping[str, Any]) -> tuple[Any, Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise _missing("tensorboard") from None
    writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def send(row: Mapping[str, object]) -> None:
        for name, value in _numbers(row).items():
            writer.add_scalar(name, value, row.get("step"))

    return send, writer.close


def _wandb(folder: Path, config: Mapping[str, Any]) -> tuple[Any, Any]:
    try:
        import wandb
    except ImportError:
        raise _missing("wandb") from None
    session = wandb.init(project=PROJECT, name=folder.name, dir=str(folder), config=dict(config))

    def send(row: Mapping[str, object]) -> None:
        session.log(_numbers(row), step=row.get("step"))

    return send, session.finish


def _numbers(row: Mapping[str, object]) -> dict[str, float]:
    """The finite numbers of a row, without its step."""
    return {k: float(v) for k, v in row.items() if k != "step" and isinstance(v, (int, float)) and math.isfinite(v)}


def _missing(name: str) -> UserError:
    return UserError(f"{name} is not installed", place="--tracker", mend=f"pip install 'duologue[{name}]', or none")
