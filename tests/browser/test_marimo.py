"""The explorer in a real marimo, in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.marimo_lab import marimo, run_all
from tests.browser.sagas import LOST

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_explorers_buttons_play_in_marimo(tmp_path):
    """Each button that is pressed is the next moment, and the picture moves to it."""
    from playwright.sync_api import sync_playwright

    imports = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom tests.browser.sagas import checkout, explore"
    with sync_playwright() as playwright, marimo(playwright, [f"{imports}\nexplore(checkout())"], tmp_path) as page:
        run_all(page)
        found = page.locator(".fsm-explorer")
        for label in LOST:
            found.locator(f"button[data-choice={label!r}]").click()
            found.locator(".fsm-said", has_text=label).wait_for()

        assert found.locator(".fsm-picture g.node.current").get_attribute("id") == "probing.charge"
