"""The development tool that writes the mean of several models."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from duologue.engine.bundle import load

SCRIPT = Path(__file__).parents[1] / "tools" / "mean_lm.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="the development tools are not here")


def mean(*arguments: str) -> int:
    return int(runpy.run_path(str(SCRIPT))["main"](arguments))


def test_each_weight_is_the_mean(tmp_path: Path) -> None:
    parts = {"random:tiny@1": 0.75, "random:tiny@2": 0.25}
    assert mean(*(f"{name}={part}" for name, part in parts.items()), "-o", str(tmp_path / "mean")) == 0
    states = {name: load(name, device="cpu", dtype="fp32").lm.state_dict() for name in parts}
    made = load(tmp_path / "mean", device="cpu", dtype="fp32").lm.state_dict()
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, sum(part * states[model][name] for model, part in parts.items()))


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (["random:tiny@1=0.5", "random:tiny@2=0.6"], "add up to 1.1"),
        (["random:tiny@1", "random:tiny@2=0.6"], "MODEL=WEIGHT"),
        (["random:tiny=0.5", "random:nano=0.5"], "not of one shape"),
    ],
)
def test_what_has_no_mean_is_refused(models: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=said):
        mean(*models, "-o", str(tmp_path / "mean"))
    assert not (tmp_path / "mean").exists()
