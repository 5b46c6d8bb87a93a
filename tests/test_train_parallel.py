"""Two processes that train together learn what one process of two passes learns, and leave the same files."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from duologue.base.errors import UserError
from duologue.base.files import read_json
from duologue.base.metrics import read_rows
from duologue.base.runs import RunFolder
from duologue.engine.bundle import load
from duologue.train.lm import main
from duologue.train.lm_learner import LMLearner, LMLearning
from duologue.train.optimizers import OptimizerConfig
from duologue.train.parallel import ALONE, World, join, sharded, shared_run, spread, whole
from test_model_parity import random_model
from test_train_data import excerpts
from test_train_lm import TINY, config, files  # noqa: F401 (a fixture)

SCRIPT = """
import os, pickle, sys
from dataclasses import replace
from torch import distributed
from duologue.train import checkpoints
from duologue.train.lm import main
from duologue.train.lm_learner import LMLearner

config = pickle.load(open(sys.argv[1], "rb"))
step = LMLearner.step

def killed(self, number):
    if number == 2:
        raise KeyboardInterrupt
    return step(self, number)

LMLearner.step = killed
try:
    main(config)
except KeyboardInterrupt:
    print("cut")
    distributed.destroy_process_group()
LMLearner.step = step
if os.environ["RANK"] == "1":  # it never reads the file, but gets its tensors from rank 0
    checkpoints.read = None
os.environ["MASTER_PORT"] = sys.argv[2]
sys.exit(main(replace(config, resume=True)))
"""
ADAMW = OptimizerConfig(kind="adamw", warmup=1, rate=1e-3)


def together(given: Any, folder: Path) -> list[tuple[int, str, str]]:
    """Run the command in two processes, as torchrun starts them, cut it, and resume: status, stdout, stderr of each."""
    (folder / "config.pickle").write_bytes(pickle.dumps(given))
    ports = []
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            free = stack.enter_context(socket.socket())
            free.bind(("127.0.0.1", 0))
            ports.append(str(free.getsockname()[1]))
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": ports[0], "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(folder / "config.pickle"), ports[1]]
    begun = [
        subprocess.Popen(
            command, env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        told = [one.communicate(timeout=90) for one in begun]
        return [(one.returncode, *x) for one, x in zip(begun, told, strict=True)]
    finally:
        for one in begun:
            one.kill()


def rows(run: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_rows(run / "metrics.jsonl")]


def test_two_processes_equal_two_passes_also_after_a_kill(files: Path, tmp_path: Path) -> None:  # noqa: F811
    how = {"optimizer": ADAMW, "loop": {"log_every": 1}}
    main(config(files, tmp_path / "alone", 3, passes=2, **how))
    pair = replace(config(files, tmp_path / "pair", 3, passes=1, **how), json=tmp_path / "last.json")
    first, second = together(pair, tmp_path)
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert first[1].count("M parameters, 3 steps") == 2  # before it was cut, and after
    assert second[1] == "cut\n"
    ones, twos = rows(tmp_path / "alone"), rows(tmp_path / "pair")
    assert len(ones) == len(twos) == 4
    for one, two in zip(ones, twos, strict=True):
        assert two == pytest.approx(one, rel=2e-5)
    assert read_json(tmp_path / "last.json")["held_out_loss"] == pytest.approx(ones[-1]["held_out_loss"], rel=2e-5)
    # Checkpoints and models are whole, and the same.
    a, b = (torch.load(tmp_path / n / "checkpoints" / "step-0000003.pt", weights_only=True) for n in ("alone", "pair"))
    assert same(a, b) > 200
    c, d = (load(tmp_path / n / "model", device="cpu") for n in ("alone", "pair"))
    assert same(c.lm.state_dict(), d.lm.state_dict()) > 100
    assert d.config.modes == c.config.modes
    # And one process goes on from what two have left.
    main(replace(pair, resume=True, json=tmp_path / "again.json"))
    assert read_json(tmp_path / "again.json") == read_json(tmp_path / "last.json")


def same(one: Any, two: Any) -> int:
    """Assert that two trees hold the same tensors, nearly; returns how many."""
    if isinstance(one, torch.Tensor):
        assert type(two) is torch.Tensor
        # Where a gradient is all but zero, AdamW makes a step of it whose sign is rounding's.
        close = torch.isclose(one, two, rtol=1e-3, atol=1e-5)
        assert close.float().mean() > 0.98
        assert (one - two).abs().max() < 5e-3
        return 1
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        return sum(same(x, two[key]) for key, x in one.items())
    if isinstance(one, list | tuple):
        assert len(one) == len(two)
        return sum(same(x, y) for x, y in zip(one, two, strict=True))
    assert one == two
    return 0


@dataclass(frozen=True)
class Told(World):
    """A world of two in which what rank 0 says is written down."""

    said: list[object] = field(default_factory=list)

    def tell(self, said: object) -> Any:
        if self.rank == 0:
            self.said.append(said)
        return self.said[0]


def test_a_mistake_of_the_folder_is_told_once(tmp_path: Path) -> None:
    def create() -> RunFolder:
        return RunFolder.create(tmp_path, "train lm", OptimizerConfig())

    (tmp_path / "other").write_text("x")
    said: list[object] = []
    with pytest.raises(UserError, match="holds other files"), shared_run(Told(0, 2, said=said), create):
        pass
    assert said == [None]
    with pytest.raises(SystemExit, match="2"), shared_run(Told(1, 2, said=said), create):
        pass


def test_the_folder_is_made_and_locked_once(tmp_path: Path) -> None:
    def create() -> RunFolder:
        return RunFolder.create(tmp_path / "run", "train lm", OptimizerConfig())

    said: list[object] = []
    with shared_run(Told(0, 2, said=said), create) as run, shared_run(Told(1, 2, said=said), create) as other:
        assert (other.path, other.resumed) == (run.path, False)
        run.log({"step": 1})
        assert other.rows() == [{"step": 1}]


def test_muon_is_refused_with_several_processes() -> None:
    with pytest.raises(UserError, match="muon needs whole matrices, and 2 processes hold parts of them; use adamw"):
        LMLearner(random_model(TINY), excerpts(30), None, LMLearning(), steps=1, seed=0, publish=lambda _: None,
                  world=replace(ALONE, count=2))  # fmt: skip


def test_a_process_that_is_alone_needs_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join("cpu") as (world, device):
        assert (world, device.type) == (ALONE, "cpu")
    assert not torch.distributed.is_initialized()
    x = torch.ones(3)
    assert world.gather({"a": [x]})["a"][0] is x
    assert whole(x) is x
    assert spread(x, x) is x
    assert world.mean({"a": 1.5}) == {"a": 1.5}
    assert world.agree(True)
    assert not world.agree(False)
    model = torch.nn.Linear(2, 2)
    score = sharded(model, lambda m, y: (m(y),), world)
    assert torch.equal(score(torch.ones(1, 2))[0], model(torch.ones(1, 2)))


@pytest.mark.parametrize(
    ("environment", "device", "named"),
    [
        ({"WORLD_SIZE": "2"}, "cpu", "WORLD_SIZE is 2, and RANK is not set; start with torchrun"),
        ({"WORLD_SIZE": "two"}, "cpu", "WORLD_SIZE: 'two' is no number"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "cpu:0", "cpu:0 for 2 processes"),
    ],
)
def test_an_environment_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], device: str, named: str
) -> None:
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=named), join(device):
        pass
