"""Alerts and numbers: a real webhook is told what needs a person, and Prometheus reads what a daemon does."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fsm_mediator import (
    DefinitionError,
    JournalError,
    Mediator,
    MemoryJournal,
    Record,
    RefusedError,
    Retry,
    Saga,
    SQLiteJournal,
    UnknownExecutionError,
    step,
)
from fsm_mediator.alerts import Alert, Alerts
from fsm_mediator.journal.acknowledging import acknowledge, acknowledgement_of
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.notes import ACKNOWLEDGED, Note
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.prometheus import Numbers
from fsm_mediator.records import Acceptance, Failure
from fsm_mediator.transactions.outbox import Lag
from tests.commits import found
from tests.drivers import Clock, Flaky, World

ROOT = Path(__file__).parent.parent
ONCE = Retry(attempts=1)


@step
def charge(payload):
    """Succeed."""


@charge.compensation
def refund(payload):
    """Fail, so that the saga is stuck."""
    raise ValueError("SECRET")


@step(retry=ONCE)
def ship(payload):
    """Fail."""
    raise ValueError("SECRET")


saga = Saga("order", [charge, ship], compensation_retry=ONCE)


@pytest.fixture
def hook():
    """A webhook: its URL, the bodies that it was posted, and the status that it answers."""
    bodies, status = [], [200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status[0])
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hook", bodies, status
    server.shutdown()
    thread.join()
    server.server_close()


def stuck(journal, clock):
    """A journal with an execution that is stuck."""
    with Mediator(saga, journal=journal, clock=clock) as mediator:
        mediator.run("order", "SECRET", saga_id="o 1", check=False)


def test_a_stuck_execution_is_reported_once_with_the_next_command(hook):
    """After its time; again only once it was not stuck in between. No message of an error leaves the journal."""
    url, bodies, _ = hook
    clock, journal = Clock(), MemoryJournal()
    stuck(journal, clock)
    alerts = Alerts(url, stuck_for=600.0, clock=clock)
    assert alerts.look(journal) == 0
    clock.now += 601.0
    assert alerts.look(journal) == 1
    assert alerts.look(journal) == 0
    (body,) = bodies
    assert body["text"] == "o 1 has been stuck for 10 min. Next: fsm-mediator retry 'o 1'"
    (alert,) = body["alerts"]
    assert (alert["kind"], alert["saga"], alert["state"]) == ("stuck", "order", "stuck.charge")
    assert "SECRET" not in json.dumps(bodies)
    with Mediator(saga, journal=journal, clock=clock) as mediator:
        mediator.retry("o 1")
    assert alerts.look(journal) == 0
    clock.now += 601.0
    assert alerts.look(journal) == 1


def test_what_could_not_be_sent_is_sent_again(hook, caplog):
    """A webhook that answers with an error has not taken the alert."""
    url, bodies, status = hook
    clock, journal = Clock(), MemoryJournal()
    stuck(journal, clock)
    clock.now += 601.0
    alerts = Alerts(url, clock=clock)
    status[0] = 500
    assert alerts.look(journal) == 0
    assert "could not be sent" in caplog.text
    status[0] = 200
    assert alerts.look(journal) == 1
    assert len(bodies) == 2


def test_retries_without_success_are_reported():
    """Counted as an observer, by the attempts in a row; an attempt that succeeds ends it."""
    sent: list[Alert] = []
    alerts = Alerts(sent.extend, attempts=3)
    failure = Failure("ValueError", "SECRET")
    for attempt in (1, 2):
        alerts(
            Record("o-1", "order", attempt, "errored", "executing.a", "retrying.a", 1.0, "a", attempt, error=failure)
        )
        alerts(Record("o-1", "order", attempt, "retry_due", "retrying.a", "executing.a", 1.0, "a", attempt))
    assert alerts.look(MemoryJournal()) == 0
    alerts(Record("o-1", "order", 5, "errored", "executing.a", "retrying.a", 1.0, "a", 3, error=failure))
    alerts(Record("o-1", "order", 6, "retry_due", "retrying.a", "executing.a", 1.0, "a", 3))
    alerts(Record("o-1", "order", 7, "errored", "executing.a", "retrying.a", 2.0, "a", 4, error=failure))
    assert [alerts.look(MemoryJournal()) for _ in range(2)] == [1, 0]
    assert [alert.text for alert in sent] == ["a of o-1 has failed 3 times, last with ValueError"]
    assert sent[0].next == "fsm-mediator show o-1"
    alerts(Record("o-1", "order", 8, "executed", "executing.a", "succeeded", 3.0, "a", 5))
    assert alerts.look(MemoryJournal()) == 0


def test_what_nobody_drives_is_reported():
    """A due execution without a living driver; why is said where it is known."""
    sent: list[Alert] = []
    clock, journal = Clock(), MemoryJournal()
    opened = Acceptance("o-1", "other", "1", "unknown", None, clock.now)
    journal.enlist(this_driver())
    journal.write(Commit("o-1", (), None, held=False, acceptance=opened))
    alerts = Alerts(sent.extend, undriven_for=300.0, clock=clock)
    assert alerts.look(journal) == 0
    clock.now += 301.0
    assert [alerts.look(journal) for _ in range(2)] == [1, 0]
    assert (sent[0].kind, sent[0].next) == ("undriven", "fsm-mediator show o-1")
    assert sent[0].text == "nobody drives o-1: no living driver knows its definition"


def test_a_journal_that_cannot_be_used_is_reported():
    """Once, until it can be used again."""
    sent: list[Alert] = []
    journal = Flaky(MemoryJournal())
    journal.methods = {"entries"}
    alerts = Alerts(sent.extend)
    journal.broken = True
    assert [alerts.look(journal) for _ in range(2)] == [1, 0]
    assert sent[0].text == "the journal cannot be used: JournalError"
    journal.broken = False
    assert alerts.look(journal) == 0
    journal.broken = True
    assert alerts.look(journal) == 1


def test_settings_that_mean_nothing_are_refused():
    """A URL of another kind, a time that is none."""
    for arguments in ({"to": "file:///etc/passwd"}, {"to": 7}, {"to": "http://x", "stuck_for": -1}):
        with pytest.raises(DefinitionError, match="alerts"):
            Alerts(**arguments)


# Acknowledged


def fragile(world):
    """A saga whose second step fails, and whose first cannot be undone the first two times."""
    undo = (OSError("no"), OSError("no"), "undone")
    first = world.step("a", undo=undo, compensation_retry=ONCE)
    return Saga("fragile", [first, world.step("b", OSError("no"), retry=ONCE)])


def test_acknowledged_alert_is_sent_by_nobody_until_the_execution_moves(drive, journal):
    """After a restart the new process leaves me alone, until what I know of has changed."""
    sent: list[Alert] = []
    clock = Clock()
    mediator = drive(fragile(World()), journal=journal, clock=clock)
    assert mediator.run("fragile", saga_id="o-1", check=False).stuck
    clock.now += 601.0
    assert Alerts(sent.extend, clock=clock).look(journal) == 1

    mediator.acknowledge("o-1", reason="the bank is down", actor="ann")

    restarted = Alerts(sent.extend, clock=clock)
    assert [restarted.look(journal) for _ in range(2)] == [0, 0]
    (note,) = mediator.notes("o-1")
    assert (note.kind, note.value["state"], note.actor, note.reason, note.at) == (
        *("acknowledged", "stuck.a", "ann", "the bank is down", clock.now),
    )
    assert mediator.retry("o-1").stuck  # it moves, and is stuck again
    clock.now += 601.0
    assert [Alerts(sent.extend, clock=clock).look(journal), restarted.look(journal)] == [1, 1]
    mediator.acknowledge("o-1", reason="the bank is still down")
    journal.add_note(Note("hold", "o-1", at=clock.now))  # what else is noted changes nothing
    assert Alerts(sent.extend, clock=clock).look(journal) == 0
    assert mediator.retry("o-1").failed
    with pytest.raises(RefusedError, match="has ended as 'failed'"):
        mediator.acknowledge("o-1")
    with pytest.raises(UnknownExecutionError):
        mediator.acknowledge("o-2")


@pytest.mark.parametrize(
    ("fails", "again", "doing", "waiting"),
    [
        ("errored", "retry_due", "executing.a", "retrying.a"),
        ("compensation_errored", "compensation_due", "compensating.a", "retrying_compensation.a"),
    ],
    ids=["execute", "compensate"],
)
def test_repeated_attempt_is_no_move(journal, fails, again, doing, waiting):
    """What I have seen retrying stays silent while it retries, in a new process too; stuck at last, it is reported."""
    sent: list[Alert] = []
    clock, failure = Clock(), Failure("ValueError", "SECRET")
    journal.enlist(this_driver())
    opened = Acceptance("o-1", "order", "1", "unknown", None, clock.now)

    def commit(seq: int, event: str, source: str, target: str, attempt: int) -> None:
        made = Record("o-1", "order", seq, event, source, target, clock.now, "a", attempt, error=failure)
        alerts(made)
        journal.write(Commit("o-1", (made,), None, held=False, acceptance=opened if seq == 1 else None))

    alerts = Alerts(sent.extend, attempts=2, clock=clock)
    commit(1, "start", "pending", doing, 0)
    commit(2, fails, doing, waiting, 1)
    acknowledge(journal, found(journal, "o-1"), "I am at it", "ann", clock.now)
    commit(3, again, waiting, doing, 1)
    commit(4, fails, doing, waiting, 2)
    assert alerts.look(journal) == 0
    note = acknowledgement_of(journal, "o-1")
    assert note is not None
    assert note.reason == "I am at it"
    commit(5, again, waiting, doing, 2)
    commit(6, "exhausted", doing, "stuck_executing.a", 3)
    clock.now += 601.0
    assert alerts.look(journal) == 1
    assert [alert.kind for alert in sent] == ["stuck"]


def test_acknowledgement_is_kept_once_and_not_of_what_is_gone(journal):
    """A call that is repeated because its answer was lost notes nothing twice; a deleted execution is an error."""
    clock = Clock()
    stuck(journal, clock)
    entry = found(journal, "o 1")
    for _ in range(2):
        acknowledge(journal, entry, "seen", "ann", clock.now, token=7)
    assert len(journal.notes("o 1", kind=ACKNOWLEDGED)) == 1
    with pytest.raises(UnknownExecutionError):
        acknowledge(MemoryJournal(), entry, None, None, clock.now)


def test_acknowledged_alert_is_not_looked_up_at_each_look():
    """A look at many acknowledged executions costs no more than one at their states."""
    clock, journal = Clock(), Flaky(MemoryJournal())
    stuck(journal, clock)
    acknowledge(journal, found(journal, "o 1"), None, None, clock.now)
    clock.now += 601.0
    alerts = Alerts(lambda _: None, clock=clock)
    assert alerts.look(journal) == 0
    journal.methods, journal.broken = {"notes", "records"}, True
    assert alerts.look(journal) == 0
    assert journal.failed == 0


def test_journal_without_notes_has_no_acknowledgements():
    """Alerts are sent as ever; the verb says what the journal lacks."""

    class Plain:
        """A journal from before there were notes."""

        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            if name in ("add_note", "notes"):
                raise AttributeError(name)
            return getattr(self._inner, name)

    clock, journal = Clock(), MemoryJournal()
    stuck(journal, clock)
    clock.now += 601.0
    plain = Plain(journal)
    assert Alerts(lambda alerts: None, clock=clock).look(plain) == 1
    with pytest.raises(JournalError, match="keeps no notes"):
        acknowledge(plain, found(journal, "o 1"), None, None, clock.now)


def test_journal_that_breaks_while_notes_are_read_is_reported():
    """As one that breaks before."""
    sent: list[Alert] = []
    clock, journal = Clock(), Flaky(MemoryJournal())
    stuck(journal, clock)
    clock.now += 601.0
    journal.methods, journal.broken = {"notes"}, True
    assert Alerts(sent.extend, clock=clock).look(journal) == 1
    assert [alert.kind for alert in sent] == ["journal"]


# Numbers


def test_numbers_are_those_of_the_journal_and_of_what_was_done(tmp_path):
    """Transitions by an observer; the journal and the relays at each look; names with quotes are escaped."""

    class Outbox:
        async def lag(self):
            return Lag(3, 1, 7.5)

        async def pass_on(self, mediator):
            return 0

    clock, journal = Clock(), SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    numbers = Numbers(clock=clock)
    with Mediator(saga, journal=journal, clock=clock, observers=[numbers], relays=[Outbox(), numbers]) as mediator:
        mediator.run("order", saga_id="o-1", check=False)
        clock.now += 40.0
        asyncio.run(numbers.pass_on(mediator))
        asyncio.run(numbers.pass_on(mediator))
    numbers(Record("x", 'a"b\\', 1, "start", "pending", "executing.a", 1.0))
    lines = numbers.text().splitlines()
    assert 'fsm_mediator_transitions_total{saga="order",step="charge",event="executed"} 1' in lines
    assert r'fsm_mediator_transitions_total{saga="a\"b\\",step="",event="start"} 1' in lines
    assert 'fsm_mediator_sagas{saga="order",phase="stuck"} 1' in lines
    assert 'fsm_mediator_oldest_seconds{saga="order",phase="stuck"} 40.0' in lines
    assert 'fsm_mediator_relay_waiting{relay="0"} 3' in lines
    assert 'fsm_mediator_relay_refused{relay="0"} 1' in lines
    assert 'fsm_mediator_relay_lag_seconds{relay="0"} 7.5' in lines
    assert "fsm_mediator_journal_errors_total 0" in lines
    broken = Flaky(journal)
    broken.methods, broken.broken = {"entries"}, True
    numbers.look(broken)
    assert "fsm_mediator_journal_errors_total 1" in numbers.text()
    with (
        numbers.served("127.0.0.1", 0) as port,
        pytest.raises(DefinitionError, match="cannot be served"),
        numbers.served("127.0.0.1", port),
    ):
        pass
    journal.close()


def test_serve_tells_a_webhook_and_prometheus(hook, tmp_path):
    """From the command line, in a process of its own, which ends in order."""
    url, bodies, _ = hook
    path = tmp_path / "sagas.db"
    stuck(SQLiteJournal(path, durability="normal"), None)
    words = ("serve", "-a", "tests.test_alerts:saga", "-j", str(path), "--alert-url", url, "--stuck-for", "0s")
    command = [sys.executable, "-m", "fsm_mediator", *words, "--metrics-port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = re.search(r"numbers at (http://127\.0\.0\.1:\d+/metrics)", process.stderr.readline())
        assert found is not None
        never = threading.Event()
        text = ""
        for _ in range(3000):
            with urllib.request.urlopen(found[1], timeout=60) as answer:  # noqa: S310 - it is our own
                text = answer.read().decode()
            if bodies and 'phase="stuck"} 1' in text:
                break
            never.wait(0.02)
        assert 'fsm_mediator_sagas{saga="order",phase="stuck"} 1' in text
        assert "Next: fsm-mediator retry 'o 1'" in bodies[0]["text"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
