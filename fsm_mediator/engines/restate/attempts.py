"""Attempts: the turns that run in a worker's process, and the turns' answers that Restate does not have yet.

When the Restate server restarts, the steps in a worker continue. The server then requests the same turn again, and gets
the answer of the turn that is already running. So no step is repeated.
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
"""The maximum number of turns that are remembered. If the answer of a turn is dropped before Restate has it, the turn
counts as crashed."""

DELIVERY: Final = 5.0
"""The seconds that a stopping worker waits until Restate has the answers of its last turns."""


class Attempts:
    """The turns that run in this process.

    Args:
        most: The maximum number of turns at the same time that may call user functions.
        apart: A duration in seconds. After a turn of at least this duration, a separate `run` of Restate must announce
            which process may begin the next turn, because Restate may have suspended the execution during the turn.

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
        """Announce that this process may begin the next turn: return the id of the process for Restate's log.

        In a stopping worker this call never returns, so that Restate asks another worker.
        """
        if self._closing:
            await asyncio.Event().wait()
        return {"by": self.id}

    def knows(self, invocation: str, number: int) -> bool:
        """Whether the last turn of *invocation* in this process is the turn *number*. The turn may still run."""
        return self._tasks.get(invocation, (0,))[0] == number

    async def once(self, invocation: str, number: int, make: Callable[[], Awaitable[Data]]) -> Data:
        """Run a turn with *make*, unless this process already runs the turn. Return the answer of the turn.

        The answer has the key ``not_begun`` if the worker is stopping and the turn has not begun.
        """
        if not self.knows(invocation, number):
            if self._closing:
                return {"not_begun": True}
            if number < self._tasks.get(invocation, (0,))[0]:
                await asyncio.Event().wait()  # this connection is broken; a newer connection has made a later turn
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
        """Drop the answer of the turn *number*, because Restate has this answer now."""
        if self.knows(invocation, number):
            self._tasks[invocation] = (number, None)
        if self._closing and not self._undelivered():
            self._delivered.set()

    def _undelivered(self) -> list[asyncio.Task[Data]]:
        return [task for _, task in self._tasks.values() if task is not None]

    async def close(self, grace: float) -> None:
        """Stop beginning turns, and wait at most *grace* seconds for running turns.

        Turns that do not end in this time count as crashed.
        """
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
    """Read the exception of a task, so that asyncio does not log that it was never retrieved."""
    if not task.cancelled():
        task.exception()
