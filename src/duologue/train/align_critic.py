"""A critic for PPO: what is still to come, estimated at every frame, so that frames get credit and not rollouts.

Source: PPO (arXiv 1707.06347) and GAE (1506.02438). Token-level feedback is what WavAlign (2604.14932) names as open. A
rollout's advantage over its group comes as a reward at its last frame; the critic is a linear layer on the temporal
transformer's output, which it does not change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from duologue.model.lm import DuplexLM
from duologue.rl.gae import gae
from duologue.train.align_loss import Rows
from duologue.train.align_settings import CriticSettings
from duologue.train.parallel import ALONE, World


class Credit(NamedTuple):
    """Of one batch of rows."""

    seen: Tensor
    """What the critic reads, [n, dim], at the frames that were acted in."""
    advantages: Tensor
    """[N, T]; 0 elsewhere."""
    returns: Tensor
    """[n]"""


class Critic:
    """Estimates and learns, in all processes the same.

    It expects nothing at first, and with a trace of 1 advantages are then the plain ones: at every frame of a rollout
    its own. What it learns to expect at a frame is taken off there. With a shorter trace t an untrained critic leaves a
    frame that is n frames before the end t ** n of its rollout's advantage: early frames get hardly any.

    Args:
        model: whose output it reads.
        config: how.
        world: the processes that learn together.
    """

    def __init__(self, model: DuplexLM, config: CriticSettings, world: World = ALONE) -> None:
        self.config, self._model, self._world = config, model, world
        where = model.text_emb.weight
        self.head = nn.Linear(model.config.dim, 1, device=where.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._optimizer = torch.optim.AdamW(self.head.parameters(), lr=config.rate, weight_decay=0.0)

    @torch.no_grad()
    def credit(self, batches: Sequence[tuple[Rows, Tensor]]) -> list[Credit]:
        """Advantages of all frames of a batch, from each row's gain [N] at its last frame."""
        found = []
        for rows, gains in batches:
            hidden = self._model.hidden(rows.codes, depth_steps=0)
            mask = rows.mask & hidden.text_mask
            seen = hidden.text[mask].float()
            values = torch.zeros(mask.shape, device=seen.device).masked_scatter(mask, self.head(seen)[:, 0])
            each = [self._row(values[i, m], float(gain)) for i, (m, gain) in enumerate(zip(mask, gains, strict=True))]
            advantages, returns = (torch.cat(column) for column in zip(*each, strict=True))
            placed = torch.zeros(mask.shape, device=seen.device).masked_scatter(mask, advantages)
            found.append(Credit(seen, placed, returns))
        return found

    def _row(self, values: Tensor, gain: float) -> tuple[Tensor, Tensor]:
        """Advantages and returns [T] of one rollout, which ends with its reward."""
        rewards, ended = torch.zeros_like(values), torch.zeros_like(values, dtype=torch.bool)
        rewards[-1:], ended[-1:] = gain, True
        after = torch.cat((values[1:], values.new_zeros(min(1, len(values)))))
        rows = [x[None] for x in (rewards, values, after, ended, torch.zeros_like(ended))]
        found, returns = gae(*rows, discount=self.config.discount, trace=self.config.trace)
        return found[0], returns[0]

    def learn(self, credits: Sequence[Credit]) -> float:
        """One step towards the returns of all processes; gives the mean squared error before it."""
        frames = self._world.total({"frames": sum(len(c.returns) for c in credits)})["frames"]
        self._optimizer.zero_grad()
        error = 0.0
        for c in credits:
            loss = (self.head(c.seen)[:, 0] - c.returns).square().sum() / max(frames, 1)
            loss.backward()
            error += float(loss.detach())
        self._world.add_gradients(list(self.head.parameters()))
        self._optimizer.step()
        return self._world.total({"error": error})["error"]

    def state(self) -> dict[str, Any]:
        return {"head": self.head.state_dict(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.head.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])
