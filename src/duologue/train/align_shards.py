"""A policy in shards: what learns, its gradients, its moments and its reference lie in parts in all processes (FSDP2),
and each process keeps a whole copy that plays.

For all weights of a model of Moshi's size: AdamW's moments and gradients alone are twelve bytes a weight. The copy that
plays stays where it is in memory, as captured graphs need it, and is brought up to date after each step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn

from duologue.model.lm import DuplexLM
from duologue.train.align_loss import Reference, Rows, Scores
from duologue.train.parallel import World, shard_layers, sharded, whole

Score = Callable[[DuplexLM, Rows, Reference | None], list[Scores]]
"""What is computed of a policy (and its reference) for some rollouts."""


class Pair(nn.Module):
    """Policy and reference, whose weights are gathered together."""

    def __init__(self, policy: DuplexLM, frozen: DuplexLM | None) -> None:
        super().__init__()
        self.policy, self.frozen = policy, frozen


class Shards:
    """The policy in shards.

    All processes must ask for scores, and go back through them, equally often; gradients are means over them.

    Args:
        model: whole, the same in all processes; it is left as it is.
        score: what is asked of it.
        reference: keep it frozen beside, too.
        world: the processes.
    """

    def __init__(self, model: DuplexLM, score: Score, *, reference: bool, world: World) -> None:
        self.policy = copied(model)
        shard_layers(self.policy, world)  # before the other copy is made: one at a time is whole
        frozen = copied(model).requires_grad_(False) if reference else None
        if frozen is not None:
            shard_layers(frozen, world)

        def ask(pair: Pair, rows: Rows, reference: bool) -> list[Scores]:
            kept = pair.frozen
            return score(pair.policy, rows, (lambda: nullcontext(kept)) if reference and kept is not None else None)

        self._root = sharded(Pair(self.policy, frozen), ask, world)

    def scores(self, rows: Rows, *, reference: bool) -> list[Scores]:
        """As `align_loss.scores`."""
        found: list[Scores] = self._root(rows, reference)
        return found

    @torch.no_grad()
    def tell(self, model: DuplexLM) -> None:
        """Bring a whole copy up to date."""
        for name, parameter in self.policy.named_parameters():
            model.get_parameter(name).copy_(whole(parameter.detach()))


def copied(model: DuplexLM) -> DuplexLM:
    """A copy with its matrices row by row, whatever an engine has made of them: shards are of rows."""
    made = copy.deepcopy(model)
    for parameter in made.parameters():
        parameter.data = parameter.data.contiguous()
    return made
