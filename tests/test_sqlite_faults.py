"""The SQLite journal when things go wrong: locks, full and broken disks, files taken away, forks at any moment."""

from __future__ import annotations

import functools
import gc
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fsm_mediator import SQLiteJournal, forking
from fsm_mediator.journal import codec
from fsm_mediator.journal.sqlite import connections, transaction
from tests.commits import (
    DRIVER,
    ROOT,
    Clock,
    connections_of,
    found,
    going_on,
    ids,
    in_a_write,
    in_python,
    opening,
    queue_of,
    refused,
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


def test_a_locked_file_is_waited_for_then_an_error(path, clock):
    """The journal waits for another process's transaction up to busy_timeout; then the error says what to do."""
    with closing(SQLiteJournal(path, busy_timeout=0.01, clock=clock)) as journal:
        journal.enlist(DRIVER)
        journal.write(opening("x", "executing.a"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for write in (
                lambda: journal.write(going_on("x", 2)),
                lambda: journal.write(opening("y", "executing.a")),
                lambda: journal.claim("x", "d-1"),
            ):
                with refused("could not be written", "kept it locked", "0.01 seconds (SQLITE_BUSY)", "Nothing"):
                    write()
            assert found(journal, "x").seq == 1  # to look, nobody has to wait
            SQLiteJournal(path, busy_timeout=0.01).close()  # nor to open
            other.execute("ROLLBACK")
        assert journal.write(going_on("x", 2)) == ()


FULL_DISK = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
from fsm_mediator.errors import JournalError
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.journal.sqlite.journal import SQLiteJournal
from fsm_mediator.records import Acceptance
journal = SQLiteJournal(sys.argv[1])
def write(number):
    journal.write(Commit(str(number), (), None, acceptance=Acceptance(str(number), "s", "1", "f", "x" * 50_000, 1.0)))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
written = 0
try:
    while written < 1000:
        write(written)
        written += 1
except JournalError as error:
    print(error)
assert len(list(journal.entries())) == written
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
write(written)
print(written, len(list(journal.entries())))
journal.close()
"""


def test_a_full_disk_is_an_error_and_no_loss(path):
    """If a file cannot grow, the write fails, earlier records stay, and writing works again when there is room."""
    ended = in_python(FULL_DISK, path)

    complaint, numbers = ended.stdout.splitlines() or [ended.stderr, ""]
    assert "could not be written: the disk" in complaint, ended
    assert "Nothing was written" in complaint
    written, kept = map(int, numbers.split())
    assert 0 < written < 100
    assert kept == written + 1
    with closing(SQLiteJournal(path, read_only=True)) as journal:
        assert len(ids(journal)) == kept


def damaged(path: Path, damage: Callable[[Path], object]) -> SQLiteJournal:
    """A journal with a file that was damaged after `close`."""
    with closing(SQLiteJournal(path, durability="normal")) as journal:
        journal.enlist(DRIVER)
        journal.write_all([opening(f"{number}", "executing.a", payload="x" * 500) for number in range(300)])
    damage(path)
    return journal


def test_a_truncated_file_is_reported(path):
    """A file that lost its end is an error that says so, and how to save what can be saved."""
    journal = damaged(path, lambda file: os.truncate(file, file.stat().st_size // 2))

    with refused("is damaged", "backup", ".recover"):
        ids(journal)
        for number in range(300):
            journal.records(str(number))
    journal.close()


def test_garbage_in_a_file_is_reported(path):
    """Overwritten pages are an error for reads and for writes."""

    def overwrite(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[4096:] = b"garbage!" * ((len(content) - 4096) // 8)
        file.write_bytes(content)

    journal = damaged(path, overwrite)

    with refused("is damaged"):
        ids(journal)
    with refused("is damaged"):
        journal.write(opening("new", "executing.a"))
    journal.close()


def test_a_beginning_that_was_overwritten_is_reported(path):
    """A file that is no longer a database gets another message than a file that never was a journal."""
    journal = damaged(path, lambda file: file.write_bytes(b"garbage!" * 1000))

    with refused("not a SQLite file, or its beginning was overwritten (SQLITE_NOTADB). Name another file"):
        journal.find("1")


def test_details_that_are_no_json_are_reported(journal):
    """Whatever stands in a row, no error of SQLite or msgspec reaches a user, and the execution is listed."""
    journal.write(opening("x", "executing.a"))
    for text in (b'{"value":', b"\xff"):
        in_a_write(journal, functools.partial(damage, text))
        with refused("record 1 cannot be read", "is damaged"):
            journal.records("x")
        assert ids(journal) == ["x"]
        assert journal.find("x").acceptance.payload is codec.UNREADABLE


def damage(text, cursor):
    """Write *text* in place of the details of every record."""
    cursor.execute("UPDATE records SET details = CAST(? AS TEXT)", (text,))


FORK = f"""
import os, sys, threading
sys.path.insert(0, {str(ROOT)!r})
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.journal.sqlite.journal import SQLiteJournal
from fsm_mediator.records import Acceptance
def write(saga_id):
    journal.write(Commit(saga_id, (), None, acceptance=Acceptance(saga_id, "s", "1", "f", None, 1.0)))
journal = SQLiteJournal(sys.argv[1])
write("parent")
to_parent, to_child = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    write("child-1")
    os.write(to_parent[1], b"x")
    os.read(to_child[0], 1)
    write("child-2")
    journal.close()
    os._exit(0)
os.read(to_parent[0], 1)
write("parent-2")
journal.close()     # with connections carried over the fork, this would take the log away from under the child
os.write(to_child[1], b"x")
assert os.waitpid(pid, 0)[1] == 0
print(sorted(entry.saga_id for entry in journal.entries()))
"""

FORKS = f"""
import os, sys, threading, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {str(ROOT)!r})
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.journal.sqlite.journal import SQLiteJournal
from fsm_mediator.records import Acceptance
def write(journal, saga_id):
    journal.write(Commit(saga_id, (), None, acceptance=Acceptance(saga_id, "s", "1", "f", None, 1.0)))
journal, memory = SQLiteJournal(sys.argv[1], durability="normal"), SQLiteJournal(":memory:")
write(memory, "m")
stop, counts = threading.Event(), [0, 0, 0]
def work(number):
    while not stop.is_set():
        write(journal, f"{{number}}-{{counts[number]}}")
        counts[number] += 1
        journal.find("x")
threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for number in range(15):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            write(journal, f"child-{{number}}")
            assert memory.find("m") is None
            write(memory, "n")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
ids = {{entry.saga_id for entry in journal.entries()}}
expected = {{f"{{n}}-{{i}}" for n in range(3) for i in range(counts[n])}} | {{f"child-{{n}}" for n in range(15)}}
assert ids == expected, ids ^ expected
assert memory.find("m") and not memory.find("n")
print("all there")
"""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")


@forks
def test_after_a_fork_each_process_has_connections_of_its_own(path):
    """Parent and child go on with the same journal object; neither takes anything from the other."""
    ended = in_python(FORK, path)

    assert ended.stdout == "['child-1', 'child-2', 'parent', 'parent-2']\n", ended


@forks
def test_child_of_a_fork_that_did_not_wait_closes_no_connection_of_its_parent(journal):
    """To close them would touch the files of the parent, which still uses them; the child opens its own."""

    def alive() -> int:
        return sum(type(each) is sqlite3.Connection for each in gc.get_objects())

    with connections_of(journal).reader(), connections_of(journal).reader():
        pass
    gc.collect()
    before = alive()

    journal.reset()  # as in a child, if `pause` took too long

    assert alive() == before
    assert journal.write(opening("x", "executing.a", driver=None)) == ()


@forks
def test_forks_amid_writing_threads_lose_nothing(path):
    """A process may fork at any moment, whatever its threads are doing; children write at once."""
    ended = in_python(FORKS, path)

    assert ended.stdout == "all there\n", ended


@forks
def test_a_fork_does_not_wait_for_ever(journal, monkeypatch):
    """A writer that does not come to an end does not keep the process from forking."""
    monkeypatch.setattr(forking, "PATIENCE", 0.01)
    group = queue_of(journal)
    ticket = group.acquire()
    assert ticket is not None
    rested: list[bool] = [journal.pause(0.01)]
    other = threading.Thread(target=lambda: rested.append(journal.pause(0.01)))
    other.start()
    other.join()
    group.release(ticket)
    with connections_of(journal).reader():
        rested.append(journal.pause(0.01))

    assert rested == [False, False, False]
    assert journal.pause(0.01) is True
    journal.resume()
    assert journal.write(opening("x", "executing.a")) == ()
    assert found(journal, "x").seq == 1


def test_write_waits_until_another_process_has_written(journal, path, monkeypatch):
    """It tries again after each pause, and is written as soon as the other is done."""
    waits: list[float] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                other.execute("COMMIT")

        with monkeypatch.context() as patched:
            patched.setattr("fsm_mediator.journal.sqlite.transaction.time.sleep", sleep)
            assert journal.write_all([opening("x", "executing.a"), opening("y", "executing.a")]) == [(), ()]

    assert waits == [transaction.PAUSE] * 3


def test_a_lost_file_is_an_error_at_every_later_use(journal, path, monkeypatch):
    """Once it was noticed, the next use does not take the file for whole until the next check is due."""
    journal.write(opening("x", "executing.a"))
    monkeypatch.setattr(connections, "CHECK_EVERY", 3600.0)
    assert ids(journal) == ["x"]
    path.rename(path.with_name("elsewhere"))
    for use in (lambda: journal.beat("d-1"), lambda: journal.find("x"), lambda: journal.write(going_on("x", 2))):
        with refused("was deleted, moved or replaced"):
            use()
    path.with_name("elsewhere").rename(path)
    assert journal.write(going_on("x", 2)) == ()
    assert found(journal, "x").seq == 2


def test_connection_to_a_lost_file_is_not_closed_before_the_process_ends(journal, path):
    """To close it would write the old log into the file that is in its place now."""
    journal.write(opening("x", "executing.a"))
    assert ids(journal) == ["x"]
    kept = connections_of(journal).writer().connection
    log = Path(f"{path}-wal")
    log.rename(log.with_name("elsewhere"))

    journal.close()

    assert kept.execute("SELECT count(*) FROM executions").fetchone() == (1,)
