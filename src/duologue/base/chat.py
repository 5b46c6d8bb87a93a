"""One call of an OpenAI-compatible chat endpoint: the address, the request's body, and what came back.

The protocol is OpenAI's `POST {base}/chat/completions`, which vLLM, llama.cpp, Ollama, SGLang and most providers serve.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from duologue.base.errors import UserError
from duologue.base.plain import plain
from duologue.base.retries import retry_after

if TYPE_CHECKING:
    import httpx

Reason: TypeAlias = Literal[
    "budget",  # the call budget is spent
    "open",  # the circuit breaker is open: the server failed too often in a row
    "deadline",  # no time left for another attempt, or the server took too long
    "connection",  # no connection, or it broke
    "http",  # an HTTP status other than 200
    "malformed",  # not the JSON of a chat completion
    "too large",  # the body is larger than a reply can be
    "cut",  # the reply ended because it had as many tokens as it may have
    "unparsable",  # replies came, none of them could be parsed
]

RETRYABLE = frozenset({408, 409, 425, 429})
"""Statuses below 500 after which the same request may succeed later."""

REQUEST_AT_FAULT = frozenset({400, 413, 422})
"""Statuses that speak of this one request (too long, refused by a filter) and not of the server or the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to ask. Two equal requests have one answer, and one entry in the cache.

    A field that is None is not sent, for servers that refuse it. `extra` is sent as it is, for example
    `{"response_format": {"type": "json_object"}}`.
    """

    messages: Sequence[Mapping[str, Any]]
    temperature: float | None = 0.0
    max_tokens: int | None = 512
    seed: int | None = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, prompt: str, *, system: str = "") -> Request:
        """A request with one user message, and a system message if `system` is not empty."""
        before = [{"role": "system", "content": system}] if system else []
        return cls(messages=(*before, {"role": "user", "content": prompt}))

    def body(self, model: str, retry: int = 0) -> dict[str, Any]:
        """The JSON body; each retry after an unparsable reply has the next seed."""
        seed = None if self.seed is None else self.seed + retry
        sampling = {"temperature": self.temperature, "max_tokens": self.max_tokens, "seed": seed}
        sent = {name: value for name, value in sampling.items() if value is not None}
        body: dict[str, Any] = plain({"model": model, "messages": self.messages, **sent, **self.extra})
        return body


class Completion(NamedTuple):
    """What an endpoint wrote."""

    text: str | None
    """None: it has no text (a refusal, a tool call, or nothing but thinking)."""
    cut: bool = False
    """Whether it ended at the largest number of tokens (`finish_reason: length`), and not by itself."""


class CallError(Exception):
    """An attempt that brought no text.

    Args:
        reason: what kind of failure.
        detail: what the server or the connection said.
        retry: whether another attempt may succeed.
        wait_s: how long the server asked to wait before it.
        status: the HTTP status, 0 if there was none.
    """

    def __init__(self, reason: Reason, detail: str, *, retry: bool, wait_s: float = 0.0, status: int = 0) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.retry = retry
        self.wait_s = wait_s
        self.status = status


def base_url(url: str) -> str:
    """The address that `/chat/completions` is appended to.

    A bare host gets `/v1` ("http://localhost:8000" -> "http://localhost:8000/v1"); a path is kept ("https://host/api/v1");
    a trailing "/chat/completions" is taken off.

    Raises:
        UserError: not http or https, no host, a bad port, or with a password, query or fragment, which would be logged.
    """
    mend = "write it like http://localhost:8000 or https://api.example.com/v1"
    if "@" in url:
        raise UserError("the address holds a user name or password", mend="name the key's variable in key_env instead")
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise UserError(f"{url!r} is not an address: {error}", mend=mend) from None
    named = re.fullmatch(r"[A-Za-z0-9._:-]+", parts.hostname or "")
    if parts.scheme not in ("http", "https") or not named or port == 0 or re.search(r"\s", url.strip()):
        raise UserError(f"{url!r} is not the address of an endpoint", mend=mend)
    if parts.query or parts.fragment:
        raise UserError(f"{url!r} has a query or fragment", mend=mend)
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def call(
    client: httpx.Client, body: Mapping[str, Any], *, timeout_s: float, clock: Callable[[], float], max_bytes: int
) -> Completion:
    """Send one request and return what was written.

    Args:
        client: with its base URL and headers set.
        body: the JSON body.
        timeout_s: seconds for connecting, and for the whole reply, also of a server that sends byte by byte.
        clock: the time in seconds.
        max_bytes: where to stop reading.

    Raises:
        CallError: anything else.
    """
    import httpx

    ends = clock() + timeout_s
    try:
        with client.stream("POST", "chat/completions", json=body, timeout=timeout_s) as response:
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > max_bytes:
                    raise CallError("too large", f"a body of more than {max_bytes} bytes", retry=False)
                if clock() > ends:
                    raise CallError("deadline", f"no whole reply within {timeout_s:.3g} s", retry=True)
            return _completion(response, bytes(data))
    except httpx.TimeoutException as error:
        raise CallError("deadline", f"{type(error).__name__} after {timeout_s:.3g} s", retry=True) from None
    except httpx.TransportError as error:
        raise CallError("connection", f"{type(error).__name__}: {error}", retry=True) from None
    except httpx.DecodingError as error:
        raise CallError("malformed", str(error), retry=True) from None


def without_thinking(text: str) -> str | None:
    """What a reply says after its thinking; None if it ends while it still thinks.

    Thinking stands between `<think>` and `</think>`; templates that open it in the prompt leave the end alone.
    """
    answer = text.rpartition("</think>")[2]
    return None if "<think>" in answer else answer


def _completion(response: httpx.Response, data: bytes) -> Completion:
    status = response.status_code
    if status != 200:
        said = " ".join(data[:300].decode("utf-8", "replace").split())
        retry = status in RETRYABLE or status >= 500
        wait_s = retry_after(response.headers.get("retry-after"))
        raise CallError("http", f"HTTP {status}: {said}", retry=retry, wait_s=wait_s, status=status)
    try:
        choice = json.loads(data)["choices"][0]
        text, cut = choice["message"]["content"], choice.get("finish_reason") == "length"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CallError("malformed", f"not a chat completion ({type(error).__name__})", retry=True) from None
    if text is not None and not isinstance(text, str):
        raise CallError("malformed", f"content of type {type(text).__name__}", retry=True)
    return Completion(text, cut)
