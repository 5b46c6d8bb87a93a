"""A client for OpenAI-compatible endpoints that a long run can rely on: every question ends, with a value or a reason.

    endpoint = Endpoint(EndpointConfig(url="http://localhost:8000", model="judge"))
    reply = endpoint.ask(Request.of("Rate it from 1 to 5: ..."), parse=first_number)
    if reply.value is None:
        print(reply.reason, reply.detail)

A question that has no usable answer gives None, never 0, and is counted. The config bounds what is sent again, how
often and for how long. Thinking (`<think>...</think>`) is no part of an answer, and a reply that was cut is none.

    replies = endpoint.begin(requests, parse=first_number)  # and go on; `workers` questions are in flight
    values = [reply.result().value for reply in replies]
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from duologue.base.chat import (
    REQUEST_AT_FAULT,
    CallError,
    Completion,
    Reason,
    Request,
    base_url,
    call,
    without_thinking,
)
from duologue.base.errors import UserError
from duologue.base.progress import track
from duologue.base.reply_cache import ReplyCache, cache_key
from duologue.base.retries import Breaker, Budget, backoff

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """An OpenAI-compatible endpoint, and how much patience to have with it."""

    url: str
    """Address of the endpoint, such as http://localhost:8000 (then /v1 is added) or https://api.example.com/v1."""
    model: str
    """Name of the model, as the endpoint knows it."""
    key_env: str | None = None
    """Environment variable that holds the API key; none is sent without it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else its server needs in every request, as it is: `{chat_template_kwargs: {enable_thinking: false}}`."""
    timeout_s: float = 60.0
    """Seconds that one attempt may take."""
    deadline_s: float = 180.0
    """Seconds that one question may take, with all attempts and waits."""
    retries: int = 4
    """Further attempts after a failure that may pass: no connection, timeouts, HTTP 408, 409, 425, 429 and 5xx."""
    backoff_s: float = 1.0
    """Seconds to wait before the first of them; doubled each time, half of it random."""
    backoff_max_s: float = 30.0
    """Longest wait in seconds, unless the server asks for a longer one."""
    parse_retries: int = 2
    """Further questions, each with another seed, after a reply that cannot be parsed."""
    budget: int | None = None
    """Most HTTP requests to send in all; None is without end."""
    breaker_failures: int = 8
    """Failed questions in a row after which the endpoint is left alone for a while."""
    breaker_cooldown_s: float = 30.0
    """Seconds that it is left alone, before one question may see whether it is back."""
    workers: int = 32
    """Questions in flight at once, of all batches together."""
    cache: Path | None = None
    """Folder in which replies are kept and found again; none are kept without it."""
    max_reply_bytes: int = 8 * 2**20
    """Largest reply that is read."""

    def __post_init__(self) -> None:
        base_url(self.url)
        for name in ("timeout_s", "deadline_s", "workers", "breaker_failures", "max_reply_bytes"):
            if not getattr(self, name) > 0:
                raise UserError(f"{getattr(self, name)} is not above 0", place=name)
        for name in ("retries", "parse_retries", "backoff_s", "backoff_max_s", "breaker_cooldown_s"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{getattr(self, name)} is below 0", place=name)


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """What became of a question: `value` as parsed, or None and the `reason`; `text` is the last reply, if any came."""

    value: T | None
    text: str | None = None
    reason: Reason | None = None
    detail: str = ""
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What an endpoint has done so far. `asked` = `answered` + all of `failed`."""

    asked: int
    """Questions, without the repeated ones of a batch."""
    answered: int
    """Questions with a value."""
    failed: Mapping[str, int]
    """Questions without a value, by reason."""
    shared: int
    """Questions that took the answer of an identical one in their batch."""
    requests: int
    """HTTP requests sent."""
    retries: int
    """Those of them that came after a failed attempt."""
    cache_hits: int
    """Replies found on disk."""
    unparsable: int
    """Replies, sent or found, that could not be parsed."""


class Endpoint:
    """The client. It may be used by several threads; close it, or use it in a `with` block: what has not begun then
    never begins, after Ctrl-C as well.

    Args:
        config: where and how.
        transport: how HTTP requests travel; for tests.
        clock: a monotonic time in seconds.
        sleep: waits for so many seconds.
        rng: for the random half of waits.

    Raises:
        UserError: the address is no address, or the key's variable is not set.
    """

    def __init__(
        self,
        config: EndpointConfig,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        import httpx

        self.config = config
        self._key = _key(config.key_env)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        # No limit of connections: the number of workers is one already.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=config.workers)
        url = base_url(config.url)
        self._client = httpx.Client(base_url=url, headers=headers, limits=limits, transport=transport)
        self._cache = ReplyCache(config.cache) if config.cache else None
        self._budget = Budget(config.budget)
        self._breaker = Breaker(config.breaker_failures, config.breaker_cooldown_s, clock)
        self._clock, self._sleep = clock, sleep
        self._rng = rng or random.Random()
        self._tally: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(config.workers, thread_name_prefix="endpoint")  # threads start when needed

    def ask(self, request: Request, parse: Callable[[str], T | None]) -> Reply[T]:
        """Ask one question.

        Args:
            request: the question.
            parse: reads a reply; None or a ValueError says that it cannot. Use `str` to take the text as it is.
        """
        reply = self._ask(self._own(request), parse)
        self._count("asked")
        if reply.reason:
            with self._lock:
                self._failed[reply.reason] += 1
        return reply

    def begin(self, requests: Sequence[Request], parse: Callable[[str], T | None]) -> list[Future[Reply[T]]]:
        """Begin to ask questions, as many at once as there are workers, behind those that were begun before; identical
        ones are asked once. The replies to come have the questions' order.

        Args:
            requests: the questions.
            parse: as in `ask`; called from several threads.
        """
        keys = [cache_key(request.body(self.config.model)) for request in requests]
        distinct = dict(zip(keys, requests, strict=True))
        self._count("shared", len(keys) - len(distinct))

        def ask(request: Request) -> Reply[T]:
            return self.ask(request, parse)

        replies = {key: self._pool.submit(ask, request) for key, request in distinct.items()}
        return [replies[key] for key in keys]

    def ask_many(
        self, requests: Sequence[Request], parse: Callable[[str], T | None], *, label: str = ""
    ) -> list[Reply[T]]:
        """Ask many questions and wait for all replies; see `begin`.

        Args:
            requests: the questions.
            parse: as in `ask`; called from several threads.
            label: text of a progress line; none is shown without it.
        """
        replies = self.begin(requests, parse)
        try:
            return [reply.result() for reply in track(replies, label, quiet=not label)]
        finally:
            for reply in replies:  # after Ctrl-C, what has not begun never begins
                reply.cancel()

    def check(self) -> None:
        """Ask something small, so that long work does not begin with a wrong address, key or model.

        Raises:
            UserError: no reply came.
        """
        request = self._own(Request(messages=[{"role": "user", "content": "Say OK."}], max_tokens=16))
        try:
            self._attempts(request.body(self.config.model), self._clock() + self.config.deadline_s)
        except CallError as failure:
            problem = f"model {self.config.model!r} does not answer ({failure.reason}: {self._safe(failure.detail)})"
            raise UserError(problem, place=self.config.url, mend="check address, model name and key") from None

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        with self._lock:
            done, failed = Counter(self._tally), dict(self._failed)
        names = ("asked", "shared", "requests", "retries", "cache_hits", "unparsable")
        return Counts(answered=done["asked"] - sum(failed.values()), failed=failed, **{n: done[n] for n in names})

    def close(self) -> None:
        """Close the connections, and ask nothing more; what is on its way is waited for."""
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _own(self, request: Request) -> Request:
        """A request with what this server needs; what the request says itself counts more."""
        return replace(request, extra={**self.config.extra, **request.extra})

    def _ask(self, request: Request, parse: Callable[[str], T | None]) -> Reply[T]:
        ends = self._clock() + self.config.deadline_s
        text = None
        for retry in range(self.config.parse_retries + 1):
            body = request.body(self.config.model, retry)
            found = self._cache.get(body, retry) if self._cache else None
            try:
                text, cut = self._send(body, ends) if found is None else (found, False)
            except CallError as failure:
                return Reply(None, text, failure.reason, self._safe(failure.detail))
            if cut:  # another seed would be cut as well
                return Reply(None, text, "cut", f"after {body.get('max_tokens', 'the most')} tokens")
            if found is not None:
                self._count("cache_hits")
            elif self._cache and text is not None:
                self._cache.put(body, retry, text)
            value = _parsed(parse, text)
            if value is not None:
                return Reply(value, text, cached=found is not None)
            self._count("unparsable")
        return Reply(None, text, "unparsable", f"{self.config.parse_retries + 1} replies could not be parsed")

    def _send(self, body: Mapping[str, Any], ends: float) -> Completion:
        """Send a request if the breaker lets it pass, and tell the breaker what came of it."""
        if not self._breaker.admits():
            raise CallError("open", f"{self.config.breaker_failures} failures in a row", retry=False)
        try:
            completion = self._attempts(body, ends)
        except CallError as failure:
            if failure.status in REQUEST_AT_FAULT:
                self._breaker.succeeded()
            elif failure.reason != "budget":
                self._breaker.failed()
            raise
        self._breaker.succeeded()
        return completion

    def _attempts(self, body: Mapping[str, Any], ends: float) -> Completion:
        """Send a request until it succeeds, fails for good, or time, retries or budget are spent."""
        config = self.config
        attempt = 0
        while True:
            left = ends - self._clock()
            if left <= 0:
                raise CallError("deadline", f"no reply within {config.deadline_s:.3g} s", retry=False)
            if not self._budget.take():
                raise CallError("budget", f"all {config.budget} requests are spent", retry=False)
            self._count("requests")
            self._count("retries", attempt > 0)
            timeout_s = min(config.timeout_s, left)
            try:
                return call(
                    self._client, body, timeout_s=timeout_s, clock=self._clock, max_bytes=config.max_reply_bytes
                )
            except CallError as failure:
                wait_s = max(failure.wait_s, backoff(attempt, config.backoff_s, config.backoff_max_s, self._rng))
                # A wait that outlasts the deadline is pointless: end now, with what the server said.
                if not failure.retry or attempt >= config.retries or wait_s >= ends - self._clock():
                    raise
            self._sleep(wait_s)
            attempt += 1

    def _count(self, name: str, by: int = 1) -> None:
        with self._lock:
            self._tally[name] += by

    def _safe(self, detail: str) -> str:
        """What a server said, without the key that it may have repeated."""
        return detail.replace(self._key, "***") if self._key else detail


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError("this environment variable is not set", place=variable, mend="set it to the API key")
    if not (key.isascii() and key.isprintable()):
        raise UserError("what this environment variable holds is not an API key", place=variable, mend="set it again")
    return key


def _parsed(parse: Callable[[str], T | None], text: str | None) -> T | None:
    answer = None if text is None else without_thinking(text)
    if answer is None:
        return None
    try:
        return parse(answer)
    except ValueError:
        return None
