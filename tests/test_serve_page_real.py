"""The page and the real server, with a tiny model of random weights."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from aiohttp import web

from browser import needs_chromium
from duologue.serve.clock import SystemClock
from duologue.serve.metrics import Metrics
from duologue.serve.security import Addresses, Guard
from duologue.serve.server import make_app
from duologue.serve.service import Service
from duologue.serve.sessions import Limits, Sessions
from page_talk import SAID, STATE, TALK, choose, start, talk, visit
from serving import bundle, make_scheduler

pytestmark = needs_chromium
pytest_plugins = ["page_fixtures"]


class RealServer:
    """The real server with a tiny model of random weights, in a thread, in real time, behind a line that can break."""

    def __init__(self) -> None:
        clock, metrics = SystemClock(), Metrics()
        self.service = Service(
            guard=Guard(), sessions=Sessions(Limits(), metrics, clock.now, None), metrics=metrics, clock=clock,
            addresses=Addresses(100), records=False, model="tiny", uploads=True,
        )  # fmt: skip
        self.model = bundle()
        self.scheduler = make_scheduler(self.model, 1, self.service)
        self.lines: set[asyncio.StreamWriter] = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.url = f"http://localhost:{self.run(self.serve())}/"

    async def serve(self) -> int:
        self.runner = web.AppRunner(make_app(self.service), shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "localhost", 0).start()
        self.service.begin(self.model, self.scheduler)
        self.scheduler.start(1)
        self.line = await asyncio.start_server(self.pass_on, "localhost", 0)
        return self.line.sockets[0].getsockname()[1]

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("localhost", self.runner.addresses[0][1])
        self.lines |= {writer, far_writer}
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    async def cut(self) -> None:
        """Break all connections, without a word to either end."""
        for writer in self.lines:
            writer.transport.abort()
        self.lines.clear()

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def end(self) -> None:
        self.line.close()
        await self.cut()
        await self.runner.cleanup()

    def close(self) -> None:
        self.scheduler.stop()
        self.run(self.end())
        self.service.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
def real():
    made = RealServer()
    yield made
    made.close()


@pytest.mark.parametrize("form", ["opus", "pcm"])
def test_the_real_server_is_heard_and_its_words_are_seen(browser, real, form):
    visit(browser, real)
    choose(browser, "prompt", "You are kind.")
    talk(browser, form)
    browser.until("page.timeline.voices.agent.peaks.some((peak) => peak > 0.001)")
    browser.until("page.timeline.words.length > 2")
    browser.until(f"{TALK}.numbers.late !== undefined")
    assert browser.js(f"{TALK}.info.format") == form
    start(browser)
    browser.until(f"{SAID} === 'Ended: you hung up'")
    assert browser.complaints() == []
    browser.call("Page.navigate", url="about:blank")


def test_the_real_server_goes_on_with_a_talk_whose_line_broke(browser, real):
    visit(browser, real)
    talk(browser)
    browser.until("page.timeline.words.length > 2")
    session = browser.js(f"{TALK}.info.session")
    real.run(real.cut())
    browser.until(f"{TALK}.counts.lost === 1 && {STATE} === 'talking'")
    assert browser.js(f"[{TALK}.info.session, {TALK}.info.resumed]") == [session, True]
    before = browser.js(f"{TALK}.zero")
    assert before > 0
    browser.until(f"{TALK}.recording.words.at(-1).start > {before}")
    start(browser)
    browser.until(f"{SAID} === 'Ended: you hung up'")
    browser.call("Page.navigate", url="about:blank")
