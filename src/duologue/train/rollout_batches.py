"""A step's rollouts on disk: tokens and rewards, so that an update can be repeated without a model that talks.

One safetensors file: `codes` int32 [N, K, T] (-1 behind the end), `scored` uint8 [N, T], `lengths` int32 [N], and in
its header the axes, the sizes of the groups and the rewards (null: could not be scored).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from duologue.axes.judge import Verdict
from duologue.base.errors import UserError
from duologue.codec.weights import save_tensors

VERSION = "1"


class Tokens(Protocol):
    """What the update needs of a rollout."""

    @property
    def codes(self) -> Tensor:
        """[K, T]"""

    @property
    def scored(self) -> Tensor:
        """bool [T]"""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A rollout that was read."""

    codes: Tensor
    scored: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Groups of rollouts with their rewards."""

    axes: tuple[str, ...]
    """Of each group."""
    groups: tuple[tuple[Tokens, ...], ...]
    rewards: tuple[Mapping[str, Sequence[float]], ...]
    """Of each group by name, one number for each rollout; NaN: could not be scored."""
    verdicts: tuple[tuple[Verdict, ...], ...] = ()
    """Of each group, what a judge said of each rollout; not kept with tokens."""


def save_batch(path: Path, batch: Batch) -> None:
    """Write a batch, whole or not at all."""
    rollouts = [rollout for group in batch.groups for rollout in group]
    codes = pad_sequence([r.codes.t() for r in rollouts], batch_first=True, padding_value=-1).transpose(1, 2)
    scored = pad_sequence([r.scored for r in rollouts], batch_first=True)
    rewards = [
        {name: [None if math.isnan(x) else float(x) for x in values] for name, values in found.items()}
        for found in batch.rewards
    ]
    told = {"axes": batch.axes, "sizes": [len(group) for group in batch.groups], "rewards": rewards}
    tensors = {
        "codes": codes.int().cpu(), "scored": scored.to(torch.uint8).cpu(),
        "lengths": torch.tensor([r.codes.shape[1] for r in rollouts], dtype=torch.int32),
    }  # fmt: skip
    save_tensors(path, tensors, {"version": VERSION, "batch": json.dumps(told)})


def load_batch(path: Path) -> Batch:
    """Read a batch. Errors: UserError, no such file, or none of these."""
    if not path.is_file():
        mend = "keep rollouts with duologue align --keep-tokens"
        raise UserError("no rollouts are kept here", place=path, mend=mend)
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.get("version") != VERSION:
            raise UserError(
                f"has version {header.get('version')!r}, not {VERSION!r}", place=path, mend="roll out again"
            )
        told = json.loads(header["batch"])
        rewards = tuple(
            {name: [math.nan if x is None else x for x in values] for name, values in found.items()}
            for found in told["rewards"]
        )
        each = [
            Drawn(codes[:, :n].long(), scored[:n].bool())
            for codes, scored, n in zip(
                tensors["codes"], tensors["scored"], tensors["lengths"].tolist(), strict=True
            )
        ]  # fmt: skip
        groups, first = [], 0
        for size in told["sizes"]:
            groups.append(tuple(each[first : first + size]))
            first += size
        return Batch(tuple(told["axes"]), tuple(groups), rewards)
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"holds no rollouts: {error}", place=path, mend="roll out again") from None
