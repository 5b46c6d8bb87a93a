"""The page of `duologue serve` in a real browser, with a microphone that plays a file, against a scripted server."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading

import numpy as np
import pytest
import soundfile

from browser import Browser, needs_chromium
from page_server import FRAME, RATE, PageServer

pytestmark = needs_chromium

STATE = "document.body.dataset.state"
TALK = "window.page.conversation"
SAID = "document.getElementById('state-text').textContent"


HUMMED = f"{TALK}.said > {3.2 * RATE}"
"""The page has sent sound for so long that the user's hum is among it."""


def spoken_file(folder) -> str:
    """A user who hums from 1 to 3 s of every 4 s."""
    time = np.arange(48_000 * 2) / 48_000
    sound = np.zeros(48_000 * 4, np.float32)
    sound[48_000:-48_000] = 0.4 * np.sin(2 * np.pi * 150 * time) * np.abs(np.sin(2 * np.pi * 1.7 * time)) ** 0.5
    soundfile.write(folder / "user.wav", sound, 48_000)
    return str(folder / "user.wav")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    made = Browser(folder / "profile", *fake, f"--use-file-for-fake-audio-capture={spoken_file(folder)}")
    yield made
    made.close()


@pytest.fixture
def server():
    made = PageServer()
    yield made
    made.close()


@pytest.fixture
def page(browser, server) -> Browser:
    visit(browser, server)
    yield browser
    # What the browser itself says of a line that was cut is no fault of the page.
    said = [event["params"] for event in browser.complaints()]
    assert [one for one in said if "WebSocket" not in json.dumps(one)] == []
    browser.call("Page.navigate", url="about:blank")


def visit(browser: Browser, server: PageServer) -> None:
    browser.open(server.url)
    browser.js("import('/app.js').then(({ page }) => { window.page = page; })")
    browser.until("document.body.dataset.loaded !== undefined")


