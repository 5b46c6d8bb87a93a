"""The report page in a real browser: it loads without complaint, plays, seeks, mutes, filters and sorts.

Chromium is driven over its debugging pipe with the real mouse and keyboard events; without Chromium these are skipped.
"""

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

import numpy as np
import pytest

from duologue.base.charts import histogram
from duologue.base.report import Bracket, Cell, Figure, Lane, Mark, Page, Sample, Span, Table, write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")

RATE = 44_100
HOSTILE = "</script><img src=x onerror=\"window.broken='text'\"><b>bold</b>"
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

    def __init__(self, profile: Path) -> None:
        read_end, self.to_browser = os.pipe()
        self.from_browser, write_end = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (read_end, write_end)]
        command = [sys.executable, "-c", BECOME.format(*ends), CHROMIUM, *OPTIONS, f"--user-data-dir={profile}"]
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

    def receive(self, patience: float = 30) -> dict:
        end = time.monotonic() + patience
        while b"\0" not in self.received:
            ready, _, _ = select.select([self.from_browser], [], [], max(0, end - time.monotonic()))
            chunk = os.read(self.from_browser, 1 << 20) if ready else b""
            assert chunk, "the browser does not answer"
            self.received += chunk
        message, self.received = self.received.split(b"\0", 1)
        return json.loads(message)

    def open(self, path: Path) -> None:
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
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


