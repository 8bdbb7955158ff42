"""A real JupyterLab in a real headless Chromium: started, pointed at a notebook, stopped by its process.

Nothing may be fetched from anywhere but the server itself; what tried is kept in `Lab.strangers`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Playwright, Route

CHROMIUM_ARGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",  # CI is root, and the pages are our own
)
PATIENCE = 60.0
"""Seconds until a server that does not answer, or a page that does not show what it should, is a failure."""


@attrs.define(slots=False)  # playwright keeps a mark on whoever handles its events
class Lab:
    """A JupyterLab and a browser.

    Attributes:
        folder: Where its notebooks are.
        url: Its address.
        token: What it asks for.
        browser: The browser's context.
        strangers: Addresses other than the server's that any page asked for.
    """

    folder: Path
    url: str
    token: str
    browser: BrowserContext
    strangers: list[str] = attrs.field(factory=list)

    def open(self, name: str, cells: Sequence[str] = (), *, wait_for_kernel: bool = True) -> Page:
        """Open the notebook *name*; *cells* are written into it first."""
        if cells:
            (self.folder / name).write_text(json.dumps(notebook(cells)), encoding="utf-8")
        page = self.browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.route("**/*", self._at_home)
        page.goto(f"{self.url}/doc/tree/{name}?token={self.token}&reset")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        if wait_for_kernel:
            page.get_by_text("| Idle").wait_for()
        return page

    def run_all(self, page: Page, *, wait: bool = True) -> None:
        """Run all cells of an open notebook, and wait for them, or only until they are begun."""
        from playwright.sync_api import TimeoutError as NothingHappenedError

        prompts = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map((prompt) => prompt.textContent)"
        page.locator(".jp-Notebook .jp-Cell").first.click(position={"x": 3, "y": 3})
        for _ in range(5):  # what is run before the page has reached its kernel is lost: then run it again
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_text("Run All Cells", exact=True).click()
            try:
                page.wait_for_function(f"() => {prompts}.every((text) => text !== '[ ]:')", timeout=3000)
            except NothingHappenedError:
                continue
            break
        if not wait:
            return
        page.wait_for_function(f"() => {prompts}.every((text) => /\\[\\d+\\]:/.test(text))")

    def _at_home(self, route: Route) -> None:
        if route.request.url.startswith((self.url, "data:", "blob:")):
            route.continue_()
        else:
            self.strangers.append(route.request.url)
            route.abort()


def notebook(cells: Sequence[str]) -> dict[str, object]:
    """A notebook of code cells."""
    made: list[dict[str, object]] = [
        {"cell_type": "code", "id": f"cell-{n}", "source": cell, "metadata": {}, "outputs": [], "execution_count": None}
        for n, cell in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


@contextmanager
def lab(playwright: Playwright, folder: Path, home: Path, *, without: str | None = None) -> Iterator[Lab]:
    """A JupyterLab over *folder* and a browser, both new and with all their files under *home*.

    Args:
        playwright: What drives the browser.
        folder: Where its notebooks are.
        home: Where all else is that they write.
        without: An extension of JupyterLab that is to be disabled.
    """
    write(
        home / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings",
        {"fetchNews": "false", "checkForUpdates": False},
    )
    # Else only the cells on the screen are in the page.
    write(home / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings", {"windowingMode": "none"})
    if without is not None:
        write(home / "config/labconfig/page_config.json", {"disabledExtensions": {without: True}})
    with server(folder, home) as (url, token):
        browser = playwright.chromium.launch_persistent_context(
            home / "chromium",
            executable_path=chromium(),
            args=list(CHROMIUM_ARGS),
            chromium_sandbox=False,
            color_scheme="light",
            viewport={"width": 1280, "height": 1000},
        )
        try:
            yield Lab(folder, url, token, browser)
        finally:
            browser.close()


def write(path: Path, values: dict[str, object]) -> None:
    """Write a file of settings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def chromium() -> str:
    """Where Chromium is."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise RuntimeError("no Chromium on the PATH; on Debian: apt-get install chromium")
    return found


@contextmanager
def server(folder: Path, home: Path) -> Iterator[tuple[str, str]]:
    """A JupyterLab over *folder*: its address and its token. It is ended by its process id, its kernels with it."""
    port, token = free_port(), secrets.token_hex(16)
    url = f"http://127.0.0.1:{port}"
    for name in ("config", "data", "runtime", "ipython", "workspaces", "settings"):
        (home / name).mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }
    options = [
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={token}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
        "--ServerApp.terminals_enabled=False",
    ]
    log = home / "jupyterlab.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, cwd=folder, stdout=output, stderr=output
        )
        try:
            wait_until_it_answers(process, f"{url}/api/status?token={token}", log)
            yield url, token
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server by its process id."""
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until a server answers at *url*; its log is shown if it does not."""
    for _ in range(int(PATIENCE / 0.2)):
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own server
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            continue
        break
    raise RuntimeError(f"the server does not answer:\n{log.read_text(errors='replace')[-4000:]}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
