"""Every question to an endpoint ends, with a value or a reason, whatever the server does; no test waits or sleeps."""

from __future__ import annotations

import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.base.chat import Request, base_url
from duologue.base.endpoint import Endpoint, EndpointConfig
from duologue.base.errors import UserError
from duologue.base.retries import Breaker, Budget, backoff, retry_after

Answer = Callable[[httpx.Request], httpx.Response]


class Clock:
    """A time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Script:
    """A server that gives these answers in turn, the last one for ever, and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception | Answer) -> None:
        self.answers = answers
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[httpx.Headers] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers[min(len(self.bodies), len(self.answers) - 1)]
        self.bodies.append(json.loads(request.content))
        self.headers.append(request.headers)
        if isinstance(answer, Exception):
            raise answer
        # A response can be read once; give a new one each time.
        return (
            answer(request)
            if callable(answer)
            else httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        )


def said(text: str | None) -> httpx.Response:
    return httpx.Response(200, json={"choices": [{"message": {"role": "assistant", "content": text}}]})


def number(text: str) -> int | None:
    found = re.search(r"\d+", text)
    return int(found[0]) if found else None


QUESTION = Request.of("Rate it.", system="You rate.")


def endpoint(script: Answer, clock: Clock | None = None, **changes: Any) -> Endpoint:
    config = EndpointConfig(**{"url": "http://judge", "model": "m", "backoff_s": 1.0, "deadline_s": 100.0, **changes})
    clock = clock or Clock()
    transport = httpx.MockTransport(script)
    return Endpoint(config, transport=transport, clock=clock, sleep=clock.sleep, rng=random.Random(0))


def test_a_reply_is_parsed_and_the_request_says_all_that_was_asked() -> None:
    script = Script(said("I give 4."))
    with endpoint(script) as judge:
        reply = judge.ask(QUESTION, number)
    assert (reply.value, reply.text, reply.reason, reply.cached) == (4, "I give 4.", None, False)
    assert script.bodies == [
        {
            "model": "m",
            "messages": [{"role": "system", "content": "You rate."}, {"role": "user", "content": "Rate it."}],
            "temperature": 0.0,
            "max_tokens": 512,
            "seed": 0,
        }
    ]
    assert "authorization" not in script.headers[0]


def test_what_is_none_is_not_sent_and_extras_are() -> None:
    request = Request(messages=[], temperature=None, max_tokens=None, seed=None, extra={"top_k": 1})
    assert request.body("m", retry=3) == {"model": "m", "messages": [], "top_k": 1}


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again_with_growing_waits(status: int) -> None:
    clock = Clock()
    script = Script(httpx.Response(status), httpx.ConnectError("refused"), httpx.ReadError("reset"), said("5"))
    judge = endpoint(script, clock)
    assert judge.ask(QUESTION, number).value == 5
    assert (judge.counts.requests, judge.counts.retries) == (4, 3)
    assert all(full / 2 <= wait <= full for wait, full in zip(clock.slept, (1, 2, 4), strict=True))


@pytest.mark.parametrize("status", [301, 400, 401, 404, 422])
def test_what_will_not_pass_is_not_tried_again(status: int) -> None:
    script = Script(httpx.Response(status, text="no\nsuch model"))
    reply = endpoint(script).ask(QUESTION, number)
    assert (reply.value, reply.reason, reply.detail) == (None, "http", f"HTTP {status}: no such model")
    assert len(script.bodies) == 1


def test_retries_are_bounded() -> None:
    script = Script(httpx.Response(500))
    judge = endpoint(script, retries=2)
    assert judge.ask(QUESTION, number).reason == "http"
    assert len(script.bodies) == 3
    assert judge.counts.failed == {"http": 1}


def test_the_servers_wish_to_wait_is_honoured_within_the_deadline() -> None:
    clock = Clock()
    judge = endpoint(Script(httpx.Response(429, headers={"Retry-After": "40"}), said("5")), clock)
    assert judge.ask(QUESTION, number).value == 5
    assert clock.slept == [40.0]


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    clock = Clock()
    judge = endpoint(Script(httpx.Response(429, headers={"Retry-After": "3600"})), clock)
    assert judge.ask(QUESTION, number).reason == "http"
    assert clock.slept == []


