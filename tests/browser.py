"""A real browser for the tests of pages, and what they ask of it."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="module")  # while it runs, no other code may start an event loop
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing (extra browser)")
    known = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next((path for path in map(shutil.which, known) if path), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(known)}")
    with sync_api.sync_playwright() as playwright:
        # A root user's Chromium has no sandbox; what it opens is our own page.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, path):
    """The page that a module's fixture `path` wrote, open; fails at its end if anything was complained of or
    asked for."""
    page = browser.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert not said
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    page.close()


def visible(page, selector):
    return page.locator(selector).locator("visible=true")
