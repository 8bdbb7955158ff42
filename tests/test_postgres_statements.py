"""What the PostgreSQL journal asks of its server: plans on large tables, round trips, commits."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import pytest

from fsm_mediator.journal.attention import PENDING_NOW
from fsm_mediator.journal.planning import Plan
from fsm_mediator.journal.postgres import PostgresJournal
from fsm_mediator.journal.postgres.connections import Connections
from fsm_mediator.journal.protocol import Commit, Driver
from fsm_mediator.records import InboxItem
from tests.commits import DRIVER, acceptance, ending, found, going_on, opening
from tests.postgres_server import changed, connections_of, server

MANY = 20_000
LARGE = ("executions", "records", "inbox", "planned", "slots", "forgotten")
"""The tables that grow with the executions."""

FILLED = f"""
    INSERT INTO executions (saga_id, saga, version, fingerprint, state, changed_at, seq, epoch, driver, wake_at, mail,
        attention, ended_at, parent)
    SELECT 'n' || n, 's', '1', 'f' || n % 50,
        CASE n % 4 WHEN 0 THEN 'succeeded' WHEN 1 THEN 'pending' ELSE 'retrying.a' END,
        n, 1, 1, CASE WHEN n % 4 = 3 THEN 'd' || n % 100 END, CASE WHEN n % 4 = 2 THEN n END, 0,
        CASE n % 4 WHEN 1 THEN {PENDING_NOW!r} WHEN 2 THEN n END, CASE WHEN n % 4 = 0 THEN n END,
        CASE WHEN n % 3 = 0 THEN 'n' || n / 3 END
    FROM generate_series(1, {MANY}) n;
    INSERT INTO records SELECT n, seq, 'executed', 'a', 'b', n, '{{}}'
    FROM generate_series(1, {MANY}) n, generate_series(0, 1) seq;
    INSERT INTO inbox (execution, kind, name, at) SELECT n, 'signal', 'x', n FROM generate_series(1, {MANY}, 4) n;
    INSERT INTO forgotten SELECT 'x' || n, 's', 'failed', n FROM generate_series(1, {MANY}) n;
    INSERT INTO planned SELECT n, 0, 'p' || n, 's', '1', 'f', NULL, false, n, '{{}}' FROM generate_series(1, {MANY}) n;
    INSERT INTO slots (execution, name, epoch, begun) SELECT n, 'l' || n % 500, 1, n % 2 = 0
    FROM generate_series(1, {MANY}) n;
    ANALYZE executions, records, inbox, forgotten, planned, slots
"""  # noqa: S608


@pytest.fixture(scope="module")
def large() -> Iterator[PostgresJournal]:
    """A journal with large tables."""
    with closing(server().journal(pooled=False)) as journal:
        journal.enlist(DRIVER)
        changed(journal, FILLED)
        yield journal


@contextmanager
def plans_of(journal: PostgresJournal, monkeypatch, mode: str) -> Iterator[list[str]]:
    """The plans of all statements that the journal's connections execute."""
    plans: list[str] = []
    connect = Connections.connect

    def explaining(self: Connections) -> Any:
        connection = connect(self)
        connection.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
        connection.prepare_threshold = 0
        connection.execute("LOAD 'auto_explain'")
        for setting, value in (
            *(("auto_explain.log_min_duration", "0"), ("auto_explain.log_level", "notice")),
            *(("client_min_messages", "notice"), ("plan_cache_mode", mode)),
        ):
            connection.execute(f"SET {setting} = {value}".encode())
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(Connections, "connect", explaining)
        journal.close()
        yield plans
        journal.close()


def scanned(plans: list[str]) -> list[str]:
    """The steps of plans that read a large table, or an index of one, from its first row on."""
    table = rf"on ({'|'.join(LARGE)})\b"
    return [
        f"{line.strip()}, in {plan}"
        for plan in plans
        for line, after in itertools.pairwise([*plan.splitlines(), ""])
        if re.search(f"Seq Scan {table}", line)
        or (re.search(f"Scan using .* {table}|Bitmap Index Scan", line) and "Index Cond:" not in after)
        if "ANY ('{}'::" not in after  # nothing is asked for: whatever index is named, no row of it is read
    ]


