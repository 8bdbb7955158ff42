"""AsyncDaemon: the saga daemon as a task on the event loop. What it decides, it decides in `Rounds`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Self

from fsm_mediator.mediator.daemon import BACKOFF, Rounds
from fsm_mediator.mediator.live import Live

logger = logging.getLogger("fsm_mediator")


class AsyncDaemon:
    """The daemon of an `AsyncMediator`: a task, for as long as the ``async with`` block lasts.

    Args:
        find: Does one round's looking, off the event loop where the journal may block.
        take_up: Has one execution taken up.
        closed: Whether the mediator was closed, and takes up no more.
    """

    def __init__(
        self,
        rounds: Rounds,
        find: Callable[[], Awaitable[tuple[list[str], float]]],
        take_up: Callable[[str], Live | None],
        closed: Callable[[], bool],
    ) -> None:
        self._rounds = rounds
        self._find = find
        self._take_up = take_up
        self._closed = closed
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Take nothing up any more; what was taken up goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while not self._closed():
            try:
                found, wait = await self._find()
                for saga_id in found:
                    self._rounds.handed_over(self._take_up(saga_id))
            except Exception:
                wait = BACKOFF.wait_max
                logger.exception("a round of the daemon ended with an error; the next one is in %.0f s", wait)
            await asyncio.sleep(wait)
