"""Core: owns executions, passes them to drivers, waits for them, and releases them. Both mediators share this code."""

from __future__ import annotations

import functools
import logging
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fsm_mediator import forking
from fsm_mediator.definition.saga import Saga
from fsm_mediator.error_types import is_interrupt
from fsm_mediator.errors import JournalError, LeaseLostError, MediatorClosedError, MediatorError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.factory import open_journal
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.optional import inbox_after, owned_by, patience_of
from fsm_mediator.journal.protocol import Commit, Driver, Entry, IdTakenError, InboxChangedError, Journal, Written
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.commits import CommitBuilder
from fsm_mediator.mediator.limits import Limits
from fsm_mediator.mediator.membership import Membership
from fsm_mediator.mediator.notifications import checked_observers
from fsm_mediator.mediator.ownership import OwnedExecutions, notify_local_owner
from fsm_mediator.mediator.registry import SagaRegistry
from fsm_mediator.mediator.runtime import Event, Runtime, StepCall
from fsm_mediator.mediator.setbacks import Setbacks
from fsm_mediator.mediator.store import ExecutionStore
from fsm_mediator.mediator.timers import WakeTimers
from fsm_mediator.retry import check_wait

if TYPE_CHECKING:
    from fsm_mediator.observe.observers import Observer

RECLAIM_AFTER: Final = 1.0
"""Seconds after which a mediator claims an execution again if its driver in the background had to leave it."""

WOKEN_AGAIN: Final = 0.05
"""Seconds after which a timer tries again to wake an execution that a caller had only reserved."""

logger: logging.Logger = logging.getLogger("fsm_mediator")


