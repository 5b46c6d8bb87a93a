"""A server in this process whose time stands still until a test lets it go on: no test sleeps."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aiohttp.test_utils import TestServer

from duologue.client.connection import Connection, Event, Meta, Pong, Sound, connect
from duologue.client.sound import Samples, to_int16
from duologue.engine.bundle import Bundle, load
from duologue.engine.duplex import Duplex
from duologue.engine.prompts import Prompter, Voice, tones
from duologue.engine.sampling import Sampling
from duologue.model.text import TextTokenizer
from duologue.serve.metrics import Metrics
from duologue.serve.recording import Archive
from duologue.serve.scheduler import Scheduler
from duologue.serve.security import Addresses, Guard
from duologue.serve.server import make_app
from duologue.serve.service import Service
from duologue.serve.sessions import Limits, Sessions

FRAME, PERIOD = 1920, 0.08
SPELLING = TextTokenizer(
    lambda text: [5 + byte % 100 for byte in text.encode()], tuple(b" w%d" % i for i in range(128)), prefix=True
)
"""Every id is a word."""


class StepClock:
    """Time that goes on when a test says so."""

    def __init__(self) -> None:
        self._now = 100.0
        self._until: float | None = None

    def now(self) -> float:
        return self._now

    def wait(self, until: float | None, wake: threading.Event) -> None:
        self._until = math.inf if until is None else until - 1e-9
        while self._now < self._until and not wake.wait(0.0005):
            pass
        self._until = None

    def advance(self, seconds: float = PERIOD) -> None:
        self._now += seconds

    async def quiet(self) -> None:
        """Wait until whoever waits has to wait longer."""
        while self._until is None or self._until <= self._now:
            await asyncio.sleep(0.0005)


def bundle(text: TextTokenizer | None = SPELLING) -> Bundle:
    return replace(load("random:tiny@3", device="cpu"), text=text)


@dataclass
class Running:
    """A server for tests."""

    url: str
    service: Service
    clock: StepClock
    server: TestServer

    async def settle(self) -> None:
        """Let the loop run what is due."""
        for _ in range(5):
            await asyncio.sleep(0)


@asynccontextmanager
async def running(
    model: Bundle | None = None, *, slots: int = 2, limits: Limits | None = None, guard: Guard | None = None,
    record: Path | None = None, connections: int = 100, loaded: bool = True, uploads: bool = True,
) -> AsyncIterator[Running]:  # fmt: skip
    clock, metrics = StepClock(), Metrics()
    archive = None
    if record is not None:
        archive = Archive(record, FRAME, lambda: {"model": "tiny"}, metrics.recordings.inc)
    sessions = Sessions(limits or Limits(), metrics, clock.now, archive)
    service = Service(
        guard=guard or Guard(), sessions=sessions, metrics=metrics, clock=clock, addresses=Addresses(connections),
        records=archive is not None, model="tiny", uploads=uploads,
    )  # fmt: skip
    scheduler = None
    if loaded:
        model = model or bundle()
        scheduler = make_scheduler(model, slots, service)
    server = TestServer(make_app(service))
    await server.start_server()
    try:
        if scheduler is not None and model is not None:
            service.begin(model, scheduler)
            scheduler.start(1)
        yield Running(f"http://127.0.0.1:{server.port}", service, clock, server)
    finally:
        if scheduler is not None:
            await asyncio.to_thread(scheduler.stop)
        await server.close()
        service.close()


def make_scheduler(model: Bundle, slots: int, service: Service) -> Scheduler:
    codec = model.need_codec()
    duplex = Duplex(model.lm, codec, slots)
    prompter = Prompter(duplex.engine, tones(codec, kyutai=False), model.need_text)
    return Scheduler(duplex, prompter, Sampling(), service.metrics, service.sessions.post, clock=service.clock, piece=4)


def noise(frames: int, seed: int) -> Samples:
    """Sound [frames, FRAME] that 16 bit hold exactly."""
    sound = 0.3 * np.random.default_rng(seed).standard_normal((frames, FRAME))
    return to_int16(sound.astype(np.float32)).astype(np.float32) / np.float32(32768)


class Talker:
    """A client that keeps what it is told, and knows when the server has read what it said."""

    def __init__(self, line: Connection) -> None:
        self.line = line
        self.sounds: list[Samples] = []
        self.events: list[Event] = []

    async def say(self, frame: Samples) -> None:
        """Say something, and wait until the server has it."""
        await self.line.say(frame)
        await self.sync()

    async def sync(self) -> None:
        await self.line.ping(b"now")
        while not isinstance(event := await self.next(), Pong):
            assert event is not None

    async def next(self) -> Event | None:
        event = await asyncio.wait_for(self.line.receive(), 60)
        if isinstance(event, Sound):
            self.sounds.append(event.samples)
        elif event is not None:
            self.events.append(event)
        return event

    async def hear(self, frames: int = 1) -> None:
        """Wait for so many frames more."""
        wanted = len(self.sounds) + frames
        while len(self.sounds) < wanted:
            await self.next()

    async def meta(self, kind: str) -> dict[str, Any]:
        """Wait for metadata of a kind."""
        while True:
            event = await self.next()
            if isinstance(event, Meta) and event.value["type"] == kind:
                return event.value

    @property
    def heard(self) -> Samples:
        return np.stack(self.sounds)


def cut(line: Connection) -> None:
    """Cut the line without a word."""
    line.socket._writer.transport.abort()


async def exchange(server: Running, talkers: Iterable[Talker], frames: Iterable[Samples]) -> None:
    """One frame of everybody."""
    talkers = list(talkers)
    await server.clock.quiet()
    for talker, frame in zip(talkers, frames, strict=True):
        await talker.say(frame)
    server.clock.advance()
    for talker in talkers:
        await talker.hear()


@asynccontextmanager
async def talker(server: Running, **query: str) -> AsyncIterator[Talker]:
    """A client that has its handshake; time goes on while it waits for it."""
    opening = connect(server.url, query)
    joining = asyncio.ensure_future(opening.__aenter__())
    while not (await asyncio.wait({joining}, timeout=0.02))[0]:
        server.clock.advance()
        await server.clock.quiet()
    line = joining.result()
    try:
        yield Talker(line)
    finally:
        await opening.__aexit__(None, None, None)


def alone(
    model: Bundle, frames: Samples, sampling: Sampling, *, slots: int = 2, slot: int = 0, text: str = "",
    voice: Voice | None = None,
) -> tuple[Samples, list[int]]:  # fmt: skip
    """What the engine says without a server: sound [T, FRAME] and text tokens."""
    codec = model.need_codec()
    duplex = Duplex(model.lm, codec, slots)
    state = duplex.initial_state(Sampling())
    prompter = Prompter(duplex.engine, tones(codec, kyutai=False), model.need_text)
    prompter.apply(state.engine, slot, text, voice)
    duplex.engine.set_sampling(state.engine, slot, sampling)
    sounds, tokens = [], []
    for frame in frames:
        given = torch.zeros(slots, FRAME)
        given[slot] = torch.from_numpy(frame)
        got = duplex.step(state, given, [i == slot for i in range(slots)])
        sounds.append(got.sound[slot].numpy().copy())
        tokens.append(int(got.tokens[slot, 0]))
    return np.stack(sounds), tokens
