"""Outbox: the rows for starts, signals and messages that the user's transactions write, and their delivery by a relay.

A row of the outbox is committed together with the user's own rows, or not at all. A relay first delivers a row and then
deletes it, so each row is delivered at least once. The mediator ignores a repeated start or signal. Each message has an
id, so that a consumer can ignore a repeated message.

Only the relay that holds the lease publishes messages, so two relays do not publish the same message at the same time.
Rows are read in the order of their numbers. A row is read only if no open transaction can still commit a row with a
lower number.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from fsm_mediator.error_types import MediatorClosedError, MediatorError
from fsm_mediator.errors import JournalError
from fsm_mediator.journal.codec import Codec, payload_type
from fsm_mediator.mediator.threads import run_blocking
from fsm_mediator.transactions.access import Access
from fsm_mediator.transactions.databases.base import settled
from fsm_mediator.transactions.tables import Tables

logger: logging.Logger = logging.getLogger("fsm_mediator")

Kind: TypeAlias = Literal["start", "signal", "message"]

BATCH: Final = 100
"""The maximum number of outbox rows that one query reads."""

LEASE: Final = 10.0
"""The duration of the lease for publishing messages, in seconds. A relay renews the lease after half of this time."""

Publish: TypeAlias = Callable[[str, Any, str, str], object]
"""A function or coroutine function ``publish(topic, payload, key, message_id)``."""


class Lag(NamedTuple):
    """The number and the age of the rows in an outbox.

    Attributes:
        waiting: The number of rows that wait for delivery.
        refused: The number of rows that cannot be delivered. The column ``refused`` of such a row has the reason.
        seconds: The age of the oldest waiting row, in seconds. 0 if no row waits.
    """

    waiting: int
    refused: int
    seconds: float


class Row(NamedTuple):
    """One row of the outbox.

    Attributes:
        number: The row's number.
        kind: ``start``, ``signal`` or ``message``.
        name: The name of the saga, the signal or the topic.
        key: The id of the execution. For a message, the message's key: messages with the same key stay in order.
        body: The payload or the value, as JSON. For a start, a JSON object of payload, deadline and attributes.
    """

    number: int
    kind: Kind
    name: str
    key: str
    body: str


class _Start(msgspec.Struct):
    """The body of an outbox row of the kind ``start``."""

    payload: msgspec.Raw
    deadline: float | None
    attributes: dict[str, Any] = {}


class MediatorLike(Protocol):
    """The mediator that gets the starts and signals of a relay: a `Mediator` or an `AsyncMediator`."""

    @property
    def sagas(self) -> Any:
        """The sagas that are registered with the mediator."""

    def start(
        self,
        saga: Any,
        payload: Any,
        *,
        saga_id: str,
        deadline: float | None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Any:
        """Accept a new execution of *saga* with the id *saga_id*."""

    def signal(self, saga_id: str, name: str, value: Any) -> Any:
        """Send the signal *name* with *value* to the execution *saga_id*."""


class _Lease:
    """The lease for publishing messages, as one relay sees it. At most one relay holds the lease at any time.

    Args:
        execute: A function that executes a statement in its own transaction.
        tables: The SQL statements on the table of the lease.
    """

    def __init__(self, execute: Callable[..., Awaitable[Any]], tables: Tables) -> None:
        self._execute = execute
        self._tables = tables
        self._owner = uuid.uuid4().hex
        self._renew_at = 0.0
        self.held = False

    async def take(self) -> bool:
        """Take the lease, unless another relay holds it. Returns whether this relay holds the lease now.

        The lease of a dead relay expires after `LEASE` seconds.
        """
        return await self._ask(self._tables.lease)

    async def keep(self) -> bool:
        """Return whether this relay still holds the lease. Renew the lease if half of its time has passed."""
        return self.held and (time.monotonic() < self._renew_at or await self._ask(self._tables.renew))

    async def _ask(self, statement: str) -> bool:
        self._renew_at = time.monotonic() + LEASE / 2
        self.held = bool(await self._execute(statement, owner=self._owner, seconds=LEASE))
        return self.held

    async def release(self) -> None:
        """Release the lease if this relay holds it, so that another relay can publish messages."""
        if self.held:
            await self._execute(self._tables.release, owner=self._owner)


class Outbox:
    """Writes rows to the outbox of one database, and delivers the waiting rows.

    Args:
        access: Access to the user's database and to the tables of `Transactions`.
        publish: The function that publishes messages. If None, messages wait for a process with such a function.
    """

    def __init__(self, access: Access, publish: Publish | None) -> None:
        self._access = access
        self._tables = access.tables
        self._publish = publish
        self._codec = Codec()

    async def start(
        self,
        session: Any,
        name: str,
        saga_id: str,
        payload: Any,
        deadline: float | None,
        attributes: Mapping[str, Any],
    ) -> None:
        """Write the row of a start in the transaction of *session*.

        Raises:
            PayloadError: The payload cannot be encoded.
        """
        encoded = self._codec.encode(payload, f"the payload of {name!r}")
        body = msgspec.json.encode(_Start(msgspec.Raw(encoded), deadline, dict(attributes)))
        await self._write(session, "start", name, saga_id, body)

    async def put(self, session: Any, kind: Kind, name: str, key: str, value: Any) -> None:
        """Write the row of a signal or a message in the transaction of *session*.

        Raises:
            PayloadError: The value cannot be encoded.
        """
        body = self._codec.encode(value, f"the {'payload' if kind != 'signal' else 'value'} of {name!r}")
        await self._write(session, kind, name, key, body)

    async def _write(self, session: Any, kind: Kind, name: str, key: str, body: bytes) -> None:
        await self._access.query(session, self._tables.put, kind=kind, name=name, key=key, body=body.decode())

    async def lag(self) -> Lag:
        """The number of waiting rows, the number of refused rows, and the age of the oldest waiting row."""
        return Lag(*(await self._whole(self._tables.lag))[0])

    async def pass_on(self, mediator: MediatorLike) -> int:
        """Deliver the waiting rows in order, and return the number of delivered or refused rows.

        If a row cannot be delivered now, this row and all later rows with the same key wait for the next call.
        """
        lease = _Lease(self._whole, self._tables)
        passed, after, held_back = 0, 0, set[str]()
        try:
            while rows := await self._read(after):
                publishes = self._publish is not None and any(row.kind == "message" for row in rows)
                if publishes and not lease.held and await lease.take():
                    rows = await self._read(after)  # another relay may have published some of these rows
                for row in rows:
                    after = row.number
                    if row.key not in held_back and not await self._pass_row(mediator, row, lease):
                        held_back.add(row.key)
                    else:
                        passed += row.key not in held_back
                if len(rows) < BATCH:
                    break
        finally:
            await lease.release()
        return passed

    async def _read(self, after: int) -> list[Row]:
        """The next batch of waiting rows with numbers above *after*."""
        return [Row(*row) for row in await self._whole(self._tables.waiting, after=after, limit=BATCH)]

    async def _pass_row(self, mediator: MediatorLike, row: Row, lease: _Lease) -> bool:
        """Deliver one row. Returns True if it was delivered or refused, and False if it must be tried again later."""
        try:
            if row.kind == "message":
                if self._publish is None or not await lease.keep():
                    return False
                payload = self._codec.decode(row.body.encode(), Any, f"message {row.number}")
                await settled(self._publish(row.name, payload, row.key, f"{self._tables.outbox}:{row.number}"))
            elif row.kind == "signal":
                value = self._codec.decode(row.body.encode(), Any, f"signal {row.name!r}")
                await settled(mediator.signal(row.key, row.name, value))
            else:
                known = [each for each in mediator.sagas if each.name == row.name]
                if not known:
                    return False  # a mediator in another process may know the saga
                begins = self._codec.decode(row.body.encode(), _Start, f"start {row.number}")
                payload = self._codec.decode(begins.payload, payload_type(known[-1]), f"the payload of {row.key!r}")
                extra = {"attributes": begins.attributes} if begins.attributes else {}
                await settled(mediator.start(row.name, payload, saga_id=row.key, deadline=begins.deadline, **extra))
        except (JournalError, OSError) as error:
            logger.warning("outbox row %d (%s %r) is passed on later: %s", row.number, row.kind, row.name, error)
            return False
        except MediatorClosedError:
            return False
        except MediatorError as error:
            logger.error("outbox row %d (%s %r for %r) is refused: %s", *row[:4], error)  # noqa: TRY400 - the message has all facts
            await self._whole(self._tables.refuse, number=row.number, reason=str(error))
            return True
        except Exception:
            if row.kind != "message":
                raise
            logger.exception("message %d for %r could not be published, and is tried again", row.number, row.name)
            return False
        await self._whole(self._tables.passed, number=row.number)
        return True

    async def _whole(self, statement: str, **values: Any) -> Any:
        """Execute a statement in its own transaction, and return its rows."""

        def work(session: Any) -> Awaitable[Any]:
            return self._access.query(session, statement, **values)

        if not self._access.database.asynchronous and _in_loop():
            return await asyncio.to_thread(run_blocking, self._access.transact, work)
        return await self._access.transact(work)


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
