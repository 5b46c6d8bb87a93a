"""Where and how precisely to compute, and from which seed."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING

from duologue.base.errors import UserError
from duologue.base.typed import nearest

if TYPE_CHECKING:
    import numpy as np
    import torch

DTYPES = ("auto", "fp32", "bf16", "fp16")


def pick_device(name: str = "auto") -> torch.device:
    """The device that `--device` names.

    Args:
        name: "auto" (CUDA where there is any, else the CPU), "cpu", "cuda", "cuda:N", or another type that torch knows.

    Raises:
        UserError: torch knows no such device, or this machine has none.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        mend = nearest(name.split(":")[0], ("auto", "cpu", "cuda", "mps")) if name else "use auto, cpu or cuda"
        raise UserError(f"{name!r} is not a device", place="--device", mend=mend) from None
    if device.type == "cuda":
        _check_cuda(name, device.index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"{name!r} is not on this machine", place="--device", mend="use auto or cpu")
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format that `--dtype` names: "fp32", "bf16", "fp16", or "auto".

    "auto" is bf16 on a CUDA device that computes in it (Ampere and later), fp32 anywhere else.

    Raises:
        UserError: no such name.
    """
    import torch

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and _has_bf16(device) else torch.float32
    if name not in dtypes:
        raise UserError(f"{name!r} is not a number format", place="--dtype", mend=f"use one of {', '.join(DTYPES)}")
    return dtypes[name]


def device_memory(device: torch.device) -> int | None:
    """Bytes of a CUDA device's memory; None for others, which share the machine's."""
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None


def seed_everything(seed: int) -> np.random.Generator:
    """Seed Python's, NumPy's and (where it is imported) torch's global generators; return a generator of one's own.

    Draw from the returned generator; the global ones are seeded for libraries that use them. Import torch first.

    Raises:
        UserError: the seed is not within 0 .. 2**32 - 1, which is what NumPy's global generator takes.
    """
    import numpy as np

    if not 0 <= seed < 2**32:
        raise UserError(f"{seed} is not a seed", place="--seed", mend="use a whole number from 0 to 4294967295")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (for libraries that draw from it)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
    return np.random.default_rng(seed)


def _check_cuda(name: str, index: int | None) -> None:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        why = "this machine has no CUDA device" if torch.version.cuda else "this torch is built without CUDA"
        raise UserError(f"{name!r} cannot be used: {why}", place="--device", mend="use auto or cpu")
    if index is not None and index >= count:
        raise UserError(f"{name!r} is not among the {count} CUDA devices here", place="--device", mend="use cuda:0")


def _has_bf16(device: torch.device) -> bool:
    import torch

    major, _ = torch.cuda.get_device_capability(device)
    return torch.version.hip is not None or major >= 8
