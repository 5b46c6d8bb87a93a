"""Rows of metrics go to trackers too, while a run lasts."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from duologue.base.config import from_dict
from duologue.base.errors import UserError
from duologue.base.runs import RunFolder
from duologue.base.trackers import tracked
from duologue.train.align import AlignConfig


def folder(path: Path) -> RunFolder:
    return RunFolder.create(path, "align", from_dict(AlignConfig, {"recipe": "x"}))


class Session:
    def __init__(self, **how: Any) -> None:
        self.how, self.rows, self.ended = how, [], False

    def log(self, row: dict[str, float], step: int) -> None:
        self.rows.append((step, row))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.rows.append((step, {name: value}))

    def finish(self) -> None:
        self.ended = True

    close = finish


def test_wandb_gets_every_finite_number_with_its_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module, begun = ModuleType("wandb"), []
    module.init = lambda **how: begun.append(Session(**how)) or begun[0]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    with folder(tmp_path / "run") as run:
        with tracked(run, "wandb", {"rate": 1}):
            run.log({"step": 3, "loss": 0.5, "kl": float("nan"), "note": "x"})
        run.log({"step": 4, "loss": 0.1})
        assert len(run.rows()) == 2
    (session,) = begun
    assert session.rows == [(3, {"loss": 0.5})]
    assert session.ended
    assert session.how["config"] == {"rate": 1}
    assert session.how["name"] == "run"


def test_tensorboard_gets_scalars(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[Any] = []
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = lambda path: made.append(Session(path=path)) or made[0]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with folder(tmp_path / "run") as run, tracked(run, "tensorboard", {}):
        run.log({"step": 1, "loss": 0.5})
    assert made[0].rows == [(1, {"loss": 0.5})]
    assert made[0].ended


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")])
def test_one_that_is_not_installed_is_named(
    name: Any, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with (
        folder(tmp_path / "run") as run,
        pytest.raises(UserError, match=f"{name} is not installed"),
        tracked(run, name, {}),
    ):
        pass


def test_none_is_nothing(tmp_path: Path) -> None:
    with folder(tmp_path / "run") as run, tracked(run, "none", {}):
        assert run.listeners == []
