"""The SQLite journal: records come back, in order and in lists; each execution has one owner."""

from __future__ import annotations

import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fsm_mediator import JournalError, LeaseLostError, PayloadError, SQLiteJournal, UnknownExecutionError
from fsm_mediator.journal import liveness
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.planning import Plan
from fsm_mediator.journal.protocol import Commit, Driver, Recoveries
from fsm_mediator.journal.sqlite import sql
from fsm_mediator.records import Failure, InboxItem, Record
from tests.commits import (
    DRIVER,
    OTHER,
    ROOT,
    Clock,
    acceptance,
    connections_of,
    ending,
    found,
    going_on,
    ids,
    opening,
    record,
    rows,
    seen,
    statements,
    taken,
    two_drivers,
)

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into Linux's /proc")


@pytest.fixture
def clock() -> Clock:
    """A clock that is set by hand."""
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "sagas.db"


@pytest.fixture
def journal(path: Path, clock: Clock) -> Iterator[SQLiteJournal]:
    """A journal with two drivers."""
    with two_drivers(path, clock) as opened:
        yield opened


def test_an_execution_comes_back_as_it_was_written(journal):
    """Nothing of an execution is lost, changed or added on the way to the disk and back."""
    failure = Failure("shop.OutOfStock", "none left: ü \ud800 \0", "Traceback ...\n")
    first = Record("x", "s", 1, "start", "pending", "executing.a", 1.5)
    second = Record(
        "x", "s", 2, "errored", "executing.a", "retrying.a", 2.1, "a", 3, None, failure, True, 9.25, "a reason", True
    )
    third = record("x", 3, value={"text": "ü\0\u2028", "n": 2**63, "x": [None, 0.1, True]})
    opened = acceptance(
        "x",
        {"order": [1, "ü"]},
        deadline_at=99.5,
        parent="p",
        version="2.0",
        fingerprint="abc",
        carrier={"tracestate": "ü"},
    )

    journal.write(Commit("x", (first,), "d-1", acceptance=opened))
    journal.write(Commit("x", (second, third), "d-1", wake_at=9.25))
    journal.close()

    entry = journal.find("x")
    assert msgspec.json.decode(entry.acceptance.payload) == {"order": [1, "ü"]}
    assert msgspec.structs.replace(entry.acceptance, payload=None) == msgspec.structs.replace(opened, payload=None)
    assert (entry.state, entry.changed_at, entry.seq, entry.epoch) == ("executing.b", 3.0, 3, 1)
    assert (entry.driver, entry.driver_alive, entry.wake_at, entry.mail) == (DRIVER, True, 9.25, 0)
    kept = journal.records("x")
    assert kept[0] == first
    stored = Failure(failure.type, "none left: ü \\ud800 \0", failure.traceback)
    assert kept[1] == msgspec.structs.replace(second, error=stored)
    assert kept[1].error.traceback == failure.traceback
    assert msgspec.json.decode(kept[2].value) == third.value
    assert msgspec.structs.replace(kept[2], value=third.value) == third


def test_none_is_no_value_but_a_payload_is_always_one(journal):
    """What was never there comes back as None; a payload is encoded whatever it is."""
    journal.write(opening("x", "executing.a", payload=None))

    assert journal.records("x")[0].value is None
    assert bytes(found(journal, "x").acceptance.payload) == b"null"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "Plain data"),
        (math.nan, "NaN"),
        ({"deep": [math.inf]}, "NaN"),
        ({"fine": 1.5, "deep": [None, math.inf]}, "NaN"),
        ("\ud800", "surrogates"),
        ("x" * 2000, "2,002 bytes.*limit of 1,000.*max_value_bytes"),
        (msgspec.Raw(b'{"a":'), "no JSON"),
    ],
)
def test_undecodable_value_is_refused_before_a_write(tmp_path, value, why):
    """A payload, a result or a signal that would not come back never gets into the journal."""
    with closing(SQLiteJournal(tmp_path / "sagas.db", durability="normal", max_value_bytes=1000)) as journal:
        journal.enlist(DRIVER)
        journal.write(opening("x", "executing.a"))

        with pytest.raises(PayloadError, match=f"payload of execution 'y'.*{why}"):
            journal.write(opening("y", "executing.a", payload=value))
        with pytest.raises(PayloadError, match=f"execution 'x': the value of record 2.*{why}"):
            journal.write(going_on("x", 2, value=value))
        with pytest.raises(PayloadError, match=f"posted to execution 'x'.*{why}"):
            journal.post("x", InboxItem("signal", "paid", value))
        refused, written = journal.write_all([opening("y", "executing.a", payload=value), going_on("x", 2)])

        assert isinstance(refused, JournalError)
        assert isinstance(refused, PayloadError)
        assert written == ()
        assert journal.find("y") is None
        assert seen(journal, "x") == [(1, "executing.a"), (2, "executing.b")]
        assert journal.inbox("x") == ()


