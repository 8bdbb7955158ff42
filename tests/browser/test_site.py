"""The documentation in a real browser: no page is wider than its window, in light and dark, and its search answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import CHROMIUM_ARGS, chromium

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent.parent
WIDTHS = (390, 800, 1100, 1600)
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
FAINT = """() => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const page = light(getComputedStyle(document.body).backgroundColor);
  const text = light(getComputedStyle(document.querySelector('article p')).color);
  return (Math.max(page, text) + 0.05) / (Math.min(page, text) + 0.05) < 4.5;
}"""
"""Whether the text of a page has less contrast than WCAG 2.1 asks for."""


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built."""
    folder = tmp_path_factory.mktemp("site")
    words = ["-q", "-b", "html", "-d", str(folder / "doctrees"), "docs", str(folder / "html")]
    subprocess.run([sys.executable, "-m", "sphinx", *words], cwd=ROOT, check=True)
    return folder / "html"


@pytest.fixture
def browser() -> Iterator[Any]:
    """A browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium(), args=list(CHROMIUM_ARGS), chromium_sandbox=False
        )
        yield started
        started.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_its_window(html, browser, scheme):
    """Tables, pictures and code scroll within themselves; what is cut off at the edge is read by nobody."""
    page = browser.new_page(color_scheme=scheme)
    wrong = []
    for path in sorted(html.glob("*.html")):
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            if (by := page.evaluate(WIDER)) > 0:
                wrong.append(f"{path.name} at {width} pixels, by {by}")
        if page.locator("article p").count() and page.evaluate(FAINT):
            wrong.append(f"{path.name}: the text is faint in {scheme}")
    assert wrong == []


@pytest.mark.parametrize(("word", "page"), [("timeout", "timeouts"), ("CLI", "operating"), ("Postgres", "scaling")])
def test_search_leads_to_the_page(html, browser, word, page):
    """I type a word into the search, and the first result is the page that answers."""
    tab = browser.new_page()
    tab.goto(f"{(html / 'search.html').as_uri()}?q={word}")
    first = tab.locator("#search-results ul.search > li > a").first
    first.wait_for()

    assert first.get_attribute("href").partition("#")[0] == f"{page}.html"
