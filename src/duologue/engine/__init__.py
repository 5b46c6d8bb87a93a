"""The real-time engine: models by name, and what runs them frame by frame.

from duologue.engine import load

bundle = load("kyutai/moshiko-pytorch-bf16")  # Bundle(lm, codec, text, config, voices)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duologue.engine.bundle import Bundle as Bundle
    from duologue.engine.bundle import load as load


def __getattr__(name: str) -> object:
    if name in ("load", "Bundle"):  # torch is not imported until a model is asked for
        from duologue.engine import bundle

        return {"load": bundle.load, "Bundle": bundle.Bundle}[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
