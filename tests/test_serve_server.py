"""The server's edges: routes, who may come in, what is refused and in which words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from duologue.client.connection import connect
from duologue.client.wire import Kind, build
from duologue.engine.sampling import Sampling
from duologue.serve.security import MESSAGE_BURST, MESSAGE_BYTES, Guard
from serving import Running, Talker, alone, bundle, exchange, noise, running, talker
from test_serve_sessions import ended
from test_serve_talks import assert_same


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def refusal(server: Running, headers: dict[str, str] | None = None, **query: str) -> tuple[str, int]:
    """The reason in words and the code of the close, as a client that knows nothing sees them."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/api/chat", params=query, headers=headers) as socket,
    ):
        reason = ""
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY and message.data[0] == Kind.ERROR:
                reason = message.data[1:].decode()
            elif message.type is not aiohttp.WSMsgType.BINARY:
                return reason, int(message.data)


async def get(server: Running, path: str, **options: Any) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}{path}", **options) as answer:
        return answer.status, await answer.text()


def test_the_pages_that_tell_how_it_goes() -> None:
    async def test() -> None:
        async with running() as server:
            status, body = await get(server, "/api/info")
            info = json.loads(body)
            assert status == 200
            assert (info["model"], info["rate"], info["frame"], info["slots"]) == ("random:tiny@3", 24000, 1920, 2)
            assert (info["free"], info["queue"], info["prompts"], info["auth"]) == (2, 0, True, False)
            assert (info["limits"]["text_prompt"], info["limits"]["message"]) == (1000, 65536)
            assert (await get(server, "/health"))[0] == (await get(server, "/ready"))[0] == 200
            async with talker(server) as one:
                await exchange(server, [one], [noise(1, 1)[0]])
                page = (await get(server, "/metrics"))[1]
                assert "duologue_sessions_active 1.0" in page
                assert "duologue_frames_total 1.0" in page
                assert json.loads((await get(server, "/api/info"))[1])["free"] == 1
            server.service.sessions.draining = True
            assert await get(server, "/ready") == (503, "draining\n")
            assert (await get(server, "/health"))[0] == 200

    run(test())


def test_while_it_loads_it_says_so() -> None:
    async def test() -> None:
        async with running(loaded=False) as server:
            assert (await get(server, "/health"))[0] == 200
            assert await get(server, "/ready") == (503, "loading\n")
            assert json.loads((await get(server, "/api/info"))[1])["ready"] is False
            assert await refusal(server) == ("the server is still loading; try again", 1013)

    run(test())


def test_files_come_from_the_page_s_folder_only() -> None:
    async def test() -> None:
        async with running() as server, aiohttp.ClientSession() as session:
            for path in ("/../command.py", "/%2e%2e/command.py", "/..%2fcommand.py", "/nothing.js"):
                async with session.get(aiohttp.client.URL(server.url + path, encoded=True)) as answer:
                    assert answer.status in (403, 404)
            async with session.get(f"{server.url}/api/info") as answer:
                assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
            async with session.get(f"{server.url}/api/chat") as answer:
                assert answer.status == 426

    run(test())


