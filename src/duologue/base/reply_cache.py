"""Replies kept on disk, one small JSON file each, so that a repeated judgement costs nothing and stays the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duologue.base.files import write_json


class ReplyCache:
    """A folder of replies, by all that was sent: model, messages, sampling parameters and extras.

    The server's address and the key are not part of it: the same model behind another address is the same judge. Where
    that is not so, use another folder. `retry` is part of it, so that the reply to a second try never hides the first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, body: Mapping[str, Any], retry: int = 0) -> str | None:
        """The reply to this request; None if there is none, or its file is broken or holds another request."""
        try:
            entry = json.loads(self._file(body, retry).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(entry, dict) or entry.get("request") != body or not isinstance(entry.get("text"), str):
            return None
        return str(entry["text"])

    def put(self, body: Mapping[str, Any], retry: int, text: str) -> None:
        """Keep a reply in place of what was there. Not forced to disk: a lost entry is only asked again."""
        write_json(self._file(body, retry), {"request": body, "text": text}, durable=False)

    def _file(self, body: Mapping[str, Any], retry: int) -> Path:
        key = cache_key(body, retry)
        return self.folder / key[:2] / f"{key}.json"


def cache_key(body: Mapping[str, Any], retry: int = 0) -> str:
    """A name for a request, equal for bodies that are equal as JSON."""
    return hashlib.sha256(json.dumps([body, retry], sort_keys=True).encode()).hexdigest()
