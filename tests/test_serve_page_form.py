"""The page's settings, and whether everybody can reach them: keyboard, phone, screen reader, less motion."""

from __future__ import annotations

import json

import numpy as np
import soundfile

from browser import Browser, needs_chromium
from page_server import RATE
from page_talk import SAID, STATE, choose, start, talk, visit

pytestmark = needs_chromium
pytest_plugins = ["page_fixtures"]


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


def test_a_browser_that_never_begins_to_play_is_told_of(page, server):
    page.js("AudioContext.prototype.resume = () => new Promise(() => {})")
    start(page)
    page.until(f"{STATE} === 'ended'")
    assert "connect a loudspeaker" in page.js(SAID)
    assert server.calls == []


def test_nano_is_called_a_demonstration(page, server):
    server.info["model"] = "nano"
    visit(page, server)
    assert "demonstration model" in page.js("document.getElementById('demonstration').innerText")


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
