"""What a run on asyncio asks of the event loop."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections import Counter
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from fsm_mediator import AsyncMediator, Context, MemoryJournal, Parallel, Retry, Saga, SagaFailedError, step
from fsm_mediator.mediator.eager import eager_task
from fsm_mediator.states import ENDED

EAGER_FACTORY = sys.version_info >= (3, 12)


@step
async def at_once(payload: Any) -> asyncio.Task[Any] | None:
    """Answers without ever waiting: which task it is in."""
    return asyncio.current_task()


@step
async def bounded(payload: Any) -> None:
    """Hangs, within a time of its own."""
    async with asyncio.timeout(0.01):
        await asyncio.Event().wait()


def test_steps_that_never_wait_take_no_turn_of_the_loop():
    """A run goes to its first wait at once; its steps are in a task of their own all the same."""

    async def main() -> tuple[list[str], bool]:
        turns: list[str] = []
        async with AsyncMediator(Saga("s", [at_once])) as mediator:
            await mediator.run("s")
            asyncio.get_running_loop().call_soon(turns.append, "a turn")
            outcome = await mediator.run("s")
            return list(turns), outcome.results["at_once"] is asyncio.current_task()

    assert asyncio.run(main()) == ([], False)


def test_a_time_out_of_the_steps_own_ends_the_step_and_nobody_else():
    """It belongs to the task that the step is in, from its first line to its last."""

    async def main() -> None:
        async with AsyncMediator(Saga("s", [bounded])) as mediator:
            with pytest.raises(SagaFailedError) as failed:
                await asyncio.wait_for(mediator.run("s"), 10)
            assert isinstance(failed.value.__cause__, TimeoutError)

    asyncio.run(main())


place: ContextVar[str] = ContextVar("place", default="outside")


@step
async def sets(payload: Any) -> None:
    """Sets a context variable before its first wait."""
    place.set("in the run")
    await asyncio.sleep(0)


@step
async def reads(payload: Any) -> str:
    """Reads the variable, and waits in between."""
    before = place.get()
    await asyncio.sleep(0)
    return f"{before}, {place.get()}"


def test_a_context_variable_that_a_step_sets_is_seen_by_later_steps_and_not_by_the_caller():
    """A run has one context, from its first line on, although the first part of it runs before the task's turn."""

    async def main() -> tuple[str, str]:
        async with AsyncMediator(Saga("s", [sets, reads])) as mediator:
            outcome = await mediator.run("s")
            return outcome.results["reads"], place.get()

    assert asyncio.run(main()) == ("in the run, in the run", "outside")


class Raced(asyncio.SelectorEventLoop):
    """After each call that is scheduled, another thread schedules one."""

    racing = False

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.scheduled = 0

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        """Schedule *callback*, and the other thread's call."""
        handle = super().call_soon(callback, *args, context=context)
        if self.racing:
            self.scheduled += 1
            super().call_soon(self.calls.append, self.scheduled)
        return handle


def test_a_run_begins_also_if_another_thread_calls_the_loop_at_the_same_moment():
    """Then its task begins at its own turn; neither the run nor the call of the other thread is lost."""

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Raced)
        async with AsyncMediator(Saga("s", [at_once, sets])) as mediator:
            loop.racing = True
            assert (await mediator.run("s")).succeeded
            loop.racing, scheduled = False, loop.scheduled
            await asyncio.sleep(0)
        assert loop.calls == list(range(1, scheduled + 1))
        return loop.calls

    with asyncio.Runner(loop_factory=Raced) as runner:
        assert runner.run(main())


async def answers() -> tuple[asyncio.Task[Any] | None, int]:
    """Waits once; its task, and an answer."""
    task = asyncio.current_task()
    await asyncio.sleep(0)
    return task, 42