def test_no_question_outlives_its_deadline() -> None:
    clock = Clock()
    judge = endpoint(Script(httpx.Response(500)), clock, retries=10**6, deadline_s=60.0)
    judge.ask(QUESTION, number)
    assert clock.now <= 60.0


def test_a_server_that_sends_byte_by_byte_is_left_at_the_timeout() -> None:
    clock = Clock()

    def drip() -> Iterator[bytes]:
        for _ in range(1000):
            clock.now += 1.0
            yield b" "

    judge = endpoint(Script(lambda _: httpx.Response(200, content=drip())), clock, timeout_s=7.0, retries=0)
    assert judge.ask(QUESTION, number).reason == "deadline"
    assert clock.now == 8.0


@pytest.mark.parametrize(
    "content",
    [b"<html>", b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": 3}}]}', b"[" * 10**5],
)
def test_a_body_that_is_no_completion_is_malformed(content: bytes) -> None:
    judge = endpoint(Script(httpx.Response(200, content=content)), retries=1)
    assert judge.ask(QUESTION, number).reason == "malformed"
    assert judge.counts.requests == 2


def test_a_body_without_end_is_not_read_to_it() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    judge = endpoint(Script(lambda _: httpx.Response(200, content=endless())), max_reply_bytes=5000)
    assert judge.ask(QUESTION, number).reason == "too large"
    assert judge.counts.requests == 1


@pytest.mark.parametrize("bad", ["no idea", None])
def test_an_unparsable_reply_is_asked_again_with_another_seed(bad: str | None) -> None:
    script = Script(said(bad), said("3"))
    judge = endpoint(script)
    assert judge.ask(QUESTION, number).value == 3
    assert [body["seed"] for body in script.bodies] == [0, 1]
    assert (judge.counts.unparsable, judge.counts.answered) == (1, 1)


@pytest.mark.parametrize("parse", [number, int])
def test_what_stays_unparsable_is_null_and_counted_never_zero(parse: Callable[[str], int | None]) -> None:
    script = Script(said("no idea"))
    judge = endpoint(script, parse_retries=2)
    reply = judge.ask(QUESTION, parse)
    assert (reply.value, reply.reason, reply.text) == (None, "unparsable", "no idea")
    assert len(script.bodies) == 3
    assert (judge.counts.failed, judge.counts.unparsable) == ({"unparsable": 1}, 3)


def test_a_value_of_zero_is_a_value() -> None:
    assert endpoint(Script(said("0"))).ask(QUESTION, number).value == 0


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    script = Script(said("4"))
    first = endpoint(script, cache=tmp_path)
    assert not first.ask(QUESTION, number).cached
    again = endpoint(Script(httpx.Response(500)), cache=tmp_path, url="http://elsewhere:8000/v1")
    reply = again.ask(QUESTION, number)
    assert (reply.value, reply.cached) == (4, True)
    assert (again.counts.requests, again.counts.cache_hits) == (0, 1)


@pytest.mark.parametrize(
    "changed",
    [
        Request.of("Rate that.", system="You rate."),
        Request(messages=QUESTION.messages, temperature=0.5),
        Request(messages=QUESTION.messages, seed=1),
        Request(messages=QUESTION.messages, extra={"top_p": 0.9}),
    ],
)
def test_another_question_has_another_answer(tmp_path: Path, changed: Request) -> None:
    judge = endpoint(Script(said("4"), said("5")), cache=tmp_path)
    assert [judge.ask(q, number).value for q in (QUESTION, changed, QUESTION, changed)] == [4, 5, 4, 5]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"request": {}, "text": "9"}', b"\xff"])
def test_a_broken_cache_entry_is_ignored_and_written_anew(tmp_path: Path, content: bytes) -> None:
    endpoint(Script(said("4")), cache=tmp_path).ask(QUESTION, number)
    (entry,) = tmp_path.rglob("*.json")
    whole = entry.read_bytes()
    entry.write_bytes(content)
    assert endpoint(Script(said("4")), cache=tmp_path).ask(QUESTION, number).cached is False
    assert entry.read_bytes() == whole


@pytest.mark.parametrize("seed", [0, None])
def test_a_second_try_does_not_find_the_first_ones_reply(tmp_path: Path, seed: int | None) -> None:
    question = Request(messages=QUESTION.messages, seed=seed)
    judge = endpoint(Script(said("no idea"), said("3")), cache=tmp_path)
    assert judge.ask(question, number).value == 3
    again = endpoint(Script(httpx.Response(500)), cache=tmp_path)
    assert again.ask(question, number).value == 3
    assert again.counts.requests == 0


def test_failures_are_not_cached(tmp_path: Path) -> None:
    endpoint(Script(httpx.Response(404)), cache=tmp_path).ask(QUESTION, number)
    assert list(tmp_path.rglob("*.json")) == []


def test_past_the_budget_nothing_is_sent(tmp_path: Path) -> None:
    script = Script(said("4"))
    judge = endpoint(script, budget=2, cache=tmp_path)
    replies = [judge.ask(Request.of(str(n)), number) for n in (1, 2, 3, 1)]
    assert [r.reason for r in replies] == [None, None, "budget", None]
    assert len(script.bodies) == 2
    assert judge.counts.failed == {"budget": 1}


def test_the_budget_counts_retries_too() -> None:
    script = Script(httpx.Response(500))
    assert endpoint(script, budget=3, retries=10).ask(QUESTION, number).reason == "budget"
    assert len(script.bodies) == 3


def test_after_failures_in_a_row_the_server_is_left_alone_until_a_probe_succeeds() -> None:
    clock = Clock()
    script = Script(*[httpx.Response(401)] * 4, said("5"))
    judge = endpoint(script, clock, breaker_failures=3, breaker_cooldown_s=30.0)

    def ask(times: int) -> list[str | None]:
        return [judge.ask(QUESTION, number).reason for _ in range(times)]

    assert ask(5) == ["http"] * 3 + ["open"] * 2
    clock.now += 30.0
    assert ask(2) == ["http", "open"]  # the probe fails
    clock.now += 30.0
    assert ask(3) == [None] * 3  # the probe succeeds
    assert judge.counts.failed == {"http": 4, "open": 3}


def test_a_request_refused_for_its_own_sake_does_not_open_the_breaker() -> None:
    judge = endpoint(Script(httpx.Response(400)), breaker_failures=2)
    assert [judge.ask(QUESTION, number).reason for _ in range(4)] == ["http"] * 4


def test_only_one_probe_at_a_time() -> None:
    clock = Clock()
    breaker = Breaker(1, 10.0, clock)
    breaker.failed()
    clock.now = 10.0
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert breaker.admits()


@pytest.mark.parametrize("workers", [1, 8])
def test_a_batch_keeps_its_order_and_asks_identical_questions_once(workers: int) -> None:
    asked: list[str] = []

    def echo(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content)["messages"][0]["content"])
        return said(asked[-1]) if asked[-1] != "x" else said("none")

    judge = endpoint(echo, parse_retries=0, workers=workers)
    texts = [str(n % 7) for n in range(40)] + ["x", "x"]
    replies = judge.ask_many([Request.of(t) for t in texts], number)
    assert [r.value for r in replies] == [n % 7 for n in range(40)] + [None, None]
    assert sorted(asked) == sorted({*texts})
    counts = judge.counts
    assert (counts.asked, counts.shared, counts.answered) == (8, 34, 7)


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_as_many_questions_are_in_flight_as_there_are_workers_over_all_batches(workers: int) -> None:
    """Each batch is smaller than that: the server lets nobody through before all workers wait there."""
    gate, lock, counts = threading.Barrier(workers), threading.Lock(), [0, 0]

    def serve(request: httpx.Request) -> httpx.Response:
        with lock:
            counts[0] += 1
            counts[1] = max(counts)
        gate.wait(30)
        with lock:
            counts[0] -= 1
        return said("4")

    with endpoint(serve, workers=workers, retries=0) as judge:
        batches = [judge.begin([Request.of(f"{i}")], number) for i in range(2 * workers)]
        assert [future.result().value for batch in batches for future in batch] == [4] * (2 * workers)
    assert counts[1] == workers


