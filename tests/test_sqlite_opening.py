"""The SQLite journal's file: where it can be, how it is opened, and the versions of its schema."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest

from fsm_mediator import MemoryJournal, SQLiteJournal
from fsm_mediator.errors import DefinitionError
from fsm_mediator.journal.factory import open_journal
from fsm_mediator.journal.notes import Note
from fsm_mediator.journal.operators import Fault
from fsm_mediator.journal.protocol import NO_RECOVERIES, Commit, Driver, Entry, Journal, Recoveries
from fsm_mediator.journal.sqlite import path as paths
from fsm_mediator.journal.sqlite import schema
from fsm_mediator.records import Failure, InboxItem
from tests.commits import (
    DRIVER,
    ROOT,
    Clock,
    acceptance,
    all_at_once,
    connections_of,
    ending,
    found,
    going_on,
    ids,
    in_python,
    opening,
    record,
    refused,
    rows,
    seen,
    taken,
    two_drivers,
)

JOURNALS = Path(__file__).parent / "journals"
EVERY = sorted(JOURNALS.glob("v*.db"), key=lambda path: int(path.stem[1:]))
"""The file of each version of the schema, the newest last."""


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


def test_places_where_no_journal_can_be_are_refused_plainly(tmp_path, path):
    """A path that cannot work is an error at opening, with the reason and the next move."""
    with refused("no/sagas.db", "directory", "does not exist", "mkdir -p"):
        SQLiteJournal(tmp_path / "no" / "sagas.db")
    with refused("is a directory", "sagas.db"):
        SQLiteJournal(tmp_path)
    (tmp_path / "file").write_text("x")
    with refused("its directory", "is not one"):
        SQLiteJournal(tmp_path / "file" / "sagas.db")
    with refused("cannot be opened", "Name another"):
        SQLiteJournal(tmp_path / ("x" * 300))
    with refused("does not exist", "was opened read-only"):
        SQLiteJournal(path, read_only=True)
    with refused("cannot be created", "Name a place"):
        SQLiteJournal("nul\0")
    os.mkfifo(tmp_path / "pipe")
    with refused("no regular file"):
        SQLiteJournal(tmp_path / "pipe")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "pipe"]


def test_files_that_are_no_journal_are_refused_and_left_as_they_are(tmp_path):
    """Files of other applications, and files that are no database, are not touched."""
    text = tmp_path / "notes.txt"
    text.write_text("a long text that is no database\n" * 100)
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE things (x)")
    marked = tmp_path / "marked.db"
    with closing(sqlite3.connect(marked)) as db:
        db.execute("PRAGMA application_id=7")
    before = {file: file.read_bytes() for file in (text, other, marked)}

    with refused("notes.txt", "not a SQLite file", "ame another file"):
        SQLiteJournal(text)
    for file in (other, marked):
        with refused("SQLite file of another application", "Name another file"):
            SQLiteJournal(file)
        with refused("SQLite file of another application"):
            SQLiteJournal(file, read_only=True)

    assert {file: file.read_bytes() for file in before} == before
    assert sorted(tmp_path.iterdir()) == sorted(before)


def test_a_file_that_others_are_just_creating_is_waited_for(path, monkeypatch):
    """SQLite does not wait while a file is given its log, so that the journal does."""
    path.touch()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                other.execute("ROLLBACK")

        monkeypatch.setattr("fsm_mediator.journal.sqlite.connections.time.sleep", sleep)
        SQLiteJournal(path).close()

    assert len(waits) == 3


def test_an_empty_file_becomes_a_journal_and_keeps_its_mode(path):
    """A file that was made for the journal beforehand keeps the permissions it was made with."""
    path.touch()
    path.chmod(0o640)

    SQLiteJournal(path).close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_network_file_system_is_refused(path, monkeypatch):
    """Where SQLite's locks cannot be trusted there is no journal, and the error says so."""
    mounts = f"/dev/sda / ext4 rw 0 0\nserver:/x {path.parent} nfs4 rw 0 0\n"
    monkeypatch.setattr(paths, "_mounts", lambda: mounts)

    with refused("network file system (nfs4)", "local disk"):
        SQLiteJournal(path)


