"""Pages of the documentation: their code prints what they say, and their figures are those that were measured."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fsm_mediator.testing import check_promises, check_saga
from tests.asgi import ask
from tests.test_readme import BLOCK, run

pytestmark = pytest.mark.once

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize(("page", "blocks"), [("timeouts", 4), ("coming_from", 3)])
def test_page_does_what_it_says(page, blocks, tmp_path, monkeypatch):
    """I paste the page's code and see the page's output."""
    monkeypatch.chdir(tmp_path)

    assert run((DOCS / f"{page}.md").read_text(encoding="utf-8"), monkeypatch) == blocks


def test_code_of_other_projects_is_python():
    """What I compare my own code with can be parsed."""
    page = (DOCS / "coming_from.md").read_text(encoding="utf-8")
    theirs = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)

    assert [ast.parse(code).body[0].lineno for code in theirs] == [1, 1, 1]


@pytest.fixture
def app_of(tmp_path, monkeypatch):
    """Makes the module that a page has me write, in a folder of the test."""
    monkeypatch.chdir(tmp_path)

    def make(page: str) -> Any:
        (block,) = BLOCK.finditer((DOCS / f"{page}.md").read_text(encoding="utf-8"))
        module = ModuleType("shop")
        monkeypatch.setitem(sys.modules, "shop", module)
        exec(compile(block["code"], f"{page}.md", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - our own page
        return module

    return make


ORDERS = [("o-1", 4200, 202, "succeeded"), ("o-2", 9900, 202, "failed"), ("o:3", 1, 422, None)]
"""Orders by id and cents, with the status of the answer, and the state in which each ends."""


def test_fastapi_page_is_an_app(app_of):
    """I paste the page, and orders are placed, refused and looked up."""
    shop = app_of("fastapi")

    async def visit() -> None:
        headers = {"content-type": "application/json"}
        async with shop.app.router.lifespan_context(shop.app) as state:
            for order_id, cents, status, ended in ORDERS:
                answer = await placed(stated(shop.app, state), f"/orders/{order_id}", {"cents": cents}, headers)
                assert answer[0] == status, answer
                if ended:
                    await state["mediator"].wait(order_id, check=False)
                    found = await ask(stated(shop.app, state), f"/orders/{order_id}")
                    assert json.loads(found.text) == {"state": ended}
            assert (await ask(stated(shop.app, state), "/orders/nobody")).status == 404

    asyncio.run(visit())
    assert shop.charges == {"o-1:charge:execute": 4200}


def stated(app: Any, state: dict[str, Any]) -> Any:
    """The app, as a server calls it that has entered its lifespan."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return call


async def placed(app: Any, path: str, body: Any, headers: dict[str, str]) -> tuple[int, str]:
    """PUT a body as JSON; return the status and the text."""
    sent: list[dict[str, Any]] = []
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "PUT", "path": path, "raw_path": path.encode(), "query_string": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({**scope, "headers": given, "scheme": "http", "server": ("shop.test", 80)}, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent).decode()


def test_flask_page_is_an_app(app_of):
    """I paste the page, and orders are placed, refused and looked up."""
    shop = app_of("flask")
    client = shop.app.test_client()

    for order_id, cents, status, ended in ORDERS:
        assert client.put(f"/orders/{order_id}", json={"cents": cents}).status_code == status
        if ended:
            shop.mediator.wait(order_id, check=False)
            assert client.get(f"/orders/{order_id}").json == {"state": ended}
    assert client.get("/orders/nobody").status_code == 404
    assert shop.charges == {"o-1:charge:execute": 4200}
    shop.mediator.close()


@pytest.mark.parametrize("page", ["fastapi", "flask"])
def test_steps_of_an_app_survive_every_fault(page, app_of):
    """I can copy the steps of the page."""
    shop = app_of(page)

    for check in (check_saga, check_promises):
        check(shop.checkout, shop.Order(4200), observe=lambda: shop.charges, reset=shop.charges.clear)


def row(page: str, name: str, heading: str) -> list[str]:
    """The cells of a row, below a heading of a page of figures."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8").partition(heading)[2]
    found = re.search(rf"^\| \**{re.escape(name)}\** \|(.*)\|$", text, re.MULTILINE)
    assert found is not None, name
    return [cell.strip(" *") for cell in found[1].split("|")]


def test_comparison_has_the_figures_that_were_measured():
    """The figures on the page of comparisons are those of the last benchmark, rounded."""
    page = " ".join((DOCS / "comparison.md").read_text(encoding="utf-8").split())
    memory = {
        name: float(row("benchmarks", name, "## In memory")[0]) for name in ("bare loop", "fsm_mediator", "sagaz")
    }
    disk = {name: float(row("benchmarks", name, "## On disk")[0].replace(",", "")) for name in ("fsm_mediator", "DBOS")}
    temporal = [row("engines", f"Temporal, {many} at a time", "## Price")[2] for many in (1, 16)]
    restate = [row("engines", f"Restate, {many} at a time", "## Price")[2] for many in (1, 16)]

    assert f"{disk['DBOS'] / 1000:.1f} ms with DBOS and {disk['fsm_mediator'] / 1000:.1f} ms here" in page
    assert f"{memory['sagaz']:.0f} µs with sagaz and {memory['fsm_mediator']:.0f} µs here" in page
    assert f"{memory['bare loop']:.1f} µs in a loop and {memory['fsm_mediator']:.0f} µs here" in page
    assert f"{temporal[0]} to {temporal[1]} times the CPU time" in page
    assert f"{restate[0]} to {restate[1]} times the CPU time" in page


def test_comparison_names_the_versions_that_were_measured():
    """A version on the page of comparisons is the one of the benchmark, or of the pinned engines."""
    page = (DOCS / "comparison.md").read_text(encoding="utf-8")
    benchmarks = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    pins = (DOCS.parent / "constraints.txt").read_text(encoding="utf-8")

    for name, version in re.findall(r"^\| \*\*(DBOS|sagaz)\*\* ([\d.]+) \|", page, re.MULTILINE):
        assert f"{name.lower()} {version}." in benchmarks
    for name, version in re.findall(r"\*\*(Temporal|Restate)\*\* \(.*?SDK ([\d.]+)\)", page):
        assert f"{ {'Temporal': 'temporalio', 'Restate': 'restate-sdk'}[name] }=={version}." in pins
