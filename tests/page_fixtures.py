"""Fixtures of the page's tests: a browser whose microphone plays a file, a scripted server, the page opened."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from browser import Browser
from page_server import PageServer
from page_talk import visit


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