def test_nearest_mount_decides_the_file_system():
    """Of all mounts above a directory the nearest counts, and of two at one place the later."""
    mounts = (
        "/dev/sda / ext4 rw 0 0\n"
        "server:/srv /srv nfs rw 0 0\n"
        "tmpfs /srv/me/tmp tmpfs rw 0 0\n"
        "//server/a /mnt/a\\040b cifs rw 0 0\n"
        "none /over nfs rw 0 0\nnone /over ext4 rw 0 0\n"
    )

    found = {folder: paths.remote_file_system(folder, mounts) for folder in ("/", "/srv", "/srvs", "/srv/me")}
    assert found == {"/": None, "/srv": "nfs", "/srvs": None, "/srv/me": "nfs"}
    assert paths.remote_file_system("/srv/me/tmp/x", mounts) is None
    assert paths.remote_file_system("/mnt/a b/c", mounts) == "cifs"
    assert paths.remote_file_system("/over", mounts) is None
    assert paths.remote_file_system("/", "") is None
    assert paths.remote_file_system("/x", "server:/x /x nfs\nhalf /x\n") == "nfs"


def test_an_old_library_is_refused(monkeypatch, path):
    """A SQLite that lacks what the schema needs is named, with the version that is needed."""
    with refused("uses SQLite 3.31.1", "needs 3.38.0"):
        schema.check_library((3, 31, 1))


READ_ONLY = f"""
import os, sys, tempfile
sys.path.insert(0, {str(ROOT)!r})
from fsm_mediator.errors import JournalError
from fsm_mediator.journal.sqlite.journal import SQLiteJournal
folder = tempfile.mkdtemp()
path = os.path.join(folder, "sagas.db")
SQLiteJournal(path).close()
os.chmod(folder, 0o755); os.chmod(path, 0o666)
if sys.argv[1] == "file":
    os.chmod(folder, 0o777); os.chmod(path, 0o444)
elif os.geteuid() != 0:
    os.chmod(folder, 0o555)
if os.geteuid() == 0:
    os.setuid(65534)
try:
    SQLiteJournal(path)
except JournalError as error:
    print(error)
journal = SQLiteJournal(path, read_only=True)
print(list(journal.entries()), journal.find("x"))
"""


@pytest.mark.parametrize(("what", "words"), [("file", "chmod u+rw"), ("folder", "its directory")])
def test_read_only_files_and_directories_are_refused_and_can_be_looked_at(what, words):
    """A journal that this user may not write to is an error at opening; to look, it need not be written to."""
    ended = in_python(READ_ONLY, what)

    complaint, looked = ended.stdout.splitlines() or [ended.stderr, ""]
    assert "read-only for this user" in complaint, ended
    assert words in complaint
    assert looked == "[] None"


def test_only_the_owner_may_read_it(path):
    """Payloads are private: only the owner can read the file and the files beside it."""
    mask = os.umask(0)
    try:
        with closing(SQLiteJournal(path)) as journal:
            journal.enlist(DRIVER)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(mask)

    assert modes == {"sagas.db": 0o600, "sagas.db-wal": 0o600, "sagas.db-shm": 0o600}


SETTINGS = {
    "synchronous": 2,
    "fullfsync": 1,
    "journal_mode": "wal",
    "foreign_keys": 1,
    "auto_vacuum": 2,
    "wal_autocheckpoint": 2000,
    "journal_size_limit": 64 * 1024 * 1024,
    "busy_timeout": 0,
    "temp_store": 2,
    "trusted_schema": 0,
    "user_version": 0,
    "application_id": 0,
}
"""The settings of the connection that writes, and of a new file."""


def test_full_and_normal_differ_in_what_they_wait_for(tmp_path):
    """Full waits for the disk at every commit, normal does not; anything else is refused."""
    kinds: dict[Literal["full", "normal"], int] = {"full": 2, "normal": 1}
    for durability, synchronous in kinds.items():
        with closing(SQLiteJournal(tmp_path / durability, durability=durability)) as journal:
            settings_made = {
                name: connections_of(journal).writer().execute(f"PRAGMA {name}").fetchone()[0] for name in SETTINGS
            }
        assert settings_made == {
            **SETTINGS,
            "synchronous": synchronous,
            "fullfsync": int(durability == "full"),
            "user_version": len(schema.STEPS),
            "application_id": schema.APPLICATION_ID,
        }
    with pytest.raises(DefinitionError, match="durability is 'full' or 'normal', not 'off'"):
        SQLiteJournal(tmp_path / "x", durability="off")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="lease"):
        SQLiteJournal(tmp_path / "x", lease=0.0)
    with pytest.raises(DefinitionError, match="name of a file"):
        SQLiteJournal("")