class Core:
    """The common core of `Mediator` and `AsyncMediator`.

    Args:
        sagas: The sagas that the mediator can drive.
        journal: A path or URL of a SQLite file, a `Journal`, or None for memory.
        make_runtime: Makes the runtime, from the journal and the clock.
        wrap_runtime: Wraps the runtime, for tests.
        coroutines: Whether steps may be coroutine functions.
        observers: Functions that are called with each record after its commit.
        park_after: Seconds. An execution in the background that waits longer than this has no owner meanwhile.
        limits: The maximum number of attempts at a time, by the step's name or path. None for no limits.
        max_recoveries: The number of drivers that may die while they drive an execution that makes no progress.
        clock: Returns the time, in seconds since the epoch.
        chance: Draws a number from 0 to 1, for the jitter of waits.

    Attributes:
        setbacks: Counts the failures to drive each execution in the background.
        owned: The executions that this driver owns.
        closed: Whether the mediator accepts no new work.
        direct: Whether executions may take fast paths, which ask for no slots, call no hooks and send no notices.
        membership: The registration of the driver in the journal.
        patience: When `close` stops waiting for executions, in seconds since the epoch.
    """

    owned_type: type[OwnedExecutions] = OwnedExecutions
    around: tuple[Any, ...] = ()

    def __init__(
        self,
        sagas: Iterable[Saga],
        journal: Journal | str | os.PathLike[str] | None,
        make_runtime: Callable[[Journal, Callable[[], float]], Runtime],
        wrap_runtime: Callable[[Any], Runtime] | None,
        *,
        coroutines: bool,
        observers: Iterable[Observer],
        park_after: float,
        limits: Limits | Mapping[str, int] | None,
        max_recoveries: int,
        clock: Callable[[], float] | None,
        chance: Callable[[], float] | None,
    ) -> None:
        self.owns_journal: bool = journal is None or isinstance(journal, (str, os.PathLike))
        check_wait("park_after", park_after)
        self.journal: Journal = open_journal(journal)
        self.clock: Callable[[], float] = clock or time.time
        self.chance: Callable[[], float] = chance or random.random
        self.limits: Limits | None = limits if limits is None or isinstance(limits, Limits) else Limits(limits)
        self.park_after = park_after
        self.max_recoveries = max_recoveries
        self.observers: tuple[Observer, ...] = checked_observers(observers)
        runtime = make_runtime(self.journal, self.clock)
        self.runtime: Runtime = runtime if wrap_runtime is None else wrap_runtime(runtime)
        encodes = self.journal.encodes
        self.registry: SagaRegistry = SagaRegistry(
            sagas, codec=self.journal.codec if encodes else None, coroutines=coroutines
        )
        self.store: ExecutionStore = ExecutionStore(self.registry, self.journal, self.clock)
        self.commits: CommitBuilder = CommitBuilder(
            self.journal,
            self.clock,
            self.chance,
            park_after=park_after,
            sleeps=self.runtime.sleeps,
            limited=self.limits is not None,
            max_recoveries=max_recoveries,
        )
        self.direct: bool = self.limits is None and self.runtime.direct
        plain = self.direct and type(self.journal) is MemoryJournal and not encodes
        self.memory: Any = self.journal if plain else None
        self.closed = False
        self._reset()
        forking.register(self)

    def _reset(self) -> None:
        self.patience: float | None = None
        self.lock: threading.Lock = threading.Lock()
        self.driver: Driver = this_driver()
        if self.limits is not None:
            self.driver = msgspec.structs.replace(self.driver, limits=self.limits.most)
        self.commits.driver = self.driver
        self.membership: Membership = Membership(self.journal, self.driver, self.registry.definitions)
        self.registry.on_change = self.membership.note_change
        self.owned: OwnedExecutions = self.owned_type(self.store, self.driver.id, self.limits)
        self.owned.notify, self.commits.holds = functools.partial(_notify, weakref.ref(self)), self.owned.holds
        self.setbacks: Setbacks = Setbacks(self.runtime.monotonic)
        self.wake_timers: WakeTimers = WakeTimers(self.runtime.at, self.clock, self.wake)

    def reset(self) -> None:
        """Become another driver. Called in a forked child, because the former driver still exists in the parent."""
        self.runtime.reset()
        self._reset()

    # Opening

    async def open(self) -> None:
        """Enlist the driver in the journal, unless it is enlisted.

        Raises:
            MediatorClosedError: The mediator is closed.
        """
        self.bind()
        if not self.membership.opened:
            await self.runtime.in_thread(self.membership.enlist, weakref.WeakMethod(self.heartbeat))
            await self.runtime.in_thread(self.owned.refresh_holds)
            self._check_open()  # the mediator may have been closed meanwhile

    def bind(self) -> None:
        """Bind the mediator to the caller's event loop, if there is one. The driver is not enlisted.

        Raises:
            MediatorClosedError: The mediator is closed.
        """
        self._check_open()
        if self.runtime.bind():
            self.rebind()

    def _check_open(self) -> None:
        if self.closed:
            raise MediatorClosedError("this mediator is closed; make another one")

    def rebind(self) -> None:
        """Release the executions of tasks on the former event loop: the loop is closed, and the tasks are dead."""
        for active in list(self.owned.active.values()):
            active.wait.done = active.wait.wake = None  # no caller waits on the closed loop
            self.keep_running_call(active)
            self.owned.release_and_finish(active)
        self.membership.suspend()
        self.wake_timers.rearm()

    def heartbeat(self) -> bool:
        """Renew the lease, and notify this driver's executions about items that other processes posted.

        Returns:
            Whether executions wait for slots that other processes may free. Then the next heartbeat must come soon.
        """
        if self.runtime.is_lost():
            return False  # nothing runs any more: other drivers may claim the executions
        try:
            for saga_id in self.membership.renew_lease():
                self.runtime.post(self._notify_if_active, saga_id)
                if saga_id in self.owned.abandoned and saga_id not in self.owned.active:
                    self.owned.refuse_verbs(saga_id)
            self.owned.catch_up()
            self.settle_claims()
        except JournalError as error:
            logger.warning("the lease could not be renewed: %s", error)
        except Exception:  # a user's journal may raise any error, and the heartbeat must not end
            logger.exception("the lease could not be renewed")
        return bool(self.owned.waiting)

    def _notify_if_active(self, saga_id: str) -> None:
        if saga_id in self.owned.active:
            self.notify(saga_id)

    def drive_owned(self, active: ActiveExecution) -> Coroutine[Any, Any, Outcome | None]:
        """Drive an owned execution in the background. `ExecutionDriver.drive_owned` implements this method."""
        raise NotImplementedError

    async def write(self, commit: Commit) -> Written:
        """Write *commit* durably. If the journal fails, the same commit is repeated."""
        attempt, began = 1, self.runtime.monotonic()
        while True:
            try:
                return await self.runtime.write(commit)
            except (LeaseLostError, IdTakenError, InboxChangedError):
                raise
            except JournalError as error:
                if not self.runtime.journal_retry.allows(attempt) and not self._is_patient(began):
                    raise
                logger.warning("execution %r: %s; trying again", commit.saga_id, error)
            await self.runtime.sleep(self.runtime.journal_retry.wait(attempt, self.chance()))
            attempt += 1

    def _is_patient(self, began: float) -> bool:
        """Whether to repeat a failed commit. *began* is the monotonic time of the first attempt to write the commit."""
        patience = patience_of(self.journal)
        left = self.closed and self.clock() >= (self.patience or 0.0)
        return not left and (patience is None or self.runtime.monotonic() - began < patience)

    def keep_running_call(self, active: ActiveExecution) -> None:
        """Keep owning an execution with an unanswered call while the call's thread runs."""
        call: StepCall | None = active.call
        if call is not None and call.running is not None and not call.may_be_overtaken and not call.running.revoke():
            self.owned.keep_for_abandoned_call(active, call.running, call.effect)

    # Waiting

    async def read_inbox(self, active: ActiveExecution) -> None:
        """Read the new items in the inbox of an execution, and pass them to the execution."""
        active.called = False  # set first: items that come during the read are read again
        active.receive(await self.runtime.in_thread(inbox_after, self.journal, active.saga_id, active.inbox.seen))

    def wake_event(self, active: ActiveExecution) -> Event:
        """The event that is set when the driver of *active* must read the inbox, or must stop."""
        with self.lock:
            if active.wait.wake is None:
                active.wait.wake = self.runtime.event()
            wake: Event = active.wait.wake
            return wake

    def done_event(self, active: ActiveExecution) -> Event:
        """The event that is set when this mediator has stopped driving *active*."""
        with self.lock:
            if active.wait.done is None:
                active.wait.done = self.runtime.event()
        done: Event = active.wait.done
        if active.finished:  # driving may have stopped before the event existed
            done.set()
        return done

    async def is_finished(self, active: ActiveExecution, seconds: float | None) -> bool:
        """Wait until this mediator no longer drives *active*. Returns False if *seconds* have passed first."""
        return await self.runtime.wait(self.done_event(active), seconds)

    async def wait_until_released(self, saga_id: str) -> bool:
        """Wait until this mediator does not drive an execution. Returns False at once if that can take long."""
        other = self.owned.active.get(saga_id)
        if other is None:
            return True
        if not other.is_finishing or other.driver == self.runtime.current():
            return False
        return await self.is_finished(other, None)

    # Ownership

    def try_reserve(self, active: ActiveExecution) -> bool:
        """Reserve an execution for the caller, which may then claim it.

        Returns False if this mediator drives it already.
        """
        if self.owned.active.setdefault(active.saga_id, active) is not active:
            return False
        if self.closed:
            self.owned.finish(active)
            return False
        return True

    def give_up_driving(self, active: ActiveExecution, until: float | None) -> object:
        """Stop driving *active*. The next driver takes the returned token, and drives or releases *active*."""
        active.driver = None
        token = object()
        with self.lock:
            active.wait.until, active.wait.token = until, token
        return token

    def try_take(self, active: ActiveExecution, token: object = None) -> bool:
        """Take over *active*. Returns False if something drives it, or has driven it since *token* was made."""
        wait = active.wait
        with self.lock:
            if wait.token is None or (token is not None and wait.token is not token):
                return False
            wait.token = wait.until = None
            active.driver = threading.get_ident()
            timer, wait.timer = wait.timer, None
        if timer is not None:
            timer.cancel()
        return True

    def submit(self, active: ActiveExecution) -> None:
        """Drive *active* in the background."""
        token = self.give_up_driving(active, None)
        drive = functools.partial(self._drive_in_background, active, token)
        self.runtime.submit(drive, active.context, functools.partial(self._never_driven, active, token))

    def _never_driven(self, active: ActiveExecution, token: object) -> None:
        if self.try_take(active, token):
            self.owned.release_and_finish(active)  # the mediator is closed, or the event loop ends

    def release_if_unstarted(self, active: ActiveExecution, error: BaseException) -> None:
        """Release *active* after an interrupt while it was handed to a driver, if the driver has not begun."""
        if self.try_take(active) or active.driver is None:
            self.owned.release_and_finish(active, error)

    def continue_driving(self, active: ActiveExecution, token: object = None) -> None:
        """Resume an execution that waits in the background, unless it was already resumed."""
        if self.try_take(active, token):
            self.submit(active)

    def resume(self, saga_id: str, elapsed: float = -math.inf) -> ActiveExecution | None:
        """Claim and drive an execution in the background. None if it is driven here already, or the mediator is closed.

        *elapsed* is a time that counts as passed, even if the clock does not show it yet.
        """
        active = ActiveExecution(saga_id, background=True)
        active.elapsed = elapsed
        try:
            if not self.try_reserve(active):
                return None
            self.submit(active)
        except BaseException as error:
            self.release_if_unstarted(active, error)
            raise
        return active

    def wake(self, saga_id: str, elapsed: float = -math.inf) -> None:
        """Resume an execution whose timer ended. Set the timer again if a caller only reserved the execution."""
        active = self.owned.active.get(saga_id)
        if self.resume(saga_id, elapsed) is None and not self.closed and (active is None or not active.epoch):
            self.wake_timers.add(self.clock() + WOKEN_AGAIN, saga_id, elapsed)

    def settle_claims(self) -> None:
        """Drive the executions that this driver claimed in the journal without getting the answer of the claim."""
        owned = self.owned
        if owned.claims_in_doubt:
            held = owned_by(self.journal, self.driver.id)
            owned.claims_in_doubt = False
            for saga_id in held:
                if saga_id not in owned.active and saga_id not in owned.abandoned:
                    self.runtime.post(self.resume, saga_id)

    async def _drive_in_background(self, active: ActiveExecution, token: object) -> None:
        if not self.try_take(active, token):
            return
        active.driver = self.runtime.current()
        try:
            if active.epoch or await self.runtime.in_thread(self.owned.claim, active):
                await self.drive_owned(active)
            else:
                self.owned.finish(active)
            self.setbacks.forget(active.saga_id)
        except MediatorError as error:
            again = self.setbacks.log(active.saga_id, error)
            self.owned.release_and_finish(active, error)  # last, so that a waiting caller finds the log written
            if again is not None:
                self._claim_again(active, again)
        except BaseException as error:
            cancelled = isinstance(error, self.runtime.cancelled)
            departs = cancelled or is_interrupt(error)
            again = RECLAIM_AFTER if departs else self.setbacks.note(active.saga_id)
            if not cancelled:
                logger.exception("execution %r is left in its current state", active.saga_id)
            self.owned.release_and_finish(active, error)
            if departs or isinstance(error, Exception):
                self._claim_again(active, again)
            if departs:
                raise

    def _claim_again(self, active: ActiveExecution, seconds: float) -> None:
        """Set a timer that claims *active* again after *seconds*, because its driver had to leave it."""
        if not self.closed:
            self.wake_timers.add(self.clock() + seconds, active.saga_id)

    # Notifying

    def notify(self, saga_id: str) -> None:
        """Handle an item that came to an execution's inbox: wake the driver, or claim the execution."""
        while True:
            active = self.owned.active.get(saga_id)
            if active is None:
                self.resume(saga_id)
                return
            active.called = True
            with self.lock:
                wake, waits = active.wait.wake, active.wait.until is not None
            if wake is not None:
                wake.set()
            if waits:
                self.continue_driving(active)
            if not active.finished:
                return

    async def notify_owner(self, entry: Entry) -> None:
        """Handle an item that was posted to an execution: wake its owner in this process, or claim the execution."""
        if entry.saga_id in self.owned.active or entry.driver is None or not entry.driver_alive:
            self.notify(entry.saga_id)
        else:
            await self.runtime.in_thread(notify_local_owner, entry.driver.id, entry.saga_id)

    def notify_others(self, commit: Commit) -> None:
        """Drive the executions that *commit* created, and notify the executions to which it posted an item."""
        for child in commit.children:
            self.resume(child.saga_id)
        for saga_id, _ in commit.posts:
            self.notify(saga_id)


def _notify(core: weakref.ref[Core], saga_id: str) -> None:
    """Notify the execution *saga_id*, if the mediator still exists. Any thread may call this."""
    found = core()
    if found is not None:
        found.runtime.post(found.notify, saga_id)
