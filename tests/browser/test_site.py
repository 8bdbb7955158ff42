"""The documentation in a real browser: no page is wider than its window, on a phone as on a desk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.lab import CHROMIUM_ARGS, chromium

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent.parent
WIDTHS = (390, 800, 1100, 1600)
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def test_no_page_is_wider_than_its_window(tmp_path):
    """Tables, pictures and code scroll within themselves; what is cut off at the edge is read by nobody."""
    from playwright.sync_api import sync_playwright

    words = ["-q", "-b", "html", "-d", str(tmp_path / "doctrees"), "docs", str(tmp_path / "html")]
    subprocess.run([sys.executable, "-m", "sphinx", *words], cwd=ROOT, check=True)
    too_wide = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=list(CHROMIUM_ARGS), chromium_sandbox=False
        )
        page = browser.new_page()
        for path in sorted((tmp_path / "html").glob("*.html")):
            page.goto(path.as_uri(), wait_until="domcontentloaded")
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 800})
                if (by := page.evaluate(WIDER)) > 0:
                    too_wide.append(f"{path.name} at {width} pixels, by {by}")
        browser.close()
    assert too_wide == []
