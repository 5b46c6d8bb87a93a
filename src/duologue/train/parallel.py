"""Training on several devices: one process each, weights and optimizer states in shards, gradients as means over all.

torchrun starts the processes and tells them of each other (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).
Weights are sharded by FSDP2 (torch's `fully_shard`; Zhao et al., 2023, arXiv 2304.11277): each transformer layer, and
what remains. Checkpoints hold whole tensors, so that a run goes on with any number of processes. A process that is
alone needs none of this, and nothing here touches it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from duologue.base.compute import pick_device
from duologue.base.errors import UserError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from duologue.base.runs import RunFolder

Score = Callable[..., Any]
"""What is computed of a model: (model, ...) -> tensors, in tuples or lists."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes that train together."""

    rank: int = 0
    """Of this process; 0 writes and prints."""
    count: int = 1
    """How many there are."""
    mesh: DeviceMesh | None = None
    """Their devices; None for a process that is alone."""

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def agree(self, yes: bool) -> bool:
        """What rank 0 says, in all processes."""
        return bool(self.tell(yes))

    def tell(self, said: object) -> Any:
        """A plain object of rank 0's, in all processes."""
        if self.mesh is None:
            return said
        from torch import distributed

        box = [said]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def deal(self, read: Callable[[], Any]) -> Any:
        """What rank 0 reads, in all processes, without its large tensors, which stay there: in the others they are
        placeholders on the device `meta`, until `spread` brings them one at a time. Errors: as `read`; the others end.
        """
        if self.mesh is None:
            return read()
        if not self.leads:
            told = self.tell(None)
            if told is None:
                raise SystemExit(2)
            return told[0]
        try:
            state = read()
        except UserError:
            self.tell(None)
            raise
        self.tell((_placeholders(state),))
        return state

    def mean(self, row: Mapping[str, float]) -> dict[str, float]:
        """Numbers as means over all processes."""
        return {name: value / self.count for name, value in self.total(row).items()}

    def total(self, row: Mapping[str, float]) -> dict[str, float]:
        """Numbers as sums over all processes."""
        if self.mesh is None:
            return dict(row)
        from torch import distributed

        # float32: some devices have nothing wider.
        values = torch.tensor(list(row.values()), dtype=torch.float32, device=self.mesh.device_type)
        distributed.all_reduce(values)
        return dict(zip(row, values.tolist(), strict=True))

    def every(self, said: object) -> list[Any]:
        """What each process says, a plain object, in the order of their ranks."""
        if self.mesh is None:
            return [said]
        from torch import distributed

        box: list[Any] = [None] * self.count
        distributed.all_gather_object(box, said)
        return box

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """The gradients of whole parameters as sums over all processes; one that only some have is 0 in the others."""
        if self.mesh is None:
            return
        from torch import distributed

        there = torch.tensor(
            [p.grad is not None for p in parameters], dtype=torch.float32, device=self.mesh.device_type
        )
        distributed.all_reduce(there)
        moved = [p for p, somewhere in zip(parameters, there.tolist(), strict=True) if somewhere]
        for kind in dict.fromkeys(p.dtype for p in moved):
            some = [p for p in moved if p.dtype == kind]
            flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in some])
            distributed.all_reduce(flat)
            for p, part in zip(some, torch.split(flat, [p.numel() for p in some]), strict=True):
                p.grad = part.view_as(p).clone()

    def gather(self, state: Any) -> Any:
        """A state with whole tensors instead of shards, on the CPU; in other processes than rank 0 nothing of use.

        All processes call it together. One tensor is whole at a time, besides those that rank 0 keeps.
        """
        if self.mesh is None:
            return state
        if isinstance(state, Mapping):
            return {key: self.gather(value) for key, value in state.items()}
        if isinstance(state, list | tuple):
            return [self.gather(value) for value in state]
        if isinstance(state, Tensor):
            full = whole(state)
            return full.cpu() if self.leads else None
        return state


ALONE = World()


SMALL = 1024
"""Numbers up to which a tensor is sent with what holds it, and not by itself."""
PATIENCE_S = 1800.0
"""Seconds that a process waits for the others before it gives up: a rank may write a large checkpoint meanwhile."""


@contextlib.contextmanager
def join(device: str, patience_s: float = PATIENCE_S) -> Iterator[tuple[World, torch.device]]:
    """This process among those that torchrun started, and its device; only rank 0 prints.

    Args:
        device: as --device; with several processes "auto", "cpu" or "cuda", of which each takes its own.
        patience_s: how long one waits for the others; then it ends with torch's error instead of hanging.

    Raises:
        UserError: one device for several processes, or an environment that is not torchrun's.
    """
    count = _number("WORLD_SIZE", 1)
    if count <= 1:
        yield ALONE, pick_device(device)
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(f"WORLD_SIZE is {count}, and {missing[0]} is not set", mend="start with torchrun")
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh

    place = pick_device(device)
    if ":" in device:
        raise UserError(f"{device} for {count} processes", place="--device", mend="use auto, cpu or cuda")
    rank = _number("RANK", 0)
    if place.type == "cuda":
        place = pick_device(f"cuda:{_number('LOCAL_RANK', rank)}")
        torch.cuda.set_device(place)
    distributed.init_process_group(
        "nccl" if place.type == "cuda" else "gloo", rank=rank, world_size=count, timeout=timedelta(seconds=patience_s)
    )
    world = World(rank, count, init_device_mesh(place.type, (count,)))
    # After a failure the others are gone or stuck: to take leave of them would hang, so only a good end does.
    if world.leads:
        yield world, place
    else:
        with contextlib.redirect_stdout(None):
            yield world, place
    distributed.barrier()
    distributed.destroy_process_group()


