"""A real marimo in a real headless Chromium: started with a notebook, and stopped by its process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.lab import CHROMIUM_ARGS, PATIENCE, chromium, end, free_port, wait_until_it_answers

if TYPE_CHECKING:
    from playwright.sync_api import Page, Playwright


@contextmanager
def marimo(playwright: Playwright, cells: Sequence[str], home: Path) -> Iterator[Page]:
    """A page of marimo with a notebook of these cells, none of which is run yet. Nothing comes from another host."""
    asked_for: list[str] = []
    with server(cells, home) as url:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=list(CHROMIUM_ARGS), chromium_sandbox=False
        )
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.set_default_timeout(PATIENCE * 1000)
            page.on("request", lambda asked: asked_for.append(asked.url))
            page.goto(url)
            page.locator(".cm-content").nth(len(cells) - 1).wait_for()
            yield page
        finally:
            browser.close()
    assert [each for each in asked_for if not each.startswith((url, "data:", "blob:"))] == []


def run_all(page: Page) -> None:
    """Run all cells, and do not wait for them."""
    page.get_by_test_id("run-button").last.click()  # the last one is that of the whole notebook


@contextmanager
def server(cells: Sequence[str], home: Path) -> Iterator[str]:
    """A marimo over a notebook of these cells: its address. It is ended by its process id, its kernel with it."""
    body = "".join(f"@app.cell\ndef _():\n{_indented(cell)}\n    return\n\n\n" for cell in cells)
    notebook = home / "notebook.py"
    notebook.write_text(f"import marimo\n\napp = marimo.App()\n\n\n{body}", encoding="utf-8")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    places = {
        name: str(home / name) for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
    }
    options = ["--headless", "--no-token", "--skip-update-check", "--host=127.0.0.1", f"--port={port}"]
    log = home / "marimo.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "marimo", "edit", *options, notebook.name],
            env={**os.environ, "HOME": str(home), **places},
            cwd=home,
            stdout=output,
            stderr=output,
        )
        try:
            wait_until_it_answers(process, f"{url}/health", log)
            yield url
        finally:
            end(process)


def _indented(cell: str) -> str:
    return "\n".join(f"    {line}" for line in cell.splitlines())
