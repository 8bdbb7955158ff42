"""Recovery: the daemon, which claims executions that need a driver and have none. It survives all failures.

First the daemon claims executions of dead drivers, parked executions that are due, and executions with new items in
their inbox. Then it claims pending executions. Each round claims as many executions as there are free workers, in one
transaction. Therefore no execution waits here for a worker while another process has a free worker. If no registered
saga can drive an execution, the daemon logs this once, and leaves the execution. If an execution could not be driven
for another reason, the daemon tries it again after growing waits: see ``setbacks``.

Source: the saga daemon of Garcia-Molina & Salem, "Sagas", 1987, section 7.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, Self, TypeAlias

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.optional import claim_some
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.claiming import take_up
from fsm_mediator.mediator.core import Core
from fsm_mediator.mediator.runtime import Event
from fsm_mediator.mediator.threads import run_blocking
from fsm_mediator.retry import Retry, check_wait

logger: logging.Logger = logging.getLogger("fsm_mediator")

BACKOFF: Final = Retry(attempts=None, wait_initial=0.5, wait_max=30.0, wait_jitter=0.5)
"""The wait of the daemon after a round that failed because of the journal."""

SOON: Final = 0.01
"""Seconds until the next round, after a round that claimed something."""


class RecoveryPoll:
    """Claims executions for the free workers, and decides how long to wait before the next round.

    Args:
        core: The core of the mediator.
        poll: The maximum number of seconds between two rounds.
    """

    def __init__(self, core: Core, poll: float) -> None:
        check_wait("poll", poll, above=True)
        self._core = core
        self._poll = poll
        self._failures = 0
        self._taken_up: list[ActiveExecution] = []
        self._skip: set[str] = set()
        self._driven_here: set[str] = set()

    def claim(self, free: int) -> tuple[float, bool]:
        """Claim and drive executions for *free* workers. An error of the journal is logged.

        Returns:
            The maximum number of seconds until the next round, and whether the next round begins earlier if a worker
            becomes free.
        """
        core = self._core
        if free <= 0:
            return self._poll, True
        try:
            self._learn()
            core.settle_claims()
            now = core.clock()
            leave = (*core.setbacks.waiting(), *self._driven_here)
            claimed = claim_some(core.journal, core.driver.id, now, free, tuple(self._skip), leave)
            self._failures = 0
            for entry, active in zip(claimed, take_up(core, claimed), strict=True):
                if active is None:
                    self._driven_here.add(entry.saga_id)
                else:
                    self._taken_up.append(active)
            if claimed:
                full = len(claimed) == free and not self._driven_here
                return self._poll if full else SOON, full
            wake = core.journal.next_wake()
        except JournalError as error:
            core.owned.claims_in_doubt = True
            self._failures += 1
            wait = BACKOFF.wait(self._failures, 0.5)
            logger.warning("the daemon cannot use the journal, and tries again in %.1f s: %s", wait, error)
            return wait, False
        # A due execution that was not claimed is already driven here, or cannot be driven. So it does not shorten the
        # wait.
        return self._poll if wake is None or wake <= now else min(self._poll, max(0.001, wake - now)), False

    def _learn(self) -> None:
        """Update the fingerprints that this daemon skips, and the ids of executions that are driven here already."""
        waiting = []
        for active in self._taken_up:
            if active.epoch == 0 and not active.finished:
                waiting.append(active)
            elif (fingerprint := self._core.store.missing_definition(active)) is not None:
                self._skip.add(fingerprint)
        self._taken_up = waiting
        self._skip = {each for each in self._skip if not self._core.registry.knows(each)}
        self._driven_here = {each for each in self._driven_here if each in self._core.owned.active}


async def recover_until(core: Core, poll: RecoveryPoll, stopped: Event) -> None:
    """Claim executions, round by round, until *stopped* is set or the mediator is closed."""
    while not stopped.is_set() and not core.closed:
        try:
            await core.open()
            core.runtime.freed.clear()  # first: a worker that becomes free from now on ends the wait
            wait, full = await core.runtime.in_thread(poll.claim, core.runtime.free_workers())
        except Exception:
            wait, full = BACKOFF.wait_max, False
            logger.exception("a round of the daemon ended with an error; the next one is in %.0f s", wait)
        await core.runtime.wait(core.runtime.freed if full else stopped, wait)


class Relay(Protocol):
    """A source of work, such as an outbox. The daemon of a mediator calls `pass_on` repeatedly."""

    async def pass_on(self, mediator: Any) -> int:
        """Pass all waiting work to *mediator*. Returns the number of items that were passed on."""


PassOn: TypeAlias = Callable[[], Coroutine[Any, Any, int]]


async def relay_until(core: Core, pass_on: PassOn, poll: float, stopped: Event) -> None:
    """Call *pass_on*, the method of a relay, repeatedly until *stopped* is set or the mediator is closed."""
    failures = 0
    while not stopped.is_set() and not core.closed:
        try:
            await pass_on()
            failures, wait = 0, poll
        except Exception:
            failures += 1
            wait = BACKOFF.wait(failures, 0.5)
            logger.exception("a relay could not pass on its rows, and tries again in %.1f s", wait)
        await core.runtime.wait(stopped, wait)


class Daemon:
    """The daemon of a `Mediator`: a thread that runs during the ``with`` block.

    Args:
        core: The core of the mediator.
        poll: The maximum number of seconds between two queries to the journal.
        relays: Further functions that are called repeatedly, such as the relay of an outbox.
    """

    def __init__(self, core: Core, poll: float, relays: Sequence[PassOn]) -> None:
        self._core = core
        self._seconds = poll
        self._relays = relays
        self._poll = RecoveryPoll(core, poll)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._stopped.clear()
        self._run("fsm-mediator-daemon", recover_until, self._core, self._poll, self._stopped)
        for relay in self._relays:
            self._run("fsm-mediator-relay", relay_until, self._core, relay, self._seconds, self._stopped)
        return self

    def _run(self, name: str, *arguments: Any) -> None:
        thread = threading.Thread(target=run_blocking, args=arguments, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop claiming executions. Claimed executions continue."""
        self._stopped.set()
        self._core.runtime.freed.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._threads.clear()


class AsyncDaemon:
    """The daemon of an `AsyncMediator`: a task that runs during the ``async with`` block.

    Args:
        core: The core of the mediator.
        poll: The maximum number of seconds between two queries to the journal.
        relays: Further functions that are called repeatedly, such as the relay of an outbox.
    """

    def __init__(self, core: Core, poll: float, relays: Sequence[PassOn]) -> None:
        self._core = core
        self._seconds = poll
        self._relays = relays
        self._poll = RecoveryPoll(core, poll)
        self._stopped = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._stopped.clear()
        loop = asyncio.get_running_loop()
        work = [recover_until(self._core, self._poll, self._stopped)]
        work += [relay_until(self._core, relay, self._seconds, self._stopped) for relay in self._relays]
        self._tasks = [loop.create_task(each) for each in work]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop claiming executions. Claimed executions continue."""
        self._stopped.set()
        if self._tasks:
            if self._core.runtime.is_bound():
                self._core.runtime.freed.set()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks = []
