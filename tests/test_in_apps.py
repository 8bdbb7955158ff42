"""The shop in web apps, under real servers of real frameworks that are killed, stopped and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator import SQLiteJournal
from tests.drivers import eventually

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
COMMANDS = {
    "in_fastapi": ["uvicorn", "--workers", "2", "--port", "{port}", "examples.in_apps.in_fastapi:app"],
    "in_flask": ["gunicorn", "--workers", "2", "--preload", "-b", "127.0.0.1:{port}", "examples.in_apps.in_flask:app"],
    "in_django": ["gunicorn", "--workers", "2", "-b", "127.0.0.1:{port}", "examples.in_apps.in_django:application"],
}
ORDER = {"item": "lamp", "cents": 4200}


class Shop:
    """The shop in server processes, and the requests that its services received."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.processes: list[subprocess.Popen[bytes]] = []

    def open(self) -> None:
        """Start the server, and the daemon beside it where the server has none; wait until it answers."""
        command = [word.format(port=self.port) for word in COMMANDS[self.kind]]
        self._start("-m", *command)
        if self.kind != "in_fastapi":
            self._start(
                "-c",
                "from fsm_mediator.cli import main; main()",
                "serve",
                "--app",
                f"examples.in_apps.{self.kind}:mediator",
            )
        eventually(self._answers)

    def _start(self, *words: str) -> None:
        environment = {**os.environ, "SHOP_FOLDER": str(self.folder)}
        with (self.folder / f"{len(self.processes)}.log").open("w") as log:
            started = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(started)

    def _answers(self) -> bool:
        for number, process in enumerate(self.processes):
            assert process.poll() is None, (self.folder / f"{number}.log").read_text()
        if len(self.processes) > 1 and "serving" not in (self.folder / "1.log").read_text():
            return False
        try:
            return self.ask("GET", "nobody")[0] == 404
        except (ConnectionError, urllib.error.URLError):
            return False

    def kill(self) -> None:
        """Send SIGKILL to every process."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()

    def stop(self) -> list[int]:
        """Send SIGTERM, as a deployment does; return the exit codes."""
        for process in self.processes:
            process.terminate()
        codes = [process.wait(60) for process in self.processes]
        self.processes.clear()
        return codes

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request; return the status and the body of the response."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/orders/{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def wait_for(self, order_id: str, state: str) -> None:
        """Wait until an order is in a state."""
        eventually(lambda: self.state(order_id) == state)

    def state(self, order_id: str) -> str:
        """The state of an order, as the web app reports it."""
        status, body = self.ask("GET", order_id)
        assert status == 200, body
        return str(body["state"])

    @property
    def requests(self) -> list[tuple[str, str]]:
        """The requests that the services accepted and did not cancel: the saga's id, and the request."""
        with contextlib.closing(sqlite3.connect(self.folder / "services.db")) as db:
            rows = db.execute("SELECT key, request FROM requests ORDER BY rowid").fetchall()
        return [(key.partition(":")[0], request) for key, request in rows]


@pytest.fixture(params=COMMANDS)
def shop(request, tmp_path) -> Iterator[Shop]:
    """The shop on each framework, not yet started; killed at the end."""
    made = Shop(request.param, tmp_path)
    if request.param == "in_django":  # as `manage.py migrate` does
        code = (
            "from examples.in_apps.in_django import Purchase\nfrom django.db import connection\n"
            "with connection.schema_editor() as editor: editor.create_model(Purchase)"
        )
        environment = {**os.environ, "SHOP_FOLDER": str(tmp_path)}
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    yield made
    made.kill()
    for log in tmp_path.glob("[0-9].log"):
        assert "Traceback" not in log.read_text(), log.read_text()


