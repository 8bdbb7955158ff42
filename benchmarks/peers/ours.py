"""fsm_mediator: `Mediator` in memory and on SQLite, and `AsyncMediator` if many sagas run at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, cast

from benchmarks.peers.contestant import Ready, Work, serve
from fsm_mediator import (
    AsyncMediator,
    Journal,
    Mediator,
    MemoryJournal,
    Retry,
    Saga,
    SagaFailedError,
    SQLiteJournal,
    step,
)

NO_WAIT = Retry(attempts=3, wait_initial=0.0, wait_jitter=0.0)


def saga_of(work: Work, *, coroutine: bool = False) -> Saga:
    """A saga in which every step except the last can be compensated."""
    parts = []
    for name in work.names:
        one = step(name=name, retry=NO_WAIT)(work.executing(name, arguments=1, coroutine=coroutine))
        if name != work.names[-1]:
            one.compensation(work.compensating(name, arguments=1, coroutine=coroutine))
        parts.append(one)
    return Saga("work", parts)


def journal_of(work: Work) -> Journal:
    """A journal in memory, or on disk if the work has a durability."""
    if work.durability is None:
        return MemoryJournal()
    kind = "async" if work.at_once else "sync"
    path = Path(work.folder) / f"ours-{kind}-{work.durability}.db"
    return SQLiteJournal(path, durability=cast("Literal['full', 'normal']", work.durability))


def prepare(work: Work) -> Ready:
    """One saga and one mediator. A journal in memory keeps all runs, so each batch gets a new journal."""
    if work.at_once:
        return prepare_async(work)
    saga = saga_of(work)
    mediator = Mediator(saga, journal=journal_of(work))

    def succeed() -> None:
        mediator.run("work")

    def fail() -> None:
        try:
            mediator.run("work")
        except SagaFailedError:
            return
        raise AssertionError("it was to fail")

    return Ready(fail if work.fails else succeed, mediator.close)


def prepare_async(work: Work) -> Ready:
    """Run many sagas at the same time, on asyncio."""
    mediator = AsyncMediator(saga_of(work, coroutine=True), journal=journal_of(work))

    async def one() -> None:
        outcome = await mediator.run("work", check=False)
        assert outcome.succeeded is not work.fails

    async def many() -> None:
        await asyncio.gather(*(one() for _ in range(work.at_once)))

    # Closing is awaited where the loop runs.
    return Ready(many, cast("Callable[[], object]", mediator.close))


async def live(count: int) -> Sequence[object]:
    """Sagas on asyncio that wait in their first step, each in the task that runs it."""
    never = asyncio.get_running_loop().create_future()
    begun = 0

    async def waits(payload: object) -> None:
        nonlocal begun
        begun += 1
        await never

    mediator = AsyncMediator(Saga("waits", [step(name=f"s{number}")(waits) for number in range(1, 4)]))
    tasks = [asyncio.create_task(run(mediator)) for _ in range(count)]
    while begun < count:  # noqa: ASYNC110 - turns of the loop, not time
        await asyncio.sleep(0)
    return tasks


async def run(mediator: AsyncMediator) -> None:
    """One saga."""
    await mediator.run("waits")


if __name__ == "__main__":
    serve(prepare, "fsm-mediator", "transitions", "msgspec", "attrs", live=live)