def test_close_twice_and_use_again(journal):
    """Closing is no farewell: it can be done twice, and the next use opens it again."""
    journal.write(opening("x", "executing.a"))
    journal.close()
    journal.close()
    assert not Path(f"{journal.path}-wal").exists()

    assert journal.write(going_on("x", 2)) == ()
    journal.close()
    assert seen(journal, "x") == [(1, "executing.a"), (2, "executing.b")]


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    """A process that changes its directory keeps its journal."""
    monkeypatch.chdir(tmp_path)
    with closing(SQLiteJournal("sagas.db")) as journal:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        journal.close()
        journal.enlist(DRIVER)

    assert (tmp_path / "sagas.db").exists()
    assert not (tmp_path / "elsewhere" / "sagas.db").exists()


def test_unclosed_journal_is_closed_at_exit(path):
    """One that is let go of leaves no connection behind, and no warning at the end of the process."""
    journal = SQLiteJournal(path)
    journal.enlist(DRIVER)
    connection = connections_of(journal).writer().connection
    del journal
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")

    code = "import sys\nfrom fsm_mediator import SQLiteJournal\njournal = SQLiteJournal(sys.argv[1])\njournal.find('x')"
    ended = in_python(code, path)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_importing_the_package_does_not_load_sqlite(path):
    """Who keeps journals in memory pays nothing for SQLite."""
    code = "import sys, fsm_mediator, fsm_mediator.journal.factory; sys.exit('sqlite3' in sys.modules)"

    assert in_python(code).returncode == 0


def test_looking_only_neither_creates_nor_writes(path, journal, clock):
    """A tool that looks works while others write, sees what they commit, and can change nothing."""
    journal.write(opening("x", "executing.a"))
    with closing(SQLiteJournal(path, read_only=True, clock=clock)) as looking:
        assert seen(looking, "x") == [(1, "executing.a")]
        journal.write(going_on("x", 2))
        assert seen(looking, "x") == [(1, "executing.a"), (2, "executing.b")]
        assert ids(looking) == ["x"]
        for change in (
            lambda: looking.write(going_on("x", 3)),
            lambda: looking.post("x", InboxItem("cancel")),
            lambda: looking.enlist(DRIVER),
            lambda: looking.claim("x", "d-1"),
            lambda: looking.prune(1e9),
            lambda: looking.prune_these(["x"], 1e9),
            looking.reseal,
            lambda: looking.repair("x"),
            looking.changes,
            lambda: looking.beat("d-1"),
            lambda: looking.dismiss("d-1"),
            lambda: looking.release("x", 1),
            lambda: looking.add_note(Note("hold", "x")),
            lambda: looking.note_fault("x", 1, Fault("Order", "$.card", "damaged")),
            lambda: looking.write_all([going_on("x", 3)]),
        ):
            with refused("was opened read-only", "read_only=True"):
                change()
        assert seen(looking, "x") == [(1, "executing.a"), (2, "executing.b")]


def test_journals_can_be_named_in_every_way(tmp_path, monkeypatch):
    """A path, a URL, memory, or a journal itself; for anything else the error lists these."""
    monkeypatch.chdir(tmp_path)
    for spec, expected in {
        "sagas.db": tmp_path / "sagas.db",
        Path("sagas.db"): tmp_path / "sagas.db",
        "sqlite:///sub/sagas.db": tmp_path / "sub" / "sagas.db",
        f"sqlite:///{tmp_path}/abs.db": tmp_path / "abs.db",
        "odd #?%20 name.db": tmp_path / "odd #?%20 name.db",
    }.items():
        expected.parent.mkdir(exist_ok=True)
        journal = open_journal(spec)  # type: ignore[arg-type]
        assert isinstance(journal, SQLiteJournal)
        journal.close()
        assert expected.is_file()
    for spec in ("sqlite://", "sqlite:///:memory:", ":memory:"):
        assert getattr(open_journal(spec), "path", None) == ":memory:"
    assert isinstance(open_journal(None), MemoryJournal)
    assert open_journal(journal) is journal
    assert isinstance(journal, Journal)
    for wrong, words in {
        "mysql://host/db": "no journal for 'mysql://'",
        "sqlite://sagas.db": "sqlite:///sagas.db",
        "": "names no file",
        7: "is not a journal",
    }.items():
        with pytest.raises(DefinitionError, match=words):
            open_journal(wrong)  # type: ignore[arg-type]


