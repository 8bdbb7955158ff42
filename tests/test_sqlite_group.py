"""The SQLite journal and many threads: they share commits, and errors of one do not affect the others."""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator import JournalError, LeaseLostError, SQLiteJournal
from fsm_mediator.journal.group_commit import LEADER, GroupCommit, Waiter
from fsm_mediator.journal.protocol import Commit, IdTakenError
from fsm_mediator.journal.sqlite.connections import Connections
from fsm_mediator.journal.sqlite.writing import Writer
from fsm_mediator.records import InboxItem
from tests.commits import (
    DRIVER,
    OTHER,
    Clock,
    acceptance,
    all_at_once,
    connections_of,
    ending,
    found,
    going_on,
    ids,
    in_a_write,
    opening,
    queue_of,
    record,
    seen,
    statements,
    taken,
    two_drivers,
)


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


def test_threads_that_write_at_once_lose_nothing(journal):
    """Every record of every thread is there, once, in its order."""
    threads, sagas = 8, 12

    def work(number: int) -> None:
        for saga in range(sagas):
            saga_id = f"{number}-{saga}"
            journal.write(opening(saga_id, "executing.a"))
            journal.write(going_on(saga_id, 2, value=number))
            journal.write(ending(saga_id, 3))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert len(ids(journal, phase="succeeded")) == threads * sagas
    for number in range(threads):
        for saga in range(sagas):
            assert seen(journal, f"{number}-{saga}") == [(1, "executing.a"), (2, "executing.b"), (3, "succeeded")]


def test_writes_at_the_same_time_share_one_commit(journal):
    """Commits that queue while a thread writes are one transaction, and so one wait for the disk."""
    count = 20
    commits = [opening(f"{number}", "executing.a") for number in range(count)]
    with statements(journal) as executed:
        results = all_at_once(journal, *(lambda commit=commit: journal.write(commit) for commit in commits))

    assert results == [()] * count
    assert sum(statement == "COMMIT" for statement in executed) == 1
    assert len(executed) < count  # nor is there a statement for each
    assert len(ids(journal)) == count


def test_write_all_is_one_commit(journal):
    """What the tasks of one turn of an event loop want written costs one commit."""
    with statements(journal) as executed:
        results = journal.write_all([opening(f"{number}", "executing.a") for number in range(200)])

    assert results == [()] * 200
    assert executed.count("COMMIT") == 1
    assert journal.write_all([]) == []


def test_a_lone_write_is_one_statement(journal):
    """The usual record costs what one hand-written insert costs: no look before, no look after."""
    journal.write(opening("x", "executing.a"))
    with statements(journal) as executed:
        journal.write(going_on("x", 2))
        journal.write(ending("x", 3))

    assert len(executed) == 2
    assert all("INSERT INTO records" in statement for statement in executed)
    assert found(journal, "x").state == "succeeded"
    assert found(journal, "x").driver is None


def test_refused_commit_does_not_affect_the_others(journal):
    """In one commit: a taken id, a lost lease, an unknown execution and an unknown driver; all others are written."""
    journal.write(opening("taken", "executing.a"))
    journal.write(opening("lost", "executing.a", driver="d-2"))

    results = journal.write_all(
        [
            opening("new", "executing.a"),
            opening("taken", "executing.a", payload="another"),
            going_on("lost", 2),
            going_on("unknown", 1),
            opening("nobody", "executing.a", driver="d-9"),
            going_on("taken", 2),
            Commit("lost", (), "d-2", taken=(7,), children=(acceptance("taken"),)),
            opening("twin", "executing.a"),
            opening("twin", "executing.a", payload="another"),
        ]
    )

    kinds = [() if result == () else type(result) for result in results]
    assert kinds[:4] == [(), IdTakenError, LeaseLostError, JournalError]
    assert kinds[4:] == [LeaseLostError, (), IdTakenError, (), IdTakenError]
    assert sorted(ids(journal)) == ["lost", "new", "taken", "twin"]
    assert seen(journal, "taken") == [(1, "executing.a"), (2, "executing.b")]


