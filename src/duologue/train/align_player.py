"""What learns of a model, and what plays: the policy itself, or a copy in bfloat16 that follows it step by step.

Rollouts read all weights and all keys and values once a frame, so that half the bytes are nearly half the time and the
memory. What learns stays in float32: steps of 1e-7 are lost in bfloat16. The copy is rounded anew after each step, in
place, as captured graphs need it.

Tokens are then drawn from the rounded policy. The update does not take its log-probabilities: it computes those of the
policy itself by teacher forcing (`align_loss.scores`), for the old and the new side of each ratio alike, so that the
first ratio of a step is exactly 1. What is left is that tokens come from a distribution next to the policy's, as far
off as bfloat16 is: a part in 256 of each weight.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import nn

from duologue.base.compute import pick_dtype
from duologue.model.checkpoint import FLOAT32
from duologue.model.lm import DuplexLM
from duologue.model.lora import add_lora

if TYPE_CHECKING:
    from duologue.train.align_settings import UpdateSettings

Precision: TypeAlias = Literal["auto", "fp32", "bf16"]
SPEAKING = ("depformer", "linears")
"""Names of what makes audio tokens of hidden states begin so: the depth transformer."""
MATRICES = ("transformer.layers.", "depformer.layers.", "depformer_in.")
"""Where the matrices lie that autocast computes in bfloat16."""


def precision_of(precision: Precision, device: torch.device) -> torch.dtype:
    """The number format of rollouts; auto: bfloat16 where the device computes in it, float32 on a CPU."""
    return pick_dtype(precision, device)


def set_learning(model: DuplexLM, how: UpdateSettings) -> None:
    """Give a model its adapters, if there are to be any, and let that learn which is to."""
    model.requires_grad_(True)
    if how.tokens == "text" and how.imitation is None:  # what speaks stays; the sound's divergence reaches through
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(SPEAKING))
    if how.lora is not None:
        model.requires_grad_(False)
        add_lora(model, how.lora)
    model.eval()


def rounds_frozen(how: UpdateSettings, dtype: torch.dtype) -> bool:
    """Whether frozen matrices are kept in bfloat16: beside adapters, where all that runs is under autocast."""
    return dtype == torch.bfloat16 and how.lora is not None and how.autocast and how.critic is None


def is_autocast_matrix(name: str) -> bool:
    """Whether a weight is a matrix that is used in bfloat16 under autocast, whatever it is kept in."""
    return name.startswith(MATRICES) and name.endswith(".weight")


@torch.no_grad()
def round_frozen(model: DuplexLM) -> None:
    """Keep the frozen matrices of the transformers in bfloat16, in place.

    Under autocast they are rounded to it wherever they are used, so that nothing changes but the memory: half of the
    weights', and the rounded copies that the backward pass would keep. Embeddings, norms and output layers stay.
    """
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and is_autocast_matrix(name):
            parameter.data = parameter.data.to(torch.bfloat16)


@torch.no_grad()
def round_all(model: DuplexLM, dtype: torch.dtype) -> None:
    """Keep a model in another number format, in place: for a copy that only plays."""
    for name, parameter in model.named_parameters():
        if not name.startswith(FLOAT32):
            parameter.data = parameter.data.to(dtype)


@torch.no_grad()
def playing_copy(model: DuplexLM, dtype: torch.dtype) -> DuplexLM:
    """A copy of a model in a number format to play with; frozen weights that are in it already are shared."""
    known: dict[int, object] = {}
    for name, parameter in model.named_parameters():
        shared = name.startswith(FLOAT32) or (parameter.dtype == dtype and not parameter.requires_grad)
        rounded = nn.Parameter(parameter.detach().to(dtype, copy=True), requires_grad=False)
        known[id(parameter)] = parameter if shared else rounded
    return copy.deepcopy(model, known)


@torch.no_grad()
def follow(player: DuplexLM, model: DuplexLM) -> None:
    """Bring a playing copy up to date, in place."""
    for mine, learned in zip(player.parameters(), model.parameters(), strict=True):
        if mine is not learned:
            mine.copy_(learned)