@pytest.mark.parametrize("saga_id", ["half \ud800", "nul \0"])
def test_ids_that_no_database_could_tell_are_refused(journal, saga_id):
    """An id with half a character or a NUL cannot be used; asking for it finds nothing, and harms nothing."""
    with pytest.raises(PayloadError, match="cannot be journaled"):
        journal.write(opening(saga_id, "executing.a"))

    assert journal.find(saga_id) is None
    assert journal.records(saga_id) == []
    assert journal.inbox(saga_id) == ()
    assert journal.post(saga_id, InboxItem("cancel")) is False
    with pytest.raises(UnknownExecutionError):
        journal.claim(saga_id, "d-1")
    with pytest.raises(JournalError):
        journal.write(going_on(saga_id, 1))
    child = acceptance(saga_id, parent="x")
    for more in ({"children": (child,)}, {"dormant": (child,)}, {"plan": Plan((child,))}):
        with pytest.raises(PayloadError, match=r"the id .* cannot be journaled"):
            journal.write(opening("x", "waiting.g", **more))
    assert ids(journal) == []


def test_a_huge_error_is_cut_and_says_so(journal):
    """An error's text is kept within bounds: its beginning, its end, and how much is missing between them."""
    failure = Failure("E" * 10, "begin" + "m" * 100_000 + "end", "Traceback" + "t" * 500_000 + "last line")
    journal.write(opening("x", "executing.a"))
    journal.write(Commit("x", (record("x", 2, error=failure),), "d-1"))

    kept = journal.records("x")[1].error
    assert kept.message.startswith("begin")
    assert kept.message.endswith("end")
    assert "left out by the journal" in kept.message
    assert kept.traceback.endswith("last line")
    assert len(kept.message) < 20_000
    assert len(kept.traceback) < 70_000


def test_records_that_do_not_follow_one_another_are_refused(journal):
    """A gap, a repetition or another execution's record can never stand in a history."""
    journal.write(opening("x", "executing.a"))

    with pytest.raises(JournalError, match="do not follow one another"):
        journal.write(Commit("x", (record("x", 2), record("x", 4)), "d-1"))
    with pytest.raises(JournalError, match="do not follow one another"):
        journal.write(Commit("x", (record("y", 2),), "d-1"))
    with pytest.raises(LeaseLostError, match="is at record 1"):
        journal.write(going_on("x", 3))
    with pytest.raises(LeaseLostError, match="is at record 1"):
        journal.write(going_on("x", 1))
    with pytest.raises(JournalError, match="must be number 1"):
        journal.write(Commit("z", (record("z", 2),), "d-1", acceptance=acceptance("z")))

    assert seen(journal, "x") == [(1, "executing.a")]


def test_a_list_is_read_in_pages_that_hold_nothing_open(journal):
    """A list can be read for hours: no transaction is open between pages, and new executions are not in it."""
    journal.write_all([opening(f"{number:03}", "executing.a") for number in range(500)])
    entries = journal.entries()
    first = next(entries)

    journal.write(opening("newer", "executing.a"))
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0  # a reader would be in its way
    assert journal.pause(0.0) is True  # no connection is lent
    journal.resume()

    assert [first.saga_id, *(entry.saga_id for entry in entries)] == [f"{number:03}" for number in range(499, -1, -1)]


