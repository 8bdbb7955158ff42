"""The files of a SQLite journal: lost ones, those of other users, damaged ones, backups, and exports of them."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from fsm_mediator import JournalError, LeaseLostError, Mediator, Saga, SQLiteJournal, conforms, step
from fsm_mediator.journal.protocol import Commit, Driver
from fsm_mediator.journal.sqlite import connections
from fsm_mediator.records import InboxItem
from fsm_mediator.states import ENDED
from tests.commits import (
    ROOT,
    Clock,
    acceptance,
    going_on,
    ids,
    in_python,
    opening,
    record,
    refused,
    rows,
    seen,
    two_drivers,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "sagas.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SQLiteJournal]:
    """A journal with two drivers."""
    with two_drivers(path, Clock()) as opened:
        yield opened


# Lost


def taken_away(file: Path) -> None:
    """Delete it."""
    file.unlink()


def moved(file: Path) -> None:
    """Give it another name."""
    file.rename(file.with_name("elsewhere"))


def replaced(file: Path) -> None:
    """Put a copy in its place."""
    shutil.copy(file, file.with_name("copy"))
    file.with_name("copy").replace(file)


@pytest.mark.parametrize("lose", [taken_away, moved, replaced])
@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_a_file_that_was_lost_is_an_error_to_all(journal, path, lose, ending, monkeypatch):
    """If a file of the journal is deleted, moved or replaced, every later use is an error, and so it stays."""
    journal.write(opening("x", "executing.a"))
    monkeypatch.setattr(connections, "CHECK_EVERY", 0.0)
    lost = Path(f"{path}{ending}")
    lose(lost)

    for _ in range(2):
        for use in (
            lambda: journal.beat("d-1"),
            lambda: journal.write(going_on("x", 2)),
            lambda: journal.post("x", InboxItem("cancel")),
            lambda: journal.find("x"),
            lambda: ids(journal),
            lambda: journal.enlist(Driver("d-3")),
        ):
            with refused(f"'{lost}' was deleted, moved or replaced while it was in use", "Put the file back, or end"):
                use()
        assert journal.pause(1.0)  # as before a fork: it opens no other file afterwards
        journal.resume()
    if lose is moved:
        path.with_name("elsewhere").rename(lost)
        journal.write(going_on("x", 2))
        assert seen(journal, "x") == [(1, "executing.a"), (2, "executing.b")]


def test_a_closed_journal_is_opened_where_it_is_now(journal, path):
    """The files beside it are deleted by closing it, and the file itself may be restored meanwhile: no error."""
    journal.write(opening("x", "executing.a"))
    journal.close()
    replaced(path)

    assert seen(journal, "x") == [(1, "executing.a")]
    journal.write(going_on("x", 2))
    assert journal.pause(1.0)
    journal.resume()
    journal.write(going_on("x", 3))


LOST_LOG = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from fsm_mediator.errors import JournalError
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.journal.sqlite import connections
from fsm_mediator.journal.sqlite.journal import SQLiteJournal
from fsm_mediator.records import Acceptance
connections.CHECK_EVERY = 0.0
def write(saga_id):
    journal.write(Commit(saga_id, (), None, acceptance=Acceptance(saga_id, "s", "1", "f", "x" * 9000, 1.0)))
journal = SQLiteJournal(sys.argv[1])
write(sys.argv[2])
if sys.argv[2] == "first":
    os.unlink(sys.argv[1] + "-wal")
    os.unlink(sys.argv[1] + "-shm")
    print("unlinked", flush=True)
    input()
    try:
        write("lost")
    except JournalError as error:
        print(error)
journal.close()
"""