def clicks() -> tuple[np.ndarray, int]:
    """The agent (channel 0) beeps from 1 s on, the user (channel 1) from 2 s on, 3 s in all."""
    beep = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(RATE // 10) / RATE)
    audio = np.zeros((2, 3 * RATE), np.float32)
    audio[0, RATE : RATE + len(beep)] = beep
    audio[1, 2 * RATE : 2 * RATE + len(beep)] = beep
    return audio, RATE


def card(index: int) -> Sample:
    words = (("apple" if index == 7 else "pear", 0.5, 0.9), (HOSTILE, 1.0, 1.5))
    return Sample(
        f"s {index}",
        f"{HOSTILE} {index}",
        3.0,
        (
            Lane("user", (Span(2.0, 2.1),), words, wave=1),
            Lane("agent", (Span(1.0, 1.1, label=HOSTILE),), (), wave=0),
        ),
        marks=(Mark(1.0, HOSTILE, "agent"),),
        brackets=(Bracket(2.1, 1.0), Bracket(1.0, 1.4)),
        verdict="good" if index % 3 else HOSTILE,
        status="good" if index % 3 else "bad",
        facts={"latency (s)": None if index == 2 else float(-index), HOSTILE: HOSTILE},
        audio=clicks if index < 2 else None,
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    drawing = histogram([0.1, 0.2], [0, 1], x_label=HOSTILE)
    page = Page(
        HOSTILE,
        tables=(Table("Scores", ("a", "b"), ((HOSTILE, Cell(1.0, "a remark")),)),),
        figures=(Figure("Delays", drawing),),
        samples=[card(index) for index in range(40)],
    )
    return write_report(tmp_path_factory.mktemp("page") / "report.html", page)


@pytest.fixture
def page(browser, report) -> Browser:
    browser.open(report)
    yield browser
    assert browser.complaints() == []


def test_page_loads_without_complaint_and_draws_only_what_is_near(page):
    assert page.complaints() == []
    assert page.js("window.broken") is None
    assert page.js("document.querySelectorAll('img, b b, .card script').length") == 0
    assert page.js("document.querySelectorAll('article').length") == 40
    assert 0 < page.js("cards.filter((card) => card.built).length") < 20
    assert page.js("cards[0].root.querySelector('h3').textContent") == f"{HOSTILE} 0"


def test_page_is_no_wider_than_a_phone(page):
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    page.until("innerWidth === 390 && cards[0].space < 340")
    assert page.js("document.documentElement.scrollWidth") == 390
    page.call("Emulation.clearDeviceMetricsOverride")
    page.until("cards[0].space > 500")


def test_play_moves_the_cursor_and_pause_stops_it(page):
    page.js("cards[0].build()")
    start = page.js("cards[0].cursor.getBoundingClientRect().left")
    page.click("cards[0].playButton")
    page.until("player.playing && cards[0].position > 0.2")
    assert page.js("cards[0].cursor.getBoundingClientRect().left") > start + 5
    assert page.js("cards[0].playButton.getAttribute('aria-label')").startswith("Pause")
    page.click("cards[0].playButton")
    assert page.js("player.playing") is False
    assert page.js("cards[0].clock.textContent") == page.js("`${cards[0].position.toFixed(2)} / 3.00 s`")


def test_sound_lies_where_it_is_drawn(page):
    page.js("cards[1].build()")
    page.click("cards[1].playButton")
    page.until("player.playing")
    starts = page.js(
        "[0, 1].map((channel) => player.buffer.getChannelData(channel).findIndex((v) => Math.abs(v) > 0.1)"
        " / player.buffer.sampleRate)"
    )
    assert starts == pytest.approx([1.0, 2.0], abs=0.001)
    assert page.js("player.buffer.duration") == pytest.approx(3.0, abs=0.001)


def test_playing_another_card_stops_the_first_and_the_end_stops_itself(page):
    page.js("cards[0].build(); cards[1].build(); cards[1].position = 2.8")
    page.click("cards[0].playButton")
    page.until("player.playing && player.card === cards[0]")
    page.click("cards[1].playButton")
    page.until("player.playing && player.card === cards[1]")
    assert page.js("cards[0].playButton.textContent") == "▶"
    page.until("!player.playing")
    assert page.js("cards[1].position") == pytest.approx(3.0, abs=0.01)
    assert page.js("cards[1].playButton.textContent") == "▶"


def test_clicking_the_timeline_seeks(page):
    page.js("cards[0].build()")
    page.click("cards[0].scroller", across=0.5)
    assert page.js("cards[0].position") == pytest.approx(1.5, abs=0.02)
    assert page.js("cards[0].scroller.getAttribute('aria-valuetext')").startswith("1.5")
    page.js("player.play(cards[0])")
    page.click("cards[0].scroller", across=0.8)
    page.until("player.playing && cards[0].position > 2.3")
    page.js("player.pause()")


def test_keys_play_seek_and_zoom(page):
    page.js("cards[0].build(); cards[0].scroller.focus()")
    page.press("ArrowRight")
    page.press("ArrowRight", modifiers=8)
    page.press("ArrowLeft", modifiers=8)
    assert page.js("cards[0].position") == pytest.approx(1.0)
    page.press("End")
    assert page.js("cards[0].position") == pytest.approx(3.0)
    page.press("Home")
    width = page.js("cards[0].inner.offsetWidth")
    page.press("+", text="+")
    assert page.js("cards[0].inner.offsetWidth") == pytest.approx(min(2 * width, 3 * 640), rel=0.05)
    page.press(" ", text=" ")
    page.until("player.playing")
    page.press(" ", text=" ")
    page.until("!player.playing")


def test_mute_and_solo_work_on_the_channels(page):
    page.js("cards[0].build()")
    page.click("cards[0].playButton")
    page.until("player.playing")
    gains = "player.gains.map((gain) => gain.gain.value)"  # channels: agent, user
    assert page.js(gains) == [1, 1]
    page.click("document.querySelector('[aria-label=\"Mute user\"]')")
    assert page.js(gains) == [1, 0]
    assert page.js("document.querySelector('[aria-label=\"Mute user\"]').getAttribute('aria-pressed')") == "true"
    page.click("document.querySelector('[aria-label=\"Hear only user\"]')")
    assert page.js(gains) == [0, 1]
    page.js("player.pause()")


def test_card_without_audio_says_so_and_cannot_be_played(page):
    page.js("cards[5].build()")
    assert page.js("[cards[5].playButton.disabled, cards[5].soundNote.textContent]") == [True, "no audio"]
    page.click("cards[5].scroller", across=0.5)
    assert page.js("cards[5].position") == pytest.approx(1.5, abs=0.02)


def test_brackets_have_a_row_each(page):
    texts = "[...cards[0].root.querySelectorAll('.bracket text')]"
    page.until(f"{texts}.length === 2")
    first, second = page.js(f"{texts}.map((text) => Number(text.getAttribute('y')))")
    assert second >= first + 15


def test_filter_search_and_sort(page):
    shown = "[...document.querySelectorAll('article:not([hidden])')].map((a) => Number(a.id.split(' ')[1]))"
    page.click("document.querySelectorAll('#verdicts button')[1]")  # the first verdict met: that of cards 0, 3, 6 ...
    assert page.js(shown) == list(range(0, 40, 3))
    assert page.js("document.getElementById('count').textContent") == "14 of 40 samples"
    page.click("document.querySelectorAll('#verdicts button')[0]")
    page.js("search.focus()")
    page.call("Input.insertText", text="APPLE")
    assert page.js(shown) == [7]
    page.js("search.value = ''; search.dispatchEvent(new Event('input'))")
    page.js("sort.value = 'latency (s)'; sort.dispatchEvent(new Event('change'))")
    assert page.js(shown) == [*range(39, 2, -1), 1, 0, 2], "what was not measured comes last"
    page.click("order")
    assert page.js(shown) == [0, 1, *range(3, 40), 2]


def test_link_leads_to_its_sample(browser, report):
    browser.open(report)
    browser.js("location.hash = '#sample-s%2030'")
    browser.until("cards[30].built && Math.abs(cards[30].root.getBoundingClientRect().top) < 100")


def test_remark_of_a_cell_is_shown_at_its_focus(page):
    page.js("document.querySelector('.tip').focus()")
    assert page.js("[tooltip.hidden, tooltip.textContent]") == [False, "a remark"]
