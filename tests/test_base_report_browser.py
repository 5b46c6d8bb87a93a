"""The report page in a real browser: it loads without complaint, plays, seeks, mutes, filters and sorts.

Chromium is driven over its debugging pipe with the real mouse and keyboard events; without Chromium these are skipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from browser import Browser, needs_chromium
from duologue.base.charts import histogram
from duologue.base.report import Bracket, Cell, Figure, Lane, Mark, Page, Sample, Span, Table, write_report

pytestmark = needs_chromium

RATE = 44_100
HOSTILE = "</script><img src=x onerror=\"window.broken='text'\"><b>bold</b>"


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
    browser.open(report.as_uri())
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
    browser.open(report.as_uri())
    browser.js("location.hash = '#sample-s%2030'")
    browser.until("cards[30].built && Math.abs(cards[30].root.getBoundingClientRect().top) < 100")


def test_remark_of_a_cell_is_shown_at_its_focus(page):
    page.js("document.querySelector('.tip').focus()")
    assert page.js("[tooltip.hidden, tooltip.textContent]") == [False, "a remark"]
