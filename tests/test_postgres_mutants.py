"""The tests of the PostgreSQL journal can fail: each deliberate fault in it breaks a promise, and is caught.

`PROMISES` hold on the journal as it is. Each of `MUTANTS` names the promise that it breaks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import psycopg
import pytest

from fsm_mediator import JournalError, LeaseLostError
from fsm_mediator.journal.postgres import PostgresJournal, commit, slots, sql
from fsm_mediator.journal.postgres.commit import Batch
from fsm_mediator.journal.postgres.connections import Session
from fsm_mediator.journal.postgres.presence import SecondLook
from fsm_mediator.journal.protocol import Commit, Driver, IdTakenError, InboxChangedError, Queued
from fsm_mediator.records import InboxItem
from tests.commits import DRIVER, OTHER, ending, found, going_on, opening, seen, taken
from tests.postgres_server import changed, connections_of, liveness_of, server, until_unlocked, without_second_look

Patch = Callable[[Any, str, Any], None]
PROMISES: dict[str, Callable[[PostgresJournal], None]] = {}
MUTANTS: dict[str, tuple[str, Callable[[Patch], None]]] = {}
FAR = Driver("far", host="other", boot_id="another boot", pid=1, started="1")


def promise(function: Callable[[PostgresJournal], None]) -> Callable[[PostgresJournal], None]:
    """Register a promise: its docstring is its name."""
    PROMISES[str(function.__doc__)] = function
    return function


def mutant(broken: Callable[[PostgresJournal], None]) -> Callable[[Callable[[Patch], None]], None]:
    """Register a mutant: its docstring says what it is."""

    def register(function: Callable[[Patch], None]) -> None:
        MUTANTS[str(function.__doc__)] = (str(broken.__doc__), function)

    return register


def again(journal: PostgresJournal) -> PostgresJournal:
    """Another journal on the same tables, as another process has it."""
    return server().journal(connections_of(journal).schema)


def refuses(journal: PostgresJournal, commit: Commit) -> None:
    """Alone and among others, it is refused, and nothing is written."""
    before = [(seen(journal, each.saga_id), each.epoch) for each in journal.entries()]
    with pytest.raises(LeaseLostError):
        journal.write(commit)
    (written,) = journal.write_all([commit])
    assert isinstance(written, LeaseLostError)
    assert before == [(seen(journal, each.saga_id), each.epoch) for each in journal.entries()]


@promise
def epochs_fence(journal: PostgresJournal) -> None:
    """A driver that has claimed an execution again does not write under its earlier claim."""
    journal.write(opening("o-1", "executing.a"))
    journal.release("o-1", 1)
    taken(journal, "o-1", "d-1")
    refuses(journal, going_on("o-1", 2))


@promise
def owners_fence(journal: PostgresJournal) -> None:
    """A driver does not write to an execution that another one owns."""
    journal.write(opening("o-1", "executing.a"))
    refuses(journal, going_on("o-1", 2, driver="d-2"))


@promise
def records_follow(journal: PostgresJournal) -> None:
    """No record is written twice, and none is left out."""
    journal.write(opening("o-1", "executing.a"))
    refuses(journal, going_on("o-1", 3))
    journal.write(going_on("o-1", 2))
    refuses(journal, going_on("o-1", 2, "executing.c"))


@promise
def one_claims(journal: PostgresJournal) -> None:
    """Of two that claim an execution at the same time one has it."""
    journal.write(opening("o-1", "executing.a", held=False))
    first, second = again(journal), again(journal)
    with closing(first), closing(second), before_writing(first, lambda: second.claim("o-1", "d-2")):
        assert first.claim("o-1", "d-1") is None
    owner = found(journal, "o-1").driver
    assert owner is not None
    assert owner.id == "d-2"


@contextmanager
def before_writing(journal: PostgresJournal, does: Callable[[], object]) -> Iterator[None]:
    """Have something done between what the journal reads and what it writes then."""
    connections = connections_of(journal)
    write = connections.write

    def delayed(*arguments: Any) -> Any:
        does()
        return write(*arguments)

    connections.write = delayed  # type: ignore[assignment, method-assign]
    yield


@promise
def all_or_nothing(journal: PostgresJournal) -> None:
    """Records, the items that they take, and those that they post, are in one transaction."""
    journal.write_all([opening("o-1", "executing.a"), opening("o-2", "executing.a")])
    journal.post("o-1", InboxItem("signal", "x", at=1.0))
    changed(journal, "INSERT INTO records SELECT number, 2, '', '', '', 1, '{}' FROM executions WHERE saga_id = 'o-1'")
    (item,) = journal.inbox("o-1")
    with pytest.raises(JournalError):
        journal.write(going_on("o-1", 2, taken=(item.number,), posts=(("o-2", InboxItem("signal", "y", at=1.0)),)))
    assert journal.inbox("o-1") == (item,)
    assert journal.inbox("o-2") == ()


@promise
def one_clock(journal: PostgresJournal) -> None:
    """The clock of a worker decides nothing: one whose clock is slow is as alive as another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda now=time.time: now() - 3600)
        with closing(again(journal)) as far:
            far.enlist(FAR)
            far.beat("far")
            far.write(opening("o-1", "executing.a", driver="far"))
            patch.undo()
            assert found(without_second_look(journal), "o-1").driver_alive
            assert journal.claim("o-1", "d-1") is None