class TestWhoMayComeIn:
    def test_the_token_opens_in_the_header_or_the_query(self) -> None:
        async def test() -> None:
            async with running(guard=Guard(token="open sesame")) as server:
                wrong = ("the token is missing or wrong", 1008)
                assert await refusal(server) == wrong
                assert await refusal(server, token="close sesame") == wrong
                assert await refusal(server, {"Authorization": "Basic open sesame"}) == wrong
                assert await refusal(server, {"Authorization": "Bearer é"}) == wrong
                async with connect(server.url, token="open sesame"):
                    pass
                async with talker(server, token="open sesame"):
                    pass
                assert (await get(server, "/metrics"))[0] == 401
                assert (await get(server, "/metrics", headers={"Authorization": "Bearer open sesame"}))[0] == 200
                assert json.loads((await get(server, "/api/info"))[1])["auth"] is True
                async with aiohttp.ClientSession() as s, s.post(f"{server.url}/api/voices") as answer:
                    assert answer.status == 401

        run(test())

    def test_pages_of_others_may_not_connect(self) -> None:
        async def test() -> None:
            async with running(guard=Guard(origins=("https://talk.example.org",))) as server:
                for origin in ("https://evil.example", "null", server.url.replace("http", "ftp"), "http://127.0.0.1:1"):
                    reason, code = await refusal(server, {"Origin": origin})
                    assert (reason, code) == (f"pages of {origin!r} may not use this server", 1008)
                for origin in ("https://talk.example.org", server.url):
                    reason, _ = await refusal(server, {"Origin": origin}, format="none")
                    assert reason == "format=none is neither opus nor pcm"

        run(test())

    def test_a_name_that_was_pointed_here_is_not_answered(self) -> None:
        async def test() -> None:
            async with running() as server:
                host = {"Host": "evil.example:80", "Origin": "http://evil.example:80"}
                assert (await refusal(server, host))[0] == "this server does not answer to 'evil.example:80'"
                assert (await get(server, "/api/info", headers={"Host": "evil.example"}))[0] == 403

        run(test())

    def test_one_address_has_only_so_many_connections(self) -> None:
        async def test() -> None:
            async with running(connections=1) as server:
                async with talker(server):
                    assert await refusal(server) == ("more than 1 connections from one address", 1013)
                async with talker(server):
                    pass

        run(test())


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("query", "reason"),
        [
            ({"text_temperature": "hot"}, "text_temperature=hot is no number"),
            ({"text_prompt": "x" * 1001}, "text_prompt has 1001 characters, and may have 1000"),
            ({"voice_prompt": "../../etc/passwd"}, "voice_prompt='../../etc/passwd' is no voice of this server"),
            ({"voice_prompt": "/etc/passwd"}, "voice_prompt='/etc/passwd' is no voice of this server"),
            ({"voice_prompt": "a\0.pt"}, "voice_prompt='a\\x00.pt' is no voice of this server"),
        ],
    )
    def test_a_query_that_cannot_be(self, query: dict[str, str], reason: str) -> None:
        async def test() -> None:
            async with running() as server:
                told, code = await refusal(server, **query)
                assert told.startswith(reason)
                assert code == 1008

        run(test())

    def test_words_for_a_model_without_a_tokenizer(self) -> None:
        async def test() -> None:
            async with running(bundle(text=None)) as server:
                assert await refusal(server, text_prompt="Be kind.") == (
                    "text_prompt: this model has no text tokenizer", 1008,
                )  # fmt: skip
                async with talker(server, text_prompt="", voice_prompt="") as one:
                    await exchange(server, [one], [noise(1, 1)[0]])

        run(test())

    def test_a_prompt_that_the_model_cannot_remember(self) -> None:
        async def test() -> None:
            async with running() as server:
                reason, code = await refusal(server, text_prompt="x" * 500)
                assert "and the model remembers 50" in reason
                assert code == 1008

        run(test())

    @pytest.mark.parametrize(
        ("format", "message", "reason", "code"),
        [
            ("pcm", build(Kind.SOUND, b"abc"), "sound: pcm of 3 bytes: a sample has two", 1008),
            ("opus", build(Kind.SOUND, b"garbage, no Ogg"), "sound: not Ogg: 67 61 72 62 61 where a page", 1008),
            ("opus", build(Kind.SOUND, b"OggS\0" + bytes(21) + b"\1\5\xff\xff\xff\xff\xff"), "sound: not Ogg Op", 1008),
            ("pcm", build(Kind.SOUND, bytes(MESSAGE_BYTES)), f"a message of {MESSAGE_BYTES + 1} bytes; at most", 1009),
            ("pcm", bytes(5 * MESSAGE_BYTES), "the message is too long", 1009),
            ("pcm", "hello", "a text message: every message must be binary", 1008),
        ],
        ids=["odd", "garbage", "ogg", "long", "too long", "words"],
    )
    def test_a_message_that_cannot_be_ends_its_talk_alone(
        self, format: str, message: bytes | str, reason: str, code: int
    ) -> None:
        async def test() -> None:
            async with running() as server, talker(server) as good, talker(server, format=format) as bad:
                await exchange(server, [good], [noise(1, 1)[0]])
                if isinstance(message, str):
                    await bad.line.socket.send_str(message)
                else:
                    await bad.line.send(message)
                end = await ended(bad)
                assert end.reason.startswith(reason)
                assert end.code == code
                for n in range(3):
                    await exchange(server, [good], [noise(1, n)[0]])
                assert server.service.sessions.free == 1

        run(test())

    def test_too_many_messages(self) -> None:
        async def test() -> None:
            async with running() as server, talker(server) as one:
                for _ in range(int(MESSAGE_BURST) + 1):
                    await one.line.send(build(Kind.CONTROL, b"\0"))
                assert (await ended(one)).reason == "more than 200 messages a second"

        run(test())

    def test_what_means_nothing_is_passed_over_and_counted(self) -> None:
        async def test() -> None:
            async with running() as server, talker(server) as one:
                for message in (b"", build(Kind.CONTROL, b"\0"), b"\x07x", b"\xff", build(Kind.PING, bytes(65))):
                    await one.line.send(message)
                await exchange(server, [one], [noise(1, 1)[0]])
                value = server.service.metrics.registry.get_sample_value
                counted = {
                    kind: value("duologue_messages_ignored_total", {"kind": kind}) for kind in ("empty", "3", "7", "6")
                }
                assert counted == {"empty": 1, "3": 1, "7": 1, "6": 1}

        run(test())

    def test_a_client_that_says_too_much_is_not_heard_later(self) -> None:
        async def test() -> None:
            async with running() as server, talker(server) as one:
                for n in range(20):
                    await one.say(noise(1, n)[0])
                for _ in range(12):
                    server.clock.advance()
                    await one.hear()
                    await server.clock.quiet()
                await one.sync()
                (stats,) = [e.value for e in one.events if getattr(e, "value", {}).get("type") == "stats"]
                assert (stats["dropped_ms"], stats["starved_ms"]) == (15 * 80, 7 * 80)

        run(test())


