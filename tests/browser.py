"""Chromium without a window, driven over its debugging pipe with the real mouse and keyboard events."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--remote-debugging-pipe",
    "--window-size=1280,900",
]
# The pipe's ends must be descriptors 3 and 4 of the browser; a small process puts them there and becomes it.
BECOME = "import os, sys; os.dup2({}, 3); os.dup2({}, 4); os.execv(sys.argv[1], sys.argv[1:])"


class Browser:
    """One page of a Chromium without a window."""

    def __init__(self, profile: Path, *more: str) -> None:
        read_end, self.to_browser = os.pipe()
        self.from_browser, write_end = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (read_end, write_end)]
        command = [sys.executable, "-c", BECOME.format(*ends), CHROMIUM, *OPTIONS, *more, f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            command, pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        for end in (read_end, write_end, *ends):
            os.close(end)
        self.numbers = itertools.count(1)
        self.received = b""
        self.events: list[dict] = []
        self.session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params) -> dict:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive(patience=90)
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append(answer)

    def call_browser(self, method: str, **params) -> dict:
        """A call that is the browser's own and not its page's."""
        session, self.session = self.session, None
        try:
            return self.call(method, **params)
        finally:
            self.session = session

    def receive(self, patience: float = 90) -> dict:
        end = time.monotonic() + patience
        while b"\0" not in self.received:
            ready, _, _ = select.select([self.from_browser], [], [], max(0, end - time.monotonic()))
            chunk = os.read(self.from_browser, 1 << 20) if ready else b""
            assert chunk, "the browser does not answer"
            self.received += chunk
        message, self.received = self.received.split(b"\0", 1)
        return json.loads(message)

    def open(self, url: str) -> None:
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())

    def js(self, expression: str):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait, at most 60 s on a busy machine, until a JavaScript expression is true."""
        done = self.js(
            "new Promise((resolve) => { const began = performance.now(); const look = () => {"
            f" if ({condition}) resolve(true); else if (performance.now() - began > 60000) resolve(false);"
            " else setTimeout(look, 10); }; look(); })"
        )
        assert done, f"never true: {condition}"

    def click(self, element: str, across: float = 0.5) -> None:
        """Click the element that a JavaScript expression gives, `across` of its width from its left.

        Cards that come into view are built and push others down, so the place is asked for until it stays.
        """
        x, y = self.js(
            f"(async () => {{ const e = {element}; let old = null;"
            " const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));"
            " for (let still = 0; still < 3; ) { e.scrollIntoView({block: 'center'}); await frame(); await frame();"
            f" const b = e.getBoundingClientRect(), at = [b.left + b.width * {across}, b.top + b.height / 2];"
            " still = old && at[0] === old[0] && at[1] === old[1] ? still + 1 : 0; old = at; }"
            " return old; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, **more) -> None:
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def complaints(self) -> list[dict]:
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [event for event in self.events if event.get("method") in kinds]

    def close(self) -> None:
        # No waiting for an answer: the pipe may be gone before it is written.
        message = json.dumps({"id": next(self.numbers), "method": "Browser.close"}).encode() + b"\0"
        with contextlib.suppress(BrokenPipeError):
            os.write(self.to_browser, message)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)  # the group that start_new_session made: it and its helpers
            self.process.wait()
        os.close(self.to_browser)
        os.close(self.from_browser)
