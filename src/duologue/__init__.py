"""Duologue: full-duplex speech models, from two-channel conversations to the numbers that say how they behave.

import duologue

bundle = duologue.load("kyutai/personaplex-rl-seamless")  # Bundle(lm, codec, text, config, voices)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duologue.engine.bundle import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "load":  # torch is not imported until a model is asked for
        from duologue.engine.bundle import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
