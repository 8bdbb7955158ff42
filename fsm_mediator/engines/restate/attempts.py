"""Attempts: the turns that run in a worker's process, and the answers that Restate does not have yet.

When the Restate server restarts, the steps of a living worker continue. The server requests the same turn again. It
gets the answer of the turn that is already running, and no step is repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

from fsm_mediator.engines.replay import Data

REMEMBERED: Final = 10_000
"""The most answers that are kept until Restate has them. A turn whose answer is forgotten counts as crashed."""

DELIVERY: Final = 5.0
"""Seconds for which a worker that stops waits until Restate has the answers of its last turns."""


class Attempts:
    """The turns that run in this process.

    Args:
        most: The maximum number of turns at the same time that may call user functions.
        apart: The duration of a turn, in seconds, from which the next turn needs a separate announcement, because
            Restate may have suspended the execution meanwhile.

    Attributes:
        id: The id of this process in Restate's log. It changes if undelivered answers were dropped.
    """

    def __init__(self, most: int, apart: float) -> None:
        self.id: str = uuid.uuid4().hex
        self._slots = asyncio.Semaphore(most)
        self._apart = apart
        self._tasks: dict[str, tuple[int, asyncio.Task[Data] | None]] = {}
        self._closing = False
        self._delivered = asyncio.Event()

    async def announce(self) -> Data:
        """Announce a turn. A worker that stops does not announce a turn, so that Restate asks another worker."""
        if self._closing:
            await asyncio.Event().wait()
        return {"by": self.id}

    def knows(self, invocation: str, number: int) -> bool:
        """Whether this process makes or has made this turn."""
        return self._tasks.get(invocation, (0,))[0] == number

    async def once(self, invocation: str, number: int, make: Callable[[], Awaitable[Data]]) -> Data:
        """Make a turn once, and return its answer. The answer has ``not_begun`` if the worker stops before the turn."""
        if not self.knows(invocation, number):
            if self._closing:
                return {"not_begun": True}
            if number < self._tasks.get(invocation, (0,))[0]:
                await asyncio.Event().wait()  # the connection broke; a newer connection is ahead
            self._make_room()
            task = asyncio.create_task(self._make(make))
            task.add_done_callback(_look)
            self._tasks.pop(invocation, None)
            self._tasks[invocation] = (number, task)
        known = self._tasks[invocation][1]
        if known is None:
            await asyncio.Event().wait()  # Restate already has the answer
        assert known is not None
        return await asyncio.shield(known)

    def _make_room(self) -> None:
        if len(self._tasks) >= REMEMBERED:
            delivered = [each for each, (_, task) in self._tasks.items() if task is None]
            for each in delivered[: REMEMBERED // 2]:
                del self._tasks[each]
        if len(self._tasks) >= REMEMBERED:
            self._tasks = {each: (n, task) for each, (n, task) in self._tasks.items() if task and not task.done()}
            self.id = uuid.uuid4().hex

    async def _make(self, make: Callable[[], Awaitable[Data]]) -> Data:
        async with self._slots:
            began = time.monotonic()
            done = await make()
            apart = self._closing or time.monotonic() - began >= self._apart
            return {**done, "by": self.id, "apart": apart}

    def forget(self, invocation: str, number: int) -> None:
        """Drop the answer of a turn, because Restate now has it."""
        if self.knows(invocation, number):
            self._tasks[invocation] = (number, None)
        if self._closing and not self._undelivered():
            self._delivered.set()

    def _undelivered(self) -> list[asyncio.Task[Data]]:
        return [task for _, task in self._tasks.values() if task is not None]

    async def close(self, grace: float) -> None:
        """Begin no more turns, and wait *grace* seconds for running turns. Turns that do not end count as crashed."""
        self._closing = True
        if going_on := [task for task in self._undelivered() if not task.done()]:
            _, left = await asyncio.wait(going_on, timeout=grace)
            for task in left:
                task.cancel()
        if self._undelivered():
            self._delivered.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._delivered.wait(), DELIVERY)


def _look(task: asyncio.Task[Data]) -> None:
    """Retrieve the error of a task, so that asyncio never warns about an error that was not retrieved."""
    if not task.cancelled():
        task.exception()
