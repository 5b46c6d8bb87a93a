"""Log-probabilities under what drew the tokens: temperature, top-k, top-p and the choice of PAD count.

Papers rarely say which they take. The model's own are those of what is learned; the sampler's are those of what acted,
whose gradient is that of the expected reward.
"""

from __future__ import annotations

import torch
from torch import Tensor

from duologue.engine.sampling import Sampling, Settings


def under_sampler(logits: Tensor, tokens: Tensor, sampling: Sampling, pad: int | None) -> tuple[Tensor, Tensor]:
    """Log-probabilities [n] of tokens [n] when drawn from logits [n, V], and the mass [n] outside of what can be drawn.

    Matched: `engine.sampling.Draw.pick`. A token that could not be drawn any more counts as if it could: it was.

    Args:
        logits: float32, of the model.
        tokens: what was drawn.
        sampling: settings, with a temperature above 0.
        pad: the id of PAD where this is text; None: audio.
    """
    card = logits.shape[-1]
    settings = Settings.of([sampling], 1, card, card, logits.device)
    draw, scores = settings.audio, logits
    if pad is not None:
        draw = settings.text
        place = torch.tensor([pad], device=logits.device)
        if settings.bonus is not None:
            scores = scores.index_add(1, place, settings.bonus[:, None].expand(len(scores), 1))
        scores = settings.pause(scores, place)
    able = torch.ones_like(scores, dtype=torch.bool)
    if draw.width < card:
        able = scores >= scores.topk(draw.width)[0].amin(-1, keepdim=True)
    p = torch.softmax((scores / draw.temperature).masked_fill(~able, -torch.inf), -1)
    if draw.nucleus:
        ranked = p.sort(-1, descending=True)[0]
        last = (ranked.cumsum(-1) - ranked < draw.top_p).sum(-1, keepdim=True) - 1
        able = able & (p >= ranked.gather(1, last))
    outside = (logits.softmax(-1) * ~able).sum(-1).detach()
    able = able.scatter(1, tokens[:, None], True)
    known = (scores / draw.temperature).masked_fill(~able, -torch.inf).log_softmax(-1)
    return known.gather(1, tokens[:, None])[:, 0], outside