@promise
def lock_and_lease(journal: PostgresJournal) -> None:
    """Elsewhere a driver lives while its lease runs and its connection holds its lock; it is gone at a second look."""
    liveness_of(journal).monotonic = lambda: 0.0
    with closing(again(journal)) as far:
        for saga_id, driver in (("o-1", "far-1"), ("o-2", "far-2")):
            far.enlist(Driver(driver, host="other", boot_id="another boot", pid=1, started="1"))
            far.write(opening(saga_id, "executing.a", driver=driver))
        assert journal.claim_some("d-1", 0.0, 9) == []
        changed(journal, "UPDATE drivers SET beat_at = beat_at - 31 WHERE id = 'far-1'")
        assert journal.claim_some("d-1", 0.0, 9) == []
        liveness_of(journal).monotonic = lambda: 9.0
        assert [entry.saga_id for entry in journal.claim_some("d-1", 0.0, 9)] == ["o-1"]
    until_unlocked(journal, "far-2")
    assert journal.claim_some("d-1", 0.0, 9) == []
    liveness_of(journal).monotonic = lambda: 18.0
    assert [entry.saga_id for entry in journal.claim_some("d-1", 0.0, 9)] == ["o-2"]


@promise
def restarts_kill_nobody(journal: PostgresJournal) -> None:
    """A look from before a restart of the server, or from before an outage, does not count."""
    liveness_of(journal).monotonic = lambda: 0.0
    with closing(again(journal)) as far:
        far.enlist(FAR)
        far.write(opening("o-1", "executing.a", driver="far"))
    until_unlocked(journal, "far")
    assert journal.claimable(0.0, 9) == []
    with pytest.raises(JournalError), connections_of(journal).session("read"):
        raise psycopg.OperationalError("the connection was cut")
    liveness_of(journal).monotonic = lambda: 9.0
    assert journal.claimable(0.0, 9) == []
    (row,) = connections_of(journal).read(sql.DRIVERS_OF_IDS, (0, ["far"]))
    liveness_of(journal).monotonic = lambda: 18.0
    assert not liveness_of(journal).is_gone((*row[:4], row[4] + 1.0, *row[5:]))  # the server was started later


@promise
def repeated_commits(journal: PostgresJournal) -> None:
    """A commit whose answer was lost is recognised when it is made again, and refused to everybody else."""
    journal.write(opening("o-1", "executing.a"))
    with pytest.raises(IdTakenError):
        journal.write(opening("o-1", "executing.b"))
    assert journal.write_all([opening("o-1", "executing.a")]) == [()]
    for each in (
        going_on("o-1", 2),
        Commit("o-1", (), "d-1", token=7),
        ending("o-1", 3),
    ):
        assert [journal.write(each)] == journal.write_all([each])


@promise
def mail_arrives(journal: PostgresJournal) -> None:
    """A driver sees with its commit what has come to the inbox, and closes no wait over a signal that has come."""
    journal.write(opening("o-1", "executing.a"))
    journal.post("o-1", InboxItem("signal", "x", at=1.0))
    assert [item.name for item in journal.write(going_on("o-1", 2))] == ["x"]
    with pytest.raises(InboxChangedError):
        journal.write(going_on("o-1", 3, unless_mail=("signal", "x")))


@promise
def ids_stay_taken(journal: PostgresJournal) -> None:
    """The id of an execution that was deleted is not used again."""
    journal.write(opening("o-1", "executing.a"))
    journal.write(ending("o-1", 2))
    journal.prune(1e10)
    with pytest.raises(IdTakenError):
        journal.write(opening("o-1", "executing.a"))


@promise
def drivers_are_known(journal: PostgresJournal) -> None:
    """A driver that was dismissed opens and claims nothing."""
    journal.write(opening("o-1", "executing.a", held=False))
    journal.dismiss("d-1")
    with pytest.raises(LeaseLostError):
        journal.write(opening("o-2", "executing.a"))
    with closing(again(journal)) as other:
        other.enlist(DRIVER)
        with before_writing(other, lambda: journal.dismiss("d-1")):
            assert other.claim("o-1", "d-1") is None


