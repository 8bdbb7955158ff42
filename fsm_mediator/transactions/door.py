"""Door: decides whether an attempt of a step may take effect, with a row in the user's database.

Each step of an execution has a key, and the table of keys has one row for each key. An attempt inserts the row, does
its work and stores its result, in one transaction. A probe or a compensation reads the row to find out whether an
attempt took effect.

If the row has no result, the probe or compensation also *closes the door*: it stores a *fence* in the row. The fence is
the number of the record that announced the probe or compensation. After that, an attempt is rejected if its record
number is not above the fence, even if the attempt is already running. A later attempt has a higher record number, so it
may take effect.
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
"""The maximum number of tries of a transaction that the database aborts because of another transaction."""


class Door:
    """Calls the functions of one step in transactions that also write the step's key.

    Args:
        access: Access to the user's database and to the tables of `Transactions`.
        isolation: The isolation level of each transaction. None for the default level of the database.
        patience: The number of seconds for which a probe or a compensation waits for an attempt with an open
            transaction.
        result: The type of the step's result.
        label: The step's name, for messages.
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
        """Return the stored result of the step. If there is none, call *work*, store its result and return it.

        Raises:
            StepRejectedError: After this attempt began, a probe or a compensation forbade it to take effect.
            OutcomeUnknownError: The connection was lost during the commit, or *work* ended the transaction.
            RetryAfterError: The database aborted the transaction repeatedly because of other transactions.
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
                        f"{fence}: a probe or a compensation has found meanwhile that it did not take effect"
                    )
                taken = await self._query(session, self._tables.retake, key=key)
            with self._database.guard(session):
                value = await settled(work(session, payload, context))
            result = self._codec.encode(value, self._what).decode()
            self._codec.decode(result.encode(), self._result, self._what)  # an error here rolls the transaction back
            if not await self._query(session, self._tables.keep, key=key, result=result, transaction=taken[0][0]):
                raise OutcomeUnknownError(
                    f"{context.step!r} ended the transaction of its attempt: its earlier statements are committed "
                    f"without its result. Let it return instead, and check its effect"
                )
            return result

        return self._decoded(await self._transaction(attempt))

    async def probe(self, _payload: Any, context: Context) -> Happened | NotHappened:
        """Whether an attempt took effect. If not, no attempt that began before this probe can take effect later.

        Raises:
            AttemptOpenError: An earlier attempt still has an open transaction.
        """

        async def attempt(session: Any) -> str | None:
            await self._set_lock_timeout(session, self._limit)
            state, result = await self._close(session, context)
            return result if state == DONE else None

        result = await self._transaction(attempt)
        return NotHappened() if result is None else Happened(self._decoded(result))

    async def compensate(self, work: Callable[..., Any], payload: Any, context: Context) -> None:
        """Call *work* if an attempt took effect and is not undone yet.

        No attempt that began before this call can take effect later.

        Raises:
            AttemptOpenError: An earlier attempt still has an open transaction.
        """

        async def attempt(session: Any) -> None:
            own = await self._set_lock_timeout(session, self._limit)
            state, result = await self._close(session, context)
            if state == DONE or (result is None and not context.in_doubt):
                # If the key has no row, but the saga knows that the step took effect, the row was pruned or an operator
                # settled the step. Then *work* is called too.
                await self._set_lock_timeout(session, own)  # *work* must not run with the short timeout for the key
                known = context if result is None else msgspec.structs.replace(context, result=self._decoded(result))
                with self._database.guard(session):
                    await settled(work(session, payload, known))
                await self._query(session, self._tables.undo, key=context.execute_key)

        await self._transaction(attempt)

    async def _set_lock_timeout(self, session: Any, limit: str) -> str:
        """Set the lock timeout of this transaction to *limit*, and return the previous timeout.

        On SQLite, nothing is set and the result is empty.
        """
        if self._database.dialect != "postgresql":
            return ""
        ((before, _),) = await self._query(session, self._tables.lock_timeout, limit=limit)
        return str(before)

    async def _close(self, session: Any, context: Context) -> tuple[str, str | None]:
        """Store a fence in the row of the step's key, unless an attempt took effect: see this module's docstring.

        Returns:
            The state of the key, and the result as JSON. The result is None if the key had no row.

        Raises:
            AttemptOpenError: An earlier attempt still has an open transaction.
            OutcomeUnknownError: An earlier attempt ended its transaction too early.
        """
        values = {"key": context.execute_key, "saga_id": context.saga_id, "fence": context.seq}
        try:
            ((state, result),) = await self._query(session, self._tables.close, **values)
        except Exception as error:
            if is_lock_timeout(error):
                raise AttemptOpenError(
                    f"an earlier attempt of {context.step!r} has held its transaction open for {self._patience:g} "
                    f"seconds: its effect is known when the transaction ends"
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
        """Call *attempt* in a transaction. If the database aborts it because of another transaction, try again.

        Raises:
            RetryAfterError: The database aborted the transaction `REPEATS` times.
        """
        for left in reversed(range(REPEATS)):
            try:
                return await self._access.transact(attempt, self._isolation, self._commit)
            except Exception as error:
                if not conflicts(error):
                    raise
                if not left:
                    why = f"the database aborted the transaction {REPEATS} times because of other transactions: {error}"
                    raise RetryAfterError(1.0, why) from error
        raise AssertionError

    async def _commit(self, session: Any) -> None:
        try:
            await self._database.commit(session)
        except Exception as error:
            if conflicts(error) or is_lock_timeout(error):
                raise  # in this case it is certain that the transaction was rolled back
            raise OutcomeUnknownError(f"the commit gave no answer: {error}") from error
