"""What a failed run leaves behind: what the journal keeps and what its caller holds, and no circle around either."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable
from typing import Any

import pytest

from fsm_mediator import AsyncMediator, Mediator, MemoryJournal, Retry, Saga, SQLiteJournal, step

TWICE = Retry(attempts=2, wait_initial=0.0, wait_jitter=0.0)
SOON = Retry(attempts=2, wait_initial=0.001, wait_jitter=0.0)
RUNS = 20


def sagas(retry: Retry, *, coroutines: bool, timeout: float | None) -> Saga:
    """A step that fails, after one that is compensated."""

    @step
    def first(payload: Any) -> None:
        pass

    @first.compensation
    def undo(payload: Any) -> None:
        pass

    def fails(payload: Any) -> None:
        raise ValueError("no")

    async def fails_async(payload: Any) -> None:
        raise ValueError("no")

    function: Any = fails_async if coroutines else fails
    return Saga("s", [first, step(name="second", retry=retry, timeout=timeout)(function)])


JOURNALS: dict[str, Callable[[Any], Any]] = {
    "memory": lambda _: MemoryJournal(keep=1),
    "encoded": lambda _: MemoryJournal(encode=True, keep=1),
    "sqlite": lambda path: SQLiteJournal(path / "sagas.db", durability="normal"),
}


def garbage(run: Callable[[], Any]) -> float:
    """How many objects only the garbage collector could free, for each of many runs."""
    for _ in range(3):
        run()
    gc.collect()
    gc.freeze()  # what there is already need not be walked again
    gc.disable()
    try:
        for _ in range(RUNS):
            run()
        return gc.collect() / RUNS
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("retry", "timeout"), [(TWICE, None), (SOON, None), (TWICE, 10.0)], ids=["at once", "later", "in time"]
)
@pytest.mark.parametrize("hooked", [False, True])
def test_nothing_is_left_to_the_garbage_collector(tmp_path, journal, check, retry, timeout, hooked):
    """An error keeps the frames that it came through; were the run kept by those, each failure would be a circle."""
    kept = JOURNALS[journal](tmp_path)
    around = [contextlib.nullcontext] if hooked else []
    with Mediator(sagas(retry, coroutines=False, timeout=timeout), journal=kept, around=around) as mediator:

        def run() -> None:
            try:
                mediator.run("s", check=check)
            except Exception:
                return

        assert garbage(run) < 1
    kept.close()


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("retry", [TWICE, SOON], ids=["at once", "later"])
@pytest.mark.parametrize("hooked", [False, True])
def test_nor_on_an_event_loop(tmp_path, journal, retry, hooked):
    """The same with coroutine functions."""
    kept = JOURNALS[journal](tmp_path)

    async def main() -> float:
        around = [contextlib.nullcontext] if hooked else []
        saga = sagas(retry, coroutines=True, timeout=None)
        async with AsyncMediator(saga, journal=kept, around=around) as mediator:

            async def run() -> None:
                await mediator.run("s", check=False)

            for _ in range(3):
                await run()
            gc.collect()
            gc.freeze()
            gc.disable()
            try:
                for _ in range(RUNS):
                    await run()
                return gc.collect() / RUNS
            finally:
                gc.enable()
                gc.unfreeze()

    assert asyncio.run(main()) < 1
    kept.close()