def test_a_fault_in_sending_ends_its_talk_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def write(self, samples: object) -> bytes:
            raise RuntimeError("secret detail")

    async def test() -> None:
        async with running() as server, talker(server) as good:
            monkeypatch.setattr("duologue.serve.chat.writer", lambda _: Broken())
            async with talker(server) as bad:
                await server.clock.quiet()
                for one in (good, bad):
                    await one.say(noise(1, 1)[0])
                server.clock.advance()
                end = await ended(bad)
                assert (end.reason, end.code) == ("this conversation failed; try again", 1011)
                await good.hear()
                await exchange(server, [good], [noise(1, 1)[0]])
            assert server.service.sessions.free == 1

    run(test())


def test_clients_that_die_leave_nothing_behind() -> None:
    """A small soak: clients come, stall, send garbage and vanish beside one that talks on."""
    model, user = bundle(), noise(40, 1)
    sampling = replace(Sampling(), text_seed=5, audio_seed=5)

    async def test() -> None:
        async with running(model, slots=3) as server, talker(server, seed="5") as good:
            for n in range(0, 40, 4):
                opening = connect(server.url, {"format": "opus" if n % 3 else "pcm", "meta": str(n % 2)})
                joining = asyncio.ensure_future(opening.__aenter__())
                for frame in user[n : n + 4]:
                    await exchange(server, [good], [frame])
                    await asyncio.wait({joining}, timeout=0.01)
                if joining.done() and joining.exception() is None:
                    bad = Talker(joining.result())
                    await bad.line.send([build(Kind.SOUND, b"\1\2\3"), b"", bytes(2 * MESSAGE_BYTES)][n // 4 % 3])
                else:
                    joining.cancel()
                await asyncio.gather(joining, return_exceptions=True)
                if joining.done() and not joining.cancelled() and joining.exception() is None:
                    await opening.__aexit__(None, None, None)
            assert_same(good.heard, alone(model, user, sampling, slots=3)[0])
            while server.service.sessions.free < 2:
                await asyncio.sleep(0.001)
            assert len(server.service.sessions._seated) == 1
            assert server.service.addresses._open.total() == 1

    run(test())