def test_lists_take_every_choice_at_once(journal):
    """State, saga, parent, age and number can be combined."""
    for number, (target, saga) in enumerate(
        [("stuck.a", "s"), ("stuck_executing.a", "s"), ("stuck.b", "t"), ("succeeded", "s"), ("waiting.w", "t")]
    ):
        opened = {"saga": saga, "parent": "p" if number % 2 else None}
        journal.write(opening(f"{number}", target, held=False, opened=opened))

    assert ids(journal) == ["4", "3", "2", "1", "0"]
    assert ids(journal, phase="stuck") == ["2", "1", "0"]
    assert ids(journal, phase="stuck_executing") == ["1"]
    assert ids(journal, phase="stuck.a") == ["0"]
    assert ids(journal, phase="stuck", saga="s", limit=1) == ["1"]
    assert ids(journal, parent="p") == ["3", "1"]
    assert ids(journal, before=1.0) == []
    assert ids(journal, before=1.5, limit=2) == ["4", "3"]
    assert ids(journal, phase="succeeded", parent="p") == ["3"]
    assert ids(journal, limit=0) == []
    assert ids(journal, phase="no such") == []


def test_prune_deletes_wholes_in_small_batches(journal, clock):
    """A parent goes with all its branches once they have all ended; writers need not wait for a great prune."""
    children = tuple(acceptance(f"p/g.{n}", parent="p") for n in "ab")
    journal.write(opening("p", "waiting.g", held=False, children=children))
    journal.write(opening("alone", "failed", held=False))
    journal.write(opening("goes-on", "executing.a"))
    for child in ("p/g.a", "p/g.b"):
        epoch = taken(journal, child, "d-1").epoch
        if child == "p/g.b":
            epoch = taken(journal, "p", "d-1").epoch
            journal.write(going_on("p", 2, "failed", epoch=epoch, held=False))
            assert journal.prune(100.0) == 1  # only the one that is alone: a branch of p goes on
            epoch = found(journal, child).epoch
        journal.write(going_on(child, 1, "succeeded", epoch=epoch, held=False))

    assert journal.prune(2.0) == 0  # p ended after that
    assert journal.prune(100.0, saga="other") == 0
    assert journal.prune(100.0, limit=1) == 3  # a family is not divided
    assert ids(journal) == ["goes-on"]
    assert rows(journal, "SELECT count(*) FROM records") == [(2,)]
    assert rows(journal, "SELECT count(*) FROM inbox") == [(0,)]

    journal.write_all([opening(f"{number}", "failed", held=False) for number in range(120)])
    with statements(journal) as executed:
        assert journal.prune(100.0, limit=110) == 110
    assert executed.count("COMMIT") == 3
    assert journal.prune(100.0) == 10


def test_a_driver_that_was_replaced_writes_nothing_more(path, clock):
    """Two journals on one file: what one has taken over, the other cannot write to, whichever way it tries."""
    with (
        closing(SQLiteJournal(path, clock=clock, lease=30.0)) as one,
        closing(SQLiteJournal(path, clock=clock, lease=30.0)) as two,
    ):
        one.enlist(DRIVER)
        one.write(opening("x", "executing.a"))
        one.write(going_on("x", 2))
        clock.now += 31.0
        two.enlist(OTHER)
        assert two.claimable(clock.now, 10) == ["x"]
        assert taken(two, "x", "d-2").epoch == 2

        with pytest.raises(LeaseLostError, match=r"taken over by another driver.*nothing was written"):
            one.write(going_on("x", 3))
        with pytest.raises(LeaseLostError):
            one.write(ending("x", 3))
        (refused,) = one.write_all([going_on("x", 3, "stuck.a", held=False)])
        one.release("x", 1)

        assert isinstance(refused, LeaseLostError)
        assert found(two, "x").driver == OTHER
        assert seen(two, "x") == [(1, "executing.a"), (2, "executing.b")]
        assert two.write(going_on("x", 3, driver="d-2", epoch=2)) == ()


def test_the_same_driver_under_an_old_epoch_writes_nothing(journal, path, clock):
    """The epoch alone decides: a driver that let go and took up again has nothing to say in its former name."""
    journal.write(opening("x", "executing.a"))
    with closing(SQLiteJournal(path, clock=clock)) as other:
        other.release("x", 1)
        assert taken(other, "x", "d-1").epoch == 2

    with pytest.raises(LeaseLostError):
        journal.write(going_on("x", 2))
    (refused,) = journal.write_all([going_on("x", 2)])
    assert isinstance(refused, LeaseLostError)
    assert journal.write(going_on("x", 2, epoch=2)) == ()


