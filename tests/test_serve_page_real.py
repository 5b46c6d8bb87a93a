"""The page and the real server, with a tiny model of random weights."""

from __future__ import annotations

import asyncio
import threading

import pytest

from browser import needs_chromium
from page_talk import SAID, TALK, choose, start, talk, visit

pytestmark = needs_chromium
pytest_plugins = ["page_fixtures"]


class RealServer:
    """The real server with a tiny model of random weights, in a thread, in real time."""

    def __init__(self) -> None:
        pytest.importorskip("prometheus_client")
        from aiohttp import web

        from duologue.serve.clock import SystemClock
        from duologue.serve.metrics import Metrics
        from duologue.serve.security import Addresses, Guard
        from duologue.serve.server import make_app
        from duologue.serve.service import Service
        from duologue.serve.sessions import Limits, Sessions
        from serving import bundle, make_scheduler

        clock, metrics = SystemClock(), Metrics()
        sessions = Sessions(Limits(), metrics, clock.now, None)
        self.service = Service(
            guard=Guard(), sessions=sessions, metrics=metrics, clock=clock, addresses=Addresses(100), records=False,
            model="tiny", uploads=True,
        )  # fmt: skip
        model = bundle()
        self.scheduler = make_scheduler(model, 1, self.service)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

        async def serve() -> int:
            self.runner = web.AppRunner(make_app(self.service), shutdown_timeout=0.1)
            await self.runner.setup()
            await web.TCPSite(self.runner, "localhost", 0).start()
            self.service.begin(model, self.scheduler)
            self.scheduler.start(1)
            return self.runner.addresses[0][1]

        self.url = f"http://localhost:{self.run(serve())}/"

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.scheduler.stop()
        self.run(self.runner.cleanup())
        self.service.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.mark.parametrize("form", ["opus", "pcm"])
def test_the_real_server_is_heard_and_its_words_are_seen(browser, form):
    real = RealServer()
    try:
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
    finally:
        real.close()
