"""The PostgreSQL journal behind a real PgBouncer in transaction mode, where one is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from fsm_mediator import Parallel, Retry, Saga, Signal
from fsm_mediator.journal.postgres import PostgresJournal
from fsm_mediator.journal.protocol import Driver, Queued
from fsm_mediator.records import InboxItem
from tests.commits import DRIVER, OTHER, found, going_on, opening
from tests.drivers import QUICK, World, eventually, in_thread
from tests.postgres_server import changed, connections_of, server, without_second_look

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer; apt install pgbouncer"),
]
SETTINGS = """
[databases]
* = host={socket} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
"""


@pytest.fixture(scope="module")
def pooler() -> Iterator[str]:
    """The URL of a PgBouncer on a free port, which two connections to the server must do for."""
    assert PROGRAM is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="fsm-pgbouncer-"))
    folder.chmod(0o755)  # root starts it as ``nobody``, since it must
    (folder / "ini").write_text(SETTINGS.format(socket=server().folder, port=server().port, own_port=port))
    process = subprocess.Popen(
        [PROGRAM, "-q", str(folder / "ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **server().user
    )
    url = f"postgresql://anybody@127.0.0.1:{port}/postgres"
    try:
        for _ in range(1200):
            assert process.poll() is None, "pgbouncer did not start"
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(url).close()
                break
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder)


@pytest.fixture
def journal(pooler: str) -> Iterator[PostgresJournal]:
    """A journal behind the pooler, on tables of its own."""
    with contextlib.closing(server().journal()) as direct:
        schema = connections_of(direct).schema
    with contextlib.closing(PostgresJournal(pooler, schema=schema)) as made:
        yield made


def test_sagas_of_every_kind_run_behind_a_pooler(drive, journal):
    """Steps, branches, a signal, limits, many at a time: two connections to the server do for all."""
    world = World()
    group = Parallel("all", [world.step("a"), world.step("b")])
    retry = Retry(attempts=2, wait_initial=0.0, wait_jitter=0.0)
    saga = Saga("shop", [world.step("charge", ValueError("once"), "paid", retry=retry), group, Signal("approval")])
    fails = Saga("fails", [world.step("reserve"), world.step("ship", ValueError("no"), retry=QUICK)])
    mediator = drive(saga, fails, journal=journal, limits={"charge": 1})
    names = [f"o-{number}" for number in range(12)]
    started = [in_thread(mediator.start, "shop", None, saga_id=name) for name in names]
    for call in started:
        call()
    assert mediator.run("fails", None, check=False).failed
    eventually(lambda: all(found(journal, name).state == "waiting.approval" for name in names))
    for name in names:
        mediator.signal(name, "approval", True)
    assert all(mediator.wait(name).succeeded for name in names)
    assert journal.check() == []


def test_the_pooler_is_recognised_and_nothing_is_prepared(journal):
    """A prepared statement belongs to one of its connections to the server, and the next transaction has another."""
    journal.enlist(DRIVER)
    for number in range(12):
        journal.write(opening(f"o-{number}", "executing.a"))
        journal.write(going_on(f"o-{number}", 2))
    assert connections_of(journal).is_pooled()
    assert connections_of(journal).read("SELECT name FROM pg_prepared_statements") == []


def test_the_lease_alone_excludes(journal):
    """No lock of a session is taken: it would be another client's as well. The lease keeps others away, and ends."""
    journal.enlist(Driver("far", host="other", boot_id="another boot", pid=1, started="1"))
    journal.enlist(OTHER)
    journal.write(opening("o-1", "executing.a", driver="far"))
    without_second_look(journal)
    assert connections_of(journal).read("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2") == []
    assert journal.claim("o-1", "d-2") is None
    changed(journal, "UPDATE drivers SET beat_at = beat_at - 31 WHERE id = 'far'")
    claimed = journal.claim("o-1", "d-2")
    assert claimed is not None
    assert claimed.abandoned


def test_two_that_ask_for_a_slot_at_once_get_one(journal):
    """The lock of a limit is a transaction's, and holds behind a pooler as well."""
    for driver in ("d-1", "d-2"):
        journal.enlist(Driver(driver, limits=(("call", 3),)))
    asked = [
        in_thread(journal.write, opening(f"o-{number}", "executing.call", driver=f"d-{number % 2 + 1}", slot="call"))
        for number in range(16)
    ]
    written = [call() for call in asked]
    assert sum(type(each) is tuple for each in written) == 3
    assert sum(type(each) is Queued for each in written) == 13


def test_a_message_and_its_time_are_one_transaction(journal):
    """A signal that is timed by the journal is posted in the transaction that locked its execution."""
    journal.enlist(DRIVER)
    journal.write(opening("o-1", "waiting.go"))
    assert journal.post("o-1", InboxItem("signal", "go", 1), clock=lambda: 5.0)
    assert [item.at for item in journal.inbox("o-1")] == [5.0]