def test_what_has_not_begun_when_it_is_closed_never_begins() -> None:
    began, release, asked = threading.Event(), threading.Event(), []

    def serve(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        began.set()
        release.wait(30)
        return said("4")

    judge = endpoint(serve, workers=1)
    first, second = judge.begin([Request.of("a"), Request.of("b")], number)
    assert began.wait(30)
    closing = threading.Thread(target=judge.close)
    closing.start()
    with pytest.raises(CancelledError):
        second.result(30)
    release.set()
    closing.join()
    assert first.result().value == 4
    assert len(asked) == 1


def test_a_server_needs_something_in_every_request() -> None:
    script = Script(said("4"))
    judge = endpoint(script, extra={"top_k": 1, "chat_template_kwargs": {"enable_thinking": False}})
    judge.ask(Request(messages=[], extra={"top_k": 2}), number)
    judge.check()
    assert [body["top_k"] for body in script.bodies] == [2, 1]
    assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for body in script.bodies)


def test_a_reply_that_was_cut_has_no_value_and_is_not_kept(tmp_path: Path) -> None:
    cut = httpx.Response(200, json={"choices": [{"message": {"content": "I give 4"}, "finish_reason": "length"}]})
    judge = endpoint(Script(cut, said("5")), cache=tmp_path)
    reply = judge.ask(QUESTION, number)
    assert (reply.value, reply.text, reply.reason) == (None, "I give 4", "cut")
    assert judge.ask(QUESTION, number).value == 5


