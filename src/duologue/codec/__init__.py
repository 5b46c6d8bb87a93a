"""Codecs between speech and tokens: Mimi.

from duologue.codec import load_codec

codec = load_codec("tokenizer-e351c8d8-checkpoint125.safetensors", n_codebooks=8)
codes = codec.encode(audio)  # [B, 1, S] -> int64 [B, 8, T]
audio = codec.decode(codes)  # [B, 8, T] -> [B, 1, S]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duologue.codec.mimi import load_mimi

    load_codec = load_mimi


def __getattr__(name: str) -> object:
    if name == "load_codec":  # torch is not imported until a codec is asked for
        from duologue.codec.mimi import load_mimi

        return load_mimi
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