def test_a_journal_in_memory_works_across_threads(clock):
    """``:memory:`` keeps what it is given until it is closed, for all threads of the process."""
    journal = SQLiteJournal(":memory:", clock=clock)
    journal.enlist(DRIVER)
    results = all_at_once(journal, *(lambda n=n: journal.write(opening(f"{n}", "executing.a")) for n in range(8)))

    assert results == [()] * 8
    looked: list[Entry] = []
    reader = threading.Thread(target=lambda: looked.append(found(journal, "3")))
    reader.start()
    reader.join()
    assert looked[0].state == "executing.a"
    clock.now += 20
    assert journal.beat("d-1") == ()
    journal.close()
    assert ids(journal) == []
    journal.close()


def test_migrations_are_applied_in_order_once(path, monkeypatch):
    """A file of an earlier version is brought up to date when it is opened, and keeps what it holds."""
    with closing(SQLiteJournal(path)) as journal:
        journal.enlist(DRIVER)
        journal.write(opening("x", "executing.a"))
    later = (
        "CREATE TABLE added (x TEXT) STRICT; -- with a semicolon; in a comment\n",
        "ALTER TABLE executions ADD COLUMN colour TEXT; INSERT INTO added VALUES (';');",
    )
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, *later))

    with refused(f"schema of version {len(schema.STEPS) - 2}, older"):
        SQLiteJournal(path, read_only=True)
    for _ in range(2):
        with closing(SQLiteJournal(path)) as journal:
            assert seen(journal, "x") == [(1, "executing.a")]
            assert rows(journal, "SELECT x FROM added") == [(";",)]
            assert rows(journal, "SELECT colour FROM executions") == [(None,)]
            assert rows(journal, "PRAGMA user_version") == [(len(schema.STEPS),)]
    SQLiteJournal(path, read_only=True).close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    """Either all steps are taken, or none."""
    with closing(SQLiteJournal(path)) as journal:
        journal.enlist(DRIVER)
        journal.write(opening("x", "executing.a"))
    steps = schema.STEPS

    for broken, words in {
        "CREATE TABLE added (x TEXT) STRICT; CREATE TABLE added (x TEXT) STRICT;": (
            "added already exists",
            "report it",
        ),
        "CREATE TABLE added (x TEXT) STRICT; DELETE FROM definitions;": ("'executions' refers to a missing row",),
    }.items():
        monkeypatch.setattr(schema, "STEPS", (*steps, broken))
        with refused(*words):
            SQLiteJournal(path)

    monkeypatch.setattr(schema, "STEPS", steps)
    with closing(SQLiteJournal(path)) as journal:
        assert seen(journal, "x") == [(1, "executing.a")]
        assert rows(journal, "SELECT count(*) FROM sqlite_schema WHERE name = 'added'") == [(0,)]