def test_commit_that_fails_half_way_does_not_affect_the_others(journal):
    """What SQLite itself refuses, after half of it was done, is undone alone; its neighbours are written."""
    not_a_time = Commit("bad", (record("bad", 1, at=math.nan),), "d-1", acceptance=acceptance("bad", version="new"))

    first, bad, last = journal.write_all([opening("first", "executing.a"), not_a_time, opening("last", "executing.a")])

    assert (first, last) == ((), ())
    assert isinstance(bad, JournalError)
    assert "Nothing was written" in str(bad)
    assert sorted(ids(journal)) == ["first", "last"]
    journal.write(opening("later", "executing.a", opened={"version": "new"}))
    assert found(journal, "later").acceptance.version == "new"


def test_a_queue_of_usual_records_is_a_handful_of_statements(journal):
    """However many executions are opened or continued at the same time, none has statements of its own."""
    journal.write(opening("x", "executing.a"))
    count = 192
    with statements(journal) as opened:
        journal.write_all([opening(f"{number}", "executing.a") for number in range(count)])
    with statements(journal) as went_on:
        journal.write_all([going_on(f"{number}", 2) for number in range(count)])
    with statements(journal) as ended:
        journal.write_all([ending(f"{number}", 3) for number in range(count)])

    assert len(opened) == 13  # begin, their driver, the highest number, 3 of 64 executions, 6 of 64 records, commit
    assert len(went_on) == len(ended) == 6  # begin, whether they are held as before, 3 of 64 records, commit
    assert len(ids(journal, phase="succeeded")) == count


def test_any_number_of_records_takes_as_few_statements_as_there_are_sizes(journal):
    """87 executions are 64 + 16 + 4 + 2 + 1: five statements open them, and five add the next record of each."""
    journal.write(opening("x", "executing.a"))
    count = 87
    with statements(journal) as opened:
        journal.write_all([opening(f"{number}", "executing.a") for number in range(count)])
    with statements(journal) as went_on:
        journal.write_all([going_on(f"{number}", 2) for number in range(count)])

    assert len(opened) == 1 + 2 + 5 + 8 + 1  # begin, driver and highest number, executions, 174 records, commit
    assert len(went_on) == 1 + 1 + 5 + 1
    assert {number: seen(journal, f"{number}") for number in range(count)} == {
        number: [(1, "executing.a"), (2, "executing.b")] for number in range(count)
    }


@pytest.mark.parametrize("what", ["taken over", "has mail", "ahead", "taken"])
def test_unusual_commit_in_a_queue_of_plain_ones_is_found(journal, path, clock, what):
    """An execution was claimed elsewhere, has mail, is ahead, or exists; the others of the group are written."""
    for saga_id in ("odd", "usual"):
        journal.write(opening(saga_id, "executing.a"))
    with closing(SQLiteJournal(path, durability="normal", clock=clock)) as other:
        if what == "taken over":
            other.release("odd", 1)
            assert other.claim("odd", "d-2") is not None
        elif what == "has mail":
            other.post("odd", InboxItem("cancel"))
        elif what == "ahead":
            other.write(going_on("odd", 2, value="another"))

    with statements(journal) as executed:
        odd, usual, new = journal.write_all(
            [
                opening("odd", "executing.a", payload="another") if what == "taken" else going_on("odd", 2),
                going_on("usual", 2),
                opening("new", "executing.a"),
            ]
        )

    assert (usual, new) == ((), ())
    assert seen(journal, "usual") == [(1, "executing.a"), (2, "executing.b")]
    assert seen(journal, "new") == [(1, "executing.a")]
    if what == "has mail":
        assert [item.kind for item in odd] == ["cancel"]
    else:
        assert isinstance(odd, IdTakenError if what == "taken" else LeaseLostError)
    assert len(seen(journal, "odd")) == (2 if what in ("has mail", "ahead") else 1)
    assert ("ROLLBACK" in executed) is (what == "ahead")