def test_a_process_that_lost_its_log_leaves_the_file_to_others(path):
    """What others have written since is neither written over nor deleted when the process ends."""
    first = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", LOST_LOG, path, "first"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "unlinked\n"
    for number in range(3):
        assert in_python(LOST_LOG, path, f"later-{number}").stderr == ""
    said, complaint = first.communicate("\n", timeout=60)

    assert "was deleted, moved or replaced" in said, complaint
    assert complaint == ""
    with closing(SQLiteJournal(path)) as journal:
        assert ids(journal)[:3] == ["later-2", "later-1", "later-0"]
        assert rows(journal, "PRAGMA integrity_check") == [("ok",)]


def test_nothing_begins_once_the_journal_is_lost(path, monkeypatch):
    """A saga whose start could not be found again is not started: its caller gets the error, and no step is called."""
    monkeypatch.setattr(connections, "CHECK_EVERY", 0.0)
    called: list[str] = []

    @step
    def charge(order: str) -> None:
        called.append(order)

    with Mediator(Saga("s", [charge]), journal=path, sleep=lambda seconds: None) as mediator:
        mediator.run("s", "before")
        path.unlink()
        for ask in (lambda: mediator.run("s", "after"), lambda: mediator.start("s", "after"), mediator.executions):
            with refused("was deleted, moved or replaced"):
                ask()

    assert called == ["before"]
    assert not path.exists()


# Of other users

AS_ANOTHER = f"""
import os, sys, tempfile
sys.path.insert(0, {str(ROOT)!r})
from fsm_mediator.journal.sqlite.journal import SQLiteJournal
with tempfile.TemporaryDirectory() as folder:  # loads what the other user may not read
    SQLiteJournal(folder + "/sagas.db").close()
    list(SQLiteJournal(folder + "/sagas.db", read_only=True).entries())
if os.geteuid() == 0:
    os.setuid(65534)
else:
    os.geteuid = lambda: 65534
journal = SQLiteJournal(sys.argv[1], read_only=True)
for _ in sys.stdin:
    print([entry.saga_id for entry in journal.entries()], flush=True)
"""


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_files_of_another_user_are_refused(path, ending, monkeypatch):
    """A file that somebody else made beforehand would let that user read, and change, what is journaled."""
    other = path.with_name(f"sagas.db{ending}")
    other.touch(mode=0o666)
    others = os.geteuid() + 1
    find = Path.stat

    def stat(self, **more):
        found = find(self, **more)
        return os.stat_result((*found[:4], others, *found[5:])) if self == other else found

    monkeypatch.setattr(Path, "stat", stat)
    with refused(f"{str(other)!r} belongs to another user ({others})", "Work as that user", "chown"):
        SQLiteJournal(path)
    assert other.read_bytes() == b""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user can write to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_a_reader_of_another_user_locks_nobody_out(shared):
    """It leaves no file that the owner could not write to, whether or not the owner has the journal open."""
    path = shared / "sagas.db"
    with two_drivers(path, Clock()) as journal:
        journal.write(opening("x", "executing.a"))
    path.chmod(0o644)
    reader = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", AS_ANOTHER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def reads() -> str:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write("read\n")
        reader.stdin.flush()
        return reader.stdout.readline()

    assert reads() == "['x']\n"
    assert list(shared.iterdir()) == [path]
    with closing(SQLiteJournal(path, clock=Clock())) as journal:
        journal.write(opening("y", "executing.a"))
        assert reads() == "['y', 'x']\n"
        journal.write(opening("z", "executing.a"))
        assert reads() == "['z', 'y', 'x']\n"
    assert reads() == "['z', 'y', 'x']\n"
    assert {each.stat().st_uid for each in shared.iterdir()} == {os.geteuid()}
    reader.communicate(timeout=60)
    assert reader.returncode == 0
    with closing(SQLiteJournal(path, clock=Clock())) as journal:
        journal.write(going_on("x", 2))


def test_index_that_cannot_be_written_is_an_error_at_opening(shared):
    """The file itself could be written, and SQLite could read it; the first record would be refused."""
    path = shared / "sagas.db"
    index = Path(f"{path}-shm")
    SQLiteJournal(path).close()
    index.touch(mode=0o444)
    user = os.geteuid()
    if user == 0:  # the superuser may write to every file
        for each in (path, index):
            os.chown(each, 65534, -1)
        os.seteuid(65534)
    try:
        with refused("could not be opened", "is read-only for this user", "(SQLITE_READONLY"):
            SQLiteJournal(path)
    finally:
        os.seteuid(user)


# A damaged log


FRAME = 24 + 4096
"""The bytes of a frame of the log, with its header."""


@pytest.fixture
def log_of(tmp_path):
    """Opens a copy of a journal of six commits that are all in its log; the log is what *harm* makes of it."""
    path = tmp_path / "live.db"
    with closing(SQLiteJournal(path, clock=Clock())) as live:
        live.enlist(Driver("d-1"))
        change(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        for name in "abcdef":
            live.write(opening(name, "executing.a"))
        main, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    opened = []

    def open_copy(harm):
        copy = tmp_path / "copy.db"
        copy.write_bytes(main)
        Path(f"{copy}-wal").write_bytes(harm(bytearray(log)))
        opened.append(SQLiteJournal(copy, read_only=True))
        return opened[-1]

    yield open_copy
    for each in opened:
        each.close()


def flipped(at):
    """The change of one bit of the log's byte at this place, from its end if it is negative."""

    def flip(log):
        log[at] ^= 1
        return log

    return flip


@pytest.mark.parametrize(
    ("at", "where", "last_unsure"),
    [
        pytest.param(32 + 20 * FRAME + 500, "from frame 21 on", 21, id="in a page"),
        pytest.param(32 + 20 * FRAME + 8, "from frame 21 on", 21, id="in its salt"),
        pytest.param(32 + 20 * FRAME + 16, "from frame 21 on", 22, id="in its checksum"),
        pytest.param(3, "in its header", 1, id="in the magic number"),
        pytest.param(17, "in its header", 1, id="in the salt of the log"),
        pytest.param(25, "in its header", 1, id="in the checksum of the log"),
    ],
)
@pytest.mark.parametrize("cut", [0, 1, 100, FRAME - 20])
def test_commits_that_damage_in_the_log_hides_are_noticed(log_of, at, where, last_unsure, cut):
    """SQLite reads the log up to the damage, and says nothing: whole executions would be gone in silence.

    A last frame that a crash has cut off is not counted.
    """
    journal = log_of(lambda log: flipped(at)(log[: len(log) - cut]))
    faults = [fault for fault in journal.check() if "log" in fault]

    log = Path(f"{journal.path}-wal").read_bytes()
    heads = [log[start : start + 24] for start in range(32, len(log) - FRAME + 1, FRAME)]
    lost = sum(any(head[4:8]) for head in heads[last_unsure:])  # a commit names the size of the file after it
    assert lost <= 6
    assert lost > 0 or (cut and last_unsure == 22)  # what is left there may be a write that was interrupted
    words = f"the log {journal.path + '-wal'!r} is damaged {where}: {lost} commits behind that place are lost"
    assert faults == ([words] if lost else [])


def test_a_check_takes_no_lock_from_a_connection_of_its_process(path):
    """To close one of SQLite's files ends the process's locks on it: then another process writes at the same time."""
    with closing(SQLiteJournal(path)) as journal, closing(sqlite3.connect(path, isolation_level=None)) as writing:
        journal.enlist(Driver("d-1"))
        writing.execute("BEGIN IMMEDIATE")
        journal.check()

        other = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        ended = subprocess.run([sys.executable, "-c", other, str(path)], capture_output=True, text=True, check=False)
        writing.execute("ROLLBACK")
    assert "database is locked" in ended.stderr


@pytest.mark.parametrize("cut", [1, 100, FRAME, FRAME + 30, 3 * FRAME + 5, 9 * FRAME])
def test_a_log_that_a_crash_cut_off_is_no_damage(log_of, cut):
    """A write that was under way when the machine stopped is not there, and was never promised."""
    journal = log_of(lambda log: log[:-cut])

    assert [fault for fault in journal.check() if "log" in fault] == []


def test_a_log_without_damage_and_one_that_was_begun_again_are_sound(journal, path):
    """What an earlier round left behind the newest commit belongs to no commit that is lost."""
    for number in range(30):
        journal.write(opening(f"x-{number}", "executing.a"))
    change(path, "PRAGMA wal_checkpoint(RESTART)")
    journal.write(opening("y", "executing.a"))

    assert Path(f"{path}-wal").stat().st_size > 30 * FRAME
    assert journal.check() == []


# Damaged


def change(path, *statements):
    """Have another program change the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement)


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        ("UPDATE records SET seq = 7 WHERE seq = 2", "execution 'x': records are lost, or numbered wrongly"),
        ("DELETE FROM records", "execution 'x': records are lost, or numbered wrongly"),
        ("UPDATE records SET details = '{\"step' WHERE seq = 1", "execution 'x': record 1 cannot be decoded"),
        ("DELETE FROM inbox", "execution 'x': the inbox has another number of items than is noted"),
        ("DELETE FROM executions", "a row of 'records' refers to one of 'executions' that is lost"),
        ("UPDATE executions SET definition = 9", "a row of 'executions' refers to one of 'definitions' that is lost"),
    ],
)
def test_lost_and_damaged_rows_are_found(journal, path, harm, fault):
    """The check names what does not fit together, also where nothing that is left can be listed."""
    journal.write(opening("x", "executing.a", "executing.b"))
    journal.post("x", InboxItem("cancel"))
    assert journal.check() == []
    change(path, harm)

    assert fault in journal.check()


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (
            "DELETE FROM records WHERE execution = 1 AND seq = 2",
            "its row says that it has ended, and its last record leads to 'executing.a'",
        ),
        (
            "UPDATE executions SET ended_at = NULL WHERE number = 1",
            "it has ended in 'succeeded', and its row does not say so",
        ),
        (
            "UPDATE executions SET ended_at = 7 WHERE number = 1",
            "its row and its last record name different times of its end",
        ),
        (
            "UPDATE executions SET ended_at = 2 WHERE number = 2",
            "its row says that it has ended, and its last record leads to 'retrying.a'",
        ),
        (
            "UPDATE executions SET attention = NULL WHERE number = 2",
            "it is in 'retrying.a', and its row calls no driver",
        ),
        ("UPDATE executions SET mail = 3 WHERE number = 2", "the inbox has another number of items than is noted"),
        (
            "UPDATE executions SET parked = 'waiting' WHERE number = 2",
            "it is in 'retrying.a', and its row names another phase",
        ),
    ],
)
def test_a_row_that_contradicts_its_records_is_found_and_repaired(journal, path, harm, fault):
    """An end that was lost or forged hides an execution from everybody; its row is derived anew from its records."""
    ended, parked = opening("x", "executing.a", "succeeded", held=False), opening("y", "retrying.a", held=False)
    journal.write_all([ended, msgspec.structs.replace(parked, wake_at=50.0)])
    journal.post("y", InboxItem("cancel"))
    assert journal.check() == journal.repairable() == []
    change(path, harm)
    saga_id = "x" if "number = 1" in harm or "execution = 1" in harm else "y"
    records, inbox = seen(journal, saga_id), journal.inbox(saga_id)

    assert journal.check() == [f"execution {saga_id!r}: {fault}"] == journal.damage_of(saga_id)
    assert journal.damage_of("x" if saga_id == "y" else "y") == []
    assert journal.repairable() == [saga_id]
    journal.repair(saga_id)

    assert journal.check() == []
    assert (seen(journal, saga_id), journal.inbox(saga_id)) == (records, inbox)
    is_ended = records[-1][1] in ENDED
    assert (saga_id in journal.claimable(0.0, 10)) is not is_ended
    if is_ended:
        assert journal.prune(3.0) == 1


def test_a_repair_fences_the_driver_and_leaves_whole_rows_alone(journal, path):
    """A driver that goes on by what it remembers does not write over a repair; a row without fault is as it was."""
    journal.write(opening("x", "executing.a"))
    journal.repair("x")
    journal.write(going_on("x", 2))
    change(path, "UPDATE executions SET mail = 3")

    journal.repair("x")

    with pytest.raises(LeaseLostError):
        journal.write(going_on("x", 3))
    assert journal.check() == []


def test_a_dormant_branch_is_not_begun_by_a_repair(journal, path):
    """A branch that waits for its turn (`at_most`) waits for it after a repair as well."""
    branch = acceptance("x/g.a", parent="x")
    journal.write(opening("x", "waiting.g", dormant=(branch,)))
    change(path, "UPDATE executions SET mail = 3 WHERE parent IS NOT NULL")

    journal.repair("x/g.a")

    assert journal.check() == journal.claimable(0.0, 10) == []


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        ("DELETE FROM executions WHERE number = 2", "execution 'x': its branch 'x/g.a' is lost"),
        ("DELETE FROM executions WHERE number = 1", "execution 'x/g.a': it is a branch of 'x', which is lost"),
    ],
)
def test_a_whole_without_its_branch_and_a_branch_without_its_whole_are_found(journal, path, harm, fault):
    """Neither can go on; no row can be derived for them, so that no repair is offered."""
    named = record("x", 1, "waiting.g", children=("a",))
    opened = Commit("x", (named,), "d-1", acceptance=acceptance("x"), children=(acceptance("x/g.a", parent="x"),))
    journal.write(opened)
    assert journal.check() == []

    change(path, "PRAGMA foreign_keys=ON", harm)

    assert journal.check() == [fault]
    assert journal.repairable() == []


def test_branches_that_were_never_made_are_not_missed(journal):
    """A cancel that takes hold with the record that names the branches: they were never made."""
    named = record("x", 1, "waiting.g", children=("a",))
    cancelled = msgspec.structs.replace(record("x", 2, "failed"), event="rejected")
    journal.write(Commit("x", (named, cancelled), "d-1", held=False, acceptance=acceptance("x")))

    assert journal.check() == []


def test_damaged_pages_are_found(path):
    """A page that a disk has lost is found by the check, and by `conforms`, or the file cannot be read at all."""
    with two_drivers(path, Clock()) as journal:
        for number in range(40):
            journal.write(opening(f"{number}", "executing.a", payload="x" * 500))
    whole = path.read_bytes()

    for page in range(1, len(whole) // 4096):
        path.write_bytes(whole[: page * 4096] + bytes(4096) + whole[(page + 1) * 4096 :])
        for look in (SQLiteJournal.check, lambda journal: conforms(journal, Saga("s", [step(print)])).damage):
            try:
                with closing(SQLiteJournal(path, read_only=True)) as damaged:
                    assert look(damaged)
            except JournalError as error:
                assert "is damaged" in str(error)  # noqa: PT017 - either is right


# Backups


def test_backup_and_restore_as_the_page_says(path, monkeypatch):
    """A backup that is made while sagas run is whole; once restored, what was in flight goes on."""
    page = (ROOT / "docs" / "journal.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "backup" in block]
    monkeypatch.chdir(path.parent)
    with two_drivers(path, Clock()) as journal:
        journal.write(opening("x", "executing.a"))
        exec(code, {})  # noqa: S102 - our own page
        journal.write(going_on("x", 2))
        for file in path.parent.glob("sagas.db*"):
            moved(file)
        shutil.copy("sagas-backup.db", path)

        with refused("was deleted, moved or replaced"):
            journal.beat("d-1")

    with two_drivers(path, Clock()) as journal:
        assert seen(journal, "x") == [(1, "executing.a")]
        journal.write(going_on("x", 2))
