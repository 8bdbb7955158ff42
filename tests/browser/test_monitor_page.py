"""The operator's page in a real Chromium: two server processes, and a third that drives and is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fsm_mediator import Mediator
from tests.browser.lab import CHROMIUM_ARGS, PATIENCE, chromium, free_port
from tests.browser.monitored import HOSTILE, order
from tests.drivers import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent.parent
ID = f"o-1 {HOSTILE}"[:120].replace("/", "")
BULK = "/bulk?verb=resolve&state=stuck&saga=order&step=charge"
PAGES = ("/", "/runs", "/runs/o-2", "/stuck", BULK, "/machines", "/machines/order/1?verify=1", "/audit")
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Site:
    """The page under two server processes, and the journal behind it.

    Attributes:
        url: Its address.
        browser: The browser.
        strangers: Addresses other than the site's that any page asked for.
    """

    def __init__(self, folder: Path, url: str, browser: Browser) -> None:
        self.folder = folder
        self.url = url
        self.browser = browser
        self.strangers: list[str] = []

    def open(self, path: str, user: str = "anna", **settings: Any) -> Page:
        """Open a page as this user."""
        context = self.browser.new_context(extra_http_headers={"x-user": user}, **settings)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on(
            "request", lambda request: self.strangers.append(request.url) if not self._is_ours(request.url) else None
        )
        page.goto(self.url + path)
        return page

    def _is_ours(self, url: str) -> bool:
        return url.startswith((self.url, "data:", "about:"))

    def drive(self) -> subprocess.Popen[bytes]:
        """Start a process that drives."""
        command = [sys.executable, "-m", "fsm_mediator", "serve", "--app", "tests.browser.monitored:mediator"]
        return subprocess.Popen(command, cwd=ROOT, env=environment(self.folder))

    def mediator(self) -> Mediator:
        """A mediator of this process, on the same journal."""
        return Mediator(order, journal=self.folder / "sagas.db")


def environment(folder: Path) -> dict[str, str]:
    """The environment of the processes."""
    return {**os.environ, "MONITORED_FOLDER": str(folder), "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page, with two executions that are stuck; servers and browser are stopped at the end."""
    from playwright.sync_api import sync_playwright

    folder, port = tmp_path_factory.mktemp("monitored"), free_port()
    with Mediator(order, journal=folder / "sagas.db") as mediator:
        for saga_id in (ID, "o-2", "o-3"):
            mediator.start("order", {"item": HOSTILE}, saga_id=saga_id)
            mediator.signal(saga_id, "approve", True)
        for saga_id in (ID, "o-2", "o-3"):
            eventually(lambda saga_id=saga_id: mediator.outcome(saga_id).stuck)  # type: ignore[misc]
    command = ["-m", "uvicorn", "--workers", "2", "--port", str(port), "tests.browser.monitored:app"]
    log = folder / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment(folder), stdout=output, stderr=output
        )
    try:
        eventually(lambda: answers(f"http://127.0.0.1:{port}/"))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium(), args=list(CHROMIUM_ARGS), chromium_sandbox=False
            )
            yield Site(folder, f"http://127.0.0.1:{port}", browser)
            browser.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)


def answers(url: str) -> bool:
    """Whether the server answers, if only with 403."""
    try:
        urllib.request.urlopen(url, timeout=5)  # noqa: S310 - our own server
    except urllib.error.HTTPError as error:
        return error.code == 403
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


def test_what_is_hostile_runs_nothing(site):
    """An id, a payload and an error that are HTML are shown as text."""
    page = site.open("/stuck")
    page.get_by_role("link", name=ID).click()
    page.get_by_role("heading", name=ID).wait_for()

    assert page.title() != "run"
    assert page.locator("main img").count() == 0
    assert HOSTILE in page.locator("pre").last.inner_text().replace('\\"', '"')


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 390)])
def test_every_page_can_be_read_by_everybody(site, scheme, width):
    """No serious fault for axe-core, nothing wider than the window, no error in the console, no other host."""
    page = site.open("/", color_scheme=scheme, viewport={"width": width, "height": 800})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    for path in PAGES:
        page.goto(site.url + path)
        faults += [f"{path}: {each}" for each in faults_of(page)]
        if (by := page.evaluate(WIDER)) > 0:
            faults.append(f"{path} is wider than the window, by {by}")
        if pictures := os.environ.get("SCREENSHOTS"):
            name = path.strip("/").partition("?")[0].replace("/", "-") or "now"
            page.screenshot(path=f"{pictures}/monitor-{name}-{scheme}.png")

    assert faults == []
    assert site.strangers == []


def faults_of(page: Page) -> list[str]:
    """The serious faults that axe-core finds in a page."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in ("serious", "critical")]


def test_a_page_lives_and_survives_the_death_of_the_driver(site):
    """Another process drives; it is killed, and another one goes on: the page follows by itself."""
    page = site.open("/runs")
    page.locator("#pulse", has_text="●").wait_for()
    driver = site.drive()
    try:
        with site.mediator() as mediator:
            mediator.enqueue("order", {"item": "lamp"}, saga_id="live-1")
        page.get_by_role("row", name="live-1").get_by_text("wait in approve").wait_for()
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        driver = site.drive()
        with site.mediator() as mediator:
            mediator.signal("live-1", "approve", True)
        page.get_by_role("row", name="live-1").get_by_text("stuck").first.wait_for()
    finally:
        driver.terminate()
        driver.wait(timeout=30)


def test_of_two_operators_one_wins(site):
    """Both have the form open; the second is told in which state the execution is."""
    first, second = site.open("/runs/o-2", "anna"), site.open("/runs/o-2", "carl")
    for page in (first, second):
        page.get_by_text("Settle by hand").first.click()
        page.locator(".verbs details[open]").get_by_label("Reason").fill("the bank says so")
    first.get_by_role("button", name="Settle by hand").click()
    first.get_by_text("ship is executed").wait_for()
    second.get_by_role("button", name="Settle by hand").click()
    second.get_by_role("heading", name="Not done").wait_for()

    audit = site.open("/audit")
    assert "anna" in audit.get_by_role("row", name="o-2").inner_text()
    assert "carl" not in audit.locator("main").inner_text()


def test_a_viewer_is_offered_nothing_and_refused(site):
    """Also where a form is sent by hand."""
    page = site.open("/runs/o-3", "ben")
    assert page.get_by_role("button", name="Try again").count() == 0
    answer = page.request.post(
        f"{site.url}/do/retry/o-3", form={"reason": "x"}, headers={"sec-fetch-site": "same-origin", "x-user": "ben"}
    )
    assert answer.status == 403


def test_another_origin_is_refused(site):
    """A page of another site sends the form; the browser says so."""
    page = site.open("/runs/o-3")
    page.goto(
        "data:text/html," + f"<form method=post action='{site.url}/do/retry/o-3'><input name=reason value=x></form>"
    )
    page.evaluate("document.forms[0].submit()")
    page.get_by_text("another site").wait_for()
    with site.mediator() as mediator:
        assert mediator.outcome("o-3").stuck


def test_slider_keys_and_clicks_work(site):
    """And without JavaScript the same page is reached by a button."""
    page = site.open("/runs/o-3")
    page.locator("[data-slider]").fill("1")
    page.get_by_text("1 of 4", exact=True).wait_for()
    page.locator("#machine .node#reserve").first.click()
    page.get_by_role("link", name="All records").wait_for()
    assert "state=reserve" in page.url

    page = site.open("/runs")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/*")
    page.keyboard.press("/")
    page.keyboard.type("o-2")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs?id=o-2")

    plain = site.open("/runs/o-3?at=1", java_script_enabled=False)
    plain.get_by_text("1 of 4", exact=True).wait_for()
    plain.get_by_text("Try again").first.click()
    plain.get_by_role("button", name="Try again").wait_for()


def test_alert_is_acknowledged_on_the_page_of_its_execution(site):
    """By a button, with a reason; then the page says by whom, and the button is gone for everybody."""
    page = site.open("/runs/o-3")
    page.get_by_text("Acknowledge", exact=True).first.click()
    page.locator(".verbs details[open]").get_by_label("Reason").fill("the bank knows")
    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_text("Its alerts were acknowledged by anna").wait_for()
    page.get_by_role("listitem").filter(has_text="by anna: the bank knows").wait_for()

    assert faults_of(page) == []
    assert page.get_by_role("button", name="Acknowledge").count() == 0
    assert site.open("/runs/o-3", "ben").get_by_role("button", name="Acknowledge").count() == 0


def test_all_of_a_group_are_retried_and_followed(site):
    """From Stuck to the batch: its page fills itself, whichever process serves it; the audit leads back to it."""
    page = site.open("/stuck")
    page.get_by_role("link", name="Retry all").click()
    page.get_by_label("Reason").fill("the bank is back")
    page.get_by_role("button", name="Confirm: retry").click()
    page.wait_for_url("**/batches/*")
    page.get_by_text(", 0 left.").wait_for()
    assert faults_of(page) == []
    assert page.get_by_role("button", name="Go on").count() == 0
    batch = page.url.rpartition("/")[2]

    page.goto(site.url + "/audit")
    row = page.get_by_role("row", name=batch)
    assert all(words in row.inner_text() for words in ("anna", "retry:", "the bank is back"))
    row.get_by_role("link", name=batch).click()
    page.get_by_role("heading", name="Retry").wait_for()
    if pictures := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{pictures}/monitor-batch-light.png")
