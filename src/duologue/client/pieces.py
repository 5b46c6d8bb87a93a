"""Words of the pieces that come over the wire."""

from __future__ import annotations

from collections.abc import Sequence

FRAME_SECONDS = 0.08


def join_pieces(pieces: Sequence[tuple[str, float]]) -> list[tuple[str, float, float]]:
    """Words with begin and end in seconds, of pieces and when each is heard; a piece lasts for a frame.

    A piece with a space in front begins a word.
    """
    found: list[tuple[str, float, float]] = []
    fresh = True
    for piece, at in pieces:
        fresh = fresh or piece[:1].isspace()
        bare = piece.strip()
        if not bare:
            continue
        end = round(at + FRAME_SECONDS, 3)
        if fresh:
            found.append((bare, at, end))
        else:
            word, start, _ = found[-1]
            found[-1] = (word + bare, start, end)
        fresh = piece[-1:].isspace()
    return found