def test_inbox_comes_with_the_next_record(journal, path, clock):
    """Whatever another process posts, the driver has it at its next record, until it has dealt with it."""
    journal.write(opening("x", "executing.a"))
    with closing(SQLiteJournal(path, clock=clock)) as other:
        assert other.post("x", InboxItem("cancel", reason="enough"))

    (item,) = journal.write(going_on("x", 2))
    assert (item.kind, item.reason) == ("cancel", "enough")
    assert journal.beat("d-1") == ("x",)
    assert journal.write(going_on("x", 3)) == (item,)
    assert journal.write(going_on("x", 4, taken=(item.number,))) == ()
    assert journal.beat("d-1") == ()
    assert journal.write(ending("x", 5)) == ()


def test_an_empty_inbox_is_not_read_after_a_commit(journal):
    """The commits of a recovery, or of a branch with news, read an inbox only if it has items."""
    for saga_id in ("parent", "child"):
        journal.write(opening(saga_id, "executing.a"))
    with statements(journal) as executed:
        assert journal.write(going_on("child", 2, recoveries=Recoveries(1, 1))) == ()
        assert journal.write(going_on("child", 3, posts=(("parent", InboxItem("child", "child")),))) == ()
    assert [statement for statement in executed if "at FROM inbox" in statement] == []

    to_itself = going_on("child", 4, posts=(("child", InboxItem("begin")),))
    assert [item.kind for item in journal.write(to_itself)] == ["begin"]
    assert [item.kind for item in journal.write(going_on("parent", 2))] == ["child"]


def test_waits_and_counts_of_many_are_set_together(journal):
    """In a recovery of many, no execution has a statement of its own for its wait or its count."""
    count = 64
    journal.write_all([opening(f"{each}", "executing.a") for each in range(count)])
    with statements(journal) as executed:
        journal.write_all([going_on(f"{n}", 2, wake_at=float(n), recoveries=Recoveries(n, 1)) for n in range(count)])
    assert len(executed) == 6  # begin, the executions, the records, the waits, the counts, commit

    entries = [found(journal, f"{each}") for each in range(count)]
    assert [(entry.wake_at, *entry.recoveries) for entry in entries] == [(float(n), n, 1) for n in range(count)]
    journal.write_all([going_on(f"{n}", 3, wake_at=None if n else 9.5) for n in range(count)])
    assert {found(journal, f"{n}").wake_at for n in range(1, count)} == {None}
    assert found(journal, "0").wake_at == 9.5


def test_an_execution_is_found_with_its_owner_by_one_query(journal):
    """The owner's row comes with the execution's."""
    journal.write(opening("x", "executing.a"))
    assert found(journal, "x").driver == DRIVER
    with connections_of(journal).reader() as connection:
        executed: list[str] = []
        connection.set_trace_callback(executed.append)
    assert journal.find("x").driver == DRIVER
    with connections_of(journal).reader() as connection:
        connection.set_trace_callback(None)
    assert len(executed) == 1


def test_a_wait_is_over_with_the_next_record(journal):
    """When a driver must look again is what the last commit said, also while it holds the execution."""
    journal.write(opening("x", "executing.a"))
    journal.write(going_on("x", 2, "retrying.a", wake_at=9.5))
    assert found(journal, "x").wake_at == 9.5
    assert journal.next_wake() is None  # somebody holds it

    journal.write(going_on("x", 3))

    assert found(journal, "x").wake_at is None


def test_ended_execution_without_owner_is_not_claimable(journal):
    """An execution that ends without ever having been held is as ended as any."""
    journal.write(opening("x", driver=None))
    assert journal.claimable(0.0, 10) == ["x"]

    journal.write(ending("x", 1, driver=None))

    assert journal.claimable(1e9, 10) == []
    assert journal.prune(1e9) == 1


def test_ended_execution_has_no_owner_before_its_row_is_marked(journal, clock):
    """An execution that ended with a record alone is ended for everybody at once: to list, claim, post and write to."""
    journal.write(opening("x", "executing.a"))
    journal.write(ending("x", 2))
    clock.now += 1000.0

    assert found(journal, "x").driver is None
    assert journal.post("x", InboxItem("cancel")) is False
    assert journal.claimable(clock.now, 10) == []
    assert journal.beat("d-1") == ()
    with pytest.raises(LeaseLostError):
        journal.write(going_on("x", 3))
    assert ids(journal, phase="executing") == []
    assert taken(journal, "x", "d-2").epoch == 2  # as `undo` does
    journal.release("x", 2)
    assert found(journal, "x").driver is None
    assert journal.prune(clock.now) == 1


