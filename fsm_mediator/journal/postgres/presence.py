"""Presence: shows other machines that a driver's process exists, and decides when a driver is dead.

On the same machine the process itself is checked. On another machine, a driver is alive while its lease is valid and
its process holds an advisory lock on the driver's number. The server releases this lock when the connection ends.
After a restart of the server no lock is held, and leases may have expired during the restart. Therefore a driver is
never declared dead after one check: a second check, some heartbeats later and with the server not restarted in
between, must have the same result. By then living drivers have connected again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg

from fsm_mediator.journal.liveness import process_exists
from fsm_mediator.journal.postgres.connections import Connections
from fsm_mediator.journal.postgres.schema import lock_class
from fsm_mediator.journal.protocol import Driver
from fsm_mediator.journal.rows import Row


class SecondLook:
    """Decides whether drivers are alive, from rows of `sql.DRIVERS`.

    Args:
        pause: Seconds between the first check that finds a driver absent and the check that declares it dead.
        monotonic: Returns this process's monotonic time in seconds. The clocks of other machines are not used.

    Attributes:
        pause: Seconds between the two checks.
        monotonic: Returns this process's monotonic time in seconds.
    """

    def __init__(self, pause: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.pause = pause
        self.monotonic = monotonic
        self._absent: dict[int, tuple[float, float]] = {}

    def forget(self) -> None:
        """Forget all drivers that a first check has found absent.

        This process was disconnected, and these drivers may have been disconnected too.
        """
        self._absent.clear()

    @staticmethod
    def is_present(row: Row) -> bool:
        """Whether the driver is alive, according to this row alone."""
        _, age, lease, has_lock, _, *identity = row
        exists = process_exists(Driver(*identity))
        return (bool(has_lock) and age <= lease) if exists is None else exists

    def is_gone(self, row: Row) -> bool:
        """Whether the driver is dead. A driver on another machine must have been absent for *pause* seconds."""
        number, server_started = row[0], row[4]
        if self.is_present(row):
            self._absent.pop(number, None)
            return False
        if process_exists(Driver(*row[5:])) is False:
            return True
        now = self.monotonic()
        started, since = self._absent.get(number, (None, now))
        if started != server_started:  # the first check, or the server was restarted since then
            since = now
            self._absent[number] = server_started, now
        return now - since >= self.pause


class SessionLocks:
    """The advisory locks of this process's drivers. One connection holds all of them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.reset()

    def reset(self) -> None:
        """Forget all locks. A forked child calls this method."""
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Row] | None = None
        self._numbers: set[int] = set()
        self._held: set[int] = set()

    def hold(self, number: int) -> None:
        """Hold the advisory lock of the driver with this number, until `drop` is called."""
        self._numbers.add(number)
        self.renew()

    def drop(self, number: int) -> None:
        """Release the advisory lock of the driver with this number."""
        with self._lock:
            self._numbers.discard(number)
            if number in self._held:
                self._held.discard(number)
                self._execute("SELECT pg_advisory_unlock(%s::int, %s::int)", number)

    def renew(self) -> None:
        """Take the locks again if the connection was lost. If this fails, the next call tries again."""
        with self._lock:
            self._execute("SELECT 1 WHERE %s::int <> %s::int", 0)  # fails if the connection is lost
            for number in self._numbers - self._held:
                if self._execute("SELECT 1 FROM pg_try_advisory_lock(%s::int, %s::int) AS got WHERE got", number):
                    self._held.add(number)

    def _execute(self, statement: str, number: int) -> bool:
        """Execute *statement* on the connection, which is opened if necessary. Returns whether the result has a row.

        If the database cannot be reached, the connection is closed and the result is False.
        """
        try:
            if self._connection is None:
                self._connection = self._connections.connect()
            parameters = (lock_class(self._connections.schema), number)
            return self._connection.execute(statement.encode(), parameters).fetchone() is not None
        except psycopg.Error:
            self._close()
            return False

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        self._held.clear()
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Release all locks. The next call of `renew` takes them again."""
        with self._lock:
            self._close()
