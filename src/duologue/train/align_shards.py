"""A policy in shards: what learns, its gradients, its moments and its reference lie in parts in all processes (FSDP2),
and each process keeps a whole copy that plays.

For all weights of a model of Moshi's size: AdamW's moments and gradients alone are twelve bytes a weight. The copy that
plays stays where it is in memory, as captured graphs need it, and is brought up to date after each step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from duologue.model.lm import DuplexLM
from duologue.train.align_loss import Reference
from duologue.train.parallel import World, shard_layers, sharded, whole

Ask = Callable[[DuplexLM, Reference | None], Any]
"""What is computed of a policy and its reference: tensors, in tuples or lists."""


class Pair(nn.Module):
    """Policy and reference, whose weights are gathered together."""

    def __init__(self, policy: DuplexLM, frozen: DuplexLM | None) -> None:
        super().__init__()
        self.policy, self.frozen = policy, frozen


class Shards:
    """The policy in shards.

    All processes must ask for the same, and go back through it, equally often; gradients are means over them.

    Args:
        model: whole, the same in all processes; it is left as it is.
        reference: keep it frozen beside, too.
        world: the processes.
    """

    def __init__(self, model: DuplexLM, *, reference: bool, world: World) -> None:
        self.policy = copied(model)
        shard_layers(self.policy, world)  # before the other copy is made: one at a time is whole
        frozen = copied(model).requires_grad_(False) if reference else None
        if frozen is not None:
            shard_layers(frozen, world)

        def ask(pair: Pair, call: Ask, reference: bool) -> Any:
            kept = pair.frozen
            return call(pair.policy, (lambda: nullcontext(kept)) if reference and kept is not None else None)

        self._root = sharded(Pair(self.policy, frozen), ask, world)

    def ask(self, call: Ask, *, reference: bool) -> Any:
        """What `call` computes; it gets the reference if that is wanted and kept."""
        return self._root(call, reference)

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