@pytest.mark.parametrize(
    ("text", "value"), [("<think>1 or 2?</think> 3", 3), ("1 or 2?</think>3", 3), ("<think>1 or", None), ("3", 3)]
)
def test_thinking_is_not_read(text: str, value: int | None) -> None:
    assert endpoint(Script(said(text)), parse_retries=0).ask(QUESTION, number).value == value


def test_an_empty_batch_has_no_replies() -> None:
    assert endpoint(Script(said("1"))).ask_many([], number) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([200, 400, 429, 500, 0]), min_size=1, max_size=12), st.integers(0, 12))
def test_every_question_is_counted_once(statuses: list[int], budget: int) -> None:
    answers = [said("1") if s == 200 else httpx.Response(s) if s else said("none") for s in statuses]
    judge = endpoint(Script(*answers), budget=budget, breaker_failures=2, retries=1)
    replies = [judge.ask(QUESTION, number) for _ in range(6)]
    counts = judge.counts
    assert counts.asked == 6 == counts.answered + sum(counts.failed.values())
    assert counts.answered == sum(r.value is not None for r in replies)
    assert all((r.value is None) == (r.reason is not None) for r in replies)
    assert counts.requests <= budget


def test_the_key_is_sent_and_nowhere_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("JUDGE_KEY", " sk-secret\n")
    caplog.set_level(0)
    script = Script(httpx.Response(401, text="wrong key sk-secret"), said("5"))
    judge = endpoint(script, key_env="JUDGE_KEY", cache=tmp_path)
    first, second = judge.ask(QUESTION, number), judge.ask(QUESTION, number)
    assert script.headers[0]["authorization"] == "Bearer sk-secret"
    assert first.detail == "HTTP 401: wrong key ***"
    told = [
        caplog.text,
        repr(judge),
        repr(judge.config),
        repr(second),
        *(p.read_text() for p in tmp_path.rglob("*.json")),
    ]
    assert len(told) == 5
    assert not any("sk-secret" in text for text in told)


@pytest.mark.parametrize("value", ["", "schlüssel", "a\nb"])
def test_a_missing_or_odd_key_is_a_users_mistake(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("JUDGE_KEY", value)
    with pytest.raises(UserError, match=r"^JUDGE_KEY: ") as caught:
        endpoint(Script(said("")), key_env="JUDGE_KEY")
    assert not value or value not in str(caught.value)


def test_a_check_before_long_work_finds_what_is_wrong() -> None:
    endpoint(Script(said(None))).check()
    with pytest.raises(UserError, match=r"http://judge: model 'm' does not answer \(http: HTTP 404: no such model\)"):
        endpoint(Script(httpx.Response(404, text="no such model"))).check()


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        (" http://localhost:8000/ ", "http://localhost:8000/v1"),
        ("https://host/v1", "https://host/v1"),
        ("https://host/api/v3/", "https://host/api/v3"),
        ("https://host/v1/chat/completions", "https://host/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_addresses_are_understood_as_people_write_them(url: str, base: str) -> None:
    assert base_url(url) == base


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "http://a b", "http://h:99999", "http://h:x",
                                 "http://h:0", "http://[::1", "https://h/v1?key=s3cret", "https://u:s3cret@h/v1", "http://h/\n"
                                 "x"])  # fmt: skip
