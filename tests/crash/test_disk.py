"""The disk fails: a clear error, the execution stays where it was, and goes on when the fault is gone."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fsm_mediator import JournalError, Mediator, SQLiteJournal
from tests.crash.worker import Book, fought_saga

ROOT = Path(__file__).parents[2]

FULL = """
import resource, signal, sys
from pathlib import Path
from fsm_mediator import JournalError, Mediator, SQLiteJournal
from fsm_mediator.retry import Retry
from tests.crash import worker

worker.LATENCY = 0.0
folder = Path(sys.argv[1])
journal = SQLiteJournal(folder / "sagas.db", durability="normal")
mediator = Mediator(worker.fought_saga(worker.Book(folder / "books")), journal=journal)
mediator.run("fought", 1, saga_id="before")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = (folder / "sagas.db-wal").stat().st_size + 60_000
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try:
    for number in range(1000):
        mediator.run("fought", 1, saga_id=f"s{number}")
except JournalError as error:
    print(number, error, sep="\\n")
    sys.stdout.flush()
    import os
    os._exit(7)
"""


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """When no more can be written, the caller is told; once there is room again, every saga goes on where it stood."""
    (tmp_path / "books").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    full = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert full.returncode == 7, full.stderr
    last, error, *_ = full.stdout.splitlines()
    assert "sagas.db" in error

    book = Book(tmp_path / "books")
    with Mediator(fought_saga(book), journal=SQLiteJournal(tmp_path / "sagas.db")) as mediator:
        mediator.recover()
        mediator.run("fought", 1, saga_id=f"s{last}")  # the one that was cut off: joined, or begun if it never was
        for number in range(int(last) + 1):
            assert mediator.outcome(f"s{number}").succeeded
            ended = [(verb, name) for kind, _, verb, name, *_ in book.lines(f"s{number}") if kind == "end"]
            assert list(dict.fromkeys(ended)) == [("execute", "a"), ("execute", "b"), ("execute", "c")]


def test_locked_journal_is_waited_for_then_reported(tmp_path: Path) -> None:
    """A journal that is locked for longer than busy_timeout is a clear error, and no step begins."""
    (tmp_path / "books").mkdir()
    book = Book(tmp_path / "books")
    journal = SQLiteJournal(tmp_path / "sagas.db", busy_timeout=0.01)
    with Mediator(fought_saga(book), journal=journal) as mediator:
        mediator.run("fought", 1, saga_id="first")
        other = sqlite3.connect(tmp_path / "sagas.db", isolation_level=None)
        other.execute("begin immediate")

        with pytest.raises(JournalError, match=r"sagas\.db"):
            mediator.run("fought", 1, saga_id="second")
        assert book.lines("second") == []

        other.execute("rollback")
        other.close()
        assert mediator.run("fought", 1, saga_id="second").succeeded


@pytest.mark.parametrize("damage", ["garbage", "truncated"])
def test_damaged_file_is_reported(tmp_path: Path, damage: str) -> None:
    """A journal that was overwritten or cut off is refused with the file's name, never read as if it were whole."""
    (tmp_path / "books").mkdir()
    path = tmp_path / "sagas.db"
    with Mediator(fought_saga(Book(tmp_path / "books")), journal=path) as mediator:
        for number in range(20):
            mediator.run("fought", 1, saga_id=f"s{number}")
    whole = path.read_bytes()
    path.write_bytes(b"not a database" * 4096 if damage == "garbage" else whole[: len(whole) // 3])

    with pytest.raises(JournalError, match=r"sagas\.db"):
        Mediator(fought_saga(Book(tmp_path / "books")), journal=SQLiteJournal(path)).recover()
