"""The page's line to its server: waiting, refusals, lines that are lost and taken up."""

from __future__ import annotations

import pytest

from browser import needs_chromium
from page_server import RATE
from page_talk import HUMMED, SAID, STATE, TALK, choose, start, talk

pytestmark = needs_chromium
pytest_plugins = ["page_fixtures"]


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


@pytest.mark.parametrize("told", [True, False])
def test_a_lost_line_is_taken_up_where_it_was(page, server, told):
    server.tells_at = told
    talk(page)
    page.until(HUMMED)
    server.stop()
    page.until(f"{STATE} === 'lost'")
    assert "Connection lost" in page.js(SAID)
    frames = server.calls[0].frames
    server.start()
    page.until(f"{STATE} === 'talking'")
    assert server.calls[1].query["resume"] == "T"
    assert page.js(f"{TALK}.zero") == pytest.approx(frames * 0.08, abs=1e-6 if told else 0.2)
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