@pytest.mark.parametrize("together", [False, True])
def test_a_driver_that_another_process_forgot_can_hold_nothing(journal, path, clock, together):
    """No driver would ever claim its executions: it must enlist again first, whatever this process remembers of it."""
    for saga_id in ("x", "y"):
        journal.write(opening(saga_id, "executing.a"))
        journal.write(ending(saga_id, 2))
    journal.write(opening("parked", driver=None))
    with closing(SQLiteJournal(path, durability="normal", clock=clock)) as other:
        other.dismiss("d-1")

    commits = [opening("new", "executing.a")] + ([opening("newer", "executing.a")] if together else [])
    if together:
        assert [type(result) for result in journal.write_all(commits)] == [LeaseLostError] * 2
    else:
        with pytest.raises(LeaseLostError, match="never enlisted, or was dismissed"):
            journal.write(commits[0])
    with pytest.raises(LeaseLostError, match="never enlisted, or was dismissed"):
        journal.claim("parked", "d-1")

    assert sorted(ids(journal)) == ["parked", "x", "y"]
    journal.enlist(DRIVER)
    assert journal.write_all(commits) == [()] * len(commits)
    assert taken(journal, "parked", "d-1").epoch == 2


def test_reused_execution_number_does_not_mislead_the_cache(journal, path, clock):
    """One was taken over, ended and pruned elsewhere; its number is another's now, of the same driver and epoch."""
    for saga_id in ("first", "gone"):
        journal.write(opening(saga_id, "executing.a", "executing.b", "executing.c"))
    with closing(sqlite3.connect(path)) as elsewhere, elsewhere:
        elsewhere.execute("PRAGMA foreign_keys=ON")
        elsewhere.execute("DELETE FROM executions WHERE saga_id = 'gone'")
    journal.write(opening("next", "executing.a"))

    usual, refused_one = journal.write_all([going_on("first", 4), going_on("gone", 4)])

    assert usual == ()
    assert isinstance(refused_one, JournalError)
    assert seen(journal, "next") == [(1, "executing.a")]


def test_refusal_after_a_change_is_rolled_back(journal):
    """Whatever is refused has changed nothing, though it was refused half-way."""

    def job(cursor: sqlite3.Cursor) -> None:
        cursor.execute("DELETE FROM executions")
        raise LeaseLostError("too late")

    journal.write(opening("x", "executing.a"))
    refusal, written = all_at_once(
        journal, lambda: in_a_write(journal, job), lambda: journal.write(opening("y", "executing.a"))
    )

    assert str(refusal) == "too late"
    assert written == ()
    assert sorted(ids(journal)) == ["x", "y"]


def test_posts_claims_and_writes_share_a_commit_too(journal):
    """Everything that writes goes the same way."""
    journal.write(opening("x", "executing.a"))
    journal.write(opening("free", driver=None))
    with statements(journal) as executed:
        posted, entry, written = all_at_once(
            journal,
            lambda: journal.post("x", InboxItem("cancel")),
            lambda: journal.claim("free", "d-2"),
            lambda: journal.write(opening("y", "executing.a")),
        )

    assert posted is True
    assert entry.driver == OTHER
    assert written == ()
    assert executed.count("COMMIT") == 1


