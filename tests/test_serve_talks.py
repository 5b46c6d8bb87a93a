"""Talks over the server: what is heard is what the engine says, whoever else is there."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from duologue.client.connection import Text, connect
from duologue.client.sound import to_int16
from duologue.engine.sampling import Sampling
from serving import SPELLING, Talker, alone, bundle, exchange, noise, running, talker

SEEDED = {"seed": "5", "format": "pcm"}
SAMPLING = replace(Sampling(), text_seed=5, audio_seed=5)


def run(test: object) -> None:
    asyncio.run(asyncio.wait_for(test, 60))  # type: ignore[arg-type]


def assert_same(heard: np.ndarray, expected: np.ndarray) -> None:
    """Equal as 16 bit, but for the last of them."""
    assert heard.shape == expected.shape
    assert np.abs(to_int16(heard).astype(int) - to_int16(expected).astype(int)).max() <= 1
    assert np.abs(expected).max() > 0.01


def test_what_is_heard_is_what_the_engine_says() -> None:
    model, user = bundle(), noise(12, 1)

    async def test() -> None:
        async with running(model) as server, talker(server, **SEEDED) as one:
            for frame in user:
                await exchange(server, [one], [frame])
            await one.sync()
            sound, tokens = alone(model, user, SAMPLING)
            assert np.array_equal(to_int16(one.heard), to_int16(sound))
            said = [SPELLING.piece(t) for t in tokens if t >= 0 and t not in SPELLING.silent]
            assert [e.piece for e in one.events if isinstance(e, Text)] == said

    run(test())


def test_talks_beside_each_other_are_each_as_if_alone() -> None:
    """The second joins while the first talks, and talks on when the first has left and a third has come."""
    model = bundle()
    users = [noise(60, seed) for seed in (1, 2, 3)]
    samplings = [replace(SAMPLING, text_seed=s, audio_seed=s) for s in (1, 2, 3)]

    async def test() -> None:
        async with running(model) as server:
            heard, spoken = [], 0
            async with talker(server, seed="2", text_temperature="0.9", audio_topk="5") as second:
                for other in (0, 2):
                    opening = connect(server.url, {"seed": str(other + 1)})
                    joining = asyncio.ensure_future(opening.__aenter__())
                    while not (await asyncio.wait({joining}, timeout=0.02))[0]:
                        await exchange(server, [second], [users[1][spoken]])
                        spoken += 1
                    guest = Talker(joining.result())
                    for n in range(4):
                        await exchange(server, [guest, second], [users[other][n], users[1][spoken]])
                        spoken += 1
                    await opening.__aexit__(None, None, None)
                    heard.append((guest.heard, users[other][:4], samplings[other], 1))
                own = replace(samplings[1], text_temperature=0.9, audio_top_k=5)
                heard.append((second.heard, users[1][:spoken], own, 0))
            for sound, user, sampling, slot in heard:
                assert_same(sound, alone(model, user, sampling, slot=slot)[0])

    run(test())


def test_a_prompt_that_is_read_in_pieces_is_the_engine_s() -> None:
    model, user, prompt = bundle(), noise(6, 4), "Be brief and kind."

    async def test() -> None:
        async with running(model) as server:
            for _ in range(2):  # read, then copied
                async with talker(server, **SEEDED, text_prompt=prompt) as one:
                    for frame in user:
                        await exchange(server, [one], [frame])
                    assert_same(one.heard, alone(model, user, SAMPLING, text=prompt)[0])
                await server.settle()

    run(test())


def test_opus_is_heard_too() -> None:
    async def test() -> None:
        async with running() as server, talker(server, seed="5") as one, talker(server, format="opus") as two:
            for frame in noise(8, 6) * 0.2:
                await exchange(server, [one, two], [frame, frame])
            assert two.line.ready["format"] == "opus"
            assert two.heard.shape == (8, 1920)
            assert np.abs(two.heard[3:]).max() > 0.01

    run(test())


@pytest.mark.parametrize("meta", ["0", "1"])
def test_metadata_comes_only_if_it_is_asked_for(meta: str) -> None:
    async def test() -> None:
        async with running() as server, talker(server, meta=meta, seed="7", text_temperature="0.5") as one:
            for frame in noise(12, 6):
                await exchange(server, [one], [frame])
            await one.sync()
            kinds = {getattr(e, "value", {}).get("type") for e in one.events} - {None}
            if meta == "0":
                assert one.line.ready == {}
                assert not kinds
                return
            assert one.line.ready["settings"]["text_seed"] == 7
            assert one.line.ready["settings"]["text_temperature"] == 0.5
            assert (one.line.ready["rate"], one.line.ready["frame"], one.line.ready["resumed"]) == (24000, 1920, False)
            stats = next(e.value for e in one.events if getattr(e, "value", {}).get("type") == "stats")
            assert (stats["frames"], stats["dropped_ms"], stats["starved_ms"]) == (12, 0, 0)
            words = [e.value for e in one.events if getattr(e, "value", {}).get("type") == "words"]
            assert [w["piece"] for w in words] == [e.piece for e in one.events if isinstance(e, Text)]
            assert all(w["at"] == pytest.approx((w["frame"] + 1) * 0.08) for w in words)

    run(test())
