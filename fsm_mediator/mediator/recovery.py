"""Recovery: the daemon, which claims every execution that needs a driver and has none, whatever fails.

It finds executions whose driver is gone, parked ones that are due, and those with new items in their inbox. A round
hands what it finds to the mediator. An execution that no registered saga can drive is left until one can, and logged
once. Any other that could not be driven is tried again, after growing waits: see ``setbacks``.

Source: the saga daemon of Garcia-Molina & Salem, "Sagas", 1987, section 7.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Final, Self

from fsm_mediator.errors import JournalError
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.core import Core
from fsm_mediator.mediator.runtime import Event
from fsm_mediator.mediator.threads import run_blocking
from fsm_mediator.retry import Retry, check_number

logger = logging.getLogger("fsm_mediator")

BACKOFF: Final = Retry(attempts=None, wait_initial=0.5, wait_max=30.0, wait_jitter=0.5)
"""How long the daemon waits after a round that the journal could not serve."""

BATCH: Final = 256
"""How many executions a round hands over at the most, so that a backlog does not fill the memory."""


class RecoveryPoll:
    """Decides in each round which executions to claim, and how long to wait then.

    Args:
        core: The mediator's.
        poll: The most seconds between two looks.
    """

    def __init__(self, core: Core, poll: float) -> None:
        check_number("poll (seconds)", poll, above=True)
        self._core = core
        self._poll = poll
        self._failures = 0
        self._handed: list[ActiveExecution] = []
        self._skip: set[str] = set()

    def find(self) -> tuple[list[str], float]:
        """The executions to claim now, and the seconds to wait after that. An error of the journal is logged."""
        try:
            self._forget_claimed()
            core = self._core
            room = BATCH - len(self._handed)
            if room <= 0:
                return [], min(self._poll, 0.05)
            now = core.clock()
            known = len(self._handed) + len(core.setbacks)
            claimable = core.journal.claimable(now, room + known, tuple(self._skip))
            found = [id_ for id_ in claimable if not core.setbacks.is_waiting(id_) and id_ not in core.owned.active]
            found = found[:room]
            if found:
                wait = 0.0 if len(found) == room else 0.01
            else:
                wake = core.journal.next_wake()
                # What is due and was not found cannot be driven here, or is: it is not looked for all the time.
                wait = self._poll if wake is None or wake <= now else min(self._poll, max(0.001, wake - now))
        except JournalError as error:
            self._failures += 1
            wait = BACKOFF.wait(self._failures, 0.5)
            logger.warning("the daemon cannot use the journal, and looks again in %.1f s: %s", wait, error)
            return [], wait
        self._failures = 0
        return found, wait

    def track(self, active: ActiveExecution | None) -> None:
        """Watch an execution that was handed over; None: it was driven already."""
        if active is not None:
            self._handed.append(active)

    def _forget_claimed(self) -> None:
        """Forget the claimed executions, and remember the fingerprints that nothing here can drive, until it can."""
        waiting = []
        for active in self._handed:
            if active.epoch == 0 and not active.finished:
                waiting.append(active)
            elif (fingerprint := self._core.store.missing_definition(active)) is not None:
                self._skip.add(fingerprint)
        self._handed = waiting
        self._skip = {each for each in self._skip if not self._core.registry.knows(each)}


async def recover_until(core: Core, poll: RecoveryPoll, stopped: Event) -> None:
    """Claim executions, round by round, until *stopped* is set or the mediator is closed."""
    while not stopped.is_set() and not core.closed:
        try:
            await core.open()
            found, wait = await core.runtime.in_thread(poll.find)
            for saga_id in found:
                poll.track(core.resume(saga_id))
        except Exception:
            wait = BACKOFF.wait_max
            logger.exception("a round of the daemon ended with an error; the next one is in %.0f s", wait)
        await core.runtime.wait(stopped, wait)


class Daemon:
    """The daemon of a `Mediator`: a thread, for as long as the ``with`` block lasts.

    Args:
        core: The mediator's.
        poll: The most seconds between two looks at the journal.
    """

    def __init__(self, core: Core, poll: float) -> None:
        self._core = core
        self._poll = RecoveryPoll(core, poll)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._stopped.clear()
        arguments = (recover_until, self._core, self._poll, self._stopped)
        self._thread = threading.Thread(target=run_blocking, args=arguments, name="fsm-mediator-daemon", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Claim nothing any more; claimed executions go on."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()


class AsyncDaemon:
    """The daemon of an `AsyncMediator`: a task, for as long as the ``async with`` block lasts.

    Args:
        core: The mediator's.
        poll: The most seconds between two looks at the journal.
    """

    def __init__(self, core: Core, poll: float) -> None:
        self._core = core
        self._poll = RecoveryPoll(core, poll)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        work = recover_until(self._core, self._poll, asyncio.Event())
        self._task = asyncio.get_running_loop().create_task(work)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Claim nothing any more; claimed executions go on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
