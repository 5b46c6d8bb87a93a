"""Processes that align together take the steps that one process takes alone; one that is left alone does not hang."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from duologue.rl.policy import PolicyConfig
from duologue.train.align_learner import AlignLearner
from duologue.train.align_player import Precision
from duologue.train.align_settings import CriticSettings, ImitationSettings, PreferenceSettings
from duologue.train.parallel import World
from test_align_learner import learner, settings

STEPS = """
import json, os, sys
from duologue.train.parallel import join
from test_align_parallel import steps

with join("cpu", float(os.environ["PATIENCE"])) as (world, _):
    if os.environ.get("LEAVES") == str(world.rank):
        os._exit(7)
    told = {case: steps(world, case) for case in os.environ["CASES"].split(",")}
    open(sys.argv[1] + str(world.rank), "w").write(json.dumps(told))
"""


MIXED = {"rows": 1, "imitation": ImitationSettings(share=0.5), "critic": CriticSettings(rate=0.03)}
CASES: Mapping[str, Mapping[str, Any]] = {
    "sequences": {"updates": 2},
    "sequences in shards": {"updates": 2, "shard": True},
    "frames": {"updates": 2, "policy": PolicyConfig(aggregate="frame_mean"), "flat_groups": "drop"},
    "imitation and a critic": {"updates": 1} | MIXED,
    "imitation and a critic in shards": {"updates": 1, "shard": True} | MIXED,
    "pairs": {"updates": 1, "preference": PreferenceSettings()},
}
"""Changes to the settings."""
PLAYED: Mapping[str, Precision] = {"sequences in shards": "bf16"}
"""Cases in which a copy of another number format plays."""


def steps(world: World | None = None, case: str = "sequences") -> dict[str, Any]:
    """Three steps of three groups, of which two processes have unequal parts, in segments of 1.0 and 1.4 s; the last
    two after restoring: their rows, and a number for each weight."""
    how, groups = settings(3, autocast=False, **CASES[case]), 3
    how = replace(how, rollouts=replace(how.rollouts, dtype=PLAYED.get(case, "fp32")))
    one: AlignLearner = learner(how, groups=groups, world=world)
    rows = [dict(one.step(0))]
    state = one.state()
    if world is not None:  # as from a checkpoint, which rank 0 alone reads
        state = world.deal(lambda: state)
        assert world.leads or any(x.is_meta for x in state["model"].values())
    one = learner(how, groups=groups, world=world)
    one.restore(state)
    rows += [dict(one.step(n)) for n in (1, 2)]
    for row in rows:
        del row["rollout_fps"], row["update_fps"]
    weights = one.whole_weights() or one.model.state_dict()
    norms = {} if world is not None and not world.leads else {k: float(x.double().norm()) for k, x in weights.items()}
    players = [float(p.detach().double().norm()) for p in one.player.parameters()]
    return {"rows": rows, "weights": norms, "player": players, "format": str(one.player.text_emb.weight.dtype)}


def together(count: int, folder: Path, **environment: str) -> list[tuple[int, str]]:
    """Run the script in so many processes, as torchrun starts them: status and stderr of each."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1",
        "PATIENCE": "600", "CASES": "sequences", "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), *sys.path)),
    }  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-c", STEPS, str(folder / "rank")]
    begun = [
        subprocess.Popen(
            command, env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} | environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip
    try:
        told = [one.communicate(timeout=900)[1] for one in begun]
        return [(one.returncode, x) for one, x in zip(begun, told, strict=True)]
    finally:
        for one in begun:
            one.kill()


@pytest.mark.parametrize(("count", "cases"), [(2, tuple(CASES)), (4, ("sequences",))], ids=["two", "four"])
def test_several_processes_take_the_steps_of_one(count: int, cases: tuple[str, ...], tmp_path: Path) -> None:
    """Whole in each of them, or in shards beside a copy that plays."""
    for status, said in together(count, tmp_path, CASES=",".join(cases)):
        assert status == 0, said
    for case in cases:
        alone = steps(case=case)
        for rank in range(count):
            told = json.loads((tmp_path / f"rank{rank}").read_text())[case]
            for a, b in zip(alone["rows"], told["rows"], strict=True):
                assert b == pytest.approx(a, rel=2e-3, abs=1e-5), f"{case}, rank {rank}"
            assert told["player"] == pytest.approx(alone["player"], rel=1e-4), f"{case}, rank {rank}"
            assert told["format"] == alone["format"]
            weights = pytest.approx(alone["weights"], rel=1e-4) if rank == 0 else {}
            assert told["weights"] == weights, f"{case}, rank {rank}"


def test_a_rank_that_is_left_alone_ends_with_an_error(tmp_path: Path) -> None:
    begun = time.monotonic()
    (first, said), (second, _) = together(2, tmp_path, LEAVES="1", PATIENCE="10")
    assert second == 7
    assert first not in (0, 7), said
    assert time.monotonic() - begun < 100
