"""What a language model learns from: excerpts of conversations, with Moshi's losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from duologue.base.errors import UserError
from duologue.train.lm_loss import Losses, Weights, losses
from duologue.train.loop import rate_at
from duologue.train.optimizers import OptimizerConfig, Optimizers

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from duologue.base.runs import RunFolder
    from duologue.model.lm import DuplexLM
    from duologue.train.excerpts import Batch, Excerpts
    from duologue.train.parallel import World

CHECKS = 6
"""Batches of what is held out that make a validation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LMLearning:
    """How a language model learns."""

    batch: int = 4
    """Excerpts of a pass."""
    passes: int = 1
    """Passes whose gradients make one step, in each process."""
    frames: int = 250
    """Length of an excerpt with its prompt, 12.5 a second."""
    weights: Weights = field(default_factory=Weights)
    """What counts how much."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How weights move."""
    blind: float = 0.0
    """Share of frames in which the temporal transformer does not get to read what sounded, on either side: against
    learning few hours by heart."""
    text_dropout: float = 0.0
    """Share of excerpts in which it does not get to read the text: what `Sampling.guidance` needs."""
    spelling: float = 0.0
    """Weight of telling which letters the user says in each frame: what makes a model listen to words."""
    foresight: float = 0.0
    """Weight of telling who will speak in the next two seconds: more often asked than when to begin is told."""
    recompute: bool = False
    """Keep less for the gradient and compute it again: slower, and far less memory."""
    autocast: bool = True
    """Compute in bfloat16 where that is safe."""

    def __post_init__(self) -> None:
        for name in ("blind", "text_dropout"):
            if not 0 <= getattr(self, name) < 1:
                problem = f"{getattr(self, name)} is no share"
                raise UserError(problem, place=f"learning.{name}", mend="use 0 to below 1")
        for name in ("spelling", "foresight"):
            if not 0 <= getattr(self, name) < float("inf"):
                problem = f"{getattr(self, name)} is no weight"
                raise UserError(problem, place=f"learning.{name}", mend="use 0 or more")
        for name in ("batch", "passes", "frames"):
            if getattr(self, name) < 1:
                raise UserError(f"{getattr(self, name)} is less than 1", place=f"learning.{name}")


