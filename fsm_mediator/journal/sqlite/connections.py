"""Connections to one SQLite file: one writing connection, and a reading connection for each thread that reads.

They are closed before a fork. SQLite keeps its locks in tables of the process. A forked child that inherits the tables
would believe that it holds locks which only its parent holds. A test shows the result: the parent closes, finds the
file unused, and deletes the write-ahead log to which the child still writes.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fsm_mediator.errors import JournalError
from fsm_mediator.forking import CREATING
from fsm_mediator.journal.sqlite import path as paths
from fsm_mediator.journal.sqlite import schema
from fsm_mediator.journal.sqlite.errors import ERRORS, is_busy, to_journal_error

logger: logging.Logger = logging.getLogger("fsm_mediator")

MEMORY: Final = ":memory:"

WAL_PAGES: Final = 2000
"""If the write-ahead log has this number of pages, the next commit moves the pages to the file. If the log
is smaller, the heartbeat of a driver moves the pages.
"""

WAL_LIMIT: Final = 64 * 1024 * 1024
"""The size in bytes to which SQLite truncates the log's file if the file became larger. A limit below the usual size of
the log is slow: while the file grows, every fsync also has to write the file's new size.
"""

CHECK_EVERY: Final = 0.25
"""Seconds between two checks that the files are still the opened files. A read or a write makes the check first. It
takes some 50 microseconds.
"""

_CANNOT_LOCK: Final = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_UNLOCKED: Final = "mode=ro&immutable=1"

_inherited: list[sqlite3.Connection] = []
"""Connections that a child got from a parent that could not pause. Kept, because a freed connection is closed."""


class Connections:
    """The connections of one journal.

    They open when they are first used, and open again when they are used after `close`.

    Args:
        path: The file, or ``:memory:``.
        durability: ``full`` or ``normal``: see `SQLiteJournal`.
        busy_timeout: The number of seconds to wait for the locks of other processes.
        read_only: Whether the file is only read: it is never created or changed.
    """

    def __init__(self, path: str, *, durability: str, busy_timeout: float, read_only: bool) -> None:
        self.path = path
        self.busy_timeout = busy_timeout
        self.read_only = read_only
        self.in_memory: bool = path == MEMORY
        self._synchronous = durability.upper()
        self._writer: sqlite3.Connection | None = None
        self.cursor: sqlite3.Cursor | None = None
        self._idle: list[sqlite3.Connection] = []
        self._opened: dict[str, paths.Identity | None] = {}  # the files, as they were when they were opened
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget the parent's connections without touching them. A forked child calls this method."""
        _inherited.extend(self._idle)
        if self._writer is not None:
            _inherited.append(self._writer)
        self._writer = self.cursor = None
        self._idle = []
        self._lent = 0
        self._open = True
        self._forget_log()
        self._check_at = 0.0
        # Code here enters the lock, never the condition. `Condition` is written in Python: if an interrupt came after
        # it took the lock and before the ``with`` block, the lock would stay locked forever.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def writer(self) -> sqlite3.Cursor:
        """A cursor of the connection that writes. Only the thread that leads the group commit may use it.

        Raises:
            JournalError: The connection cannot be opened, or one of its files was deleted, moved or replaced.
        """
        if self.cursor is None or time.monotonic() >= self._check_at:
            try:
                self.check_files()
            except JournalError:
                with self._lock:
                    self._abandon()
                raise
        if self.cursor is None:
            self.check_writable()
            self._writer = self._open_writer()
            if not self.in_memory:
                self._opened = {each: paths.identity(each) for each in (self.path, *paths.beside(self.path))}
            self.cursor = self._writer.cursor()
        return self.cursor

    def check_writable(self) -> None:
        """Refuse to write to a journal that was opened only for reading.

        Raises:
            JournalError: The journal was opened only for reading.
        """
        if self.read_only:
            raise JournalError(f"the journal {self.path!r} was opened read-only. Open it without read_only=True")

    def check_files(self) -> None:
        """Check that other processes still see the files that this process has opened.

        Raises:
            JournalError: One of the files was deleted, moved or replaced.
        """
        self._check_at = time.monotonic() + CHECK_EVERY
        lost = [each for each, opened in self._opened.items() if paths.identity(each) != opened]
        if lost:
            self._check_at = 0.0
            raise JournalError(
                f"the journal {self.path!r} cannot be used: {lost[0]!r} was deleted, moved or replaced while it was in "
                f"use, and others would not see new records. Put the file back, or end this process"
            )

    def _abandon(self) -> None:
        """Keep the connections to files that were deleted, moved or replaced open until the process ends.

        If SQLite closed the last of these connections, it would write the log of the replaced file into the file that
        has the path now, and delete the log of that file.
        """
        import ctypes  # rarely needed

        abandoned = [*self._idle, *([] if self._writer is None else [self._writer])]
        self._idle = []
        self._writer = self.cursor = None
        for connection in abandoned:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))  # so that not even the interpreter's end closes it

    def _forget_log(self) -> None:
        """Forget the identities of the log's files.

        SQLite may delete these files when it closes its last connection.
        """
        self._opened = {each: was for each, was in self._opened.items() if each == self.path}

    def roll_back(self) -> None:
        """Roll back the open transaction, if there is one.

        If that fails, the next call of `writer` opens a new connection.
        """
        try:
            if self._writer is not None and self._writer.in_transaction:
                self._writer.rollback()
        except sqlite3.Error:
            self._drop_writer()

    def _drop_writer(self) -> None:
        writer, self._writer, self.cursor = self._writer, None, None
        if writer is not None:
            self._forget_log()  # first, because an interrupt may come as soon as the connection is closed
            writer.close()

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that reads. A journal in memory has no such connection: its only connection writes."""
        connection, lent, kept = None, False, True
        if time.monotonic() >= self._check_at:
            self.check_files()
        try:
            with self._lock:
                while not self._open:
                    self._changed.wait()
                if self._idle:
                    connection = self._idle.pop()
                self._lent += 1
                lent = True
            if connection is None:
                connection, kept = self._open_reader()
                self._opened = self._opened or {self.path: paths.identity(self.path)}
            yield connection
        except BaseException:
            if connection is not None:
                connection.close()  # the connection may be in the middle of a statement
                connection = None
            raise
        finally:
            if lent:
                with self._lock:
                    self._lent -= 1
                    if connection is not None and kept:
                        self._idle.append(connection)
                    elif connection is not None:
                        connection.close()
                    self._changed.notify_all()

    def empty_log(self) -> None:
        """Move the pages of the log to the file, so that the log becomes smaller.

        Does nothing if a process reads or writes now.
        """
        with self.reader() as connection:
            connection.execute("PRAGMA busy_timeout=0")  # a wait would keep other processes from writing
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute(f"PRAGMA busy_timeout={int(self.busy_timeout * 1000)}")

    def close(self, timeout: float | None = None) -> None:
        """Close all connections when no thread reads. The next use opens them again. The caller keeps all from writing.

        Args:
            timeout: Seconds to wait for the threads that read. If they take longer, all connections stay open. None for
                no limit.
        """
        try:
            if self.close_and_block(timeout):
                self._opened = {}
        finally:
            self.reopen()

    def close_and_block(self, timeout: float | None = None) -> bool:
        """Close all connections, and keep threads from reading until `reopen`. Returns whether they were closed.

        The caller keeps all threads from writing.
        """
        with self._lock:
            self._open = False
            closed = self._changed.wait_for(lambda: not self._lent, timeout)
            if closed:
                try:
                    self.check_files()
                except JournalError:
                    self._abandon()
                else:
                    self._forget_log()
                while self._idle:
                    self._idle.pop().close()
                self._drop_writer()
        return closed

    def reopen(self) -> None:
        """Let threads read again after `close_and_block`."""
        with self._lock:
            self._open = True
            self._changed.notify_all()

    # Opening

    def _open_writer(self) -> sqlite3.Connection:
        schema.check_library()
        if self.in_memory:
            connection = sqlite3.connect(MEMORY, isolation_level=None, check_same_thread=False)
            schema.migrate(connection, self.path)
            connection.execute("PRAGMA foreign_keys=ON")
            return connection
        paths.check(self.path, read_only=False)
        paths.create(self.path)
        paths.check_owner(self.path)
        connection = self._connect("mode=rw")
        try:
            self._prepare(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, ERRORS):
                raise to_journal_error(error, self.path, "opened", self.busy_timeout) from error
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = schema.version_of(connection, self.path)  # raises if it is no journal, before any change
        self._use_wal(connection, is_new=version == 0)
        schema.migrate(connection, self.path)
        for setting in (
            f"synchronous={self._synchronous}",
            f"fullfsync={self._synchronous == 'FULL'}",  # macOS: an fsync that reaches the disk
            "foreign_keys=ON",
            f"wal_autocheckpoint={WAL_PAGES}",
            f"journal_size_limit={WAL_LIMIT}",
            "temp_store=MEMORY",
            "trusted_schema=OFF",
        ):
            connection.execute(f"PRAGMA {setting}")
        # Raises if the file cannot be written. A "busy" error is no failure: another process writes the file.
        connection.execute("PRAGMA busy_timeout=0")  # from now on `transaction.begin` waits
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise

    def _use_wal(self, connection: sqlite3.Connection, *, is_new: bool) -> None:
        # If several processes create one file at the same moment, some get "locked" at once: SQLite does not wait where
        # two would wait for each other. So all the waiting is done here.
        until = time.monotonic() + self.busy_timeout
        connection.execute("PRAGMA busy_timeout=0")
        while True:
            try:
                if is_new:
                    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # for `prune`; no effect later
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= until:
                    raise
            time.sleep(0.005)
        connection.execute(f"PRAGMA busy_timeout={int(self.busy_timeout * 1000)}")
        if mode != "wal":
            raise JournalError(
                f"the journal {self.path!r} cannot be used: its file system does not allow SQLite's write-ahead log "
                f"(the mode stays {mode!r}). Put it on a local disk"
            )

    def _open_reader(self) -> tuple[sqlite3.Connection, bool]:
        """A new connection that reads, and whether it can be kept for later reads."""
        paths.check(self.path, read_only=self.read_only)
        how = "mode=ro" if self.read_only else "mode=rw"
        has_log = Path(paths.beside(self.path)[0]).exists()
        if self.read_only and paths.owner_if_other(self.path) is not None:
            # If this user created the log or its index, the journal's owner could not write to these files.
            how = "mode=ro&readonly_shm=1" if has_log else _UNLOCKED
        connection = self._connect(how)
        try:
            try:
                version = schema.version_of(connection, self.path)
            except sqlite3.OperationalError as error:
                if not self.read_only or error.sqlite_errorcode & 0xFF not in _CANNOT_LOCK or has_log:
                    raise
                # In a directory where nothing can be written SQLite cannot take the locks that a log needs. There is no
                # log here: no process has the file open, and it can be read as it is.
                connection.close()
                how = _UNLOCKED
                connection = self._connect(how)
                version = schema.version_of(connection, self.path)
            if version < len(schema.STEPS):
                what = "is empty" if version == 0 else f"has a schema of version {version}, older than this library's"
                raise JournalError(
                    f"the journal {self.path!r} {what}. The first mediator that uses the journal updates it"
                )
            connection.execute("PRAGMA query_only=ON")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("PRAGMA trusted_schema=OFF")
        except BaseException as error:
            connection.close()
            if isinstance(error, ERRORS):
                raise to_journal_error(error, self.path, "opened", self.busy_timeout) from error
            raise
        return connection, how != _UNLOCKED  # without locks, it would not notice the writes of other processes

    def _connect(self, how: str) -> sqlite3.Connection:
        uri = f"{Path(self.path).absolute().as_uri()}?{how}"
        try:
            with CREATING:
                return sqlite3.connect(
                    uri, uri=True, isolation_level=None, check_same_thread=False, timeout=self.busy_timeout
                )
        except ERRORS as error:
            raise to_journal_error(error, self.path, "opened", self.busy_timeout) from error