def test_an_order_from_the_web(shop):
    """An order is placed, approved and shipped; repeated requests change nothing; errors have fitting HTTP statuses."""
    shop.open()
    assert shop.ask("PUT", "o-1", {"item": "lamp"})[0] == 422
    assert shop.ask("PUT", "o:1", ORDER)[0] == 422
    assert shop.ask("PUT", "o-1", ORDER)[0] == 202
    assert shop.ask("PUT", "o-1", ORDER)[0] == 202
    status, body = shop.ask("PUT", "o-1", {**ORDER, "cents": 1})
    assert (status, "another payload" in body["error"]) == (409, True)
    shop.wait_for("o-1", "waiting.approval")

    assert shop.ask("POST", "o-1/approval?approved=true")[0] == 202
    assert shop.ask("POST", "o-1/approval?approved=true")[0] == 202
    assert shop.ask("POST", "o-1/approval?approved=false")[0] == 409
    shop.wait_for("o-1", "succeeded")
    assert shop.ask("DELETE", "o-1")[0] == 409
    assert shop.requests == [("o-1", "reserve lamp"), ("o-1", "charge 4200"), ("o-1", "ship lamp")]

    shop.ask("PUT", "o-2", ORDER)
    shop.ask("PUT", "o-3", ORDER)
    shop.ask("POST", "o-3/approval?approved=false")
    assert shop.ask("DELETE", "o-2")[0] == 202
    for order_id in ("o-2", "o-3"):
        shop.wait_for(order_id, "failed")
        assert (order_id, "reserve lamp") not in shop.requests


def test_an_order_survives_its_server(shop):
    """Orders accepted right before a SIGKILL reach their approval after a restart, and each is shipped once."""
    shop.open()
    for number in range(5):
        assert shop.ask("PUT", f"o-{number}", ORDER)[0] == 202
    shop.kill()
    shop.open()
    for number in range(5):
        shop.wait_for(f"o-{number}", "waiting.approval")
        shop.ask("POST", f"o-{number}/approval?approved=true")
    for number in range(5):
        shop.wait_for(f"o-{number}", "succeeded")
        assert shop.requests.count((f"o-{number}", "ship lamp")) == 1


def test_a_deployment_releases_every_execution(shop):
    """SIGTERM ends each process with exit code 0, and the journal has no owner for any execution."""
    shop.open()
    for number in range(5):
        shop.ask("PUT", f"o-{number}", ORDER)
    assert set(shop.stop()) <= {0}
    journal = SQLiteJournal(shop.folder / "orders.db", read_only=True)
    entries = list(journal.entries())
    assert len(entries) == 5
    owned = [(entry.saga_id, entry.state, str(entry.driver)) for entry in entries if entry.driver is not None]
    assert owned == [], [log.read_text() for log in shop.folder.glob("[0-9].log")]
    journal.close()


def test_committed_order_without_saga_is_started_once(tmp_path):
    """If a Django process ends between the commit of a row and the start of its saga, a timer starts the saga once."""
    code = """
        from django.db import connection
        from examples.in_apps.in_django import Purchase, mediator, start_missing_sagas
        with connection.schema_editor() as editor:
            editor.create_model(Purchase)
        Purchase.objects.create(order_id="o-1", item="lamp", cents=5)
        start_missing_sagas()
        assert mediator.wait("o-1", check=False).state == "waiting.approval"
        start_missing_sagas()
        mediator.signal("o-1", "approval", True)
        assert mediator.wait("o-1").succeeded
        assert Purchase.objects.get(order_id="o-1").paid
    """
    environment = {**os.environ, "SHOP_FOLDER": str(tmp_path)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, env=environment, check=True, timeout=60)
    assert Shop("in_django", tmp_path).requests[0] == ("o-1", "reserve lamp")


def test_page_shows_the_tested_files():
    """docs/embedding.md contains each file of the example, unchanged."""
    page = (ROOT / "docs/embedding.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "examples/in_apps").glob("*.py")):
        if path.name != "__init__.py":
            assert f"```python\n{path.read_text(encoding='utf-8')}```\n" in page, path.name
