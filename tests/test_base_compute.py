"""Devices and number formats by name, and seeds that repeat."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from duologue.base.compute import pick_device, pick_dtype, seed_everything
from duologue.base.errors import UserError


def test_auto_takes_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    assert pick_dtype("auto", pick_device("cpu")) is torch.float32
    with pytest.raises(UserError, match=r"'cuda:0' cannot be used: this .*; use auto or cpu"):
        pick_device("cuda:0")


def test_auto_takes_cuda_and_bf16_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0) if device.index != 1 else (7, 5))
    assert pick_device("auto") == torch.device("cuda")
    assert pick_dtype("auto", torch.device("cuda:0")) is torch.bfloat16
    assert pick_dtype("auto", torch.device("cuda:1")) is torch.float32
    with pytest.raises(UserError, match="'cuda:2' is not among the 2 CUDA devices"):
        pick_device("cuda:2")


@pytest.mark.parametrize(("name", "mend"), [("cdua", "did you mean cuda"), ("", "use auto"), ("cpu:x", "did")])
def test_an_unknown_device_is_a_users_mistake(name: str, mend: str) -> None:
    with pytest.raises(UserError, match=f"is not a device; {mend}"):
        pick_device(name)


def test_number_formats_have_short_names() -> None:
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    assert {name: pick_dtype(name, torch.device("cpu")) for name in names} == names
    with pytest.raises(UserError, match="'fp8' is not a number format; use one of auto, fp32, bf16, fp16"):
        pick_dtype("fp8", torch.device("cpu"))


def draws(seed: int) -> list[float]:
    rng = seed_everything(seed)
    return [rng.random(), random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002


def test_the_same_seed_gives_the_same_numbers_everywhere() -> None:
    first, second, other = draws(3), draws(3), draws(4)
    assert first == second
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(UserError, match=f"{seed} is not a seed"):
        seed_everything(seed)


def test_seeding_does_not_import_torch() -> None:
    code = "import sys; from duologue.base.compute import seed_everything as s; s(1); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