def test_ended_rows_leave_the_index_of_unfinished_ones(journal, clock):
    """Booked at the beat, when a driver goes, and when one is found dead: nothing grows with what has ended."""
    unfinished = "SELECT count(*) FROM executions WHERE ended_at IS NULL"

    def run(*saga_ids: str, driver: str) -> None:
        for saga_id in saga_ids:
            journal.write(opening(saga_id, "executing.a", driver=driver))
            journal.write(ending(saga_id, 2, driver=driver))

    run("a", "b", driver="d-1")
    run("c", "d", driver="d-2")
    assert rows(journal, unfinished) == [(4,)]

    clock.now += 10.0
    journal.beat("d-1")
    assert rows(journal, unfinished) == [(2,)]
    clock.now += 25.0
    journal.enlist(Driver("d-3"))  # finds that d-2 has not beaten for too long
    assert rows(journal, unfinished) == [(0,)]

    journal.beat("d-2")
    run("e", driver="d-2")
    journal.dismiss("d-2")
    assert rows(journal, unfinished) == [(0,)]
    assert len(ids(journal, phase="succeeded")) == 5


def test_undo_claimed_by_a_dead_driver_is_freed(journal, clock):
    """It has ended as it had before: it is not to be taken up, can be pruned, and does not keep its driver in mind."""
    journal.enlist(msgspec.structs.replace(this_driver(), id="dead", started="1"))
    journal.write(opening("x", "executing.a"))
    journal.write(ending("x", 2))
    assert taken(journal, "x", "dead").epoch == 2

    assert journal.claimable(clock.now, 9) == []
    entry = found(journal, "x")
    assert (entry.state, entry.driver) == ("succeeded", None)
    journal.enlist(Driver("new"))
    assert "dead" not in {row[3] for row in rows(journal, sql.DRIVERS)}
    assert journal.prune(clock.now) == 1


def test_large_wholes_are_pruned_up_to_the_limit(journal, clock):
    """They are deleted some at a time, so that no writer waits long, but up to the limit."""
    for number in range(4):
        whole = f"w{number}"
        journal.write(opening(whole, "executing.a"))
        journal.write(ending(whole, 2))
        for branch in range(60):
            saga_id = f"{whole}/g.{branch}"
            journal.write(opening(saga_id, "executing.a", opened={"parent": whole}))
            journal.write(ending(saga_id, 2))
    assert journal.prune(clock.now, limit=130) == 122
    assert journal.prune(clock.now, limit=1000) == 122


def test_drivers_that_are_gone_are_forgotten(journal, clock):
    """Dead drivers are deleted once they own nothing; drivers of other machines are remembered for a week."""
    dead = msgspec.structs.replace(this_driver(), id="dead", started="1")
    journal.enlist(dead)
    journal.write(opening("x", "executing.a", driver="dead"))

    clock.now += 8 * 24 * 3600.0
    journal.enlist(Driver("new"))
    assert {row[3] for row in rows(journal, sql.DRIVERS)} >= {"dead", "new"}
    assert taken(journal, "x", "new").epoch == 2
    journal.enlist(Driver("newer"))

    assert {row[3] for row in rows(journal, sql.DRIVERS)} == {"new", "newer"}


def test_ten_thousand_interrupted_executions_cost_one_look_at_their_driver(journal, clock, monkeypatch):
    """Liveness is checked once for a driver, not once for each of its executions."""
    journal.write_all([opening(f"{number}", "executing.a") for number in range(10_000)])
    clock.now += 31.0
    journal.enlist(Driver("new"))
    looks: list[Driver] = []

    is_alive = liveness.is_alive

    def looked_at(driver: Driver, *rest: float) -> bool:
        looks.append(driver)
        return is_alive(driver, *rest)

    monkeypatch.setattr(liveness, "is_alive", looked_at)

    found = journal.claimable(clock.now, 10_000)

    assert len(found) == 10_000
    assert len(looks) <= 3
    assert found[:3] == ["0", "1", "2"]


CHILD = """
import sys
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.journal.sqlite.journal import SQLiteJournal
from fsm_mediator.records import Acceptance, Record
journal = SQLiteJournal(sys.argv[1])
driver = this_driver()
journal.enlist(driver)
accepted = Acceptance("x", "s", "1", "f", None, 1.0)
first = Record("x", "s", 1, "start", "pending", "executing.a", 1.0)
journal.write(Commit("x", (first,), driver.id, acceptance=accepted))
print("holds", flush=True)
sys.stdin.read()
"""


