"""Virtual time: both mediators, driven without one real second passing, behind one face."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from fsm_mediator import AsyncMediator, Mediator, Outcome, Saga
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.mediator.pool import ThreadCall
from fsm_mediator.testing.virtual_loop import VirtualLoop
from tests.drivers import MORTAL

HANGS = 60.0
"""Real seconds after which something is taken to hang; nothing is ever measured by it."""


class SyncDriver:
    """`Mediator`. Its clock moves when it sleeps, and when an attempt lets it wait: `dawdle` says so."""

    coroutines = False

    def __init__(self, saga: Saga, journal: Journal) -> None:
        self._now = 0.0
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._release = threading.Event()
        self._attempt: ThreadCall | None = None
        self.mediator = Mediator(
            saga, journal=journal, clock=self.now, sleep=self._sleep, chance=lambda: 0.5, close_grace=0.0, **MORTAL
        )
        self._patched = mock.patch.object(ThreadCall, "wait", self._waiting())
        self._patched.start()

    def now(self) -> float:
        return self._now

    def _sleep(self, seconds: float) -> None:
        assert seconds > 0, "a wait of nothing must not sleep"
        self._now += seconds

    def cancel(self, saga_id: str) -> None:
        self.mediator.cancel(saga_id)

    def dawdle(self, waits: int = 1) -> None:
        """Called in an attempt: let so many waits for its answer pass in vain.

        A wait in real time would be right only on a machine that is quick enough. So the attempt says that it is slow,
        and whoever waits for it moves the clock on instead.
        """
        for _ in range(waits):
            self._news.put("slow")

    def outlast(self, waits: int = 1) -> None:
        """Called in an attempt: give no answer in time, and stay until `let_go`."""
        self.dawdle(waits)
        assert self._release.wait(HANGS)

    def let_go(self) -> None:
        """Let the attempts that were left behind end."""
        self._attempt = None
        self._release.set()

    def _waiting(self) -> Callable[..., bool]:
        waits = ThreadCall.wait

        def wait(attempt: ThreadCall, seconds: float | None = None) -> bool:
            if seconds is None:
                return waits(attempt)
            if attempt is not self._attempt:
                self._attempt = attempt
                attempt.add_done_callback(lambda done: self._news.put("answered") if done is self._attempt else None)
            if self._news.get(timeout=HANGS) == "slow":
                self._now += seconds
                return False
            return waits(attempt, HANGS)

        return wait

    def run(self, saga: Saga, payload: Any, **settings: Any) -> Outcome:
        return self.mediator.run(saga, payload, check=False, **settings)

    def say(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """One of the mediator's verbs."""
        return getattr(self.mediator, verb)(*args, **kwargs)

    def close(self) -> None:
        self.let_go()
        self._patched.stop()
        self.mediator.close()


class AsyncDriver:
    """`AsyncMediator`, on an event loop whose waits and time-outs take no time."""

    coroutines = True

    def __init__(self, saga: Saga, journal: Journal) -> None:
        self.loop = VirtualLoop()
        self.thread = threading.get_ident()
        self.mediator = AsyncMediator(
            saga, journal=journal, clock=self.loop.time, chance=lambda: 0.5, close_grace=0.0, **MORTAL
        )

    def now(self) -> float:
        return self.loop.time()

    def cancel(self, saga_id: str) -> Any:
        cancelling = self.mediator.cancel(saga_id)
        if threading.get_ident() == self.thread:
            return cancelling
        return asyncio.run_coroutine_threadsafe(cancelling, self.loop).result(HANGS)

    def run(self, saga: Saga, payload: Any, **settings: Any) -> Outcome:
        return self.loop.run_until_complete(self.mediator.run(saga, payload, check=False, **settings))

    def outlast(self) -> Any:
        """Awaited in an attempt: give no answer in time."""
        return asyncio.sleep(HANGS * 60)

    def say(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """One of the mediator's verbs, awaited."""
        return self.loop.run_until_complete(getattr(self.mediator, verb)(*args, **kwargs))

    def close(self) -> None:
        self.loop.run_until_complete(self.mediator.close())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


Driver = SyncDriver | AsyncDriver


@contextlib.contextmanager
def driven(kind: type[SyncDriver | AsyncDriver], saga: Saga, journal: Journal) -> Iterator[Driver]:
    """A driver of this saga, closed at the end."""
    driver = kind(saga, journal)
    try:
        yield driver
    finally:
        driver.close()
