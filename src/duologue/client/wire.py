"""The wire: binary WebSocket messages, the first byte says what kind. Both ends of a conversation use this file.

Kinds 0 to 6 are those of kyutai-labs/moshi (client/src/protocol); what `04` holds is ours.
"""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any

RATE = 24000
"""Samples a second of sound on the wire."""
FRAME = 1920
"""Samples of a frame: 80 ms."""
TOKEN = "DUOLOGUE_TOKEN"
"""The environment's variable that holds the server's token, at both ends."""
PING_BYTES = 64
"""Longest payload of a ping."""


class Kind(IntEnum):
    """The first byte of a message."""

    HANDSHAKE = 0
    SOUND = 1
    TEXT = 2
    CONTROL = 3
    META = 4
    ERROR = 5
    PING = 6


class Close(IntEnum):
    """Why a connection was closed (RFC 6455 and the IANA registry)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012
    TRY_LATER = 1013


def build(kind: Kind, payload: bytes = b"") -> bytes:
    """A message."""
    return bytes([kind]) + payload


def parse(message: bytes) -> tuple[int, bytes]:
    """Kind and payload of a message; kinds that we do not know are given as they are.

    Raises:
        ValueError: an empty message.
    """
    if not message:
        raise ValueError("an empty message")
    return message[0], message[1:]


def build_text(kind: Kind, text: str) -> bytes:
    """A message of text, such as a piece of a word or a reason. Lone surrogates become question marks."""
    return build(kind, text.encode("utf-8", "replace"))


def build_meta(value: dict[str, Any]) -> bytes:
    """A message of metadata."""
    return build(Kind.META, json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace"))


def parse_meta(payload: bytes) -> dict[str, Any]:
    """Metadata.

    Raises:
        ValueError: not a JSON object.
    """
    value = json.loads(payload)
    if not isinstance(value, dict):
        raise ValueError("metadata is not an object")
    return value