@linux
def test_a_paused_process_is_not_robbed_and_a_dead_one_noticed_at_once(path):
    """SIGSTOP for longer than any lease takes nothing from it; after SIGKILL nothing is waited for."""
    process: Any = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"holds\n"
        with closing(SQLiteJournal(path, clock=lambda: time.time() + 1e9)) as journal:
            own = this_driver()
            journal.enlist(own)
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            assert journal.claimable(time.time() + 1e9, 10) == []
            assert journal.claim("x", own.id) is None
            assert found(journal, "x").driver_alive

            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert not found(journal, "x").driver_alive
            assert journal.claimable(time.time(), 10) == ["x"]
            assert taken(journal, "x", own.id).epoch == 2
            assert journal.records("x")[0].target == "executing.a"
    finally:
        process.kill()
        process.communicate()


def test_two_processes_that_open_one_file_at_once_make_one_journal(tmp_path):
    """The first process creates it, no process fails, and each id is accepted once."""
    code = f"""
import os
import sys
sys.path.insert(0, {str(ROOT)!r})
from fsm_mediator.journal.protocol import Commit, IdTakenError
from fsm_mediator.journal.sqlite.journal import SQLiteJournal
from fsm_mediator.records import Acceptance
sys.stdin.readline()
won = 0
for number in range(10):
    journal = SQLiteJournal(sys.argv[1] + str(number))
    try:
        journal.write(Commit("x", (), None, acceptance=Acceptance("x", "s", "1", "f", None, float(os.getpid()))))
        won += 1
    except IdTakenError:
        pass
    journal.close()
print(won)
"""
    processes: list[Any] = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "sagas")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in processes]

    assert [complaints for _, complaints in outputs] == ["", "", ""]
    assert sum(int(won) for won, _ in outputs) == 10


def test_every_statement_is_one_that_sqlite_understands():
    """A constant of the module is a statement, one for each number of rows, or a piece of one; nothing else."""
    with closing(SQLiteJournal(":memory:")) as journal:
        cursor = connections_of(journal).writer()
        prepared = 0
        for name, query in vars(sql).items():
            if not name.isupper() or name.startswith("_") or name in ("VERBS", "ENDED", "OF_OWNER"):
                continue
            for statement in query.values() if isinstance(query, dict) else (query,):
                assert isinstance(statement, str), name
                if statement.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT"):
                    numbers = max(map(int, re.findall(r"\?(\d+)", statement)), default=statement.count("?"))
                    cursor.execute(f"EXPLAIN {statement}", (1,) * numbers)
                    prepared += 1
        assert prepared > 100
        assert journal.next_wake() is None
        assert journal.check() == []
    assert [size for size in (64, 16, 4, 2, 1) if size in sql.RECORD] == list(sql.RECORD)


def test_nothing_that_runs_or_recovers_looks_at_all_that_ended(journal):
    """A journal of a million ended executions is as quick as a new one: every row is found by an index."""
    # Some at a time, newest or eldest first; or all, for the check.
    for_people = ("CHOSEN", "ENTRIES", "PRUNABLE", "PRUNABLE_OF_SAGA", "FORGET", "FAULTS")
    cursor = connections_of(journal).writer()
    looked_at = 0
    for name, query in vars(sql).items():
        statement = query.get(1) if isinstance(query, dict) else query
        if not name.isupper() or name.startswith("_") or name in for_people or not isinstance(statement, str):
            continue
        if statement.split()[0] not in ("SELECT", "UPDATE", "DELETE", "INSERT", "WITH"):
            continue  # a piece of one
        looked_at += 1
        parameters = max(map(int, re.findall(r"\?(\d+)", statement)), default=statement.count("?"))
        plan = [step for *_, step in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", (1,) * parameters)]
        scanned = [
            step for step in plan if re.match(r"SCAN (executions|records|inbox|forgotten|e|r|a|i)\b(?!.*in_hand)", step)
        ]
        assert not scanned, (name, plan)
        if name.startswith(("FREE_", "ABANDONED")):  # the first few of many are read in the order of the index
            assert not any("ORDER BY" in step for step in plan), (name, plan)
        if name in ("MAIL_OF", "UNSEEN"):  # the driver of a group of thousands reads the newest items alone
            assert any("inbox_of (execution=? AND rowid>?)" in step for step in plan), plan
    assert looked_at > 30
