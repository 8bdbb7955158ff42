"""The shop in web apps: real servers of real frameworks, killed, stopped and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
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
    """The shop, served by processes of its own, and what its services were told."""

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
        """SIGKILL to every process of it: nobody has time for anything."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()

    def stop(self) -> list[int]:
        """SIGTERM, as whoever deploys sends it; how each process ended."""
        for process in self.processes:
            process.terminate()
        codes = [process.wait(60) for process in self.processes]
        self.processes.clear()
        return codes

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the body of an answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/orders/{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def comes_to(self, order_id: str, state: str) -> None:
        """Wait until an order stands there."""
        eventually(lambda: self.state(order_id) == state)

    def state(self, order_id: str) -> str:
        """Where an order stands, asked over the web."""
        status, told = self.ask("GET", order_id)
        assert status == 200, told
        return str(told["state"])

    @property
    def services(self) -> list[str]:
        """What the services were told, without the keys."""
        log = self.folder / "services.log"
        return [line.partition(" under ")[0] for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture(params=COMMANDS)
def shop(request, tmp_path) -> Iterator[Shop]:
    """The shop on each framework, closed; killed at the end."""
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
    """Placed, approved and shipped; what is repeated does nothing, what is wrong is told with the status that fits."""
    shop.open()
    assert shop.ask("PUT", "o-1", {"item": "lamp"})[0] == 422
    assert shop.ask("PUT", "o-1", ORDER)[0] == 202
    assert shop.ask("PUT", "o-1", ORDER)[0] == 202
    status, told = shop.ask("PUT", "o-1", {**ORDER, "cents": 1})
    assert (status, "another payload" in told["error"]) == (409, True)
    shop.comes_to("o-1", "waiting.approval")

    assert shop.ask("POST", "o-1/approval?yes=true")[0] == 202
    assert shop.ask("POST", "o-1/approval?yes=true")[0] == 202
    assert shop.ask("POST", "o-1/approval?yes=false")[0] == 409
    shop.comes_to("o-1", "succeeded")
    assert shop.ask("DELETE", "o-1")[0] == 409
    assert shop.services == ["reserve lamp", "charge 4200 for o-1", "ship lamp for o-1"]

    shop.ask("PUT", "o-2", ORDER)
    shop.ask("PUT", "o-3", ORDER)
    shop.ask("POST", "o-3/approval?yes=false")
    assert shop.ask("DELETE", "o-2")[0] == 202
    for order_id in ("o-2", "o-3"):
        shop.comes_to(order_id, "failed")
        assert f"release lamp for {order_id}" in shop.services


def test_an_order_survives_its_server(shop):
    """Killed right after it was taken, it comes to its approval by itself once something is started again."""
    shop.open()
    for number in range(5):
        assert shop.ask("PUT", f"o-{number}", ORDER)[0] == 202
    shop.kill()
    shop.open()
    for number in range(5):
        shop.comes_to(f"o-{number}", "waiting.approval")
        shop.ask("POST", f"o-{number}/approval?yes=true")
    for number in range(5):
        shop.comes_to(f"o-{number}", "succeeded")
        assert shop.services.count(f"ship lamp for o-{number}") == 1


def test_a_deployment_leaves_nothing_held(shop):
    """SIGTERM ends each process by itself, and the journal says that nobody holds anything any more."""
    shop.open()
    for number in range(5):
        shop.ask("PUT", f"o-{number}", ORDER)
    assert set(shop.stop()) <= {0}
    journal = SQLiteJournal(shop.folder / "orders.db", read_only=True)
    entries = list(journal.entries())
    assert len(entries) == 5
    held = [(entry.saga_id, entry.state, str(entry.driver)) for entry in entries if entry.driver is not None]
    assert held == [], [log.read_text() for log in shop.folder.glob("[0-9].log")]
    journal.close()


def test_what_was_committed_and_not_started_is_started_later(tmp_path):
    """Django's process ended between the commit of the row and its saga: a timer starts it, and each one once."""
    code = """
        from django.db import connection
        from examples.in_apps.in_django import Purchase, mediator, start_what_was_not
        with connection.schema_editor() as editor:
            editor.create_model(Purchase)
        Purchase.objects.create(order_id="o-1", item="lamp", cents=5)
        start_what_was_not()
        assert mediator.wait("o-1", check=False).state == "waiting.approval"
        start_what_was_not()
        mediator.signal("o-1", "approval", True)
        assert mediator.wait("o-1").succeeded
        assert Purchase.objects.get(order_id="o-1").paid
    """
    environment = {**os.environ, "SHOP_FOLDER": str(tmp_path)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, env=environment, check=True, timeout=60)
    assert (tmp_path / "services.log").read_text().count("reserve lamp") == 1


def test_the_page_shows_what_is_tested():
    """Each file of the example stands on the page as it is."""
    page = (ROOT / "docs/embedding.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "examples/in_apps").glob("*.py")):
        if path.name != "__init__.py":
            assert f"```python\n{path.read_text(encoding='utf-8')}```\n" in page, path.name