def test_failed_commit_fails_the_whole_group(journal):
    """A full disk fails the whole group, each with an error of its own; the same writes succeed once there is room."""
    journal.write(opening("x", "executing.a"))
    connections = connections_of(journal)
    cursor = connections.writer()
    (pages,) = cursor.execute("PRAGMA page_count").fetchone()
    cursor.execute(f"PRAGMA max_page_count={pages + 4}")
    commits = [going_on("x", 2), opening("y", "executing.a", payload="y" * 500_000), opening("z", "executing.a")]
    calls = [lambda commit=commit: journal.write(commit) for commit in commits]

    errors = all_at_once(journal, *calls)

    assert [type(error) for error in errors] == [JournalError] * 3
    assert len({id(error) for error in errors}) == 3
    assert all("the disk is full" in str(error) and "Nothing was written; make room" in str(error) for error in errors)
    assert ids(journal) == ["x"]
    assert seen(journal, "x") == [(1, "executing.a")]
    connections.writer().execute("PRAGMA max_page_count=1000000")
    assert all_at_once(journal, *calls) == [(), (), ()]
    assert sorted(ids(journal)) == ["x", "y", "z"]


@pytest.mark.parametrize("together", [False, True])
def test_numbers_of_a_failed_commit_are_not_used_again(journal, together):
    """A full disk undoes a commit with a new definition; the number goes to another one, and is not taken for it."""
    connections = connections_of(journal)
    (pages,) = connections.writer().execute("PRAGMA page_count").fetchone()
    connections.writer().execute(f"PRAGMA max_page_count={pages + 4}")
    large = opening("y", "executing.a", payload="y" * 500_000, opened={"version": "new"})
    commits = [large, opening("z", "executing.a")] if together else [large]
    results = all_at_once(journal, *(lambda each=each: journal.write(each) for each in commits))
    assert [type(result) for result in results] == [JournalError] * len(commits)
    assert "(SQLITE_FULL)" in str(results[0])
    connections.writer().execute("PRAGMA max_page_count=1000000")

    journal.write(opening("other", "executing.a", opened={"version": "other"}))
    assert journal.write(large) == ()

    assert {entry.saga_id: entry.acceptance.version for entry in journal.entries()} == {"other": "other", "y": "new"}
    assert journal.write(going_on("y", 2)) == ()


@pytest.mark.parametrize("driver_id", ["never enlisted", "half a \ud800", "nul \0"])
def test_driver_that_nobody_enlisted_writes_and_claims_nothing(journal, driver_id):
    """An id that no database could tell is as unknown as any other."""
    journal.write(opening("free", driver=None))
    commits = [opening(saga_id, "executing.a", driver=driver_id) for saga_id in ("x", "y")]
    for use in (lambda: journal.write(commits[0]), lambda: journal.claim("free", driver_id)):
        with pytest.raises(LeaseLostError, match="never enlisted, or was dismissed"):
            use()
    assert [type(result) for result in journal.write_all(commits)] == [LeaseLostError] * 2
    assert ids(journal) == ["free"]


def test_interrupt_leaves_no_thread_waiting(journal):
    """A KeyboardInterrupt in the thread that writes for several ends its own call; the others have it done anew."""
    journal.write(opening("x", "executing.a"))

    def interrupted() -> None:
        def job(cursor: sqlite3.Cursor) -> None:
            raise KeyboardInterrupt

        in_a_write(journal, job)

    results = all_at_once(
        journal, interrupted, *(lambda n=n: journal.write(opening(f"{n}", "executing.a")) for n in "ab")
    )

    assert isinstance(results[0], KeyboardInterrupt)
    assert results[1:] == [(), ()]
    assert sorted(ids(journal)) == ["a", "b", "x"]
    assert journal.write(going_on("x", 2)) == ()


def test_interrupted_leader_does_not_affect_the_others(journal):
    """Whoever leads the group is interrupted in the midst of it: all others are written, each once."""
    interrupts = iter([KeyboardInterrupt])
    connections = connections_of(journal)
    cursor = connections.writer()

    class Interrupted:
        def __getattr__(self, name: str) -> object:
            return getattr(cursor, name)

        def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> object:
            if statement == "COMMIT" and (interrupt := next(interrupts, None)) is not None:
                raise interrupt
            return cursor.execute(statement, parameters)

    connections.cursor = Interrupted()  # type: ignore[assignment]
    results = all_at_once(journal, *(lambda n=n: journal.write(opening(f"{n}", "executing.a")) for n in range(6)))

    assert sorted(map(repr, results)) == ["()"] * 5 + ["KeyboardInterrupt()"]
    assert len(ids(journal)) == 5


