"""What a client may ask for: the query of `/api/chat` as a frozen `Asked`, with a reason for all that is refused.

Messages themselves are in `client.wire`, which both ends use. Names of Moshi's and PersonaPlex's parameters are theirs.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from duologue.client.sound import Format
from duologue.client.wire import Close
from duologue.engine.sampling import SEEDS, Sampling

PROMPT_CHARACTERS = 1000
HOTTEST = 10.0
MOST_TOKENS = 1_000_000
LARGEST_BONUS = 100.0


class RefusedError(Exception):
    """Why a client is not served, or no longer: a reason in words, and the code that closes the connection."""

    def __init__(self, reason: str, code: Close = Close.POLICY, *, kind: str = "asked") -> None:
        self.reason, self.code, self.kind = reason, code, kind
        """`kind` is the label under which refusals are counted."""
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a client asked for."""

    sampling: Sampling
    text_prompt: str = ""
    voice: str | None = None
    """A name."""
    format: Format = "opus"
    meta: bool = False
    record: bool = False
    resume: str | None = None
    """The token of a session to take up."""

    def told(self) -> dict[str, Any]:
        """The settings as `ready` tells them."""
        s = self.sampling
        return {
            "text_temperature": s.text_temperature, "text_topk": s.text_top_k,
            "audio_temperature": s.audio_temperature, "audio_topk": s.audio_top_k, "text_seed": s.text_seed,
            "audio_seed": s.audio_seed, "padding_bonus": s.padding_bonus, "pad_temperature": s.pad_temperature,
            "text_prompt": self.text_prompt, "voice_prompt": self.voice,
        }  # fmt: skip


def ask(query: Mapping[str, str], own: Sampling) -> Asked:
    """Read a query.

    Args:
        query: parameters by name; those that nobody knows are passed over, and so are empty ones.
        own: the model's own settings, for what is not asked for.

    Raises:
        RefusedError: a value that cannot be read, or is out of range; the reason names it.
    """
    q = _Query(query)
    seed = q.whole("seed", -1, SEEDS - 1)
    common = secrets.randbelow(SEEDS) if seed is None or seed < 0 else seed
    bonus = q.number("padding_bonus", -LARGEST_BONUS, LARGEST_BONUS)
    if bonus is None:
        bonus = q.number("pad_mult", -LARGEST_BONUS, LARGEST_BONUS)
    given = {
        "text_temperature": q.number("text_temperature", 0, HOTTEST),
        "text_top_k": q.whole("text_topk", 0, MOST_TOKENS),
        "audio_temperature": q.number("audio_temperature", 0, HOTTEST),
        "audio_top_k": q.whole("audio_topk", 0, MOST_TOKENS),
        "padding_bonus": bonus,
    }
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for kind in ("text_seed", "audio_seed"):
        one = q.whole(kind, -1, SEEDS - 1)
        changed[kind] = common if one is None or one < 0 else one
    heat = q.number("pad_temperature", 0, HOTTEST)
    if heat is not None:
        changed["pad_temperature"] = heat or None  # 0: PAD is a token like any other
    prompt = query.get("text_prompt", "")
    if len(prompt) > PROMPT_CHARACTERS:
        raise RefusedError(f"text_prompt has {len(prompt)} characters, and may have {PROMPT_CHARACTERS}")
    return Asked(
        sampling=replace(own, **changed), text_prompt=prompt.strip(), voice=query.get("voice_prompt") or None,
        format=q.format(), meta=q.flag("meta"), record=q.flag("record"), resume=query.get("resume") or None,
    )  # fmt: skip


class _Query:
    """Parameters that are read with their limits."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = query

    def number(self, name: str, least: float, most: float) -> float | None:
        given = self._query.get(name, "")
        if not given:
            return None
        try:
            value = float(given)
        except ValueError:
            raise RefusedError(f"{name}={_shown(given)} is no number") from None
        if not math.isfinite(value) or not least <= value <= most:
            raise RefusedError(f"{name}={_shown(given)} is not from {least:g} to {most:g}")
        return value

    def whole(self, name: str, least: int, most: int) -> int | None:
        value = self.number(name, least, most)
        if value is not None and value != int(value):
            raise RefusedError(f"{name}={_shown(self._query[name])} is no whole number")
        return None if value is None else int(value)

    def flag(self, name: str) -> bool:
        given = self._query.get(name, "").lower()
        if given not in ("", "0", "1", "true", "false"):
            raise RefusedError(f"{name}={_shown(given)} is neither 0 nor 1")
        return given in ("1", "true")

    def format(self) -> Format:
        given = self._query.get("format", "") or "opus"
        if given == "opus" or given == "pcm":
            return "opus" if given == "opus" else "pcm"
        raise RefusedError(f"format={_shown(given)} is neither opus nor pcm")


def _shown(value: str) -> str:
    """A value as an error repeats it: short, printable."""
    return "".join(c if c.isprintable() else "?" for c in value[:40])
