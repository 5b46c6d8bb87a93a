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


class Credit(NamedTuple):
    """Of one batch of rows."""

    seen: Tensor
    """What the critic reads, [n, dim], at the frames that were acted in."""
    advantages: Tensor
    """[N, T]; 0 elsewhere."""
    returns: Tensor
    """[n]"""


class Critic:
    """Estimates and learns.

    Args:
        model: whose output it reads.
        config: how.
    """

    def __init__(self, model: DuplexLM, config: CriticSettings) -> None:
        self.config, self._model = config, model
        where = model.text_emb.weight
        self.head = nn.Linear(model.config.dim, 1, device=where.device)
        nn.init.zeros_(self.head.weight)  # nothing is expected at first: advantages are then the plain ones
        nn.init.zeros_(self.head.bias)
        self._optimizer = torch.optim.AdamW(self.head.parameters(), lr=config.rate, weight_decay=0.0)

    @torch.no_grad()
    def credit(self, batches: Sequence[tuple[Rows, Tensor]]) -> list[Credit]:
        """Advantages of all frames of a batch, normalised over it, from each row's gain [N] at its last frame."""
        found = []
        for rows, gains in batches:
            hidden = self._model.hidden(rows.codes, depth_steps=0)
            mask = rows.mask & hidden.text_mask
            seen = hidden.text[mask].float()
            values = torch.zeros(mask.shape, device=seen.device).masked_scatter(mask, self.head(seen)[:, 0])
            each = [self._row(values[i, m], float(gain)) for i, (m, gain) in enumerate(zip(mask, gains, strict=True))]
            advantages, returns = (torch.cat(column) for column in zip(*each, strict=True))
            found.append((mask, seen, advantages, returns))
        every = torch.cat([advantages for _, _, advantages, _ in found])
        mean, spread = every.mean(), every.std(correction=0) + 1e-6
        return [
            Credit(seen, torch.zeros(mask.shape, device=seen.device).masked_scatter(mask, (a - mean) / spread), returns)
            for mask, seen, a, returns in found
        ]

    def _row(self, values: Tensor, gain: float) -> tuple[Tensor, Tensor]:
        """Advantages and returns [T] of one rollout, which ends with its reward."""
        rewards, ended = torch.zeros_like(values), torch.zeros_like(values, dtype=torch.bool)
        rewards[-1:], ended[-1:] = gain, True
        after = torch.cat((values[1:], values.new_zeros(min(1, len(values)))))
        rows = [x[None] for x in (rewards, values, after, ended, torch.zeros_like(ended))]
        found, returns = gae(*rows, discount=self.config.discount, trace=self.config.trace)
        return found[0], returns[0]

    def learn(self, credits: Sequence[Credit]) -> float:
        """One step towards the returns; gives the mean squared error before it."""
        seen, returns = (torch.cat([getattr(c, name) for c in credits]) for name in ("seen", "returns"))
        loss = (self.head(seen)[:, 0] - returns).square().mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        return {"head": self.head.state_dict(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.head.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])
