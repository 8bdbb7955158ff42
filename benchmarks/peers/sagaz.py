"""sagaz: steps with their compensations and dependencies, run on asyncio.

The saga is built once and run many times, which saves the time for building; its documentation builds a saga for each
run. In this version ``max_retries`` of a step does not apply to its action, so the attempts are made by hand.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from sagaz import Saga

from benchmarks.peers.contestant import ATTEMPTS, Participant, Ready, RefusedError, Work, serve

logging.disable(logging.CRITICAL)


def retrying_async(function: Participant) -> Callable[[object], Awaitable[None]]:
    """*function* with three attempts."""

    async def attempted(context: object) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await function(context)
            except RefusedError:
                if attempt == ATTEMPTS:
                    raise
            else:
                return

    return attempted


def built(work: Work) -> Saga:
    """The steps one after another: each step depends on the step before it."""
    saga = Saga(name="work")
    before: str | None = None
    for name in work.names:
        saga.add_step(
            name,
            retrying_async(work.executing(name, arguments=1, coroutine=True)),
            work.compensating(name, arguments=1, coroutine=True),
            depends_on=[before] if before else None,
        )
        before = name
    return saga


def prepare(work: Work) -> Ready:
    """One saga object, run many times."""
    saga = built(work)

    async def succeed() -> None:
        await saga.run({})

    async def fail() -> None:
        try:
            await saga.run({})
        except RefusedError:
            return
        raise AssertionError("it was to fail")

    return Ready(fail if work.fails else succeed)


async def live(count: int) -> Sequence[object]:
    """Sagas that wait in their first step. Each of them needs its own saga object."""
    never = asyncio.get_running_loop().create_future()

    async def waits(context: object) -> None:
        await never

    def one() -> Saga:
        return Saga(name="work").add_step("s1", waits).add_step("s2", waits, depends_on=["s1"])

    tasks = [asyncio.create_task(one().run({})) for _ in range(count)]
    for _ in range(10):
        await asyncio.sleep(0)
    return tasks


if __name__ == "__main__":
    serve(prepare, "sagaz", live=live)
