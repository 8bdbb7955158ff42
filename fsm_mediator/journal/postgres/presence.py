"""Presence: how a driver shows from afar that its process exists, and when others take it to be gone.

On the same machine the process itself is looked at. From elsewhere a driver is alive while its lease runs and its
process holds an advisory lock on the driver's number, which the server releases when the connection ends. After a
restart of the server no lock is held, and leases may have run out while it was down. So one look never declares a
driver gone: a second look, some heartbeats later and under the same server, must show the same. By then living drivers
have reconnected.
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
    """Tells whether drivers are alive, by rows of `sql.DRIVERS`.

    Args:
        pause: Seconds between the first look that finds a driver absent and the look that declares it gone.
        monotonic: This process's own count of seconds. No other machine's clock is asked.

    Attributes:
        pause: As above, as *monotonic*.
    """

    def __init__(self, pause: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.pause = pause
        self.monotonic = monotonic
        self._absent: dict[int, tuple[float, float]] = {}

    def forget(self) -> None:
        """Begin again: this process was cut off, and the absent drivers may have been cut off too."""
        self._absent.clear()

    @staticmethod
    def is_present(row: Row) -> bool:
        """Whether the driver is alive, at one look."""
        _, age, lease, has_lock, _, *identity = row
        exists = process_exists(Driver(*identity))
        return (bool(has_lock) and age <= lease) if exists is None else exists

    def is_gone(self, row: Row) -> bool:
        """Whether the driver is gone for good."""
        number, server_started = row[0], row[4]
        if self.is_present(row):
            self._absent.pop(number, None)
            return False
        if process_exists(Driver(*row[5:])) is False:
            return True
        now = self.monotonic()
        started, since = self._absent.get(number, (None, now))
        if started != server_started:  # the first look, or the server was restarted since
            since = now
            self._absent[number] = server_started, now
        return now - since >= self.pause


class SessionLocks:
    """The advisory locks of this process's drivers, all held by one connection."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.reset()

    def reset(self) -> None:
        """In a forked child: hold nothing."""
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Row] | None = None
        self._numbers: set[int] = set()
        self._held: set[int] = set()

    def hold(self, number: int) -> None:
        """Hold the lock of the driver with this number, until `drop`."""
        self._numbers.add(number)
        self.renew()

    def drop(self, number: int) -> None:
        """Release the lock of the driver with this number."""
        with self._lock:
            self._numbers.discard(number)
            if number in self._held:
                self._held.discard(number)
                self._execute("SELECT pg_advisory_unlock(%s::int, %s::int)", number)

    def renew(self) -> None:
        """Lock again after the connection was cut. An error is left to the next call."""
        with self._lock:
            self._execute("SELECT 1 WHERE %s::int <> %s::int", 0)  # is it still there?
            for number in self._numbers - self._held:
                if self._execute("SELECT 1 FROM pg_try_advisory_lock(%s::int, %s::int) AS got WHERE got", number):
                    self._held.add(number)

    def _execute(self, statement: str, number: int) -> bool:
        """Execute it on the connection, which is made if need be. Returns whether it gave a row."""
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
        """Release all locks, until the next `renew`."""
        with self._lock:
            self._close()
