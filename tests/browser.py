"""A real Chromium for tests of pages, by Playwright; and what went wrong on a page."""

import os
import shutil
import time
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 120_000  # of every wait: a busy machine is slow, not wrong


def find_chromium():
    """Path of Chromium; without one the test is skipped, or fails where CI must have it."""
    named = os.environ.get("DGL_CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = f"no Chromium: neither DGL_CHROMIUM nor {', '.join(NAMES)} on PATH (Debian: apt-get install chromium)"
        if os.environ.get("DGL_CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def browser():
    """The browser, as long as it is needed."""
    path = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def page_of(opened, width=1366, height=768, colours="light", expected=()):
    """A fresh page; afterwards its console must hold no error (but those with a text of `expected`), and no foreign request."""
    context = opened.new_context(viewport={"width": width, "height": height}, color_scheme=colours, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    wrong, asked = [], []
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    try:
        yield page
        assert [w for w in wrong if not any(text in w for text in expected)] == []
        assert {url.split("/")[2] for url in asked if url.startswith("http")} <= {page.url.split("/")[2]}
    finally:
        context.close()


def until(page, expression):
    """Waits until a JavaScript expression holds. From outside: the page's policy lets no text be run as a script in it."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never: {expression}"
        page.wait_for_timeout(20)
