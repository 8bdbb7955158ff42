"""Door: a key's row in the user's database, which decides whether an attempt of a step may take effect.

An attempt inserts its key, does its work and stores its result, in one transaction. A probe or a compensation asks
whether it took effect. If it finds no result, it closes the door in the same statement: it writes the number of its own
record as a fence. From then on, an attempt that was announced by a record up to the fence is rejected, even if it was
already under way. An attempt announced later may take effect. The numbers of an execution's records never fall.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from fsm_mediator.definition.steps import Context
from fsm_mediator.error_types import OutcomeUnknownError, RetryAfterError, StepRejectedError
from fsm_mediator.journal.codec import Codec
from fsm_mediator.records import Happened, NotHappened
from fsm_mediator.transactions.access import Access
from fsm_mediator.transactions.databases.base import settled
from fsm_mediator.transactions.errors import AttemptOpenError, conflicts, is_lock_timeout
from fsm_mediator.transactions.tables import BEGUN, DONE

T = TypeVar("T")

REPEATS: Final = 10
"""How often a transaction is repeated at once that the database ended because of another one."""


class Door:
    """Has the attempts of one step done in transactions that hold their keys.

    Args:
        access: The user's database, with the tables.
        isolation: The isolation level of each transaction. None: the database's own.
        patience: Seconds that a probe or a compensation waits for an attempt whose transaction is open.
        result: The type of the results.
        label: The step's name, for people.
    """

    def __init__(self, access: Access, isolation: str | None, patience: float, result: Any, label: str) -> None:
        self._access = access
        self._database = access.database
        self._tables = access.tables
        self._query = access.query
        self._isolation = isolation
        self._patience = patience
        self._limit = f"{round(patience * 1000)}ms"
        self._result = result
        self._what = f"the result of step {label!r}"
        self._codec = Codec()

    async def execute(self, work: Callable[..., Any], payload: Any, context: Context) -> Any:
        """The result of *work*, which is done unless it was done before.

        Raises:
            StepRejectedError: The door was closed after this attempt began.
            OutcomeUnknownError: The connection was lost during the commit.
        """

        async def attempt(session: Any) -> str:
            key = context.execute_key
            taken = await self._query(session, self._tables.take, key=key, saga_id=context.saga_id)
            if not taken:
                lock = " FOR UPDATE" if self._database.dialect == "postgresql" else ""
                ((state, result, fence),) = await self._query(session, self._tables.look + lock, key=key)
                if state == DONE:
                    return str(result)
                self._check_kept(state, context)
                if context.seq <= fence:
                    raise StepRejectedError(
                        f"{context.step!r} was begun by record {context.seq}, and its door was closed by record "
                        f"{fence}: it was asked meanwhile whether it took effect, and the answer was no"
                    )
                taken = await self._query(session, self._tables.retake, key=key)
            with self._database.guard(session):
                value = await settled(work(session, payload, context))
            result = self._codec.encode(value, self._what).decode()
            self._codec.decode(result.encode(), self._result, self._what)  # what does not come back is not done
            if not await self._query(session, self._tables.keep, key=key, result=result, transaction=taken[0][0]):
                raise OutcomeUnknownError(
                    f"{context.step!r} ended the transaction of its attempt: its earlier statements are committed "
                    f"without its result. Let it return instead, and check its effect"
                )
            return result

        return self._decoded(await self._transaction(attempt))

    async def probe(self, _payload: Any, context: Context) -> Happened | NotHappened:
        """Whether `execute` took effect; if it did not, no attempt begun before this will."""

        async def attempt(session: Any) -> str | None:
            await self._set_lock_timeout(session, self._limit)
            state, result = await self._close(session, context)
            return result if state == DONE else None

        result = await self._transaction(attempt)
        return NotHappened() if result is None else Happened(self._decoded(result))

    async def compensate(self, work: Callable[..., Any], payload: Any, context: Context) -> None:
        """Do *work* if `execute` took effect and was not undone; no attempt begun before this will take effect."""

        async def attempt(session: Any) -> None:
            own = await self._set_lock_timeout(session, self._limit)
            state, result = await self._close(session, context)
            if state == DONE or (result is None and not context.in_doubt):
                # Without a row of its own it took effect if the saga knows so: its key was pruned, or a person says so.
                await self._set_lock_timeout(session, own)  # the bound is for the key, not for what the user waits for
                known = context if result is None else msgspec.structs.replace(context, result=self._decoded(result))
                with self._database.guard(session):
                    await settled(work(session, payload, known))
                await self._query(session, self._tables.undo, key=context.execute_key)

        await self._transaction(attempt)

    async def _set_lock_timeout(self, session: Any, limit: str) -> str:
        """On PostgreSQL, have this transaction wait so long for a lock, and return the earlier limit."""
        if self._database.dialect != "postgresql":
            return ""
        ((before, _),) = await self._query(session, self._tables.lock_timeout, limit=limit)
        return str(before)

    async def _close(self, session: Any, context: Context) -> tuple[str, str | None]:
        """Close the door, unless the step took effect; return the key's state and result. None: it had no row."""
        values = {"key": context.execute_key, "saga_id": context.saga_id, "fence": context.seq}
        try:
            ((state, result),) = await self._query(session, self._tables.close, **values)
        except Exception as error:
            if is_lock_timeout(error):
                raise AttemptOpenError(
                    f"an earlier attempt of {context.step!r} has held its transaction open for {self._patience:g} "
                    f"seconds: whether it takes effect is known once that ends"
                ) from error
            raise
        self._check_kept(state, context)
        return state, result

    def _check_kept(self, state: str, context: Context) -> None:
        if state == BEGUN:
            raise OutcomeUnknownError(
                f"{context.step!r} ended its transaction too early, so its key was committed without a "
                f"result; check its effect, and resolve it"
            )

    def _decoded(self, result: str) -> Any:
        return self._codec.decode(result.encode(), self._result, self._what)

    async def _transaction(self, attempt: Callable[[Any], Any]) -> Any:
        """Have *attempt* made in a transaction; again, if the database ended it because of another one."""
        for left in reversed(range(REPEATS)):
            try:
                return await self._access.transact(attempt, self._isolation, self._commit)
            except Exception as error:
                if not conflicts(error):
                    raise
                if not left:
                    raise RetryAfterError(1.0, f"{REPEATS} times the database ended it for another: {error}") from error
        raise AssertionError

    async def _commit(self, session: Any) -> None:
        try:
            await self._database.commit(session)
        except Exception as error:
            if conflicts(error) or is_lock_timeout(error):
                raise  # it is rolled back
            raise OutcomeUnknownError(f"the commit gave no answer: {error}") from error
