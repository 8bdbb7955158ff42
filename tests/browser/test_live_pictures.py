"""Pictures that move, in a real JupyterLab and in a real marimo, as a person sees them."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest

from fsm_mediator import Mediator
from tests.browser.lab import PATIENCE, lab
from tests.browser.marimo_lab import marimo, run_all
from tests.browser.sagas import trip

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parent.parent.parent
IMPORTS = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom tests.browser.sagas import AsyncMediator, Mediator, trip"
)
ADMITTED = "mediator.enqueue('trip', saga_id='t-1')"


@pytest.fixture(scope="module")
def playwright():
    """What drives browsers."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as made:
        yield made


@pytest.fixture(params=["JupyterLab", "marimo"])
def notebook(request, playwright, tmp_path):
    """Opens a notebook of these cells, begins to run them all, and gives its page."""

    @contextmanager
    def open_lab(cells):
        with lab(playwright, tmp_path, tmp_path / "home") as place:
            page = place.open("live.ipynb", cells)
            place.run_all(page, wait=False)
            yield page
        assert place.strangers == []

    @contextmanager
    def open_marimo(cells):
        home = tmp_path / "home"
        home.mkdir()
        with marimo(playwright, cells, home) as page:
            run_all(page)
            yield page

    return open_lab if request.param == "JupyterLab" else open_marimo


def shows(page, state, motion):
    """Wait until the picture is in this state, and its marked node too."""
    found = page.locator(f".fsm-live[data-state={state!r}][data-motion={motion!r}]")
    found.wait_for()
    assert found.locator("g.node.current").get_attribute("id") == state
    return found


def test_the_picture_moves_while_a_cell_runs(notebook, tmp_path):
    """The kernel is busy with the saga all the while; the picture above shows each step when it begins."""
    cells = [
        f"{IMPORTS}\nmediator = Mediator(trip({str(tmp_path)!r}), journal={str(tmp_path / 'sagas.db')!r})\n{ADMITTED}",
        "watch = mediator.watch('t-1', poll=0.05)\nwatch",
        "watch\nwith mediator.daemon(poll=0.05):\n    print(mediator.wait('t-1').state, 'at last')",
    ]
    with notebook(cells) as page:
        shows(page, "executing.pack", "moving")
        assert page.get_by_text("succeeded at last").count() == 0
        (tmp_path / "pack").touch()
        shows(page, "executing.fly", "moving")
        (tmp_path / "fly").touch()
        found = shows(page, "succeeded", "ended")

        assert "t-1: succeeded" in found.get_by_role("status").inner_text()
        page.get_by_text("succeeded at last", exact=True).wait_for()


def test_the_picture_moves_when_another_process_drives(notebook, tmp_path):
    """The notebook only watches, with an asynchronous mediator; this process drives."""
    path = tmp_path / "sagas.db"
    with Mediator(trip(tmp_path), journal=path) as mediator:
        mediator.enqueue("trip", saga_id="t-1")
        cells = [
            f"{IMPORTS}\nmediator = AsyncMediator(trip({str(tmp_path)!r}), journal={str(path)!r})",
            "mediator.watch('t-1', poll=0.05)",
        ]
        with notebook(cells) as page:
            shows(page, "pending", "moving")
            with mediator.daemon(poll=0.05):
                shows(page, "executing.pack", "moving")
                (tmp_path / "pack").touch()
                shows(page, "executing.fly", "moving")
                (tmp_path / "fly").touch()
                shows(page, "succeeded", "ended")


def test_a_cell_that_runs_again_leaves_no_thread_behind(notebook, tmp_path):
    """The page takes the old picture away, and says so; then only the new one is followed."""
    followed = "[each.name for each in threading.enumerate()].count('fsm-mediator-live')"
    cells = [
        f"{IMPORTS}\nimport threading\nmediator = Mediator(trip({str(tmp_path)!r}))\n{ADMITTED}\nmade = []",
        "made.append(mediator.watch('t-1', poll=0.05))\nmade[-1]",
        f"print('made', len(made), 'followed', {followed})",
    ]
    from playwright.sync_api import TimeoutError as NotYetError

    with notebook(cells) as page:
        shows(page, "pending", "moving")
        page.get_by_text("made 1 followed 1", exact=True).wait_for()

        def run(number):
            page.locator(".cm-content").nth(number).click()
            page.keyboard.press("Control+Enter")

        for number in (2, 3):
            run(1)
            for _ in range(int(PATIENCE)):
                run(2)
                try:
                    page.get_by_text(f"made {number} followed 1", exact=True).wait_for(timeout=1000)
                except NotYetError:
                    continue
                break
            else:
                raise AssertionError(page.get_by_text("made ").all_inner_texts())
