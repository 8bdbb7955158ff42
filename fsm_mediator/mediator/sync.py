"""Mediator: drives sagas of plain functions, in the caller's thread or in threads of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from fsm_mediator.definition.saga import Saga
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.mediator import requests
from fsm_mediator.mediator.closing import close
from fsm_mediator.mediator.commands import post_cancel, post_signal
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.limits import Limits
from fsm_mediator.mediator.runtime import Runtime
from fsm_mediator.mediator.threads import ThreadRuntime, run_blocking
from fsm_mediator.mediator.validation import (
    check_id_argument,
    check_listing,
    check_not_coroutine,
    check_seconds,
    check_settings,
)
from fsm_mediator.mediator.verbs import ANSWER_TIMEOUT, new_verb
from fsm_mediator.observe.observers import Observer
from fsm_mediator.records import RESOLVE, RETRY, UNDO, InboxItem

if TYPE_CHECKING:
    from fsm_mediator.diagram import Diagram
    from fsm_mediator.mediator.recovery import Daemon


class Mediator:
    """Drives executions of sagas with plain functions as steps.

    It opens on first use, and anew after a fork; any number of threads may use it at once. Closing it (or leaving its
    ``with`` block) takes no new work, waits for what is under way up to *close_grace* seconds, and releases the rest
    for whoever recovers it.

    Args:
        *sagas: The sagas it can drive. Of several versions of one name, the last is the one that is started by name.
        journal: Where records are kept: a path or URL of a SQLite file, a `Journal`, or None for memory. One that is
            handed over ready is not closed by `close`.
        observers: Called with each `Record` after its commit.
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
        check_settings(**settings, observers=observers, clock=clock, sleep=sleep, chance=chance)
        check_not_coroutine(sleep)
        self._close_grace = close_grace
        self._core = ExecutionDriver(
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
        return {name: getattr(core, name) for name in ("limits", "observers", "park_after", "max_recoveries")}

    # Running

    def run(
        self,
        saga: Saga | str,
        payload: Any = None,
        *,
        saga_id: str | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
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
        return run_blocking(requests.run, self._core, saga, payload, saga_id, timeout, deadline, check)

    def start(
        self, saga: Saga | str, payload: Any = None, *, saga_id: str | None = None, deadline: float | None = None
    ) -> str:
        """Accept a saga durably, drive it in the background, and return its id at once.

        Args:
            saga: The saga or its name.
            payload: What every step is given.
            saga_id: Names the execution; if not given, a UUID that begins with the time (version 7), in hexadecimal.
            deadline: Seconds from now within which it must have succeeded, else it compensates.

        Raises:
            PayloadError: The payload is refused; nothing was started.
            SagaIdTakenError: The id belongs to another saga, was given another payload, or is forgotten.
        """
        return run_blocking(requests.start, self._core, saga, payload, saga_id, deadline)

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
        return Daemon(self._core, poll)

    # Reading, and an operator's commands

    def outcome(self, saga_id: str) -> Outcome:
        """Where an execution stands, as far as it is journaled.

        Args:
            saga_id: The execution.

        Raises:
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_id_argument(saga_id)
        return run_blocking(requests.outcome, self._core, saga_id)

    def diagram(self, saga_id: str, view: str = "detail") -> Diagram:
        """The picture of the machine with an execution's way through it, as far as it is journaled.

        Of a saga with groups or choices also the branches' machines, each with its own execution's way.

        Args:
            saga_id: The execution.
            view: ``detail`` (every state) or ``steps`` (a box a step, for readers).

        Raises:
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_id_argument(saga_id)
        return run_blocking(requests.diagram, self._core, saga_id, view)

    def executions(self, *, state: str | None = None, saga: str | None = None, limit: int | None = None) -> list[Entry]:
        """The executions in the journal, newest first.

        Args:
            state: Only those in this state or phase: ``stuck.charge``, ``stuck``; or ``undrivable``: those that no
                living driver can drive.
            saga: Only those of the saga of this name.
            limit: At most so many.
        """
        check_listing(state, saga, limit)
        return run_blocking(requests.executions, self._core, state, saga, limit)

    def cancel(self, saga_id: str, reason: str | None = None) -> None:
        """Have an execution end its attempts and compensate, wherever it is driven.

        An attempt under way is waited for; should it complete the pivot or the last part, that counts.

        Args:
            saga_id: The execution.
            reason: Why; journaled.

        Raises:
            RefusedError: It has ended, is compensating already, is stuck, or is past its pivot.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_id_argument(saga_id, reason)
        run_blocking(requests.post, self._core, post_cancel, saga_id, reason)

    def retry(self, saga_id: str, reason: str | None = None, *, timeout: float = ANSWER_TIMEOUT) -> Outcome:
        """Try the part that an execution is stuck in again, and drive it on; attempts count anew.

        Args:
            saga_id: The execution.
            reason: What was mended; journaled.
            timeout: Seconds to wait for another driver, if one owns the execution or alone knows its definition.

        Returns:
            Where it stands then, succeeded or not.

        Raises:
            RefusedError: It is not stuck, or the thread of an abandoned attempt still runs.
            StillRunningError: The other driver has not answered in time. What was said stays in the inbox.
        """
        check_id_argument(saga_id, reason)
        return run_blocking(requests.command, self._core, saga_id, self._verb(RETRY, reason), timeout)

    def signal(self, saga_id: str, name: str, value: Any = None) -> None:
        """Say to an execution what it waits for, or will: it goes on with *value* as the signal's result.

        The first value counts. The same again is harmless, and what comes before it is waited for is kept.

        Args:
            saga_id: The execution.
            name: The signal; in a nested saga ``inner.signal``, in a branch ``group.branch.signal``.
            value: Of the signal's `payload` type.

        Raises:
            RefusedError: There is no such signal, it is not awaited any more, or came with another value.
            PayloadError: The value is of another type, or cannot be journaled.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_id_argument(saga_id)
        run_blocking(requests.post, self._core, post_signal, saga_id, name, value)

    def resolve(
        self,
        saga_id: str,
        *,
        reason: str,
        done: bool | None = None,
        result: Any = None,
        timeout: float = ANSWER_TIMEOUT,
    ) -> Outcome:
        """Settle by hand the part that an execution is stuck in, and drive it on.

        Args:
            saga_id: The execution.
            reason: How you made sure; journaled.
            done: True: the step has its effect, *result* is its result. False: it has none. May be left out where only
                one of the two is possible.
            result: What the step would have returned.
            timeout: Seconds to wait for another driver, if one owns the execution or alone knows its definition.

        Raises:
            RefusedError: It is not stuck, the thread of an abandoned attempt still runs, or *done* does not fit.
            StillRunningError: The other driver has not answered in time. What was said stays in the inbox.
        """
        check_id_argument(saga_id)
        verb = self._verb(RESOLVE, reason, {"done": done, "result": result})
        return run_blocking(requests.command, self._core, saga_id, verb, timeout)

    def undo(self, saga_id: str, reason: str | None = None, *, timeout: float = ANSWER_TIMEOUT) -> Outcome:
        """Compensate an execution that has succeeded, newest first; it ends ``failed`` with a `SagaUndoneError`.

        Args:
            saga_id: The execution.
            reason: Why; journaled.
            timeout: Seconds to wait for another driver, if one owns the execution or alone knows its definition.

        Raises:
            RefusedError: It has not succeeded, has a pivot, has nothing to compensate, or is a branch.
            StillRunningError: The other driver has not answered in time. What was said stays in the inbox.
        """
        check_id_argument(saga_id, reason)
        return run_blocking(requests.command, self._core, saga_id, self._verb(UNDO, reason), timeout)

    def _verb(self, kind: str, reason: str | None, value: Any = None) -> InboxItem:
        return new_verb(kind, reason, value, at=self._core.clock())

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
