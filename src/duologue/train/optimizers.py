"""How weights move: Muon for matrices inside the transformers, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from duologue.base.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """How weights move."""

    kind: Literal["muon", "adamw"] = "muon"
    """muon: matrices of attention and feed-forward layers by Muon (Jordan et al., 2024, scaled as in arXiv 2502.16982),
    the rest by AdamW, which learns faster from few steps; adamw: all by AdamW, as Moshi was trained."""
    rate: float = 2e-3
    """Highest learning rate."""
    warmup: int = 100
    """Steps until it is reached."""
    flat: float = 0.4
    """Share of the steps after which it goes down."""
    end: float = 0.05
    """Where it ends, as a share of the highest."""
    shape: Literal["line", "cosine"] = "line"
    """How it goes down."""
    decay: float = 0.02
    """Weight decay of matrices."""
    clip: float = 1.0
    """Greatest norm of the gradient."""

    def __post_init__(self) -> None:
        if not (self.rate > 0 and self.clip > 0 and self.decay >= 0):
            raise UserError("rate and clip are above 0, decay at least 0", place="optimizer")
        if not (0 <= self.flat <= 1 and 0 <= self.end <= 1 and self.warmup >= 0):
            raise UserError("flat and end are shares, warmup a number of steps", place="optimizer")


class Optimizers:
    """One or two optimizers as one."""

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        import torch

        hidden: list[nn.Parameter] = []
        tables: list[nn.Parameter] = []
        scales: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.dim() < 2 or name.endswith("alpha"):
                scales.append(parameter)
            elif ".layers." in name and config.kind == "muon":
                hidden.append(parameter)
            else:
                tables.append(parameter)
        betas = (0.9, 0.95)
        groups = [{"params": tables, "weight_decay": config.decay}, {"params": scales, "weight_decay": 0.0}]
        self.config = config
        self.parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=config.rate, betas=betas)]
        if hidden:
            muon = _muon()
            self.parts.append(muon(hidden, lr=config.rate, weight_decay=config.decay, adjust_lr_fn="match_rms_adamw"))
        self._all: list[Tensor] = [*hidden, *tables, *scales]

    def step(self, share: float) -> Tensor:
        """Clip, and move at `share` of the highest rate, unless the gradient is not finite; returns its norm."""
        import torch

        from duologue.train.parallel import whole

        norm = whole(torch.nn.utils.clip_grad_norm_(self._all, self.config.clip))
        if torch.isfinite(norm):
            for part in self.parts:
                for group in part.param_groups:
                    group["lr"] = self.config.rate * share
                part.step()
        self.zero()
        return norm

    def zero(self) -> None:
        """Forget gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, object]]:
        return [part.state_dict() for part in self.parts]

    def restore(self, states: Iterable[dict[str, object]]) -> None:
        from duologue.train.parallel import spread_moments

        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(spread_moments(part, state))


def _muon() -> Callable[..., torch.optim.Optimizer]:
    import torch

    if "Muon" not in dir(torch.optim):
        raise UserError("this torch has no Muon", place="optimizer.kind", mend="use adamw, or torch 2.9 and later")
    return torch.optim.Muon
