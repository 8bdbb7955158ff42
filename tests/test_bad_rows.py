"""One row that cannot be read harms no other: every command and every driver goes on with the rest."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from typing import Any

import pytest
from click.testing import CliRunner

from fsm_mediator import (
    IllegalRecordError,
    JournalError,
    MediatorError,
    PayloadError,
    Retry,
    Saga,
    Signal,
    SQLiteJournal,
    UnknownSagaError,
    conforms,
    step,
)
from fsm_mediator.cli.commands import cli
from fsm_mediator.journal.protocol import Driver
from fsm_mediator.mediator.setbacks import Setbacks
from tests.drivers import eventually
from tests.test_daemon import daemon_of

WAITS = Saga("waits", [step(name="a")(lambda payload: {"n": 1}), Signal("go"), step(name="b")(lambda payload: None)])
SAGAS = [WAITS]

DAMAGE = {
    "deep": '{"value":' + "[" * 200_000 + "]" * 200_000 + "}",
    "no JSON": '{"value":',
    "another shape": '{"value":1,"error":7,"step":9}',
    "no UTF-8": b'{"value":1,"reason":"\xff"}',
    "nothing": "",
}


@pytest.fixture(params=[0, 2], ids=["acceptance", "record"])
def seq(request) -> int:
    """The record that is damaged."""
    return int(request.param)


@pytest.fixture(params=DAMAGE)
def path(request, tmp_path, drive, seq, monkeypatch) -> Any:
    """A journal of three executions that wait; the one in the middle is damaged."""
    found = tmp_path / "sagas.db"
    mediator = drive(WAITS, journal=SQLiteJournal(found))
    for saga_id in ("one", "bad", "two"):
        mediator.run("waits", {"x": 1}, saga_id=saga_id, check=False)
    mediator.journal.close()
    with sqlite3.connect(found) as connection:
        bad = DAMAGE[request.param]
        connection.execute(
            f"UPDATE records SET details = {'?' if isinstance(bad, str) else 'CAST(? AS TEXT)'} WHERE seq = ? AND "  # noqa: S608
            "execution = (SELECT number FROM executions WHERE saga_id = 'bad')",
            (bad, seq),
        )
    connection.close()
    monkeypatch.chdir(tmp_path)
    return found


def ran(*arguments: str, code: int = 0) -> Any:
    """The result of a command."""
    result = CliRunner().invoke(cli, [*arguments, "-j", "sagas.db"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result


def test_executions_are_listed_and_shown_all_the_same(path):
    """The damaged one is listed, for its state is known; it is shown as far as it can be read."""
    assert [line["saga_id"] for line in map(json.loads, ran("list", "--json").stdout.splitlines())] == [
        "two",
        "bad",
        "one",
    ]
    assert "bad" in ran("list").output
    assert "waiting.go" in ran("show", "bad").output
    assert "is executed" in ran("show", "two").output


def test_the_others_are_exported(path, seq):
    """Every execution has its line; the damaged one says what cannot be read."""
    lines = {line["saga_id"]: line for line in map(json.loads, ran("export", "-o", "-").stdout.splitlines())}

    assert [len(lines[each]["history"]) for each in ("one", "two")] == [2, 2]
    if seq == 0:
        assert lines["bad"]["payload"].startswith("(unreadable")
    else:
        assert "record 2 cannot be read" in lines["bad"]["unreadable"]


def test_conformance_names_the_damaged_one_alone(path):
    """A damaged row is a violation of that execution. The others are checked."""
    found = conforms(SQLiteJournal(path, read_only=True), SAGAS)

    assert [violation.saga_id for violation in found.violations] == ["bad"]
    assert found.executions == 3


def test_the_others_are_recovered_and_go_on(drive, path, seq):
    """A caller is told of the damaged one; a signal to another one, and a recovery, do not meet it."""
    mediator = drive(WAITS, journal=SQLiteJournal(path))

    assert len(mediator.executions()) == 3
    for saga_id in ("one", "two"):
        mediator.signal(saga_id, "go", 1)
        assert mediator.wait(saga_id).succeeded
    mediator.recover()
    with pytest.raises(PayloadError if seq == 0 else IllegalRecordError, match="cannot be read"):
        mediator.outcome("bad")
    with pytest.raises(MediatorError, match="cannot be read"):
        mediator.signal("bad", "go", 1)
    assert isinstance(IllegalRecordError("x", 1), JournalError)


def test_many_are_read_and_claimed_although_one_cannot_be_read(path, seq):
    """Each comes as it does alone. An execution with a record that cannot be read has no records at all."""
    journal = SQLiteJournal(path)
    journal.enlist(Driver("d-1"))
    names = ["two", "bad", "one"]

    assert journal.find_all(names) == {name: journal.find(name) for name in names}
    assert journal.records_of_all(names) == {name: journal.records(name) for name in names if name != "bad" or seq == 0}
    assert journal.claim_all(names, "d-1") == {name: journal.claim(name, "d-1") for name in names}


def test_daemon_logs_one_line_and_waits(drive, path, caplog, monkeypatch):
    """What it cannot drive is logged once a try, and not tried before its time; meanwhile it drives the others."""
    monkeypatch.setattr("fsm_mediator.mediator.setbacks.BACKOFF", Retry(wait_initial=1e6, wait_max=1e6))
    with sqlite3.connect(path) as connection:  # as a message that no driver has seen leaves it
        connection.execute("UPDATE executions SET attention = -9e999")
    connection.close()
    clock = Ticking()
    mediator = drive(WAITS, journal=SQLiteJournal(path), clock=clock)
    caplog.set_level(logging.WARNING, "fsm_mediator")

    with daemon_of(mediator):
        mediator.signal("two", "go", 1)
        assert mediator.wait("two").succeeded
        eventually(lambda: clock.looks > 40)

    said = [record for record in caplog.records if "'bad'" in record.getMessage()]
    assert len(said) == 1
    assert said[0].exc_info is None
    assert "a daemon tries it again in" in said[0].getMessage()


def test_waits_grow_to_a_limit_and_begin_anew_after_a_success():
    """Half a second at first, five minutes at the most. Where a timer is set, the daemon leaves it to that."""
    now = [0.0]
    setbacks = Setbacks(lambda: now[0])

    waits = [setbacks.note("x", timer=False) for _ in range(12)]
    assert waits[:3] == [0.5, 1.0, 2.0]
    assert waits[-1] == 300.0
    assert setbacks.is_waiting("x")
    now[0] = 300.0
    assert not setbacks.is_waiting("x")
    setbacks.forget("x")
    assert not setbacks.is_waiting("x")
    assert [setbacks.note("x") for _ in range(9)][-1] == 30.0
    now[0] = 1e9
    assert setbacks.is_waiting("x")


def test_journal_that_fails_is_tried_again_by_a_timer_and_a_definition_by_a_daemon(caplog):
    """Each execution is counted by itself, from the start again once it could be driven. The log says who tries it."""
    setbacks = Setbacks(lambda: 100.0)

    told = [setbacks.log("x", error) for error in (JournalError("full"), JournalError("full"), UnknownSagaError("s?"))]
    assert told == [0.5, 1.0, None]
    assert (setbacks.note("y"), setbacks.note("z", timer=False)) == (0.5, 0.5)
    assert setbacks.waiting() == ["x", "y", "z"]
    for each in ("x", "never", "y"):
        setbacks.forget(each)
    assert setbacks.waiting() == ["z"]
    assert (setbacks.note("x"), setbacks.note("z")) == (0.5, 1.0)

    left = "execution 'x' is left in its current state, and"
    assert caplog.messages == [
        f"{left} taken up again in 0.5 s: full",
        f"{left} taken up again in 1 s: full",
        f"{left} a daemon tries it again in 2 s: s?",
    ]


class Ticking:
    """The time, and how often it was asked for."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return time.time()