class LMLearner:
    """Trains a language model; see `loop.Learner`.

    Args:
        model: on its device.
        excerpts: what to learn from.
        checks: what is held out; None or empty for no validation.
        learning: how.
        steps: of the whole run.
        seed: of what is drawn. Pass p of process r draws what pass r * passes + p of a process that is alone does:
            two processes of one pass learn what one process of two passes learns.
        publish: writes the model into the run's folder; with several processes, all call it.
        world: the processes that train together; this one alone if None.

    Raises:
        UserError: Muon or lessons with several processes.
    """

    def __init__(
        self, model: DuplexLM, excerpts: Excerpts, checks: Excerpts | None, learning: LMLearning, *, steps: int,
        seed: int, publish: Callable[[RunFolder], None], world: World | None = None,
    ) -> None:  # fmt: skip
        from torch import nn

        from duologue.train.foresight import SPANS
        from duologue.train.lessons import Lesson
        from duologue.train.parallel import ALONE, sharded
        from duologue.train.spelling import LATER, LETTERS

        self.model, self.excerpts, self.checks, self.learning = model, excerpts, checks, learning
        self.steps, self.seed, self._publish, self.world = steps, seed, publish, world or ALONE
        self.device = model.text_emb.weight.device
        if self.world.count > 1 and learning.optimizer.kind == "muon":
            problem = f"muon needs whole matrices, and {self.world.count} processes hold parts of them"
            raise UserError(problem, place="learning.optimizer.kind", mend="use adamw")
        asked = {"spelling": (len(LETTERS), 1 + LATER), "foresight": (2 * len(SPANS), 0)}
        self.lessons = {
            name: Lesson(model.config.dim, *what).to(self.device)
            for name, what in asked.items()
            if getattr(learning, name)
        }
        for name in self.lessons:
            if self.world.count > 1:
                raise UserError("is for one process", place=f"learning.{name}", mend="leave it out, or use one device")
        self._score = sharded(model, self._scored, self.world)
        self.learned = nn.ModuleDict({"model": model, **self.lessons})
        self.optimizers = Optimizers(self.learned, learning.optimizer)
        model.train()

    def step(self, number: int) -> Mapping[str, float]:
        """One step."""
        import numpy as np

        how = self.learning
        sums: dict[str, float] = {}
        for part in range(how.passes):
            rng = np.random.default_rng([self.seed, number, self.world.rank * how.passes + part])
            found = self._losses(self.excerpts.batch(rng, how.batch), rng)
            (found.total / how.passes).backward()  # type: ignore[no-untyped-call]
            for name, value in numbers(found).items():
                sums[name] = sums.get(name, 0.0) + value / how.passes
        o = how.optimizer
        share = rate_at(number, self.steps, o.warmup, o.flat, o.end, o.shape)
        norm = self.optimizers.step(share)
        return self.world.mean(sums) | {"gradient": float(norm), "rate": o.rate * share}

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {name: learned_state(part) for name, part in self.learned.items()}
        state["optimizers"] = self.optimizers.state()
        gathered: dict[str, Any] = self.world.gather(state)
        return gathered

    def restore(self, state: dict[str, Any]) -> None:
        from duologue.train.parallel import spread

        for name, part in self.learned.items():
            own, saved = learned_state(part), state[name]
            if strange := sorted(own.keys() ^ saved.keys()):
                raise ValueError(f"the checkpoint learned other weights than this run: {', '.join(strange[:3])}")
            part.load_state_dict({key: spread(x, own[key]) for key, x in saved.items()}, strict=False)
        self.optimizers.restore(state["optimizers"])

    def validate(self) -> Mapping[str, float]:
        """The same losses on the same held-out excerpts."""
        import numpy as np
        import torch

        if self.checks is None or not len(self.checks):
            return {}
        self.model.eval()
        rng = np.random.default_rng(0)
        with torch.no_grad():
            found = [numbers(self._losses(self.checks.batch(rng, self.learning.batch), rng)) for _ in range(CHECKS)]
        self.model.train()
        return {name: float(np.mean([f[name] for f in found])) for name in found[0]}

    def publish(self, run: RunFolder) -> None:
        """Write the model."""
        self.model.eval()
        self._publish(run)
        self.model.train()

    def _losses(self, batch: Batch, rng: np.random.Generator) -> Losses:
        import torch

        from duologue.train.lessons import tapped

        how = self.learning
        scored, blind, wordless = batch.sounds, None, None
        if how.blind and self.model.training:
            blind = torch.from_numpy(rng.random(scored.shape) < how.blind).to(self.device)
        if how.text_dropout and self.model.training:
            drawn = torch.from_numpy(rng.random(len(scored)) < how.text_dropout)
            wordless = (drawn & scored.any(1)).to(self.device)  # words alone are read
        if how.weights.quiet < 1:
            scored = scored & (batch.speaks | torch.from_numpy(rng.random(scored.shape) < how.weights.quiet))
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=how.autocast):
            given = (batch.codes.to(self.device), batch.learn.to(self.device), scored.to(self.device), blind, wordless)
            tap: AbstractContextManager[list[Tensor]] = tapped(self.model) if self.lessons else nullcontext([])
            with tap as outputs:
                found = Losses(*self._score(*given))
            for name, told, bits in (("spelling", "letters", batch.letters), ("foresight", "ahead", batch.ahead)):
                if name in self.lessons:
                    loss = self.lessons[name].loss(outputs[0], bits.to(self.device), given[1])
                    found = replace(found, total=found.total + getattr(how, name) * loss, **{told: loss})
            return found

    def _scored(
        self, model: DuplexLM, codes: Tensor, learn: Tensor, scored: Tensor | None, blind: Tensor | None,
        wordless: Tensor | None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        how = self.learning
        found = losses(
            model, codes, learn, how.weights, scored, blind=blind, wordless=wordless, recompute=how.recompute
        )
        return found.total, found.text, found.words, found.semantic, found.acoustic


def learned_state(part: nn.Module) -> dict[str, Any]:
    """The state of a module without frozen weights: those of a model whose adapters alone learn are in its files."""
    frozen = {name for name, parameter in part.named_parameters() if not parameter.requires_grad}
    return {name: x for name, x in part.state_dict().items() if name not in frozen}


def numbers(found: Losses) -> dict[str, float]:
    """Losses as plain numbers."""
    parts = {
        "loss": found.total, "text": found.text, "words": found.words, "semantic": found.semantic,
        "acoustic": found.acoustic,
    }  # fmt: skip
    parts |= {name: x for name, x in (("letters", found.letters), ("ahead", found.ahead)) if x is not None}
    return {name: float(value.detach()) for name, value in parts.items()}