@promise
def limits_hold(journal: PostgresJournal) -> None:
    """No more attempts than slots, one after the other; an execution that was claimed has lost its slot."""
    for driver in ("d-1", "d-2"):
        journal.enlist(Driver(driver, limits=(("call", 1),)))
    journal.write(opening("o-1", "executing.call", slot="call"))
    assert type(journal.write(opening("o-2", "executing.call", driver="d-2", slot="call"))) is Queued
    assert journal.turns("d-2") == []
    assert locks_of_limits(journal) == 1
    journal.release("o-1", 1)
    taken(journal, "o-1", "d-1")
    assert journal.turns("d-2") == ["o-2"]


def locks_of_limits(journal: PostgresJournal) -> int:
    """How many locks a transaction holds that has asked for a slot."""
    schema = connections_of(journal).schema
    asked = [opening("o-3", "executing.call", slot="call")]
    with connections_of(journal).session("written") as session, session.connection.transaction(force_rollback=True):
        slots.SlotJudge(session, asked, slots.SlotRules(schema, lambda row: False, 30.0))
        found = session.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        return len(found.fetchall())


def without(patch: Patch, name: str, *texts: str) -> None:
    """Leave these texts out of a statement."""
    statement: str = getattr(sql, name)
    for text in texts:
        assert text in statement, text
        statement = statement.replace(text, "")
    patch(sql, name, statement)


def judged(patch: Patch, change: Callable[[Any, Any], Any]) -> None:
    """Change what the check of a commit of any kind compares."""
    original = commit.refusal_of

    def mutated(write: Any, its: Any) -> Any:
        if its is not None:
            its = change(write, its)
        return original(write, its)

    patch(commit, "refusal_of", mutated)


@mutant(epochs_fence)
def _(patch):
    """The epoch is left out of the usual statement."""
    without(patch, "GO_ON", " AND epoch = %(epoch)s::int")


@mutant(owners_fence)
def _(patch):
    """The driver is left out of the usual statement."""
    without(patch, "GO_ON", " AND driver IS NOT DISTINCT FROM %(driver)s")


@mutant(records_follow)
def _(patch):
    """The number of the last record is left out of the usual statement."""
    without(patch, "GO_ON", "seq = %(before)s::int AND ")


@mutant(epochs_fence)
def _(patch):
    """The epoch is not compared for commits of other kinds."""
    judged(patch, lambda write, its: copied(its, epoch=write.commit.epoch))


@mutant(owners_fence)
def _(patch):
    """The driver is not compared for commits of other kinds."""
    judged(patch, lambda write, its: copied(its, driver=write.commit.driver))


@mutant(records_follow)
def _(patch):
    """The number of the last record is not compared for commits of other kinds."""
    judged(patch, lambda write, its: copied(its, seq=write.rows[0][0] - 1))


def copied(its: Any, **changes: Any) -> Any:
    """What is known of an execution, with changes."""
    return msgspec.structs.replace(its, **changes)


@mutant(one_claims)
def _(patch):
    """A claim does not look at the epoch and the owner that it has read."""
    without(patch, "CLAIM", " AND epoch = %(epoch)s AND driver IS NOT DISTINCT FROM %(owner)s")


@mutant(all_or_nothing)
def _(patch):
    """Items are posted by a transaction of their own."""
    outside(patch, sql.POST)


@mutant(all_or_nothing)
def _(patch):
    """Items are taken by a transaction of their own."""
    outside(patch, sql.TAKE)


def outside(patch: Patch, statement: str) -> None:
    """Execute this statement on another connection."""
    execute = Session.execute

    def mutated(self: Session, text: str, parameters: Any = ()) -> Any:
        if text is not statement:
            return execute(self, text, parameters)
        with psycopg.connect(server().url(), autocommit=True) as other:
            # What the transaction has locked is not waited for.
            schema = self._schema
            other.execute(f"SET search_path = {schema}".encode())
            if text is sql.TAKE:
                other.execute(b"DELETE FROM inbox WHERE number = ANY(%s::bigint[])", parameters)
            else:
                values = (parameters["kind"], parameters["name"], parameters["at"], parameters["saga_id"])
                other.execute(
                    b"INSERT INTO inbox (execution, kind, name, at) SELECT number, %s, %s, %s FROM executions "
                    b"WHERE saga_id = %s",
                    values,
                )
        return execute(self, "SELECT 1")

    patch(Session, "execute", mutated)


