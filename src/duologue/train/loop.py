"""The loop of every training run: steps, metrics, checkpoints, and going on after a kill to the same numbers."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from duologue.base.errors import UserError
from duologue.base.progress import meter
from duologue.train import checkpoints

if TYPE_CHECKING:
    from duologue.base.runs import RunFolder
    from duologue.train.parallel import World


class Learner(Protocol):
    """What is trained. Step n draws its random numbers from the seed and n alone, so that a run can be cut anywhere."""

    def step(self, number: int) -> Mapping[str, float]:
        """Make step `number`, from 0; returns what is to be logged. Blocks until done."""

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on: tensors, numbers, and containers of them."""

    def restore(self, state: dict[str, Any]) -> None:
        """Become what `state` told. With several processes, large tensors come by `parallel.spread` (`World.deal`)."""

    def validate(self) -> Mapping[str, float]:
        """Measure on what is never trained on; empty if there is nothing."""

    def publish(self, run: RunFolder) -> None:
        """Write the model, as others load it, into the run's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How long to train, and how often to tell."""

    steps: int = 1000
    """Steps in all."""
    log_every: int = 50
    """Steps between two rows of metrics, which are means over them."""
    validate_every: int = 1000
    """Steps between two measurements on what is held out."""
    save_minutes: float = 10.0
    """Between two checkpoints."""
    keep_checkpoints: int = 2
    """Checkpoints that are kept: the last ones."""

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "validate_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise UserError(f"{getattr(self, name)} is less than 1", place=f"loop.{name}")
        if not self.save_minutes >= 0:
            raise UserError(f"{self.save_minutes} is not a time", place="loop.save_minutes", mend="use 0 or more")


def train(learner: Learner, run: RunFolder, config: LoopConfig, world: World | None = None) -> None:
    """Train, from the run's last checkpoint if it has one; at the end the model is in the run's folder.

    With several processes all of them call this with the same folder, and rank 0 alone writes to it.

    Raises:
        UserError: a broken checkpoint, or a loss that is not finite for a hundred steps.
    """
    from duologue.train.parallel import ALONE

    world = world or ALONE
    first = _resume(learner, run, world) if run.resumed else 0
    saved, since, lost = time.monotonic(), time.monotonic(), 0
    sums: dict[str, float] = defaultdict(float)
    counted = 0
    with meter("training", total=config.steps, quiet=not world.leads) as progress:
        progress.advance(first)
        for number in range(first, config.steps):
            row = learner.step(number)
            lost = 0 if math.isfinite(row["loss"]) else lost + 1
            if lost == 100:
                raise UserError("the loss has not been finite for 100 steps", place=run.path, mend="lower the rate")
            if not lost:
                counted += 1
                for name, value in row.items():
                    sums[name] += value
            done = number + 1
            progress.advance(1)
            if done % config.log_every == 0 or done == config.steps:
                took = time.monotonic() - since
                if world.leads:
                    run.log({"step": done} | {k: v / max(counted, 1) for k, v in sums.items()} | {"seconds": took})
                sums.clear()
                counted, since = 0, time.monotonic()
            found: Mapping[str, float] = {}
            if done % config.validate_every == 0 or done == config.steps:
                found = learner.validate()
                if found and world.leads:
                    run.log({"step": done} | {f"held_out_{k}": v for k, v in found.items()})
                since = time.monotonic()
            # Metrics count from a checkpoint on only in whole rows, so checkpoints stand where rows do; and where
            # something was measured, so that what was best is what is written.
            if done == config.steps or (
                done % config.log_every == 0
                and (bool(found) or world.agree(time.monotonic() - saved > 60 * config.save_minutes))  # clocks differ
            ):
                _save(learner, run, done, config.keep_checkpoints, world)
                saved = time.monotonic()
    if first >= config.steps:  # all was done before; the model may have been removed
        learner.publish(run)


def _save(learner: Learner, run: RunFolder, step: int, keep: int, world: World) -> None:
    state = learner.state()
    if world.leads:
        checkpoints.save(run.checkpoints, step, state, keep)
    learner.publish(run)


def _resume(learner: Learner, run: RunFolder, world: World) -> int:
    """Go on from the last checkpoint, which rank 0 alone reads; returns its step, 0 without one."""

    def read() -> tuple[Path, int, dict[str, Any]] | None:
        found = checkpoints.kept(run.checkpoints)
        return (found[-1], *checkpoints.read(found[-1])) if found else None

    last = world.deal(read)
    step = 0
    if last is not None:
        path, step, state = last
        try:
            learner.restore(state)
        except (RuntimeError, ValueError, KeyError) as error:
            raise checkpoints.broken(path, f"does not fit this model: {checkpoints.first_line(error)}") from None
    if world.leads:
        run.rewind(step)
    return step


def rate_at(step: int, steps: int, warmup: int, flat: float, end: float, shape: str = "line") -> float:
    """The learning rate as a share of its highest: up in `warmup` steps, level, then from `flat` on down to `end`, in a
    line or as half a period of a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    part = step / steps
    if part < flat:
        return 1.0
    gone = min((part - flat) / max(1 - flat, 1e-9), 1.0)
    return end + (1 - end) * (0.5 + 0.5 * math.cos(math.pi * gone) if shape == "cosine" else 1 - gone)
