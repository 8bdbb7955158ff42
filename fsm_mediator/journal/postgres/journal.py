"""PostgresJournal: a journal in a PostgreSQL database, for processes on many machines.

This module implements the `Journal` protocol with the other modules of this folder: the database's address
(``address``), the tables (``schema``), statements (``sql``), commits (``commit``), the liveness of drivers
(``presence``), and connections (``connections``).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from fsm_mediator import forking
from fsm_mediator.ciphers import Cipher
from fsm_mediator.errors import JournalError, PayloadError, UnknownExecutionError
from fsm_mediator.journal.attention import is_too_late
from fsm_mediator.journal.codec import MAX_BYTES, Codec
from fsm_mediator.journal.liveness import is_forgettable
from fsm_mediator.journal.plain import Types
from fsm_mediator.journal.postgres import damage, many, pruning, slots, sql
from fsm_mediator.journal.postgres.address import Address
from fsm_mediator.journal.postgres.commit import Batch, Write, item_parameters, without_nul
from fsm_mediator.journal.postgres.connections import Connections
from fsm_mediator.journal.postgres.copying import CopyTables
from fsm_mediator.journal.postgres.counting import CountedChanges
from fsm_mediator.journal.postgres.errors import RETRIED, unknown_driver
from fsm_mediator.journal.postgres.presence import SecondLook, SessionLocks
from fsm_mediator.journal.postgres.schema import STEPS, check_schema, migrate, script, stats_schema_of, version_of
from fsm_mediator.journal.postgres.sharing import SharedWrites
from fsm_mediator.journal.postgres.transactions import CallersTransactions
from fsm_mediator.journal.protocol import Commit, Driver, Entry, Written, check_bounds
from fsm_mediator.journal.resealing import Resealed, reseal_all
from fsm_mediator.journal.rows import Row, UnencodableError, driver_row, entry_of, item_row, record_of
from fsm_mediator.journal.storable import is_text
from fsm_mediator.records import SIGNAL, VERBS, InboxItem
from fsm_mediator.retry import check_number
from fsm_mediator.states import WAITING

_SIDE: Final = 2
"""The maximum number of connections to the side store."""

_TRIES: Final = 5
"""The maximum number of times that a transaction is executed, if it conflicts with other transactions."""


class PostgresJournal(CallersTransactions, CountedChanges, CopyTables, many.ManyTables):
    """Keeps records in a PostgreSQL database (12 or later), for processes on any number of machines.

    When `write` returns, the record is as durable as the database makes it. Drivers survive an outage of the server:
    a driver repeats a commit until it knows that its lease is lost. Leases use the server's clock, so the clocks of
    the machines are never compared.

    The journal also works behind a pooler in transaction mode, such as PgBouncer. No session belongs to one process
    there, so only the lease shows whether a driver is alive.

    Args:
        url: The database: ``postgresql://app@db/shop``, or another format of libpq. No message shows the password of
            the URL; a password file is safer.
        schema: The schema of the journal's tables. None for the ``?schema=`` of the URL, or ``fsm_mediator`` if the
            URL has none.
        stats_schema: The schema of the side store. None for the ``?stats_schema=`` of the URL. If the URL has none, the
            name is the name of the journal's schema with ``_stats`` at its end.
        lease: Seconds for which a driver counts as alive after a heartbeat, if this process cannot see the driver's
            process.
        most_connections: The maximum number of open connections, besides one for the locks of drivers, and up to two
            for the side store.
        pooled: Whether a pooler in transaction mode is used. None to detect this.
        max_value_bytes: The maximum size in bytes of one payload, result or signal value, as JSON.
        types: Two hooks for types that msgspec does not know, as for `SQLiteJournal`.
        cipher: An `AesGcm` that seals the texts of users, as for `SQLiteJournal`.
        read_only: Only read the journal. This works on a standby too.
        migrate: Whether to create and update the tables. None to leave the tables unchecked until `migrate` is called.

    Raises:
        DefinitionError: An argument cannot be used.
        JournalError: The database cannot be reached, or has no journal that this version can use.
    """

    patience: float | None = None

    def __init__(
        self,
        url: str,
        *,
        schema: str | None = None,
        stats_schema: str | None = None,
        lease: float = 30.0,
        most_connections: int = 8,
        pooled: bool | None = None,
        max_value_bytes: int = MAX_BYTES,
        types: Types | None = None,
        cipher: Cipher | None = None,
        read_only: bool = False,
        migrate: bool | None = True,
    ) -> None:
        check_number("PostgresJournal: lease (seconds)", lease, above=True)
        check_number("PostgresJournal: most_connections", most_connections, above=True)
        check_number("PostgresJournal: max_value_bytes", max_value_bytes, above=True)
        self.read_only = read_only
        self.heartbeat: float | None = min(1.0, lease / 3)
        self.codec: Codec = Codec(max_value_bytes, types, cipher)
        self._lease = lease
        self._liveness = SecondLook(2 * self.heartbeat)
        address = Address(url)
        settings: Any = {"pooled": pooled, "patience": lease, "when_cut_off": self._liveness.forget}
        named = check_schema(schema or address.schema or "fsm_mediator")
        self._connections = Connections(address, named, most=most_connections, **settings)
        # The side store has separate connections, because it reads the journal while its own transaction is open.
        stats_schema = stats_schema_of(named, stats_schema or address.stats_schema)
        self.side_connections: Final = Connections(address, stats_schema, most=_SIDE, **settings)
        self._locks = SessionLocks(self._connections)
        self._slots = slots.SlotRules(self._connections.schema, self._liveness.is_gone, lease)
        self._numbers: dict[str, int] = {}
        self._writes = SharedWrites(self._execute)
        weakref.finalize(self, self._connections.close)
        weakref.finalize(self, self.side_connections.close)
        weakref.finalize(self, self._locks.close)
        forking.register(self)
        if migrate is not None:
            try:
                self._check_tables(migrates=migrate and not read_only)
            except JournalError:
                self.close()
                raise

    def _check_tables(self, *, migrates: bool) -> None:
        with self._connections.session("opened") as session:
            version = version_of(session.connection, self._connections.schema)
        if version == len(STEPS):
            return
        if migrates:
            self.migrate()
            return
        what = f"its tables have version {version}, and {len(STEPS)} is needed" if version else "there are no tables"
        raise JournalError(
            f"the journal {self._connections.address.shown!r}: {what} in the schema {self._connections.schema!r}; "
            f"`fsm-mediator migrate` creates them, and its --sql prints the statements"
        )

    def migration(self) -> str:
        """The SQL that `migrate` would execute, so that a person can execute it. Empty if the tables are up to date.

        Raises:
            JournalError: The tables are of a later version.
        """
        with self._connections.session("opened") as session:
            version = version_of(session.connection, self._connections.schema)
        return "" if version == len(STEPS) else script(self._connections.schema, version)

    def migrate(self) -> int:
        """Create the tables, or update them to this version. Returns the version that they had; 0 if there were none.

        Raises:
            JournalError: The database user has no permission, or the tables are of a later version.
        """
        with self._connections.session("migrated") as session:
            return migrate(session.connection, self._connections.schema)

    # Writing

    def write(self, commit: Commit) -> Written:
        """Write *commit*, and return the inbox: see `Journal.write`.

        If more than a few threads write at the same time, they share transactions.
        """
        self._check_writable()
        written = self._writes.write(Write(commit, self.codec))
        if isinstance(written, tuple):
            return written
        raise written

    def write_all(self, commits: Sequence[Commit]) -> list[Written | JournalError]:
        """Write several commits together: see `Journal.write_all`."""
        self._check_writable()
        writes: list[Write] = []
        refused: dict[int, JournalError] = {}
        for index, commit in enumerate(commits):
            try:
                writes.append(Write(commit, self.codec))
            except PayloadError as error:
                refused[index] = UnencodableError(str(error))
            except JournalError as error:
                refused[index] = error
        written = iter(self._execute(writes) if writes else ())
        return [refused[index] if index in refused else next(written) for index in range(len(commits))]

    def _execute(self, writes: Sequence[Write]) -> list[Written | JournalError]:
        """Write commits in one transaction. If it conflicts with another transaction, it is executed again.

        A single usual commit takes one statement.
        """
        usual = writes[0].as_one_statement() if len(writes) == 1 else None
        tries = 0
        while True:
            tries += 1
            try:
                if usual is not None and self._connections.write(*usual) is not None:
                    return [()]
                with (
                    self._connections.session("written") as session,
                    session.pipeline(),
                    session.connection.transaction(),
                ):
                    return Batch(session, writes, self._slots).execute()
            except JournalError as error:
                if not isinstance(error.__cause__, RETRIED) or tries == _TRIES:
                    raise

    def post(self, saga_id: str, item: InboxItem, *, clock: Callable[[], float] | None = None, token: int = 0) -> bool:
        """Put an item into the inbox of an execution: see `Journal.post`."""
        self._check_writable()
        if not is_text(saga_id):
            return False
        parameters = item_parameters(item_row(item, saga_id, self.codec.encode, self.codec.cipher), saga_id)
        if clock is None and not token:
            return self._connections.write(sql.POST, parameters) is not None or (
                item.kind in VERBS and self._connections.write(sql.POSTED, parameters) is not None
            )
        with self._connections.session("written") as session, session.connection.transaction():
            # The row is locked first, so that no other transaction writes between reading the clock and writing the
            # item.
            last = session.execute(sql.LAST_RECORD, (saga_id,)).fetchone()
            if token and session.execute(sql.IS_POSTED, (token,)).fetchone() is not None:
                return True
            timed = item if clock is None else msgspec.structs.replace(item, at=clock())
            if clock is not None and last is not None and item.kind == SIGNAL and last[0] == f"{WAITING}.{item.name}":
                entered = record_of((0, "", "", last[0], 0.0, last[1]), saga_id, "", None)
                if is_too_late(timed, last[0], entered.due_at):
                    return False
            posted = session.execute(sql.POST, {**parameters, "at": timed.at}).fetchone() is not None
            if posted and token:
                session.execute(sql.KEEP_POST, (token, saga_id))
            return posted or (item.kind in VERBS and session.execute(sql.POSTED, parameters).fetchone() is not None)

    # Drivers, and the executions they own

    def enlist(self, driver: Driver) -> None:
        """Register a driver: see `Journal.enlist`."""
        self._check_writable()
        idle = self._drivers(sql.IDLE_DRIVERS)
        forgettable = [row[0] for row in idle if is_forgettable(Driver(*row[5:]), -row[1], 0.0)]
        has_lock = not self._connections.is_pooled()
        if forgettable:
            self._connections.write(sql.DELETE_IDLE, (forgettable,))
        row = (*driver_row(driver), has_lock, self._lease)
        found = self._connections.write(sql.ENLIST, without_nul(row))
        assert found is not None
        self._numbers[driver.id] = found[0]
        with self._connections.session("written") as session, session.connection.transaction():
            for name, most in driver.limits:
                session.execute(sql.DECLARE, (name, found[0], most))
            session.execute(sql.FORGET_KNOWN, (found[0],))
            for each in driver.definitions:
                session.execute(sql.KEEP_SHAPE, (each.fingerprint, each.shape))
                session.execute(sql.KNOW, (found[0], each.fingerprint))
        if has_lock:
            self._locks.hold(found[0])

    def beat(self, driver_id: str, *, everything: bool = False) -> tuple[str, ...]:
        """Renew a driver's lease if at least a third of the lease has passed: see `Journal.beat`."""
        self._check_writable()
        found = self._connections.read(sql.SEEN_BY_DRIVER, (everything, driver_id))
        if not found:
            raise unknown_driver(driver_id)
        ((age, called),) = found
        if not 0 <= age < self._lease / 3:
            self._connections.write(sql.BEAT, (self._lease, driver_id))
        self._locks.renew()
        return tuple(called)

    def turns(self, driver_id: str) -> list[str]:
        """The queued executions for which a slot is free: see `SlotJournal.turns`."""
        with self._connections.session("read") as session:
            return slots.turns(session, driver_id, self._slots)

    def dismiss(self, driver_id: str) -> None:
        """Delete a driver: see `Journal.dismiss`."""
        self._check_writable()
        with self._connections.session("written") as session, session.connection.transaction():
            session.execute(sql.LOCK_DRIVER, (driver_id,))
            session.execute(sql.FREE_ALL_OF, (driver_id,))
            session.execute(sql.DELETE_DRIVER, (driver_id,))
        number = self._numbers.pop(driver_id, None)
        if number is not None:
            self._locks.drop(number)

    def claim(self, saga_id: str, driver_id: str) -> Entry | None:
        """Make a driver the owner of an execution: see `Journal.claim`.

        A driver on another machine counts as dead only after a second check.
        """
        self._check_writable()
        found = self._read_of(sql.OWNER, saga_id)
        if not found:
            raise UnknownExecutionError(f"the journal knows no execution {saga_id!r}")
        ((owner, epoch, _),) = found
        drivers = {row[5]: row for row in self._drivers(sql.DRIVERS_OF_IDS, [driver_id, owner or driver_id])}
        if driver_id not in drivers:
            raise unknown_driver(driver_id)
        if owner == driver_id or (owner in drivers and not self._liveness.is_gone(drivers[owner])):
            return self._claimed_before(saga_id, driver_id)
        parameters = {"saga_id": saga_id, "driver": driver_id, "epoch": epoch, "owner": owner}
        row = self._connections.write(sql.CLAIM, parameters)
        if row is None:  # another driver claimed it first, or the answer to this driver's claim was lost
            return self._claimed_before(saga_id, driver_id)
        entry = entry_of(
            row,
            Driver(*drivers[driver_id][5:]),
            self._liveness.is_present(drivers[driver_id]),
            cipher=self.codec.cipher,
        )
        return msgspec.structs.replace(entry, abandoned=owner is not None)

    def claim_all(self, saga_ids: Sequence[str], driver_id: str) -> dict[str, Entry]:
        """Make a driver the owner of several executions: see `ManyJournal.claim_all`."""
        self._check_writable()
        found = self._connections.read(many.OWNER_OF_EACH, (list(filter(is_text, saga_ids)),))
        owners = {owner for _, owner, _ in found} - {None, driver_id}
        drivers = {row[5]: row for row in self._drivers(sql.DRIVERS_OF_IDS, [driver_id, *owners])} if found else {}
        if driver_id not in drivers:
            return {}
        free = {None, *(each for each in owners if each not in drivers or self._liveness.is_gone(drivers[each]))}
        parameters = {
            "driver": driver_id,
            "numbers": [number for number, owner, _ in found if owner in free],
            "epochs": [epoch for _, owner, epoch in found if owner in free],
            "own": [number for number, owner, _ in found if owner == driver_id],  # the answer to their claim was lost
        }
        with self._connections.session("written") as session:
            rows = session.execute(many.CLAIM_ALL, parameters).fetchall()
        return {entry.saga_id: entry for entry in self._claimed(rows, drivers[driver_id])}

    def _claimed_before(self, saga_id: str, driver_id: str) -> Entry | None:
        """The entry of an execution that the driver already owns. None if the driver does not own the execution.

        A driver claims its own execution if the answer to the first claim was lost.
        """
        for owner, _, abandoned in self._read_of(sql.OWNER, saga_id):
            if owner == driver_id and (entry := self.find(saga_id)) is not None:
                return msgspec.structs.replace(entry, abandoned=abandoned)
        return None

    def release(self, saga_id: str, epoch: int) -> None:
        """Free an execution from its owner: see `Journal.release`."""
        self._check_writable()
        if is_text(saga_id):
            self._connections.write(sql.RELEASE, (saga_id, epoch))

    def claimable(self, at: float, limit: int, skip: Sequence[str] = ()) -> list[str]:
        """List the ids of claimable executions: see `Journal.claimable`.

        The oldest executions come first, in the order in which they were opened.
        """
        found = self._connections.read(sql.UNOWNED, (at, list(skip), limit))
        gone = [row[5] for row in self._drivers(sql.OWNERS) if self._liveness.is_gone(row)]
        if gone:
            found += self._connections.read(sql.LEFT_BY, (gone, list(skip), limit))
        return [saga_id for _, saga_id in sorted(found)[:limit]]

    def claim_some(
        self, driver_id: str, at: float, limit: int, skip: Sequence[str] = (), leave: Sequence[str] = ()
    ) -> list[Entry]:
        """Claim several executions at once: see `Journal.claim_some`.

        Two drivers that claim at the same time claim different executions.
        """
        self._check_writable()
        drivers = self._drivers(sql.DRIVERS_OF_IDS, [driver_id])
        if not drivers:
            raise unknown_driver(driver_id)
        gone = [row[5] for row in self._drivers(sql.OWNERS) if self._liveness.is_gone(row)]
        parameters = {"driver": driver_id, "gone": gone, "at": at, "limit": limit}
        parameters |= {"skip": list(skip), "leave": list(filter(is_text, leave))}
        with self._connections.session("written") as session:
            rows = session.execute(sql.CLAIM_SOME if gone else sql.CLAIM_FREE, parameters).fetchall()
        return self._claimed(rows, drivers[0])

    def _claimed(self, rows: Sequence[Row], driver: Row) -> list[Entry]:
        """The entries of executions that a driver owns. The last value of each row is the column ``abandoned``."""
        me, alive = Driver(*driver[5:]), self._liveness.is_present(driver)
        return [
            msgspec.structs.replace(entry_of(tuple(row), me, alive, cipher=self.codec.cipher), abandoned=abandoned)
            for *row, abandoned in rows
        ]

    def prune(
        self, before: float, *, saga: str | None = None, limit: int = 1000, forget_ids: bool = False, token: int = 0
    ) -> int:
        """Delete ended executions: see `Journal.prune`.

        Branches count towards *limit*, but a branch is never deleted without its parent.
        """
        check_bounds(before, limit)
        self._check_writable()
        return pruning.prune(self._connections, before, saga=saga, limit=limit, forget_ids=forget_ids, token=token)

    def prune_these(self, saga_ids: Sequence[str], before: float) -> int:
        """Delete ended executions by id: see `RetainingJournal.prune_these`."""
        check_bounds(before, None)
        self._check_writable()
        return pruning.prune_these(self._connections, saga_ids, before)

    def reseal(self, advance: Callable[[int], object] = int) -> Resealed:
        """Seal all texts under the first key of the cipher: see `ResealingJournal.reseal`."""
        self._check_writable()

        def read(statement: str, parameters: Sequence[Any]) -> list[Row]:
            return self._connections.read(statement.replace("?", "%s"), parameters)

        def write(statement: str, rows: Sequence[Row]) -> None:
            with self._connections.session("written") as session, session.connection.transaction():
                for row in rows:
                    session.execute(statement.replace("?", "%s"), row)

        return reseal_all(self.codec.cipher, read, write, advance)

    def repair(self, saga_id: str) -> None:
        """Derive the row of an execution again: see `RepairableJournal.repair`."""
        self._check_writable()
        if is_text(saga_id):
            damage.repair(self._connections, saga_id)

    def _check_writable(self) -> None:
        if self.read_only:
            raise JournalError(f"the journal {self._connections.address.shown!r} was opened only for reading")

    # Closing and forking

    def close(self) -> None:
        """Close files and connections: see `Journal.close`."""
        self._locks.close()
        self._connections.close()
        self.side_connections.close()

    def reset(self) -> None:
        """Open new connections. A forked child calls this method."""
        self._connections.reset()
        self._writes = SharedWrites(self._execute)
        self.side_connections.reset()
        self._locks.reset()
        self._numbers.clear()
        self._liveness.forget()

    def __repr__(self) -> str:
        return f"PostgresJournal({self._connections.address.shown!r})"
