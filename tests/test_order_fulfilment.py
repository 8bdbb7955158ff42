"""The example `examples.order_fulfilment`: killed, resumed, approved from other processes, and its tables checked."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from examples.order_fulfilment import definition
from examples.order_fulfilment.__main__ import run
from examples.order_fulfilment.check import check
from examples.order_fulfilment.fulfilment import SIGNAL, order_fulfilment
from examples.order_fulfilment.orders import ORDERS, Decision, Order
from examples.order_fulfilment.services import Payments, Services
from examples.profile_sync.faults import Faults
from fsm_mediator import Mediator, SQLiteJournal, verify
from fsm_mediator.cli.console import DID_NOT_SUCCEED

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent


@pytest.fixture
def terminal(tmp_path):
    """Starts a process of the example or of the command, as in another terminal; they share files only."""
    environment = {**os.environ, "ORDERS_DIR": str(tmp_path), "ORDERS_LATENCY": "0.02", "ORDERS_CARRIER": "0.5"}

    def start(*words, module="examples.order_fulfilment"):
        command = [sys.executable, "-m", module, *words]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start


def output(process, code=0):
    """The output of a process; checks its exit code."""
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == code, printed
    return printed


def states(folder):
    """The state of each order."""
    journal = SQLiteJournal(folder / "sagas.db", read_only=True)
    found = {entry.saga_id: entry.state for entry in journal.entries() if entry.acceptance.parent is None}
    journal.close()
    return found


def rows(folder, name, select):
    """The rows of a service's table; none if there is no table yet."""
    path = folder / f"{name}.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as db:
        try:
            return db.execute(select).fetchall()
        except sqlite3.OperationalError:
            return []


def test_killed_half_way_resumed_and_approved_from_other_terminals(terminal, tmp_path):
    """After kill -9 another process resumes the orders, others approve and refuse: no row is lost or there twice."""
    first = terminal("run")
    until = time.monotonic() + 30
    while len(rows(tmp_path, "warehouse", "SELECT * FROM parcels")) < 3:
        assert time.monotonic() < until
        assert first.poll() is None
        time.sleep(0.005)
    first.kill()
    first.communicate()
    half_way = states(tmp_path)
    assert not {"succeeded"} & set(half_way.values())

    output(terminal("status"))  # no row of a running order is there twice
    printed = output(terminal("run"))
    assert "approve order-3" in printed
    assert "the tables of all services are correct" in printed
    after = states(tmp_path)
    assert {after[order] for order in ("order-1", "order-4", "order-6", "order-8", "order-9")} == {"succeeded"}
    assert after["order-2"] == "failed"  # the card is declined
    assert after["order-3"] == after["order-10"] == "waiting.approval"

    assert "order-3' (order_fulfilment) succeeded" in output(terminal("approve", "order-3", "--by", "Ada"))
    refusal = json.dumps({"approved": False, "by": "Zoe"})
    app = ("--app", "examples.order_fulfilment:app", "--journal", str(tmp_path / "sagas.db"))
    printed = output(terminal("signal", "order-10", SIGNAL, refusal, *app, module="fsm_mediator"), DID_NOT_SUCCEED)
    assert "refused by Zoe" in printed
    assert "another value, and the first one counts" in output(terminal("approve", "order-3", "--refuse"), 2)

    assert check(tmp_path, ORDERS, states(tmp_path)) == []
    assert states(tmp_path)["order-3"] == "succeeded"
    assert rows(tmp_path, "mail", "SELECT count(*) FROM sent WHERE order_id = 3") == [(2,)]
    assert rows(tmp_path, "stock", "SELECT count(*) FROM reserved WHERE order_id = 10") == [(0,)]


@pytest.fixture
def files() -> Iterator[ExitStack]:
    """Closes its resources at the end."""
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("seed", range(6))
def test_tables_are_correct_under_every_seed(seed, tmp_path, files):
    """With lost answers, outages and declined cards, each order is complete and there once, or not there at all."""
    faults = Faults(seed=seed, down=0.15, lost=0.15, outage=0.1, outage_calls=3, refused=0.2)
    services = files.enter_context(closing(Services.at(tmp_path, faults)))
    services.stock.fill()
    with Mediator(order_fulfilment(services, carrier_delay=0.01)) as mediator:
        for order in ORDERS:
            mediator.start("order_fulfilment", order, saga_id=order.saga_id)
        for order in ORDERS:
            outcome = mediator.wait(order.saga_id, check=False)
            if outcome.state == "waiting.approval":
                mediator.signal(order.saga_id, SIGNAL, Decision(approved=order.number != 10, by="Ada"))
        ended = {order.saga_id: mediator.wait(order.saga_id, check=False).state for order in ORDERS}
        assert set(ended.values()) == {"succeeded", "failed"}
        assert check(tmp_path, ORDERS, ended) == []


def test_a_lost_receipt_is_looked_up(tmp_path, files):
    """After a lost answer the probe finds the charge in the book; the card is charged once."""
    lost = Faults(lost=1.0)
    services = files.enter_context(closing(Services.at(tmp_path)))
    services.stock.fill()
    flaky = files.enter_context(closing(Payments(tmp_path, lost)))
    flaky.receipt = services.payments.receipt  # the probe is not faulty
    saga = order_fulfilment(
        Services(services.stock, flaky, services.warehouse, services.accounts, services.mail), carrier_delay=0.0
    )
    with Mediator(saga) as mediator:
        outcome = mediator.run(saga, Order(1, ("lamp",), ()), saga_id="order-1")
    assert [record.event for record in outcome.history if record.step == "charge"] == ["unsure", "executed"]
    assert outcome.results["charge"] == "receipt-1"
    assert len(rows(tmp_path, "payments", "SELECT * FROM book")) == 1


def test_check_finds_what_is_missing_or_there_twice(tmp_path, monkeypatch, files):
    """The check can fail: it names a table with a wrong row."""
    services = files.enter_context(closing(Services.at(tmp_path)))
    monkeypatch.setenv("ORDERS_DIR", str(tmp_path))
    with Mediator(order_fulfilment(services, carrier_delay=0.0)) as mediator:
        assert run(mediator) == 0
        found = {entry.saga_id: entry.state for entry in mediator.executions()}
    for statement, message in (
        ("payments: DELETE FROM book WHERE order_id = 1", "order-1 (succeeded): payments should hold"),
        ("mail: INSERT INTO sent VALUES (1, 'ada@example.org')", "order-1 (succeeded): mail should hold"),
        ("warehouse: INSERT INTO parcels VALUES (3, 0, 'table')", "order-3 (waiting.approval): warehouse should hold"),
        ("stock: UPDATE shelf SET quantity = quantity + 1 WHERE item = 'lamp'", "lamp on the shelf"),
    ):
        name, _, sql = statement.partition(": ")
        with closing(sqlite3.connect(tmp_path / f"{name}.db", isolation_level=None)) as db:
            db.execute(sql)
        assert any(message in line for line in check(tmp_path, ORDERS, found)), message


def test_definition_keeps_every_law():
    """The saga has a pivot, goes only forward after it, and keeps every law."""
    paths = [part.path for part in definition.parts]
    assert paths == ["reserve", "approval", "charge", "fulfil", "carrier", "notify"]
    assert [part.path for part in definition.parts if part.forward_only] == ["fulfil", "carrier", "notify"]
    report = verify(definition)
    assert report.ok, str(report)
