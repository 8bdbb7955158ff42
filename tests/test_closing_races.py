"""What `close` meets that is just about to begin, or to end: nobody hangs, and nobody is told a lie."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from fsm_mediator import AsyncMediator, MediatorClosedError, Parallel, Saga, SagaWaitingError, step
from fsm_mediator.states import ENDED
from tests.drivers import World, core_of, eventually, in_thread

PATIENCE = 60


@step
async def nothing(payload: Any) -> None:
    """Does nothing."""


in_a_group = Saga("s", [Parallel("g", [nothing])])


@pytest.mark.parametrize("turns", range(12))
def test_a_run_that_was_opening_when_it_was_closed_does_not_slip_past(turns, tmp_path):
    """Whoever waits for the mediator to open is told that it was closed meanwhile; before, it waited for ever."""

    async def main() -> None:
        mediator = AsyncMediator(in_a_group, journal=str(tmp_path / "sagas.db"))
        task = asyncio.ensure_future(mediator.run("s", saga_id="o-1", check=False))
        other = asyncio.ensure_future(mediator.start("s", saga_id="o-2"))
        for _ in range(turns):
            await asyncio.sleep(0)
        await mediator.close(0)
        for each in (task, other):
            try:
                async with asyncio.timeout(PATIENCE) as patience:
                    await each
            except MediatorClosedError:
                pass
            assert not patience.expired(), "it hangs"

    asyncio.run(main())


@pytest.mark.parametrize("turns", range(6))
def test_as_little_in_memory(turns):
    """Nothing blocks there, so that the mediator is opened a turn later; it is closed as safely."""

    async def main() -> None:
        mediator = AsyncMediator(in_a_group)
        task = asyncio.ensure_future(mediator.run("s", check=False))
        for _ in range(turns):
            await asyncio.sleep(0)
        await mediator.close(0)
        try:
            async with asyncio.timeout(PATIENCE) as patience:
                assert (await task).state in {*ENDED, "waiting.g", "pending"}
        except MediatorClosedError:
            pass
        assert not patience.expired(), "it hangs"

    asyncio.run(main())


def test_whoever_waits_for_a_task_that_close_ends_is_not_cancelled(tmp_path):
    """A CancelledError that nobody has asked for would take a whole TaskGroup with it, silently."""

    async def main() -> list[str]:
        told: list[str] = []

        async def caller(number: int) -> None:
            try:
                await mediator.start("s", saga_id=f"o-{number}")
            except MediatorClosedError:
                told.append("closed")
            else:
                told.append("started")

        mediator = AsyncMediator(in_a_group, journal=str(tmp_path / "sagas.db"))
        await mediator.executions()
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(caller(number))
            await asyncio.sleep(0)
            await mediator.close(0)
        return told

    assert len(asyncio.run(main())) == 20


def test_whoever_is_cancelled_stays_cancelled(tmp_path):
    """That a mediator closes at the same time does not swallow it."""

    async def main() -> None:
        mediator = AsyncMediator(in_a_group, journal=str(tmp_path / "sagas.db"))
        task = asyncio.ensure_future(mediator.start("s", saga_id="o-1"))
        await asyncio.sleep(0)
        task.cancel()
        await mediator.close(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_closing_before_the_first_use_closes_the_file(tmp_path):
    """Also on a loop that nothing of it has been on."""

    async def main() -> None:
        await AsyncMediator(in_a_group, journal=str(tmp_path / "sagas.db")).close()

    asyncio.run(main())


def test_close_does_not_wait_for_what_only_waits_for_closed_branches(drive, journal):
    """A run that comes to a group whose branches nobody begins any more is left then, not when the grace is over."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate()), Parallel("g", [world.step("b"), world.step("c")])])
    mediator = drive(saga, journal=journal)
    result = in_thread(mediator.run, "s", saga_id="o-1", check=False)
    world.begun()
    began = time.monotonic()
    closing = in_thread(mediator.close, 3600.0)
    eventually(lambda: core_of(mediator).closed)
    world.go()
    closing()

    assert time.monotonic() - began < PATIENCE
    assert result().state == "waiting.g"
    again = drive(saga, journal=journal)
    assert again.wait("o-1").succeeded
    assert sorted(world.calls) == ["a", "b", "c"]


def test_work_that_must_end_is_not_cancelled_with_its_caller():
    """The caller is cancelled as it asked, and the work continues. If closing ends it, the caller gets an error."""

    async def main() -> None:
        async with AsyncMediator() as mediator:
            core = core_of(mediator)
            await core.open()
            go, ended = asyncio.Event(), list[str]()

            async def work() -> str:
                await go.wait()
                ended.append("work")
                return "done"

            cancelled = asyncio.create_task(core.runtime.uncancellable(work))
            told = asyncio.create_task(core.runtime.uncancellable(go.wait))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert ended == []
            done = asyncio.create_task(core.runtime.uncancellable(work))
            go.set()
            assert await done == "done"
            assert ended == ["work", "work"]
            assert await told

            async def hangs() -> None:
                await asyncio.Event().wait()

            told = asyncio.create_task(core.runtime.uncancellable(hangs))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(MediatorClosedError):
            await told

    asyncio.run(main())


def test_driver_whose_last_attempt_ends_after_close_leaves_the_journal(drive, journal):
    """A step outlasts the grace. Until it ends, the driver counts as alive; then it is dismissed."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate())])
    mediator = drive(saga, journal=journal)
    result = in_thread(mediator.run, "s", saga_id="o-1")
    world.begun()
    mediator.close(0.0)
    assert saga.fingerprint in journal.known()

    world.go()

    with contextlib.suppress(MediatorClosedError, SagaWaitingError):
        result()
    if drive.is_async:  # its caller does not wait for the thread of the step
        eventually(lambda: not journal.known())
    assert not journal.known()