class CommitsAndIsInterrupted:
    """A cursor that is interrupted right after a commit."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self.cursor = cursor

    def __getattr__(self, name: str) -> object:
        return getattr(self.cursor, name)

    def execute(self, statement: str, parameters: tuple[object, ...] = ()) -> object:
        self.cursor.execute(statement, parameters)
        if statement == "COMMIT":
            raise KeyboardInterrupt
        return self


def test_an_interrupt_after_the_commit_does_not_deny_it(journal):
    """The other threads get their results, even if the leader is interrupted right after the commit."""
    connections = connections_of(journal)
    cursor = connections.writer()
    connections.cursor = CommitsAndIsInterrupted(cursor)  # type: ignore[assignment]

    results = all_at_once(journal, *(lambda n=n: journal.write(opening(f"{n}", "executing.a")) for n in range(4)))

    connections.cursor = cursor
    assert sum(isinstance(result, KeyboardInterrupt) for result in results) == 1
    assert [result for result in results if not isinstance(result, KeyboardInterrupt)] == [()] * 3
    assert len(ids(journal)) == 4


def test_connections_stay_open_at_the_end_while_a_thread_writes(tmp_path, monkeypatch):
    """When the interpreter ends, a daemon thread may still write: its connection is not closed under it."""
    monkeypatch.setattr("fsm_mediator.journal.sqlite.writing.CLOSING", 0.01)
    path = str(tmp_path / "sagas.db")
    connections = Connections(path, durability="normal", busy_timeout=1.0, read_only=False)
    writer = Writer(connections)

    def job(cursor: sqlite3.Cursor) -> bool:
        ending = threading.Thread(target=writer.close_unless_used)
        ending.start()
        ending.join()
        return connections.cursor is cursor

    assert writer.group.perform((job,)) == [True]
    writer.close_unless_used()
    assert connections.cursor is None


def test_timed_out_thread_leaves_the_queue(journal):
    """A thread that stops waiting leaves the queue, and never becomes the leader."""
    group = queue_of(journal)
    ticket = group.acquire()
    results: list[object] = []
    waiter = threading.Thread(target=lambda: results.append(group.acquire(timeout=0.001)))
    waiter.start()
    waiter.join()

    assert results == [None]
    assert not group.waiting
    assert ticket is not None
    group.release(ticket)
    assert journal.write(opening("x", "executing.a")) == ()


def test_use_from_within_its_own_write_is_refused(journal):
    """A finaliser that runs inside a write and writes itself gets an error, for it would wait for itself."""
    caught: list[BaseException] = []

    def job(cursor: sqlite3.Cursor) -> None:
        try:
            journal.write(opening("x", "executing.a"))
        except JournalError as error:
            caught.append(error)

    in_a_write(journal, job)

    assert "inside one of its own writes" in str(caught[0])


def test_chain_passes_over_an_interrupted_follower(monkeypatch):
    """Followers wake one another; a follower that no longer waits is passed over."""
    monkeypatch.setattr("fsm_mediator.journal.group_commit.PATIENCE", 3600.0)
    interrupted: Waiter[str] = Waiter("b")

    def commit(tickets: Sequence[Waiter[str]]) -> None:
        for ticket in tickets:
            ticket.results = list(ticket.jobs)
        group.release(interrupted)

    group = GroupCommit(commit, lambda job: None)
    stopped = group.acquire()
    assert stopped is not None
    stopped.thread = 0  # the test queues itself, though it is the one that writes
    leader = _queued(group, "a", 1)
    assert not group.lead_or_queue(interrupted)
    follower = _queued(group, "c", 3)
    group.release(stopped)

    for thread in (leader, follower):
        thread.join(30.0)
        assert not thread.is_alive()
    assert interrupted.results == ["b"]


def test_interrupted_thread_rests_until_its_jobs_are_done(monkeypatch):
    """The leader has its jobs already: it looks once, and again when it is woken; it does not keep a processor busy."""
    monkeypatch.setattr("fsm_mediator.journal.group_commit.PATIENCE", 3600.0)
    looks: list[int] = []
    at_work, go = threading.Event(), threading.Event()

    class Noting(Waiter[str]):
        @property
        def done(self) -> bool:
            looks.append(threading.get_ident())
            return super().done

    def commit(tickets: Sequence[Waiter[str]]) -> None:
        at_work.set()
        go.wait()
        for ticket in tickets:
            ticket.results = list(ticket.jobs)

    group = GroupCommit(commit, lambda job: None)
    stopped = group.acquire()
    assert stopped is not None
    stopped.thread = 0  # the test queues itself, though it is the one that writes
    leader = _queued(group, "a", 1)
    interrupted = Noting("b")
    assert not group.lead_or_queue(interrupted)
    group.release(stopped)
    at_work.wait()
    resting = threading.Thread(target=group.release, args=(interrupted,), daemon=True)
    resting.start()
    while not looks:
        time.sleep(0.001)
    go.set()
    for thread in (leader, resting):
        thread.join(30.0)
        assert not thread.is_alive()

    assert looks.count(resting.ident or 0) == 2
    assert interrupted.results == ["b"]


def test_thread_lost_by_an_interrupted_leader_gets_an_error(monkeypatch):
    """An interrupt between any two lines of the leader may lose a waiting thread; it finds out, and does not hang."""
    monkeypatch.setattr("fsm_mediator.journal.group_commit.PATIENCE", 0.01)
    errors: list[JournalError] = []
    group: GroupCommit[str] = GroupCommit(lambda tickets: None, lambda job: None)

    def work() -> None:
        with pytest.raises(JournalError, match="whether this was written is not known") as caught:
            group.perform("a")
        errors.append(caught.value)

    stopped = group.acquire()
    assert stopped is not None
    waiter = threading.Thread(target=work, daemon=True)
    waiter.start()
    while not group.waiting:
        time.sleep(0.001)
    group.waiting.clear()
    waiter.join(30.0)

    assert len(errors) == 1
    group.release(stopped)


def _with_a_writer_at_work() -> tuple[GroupCommit[str], threading.Thread, threading.Event, list[str]]:
    """A group whose single writer does the job "a" until the event is set; its thread; and the jobs that were begun."""
    at_work, go = threading.Event(), threading.Event()
    done: list[str] = []

    def alone(job: str) -> str:
        done.append(job)
        at_work.set()
        go.wait()
        return job

    group: GroupCommit[str] = GroupCommit(lambda tickets: None, alone)
    first = _queued(group, "a", 0)
    at_work.wait()
    return group, first, go, done


def test_thread_that_queues_while_a_single_writer_writes_leads_next(monkeypatch):
    """The single writer wakes the thread as soon as it has left."""
    monkeypatch.setattr("fsm_mediator.journal.group_commit.PATIENCE", 3600.0)
    group, first, go, done = _with_a_writer_at_work()
    second = _queued(group, "b", 1)
    go.set()

    for thread in (first, second):
        thread.join(30.0)
        assert not thread.is_alive()
    assert done == ["a", "b"]
    assert not group.is_led


def test_thread_that_queues_just_after_the_single_writer_left_leads(monkeypatch):
    """The single writer did not see the thread in the queue. The thread sees that nobody leads, and does not wait."""
    monkeypatch.setattr("fsm_mediator.journal.group_commit.PATIENCE", 3600.0)
    group, first, go, done = _with_a_writer_at_work()

    class LeftMeanwhile(dict[str, Waiter[str]]):
        def setdefault(self, *place: Any) -> Any:
            leader = super().setdefault(*place)
            go.set()  # the writer leaves after the other thread has seen it, and before that thread is in the queue
            first.join()
            return leader

    group.lead = LeftMeanwhile(group.lead)
    second = _queued(group, "b", 0)

    second.join(30.0)
    assert not second.is_alive()
    assert done == ["a", "b"]
    assert not group.is_led


def test_thread_finds_out_that_an_interrupted_writer_let_no_thread_lead(monkeypatch):
    """A second interrupt may hit the writer while it leaves. A waiting thread checks whether it can lead itself."""
    monkeypatch.setattr("fsm_mediator.journal.group_commit.PATIENCE", 0.01)
    done: list[str] = []

    def alone(job: str) -> str:
        done.append(job)
        return job

    group: GroupCommit[str] = GroupCommit(lambda tickets: None, alone)
    stopped = group.acquire()
    assert stopped is not None
    waiting = _queued(group, "a", 1)
    group.lead.clear()  # the interrupted thread left, and did nothing more

    waiting.join(30.0)
    assert not waiting.is_alive()
    assert done == ["a"]


def test_thread_that_an_interrupted_thread_made_the_leader_does_its_jobs_once(monkeypatch):
    """The interrupt came before the thread was taken from the queue and woken."""
    monkeypatch.setattr("fsm_mediator.journal.group_commit.PATIENCE", 0.01)
    groups: list[list[str]] = []

    def commit(tickets: Sequence[Waiter[str]]) -> None:
        groups.append([job for ticket in tickets for job in ticket.jobs])
        for ticket in tickets:
            ticket.results = list(ticket.jobs)

    group = GroupCommit(commit, lambda job: None)
    stopped = group.acquire()
    assert stopped is not None
    waiting = _queued(group, "a", 1)
    group.lead[LEADER] = group.waiting[0]

    waiting.join(30.0)
    assert not waiting.is_alive()
    assert groups == [["a"]]
    assert not group.is_led


@pytest.mark.parametrize(("linger", "each"), [(60.0, 0.0), (0.0, 60.0)], ids=["few", "many"])
def test_next_leader_lets_followers_run_first(monkeypatch, linger, each):
    """Threads of the last group come back with their next record and share the commit: it does not begin at once.

    With many followers, the leader lets them run for a longer time.
    """
    monkeypatch.setattr("fsm_mediator.journal.group_commit.LINGER", linger)
    monkeypatch.setattr("fsm_mediator.journal.group_commit.LINGER_EACH", each)
    groups: list[list[str]] = []
    turn = threading.Event()

    def commit(tickets: Sequence[Waiter[str]]) -> None:
        groups.append([job for ticket in tickets for job in ticket.jobs])
        for ticket in tickets:
            ticket.results = list(ticket.jobs)

    class Slow(GroupCommit[str]):
        def _woken(self, ticket: Waiter[str]) -> None:
            if ticket.jobs == "b":
                turn.wait()
            super()._woken(ticket)

    group = Slow(commit, lambda job: None)
    stopped = group.acquire()
    assert stopped is not None
    followers = [_queued(group, "a", 1), _queued(group, "b", 2)]
    group.release(stopped)
    followers[0].join()  # it led, and wrote "b" as well; the thread of "b" waits for its turn
    next_leader = threading.Thread(target=group.perform, args=("c",))
    next_leader.start()
    while group._followers_awake is not None and len(groups) == 1:
        time.sleep(0.001)

    before = list(groups)
    turn.set()
    for thread in (*followers, next_leader):
        thread.join()
    assert before == [["a", "b"]]
    assert groups == [["a", "b"], ["c"]]


def _queued(group: GroupCommit[str], job: str, waiting: int) -> threading.Thread:
    """A thread that has queued with *job*, so that so many wait."""
    thread = threading.Thread(target=group.perform, args=(job,), daemon=True)
    thread.start()
    while len(group.waiting) < waiting:
        time.sleep(0.001)
    return thread
