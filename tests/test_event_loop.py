"""What a run on asyncio asks of the event loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import pytest

from fsm_mediator import AsyncMediator, Saga, SagaFailedError, step

EAGER = sys.version_info >= (3, 12)


@step
async def at_once(payload: Any) -> asyncio.Task[Any] | None:
    """Answers without ever waiting: which task it is in."""
    return asyncio.current_task()


@step
async def bounded(payload: Any) -> None:
    """Hangs, within a time of its own."""
    async with asyncio.timeout(0.01):
        await asyncio.Event().wait()


def test_steps_that_never_wait_take_no_turn_of_the_loop_where_python_can():
    """From Python 3.12 on, a run goes to its first wait at once; its steps are in a task of their own all the same."""

    async def main() -> tuple[list[str], bool]:
        turns: list[str] = []
        async with AsyncMediator(Saga("s", [at_once])) as mediator:
            await mediator.run("s")
            asyncio.get_running_loop().call_soon(turns.append, "a turn")
            outcome = await mediator.run("s")
            return list(turns), outcome.results["at_once"] is asyncio.current_task()

    assert asyncio.run(main()) == ([] if EAGER else ["a turn"], False)


def test_a_time_out_of_the_steps_own_ends_the_step_and_nobody_else():
    """It belongs to the task that the step is in, from its first line to its last."""

    async def main() -> None:
        async with AsyncMediator(Saga("s", [bounded])) as mediator:
            with pytest.raises(SagaFailedError) as failed:
                await asyncio.wait_for(mediator.run("s"), 10)
            assert isinstance(failed.value.__cause__, TimeoutError)

    asyncio.run(main())


def test_tasks_are_made_as_the_loop_is_told_to():
    """Whoever has given his loop a way to make tasks, for tracing say, sees those that drive sagas."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        made: list[str] = []

        def factory(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **settings: Any) -> Any:
            made.append(work.cr_code.co_qualname)  # type: ignore[attr-defined]
            return asyncio.Task(work, loop=loop, **settings)

        async with AsyncMediator(Saga("s", [at_once])) as mediator:
            loop.set_task_factory(factory)  # type: ignore[arg-type]  # its type is of one version of Python only
            assert (await mediator.run("s")).succeeded
            loop.set_task_factory(None)
        return made

    assert asyncio.run(main()) == ["AsyncMediator._drive_in_memory"]


@pytest.mark.skipif(not EAGER, reason="Python 3.11 has no eager tasks")
def test_a_loop_whose_tasks_are_all_eager():
    """Also what runs in the background may then have ended before the one who started it goes on."""

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        async with AsyncMediator(Saga("s", [at_once])) as mediator:
            assert (await mediator.run("s")).succeeded
            assert (await mediator.wait(await mediator.start("s", saga_id="s-1"))).succeeded

    asyncio.run(main())
