"""Notebooks as pages and as PDF: nbconvert and Chromium do it, without Inkscape and LaTeX."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.lab import CHROMIUM_ARGS, chromium

pytestmark = pytest.mark.browser

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"

PICTURES = """() => [...document.querySelectorAll('.jp-OutputArea img')]
  .map((each) => [each.alt, each.complete && each.naturalWidth > 0, each.getBoundingClientRect().width])"""


def test_notebook_becomes_a_page_and_a_pdf_with_all_its_pictures(tmp_path):
    """Each picture of the notebook is drawn, and fits the page; the PDF has as many pages as the notebook is long."""
    from nbconvert import HTMLExporter
    from playwright.sync_api import sync_playwright

    page_text, _ = HTMLExporter().from_filename(str(NOTEBOOKS / "2_failure_retry_compensation.ipynb"))
    (tmp_path / "notebook.html").write_text(page_text, encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=list(CHROMIUM_ARGS), chromium_sandbox=False
        )
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.route("https://**", lambda route: route.abort())  # MathJax, which it needs not
        page.goto((tmp_path / "notebook.html").as_uri(), wait_until="domcontentloaded")
        pictures = page.evaluate(PICTURES)
        written = page.pdf(path=tmp_path / "notebook.pdf")
        browser.close()

    assert len(pictures) >= 3
    assert all(alt and is_drawn and 100 < wide <= 1000 for alt, is_drawn, wide in pictures), pictures
    assert written.startswith(b"%PDF")
    assert written.count(b"/Type /Page\n") > 2