def test_nonsense_addresses_are_refused(url: str) -> None:
    with pytest.raises(UserError):
        EndpointConfig(url=url, model="m")


@pytest.mark.parametrize("field", ["timeout_s", "deadline_s", "workers", "breaker_failures"])
def test_nothing_can_be_unbounded_by_mistake(field: str) -> None:
    fields: dict[str, Any] = {"url": "http://h", "model": "m", field: 0}
    with pytest.raises(UserError, match=f"{field}: 0 is not above 0"):
        EndpointConfig(**fields)
    with pytest.raises(UserError, match="retries: -1 is below 0"):
        EndpointConfig(url="http://h", model="m", retries=-1)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0.0),
        ("7", 7.0),
        ("-7", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("Wed, 01 Jan 2025 00:00:30 GMT", 30.0),
        ("Wed, 01 Jan 2025 00:00:30 -0000", 30.0),
        ("Wed, 01 Jan 2020 00:00:30 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float) -> None:
    assert retry_after(header, datetime(2025, 1, 1, tzinfo=UTC)) == seconds


@given(st.integers(0, 10**6), st.floats(0, 100), st.floats(0, 100))
def test_a_wait_is_never_longer_than_the_longest(attempt: int, first: float, longest: float) -> None:
    assert 0 <= backoff(attempt, first, longest, random.Random(0)) <= longest


def test_a_budget_is_never_overspent_by_threads() -> None:
    budget = Budget(50)
    taken: list[bool] = []
    threads = [threading.Thread(target=lambda: taken.extend(budget.take() for _ in range(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(taken), len(taken)) == (50, 160)


class Handler(BaseHTTPRequestHandler):
    """A real server's side, for what a mock transport cannot show: sockets, hangs, connections that break."""

    protocol_version = "HTTP/1.1"
    release = threading.Event()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what = body["messages"][0]["content"]
        if what == "hang":
            self.release.wait(30)
        if what in ("hang", "drop"):
            self.close_connection = True
            return
        data = json.dumps({"path": self.path, "choices": [{"message": {"content": "4"}}]}).encode()
        self.send_response(200 if self.path == "/v1/chat/completions" else 404)
        self.send_header("Content-Length", str(len(data) + (5 if what == "cut" else 0)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = what == "cut"

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}"
        finally:
            Handler.release.set()
            httpd.shutdown()
            thread.join()
            Handler.release.clear()


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


def test_a_real_server_is_asked_over_kept_connections(no_proxy: None) -> None:
    with server() as url, Endpoint(EndpointConfig(url=url, model="m")) as judge:
        replies = judge.ask_many([Request.of(str(n)) for n in range(20)], number)
    assert [r.value for r in replies] == [4] * 20


@pytest.mark.parametrize(("what", "reason"), [("drop", "connection"), ("cut", "connection"), ("hang", "deadline")])
def test_a_real_server_that_fails_gives_a_reason_in_time(no_proxy: None, what: str, reason: str) -> None:
    started = time.monotonic()
    with server() as url, Endpoint(EndpointConfig(url=url, model="m", timeout_s=0.2, retries=0)) as judge:
        assert judge.ask(Request.of(what), number).reason == reason
    assert time.monotonic() - started < 10


def test_nobody_at_the_address_is_a_reason_too(no_proxy: None) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        config = EndpointConfig(url=f"http://127.0.0.1:{held.getsockname()[1]}", model="m", retries=0)
        with Endpoint(config) as judge:
            assert judge.ask(QUESTION, number).reason == "connection"
