"""The floors of the measurements in memory: an execution without a mediator, and tasks that only wait.

`benchmarks.floors` runs these measurements and prints the results.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable

from benchmarks.in_memory import bytes_of_an_execution, nothing, refuse, sagas
from benchmarks.measure import Figures, on_every_core, table, timings
from benchmarks.peers.bare_loop import by_hand, by_hand_async
from fsm_mediator import AsyncMediator, Execution, Mediator, Saga, step
from fsm_mediator.records import Acceptance, Raised

AT_ONCE = 1_000
"""Runs at a time on asyncio."""


def succeeding(rounds: int, figures: Figures) -> str:
    """A saga that succeeds, in a process that is not pinned to a core."""
    good, _ = sagas(coroutines=False)
    with on_every_core(), Mediator(good) as mediator:
        measured = timings(
            {
                "a loop": lambda: by_hand(((nothing, nothing),) * 3),
                "an execution, without a mediator": lambda: executed(good, "succeeded"),
                "fsm_mediator": lambda: mediator.run("w3"),
            },
            rounds=rounds,
        )
    loop, floor, ours = (each.median for each in measured.values())
    figures["success, not pinned: an execution"], figures["success, not pinned"] = floor / loop, ours / loop
    return table("3 steps in memory that succeed, not pinned to a core (microseconds)", measured, "a loop")


def failing(rounds: int, figures: Figures) -> str:
    """A saga whose third step fails at each of three attempts, and is compensated."""
    _, bad = sagas(coroutines=False)

    kept: list[Execution] = []
    mediator = Mediator(bad)
    measured = timings(
        {
            "a loop": lambda: by_hand(((nothing, nothing), (nothing, nothing), (refuse, nothing))),
            "an execution, without a mediator": lambda: executed(bad),
            "the same, kept": lambda: kept.append(executed(bad)),
            "fsm_mediator, which keeps it": lambda: mediator.run("w3_failing", check=False),
        },
        rounds=rounds,
    )
    mediator.close()
    loop, _, floor, ours = (each.median for each in measured.values())
    figures["failure: an execution that is kept"], figures["failure"] = floor / loop, ours / loop
    return table("3 steps in memory, the last fails (microseconds)", measured, "a loop")


def executed(saga: Saga, ends: str = "failed") -> Execution:
    """Run a saga on its machine, with its callbacks and records: no mediator, no journal, no observers, no id."""
    execution = Execution(saga, Acceptance("", saga.name, saga.version, saga.fingerprint, None, 0.0))
    execution.begin(time.time())
    while (effect := execution.effect) is not None:
        if effect.callback is None:
            execution.advance(time.time())
            continue
        try:
            value = effect.callback.function(None)
        except Exception as error:
            execution.feed(Raised(error), time.time())
        else:
            execution.succeed(value, time.time())
    if execution.state != ends:
        raise AssertionError(f"not what was to be measured: {execution.state}")
    return execution


# On asyncio


def at_once(rounds: int, figures: Figures) -> str:
    """A thousand runs at a time on asyncio, compared with runs one after the other in a thread."""
    plain, _ = sagas(coroutines=False)
    good, _ = sagas(coroutines=True)
    mediator = Mediator(plain)

    async def does_nothing() -> None:
        pass

    async def three() -> None:
        for _ in range(3):
            await does_nothing()

    async def task_of_its_own() -> None:
        await asyncio.shield(asyncio.ensure_future(three()))

    async def ours() -> float:
        async with AsyncMediator(good) as awaiting:

            async def run() -> None:
                await awaiting.run("w3")

            return await each_of(run)

    contestants: dict[str, Callable[[], float]] = {
        "one after the other in a thread: fsm_mediator": lambda: in_turn(mediator),
        "at once: three calls of a coroutine, no saga": lambda: asyncio.run(each_of(three)),
        "at once: the same in a task of its own": lambda: asyncio.run(each_of(task_of_its_own)),
        "at once: fsm_mediator": lambda: asyncio.run(ours()),
    }
    taken = [[call() for call in contestants.values()] for _ in range(rounds)]
    mediator.close()
    medians = {
        name: statistics.median(samples) for name, samples in zip(contestants, zip(*taken, strict=True), strict=True)
    }
    base, _, floor, ours_at_once = medians.values()
    figures["1,000 at a time: tasks"], figures["1,000 at a time"] = floor / base, ours_at_once / base
    lines = [f"3 steps in memory, {AT_ONCE:,} at a time (microseconds a saga)"]
    lines += [f"  {name:48}{median:8.2f}{median / base:8.2f}x" for name, median in medians.items()]
    return "\n".join(lines)


def in_turn(mediator: Mediator) -> float:
    """Run `AT_ONCE` sagas, one after the other. Returns the microseconds for each."""
    started = time.perf_counter()
    for _ in range(AT_ONCE):
        mediator.run("w3")
    return (time.perf_counter() - started) / AT_ONCE * 1e6


async def each_of(call: Callable[[], Awaitable[object]]) -> float:
    """Await `AT_ONCE` calls at the same time. Returns the microseconds for each."""
    started = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(AT_ONCE)))
    return (time.perf_counter() - started) / AT_ONCE * 1e6


def waiting() -> str:
    """The memory of one of many runs that wait in a step on asyncio."""
    waits_for: list[asyncio.Future[None]] = []

    async def waits(payload: object = None) -> None:
        await waits_for[0]

    async def loop() -> None:
        await by_hand_async(((waits, waits),))

    async def in_a_task_of_its_own() -> None:
        await asyncio.shield(asyncio.ensure_future(loop()))

    async def size_of(run: Callable[[], Awaitable[object]]) -> int:
        waits_for[:] = [asyncio.get_running_loop().create_future()]
        tracemalloc.start()
        try:
            tasks = [asyncio.ensure_future(run()) for _ in range(AT_ONCE)]
            await asyncio.sleep(0.2)
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        waits_for[0].set_result(None)
        await asyncio.gather(*tasks)
        return size // AT_ONCE

    async def ours() -> int:
        async with AsyncMediator(Saga("waits", [step(name="a")(waits)])) as mediator:
            await mediator.start("waits", saga_id="the first")
            return await size_of(lambda: mediator.run("waits"))

    sizes = {
        "a loop, in a task": asyncio.run(size_of(loop)),
        "a task that waits for the loop's, as run does": asyncio.run(size_of(in_a_task_of_its_own)),
        "fsm_mediator": asyncio.run(ours()),
        "of these, the execution alone": bytes_of_an_execution(AT_ONCE),
    }
    base = next(iter(sizes.values()))
    lines = [f"what a run holds that waits on asyncio (bytes, each of {AT_ONCE:,})"]
    lines += [f"  {name:54}{size:8,}{size / base:8.2f}x" for name, size in sizes.items()]
    return "\n".join(lines)
