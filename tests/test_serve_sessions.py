"""Who gets a slot, who waits, who may come back, and when a talk must end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from duologue.client.connection import Ended, Meta, connect
from duologue.client.sound import to_int16
from duologue.client.wire import Kind, build
from duologue.engine.sampling import Sampling
from duologue.serve.sessions import Limits
from serving import PERIOD, Talker, alone, bundle, cut, exchange, noise, running, talker


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def ended(line: Talker) -> Ended:
    """How it ends."""
    try:
        while True:
            await line.next()
    except Ended as end:
        return end


class TestQueue:
    def test_who_waits_is_told_the_place_and_comes_in_turn(self) -> None:
        async def test() -> None:
            async with running(slots=1) as server:
                first = talker(server)
                one = await first.__aenter__()
                async with connect(server.url, wait=False) as a, connect(server.url, wait=False) as b:
                    two, three = Talker(a), Talker(b)
                    assert (await two.meta("queued"))["position"] == 1
                    assert (await three.meta("queued"))["position"] == 2
                    assert server.service.info()["queue"] == 2
                    await one.line.socket.close()
                    while server.service.sessions.waiting == 2:
                        await asyncio.sleep(0)
                    assert (await two.meta("queued"))["position"] == 0, "its prompt is being read"
                    server.clock.advance()
                    ready = await two.meta("ready")
                    assert (ready["resumed"], ready["at"]) == (False, 0)
                    assert (await three.meta("queued"))["position"] == 1
                await first.__aexit__(None, None, None)

        run(test())

    def test_a_full_one_sends_away_with_a_reason(self) -> None:
        async def test() -> None:
            async with running(slots=1, limits=Limits(queue=1)) as server, talker(server):
                async with connect(server.url, wait=False) as waits:
                    await Talker(waits).meta("queued")
                    with pytest.raises(Ended, match="all 1 places are taken, and 1 wait") as found:
                        async with connect(server.url):
                            pass
                    assert found.value.code == 1013
                assert server.service.metrics.registry.get_sample_value("duologue_refused_total", {"why": "full"}) == 1

        run(test())

    def test_one_who_leaves_the_queue_frees_the_place(self) -> None:
        async def test() -> None:
            async with running(slots=1) as server, talker(server), connect(server.url, wait=False) as a:
                await Talker(a).meta("queued")
                async with connect(server.url, wait=False) as b:
                    late = Talker(b)
                    assert (await late.meta("queued"))["position"] == 2
                    await a.socket.close()
                    assert (await late.meta("queued"))["position"] == 1

        run(test())

    def test_sound_of_those_who_wait_is_not_heard(self) -> None:
        async def test() -> None:
            async with running(slots=1) as server, talker(server) as one, connect(server.url, wait=False) as b:
                two = Talker(b)
                await two.meta("queued")
                await two.say(noise(1, 1)[0])
                await one.line.socket.close()
                while server.service.sessions.waiting:
                    await asyncio.sleep(0)
                server.clock.advance()
                await two.meta("ready")
                (session,) = server.service.sessions._seated.values()
                assert session.line.ear.counts().buffered == 0

        run(test())


class TestReturning:
    def test_a_lost_line_is_taken_up_where_it_was(self) -> None:
        model, user = bundle(), noise(12, 8)

        async def test() -> None:
            async with running(model) as server:
                async with connect(server.url, {"seed": "5"}) as line:
                    one = Talker(line)
                    for frame in user[:6]:
                        await exchange(server, [one], [frame])
                    token, session = line.ready["resume"], line.ready["session"]
                    cut(line)
                    while server.service.sessions._seated and any(
                        s.connected for s in server.service.sessions._seated.values()
                    ):
                        await asyncio.sleep(0)
                server.clock.advance(5.0)
                server.service.sessions.patrol()
                async with connect(server.url, {"resume": token}) as line:
                    two = Talker(line)
                    assert (line.ready["session"], line.ready["resumed"]) == (session, True)
                    assert line.ready["at"] == pytest.approx(6 * 0.08)
                    for frame in user[6:]:
                        await exchange(server, [two], [frame])
                    heard = np.concatenate((one.heard, two.heard))
                    expected = alone(model, user, replace(Sampling(), text_seed=5, audio_seed=5))[0]
                    np.testing.assert_allclose(to_int16(heard), to_int16(expected), atol=1)

        run(test())

    def test_after_the_grace_the_slot_is_given_away(self) -> None:
        async def test() -> None:
            async with running(slots=1) as server:
                async with connect(server.url) as line:
                    token = line.ready["resume"]
                    cut(line)
                    while server.service.sessions.free == 0 and all(
                        s.connected for s in server.service.sessions._seated.values()
                    ):
                        await asyncio.sleep(0)
                assert server.service.sessions.free == 0
                server.clock.advance(11.0)
                server.service.sessions.patrol()
                assert server.service.sessions.free == 1
                with pytest.raises(Ended, match="no such session to resume"):
                    async with connect(server.url, {"resume": token}):
                        pass

        run(test())

    def test_who_says_goodbye_or_cannot_come_back_frees_the_slot_at_once(self) -> None:
        async def test() -> None:
            async with running(slots=1) as server:
                async with talker(server):
                    pass
                while not server.service.sessions.free:
                    await asyncio.sleep(0)
                async with talker(server, meta="0") as one:
                    cut(one.line)
                    while not server.service.sessions.free:
                        await asyncio.sleep(0)

        run(test())

    def test_a_second_connection_takes_the_session_over(self) -> None:
        async def test() -> None:
            async with (
                running() as server,
                talker(server) as one,
                connect(server.url, {"resume": one.line.ready["resume"]}) as line,
            ):
                assert line.ready["session"] == one.line.ready["session"]
                await one.line.send(build(Kind.SOUND, b"odd"))  # no longer the session's, and cannot end it
                assert "taken up over another connection" in (await ended(one)).reason
                await exchange(server, [Talker(line)], [noise(1, 1)[0]])

        run(test())

    def test_a_wrong_token_resumes_nothing(self) -> None:
        async def test() -> None:
            async with running() as server, talker(server):
                for token in ("guess", "é\udc80".encode("utf-8", "replace").decode(), "a" * 5000):
                    with pytest.raises(Ended, match="no such session"):
                        async with connect(server.url, {"resume": token}):
                            pass

        run(test())


class TestTimes:
    def test_without_sound_a_talk_ends(self) -> None:
        async def test() -> None:
            async with running(limits=Limits(idle=3.0)) as server, talker(server) as one:
                await one.say(noise(1, 1)[0])
                server.clock.advance(2.9)
                server.service.sessions.patrol()
                assert server.service.sessions.free == 1
                server.clock.advance(0.2)
                server.service.sessions.patrol()
                end = await ended(one)
                assert (end.reason, end.code) == ("no sound came for 3 s", 1008)
                assert one.events[-1] == Meta({"type": "end", "reason": "no sound came for 3 s"})
                assert server.service.sessions.free == 2

        run(test())

    def test_a_talk_has_a_longest_length(self) -> None:
        async def test() -> None:
            async with running(limits=Limits(seconds=1.0)) as server, talker(server) as one:
                for _ in range(12):
                    await exchange(server, [one], [noise(1, 1)[0]])
                server.clock.advance(PERIOD)
                server.service.sessions.patrol()
                assert (await ended(one)).reason == "a talk lasts at most 1 s"

        run(test())


class TestDraining:
    def test_talks_go_on_and_nobody_else_comes_in(self) -> None:
        async def test() -> None:
            async with running(slots=1) as server, talker(server) as one, connect(server.url, wait=False) as b:
                waits = Talker(b)
                await waits.meta("queued")
                draining = asyncio.create_task(server.service.sessions.drain(30))
                end = await ended(waits)
                assert (end.reason, end.code) == ("the server is about to stop", 1012)
                with pytest.raises(Ended, match="about to stop"):
                    async with connect(server.url):
                        pass
                await exchange(server, [one], [noise(1, 1)[0]])
                assert not draining.done()
                await one.line.socket.close()
                await draining

        run(test())

    def test_after_the_deadline_talks_are_told_and_end(self) -> None:
        async def test() -> None:
            async with running() as server, talker(server) as one:
                await server.service.sessions.drain(0.01)
                end = await ended(one)
                assert (end.reason, end.code) == ("the server stops", 1012)

        run(test())


def test_a_client_that_does_not_read_loses_sound_then_its_talk() -> None:
    async def test() -> None:
        async with running() as server, talker(server) as one:
            await exchange(server, [one], [noise(1, 1)[0]])
            (session,) = server.service.sessions._seated.values()
            dropped = [session.link.sound(noise(1, 2)[0]) for _ in range(30)]  # while nothing can be sent
            assert dropped == [False] * 25 + [True] * 5
            assert session.link.unsent == 5
            for _ in range(1001):
                session.link.message(build(Kind.TEXT, b"x"))
            server.service.sessions.patrol()
            assert "does not read" in (await ended(one)).reason

    run(test())