@contextlib.contextmanager
def shared_run(world: World, create: Callable[[], RunFolder]) -> Iterator[RunFolder]:
    """The run's folder in all processes: rank 0 makes and locks it, the others only read in it.

    If rank 0 cannot, its error is the one that is told, and the others end with the same exit status.
    """
    if not world.leads:
        from duologue.base.runs import RunFolder

        told = world.tell(None)
        if told is None:
            raise SystemExit(2)
        yield RunFolder(Path(told[0]), contextlib.ExitStack(), told[1])
        return
    try:
        run = create()
    except UserError:
        world.tell(None)
        raise
    with run:
        world.tell((str(run.path), run.resumed))
        yield run


class Root(nn.Module):
    """A model and what is computed of it as one module: FSDP gathers weights where a module is called.

    The losses call parts of the language model, not the whole; so what is called is this.
    """

    def __init__(self, model: nn.Module, score: Score) -> None:
        super().__init__()
        self.model, self._score = model, score

    def forward(self, *args: Any) -> Any:
        return self._score(self.model, *args)


def sharded(model: nn.Module, score: Score, world: World) -> Callable[..., Any]:
    """`score` with its first argument filled in; with several processes the model's weights are sharded from here on.

    Args:
        model: its transformers hold their layers in lists named `layers`.
        score: what is computed of it. It must use all parts of the model in all processes, be it on nothing.
        world: the processes.
    """
    root = Root(model, score)
    if world.mesh is None:
        return root
    from torch.distributed.fsdp import fully_shard

    shard_layers(model, world)
    fully_shard(root, mesh=world.mesh)
    return root


def shard_layers(model: nn.Module, world: World) -> None:
    """Shard the layers of a model's transformers, each apart; those that are sharded stay so."""
    from torch.distributed.fsdp import FSDPModule, fully_shard

    for name, module in model.named_modules():
        if name.split(".")[-1] == "layers" and isinstance(module, nn.ModuleList):
            for layer in module:
                if not isinstance(layer, FSDPModule):
                    fully_shard(layer, mesh=world.mesh)


def whole(x: Tensor) -> Tensor:
    """A tensor of which each process may hold a shard, whole in all of them."""
    if not _together():
        return x
    from torch.distributed.tensor import DTensor

    return x.full_tensor() if isinstance(x, DTensor) else x


def spread(x: Tensor, like: Tensor) -> Tensor:
    """A tensor that rank 0 holds whole, in all processes, on the device of `like` and in shards as `like` is.

    All processes call it together, in the same order; in the others than rank 0, x may be a placeholder on `meta`
    (`World.deal`). A small tensor is not sent: each process has it already.
    """
    if not _together():
        return x
    from torch import distributed
    from torch.distributed.tensor import DTensor, distribute_tensor

    small = x.numel() <= SMALL
    here = torch.empty(x.shape, dtype=x.dtype, device=like.device) if x.is_meta else x
    if isinstance(like, DTensor) and x.shape == like.shape:
        source = None if small else 0
        return distribute_tensor(here.to(like.device), like.device_mesh, like.placements, src_data_rank=source)
    if not small:
        here = here.to(like.device).contiguous()
        distributed.broadcast(here, src=0)
    return here


def arrived(state: Any, like: Tensor) -> Any:
    """A state of `World.deal` with all of its tensors, whole, on the device of `like`; all processes call it."""
    if isinstance(state, Mapping):
        return {key: arrived(value, like) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [arrived(value, like) for value in state]
    return spread(state, torch.empty(0, device=like.device)) if isinstance(state, Tensor) else state


def _placeholders(state: Any) -> Any:
    """A state with placeholders for its large tensors."""
    if isinstance(state, Mapping):
        return {key: _placeholders(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_placeholders(value) for value in state)
    return state.to("meta") if isinstance(state, Tensor) and state.numel() > SMALL else state


def spread_moments(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of an optimizer as it is saved, in shards as its parameters are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        index: {name: spread(x, parameters[index]) if isinstance(x, Tensor) else x for name, x in entry.items()}
        for index, entry in state["state"].items()
    }
    return {"state": moments, "param_groups": state["param_groups"]}


def _together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _number(name: str, default: int) -> int:
    """A whole number of the environment. Errors: UserError."""
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise UserError(f"{text!r} is no number", place=name, mend="start with torchrun")
    return int(text)
