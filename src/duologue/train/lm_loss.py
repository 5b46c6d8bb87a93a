"""Moshi's losses: cross-entropy of text and of the agent's audio, weighted.

Source: arXiv 2410.00037, section 4 and table 10; moshi-finetune, `compute_loss_with_mask`: each loss is a weighted
mean, of text with less weight on padding, of audio with a hundred times the weight on the semantic codebook. Unlike
there, frames that do not exist are never scored, and the depth transformer may be run on a part of the frames: its loss
is then a mean over fewer frames, of which those with speech are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from duologue.base.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from duologue.model.lm import DuplexLM


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What counts how much."""

    padding: float = 0.5
    """Of a frame whose text is PAD or EPAD, beside 1 for a word."""
    semantic: float = 100.0
    """Of the semantic codebook, beside 1 for each acoustic one."""
    audio: float = 1.0
    """Of the audio's loss, beside 1 for the text's."""
    quiet: float = 1.0
    """Share of the frames without speech of the agent in which audio is scored; below 1 the step is cheaper."""

    def __post_init__(self) -> None:
        if min(self.padding, self.semantic, self.audio) < 0:
            raise UserError("a weight is below 0", place="weights")
        if not 0 <= self.quiet <= 1:
            raise UserError(f"{self.quiet} is no share", place="weights.quiet", mend="use 0 to 1")


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the means of losses are over, as sums of weights; those of the parts of a batch add up."""

    text: float
    audio: float

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(self.text + other.text, self.audio + other.audio)


@dataclass(frozen=True, slots=True)
class Losses:
    """In nats; `total` is what is minimised."""

    total: Tensor
    text: Tensor
    """Weighted mean over frames."""
    words: Tensor
    """Mean over frames that hold a piece of a word."""
    semantic: Tensor
    """Mean over scored frames."""
    acoustic: Tensor
    """Mean over scored frames and acoustic codebooks."""
    letters: Tensor | None = None
    """Mean over frames, of all letters together: see `spelling`."""
    ahead: Tensor | None = None
    """Mean over frames, of all spans to come together: see `foresight`."""


def losses(
    model: DuplexLM, codes: Tensor, learn: Tensor, weights: Weights, scored: Tensor | None = None,
    *, blind: Tensor | None = None, wordless: Tensor | None = None, recompute: bool = False,
    sizes: Sizes | None = None,
) -> Losses:  # fmt: skip
    """Losses of codes by teacher forcing.

    Args:
        model: the language model.
        codes: int64 [B, K, T], un-delayed.
        learn: bool [B, T], frames that count.
        weights: what counts how much.
        scored: bool [B, T], steps of the depth transformer whose audio is scored; all if None. Step s writes the
            semantic code of frame s and, where the delay is 1, the acoustic codes of frame s - 1.
        blind: bool [B, T], frames whose codes of sound the temporal transformer reads as absent.
        wordless: bool [B], rows whose text it reads as absent; the depth transformer still reads that of its own step,
            as when moshi's LMGen guides by text (`cfg_is_no_text`).
        recompute: as in `DuplexLM.forward`.
        sizes: of the batch of which these codes are a part: the parts' totals then add up to the batch's. None: this is
            the whole.
    """
    import torch

    from duologue.model.lm import ABSENT

    config = model.config
    steps = config.agent_streams
    marked = codes.masked_fill(~learn[:, None], ABSENT)  # targets; inputs keep their prompts
    inputs, targets = model.delayed(codes), model.delayed(marked)[:, :, 1:]
    read = inputs[:, :, :-1]
    if blind is not None:
        read = torch.cat((read[:, :1], read[:, 1:].masked_fill(blind[:, None], ABSENT)), 1)
    if wordless is not None:
        unread = wordless[:, None] & (read[:, 0] != config.text_initial_id)
        read = torch.cat((read[:, :1].masked_fill(unread[:, None], ABSENT), read[:, 1:]), 1)
    hidden = model.temporal(read, recompute=recompute)
    text = targets[:, 0]
    present, quiet = _said(model, text)
    entropy = _entropy(model.text_linear(hidden[present]), text[present])
    share = torch.where(quiet[present], weights.padding, 1.0)
    text_loss = (entropy * share).sum() / (share.sum().clamp(min=1e-6) if sizes is None else max(sizes.text, 1e-6))
    words = entropy[~quiet[present]]
    zero = entropy.new_zeros(())
    word_loss = words.mean() if len(words) else zero
    if not steps:
        return Losses(text_loss, text_loss, word_loss, zero, zero)
    audible = targets[:, 1 : 1 + steps]
    some = _sounds(model, audible).any(1)
    if scored is not None:
        some &= scored
    rows, wanted = hidden[some], targets.movedim(1, 2)[some]
    given = inputs[:, :, 1:].movedim(1, 2)[some]
    deep = model.depth(rows[:, None], given[..., None], steps, recompute=recompute)[:, 0]
    total, count = zero, zero
    semantic, acoustic = zero, []
    for q in range(steps):
        target = wanted[:, 1 + q]
        there = _sounds(model, target)
        each = _entropy(model.linears[q](deep[:, q][there]), target[there])
        weight = weights.semantic if q == 0 else 1.0
        total, count = total + weight * each.sum(), count + weight * len(each)
        mean = each.mean() if len(each) else zero
        if q == 0:
            semantic = mean
        else:
            acoustic.append(mean)
    audio = total / (count.clamp(min=1e-6) if sizes is None else max(sizes.audio, 1e-6))
    return Losses(
        text_loss + weights.audio * audio, text_loss, word_loss, semantic,
        torch.stack(acoustic).mean() if acoustic else zero,
    )  # fmt: skip


def sizes_of(model: DuplexLM, codes: Tensor, learn: Tensor, weights: Weights) -> Sizes:
    """What the means of `losses` of these codes are over; arguments as there."""
    import torch

    from duologue.model.lm import ABSENT

    targets = model.delayed(codes.masked_fill(~learn[:, None], ABSENT))[:, :, 1:]
    present, quiet = _said(model, targets[:, 0])
    text = torch.where(quiet, weights.padding, 1.0)[present].sum()
    there = _sounds(model, targets[:, 1 : 1 + model.config.agent_streams]).sum((0, 2)).tolist()
    return Sizes(float(text), weights.semantic * sum(there[:1]) + sum(there[1:]))


def _said(model: DuplexLM, text: Tensor) -> tuple[Tensor, Tensor]:
    """Where there is text, and where it is PAD or EPAD."""
    c = model.config
    quiet = (text == c.existing_text_padding_id) | (text == c.existing_text_end_padding_id)
    return (text >= 0) & (text != c.text_initial_id), quiet


def _sounds(model: DuplexLM, codes: Tensor) -> Tensor:
    """Where there are codes of sound."""
    return (codes >= 0) & (codes != model.config.audio_initial_id)


def _entropy(logits: Tensor, targets: Tensor) -> Tensor:
    from torch.nn import functional as F

    return F.cross_entropy(logits.float(), targets, reduction="none")