def work(journal: PostgresJournal, name: str) -> None:
    """Every call that drivers make while sagas run."""
    limited = msgspec.structs.replace(DRIVER, limits=(("call", 1),))
    journal.enlist(limited)
    journal.write(opening(name, "executing.a"))
    journal.write(going_on(name, 2))
    journal.post(name, InboxItem("signal", "x", at=1.0))
    journal.post(name, InboxItem("retry", f"{name} verb", at=1.0))
    journal.post(name, InboxItem("signal", "x", at=1.0), clock=lambda: 1.0)
    items = journal.inbox(name)
    journal.write(going_on(name, 3, taken=tuple(item.number for item in items)))
    journal.write(going_on(name, 4, children=(acceptance(f"{name}/g.a", parent=name),)))
    journal.write(going_on(name, 5, plan=Plan((acceptance(f"{name}/g.b", parent=name),))))
    journal.write(Commit(name, (), "d-1", plan=Plan(creates=(0, 1)), token=1))
    journal.planned(name)
    journal.write(going_on(name, 6, slot="call"))
    journal.write(opening(f"{name}-queued", "executing.a", slot="call"))
    journal.turns("d-1")
    journal.write(ending(name, 7, slot=""))
    journal.beat("d-1")
    journal.beat("d-1", everything=True)
    journal.next_wake()
    journal.claim_some("d-1", 100.0, 5, ("f1", "f2"), ("n5", "n9"))
    journal.release("n13", 1)
    journal.claim("n17", "d-1")
    journal.release("n17", 2)
    several = [f"n{number}" for number in range(21, 60)]
    journal.claim_all(several, "d-1")
    journal.find_all(several)
    journal.records_of_all(several)
    found(journal, name)
    journal.records(name)
    list(journal.entries(limit=10))
    list(journal.entries(parent=name))
    journal.forgotten(name)
    journal.damage_of(name)
    journal.known()


@pytest.mark.parametrize("mode", ["force_custom_plan", pytest.param("force_generic_plan", marks=pytest.mark.postgres)])
def test_no_statement_of_a_driver_reads_a_whole_table(large, monkeypatch, mode):
    """However many executions there are: each statement finds its rows by an index, prepared or not."""
    with plans_of(large, monkeypatch, mode) as plans:
        work(large, f"hot-{mode}")
    text = "\n".join(plans)
    assert all(f"on {table}" in text for table in LARGE)
    assert not scanned(plans), scanned(plans)[0]


def test_the_newest_items_of_a_long_inbox_are_read_alone(large, monkeypatch):
    """The driver of a group of thousands reads each message of a branch once."""
    large.write(opening("o-group", "waiting.g"))
    changed(
        large,
        """INSERT INTO inbox (execution, kind, name, at)
           SELECT e.number, 'child', n, n FROM executions e, generate_series(1, 3000) n WHERE saga_id = 'o-group';
           ANALYZE inbox""",
    )
    *_, last, newest = large.inbox("o-group")
    with plans_of(large, monkeypatch, "force_custom_plan") as plans:
        assert large.inbox_after("o-group", last.number) == (newest,)
    (plan,) = [plan for plan in plans if "inbox" in plan]
    assert re.search(r"Index Cond: .*\(number > ", plan), plan


def test_the_backlog_is_neither_sorted_nor_read_whole_to_claim_some(large, monkeypatch):
    """Claiming five of thousands looks at five rows, and sorts nothing but these."""
    with plans_of(large, monkeypatch, "force_custom_plan") as plans:
        claimed = large.claim_some("d-1", 0.0, 5)
    assert len(claimed) == 5
    (plan,) = [plan for plan in plans if "CTE pending" in plan]
    reading = plan[plan.index("CTE now") : plan.index("CTE e\n")]
    assert reading.count("Index Scan using to_claim") == 3
    assert reading.count("Index Cond: ((attention ") == 3
    assert "Sort" not in reading