@pytest.mark.parametrize("inside", [True, False], ids=["in a task", "in a callback"])
def test_an_eager_task_is_the_current_one_from_its_first_line(inside: bool):
    """It is so wherever it was made, and afterwards the maker is the current task again, if it is one."""
    made: list[asyncio.Task[Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def make() -> None:
            before = asyncio.current_task()
            made.append(eager_task(loop, answers()))
            assert asyncio.current_task() is before

        if inside:
            make()
        else:
            loop.call_soon(make)
            await asyncio.sleep(0)
        assert await made[0] == (made[0], 42)

    asyncio.run(main())


@pytest.mark.parametrize("turns", [0, 1])
def test_a_cancelled_eager_task_ends_at_its_first_wait(turns: int):
    """The cancellation comes to the wait in which it is, also before the loop has had a turn."""
    waited: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            waited.append("cancelled")
            raise

    async def main() -> None:
        task = eager_task(asyncio.get_running_loop(), waits())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert waited == ["cancelled"]


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

    assert asyncio.run(main()) == ["ExecutionDriver.drive_in_memory"]


@pytest.mark.skipif(not EAGER_FACTORY, reason="Python 3.11 has no factory of eager tasks")
def test_a_loop_whose_tasks_are_all_eager():
    """Also what runs in the background may then have ended before the one who started it goes on."""

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        async with AsyncMediator(Saga("s", [at_once])) as mediator:
            assert (await mediator.run("s")).succeeded
            assert (await mediator.wait(await mediator.start("s", saga_id="s-1"))).succeeded

    asyncio.run(main())


class Restless:
    """Participants that wait or not, fail or not, run sagas of their own or not, as chance will have it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.effects: Counter[tuple[str, str]] = Counter()
        self.mediator: AsyncMediator
        inner = Saga("inner", [self.step("i")])
        group = Parallel("g", [self.step("x"), self.step("y")])
        self.sagas = inner, Saga("outer", [self.step("a"), self.step("b", runs=inner), group, self.step("c")])

    async def dawdle(self) -> None:
        """Wait for a turn of the loop, or for longer, or not at all."""
        for _ in range(self.chance.choice([0, 0, 0, 1, 2])):
            await asyncio.sleep(0)
        if self.chance.random() < 0.1:
            await asyncio.sleep(0.001)

    def step(self, name: str, *, runs: Saga | None = None) -> Any:
        """A step whose effect is counted, and taken back."""

        async def execute(payload: Any, context: Context) -> None:
            await self.dawdle()
            if self.chance.random() < 0.15:
                raise ValueError(name)
            if runs is not None and self.chance.random() < 0.2:
                await self.mediator.run(runs, payload)
            self.effects[context.saga_id, name] += 1

        async def compensate(payload: Any, context: Context) -> None:
            await self.dawdle()
            self.effects[context.saga_id, name] = 0

        made = step(name=name, retry=Retry(wait_initial=0.0, wait_jitter=0.001))(execute)
        made.compensation(compensate)
        return made

    async def call(self, number: int) -> None:
        """Run a saga, and stay to see its end, or go away at some moment or other."""
        work = self.mediator.run(self.chance.choice(self.sagas), 1, saga_id=f"s-{number}", check=False)
        if self.chance.random() < 0.4:
            await work
        elif self.chance.random() < 0.5:
            with pytest.raises(asyncio.CancelledError):
                await _gone(work, self.chance.randrange(4))
        else:
            await asyncio.wait({asyncio.ensure_future(work)}, timeout=self.chance.choice([0, 0.0005, 0.002]))


async def _gone(work: Coroutine[Any, Any, Any], turns: int) -> None:
    """Begin to await, and be cancelled after some turns of the loop; CancelledError even if it was over before."""
    task = asyncio.create_task(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await task
    raise asyncio.CancelledError


@pytest.mark.parametrize("seed", range(4))
def test_callers_that_go_away_leave_nothing_half_done(seed, journal):
    """Whenever a caller is cancelled or loses patience: each saga comes to its end, with all of its effects or none."""

    async def main() -> None:
        world = Restless(seed)
        async with AsyncMediator(*world.sagas, journal=journal) as world.mediator:
            await asyncio.gather(*map(world.call, range(60)))
            async with asyncio.timeout(30):
                while any(entry.state not in ENDED for entry in journal.entries()):
                    await world.mediator.recover()
                    await asyncio.sleep(0.005)
        for entry in journal.entries():
            effects = {count for (saga_id, _), count in world.effects.items() if saga_id == entry.saga_id}
            assert effects <= ({1} if entry.state == "succeeded" else {0}), (entry.saga_id, entry.state)

    asyncio.run(main())


def test_runs_that_wait_for_nothing_leave_others_their_turn():
    """A time-out around any number of them comes, though no step ever gives the loop a turn."""

    async def main() -> int:
        count = 0
        async with AsyncMediator(Saga("s", [at_once]), journal=MemoryJournal(keep=10)) as mediator:
            try:
                async with asyncio.timeout(0.05):
                    while count < 200_000:
                        await mediator.run("s")
                        count += 1
            except TimeoutError:
                pass
        return count

    assert 0 < asyncio.run(main()) < 200_000


def test_mediator_on_its_second_loop_renews_its_lease_again(tmp_path):
    """The heartbeat ends with the first loop. The first use on the second loop begins another one."""
    mediator = AsyncMediator(Saga("s", [sets]), journal=tmp_path / "sagas.db")

    def heartbeats() -> set[threading.Thread]:
        return {each for each in threading.enumerate() if each.name == "fsm-mediator-heartbeat"}

    async def run() -> set[threading.Thread]:
        await mediator.run("s", check=False)
        return heartbeats()

    async def run_and_close() -> set[threading.Thread]:
        async with mediator:
            return await run()

    others = heartbeats()
    first = asyncio.run(run()) - others
    second = asyncio.run(run_and_close()) - others - first

    assert (len(first), len(second)) == (1, 1)
    for each in first | second:
        each.join(60)
        assert not each.is_alive()
