"""Connections: to one SQLite file; one that writes, and as many that read as threads read at the same time.

Before a fork they are closed. SQLite keeps its locks in tables of the process: a child that inherits them takes locks
for its own that only the parent holds. A test shows what would come of it: the parent closes, takes the file for unused
and deletes the write-ahead log that the child goes on to write to.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fsm_mediator.errors import JournalError
from fsm_mediator.forking import CREATING
from fsm_mediator.journal.sqlite import path as place
from fsm_mediator.journal.sqlite import schema
from fsm_mediator.journal.sqlite.errors import ERRORS, fault

MEMORY: Final = ":memory:"

WAL_PAGES: Final = 2000
"""Pages in the write-ahead log after which what is in it is moved to the file by whoever commits next. Where less is
written, a driver's beat has moved it before."""

WAL_LIMIT: Final = 64 * 1024 * 1024
"""Bytes that the log's file may keep for itself after a time in which it could not be moved. Not less than it usually
takes: a log that has to grow again makes every fsync wait for the file's size as well."""

_CANNOT_LOCK: Final = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)

_left_alone: list[sqlite3.Connection] = []
"""What a child inherited because its parent could not come to rest: kept, for to let go of it is to close it."""


class Connections:
    """The connections of one journal; opened when they are first used, and again after `close`.

    Args:
        path: The file, or ``:memory:``.
        durability: ``full`` or ``normal``.
        busy_timeout: How many seconds to wait for the locks of other processes.
        read_only: Whether the file is never created nor changed.
    """

    def __init__(self, path: str, *, durability: str, busy_timeout: float, read_only: bool) -> None:
        self.path = path
        self.busy_timeout = busy_timeout
        self.read_only = read_only
        self.in_memory = path == MEMORY
        self._synchronous = durability.upper()
        self._writer: sqlite3.Connection | None = None
        self.cursor: sqlite3.Cursor | None = None
        self._idle: list[sqlite3.Connection] = []
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what was open without touching it: in a forked child, it is the parent's."""
        _left_alone.extend(self._idle)
        if self._writer is not None:
            _left_alone.append(self._writer)
        self._writer = self.cursor = None
        self._idle = []
        self._lent = 0
        self._open = True
        self.writing = threading.Lock()
        self._identity: tuple[int, int] | None = None
        # The lock is entered, never the condition: that is written in Python, and an interrupt between its taking the
        # lock and the ``with`` block would leave it locked for ever.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def writer(self) -> sqlite3.Cursor:
        """A cursor of the connection that writes. To be used by one thread at a time, which holds `writing`.

        Raises:
            JournalError: It cannot be opened.
        """
        if self.cursor is None:
            self._writer = self._opened()
            self._identity = None if self.in_memory else place.identity(self.path)
            self.cursor = self._writer.cursor()
        return self.cursor

    def check_identity(self) -> None:
        """Look whether the file that is written to is still the one that others find.

        Raises:
            JournalError: It was deleted, moved or replaced.
        """
        if self._identity is not None and self._identity != place.identity(self.path):
            raise JournalError(
                f"the journal {self.path!r} was deleted, moved or replaced while it was in use. What is written goes "
                f"to the file that was there, and others cannot see it. Put it back, or end this process"
            )

    def drop_writer(self) -> None:
        """The connection that writes is not to be used any more."""
        writer, self._writer, self.cursor = self._writer, None, None
        if writer is not None:
            writer.close()

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that reads; not for a journal in memory, which has only one."""
        connection, lent = None, False
        try:
            with self._lock:
                while not self._open:
                    self._changed.wait()
                if self._idle:
                    connection = self._idle.pop()
                self._lent += 1
                lent = True
            if connection is None:
                connection = self._read_connection()
            yield connection
        except BaseException:
            if connection is not None:
                connection.close()  # what it was in the midst of is not known
                connection = None
            raise
        finally:
            if lent:
                with self._lock:
                    self._lent -= 1
                    if connection is not None:
                        self._idle.append(connection)
                    self._changed.notify_all()

    def look(self) -> None:
        """Open one connection that reads, to see that it can be.

        Raises:
            JournalError: It cannot.
        """
        with self.reader():
            pass

    def close(self, timeout: float | None = None) -> None:
        """Close all that is open, once those who write and read have ended; who uses it after that opens it again.

        Args:
            timeout: Seconds to wait for those; if they have not ended by then, all is left open.
        """
        try:
            self.shut(timeout)
        finally:
            self.reopen()

    def shut(self, timeout: float | None = None) -> bool:
        """As `close`, and let nobody read until `reopen`.

        Args:
            timeout: Seconds to wait for those who write and read.

        Returns:
            Whether all could be closed.
        """
        if timeout is None:
            with self.writing:
                return self._shut(None)
        if not self.writing.acquire(timeout=timeout):
            return False
        try:
            return self._shut(timeout)
        finally:
            self.writing.release()

    def _shut(self, timeout: float | None) -> bool:
        with self._lock:
            self._open = False
            done = self._changed.wait_for(lambda: not self._lent, timeout)
            if done:
                while self._idle:
                    self._idle.pop().close()
                self.drop_writer()
        return done

    def reopen(self) -> None:
        """Let others read again."""
        with self._lock:
            self._open = True
            self._changed.notify_all()

    # Opening

    def _opened(self) -> sqlite3.Connection:
        schema.check_library()
        if self.in_memory:
            connection = sqlite3.connect(MEMORY, isolation_level=None, check_same_thread=False)
            schema.migrate(connection, self.path)
            connection.execute("PRAGMA foreign_keys=ON")
            return connection
        place.check(self.path, read_only=False)
        place.create(self.path)
        connection = self._connected("mode=rw")
        try:
            self._prepare(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, ERRORS):
                raise fault(error, self.path, "opened", self.busy_timeout) from error
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        schema.version_of(connection, self.path)  # nothing is changed in a file that is no journal
        self._use_wal(connection)
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
        # Whether it can be written at all. If somebody writes just now, it can.
        connection.execute("PRAGMA busy_timeout=0")
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        connection.execute(f"PRAGMA busy_timeout={int(self.busy_timeout * 1000)}")

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        # Of several processes that create one file at the same moment, some are told at once that it is locked: where
        # two wait for each other's locks SQLite does not wait. So all the waiting is done here.
        until = time.monotonic() + self.busy_timeout
        connection.execute("PRAGMA busy_timeout=0")
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                    raise
            time.sleep(0.005)
        connection.execute(f"PRAGMA busy_timeout={int(self.busy_timeout * 1000)}")
        if mode != "wal":
            raise JournalError(
                f"the journal {self.path!r} cannot be used: its file system does not allow SQLite's write-ahead log "
                f"(the mode stays {mode!r}). Put it on a local disk"
            )

    def _read_connection(self) -> sqlite3.Connection:
        place.check(self.path, read_only=self.read_only)
        connection = self._connected("mode=ro" if self.read_only else "mode=rw")
        try:
            try:
                version = schema.version_of(connection, self.path)
            except sqlite3.OperationalError as error:
                if not self.read_only or error.sqlite_errorcode & 0xFF not in _CANNOT_LOCK:
                    raise
                if Path(f"{self.path}-wal").exists():
                    raise
                # In a directory, or on a disk, where nothing can be written SQLite cannot take part in the locking that
                # a log needs. There is no log: nobody has the file open, and it can be read as it is.
                connection.close()
                connection = self._connected("mode=ro&immutable=1")
                version = schema.version_of(connection, self.path)
            if version < len(schema.STEPS):
                what = "is empty" if version == 0 else f"has a schema of version {version}, older than this library's"
                raise JournalError(
                    f"the journal {self.path!r} {what}. It is brought up to date by the first mediator that uses it"
                )
            connection.execute("PRAGMA query_only=ON")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("PRAGMA trusted_schema=OFF")
        except BaseException as error:
            connection.close()
            if isinstance(error, ERRORS):
                raise fault(error, self.path, "opened", self.busy_timeout) from error
            raise
        return connection

    def _connected(self, how: str) -> sqlite3.Connection:
        uri = f"{Path(self.path).absolute().as_uri()}?{how}"
        try:
            with CREATING:
                return sqlite3.connect(
                    uri, uri=True, isolation_level=None, check_same_thread=False, timeout=self.busy_timeout
                )
        except ERRORS as error:
            raise fault(error, self.path, "opened", self.busy_timeout) from error
