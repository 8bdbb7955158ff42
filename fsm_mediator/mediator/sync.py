"""Mediator: drives sagas of plain functions, in the caller's thread or in threads of its own."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.type_variables import Payload
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.mediator import requests
from fsm_mediator.mediator.alert_operations import AlertOperations
from fsm_mediator.mediator.around import Hook, make_driver
from fsm_mediator.mediator.bulk_operations import BulkOperations
from fsm_mediator.mediator.closing import close
from fsm_mediator.mediator.limits import Limits
from fsm_mediator.mediator.numbers import NumbersOperations
from fsm_mediator.mediator.operations import Operations
from fsm_mediator.mediator.runtime import Runtime
from fsm_mediator.mediator.threads import ThreadRuntime, run_blocking
from fsm_mediator.mediator.validation import (
    check_blocking,
    check_not_coroutine,
    check_seconds,
    check_settings,
    checked_relays,
)
from fsm_mediator.mediator.watching import WatchOperations
from fsm_mediator.observe.observers import Observer

if TYPE_CHECKING:
    from fsm_mediator.journal.retention import Retention
    from fsm_mediator.mediator.recovery import Daemon, Relay


class Mediator(Operations, BulkOperations, WatchOperations, NumbersOperations, AlertOperations):
    """Drives executions of sagas with plain functions as steps.

    It opens on first use, and anew after a fork; any number of threads may use it at once. Closing it (or leaving its
    ``with`` block) takes no new work, waits for what is under way up to *close_grace* seconds, and releases the rest
    for whoever recovers it.

    Args:
        *sagas: The sagas it can drive. Of several versions of one name, the last is the one that is started by name.
        journal: Where records are kept: a path or URL of a SQLite file, a `Journal`, or None for memory. One that is
            handed over ready is not closed by `close`.
        observers: Called with each `Record` after its commit.
        around: Functions that take the `Context` of an attempt and return a context manager, which is entered where the
            step, its compensation, its probe or a function that decides is called. It cannot change what they answer.
        relays: What the daemon has passed on besides, such as `Transactions`: starts that the user's database holds.
        retention: How long the daemon keeps what has ended: ``{"succeeded": "30d", "failed": "1y"}``; a `Retention`
            with an archive. None: for ever.
        max_workers: The most threads that drive executions in the background.
        park_after: An execution in the background that waits longer than so many seconds is held by nobody meanwhile.
        limits: At most so many attempts at a time, by the step's name or path: ``{"billing": 10}``. Later attempts
            queue in the order of arrival. A SQLite journal keeps the slots for all processes that set the limit; of
            different numbers the smallest counts. A `Limits` can be shared by several mediators of a process.
        max_recoveries: How often a driver may die in the midst of an execution that does not get further. After that
            the execution is stuck: a person decides.
        close_grace: Seconds that `close` waits for attempts under way.
        clock: Tells the time in seconds since the epoch.
        sleep: Waits so many seconds; when it returns the wait counts as over, and nothing is ever parked. By default a
            wait can be interrupted by a cancel.
        chance: Draws a number from 0 to 1 for the jitter of waits.

    Raises:
        DefinitionError: A saga cannot be driven by this mediator, or two have the same name and version.
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
        sleep: Callable[[float], None] | None = None,
        chance: Callable[[], float] | None = None,
        _runtime: Callable[[ThreadRuntime], Runtime] | None = None,
    ) -> None:
        settings = {"max_workers": max_workers, "max_recoveries": max_recoveries, "close_grace": close_grace}
        self._relays = checked_relays(relays, retention)
        check_settings(**settings, observers=observers, clock=clock, sleep=sleep, chance=chance)
        check_not_coroutine(sleep)
        self._close_grace = close_grace
        self._core = make_driver(
            around,
            sagas,
            journal,
            lambda journal, clock: ThreadRuntime(journal, int(max_workers), clock, sleep),
            _runtime,
            coroutines=False,
            observers=observers,
            park_after=park_after,
            limits=limits,
            max_recoveries=max_recoveries,
            clock=clock,
            chance=chance,
        )

    def __enter__(self) -> Self:
        run_blocking(self._core.open)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def register(self, saga: Saga) -> None:
        """Make another saga known.

        Raises:
            DefinitionError: Another one of its name and version is known, or it has coroutine steps.
        """
        self._core.registry.register(saga)

    @property
    def journal(self) -> Journal:
        """Where records are kept."""
        return self._core.journal

    @property
    def sagas(self) -> tuple[Saga, ...]:
        """Every registered saga."""
        return self._core.registry.sagas

    @property
    def settings(self) -> Mapping[str, Any]:
        """What makes another mediator drive as this one does, by the names of `__init__`'s arguments."""
        core = self._core
        kept = {name: getattr(core, name) for name in ("around", "limits", "observers", "park_after", "max_recoveries")}
        return {**kept, "relays": self._relays}

    # Running

    def run(
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
        """Run a saga to its end in the caller's thread, through retries and sleeps. A return means it succeeded.

        Starting an id twice is idempotent: the second call joins the execution, wherever it is driven.

        Args:
            saga: The saga or its name.
            payload: What every step is given.
            saga_id: Names the execution; if not given, a UUID that begins with the time (version 7), in hexadecimal.
            timeout: Seconds to wait for the end; the saga then goes on in the background.
            deadline: Seconds from now within which it must have succeeded, else it compensates.
            attributes: JSON scalars by name, at most 32, by which `executions` finds it. A second start changes none.
            check: False: return the outcome whatever it is.

        Raises:
            SagaFailedError: It failed, and is compensated.
            SagaStuckError: It waits for a person.
            SagaWaitingError: It is parked.
            StillRunningError: *timeout* has passed.
            PayloadError: The payload is refused; nothing was started.
            SagaIdTakenError: The id belongs to another saga, was given another payload, or is forgotten.
            JournalError: The journal cannot be written. The saga goes on from where it stood when the id is run again.
            MediatorClosedError: The mediator is, or was meanwhile, closed.
        """
        return run_blocking(requests.run, self._core, saga, payload, saga_id, timeout, deadline, check, attributes)

    def start(
        self,
        saga: Saga[Payload] | str,
        payload: Payload | None = None,
        *,
        saga_id: str | None = None,
        deadline: float | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> str:
        """Accept a saga durably, drive it in the background, and return its id at once.

        Args:
            saga: The saga or its name.
            payload: What every step is given.
            saga_id: Names the execution; if not given, a UUID that begins with the time (version 7), in hexadecimal.
            deadline: Seconds from now within which it must have succeeded, else it compensates.
            attributes: JSON scalars by name, at most 32, by which `executions` finds it. A second start changes none.

        Raises:
            PayloadError: The payload is refused; nothing was started.
            SagaIdTakenError: The id belongs to another saga, was given another payload, or is forgotten.
        """
        return run_blocking(requests.start, self._core, saga, payload, saga_id, deadline, attributes)

    def enqueue(
        self,
        saga: Saga[Payload] | str,
        payload: Payload | None = None,
        *,
        saga_id: str | None = None,
        deadline: float | None = None,
        attributes: Mapping[str, Any] | None = None,
        connection: Any = None,
    ) -> str:
        """Accept a saga durably, and drive it not: a daemon or `recover` of any mediator on the journal will.

        This mediator needs no definition of the steps' services for that, and becomes no driver.

        Args:
            saga: The saga or its name.
            payload: What every step is given.
            saga_id: Names the execution; if not given, a UUID that begins with the time (version 7), in hexadecimal.
                The same again is harmless.
            deadline: Seconds from now within which it must have succeeded, else it compensates.
            attributes: JSON scalars by name, at most 32, by which `executions` finds it. A second start changes none.
            connection: A connection of psycopg 3 to the journal's own PostgreSQL database, not an asynchronous one. The
                execution is part of its transaction: it is there once you commit, and never was if you roll back. Every
                refusal but one by the server leaves the transaction usable. None: it is durable on return.

        Raises:
            PayloadError: The payload is refused; nothing was written.
            SagaIdTakenError: The id belongs to another saga, was given another payload, or is forgotten.
            DefinitionError: *connection* is no such connection, or the journal is not on PostgreSQL.
            RefusedError: *connection* is closed, in a failed transaction, or one to another database.
        """
        check_blocking(connection)
        return run_blocking(requests.enqueue, self._core, saga, payload, saga_id, deadline, attributes, connection)

    def wait(self, saga_id: str, *, timeout: float | None = None, check: bool = True) -> Outcome:
        """Wait until an execution ends, is stuck or parked; as `run` if it was started elsewhere.

        Retries and sleeps are waited for. Parked is what waits for a signal, or for branches that all rest and wait for
        one or for a person: that may never come, and is not waited for.

        Args:
            saga_id: The execution.
            timeout: Seconds to wait at the most; the execution goes on.
            check: False: return the outcome whatever it is. True: only if it succeeded, else raise as `run` does.

        Raises:
            SagaFailedError: It failed, and is compensated.
            SagaStuckError: It waits for a person.
            SagaWaitingError: It is parked.
            StillRunningError: *timeout* seconds have passed.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        return run_blocking(requests.wait, self._core, saga_id, timeout, check)

    def recover(self) -> list[Outcome]:
        """Claim every unfinished execution without a living driver, drive it on, and wait until all are at rest.

        Those whose branches are taken up are waited for as well.

        Those that no registered saga can drive are left as they are and logged, with the reason.

        Returns:
            The outcome of each one taken up.
        """
        return run_blocking(requests.recover, self._core)

    def daemon(self, *, poll: float = 1.0) -> Daemon:
        """A context manager that claims and drives every execution which needs a driver and has none.

        It recovers what crashed, wakes what is due, and goes on when the journal cannot be used for a while.

        Args:
            poll: The most seconds between two looks at the journal.
        """
        from fsm_mediator.mediator.recovery import Daemon  # loaded when it is used

        run_blocking(self._core.open)
        return Daemon(self._core, poll, [functools.partial(each.pass_on, self) for each in self._relays])

    # Closing

    def close(self, grace: float | None = None) -> None:
        """Take no new work, let attempts under way go on for a while, then release the rest; again is harmless.

        What was started ends if it can within the grace. What waits for longer than that is released at once, and what
        is in the midst of an attempt by then is released once that has ended, or recovered if this process ends first.
        Whoever waits in `run` for something that was released gets a `MediatorClosedError`.

        Args:
            grace: Seconds; by default *close_grace*.
        """
        if grace is not None:
            check_seconds("grace (seconds)", grace)
        run_blocking(close, self._core, self._close_grace if grace is None else grace)
