"""Codecs between speech and tokens: Mimi, and the interface that another may have.

from duologue.codec import load_codec, save_codec

codec = load_codec("tokenizer-e351c8d8-checkpoint125.safetensors", n_codebooks=8)
codes = codec.encode(audio)  # [B, 1, S] -> int64 [B, 8, T]
audio = codec.decode(codes)  # [B, 8, T] -> [B, 1, S]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duologue.codec.checkpoint import load_codec as load_codec
    from duologue.codec.checkpoint import save_codec as save_codec
    from duologue.codec.interface import Codec as Codec
    from duologue.codec.interface import check_rate as check_rate


def __getattr__(name: str) -> object:  # torch is not imported until it is needed
    if name in ("load_codec", "save_codec"):
        from duologue.codec import checkpoint

        return getattr(checkpoint, name)
    if name in ("Codec", "check_rate"):
        from duologue.codec import interface

        return getattr(interface, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
