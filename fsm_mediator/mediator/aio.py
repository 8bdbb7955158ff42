"""AsyncMediator: runs sagas on an event loop. Steps are coroutine functions, or plain functions, which run in threads.

Each execution is driven in its own task. Therefore cancelling a caller that awaits `run` does not cancel the saga.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.type_variables import Payload
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.journal.retention import Retention
from fsm_mediator.mediator import requests
from fsm_mediator.mediator.aio_operations import AsyncOperations
from fsm_mediator.mediator.alert_operations import AsyncAlertOperations
from fsm_mediator.mediator.bulk_operations import AsyncBulkOperations
from fsm_mediator.mediator.closing import close
from fsm_mediator.mediator.limits import Limits
from fsm_mediator.mediator.loop import LoopRuntime
from fsm_mediator.mediator.making import make_driver
from fsm_mediator.mediator.numbers import AsyncNumbersOperations
from fsm_mediator.mediator.recovery import AsyncDaemon, Relay
from fsm_mediator.mediator.runtime import Runtime
from fsm_mediator.mediator.validation import (
    check_seconds,
    check_settings,
    checked_relays,
)
from fsm_mediator.mediator.watch_operations import AsyncWatchOperations

if TYPE_CHECKING:
    from fsm_mediator.mediator.around import Hook
    from fsm_mediator.observe.observers import Observer


class AsyncMediator(
    AsyncOperations, AsyncBulkOperations, AsyncWatchOperations, AsyncNumbersOperations, AsyncAlertOperations
):
    """Drives executions of sagas with coroutine steps. Plain functions run in threads.

    The mediator belongs to the event loop of its first use, and only the thread of that loop may use it. After the loop
    is closed (`asyncio.run` has ended), the mediator can be used on another loop. Cancelling a task that awaits `run`
    only detaches the task: the saga continues. Only `cancel` cancels a saga.

    Args:
        *sagas: The sagas that the mediator can drive. If several sagas have the same name, starting by name uses the
            last of them.
        journal: The store of the records: a path or URL of a SQLite file, a `Journal`, or None for memory. `close` does
            not close a `Journal` that you pass.
        observers: Functions that are called with each `Record` after its commit, on the loop's thread.
        around: Functions that take the `Context` of an attempt and return a context manager. The context manager is
            entered around each call of the step, its compensation, its probe or a deciding function. It cannot change
            the answers of these calls. An asynchronous context manager is entered in the task that awaits the call, and
            never around deciding functions.
        relays: Further sources of work for the daemon, such as `Transactions`, which starts sagas from the user's
            database.
        retention: How long the daemon keeps ended executions: ``{"succeeded": "30d", "failed": "1y"}``, or a
            `Retention` with an archive. None to keep them without limit.
        max_workers: The maximum number of threads that run plain functions at a time.
        park_after: Seconds. If an execution in the background waits longer than this, it has no owner during the wait.
        limits: The maximum number of attempts at a time, by the step's name or path: ``{"billing": 10}``. Further
            attempts queue in the order of arrival. A SQLite or PostgreSQL journal applies the limit to all processes
            that set it; if their numbers differ, the smallest counts. Several mediators of one process can share a
            `Limits`.
        max_recoveries: The number of drivers that may die while they drive an execution that makes no progress. After
            that the execution is stuck: a person decides.
        close_grace: Seconds for which `close` waits for running attempts.
        clock: Returns the time in seconds since the epoch.
        sleep: A coroutine function that waits for a number of seconds. When it returns, the wait counts as over. With
            *sleep*, no execution is parked. Without *sleep*, a cancel can interrupt a wait.
        chance: Draws a random number from 0 to 1 for the jitter of waits.

    Raises:
        DefinitionError: Two sagas have the same name and version, or a setting is wrong.
    """

    def __init__(
        self,
        *sagas: Saga,
        journal: Journal | str | os.PathLike[str] | None = None,
        observers: Iterable[Observer] = (),
        around: Iterable[Hook] = (),
        relays: Iterable[Relay] = (),
        retention: Mapping[str, str | float] | Retention | None = None,
        max_workers: int = 8,
        park_after: float = 60.0,
        limits: Limits | Mapping[str, int] | None = None,
        max_recoveries: int = 50,
        close_grace: float = 30.0,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
        chance: Callable[[], float] | None = None,
        _runtime: Callable[[LoopRuntime], Runtime] | None = None,
    ) -> None:
        settings = {"max_workers": max_workers, "max_recoveries": max_recoveries, "close_grace": close_grace}
        self._relays = checked_relays(relays, retention)
        check_settings(**settings, observers=observers, clock=clock, sleep=sleep, chance=chance)
        self._close_grace = close_grace
        self._core = make_driver(
            around,
            sagas,
            journal,
            lambda journal, clock: LoopRuntime(journal, int(max_workers), clock, sleep),
            _runtime,
            coroutines=True,
            observers=observers,
            park_after=park_after,
            limits=limits,
            max_recoveries=max_recoveries,
            clock=clock,
            chance=chance,
        )

    async def __aenter__(self) -> Self:
        await self._core.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def register(self, saga: Saga) -> None:
        """Register another saga, which the mediator can then drive.

        Raises:
            DefinitionError: Another saga has the same name and version, or the mediator cannot run the saga's steps.
        """
        self._core.registry.register(saga)

    @property
    def journal(self) -> Journal:
        """The journal, in which the mediator stores records."""
        return self._core.journal

    @property
    def sagas(self) -> tuple[Saga, ...]:
        """Every registered saga."""
        return self._core.registry.sagas

    @property
    def settings(self) -> Mapping[str, Any]:
        """Arguments for another mediator with the same behaviour, by their names in `__init__`."""
        core = self._core
        kept = {name: getattr(core, name) for name in ("around", "limits", "observers", "park_after", "max_recoveries")}
        return {**kept, "relays": self._relays}

    # Running

    async def run(
        self,
        saga: Saga[Payload] | str,
        payload: Payload | None = None,
        *,
        saga_id: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        check: bool = True,
    ) -> Outcome:
        """Run a saga to its end, including retries and sleeps. Returns the outcome.

        If the saga does not succeed, the call raises an error, unless *check* is False. Cancelling the task that awaits
        this call only detaches the task: the saga continues. Only `cancel` cancels a saga.

        Starting an id twice is idempotent: in any process, the second call joins the first call's execution.

        Args:
            saga: The saga or its name.
            payload: The payload, an argument of every step.
            saga_id: The id of the execution; by default a UUID that begins with the time (version 7), in hexadecimal.
            timeout: Seconds to wait for the end. After that, the saga continues in the background.
            deadline: Seconds from now. If the saga has not succeeded by then, it compensates.
            attributes: JSON scalars by name, at most 32; `executions` can filter by them. A repeated start does not
                change them.
            check: Whether to raise an error if the saga did not succeed. If False, the outcome is returned in any case.

        Raises:
            SagaFailedError: The saga failed, and is compensated.
            SagaStuckError: The saga is stuck and waits for a person.
            SagaWaitingError: The saga is parked: it waits for a signal.
            StillRunningError: *timeout* has passed.
            PayloadError: The payload is refused. Nothing was started.
            SagaIdTakenError: The id belongs to another saga, has another payload, or is forgotten.
            JournalError: The journal cannot be written. If the id is run again, the saga resumes at its last record.
            MediatorClosedError: The mediator is closed, or was closed during the call.
        """
        return await requests.run(self._core, saga, payload, saga_id, timeout, deadline, check, attributes)

    async def start(
        self,
        saga: Saga[Payload] | str,
        payload: Payload | None = None,
        *,
        saga_id: str | None = None,
        deadline: float | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> str:
        """Accept a saga durably, drive it in the background, and return the execution's id at once.

        Args:
            saga: The saga or its name.
            payload: The payload, an argument of every step.
            saga_id: The id of the execution; by default a UUID that begins with the time (version 7), in hexadecimal.
            deadline: Seconds from now. If the saga has not succeeded by then, it compensates.
            attributes: JSON scalars by name, at most 32; `executions` can filter by them. A repeated start does not
                change them.

        Raises:
            PayloadError: The payload is refused. Nothing was started.
            SagaIdTakenError: The id belongs to another saga, has another payload, or is forgotten.
        """
        return await requests.start(self._core, saga, payload, saga_id, deadline, attributes)

    async def enqueue(
        self,
        saga: Saga[Payload] | str,
        payload: Payload | None = None,
        *,
        saga_id: str | None = None,
        deadline: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        connection: Any = None,
    ) -> str:
        """Accept a saga durably without driving it. A daemon or `recover` of any mediator on the journal drives it.

        This process does not need the services that the steps use, and does not become a driver. Returns the
        execution's id.

        Args:
            saga: The saga or its name.
            payload: The payload, an argument of every step.
            saga_id: The id of the execution; by default a UUID that begins with the time (version 7), in hexadecimal.
                A repeated call joins the execution.
            deadline: Seconds from now. If the saga has not succeeded by then, it compensates.
            attributes: JSON scalars by name, at most 32; `executions` can filter by them. A repeated start does not
                change them.
            connection: A connection of psycopg 3, synchronous or asynchronous, to the journal's PostgreSQL database.
                The execution is part of the connection's transaction: your commit makes the execution durable, and your
                rollback removes it. After a refusal the transaction stays usable, unless the server refused a
                statement. Without *connection*, the execution is durable when the call returns.

        Raises:
            PayloadError: The payload is refused. Nothing was written.
            SagaIdTakenError: The id belongs to another saga, has another payload, or is forgotten.
            DefinitionError: *connection* is not such a connection, or the journal is not on PostgreSQL.
            RefusedError: *connection* is closed, is in a failed transaction, or is connected to another database.
        """
        return await requests.enqueue(self._core, saga, payload, saga_id, deadline, attributes, connection)

    async def wait(self, saga_id: str, *, timeout: float | None = None, check: bool = True) -> Outcome:
        """Wait until an execution ends, is stuck or is parked. Returns its outcome.

        Another mediator may have started it.

        The call also waits during retries and sleeps. An execution is parked if it waits for a signal, or for branches
        that all wait for a signal or for a person. The signal may never come, so this call does not wait for it.

        Args:
            saga_id: The execution.
            timeout: The maximum number of seconds to wait. After that, the execution continues.
            check: Whether to raise an error if the execution did not succeed, as `run` does. If False, the outcome is
                returned in any case.

        Raises:
            SagaFailedError: The execution failed, and is compensated.
            SagaStuckError: The execution is stuck and waits for a person.
            SagaWaitingError: The execution is parked.
            StillRunningError: *timeout* seconds have passed.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        return await requests.wait(self._core, saga_id, timeout, check)

    async def recover(self) -> list[Outcome]:
        """Claim and resume every unfinished execution without a living driver, and wait for these executions.

        The wait for an execution is over when the execution has ended, is stuck or is parked. The call also waits for
        the parents of claimed branches.

        Executions that no registered saga can drive are not changed. They are logged with the reason.

        Returns:
            The outcome of each claimed execution.
        """
        from fsm_mediator.mediator import recovering  # loaded when it is used

        return await recovering.recover(self._core)

    def daemon(self, *, poll: float = 1.0) -> AsyncDaemon:
        """An async context manager that claims and drives every execution that needs a driver and has none.

        It recovers crashed executions and wakes due ones. It survives a journal that is unavailable for a while.

        Args:
            poll: The maximum number of seconds between two queries to the journal.
        """
        return AsyncDaemon(self._core, poll, [functools.partial(each.pass_on, self) for each in self._relays])

    # Closing

    async def close(self, grace: float | None = None) -> None:
        """Accept no new work, wait for running attempts, then release the other executions. A second call is harmless.

        Running executions may end within the grace. An execution that has to wait longer than the grace is released at
        once. If an attempt still runs after the grace, its execution is released when the attempt ends. If this process
        ends first, the execution is recovered later. A `run` that waits for a released execution raises
        `MediatorClosedError`.

        Args:
            grace: Seconds to wait for running attempts. *close_grace* by default.
        """
        if grace is not None:
            check_seconds("grace (seconds)", grace)
        await close(self._core, self._close_grace if grace is None else grace)
