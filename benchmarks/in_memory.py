"""In memory: a saga of three steps, succeeding, and failing with retries and compensation; beside hand-written loops.

Nothing waits, no step does anything: what is measured is the library. Before anything is timed, each contestant is
checked to have done the work: the steps in order, three attempts at the last, the compensations newest first.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable

from benchmarks.measure import Timing, import_milliseconds, table, timings
from fsm_mediator import AsyncMediator, Execution, Mediator, MemoryJournal, Retry, Saga, SagaFailedError, step
from fsm_mediator.records import Acceptance, Begin

Undoable = tuple[Callable[[object], None], Callable[[object], None] | None]
NO_WAIT = Retry(attempts=3, wait_initial=0.0, wait_jitter=0.0)
calls: list[str] | None = None


def told(what: str) -> None:
    """Take note of a call, while a contestant is being checked."""
    if calls is not None:
        calls.append(what)


class RefusedOnPurposeError(Exception):
    """What the failing step raises."""


def execute_a(payload: object) -> None:
    """The first step."""
    told("a")


def compensate_a(payload: object) -> None:
    """Undoes the first step."""
    told("undo a")


def execute_b(payload: object) -> None:
    """The second step."""
    told("b")


def compensate_b(payload: object) -> None:
    """Undoes the second step."""
    told("undo b")


def execute_c(payload: object) -> None:
    """The third step."""
    told("c")


def refuse_c(payload: object) -> None:
    """The third step, failing."""
    told("c")
    raise RefusedOnPurposeError


def by_hand(last: Callable[[object], None]) -> None:
    """The floor: what one would write without a library, retries and compensation included."""
    done: list[Callable[[object], None]] = []
    try:
        steps: tuple[Undoable, ...] = ((execute_a, compensate_a), (execute_b, compensate_b), (last, None))
        for execute, compensate in steps:
            for attempt in (1, 2, 3):
                try:
                    execute(None)
                    break
                except Exception:
                    if attempt == 3:
                        raise
            if compensate is not None:
                done.append(compensate)
    except Exception:
        for undo in reversed(done):
            undo(None)


async def by_hand_async(last: Callable[[object], None]) -> None:
    """The same as coroutines."""

    async def call(function: Callable[[object], None]) -> None:
        function(None)

    done: list[Callable[[object], None]] = []
    try:
        steps: tuple[Undoable, ...] = ((execute_a, compensate_a), (execute_b, compensate_b), (last, None))
        for execute, compensate in steps:
            for attempt in (1, 2, 3):
                try:
                    await call(execute)
                    break
                except Exception:
                    if attempt == 3:
                        raise
            if compensate is not None:
                done.append(compensate)
    except Exception:
        for undo in reversed(done):
            await call(undo)


def sagas(*, coroutines: bool) -> tuple[Saga, Saga]:
    """The saga that succeeds and the one that fails."""

    def made(name: str, function: Callable[[object], None]) -> Callable[[object], object]:
        if not coroutines:
            return function

        async def as_coroutine(payload: object) -> None:
            function(payload)

        as_coroutine.__name__ = name
        return as_coroutine

    a = step(name="a")(made("a", execute_a))
    a.compensation(made("undo_a", compensate_a))
    b = step(name="b")(made("b", execute_b))
    b.compensation(made("undo_b", compensate_b))
    return (
        Saga("w3", [a, b, step(name="c")(made("c", execute_c))]),
        Saga("w3_failing", [a, b, step(name="c", retry=NO_WAIT)(made("c", refuse_c))]),
    )


SUCCEEDS = ["a", "b", "c"]
FAILS = ["a", "b", "c", "c", "c", "undo b", "undo a"]


def check(name: str, call: Callable[[], object], expected: list[str]) -> None:
    """Refuse to time what does not do the work."""
    global calls  # noqa: PLW0603 - the steps are bare functions, as cheap as they can be
    calls = []
    call()
    if calls != expected:
        raise AssertionError(f"{name} did {calls}, not {expected}")
    calls = None


def run(*, rounds: int) -> str:
    """Check, measure, and tell."""
    good, bad = sagas(coroutines=False)
    fresh: list[Mediator] = []

    def mediator() -> Mediator:
        # A journal in memory keeps everything: a new one for each batch, so that no contestant pays for the past.
        if not fresh or len(fresh[0].journal._rows) > 10_000:  # type: ignore[attr-defined]
            fresh[:] = [Mediator(good, bad, journal=MemoryJournal())]
        return fresh[0]

    def failing() -> None:
        try:
            mediator().run("w3_failing")
        except SagaFailedError:
            pass
        else:
            raise AssertionError("it was to fail")

    by_outcome: dict[str, tuple[dict[str, Callable[[], object]], list[str]]] = {
        "succeeds": (
            {"by hand": lambda: by_hand(execute_c), "fsm_mediator": lambda: mediator().run("w3")},
            SUCCEEDS,
        ),
        "fails: 3 attempts, 2 compensations": (
            {"by hand": lambda: by_hand(refuse_c), "fsm_mediator": failing},
            FAILS,
        ),
    }
    told = []
    for title, (contestants, expected) in by_outcome.items():
        for name, call in contestants.items():
            check(name, call, expected)
        told.append(table(f"3 steps, sync, {title}", timings(contestants, rounds=rounds), "by hand"))
    told.append(asyncio.run(run_async(rounds=rounds)))
    told.append(memory_of_live_executions())
    told.append(
        f"import fsm_mediator: {import_milliseconds('fsm_mediator', rounds=5):.0f} ms over the bare interpreter"
    )
    return "\n\n".join(told)


async def run_async(*, rounds: int) -> str:
    """The same as coroutines, one at a time and 1,000 at a time."""
    import statistics
    import time

    good, bad = sagas(coroutines=True)
    told = []
    for title, name, last, expected in (
        ("succeeds", "w3", execute_c, SUCCEEDS),
        ("fails: 3 attempts, 2 compensations", "w3_failing", refuse_c, FAILS),
    ):
        samples: dict[str, list[float]] = {"by hand": [], "fsm_mediator": [], "fsm_mediator, 1,000 at a time": []}
        for number in range(rounds + 1):
            async with AsyncMediator(good, bad) as mediator:

                async def one(mediator: AsyncMediator = mediator, name: str = name) -> None:
                    await mediator.run(name, check=False)

                async def hand(last: Callable[[object], None] = last) -> None:
                    await by_hand_async(last)

                for who, call, at_once in (
                    ("by hand", hand, 1),
                    ("fsm_mediator", one, 1),
                    ("fsm_mediator, 1,000 at a time", one, 1000),
                ):
                    if number == 0:
                        await checked(who, call, expected)
                    started = time.perf_counter()
                    for _ in range(2000 // at_once):
                        if at_once == 1:
                            await call()
                        else:
                            await asyncio.gather(*(call() for _ in range(at_once)))
                    if number:
                        samples[who].append((time.perf_counter() - started) / 2000 * 1e6)
        measured = {who: Timing(statistics.median(taken), min(taken), max(taken)) for who, taken in samples.items()}
        told.append(table(f"3 steps, async, {title}", measured, "by hand"))
    return "\n\n".join(told)


async def checked(name: str, call: Callable[[], object], expected: list[str]) -> None:
    """As `check`, awaited."""
    global calls  # noqa: PLW0603
    calls = []
    await call()  # type: ignore[misc]
    if calls != expected:
        raise AssertionError(f"{name} did {calls}, not {expected}")
    calls = None


def memory_of_live_executions(number: int = 100_000) -> str:
    """How much memory executions take that have begun and wait for their first step."""
    good, _ = sagas(coroutines=False)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    live = []
    for each in range(number):
        execution = Execution(good, Acceptance(f"{each:032x}", "w3", "1", good.fingerprint, None, 0.0))
        execution.feed(Begin(), 0.0)
        live.append(execution)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return f"{number:,} live executions: {(after - before) / 1e6:.0f} MB, {(after - before) / number:.0f} bytes each"