def test_no_index_has_a_new_entry_while_an_execution_runs(large):
    """What each record changes in the row of its execution is in no index, nor in the condition of one.

    Only such an update is written without a new entry in every index of the table (a HOT update).
    """
    named = connections_of(large).read("""
        SELECT DISTINCT a.attname FROM pg_index i JOIN pg_depend d ON d.objid = i.indexrelid
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE i.indrelid = 'journal.executions'::regclass""")
    assert not {"state", "changed_at", "seq", "wake_at", "mail", "epoch", "last_token"} & {name for (name,) in named}
    assert {"driver", "ended_at", "failed"} <= {name for (name,) in named}


# Round trips


@contextmanager
def round_trips(journal: PostgresJournal) -> Iterator[list[str]]:
    """The messages with which the client waits for the server, as libpq's trace has them."""
    noted: list[str] = []
    with connections_of(journal).session("read") as session:
        pgconn = session.connection.pgconn
    with tempfile.TemporaryFile() as file:
        pgconn.trace(file.fileno())
        yield noted
        pgconn.untrace()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        noted += re.findall(r"\bF\s+\d+\s+(?:Sync|Query)\b.*", file.read().decode())


def test_opening_and_going_on_take_one_round_trip_and_one_commit_each(journal):
    """Also under a limit that has room again, and when an execution ends."""
    before = transactions(journal)
    for number in range(6):  # by then all is prepared
        journal.write_all([opening(f"o-{number}", "executing.a")])
        journal.write(opening(f"p-{number}", "executing.a"))
        journal.write(going_on(f"p-{number}", 2))
        journal.write(going_on(f"p-{number}", 3, slot=""))
        journal.write(ending(f"p-{number}", 4))
    with round_trips(journal) as waited:
        journal.write(opening("x", "executing.a"))
        journal.write(going_on("x", 2))
        journal.write(going_on("x", 3, slot=""))
        journal.write(ending("x", 4))
    assert len(waited) == 4, waited
    assert transactions(journal) - before == 6 * 5 + 4


@pytest.mark.parametrize("size", [2, 100])
def test_many_executions_take_the_round_trips_of_one(journal, size):
    """A claim looks at the owners and at their drivers, then claims all in one transaction."""
    names = [f"o-{number}" for number in range(size)]
    journal.write_all([opening(name, "executing.a", held=False) for name in names])
    before = transactions(journal)
    with round_trips(journal) as claiming:
        assert len(journal.claim_all(names, "d-1")) == size
    assert transactions(journal) - before == 1
    with round_trips(journal) as again:
        assert len(journal.claim_all(names, "d-1")) == size
    with round_trips(journal) as finding:
        assert len(journal.find_all(names)) == size
    with round_trips(journal) as reading:
        assert len(journal.records_of_all(names)) == size
    assert [len(each) for each in (claiming, again, finding, reading)] == [3, 3, 2, 1]


def test_execution_that_another_transaction_changes_is_left_out_of_many(journal):
    """The claim of the others does not wait for it. Afterwards it is claimed as well."""
    journal.write_all([opening(name, "executing.a", held=False) for name in ("x", "y")])
    with connections_of(journal).session("written") as session, session.connection.transaction():
        session.execute("SELECT 1 FROM journal.executions WHERE saga_id = 'x' FOR UPDATE")
        assert list(journal.claim_all(["x", "y"], "d-1")) == ["y"]
    assert sorted(journal.claim_all(["x", "y"], "d-1")) == ["x", "y"]
    assert (found(journal, "x").epoch, found(journal, "y").epoch) == (2, 2)


def transactions(journal: PostgresJournal) -> int:
    """How many transactions of the server have written so far."""
    ((number,),) = connections_of(journal).read("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    return int(number)


@pytest.fixture
def journal() -> Iterator[PostgresJournal]:
    """A journal in tables of its own, used by one thread."""
    with closing(server().journal()) as made:
        made.enlist(Driver("d-1"))
        yield made
