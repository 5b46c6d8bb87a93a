"""Language models as judges of Full-Duplex-Bench answers, behind any OpenAI-compatible endpoint.

The prompts in `prompts/` are this project's own (upstream's are CC BY-NC), so a result made with them is labelled a
proxy. A user who has an official prompt gives it by path; both ways of answering are understood.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from duologue.base.chat import Request
from duologue.base.endpoint import Endpoint, EndpointConfig
from duologue.base.files import read_text
from duologue.bench.fdb_behavior import TAGS
from duologue.bench.fdb_samples import Interruption

Kind = Literal["interruption", "behavior"]

STATED_RATING = re.compile(r"\brate\b.*?\bas\s*:?\s*\[?(\d+)\b", re.IGNORECASE | re.DOTALL)
"""How the official prompt asks to state a grade: "I would rate the AI's response as N"."""


class Judge:
    """A judge with its instructions. It keeps count of what it could not score."""

    def __init__(self, endpoint: Endpoint, prompt: str, *, proxy: bool) -> None:
        self.endpoint = endpoint
        self.prompt = prompt
        self.proxy = proxy

    @classmethod
    def connect(cls, kind: Kind, config: EndpointConfig, prompt_file: Path | None = None) -> Judge:
        """Make a judge, and see that its endpoint answers before long work begins.

        Errors: UserError for a wrong address, key, model or prompt file.
        """
        if prompt_file is None:
            prompt = resources.files("duologue.bench").joinpath("prompts", f"{kind}.txt").read_text(encoding="utf-8")
        else:
            prompt = read_text(prompt_file)
        endpoint = Endpoint(config)
        endpoint.check()
        return cls(endpoint, prompt, proxy=prompt_file is None)

    def rate(self, answers: Sequence[tuple[Interruption, str]]) -> list[float | None]:
        """Rate each answer to an interruption from 0 to 5; None where no reply could be scored."""
        requests = [
            Request.of(
                f"What the user had asked: {event.context}\n"
                f"What the user said when breaking in: {event.interrupt}\n"
                f"What the assistant said afterwards: {text.strip() or '(nothing)'}",
                system=self.prompt,
            )
            for event, text in answers
        ]
        return [reply.value for reply in self.endpoint.ask_many(requests, parse_rating, label="judging")]

    def label(self, samples: Sequence[Mapping[str, Any]]) -> list[str | None]:
        """Tag how the agent dealt with each overlap; None where no reply holds a tag."""
        requests = [
            Request.of(json.dumps(sample, ensure_ascii=False, separators=(",", ":")), system=self.prompt)
            for sample in samples
        ]
        return [reply.value for reply in self.endpoint.ask_many(requests, parse_tag, label="judging")]

    def notes(self) -> list[str]:
        """What to print beside every number of this judge."""
        counts = self.endpoint.counts
        prompt = (
            "this project's own prompt: a proxy, not the official judge" if self.proxy else "a prompt given by the user"
        )
        lost = ", ".join(f"{n} {reason}" for reason, n in counts.failed.items())
        told = f"Judge: {self.endpoint.config.model}, with {prompt}"
        asked = f"{counts.asked} questions, {counts.cache_hits} answered from the cache"
        return [f"{told}; {asked}" + (f"; without a score: {lost}." if lost else ".")]


def parse_rating(reply: str) -> float | None:
    """A whole number from 0 to 5 out of a reply in our form (JSON) or the official one; None when there is none."""
    value = _json_field(reply, "rating")
    if value is None:
        stated = STATED_RATING.findall(reply)
        value = int(stated[-1]) if stated else None
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value) and 0 <= value <= 5
    return float(value) if whole and value is not None else None


def parse_tag(reply: str) -> str | None:
    """The one C_ tag of a reply; None when there is none, or a made-up one."""
    value = _json_field(reply, "behaviour")
    tags = value if isinstance(value, list) else [value]
    return tags[0] if tags and tags[0] in TAGS else None


def _json_field(reply: str, key: str) -> Any:
    """The field of the first JSON object in a reply that has it, whatever stands around the object."""
    decoder = json.JSONDecoder()
    position = reply.find("{")
    while position != -1:
        try:
            value, _ = decoder.raw_decode(reply, position)
        except json.JSONDecodeError:
            value = None
        if isinstance(value, dict) and key in value:
            return value[key]
        position = reply.find("{", position + 1)
    return None
