"""A talk with the page of `duologue serve`, in a real browser against a scripted server: sound, words, mute, files."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import soundfile

from browser import Browser, needs_chromium
from page_server import FRAME, RATE, PageServer
from page_talk import HUMMED, STATE, TALK, start, talk

pytestmark = needs_chromium
pytest_plugins = ["page_fixtures"]


def unpack(page: Browser, expression: str) -> bytes:
    """The bytes that a JavaScript expression (a promise of an ArrayBuffer or a Uint8Array) gives."""
    text = page.js(
        f"(async () => {{ const bytes = new Uint8Array(await ({expression})); let text = '';"
        " for (const byte of bytes) text += String.fromCharCode(byte); return btoa(text); })()"
    )
    return base64.b64decode(text)


def loud(server: PageServer) -> bool:
    return bool(np.abs(server.calls[-1].sound()).max(initial=0) > 0.05)


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
        f"(() => {{ const {{ blocks }} = {TALK}.recording.user; return Math.max(...blocks.slice(1).map("
        " (block, index) => block.at - blocks[index].at - blocks[index].length)); })()"
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