@mutant(one_clock)
def _(patch):
    """The worker's clock is written down in place of the server's."""
    for name in ("ENLIST", "BEAT"):
        statement: str = getattr(sql, name)
        assert "journal.now_seconds()" in statement
    execute = Session.execute

    def mutated(self: Session, text: str, parameters: Any = ()) -> Any:
        if text in (sql.ENLIST, sql.BEAT):
            text = text.replace("journal.now_seconds()", f"{time.time()!r}::float8")
        return execute(self, text, parameters)

    patch(Session, "execute", mutated)


@mutant(lock_and_lease)
def _(patch):
    """The lock of a driver's connection is not looked at."""
    present(patch, lambda row: (*row[:3], True, *row[4:]))


@mutant(lock_and_lease)
def _(patch):
    """The lease is not looked at."""
    present(patch, lambda row: (row[0], 0.0, *row[2:]))


def present(patch: Patch, change: Callable[[Any], Any]) -> None:
    """Change what is seen of a driver."""
    original = SecondLook.is_present
    patch(SecondLook, "is_present", staticmethod(lambda row: original(change(row))))


@mutant(lock_and_lease)
def _(patch):
    """A driver is gone at the first look."""
    original = SecondLook.__init__

    def mutated(self: SecondLook, pause: float, *more: Any) -> None:
        original(self, 0.0, *more)

    patch(SecondLook, "__init__", mutated)


@mutant(restarts_kill_nobody)
def _(patch):
    """The start of the server is not compared."""
    original = SecondLook.is_gone
    patch(SecondLook, "is_gone", lambda self, row: original(self, (*row[:4], 0.0, *row[5:])))


@mutant(restarts_kill_nobody)
def _(patch):
    """A looker that was cut off goes on with its looks."""
    patch(SecondLook, "forget", lambda self: None)


@mutant(repeated_commits)
def _(patch):
    """A commit that was made already is not recognised."""
    patch(Batch, "_is_written", lambda self, write, its: False)


@mutant(repeated_commits)
def _(patch):
    """A commit is taken to be made already by the number of its last record alone."""
    original = Batch._is_written
    patch(
        Batch,
        "_is_written",
        lambda self, write, its: bool(write.rows and its.seq == write.rows[-1][0]) or original(self, write, its),
    )


@mutant(mail_arrives)
def _(patch):
    """The usual statement does not look whether there is mail."""
    without(patch, "GO_ON", " AND mail = 0")


@mutant(mail_arrives)
def _(patch):
    """The item that must not be there is not looked for."""
    patch(commit, "check_unless_mail", lambda commit, inbox: None)


@mutant(ids_stay_taken)
def _(patch):
    """The usual statement opens an execution whose id is forgotten."""
    without(patch, "OPEN", " AND NOT EXISTS (SELECT 1 FROM journal.forgotten WHERE saga_id = %(saga_id)s)")


@mutant(drivers_are_known)
def _(patch):
    """The usual statement opens an execution for any driver."""
    patch(
        sql,
        "OPEN",
        sql.OPEN.replace("EXISTS (SELECT 1 FROM journal.drivers WHERE id = %(owner)s FOR KEY SHARE)", "true"),
    )


@mutant(drivers_are_known)
def _(patch):
    """A driver that was dismissed a moment ago claims."""
    without(patch, "CLAIM", "AND EXISTS (SELECT 1 FROM journal.drivers WHERE id = %(driver)s FOR KEY SHARE)")


@mutant(limits_hold)
def _(patch):
    """Slots are given without the limit's lock."""
    patch(sql, "LOCK_LIMITS", "SELECT %s::int, %s::int[]")


@mutant(limits_hold)
def _(patch):
    """The slot of an earlier claim counts."""
    without(patch, "BEGUN", " AND e.epoch = s.epoch")


@mutant(limits_hold)
def _(patch):
    """The queue is not looked at when there is room."""
    patch(sql, "WITH_ROOM", "SELECT unnest(%s::text[]) WHERE %s::bigint[] IS NOT NULL")


@pytest.fixture
def made() -> Iterator[PostgresJournal]:
    """A journal with two drivers, in tables of its own."""
    with closing(server().journal()) as new:
        new.enlist(DRIVER)
        new.enlist(OTHER)
        yield new


@pytest.mark.parametrize("name", PROMISES)
def test_the_journal_keeps_the_promise(made, name):
    """What the mutants break holds on the journal as it is."""
    PROMISES[name](made)


@pytest.mark.postgres
@pytest.mark.parametrize("name", MUTANTS)
def test_each_fault_is_caught(name, monkeypatch):
    """The promise that the fault breaks does not hold any more."""
    broken, function = MUTANTS[name]
    function(monkeypatch.setattr)
    with closing(server().journal()) as new:
        new.enlist(DRIVER)
        new.enlist(OTHER)
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            PROMISES[broken](new)