def test_a_later_version_is_refused_and_left_alone(path, monkeypatch):
    """What a newer library wrote is not touched by an older one."""
    SQLiteJournal(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")

    for read_only in (False, True):
        with refused("written by a later fsm_mediator", "version 99", "Upgrade"):
            SQLiteJournal(path, read_only=read_only)


def write_every_kind(path: Path) -> None:
    """Write a file as those in ``tests/journals`` were written; each new version of the schema gets one more.

    ``python -c "from tests.test_sqlite_opening import *; write_every_kind(JOURNALS / 'v2.db')"``
    """
    with closing(SQLiteJournal(path, clock=Clock(1_700_000_000.0))) as journal:
        journal.enlist(Driver("d-1", "shop-1", "boot", "pid:[1]", 42, "4242"))
        journal.enlist(Driver("d-2", "shop-2"))
        journal.write(opening("pruned", "succeeded", held=False))
        assert journal.prune(1.5) == 1
        journal.write(opening("pending", driver=None, payload=None))
        journal.write(opening("held", "executing.a", payload={"order": 7, "who": "ü"}))
        journal.write(opening("ended", "executing.a"))
        journal.write(going_on("ended", 2, value={"charge": [1.5, None, "x"]}))
        journal.write(ending("ended", 3, value=True))
        journal.write(opening("ended-booked", "executing.a", driver="d-2"))
        journal.write(ending("ended-booked", 2, driver="d-2"))
        journal.dismiss("d-2")
        failure = Failure("shop.OutOfStock", "none left", "Traceback (most recent call last): ...")
        stuck = record(
            "stuck", 2, "stuck.a", "compensating.a", error=failure, in_doubt=True, reason="a thread", abandoned=True
        )
        journal.write(
            opening("stuck", "compensating.a", opened={"deadline_at": 99.5, "version": "2", "fingerprint": "g"})
        )
        journal.write(Commit("stuck", (stuck,), "d-1", held=False))
        journal.write(opening("waits", "retrying.a", held=False, wake_at=1_700_000_100.5))
        journal.post("waits", InboxItem("signal", "paid", {"amount": 3}, "by phone", 5.5))
        child = acceptance("parent/g.a", {"n": 1}, parent="parent")
        journal.write(opening("parent", "waiting.g", held=False, children=(child,)))
        journal.claim("parent/g.a", "d-1")
        journal.write(Commit("held", (), "d-1", recoveries=Recoveries(4, 2)))


@pytest.mark.parametrize("kept", EVERY, ids=lambda path: path.stem)
def test_a_file_of_every_version_is_read_for_ever(tmp_path, kept):
    """What an earlier version wrote is read, and driven on, by every later one."""
    shutil.copy(kept, tmp_path / "sagas.db")
    (tmp_path / "sagas.db").chmod(0o600)
    with closing(SQLiteJournal(tmp_path / "sagas.db", clock=Clock(1_700_000_010.0))) as journal:
        entries = {entry.saga_id: entry for entry in journal.entries()}
        assert {saga_id: entry.state for saga_id, entry in entries.items()} == {
            "pending": "pending",
            "held": "executing.a",
            "ended": "succeeded",
            "ended-booked": "succeeded",
            "stuck": "stuck.a",
            "waits": "retrying.a",
            "parent": "waiting.g",
            "parent/g.a": "pending",
        }
        driver = Driver("d-1", "shop-1", "boot", "pid:[1]", 42, "4242")
        assert entries["held"].driver == entries["parent/g.a"].driver == driver
        assert {saga_id for saga_id, entry in entries.items() if entry.driver} == {"held", "parent/g.a"}
        assert json.loads(bytes(entries["held"].acceptance.payload)) == {"order": 7, "who": "ü"}
        assert entries["parent/g.a"].acceptance.parent == "parent"
        assert entries["parent/g.a"].epoch == 2
        assert entries["held"].recoveries == (Recoveries(4, 2) if kept is not EVERY[0] else NO_RECOVERIES)
        stuck = entries["stuck"].acceptance
        assert (stuck.version, stuck.fingerprint, stuck.deadline_at) == ("2", "g", 99.5)
        last = journal.records("stuck")[-1]
        assert (last.event, last.source, last.step, last.attempt) == ("executed", "compensating.a", "a", 1)
        assert (last.in_doubt, last.reason, last.abandoned) == (True, "a thread", True)
        assert last.error == Failure("shop.OutOfStock", "none left")
        assert last.error.traceback == "Traceback (most recent call last): ..."
        assert json.loads(bytes(journal.records("ended")[1].value)) == {"charge": [1.5, None, "x"]}
        (item,) = journal.inbox("waits")
        assert (item.kind, item.name, item.reason, item.at, bytes(item.value)) == (
            *("signal", "paid", "by phone", 5.5),
            b'{"amount":3}',
        )
        assert entries["waits"].wake_at == 1_700_000_100.5
        assert journal.claimable(0.0, 10) == ["pending", "waits"]
        journal.enlist(Driver("new"))
        for saga_id, entry in entries.items():
            if entry.driver is None and entry.state != "succeeded":
                claimed = taken(journal, saga_id, "new")
                journal.write(
                    going_on(saga_id, claimed.seq + 1, "failed", driver="new", epoch=claimed.epoch, held=False)
                )
        assert journal.prune(1e12) == 5


@pytest.mark.parametrize("kept", EVERY, ids=lambda path: path.stem)
def test_pending_executions_of_every_version_are_claimed_last(tmp_path, kept):
    """In an older file too, what has begun is claimed before what has not."""
    shutil.copy(kept, tmp_path / "sagas.db")
    with closing(SQLiteJournal(tmp_path / "sagas.db", clock=Clock(1_700_000_010.0))) as journal:
        journal.enlist(Driver("new"))
        claimed = journal.claim_some("new", 0.0, 9)
        assert [entry.saga_id for entry in claimed if not entry.abandoned] == ["waits", "pending"]


def test_kept_file_equals_a_new_one(tmp_path):
    """The file that is kept for this version holds what today's code writes, row by row."""
    write_every_kind(tmp_path / "today.db")

    def content(path: Path) -> dict[str, list[Any]]:
        with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as db:
            tables = [
                name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            ]
            return {table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}  # noqa: S608

    assert len(schema.STEPS) == len(EVERY), "keep a file of the new version as well"
    assert content(tmp_path / "today.db") == content(EVERY[-1])


def test_connection_that_reads_can_change_nothing(path, journal):
    """Neither a statement nor a function of the schema writes through it; it keeps nothing in files of its own."""
    for read_only in (False, True):
        with closing(SQLiteJournal(path, read_only=read_only)) as looking, connections_of(looking).reader() as reader:
            names = ("query_only", "temp_store", "trusted_schema")
            assert [reader.execute(f"PRAGMA {name}").fetchone()[0] for name in names] == [1, 2, 0]
            with pytest.raises(sqlite3.OperationalError, match="readonly database"):
                reader.execute("DELETE FROM executions")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"durability": "none"}, "durability is 'full' or 'normal', not 'none'"),
        ({"busy_timeout": -1.0}, r"busy_timeout \(seconds\)"),
        ({"busy_timeout": "1"}, r"busy_timeout \(seconds\)"),
        ({"lease": 0.0}, r"lease \(seconds\)"),
        ({"max_value_bytes": 0}, "max_value_bytes"),
        ({"clock": 7.0}, "clock must be a function, not 7.0"),
        ({"types": (print,)}, "types must be a pair of functions"),
        ({"types": (print, 7)}, "types must be a pair of functions"),
        ({"types": [print, print]}, "types must be a pair of functions"),
        ({"cipher": "secret"}, "cipher is an AesGcm"),
    ],
)
def test_setting_that_means_nothing_is_refused_before_a_file_is_made(path, settings, words):
    """The error names the setting; the least values that mean something are taken."""
    with pytest.raises(DefinitionError, match=words):
        SQLiteJournal(path, **settings)
    assert not path.exists()
    with closing(SQLiteJournal(path, busy_timeout=0.0, lease=0.1, max_value_bytes=1, types=(print, print))) as made:
        assert repr(made) == f"SQLiteJournal({str(path)!r})"
    for wrong in (7, "", None):
        with pytest.raises(DefinitionError, match="the path is the name of a file, not"):
            SQLiteJournal(wrong)  # type: ignore[arg-type]


def test_driver_that_enlisted_again_elsewhere_is_dismissed_under_its_new_number(path, journal, clock):
    """What this process remembers of the driver is not its number any more."""
    journal.write(opening("x", "executing.a"))
    with closing(SQLiteJournal(path, durability="normal", clock=clock)) as other:
        other.dismiss("d-1")
        other.enlist(DRIVER)
        other.write(opening("y", "executing.a"))

        journal.dismiss("d-1")

        assert [found(other, saga_id).driver for saga_id in ("x", "y")] == [None, None]
        assert not other.is_driver_alive("d-1")
