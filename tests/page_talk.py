"""What tests of the page do again and again."""

from __future__ import annotations

import json
from typing import Protocol

from browser import Browser
from page_server import RATE

STATE = "document.body.dataset.state"
TALK = "window.page.conversation"
SAID = "document.getElementById('state-text').textContent"
HUMMED = f"{TALK}.said > {3.2 * RATE}"
"""The page has sent sound for so long that the user's hum is among it."""


class Served(Protocol):
    """A server that has the page."""

    url: str


def visit(browser: Browser, server: Served) -> None:
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
