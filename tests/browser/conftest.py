"""A browser, and pages in it that fail their test if they fetch anything or report an error."""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Where screenshots are left, for somebody to look at.
SCREENSHOTS = os.environ.get("CYMLP_SCREENSHOTS")


@pytest.fixture(scope="session")
def launch():
    """Return a function that starts a browser; options are those of Playwright."""
    chromium = os.environ.get("CYMLP_CHROMIUM") or next(
        filter(None, map(shutil.which, NAMES)), None
    )
    if not chromium:
        pytest.fail("no Chromium: install it, or name one in CYMLP_CHROMIUM")
    # Its sandbox does not start for root, who needs none here: the pages are our own.
    arguments = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        yield partial(playwright.chromium.launch, executable_path=chromium, args=arguments)


@pytest.fixture(scope="session")
def browser(launch):
    browser = launch()
    yield browser
    browser.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Return a function that opens the page of a trace, or HTML; options are those of a context."""
    opened, complaints = [], []

    def open_it(trace, *, width=1280, height=900, html=None, **options):
        path = tmp_path / f"page{len(opened)}.html"
        if html is None:
            trace.to_html(path)
        else:
            path.write_text(html, encoding="utf-8")
        viewport = {"width": width, "height": height}
        context = browser.new_context(viewport=viewport, offline=True, **options)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url == path.as_uri()
                else complaints.append(f"fetches {request.url}")
            ),
        )
        page.goto(path.as_uri())
        opened.append(context)
        return page

    yield open_it
    for context in opened:
        context.close()
    assert not complaints, complaints


@pytest.fixture
def look(request):
    """Return a function that leaves a screenshot of a page, if somebody wants to look."""

    def save(page, name, **options):
        if SCREENSHOTS:
            folder = Path(SCREENSHOTS)
            folder.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=folder / f"{name}.png", **options)

    return save