def choose(page: Browser, field: str, value: str) -> None:
    page.js(
        f"(() => {{ const e = document.getElementById('{field}'); e.value = {json.dumps(value)};"
        " e.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def start(page: Browser) -> None:
    page.click("document.getElementById('start')")


def talk(page: Browser, form: str = "pcm") -> None:
    choose(page, "format", form)
    start(page)
    page.until(f"{STATE} === 'talking'")


def unpack(page: Browser, expression: str) -> bytes:
    """The bytes that a JavaScript expression (a promise of an ArrayBuffer or a Uint8Array) gives."""
    text = page.js(
        f"(async () => {{ const bytes = new Uint8Array(await ({expression})); let text = '';"
        " for (const byte of bytes) text += String.fromCharCode(byte); return btoa(text); })()"
    )
    return base64.b64decode(text)


def loud(server: PageServer) -> bool:
    return bool(np.abs(server.calls[-1].sound()).max(initial=0) > 0.05)


# The conversation


def test_page_loads_idle_and_tells_what_the_server_is(page):
    assert page.js(STATE) == "idle"
    assert "scripted, 4 places" in page.js("document.getElementById('about').textContent")
    assert page.js("document.getElementById('mute').disabled") is True
    assert page.js("document.getElementById('demonstration').hidden") is True
    assert page.js("[...document.getElementById('voice').options].map((o) => o.value)") == ["", "joe", "amy"]
    assert page.complaints() == []


@pytest.mark.parametrize("form", ["opus", "pcm"])
def test_both_are_heard_and_words_are_seen(page, server, form):
    talk(page, form)
    page.until(HUMMED)
    page.until("page.timeline.voices.agent.peaks.some((peak) => peak > 0.1)")  # levels of what the player put out
    page.until("document.getElementById('transcript').innerText.includes('so tell me all about it')")
    assert server.calls[0].query["format"] == form
    assert loud(server)
    assert "hardly noticeable" in page.js("document.getElementById('verdict').textContent")


def test_words_are_shown_when_they_are_heard(page):
    talk(page)
    page.until("page.timeline.words.length > 4")
    times = page.js("page.timeline.words.map(({ time }) => time - page.timeline.words[0].time)")
    starts = page.js(f"{TALK}.recording.words.map(({{ start }}) => start)")
    assert starts[:4] == pytest.approx([0.08, 0.48, 0.88, 1.28])
    assert times[:4] == pytest.approx([0, 0.4, 0.8, 1.2], abs=0.12)  # it may have run dry between two
    held = page.js(f"{TALK}.zero + {TALK}.frame + ({TALK}.came / {RATE})")
    assert page.js(f"{TALK}.recording.words.at(-1).start") <= held


def test_the_user_can_talk_into_the_agent_and_it_shows(page):
    talk(page)
    both = "Object.values(page.timeline.voices).every((voice) => voice.speaks(bin))"
    page.until(f"page.timeline.voices.user.bins.some((bin) => {both})")
    page.js(
        "page.bands = 0; const draw = page.timeline.drawBand; page.timeline.drawBand = (...ends) => {"
        " page.bands += 1; draw.apply(page.timeline, ends); }"
    )
    page.until("page.bands > 0")


def test_mute_sends_silence_and_keeps_the_clock(page, server):
    talk(page)
    page.until(HUMMED)
    page.click("document.getElementById('mute')")
    assert page.js("document.getElementById('mute').getAttribute('aria-pressed')") == "true"
    page.js("window.from = page.conversation.said + 4800")
    page.until(f"{TALK}.said > window.from + {4.5 * RATE}")  # a whole round of the file
    sound = server.calls[0].sound()[int(page.js("window.from")) :]
    assert len(sound) > 4 * RATE
    assert not sound.any()
    page.press("m", text="m")
    assert page.js("document.getElementById('mute').textContent") == "Mute"


def test_sound_and_words_can_be_saved_on_one_clock(page, server):
    talk(page)
    page.until(HUMMED)
    start(page)
    page.until(f"{STATE} === 'ended'")
    wav, rate = soundfile.read(io.BytesIO(unpack(page, f"{TALK}.recording.wav().arrayBuffer()")), always_2d=True)
    assert rate == RATE
    heard = server.calls[0].sound()
    count = min(len(heard), len(wav))
    np.testing.assert_allclose(wav[:count, 1], heard[:count], atol=1e-4)
    time = np.arange(RATE) / RATE
    hum = 0.3 * np.sin(2 * np.pi * 220 * time) * np.abs(np.sin(2 * np.pi * 2 * time))
    np.testing.assert_allclose(wav[FRAME : FRAME + RATE, 0], hum, atol=1e-4)  # heard one frame after it was asked for
    said = json.loads(unpack(page, f"{TALK}.recording.json({{}}).arrayBuffer()"))
    assert [word["word"] for word in said["agent"]["words"][:5]] == ["so", "tell", "me", "all", "about"]
    assert said["seconds"] == pytest.approx(len(wav) / RATE, abs=0.001)


def completed(event: dict) -> bool:
    return event.get("method") == "Browser.downloadProgress" and event["params"]["state"] == "completed"


def test_silence_that_stood_in_for_the_user_moves_his_sound_on(page, server):
    server.stats |= {"starved_ms": 480, "dropped_ms": 80, "late_ms": 90}
    talk(page)
    page.until(f"{TALK}.shift > 0")
    assert page.js(f"{TALK}.shift") == pytest.approx(0.4)
    page.until("document.querySelector('#meter .warn') !== null")
    assert "90 ms late" in page.js("document.getElementById('meter').textContent")
    page.until("document.getElementById('verdict').textContent.includes('the server cannot keep up')")
    gap = page.js(
        f"(() => {{ const ends = {TALK}.recording.user; return Math.max(...ends.slice(1).map((piece, index) =>"
        " piece.at - ends[index].at - ends[index].samples.length)); })()"
    )
    assert gap == pytest.approx(0.4 * RATE, abs=1)


def test_files_are_offered_for_download(browser, page, tmp_path):
    browser.call_browser(
        "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), eventsEnabled=True
    )
    talk(page)
    page.until("page.timeline.words.length > 1")
    for button, ending in (("save-sound", ".wav"), ("save-words", ".json")):
        browser.events.clear()
        page.until(f"!document.getElementById('{button}').disabled")
        page.click(f"document.getElementById('{button}')")
        while not any(completed(event) for event in browser.events):
            browser.events.append(browser.receive())
        (file,) = tmp_path.glob(f"duologue-*{ending}")
        assert file.stat().st_size > 100
    assert json.loads(file.read_text())["made"]["model"] == "scripted"


# States


def test_waiting_is_told_in_words(page, server):
    server.queue, server.hold = [3, 1], True
    choose(page, "prompt", "You enjoy having a good conversation.")
    start(page)
    page.until(f"{SAID} === 'Waiting for a place: third in line'")
    server.go.set()
    page.until(f"{SAID} === 'Waiting for a place: next in line'")
    assert server.calls[0].sound().size == 0
    server.go.set()
    page.until(f"{SAID} === 'The server reads the prompt'")
    server.go.set()
    page.until(f"{STATE} === 'talking'")


@pytest.mark.parametrize(("code", "reason"), [(1008, "text_topk=-1 is too small"), (1013, "all places are taken")])
def test_refusals_are_repeated_and_end_it(page, server, code, reason):
    server.refuse = (code, reason)
    start(page)
    page.until(f"{SAID} === 'Ended: {reason}'")
    assert page.js("document.getElementById('start').textContent") == "Start talking"
    server.refuse = None
    start(page)
    page.until(f"{STATE} === 'talking'")


def test_a_lost_line_is_taken_up_where_it_was(page, server):
    talk(page)
    page.until(HUMMED)
    server.stop()
    page.until(f"{STATE} === 'lost'")
    assert "Connection lost" in page.js(SAID)
    frames = server.calls[0].frames
    server.start()
    page.until(f"{STATE} === 'talking'")
    assert server.calls[1].query["resume"] == "T"
    assert page.js(f"{TALK}.zero") == pytest.approx(frames * 0.08)
    assert page.js(f"{TALK}.recording.sessions.length") == 1
    page.until(f"{TALK}.came > {RATE}")
    page.until(f"{TALK}.recording.words.at(-1).start > {frames * 0.08 + 0.5}")


def test_a_server_that_forgot_begins_anew_and_the_page_says_so(page, server):
    talk(page)
    page.until(HUMMED)
    server.remembers = False
    server.stop()
    page.until(f"{STATE} === 'lost'")
    server.start()
    page.until(f"{STATE} === 'talking'")
    page.until("document.getElementById('note').textContent.includes('did not remember')")
    assert "resume" not in server.calls[-1].query
    sessions = page.js(f"{TALK}.recording.sessions")
    assert len(sessions) == 2
    assert sessions[1]["from"] >= 3.2
    page.until(f"{TALK}.recording.end > {sessions[1]['from'] + 1}")


def test_opus_that_fails_goes_on_as_pcm_in_the_same_session(page, server):
    talk(page, "opus")
    page.until("page.timeline.words.length > 1")
    page.js(f"{TALK}.codecFailed(new Error('no more'))")
    page.until(f"{STATE} === 'talking' && {TALK}.info.format === 'pcm'")
    assert [call.query.get("resume") for call in server.calls] == [None, "T"]
    assert page.js(f"{TALK}.recording.sessions.length") == 1
    came = page.js(f"{TALK}.recording.words.length")
    page.until(f"{TALK}.recording.words.length > {came + 2}")
    assert "going on with PCM" in page.js("document.getElementById('note').textContent")


def test_a_line_that_is_silent_is_taken_for_lost(page, server):
    talk(page)
    page.until("page.timeline.words.length > 1")
    page.js(f"{TALK}.line.now = () => performance.now() + 11000")
    page.js(f"{TALK}.line.watch()")
    page.until(f"{STATE} === 'talking' && {TALK}.counts.lost === 1")
    assert server.calls[1].query["resume"] == "T"
    page.until(f"{TALK}.line.left === null")


def test_a_server_that_restarts_is_waited_for(page, server):
    server.refuse = (1012, "the server restarts")
    start(page)
    page.until(f"{STATE} === 'lost'")
    server.refuse = None
    page.until(f"{STATE} === 'talking'")


def test_a_refused_start_leaves_the_last_conversation_to_be_saved(page, server):
    talk(page)
    page.until("page.timeline.words.length > 1 && !document.getElementById('save-sound').disabled")
    start(page)
    server.refuse = (1013, "all places are taken")
    start(page)
    page.until(f"{SAID} === 'Ended: all places are taken'")
    assert page.js("page.shown !== page.conversation && page.shown.recording.words.length > 1")
    assert page.js("document.getElementById('transcript').innerText").startswith("0:00\nso tell")
    assert page.js("document.getElementById('save-sound').disabled") is False


def test_hanging_up_closes_the_line_and_the_microphone(page, server):
    talk(page)
    start(page)
    page.until(f"{SAID} === 'Ended: you hung up'")
    assert page.js(f"{TALK}.sound.input.getTracks()[0].readyState") == "ended"
    assert page.js(f"{TALK}.sound.context.state") == "closed"
    assert page.js("document.body.hasAttribute('data-failed')") is False


# Settings


def test_wishes_reach_the_server(page, server):
    server.info |= {"record": True, "auth": True, "upload": True}
    visit(page, server)
    for field, value in {"prompt": " Be kind. ", "voice": "amy", "text_temperature": "0.4", "audio_seed": "7"}.items():
        choose(page, field, value)
    start(page)
    assert page.js(STATE) == "idle", "a token is demanded"
    choose(page, "token", "secret")
    page.click("document.getElementById('consent')")
    talk(page)
    wanted = {"text_prompt": "Be kind.", "voice_prompt": "amy", "text_temperature": "0.4", "audio_seed": "7",
              "token": "secret", "record": "1", "format": "pcm", "meta": "1"}  # fmt: skip
    assert server.calls[-1].query == wanted


def test_a_change_while_talking_can_be_taken_up_at_once(page, server):
    talk(page)
    choose(page, "text_topk", "5")
    page.click("document.getElementById('anew')")
    page.until(f"{STATE} === 'talking' && document.getElementById('anew').hidden")
    assert [call.query.get("text_topk") for call in server.calls] == [None, "5"]


def test_a_number_out_of_range_is_shown(page, server):
    choose(page, "text_temperature", "-3")
    start(page)
    assert page.js("document.activeElement.id") == "text_temperature"
    assert server.calls == []


def upload(page: Browser, file) -> None:
    soundfile.write(file, np.zeros(2400), RATE)
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#upload")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])


def test_a_voice_can_be_uploaded(page, server, tmp_path):
    server.info |= {"upload": True, "auth": True}
    visit(page, server)
    choose(page, "token", "secret")
    upload(page, tmp_path / "mine.wav")
    page.until("document.getElementById('voice').value === 'uploaded-1'")
    assert server.uploaded == [(tmp_path / "mine.wav").read_bytes()]
    assert server.tokens == ["Bearer secret"]
    talk(page)
    assert server.calls[-1].query["voice_prompt"] == "uploaded-1"


def test_a_voice_that_is_refused_is_told_why(browser, server, tmp_path):
    server.info |= {"upload": True}
    server.no_voice = "too long: 90 s"
    visit(browser, server)
    upload(browser, tmp_path / "mine.wav")
    browser.until("document.getElementById('upload-help').textContent === 'Not taken: too long: 90 s'")
    assert browser.js("document.getElementById('voice').value") == ""


def test_a_server_that_loads_is_waited_for(page, server):
    server.info |= {"ready": False, "slots": 0, "voices": []}
    visit(page, server)
    assert page.js(SAID) == "The server loads its model"
    assert page.js("document.getElementById('start').disabled") is True
    server.info |= {"ready": True, "slots": 1}
    page.until("!document.getElementById('start').disabled")
    assert "one place" in page.js("document.getElementById('about').textContent")


def test_a_token_in_the_address_is_taken_and_hidden(page, server):
    server.info["auth"] = True
    page.call("Page.navigate", url="about:blank")
    page.open(f"{server.url}#token=secret")
    page.until("document.body.dataset.loaded !== undefined")
    assert page.js("document.getElementById('token').value") == "secret"
    assert page.js("location.href") == server.url


def test_a_microphone_that_is_not_allowed_is_told_how_to_allow(page, server):
    denied = {"name": "NotAllowedError", "message": ""}
    page.js(f"navigator.mediaDevices.getUserMedia = () => Promise.reject({json.dumps(denied)})")
    start(page)
    page.until(f"{STATE} === 'ended'")
    assert "allow it for this page" in page.js(SAID)
    assert server.calls == []


def test_nano_is_called_a_demonstration(page, server):
    server.info["model"] = "nano"
    visit(page, server)
    assert "demonstration model" in page.js("document.getElementById('demonstration').innerText")


# Reach


def test_all_can_be_done_by_keyboard(page, server):
    reached = []
    for _ in range(30):
        page.press("Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(page.js("document.activeElement.id || document.activeElement.tagName"))
        if page.js("document.activeElement === document.body"):
            break
    assert reached[:4] == ["start", "transcript", "prompt", "voice"]
    page.js("document.getElementById('start').focus()")
    assert page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    page.until(f"{STATE} === 'talking'")
    page.js("document.activeElement.blur()")
    muted = "document.getElementById('mute').getAttribute('aria-pressed')"
    page.press(" ", text=" ")
    assert page.js(muted) == "true"
    page.press("m", text="m")
    assert page.js(muted) == "false"
    page.js("document.getElementById('prompt').focus()")
    page.press("m", text="m")
    page.press(" ", text=" ")
    assert page.js(muted) == "false"
    assert page.js("document.getElementById('prompt').value") == "m "
    page.js("document.getElementById('start').focus()")
    page.press("Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    page.until(f"{STATE} === 'ended'")


def test_every_control_has_a_name(page):
    nameless = page.js(
        "[...document.querySelectorAll('button, input:not([hidden]), select, textarea')]"
        ".filter((e) => !e.labels?.length && !e.textContent.trim() && !e.ariaLabel).map((e) => e.id)"
    )
    assert nameless == []


def test_page_is_no_wider_than_a_phone(page):
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    try:
        page.js("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
        page.until("innerWidth === 360")
        assert page.js("document.documentElement.scrollWidth") == 360
        talk(page)
        page.until("page.timeline.words.length > 1")
        assert page.js("document.documentElement.scrollWidth") == 360
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def test_less_motion_is_a_standing_picture(page):
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    try:
        assert page.js("page.timeline.still.matches") is True
        talk(page)
        page.until("page.timeline.words.length > 1")
        assert page.js("getComputedStyle(document.querySelector('.lamp')).animationName") == "none"
    finally:
        page.call("Emulation.setEmulatedMedia", features=[])


def test_screen_readers_are_told_whole_paragraphs_only(page, server):
    talk(page)
    page.until("page.timeline.words.length > 2")
    assert page.js("document.getElementById('spoken').children.length") == 0
    server.speaks = False
    page.until("document.getElementById('spoken').children.length === 1")
    assert page.js("document.getElementById('spoken').textContent").startswith("so tell me")
    assert page.js("document.getElementById('spoken').getAttribute('aria-live')") == "polite"


# The server itself


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
