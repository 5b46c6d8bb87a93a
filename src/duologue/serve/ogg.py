"""Ogg pages cut from a stream of bytes, and how long the Opus in them is, before anything is decoded (RFC 3533, 6716).

A decoder is given whole pages only, and no more sound than it is worth: a few kilobytes of Opus can claim to be hours.
"""

from __future__ import annotations

from dataclasses import dataclass

from duologue.client.sound import SoundError

HEADER = 27
LONGEST = HEADER + 255 + 255 * 255
HEADS = (b"OpusHead", b"OpusTags")


@dataclass(frozen=True, slots=True)
class Page:
    """One page."""

    data: bytes
    seconds: float
    """Of the packets that begin in it; 0 for headers."""


class Pages:
    """Cuts bytes into pages; a page may come in several parts."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Page]:
        """The pages that these bytes complete. Errors: SoundError, bytes that are no Ogg."""
        held, found, at = self._rest + data, [], 0
        while (size := _page_size(held, at)) is not None and at + size <= len(held):
            page = held[at : at + size]
            found.append(Page(page, _seconds(page)))
            at += size
        self._rest = held[at:]
        return found


def _page_size(held: bytes, at: int) -> int | None:
    """Bytes of the page that begins there; None if its header is not whole yet."""
    begin = held[at : at + 5]
    if begin != b"OggS\0"[: len(begin)]:
        raise SoundError(f"not Ogg: {begin.hex(' ')} where a page should begin")
    if len(held) - at < HEADER:
        return None
    segments = held[at + HEADER - 1]
    if len(held) - at < HEADER + segments:
        return None
    return HEADER + segments + sum(held[at + HEADER : at + HEADER + segments])


def _seconds(page: bytes) -> float:
    """Length of the Opus packets that begin in a page, as their first bytes say."""
    segments = page[HEADER - 1]
    lacing, at = page[HEADER : HEADER + segments], HEADER + segments
    total, fresh = 0.0, not page[5] & 1  # bit 0: the first packet goes on from the page before
    for size in lacing:
        if fresh and size and not page[at : at + 8].startswith(HEADS):
            total += packet_seconds(page[at : at + size])
        fresh = size < 255
        at += size
    return total


def packet_seconds(packet: bytes) -> float:
    """Length of an Opus packet (RFC 6716, section 3.1), at most 0.12 s; 0 for an empty one."""
    if not packet:
        return 0.0
    config, count = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = (0.01, 0.02, 0.04, 0.06)[config & 3]
    elif config < 16:
        frame = (0.01, 0.02)[config & 1]
    else:
        frame = (0.0025, 0.005, 0.01, 0.02)[config & 3]
    if count == 3:
        frames = packet[1] & 63 if len(packet) > 1 else 0
    else:
        frames = 1 if count == 0 else 2
    return min(0.12, frames * frame)
