"""The language model over parallel streams: configuration, layers, the model, checkpoints.

from duologue.model import load_lm

lm = load_lm("kyutai/moshiko-pytorch-bf16", device="cuda")  # or a folder, or a file of weights
out = lm(codes)  # codes [B, K, T] -> out.text_logits, .text_mask, .audio_logits, .audio_mask
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duologue.model.load import load_lm as load_lm


def __getattr__(name: str) -> object:
    if name == "load_lm":  # torch is not imported until a model is asked for
        from duologue.model.load import load_lm

        return load_lm
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
