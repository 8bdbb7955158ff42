"""Many at once: threads, tasks, sagas within sagas, cancels that race with the end; and what is left afterwards."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter

import pytest

from fsm_mediator import AsyncMediator, Mediator, MemoryJournal, RefusedError, Retry, Saga, SagaFailedError, step
from tests.drivers import QUICK, World, in_thread, threads_ended


@pytest.fixture(params=[False, True], ids=["objects", "encoded"])
def memory(request):
    """A journal in memory."""
    return MemoryJournal(encode=request.param)


def every_third_fails(world):
    """Two steps; the second fails for every third payload."""

    def maybe(payload, context):
        if payload % 3 == 0:
            raise ValueError(payload)
        return payload

    return Saga("s", [world.step("a"), world.step("b", maybe)], payload=int)


def check_ledger(world, payloads):
    """Every effect once, or undone."""
    failing = sum(1 for payload in payloads if payload % 3 == 0)
    assert Counter(world.calls) == {"a": len(payloads), "b": len(payloads) + 2 * failing, "undo a": failing}


def test_thirty_two_threads_run_fifty_sagas_each(memory):
    """One mediator serves many threads: each run has its own results or error, and nothing is mixed up."""
    world = World()
    mediator = Mediator(every_third_fails(world), journal=memory)

    def many(first):
        for payload in range(first, first + 50):
            if payload % 3 == 0:
                with pytest.raises(SagaFailedError) as caught:
                    mediator.run("s", payload)
                assert str(caught.value.__cause__) == str(payload)
            else:
                assert mediator.run("s", payload).results["b"] == payload

    for result in [in_thread(many, 50 * number) for number in range(32)]:
        result()

    check_ledger(world, range(1600))
    assert Counter(entry.state for entry in mediator.executions()) == {"succeeded": 1066, "failed": 534}


def test_a_thousand_tasks_at_once(memory):
    """One loop runs a thousand sagas of coroutines at once, all of them waiting for one another."""
    together: list[int] = []
    calls: Counter[str] = Counter()

    async def main():
        everybody = asyncio.Event()

        @step(retry=QUICK)
        async def a(payload, context):
            calls["a"] += 1
            together.append(payload)
            if len(together) == 1000:
                everybody.set()
            await everybody.wait()
            return payload

        @step(retry=QUICK)
        async def b(payload):
            calls["b"] += 1
            if payload % 3 == 0:
                raise ValueError(payload)

        @a.compensation
        async def undo(payload, context):
            assert context.result == payload
            calls["undo"] += 1

        async with AsyncMediator(Saga("s", [a, b], payload=int), journal=memory) as mediator:
            return await asyncio.gather(*[mediator.run("s", number, check=False) for number in range(1000)])

    outcomes = asyncio.run(main())
    assert [outcome.failed for outcome in outcomes] == [number % 3 == 0 for number in range(1000)]
    assert calls == {"a": 1000, "b": 1000 + 2 * 334, "undo": 334}


def test_many_started_at_once_on_every_journal(drive, journal):
    """Started from many threads, with retries in the background, all come to their end."""
    world = World()
    retry = Retry(wait_initial=0.001, wait_jitter=0.001)

    def fails_once(payload, context):
        if context.attempt == 1:
            raise OSError(payload)
        return payload

    mediator = drive(Saga("s", [world.step("a", fails_once, retry=retry)], payload=int), journal=journal)

    def many(first):
        ids = [mediator.start("s", number) for number in range(first, first + 10)]
        return [mediator.wait(saga_id).results["a"] for saga_id in ids]

    results = [in_thread(many, 10 * number) for number in range(8)]
    assert [value for result in results for value in result()] == list(range(80))
    assert len(world.calls) == 160


@pytest.mark.parametrize("max_workers", [1, 8])
@pytest.mark.parametrize("background", [False, True], ids=["run", "start and wait"])
def test_a_step_may_run_another_saga_on_its_own_mediator(journal, max_workers, background):
    """Three deep, with one worker: whoever waits for the inner saga does not keep it from being driven."""
    world = World()
    mediator = Mediator(journal=journal, max_workers=max_workers)

    def inner(depth):
        def run(payload, context):
            name, saga_id = f"level-{depth + 1}", f"{context.saga_id}.{depth + 1}"
            if not background:
                return mediator.run(name, saga_id=saga_id).state
            mediator.start(name, saga_id=saga_id)
            return mediator.wait(saga_id).state

        return run

    for depth in range(3):
        does = inner(depth) if depth < 2 else "deep"
        mediator.register(Saga(f"level-{depth}", [world.step(f"a{depth}", does, timeout=25.0 if depth == 1 else None)]))
    ids = [mediator.start("level-0") for _ in range(4)]

    waits = [in_thread(mediator.wait, saga_id) for saga_id in ids]
    assert {result().state for result in waits} == {"succeeded"}
    assert Counter(world.calls) == {"a0": 4, "a1": 4, "a2": 4}
    mediator.close()


def test_a_coroutine_step_may_run_another_saga_on_its_own_mediator(journal):
    """With one worker for plain functions, too."""
    world = World()

    @step
    async def outer(payload, context):
        return (await mediator.run("inner", saga_id=f"{context.saga_id}.inner")).results["plain"]

    mediator = AsyncMediator(
        Saga("outer", [outer]), Saga("inner", [world.step("plain")]), journal=journal, max_workers=1
    )

    async def main():
        async with mediator:
            return await asyncio.gather(*[mediator.run("outer") for _ in range(10)])

    assert {outcome.results["outer"] for outcome in asyncio.run(main())} == {"plain done"}


def test_a_cancel_that_races_with_the_end_wins_or_loses_whole(drive, journal):
    """Whichever comes first: cancelled and compensated, or succeeded and done; or the cancel is refused."""
    world = World()
    mediator = drive(Saga("s", [world.step("a"), world.step("b")]), journal=journal)
    told: Counter[tuple[str, str]] = Counter()
    for number in range(40):
        saga_id = f"o-{number}"
        begin = threading.Barrier(2)
        mediator.start("s", saga_id=saga_id) if number % 2 else None

        def cancel(saga_id=saga_id, begin=begin):
            begin.wait(30)
            try:
                mediator.cancel(saga_id)
            except (RefusedError, LookupError):
                return "refused"
            return "accepted"

        asked = in_thread(cancel)
        begin.wait(30)
        outcome = mediator.run("s", saga_id=saga_id, check=False)
        told[asked(), outcome.state] += 1
        done = [record.event for record in outcome.history]
        if outcome.succeeded:
            assert done == ["start", "executed", "executed"]
        else:
            assert done.count("compensated") == done.count("executed")
        assert mediator.executions(limit=1)[0].driver is None
    assert ("refused", "failed") not in told


@pytest.mark.parametrize("kind", ["run", "start"])
def test_two_thousand_runs_leave_nothing_behind(kind):
    """Of finished sagas the mediator keeps nothing: neither objects nor threads."""
    world = World()
    journal = MemoryJournal()

    def forget():
        journal.prune(float("inf"), limit=10_000)
        world.calls.clear()
        world.keys.clear()
        gc.collect()

    with threads_ended(), Mediator(every_third_fails(world), journal=journal) as mediator:

        def runs(number):
            for payload in range(number):
                if kind == "run":
                    mediator.run("s", payload, check=False)
                else:
                    mediator.wait(mediator.start("s", payload), check=False)
            forget()
            return len(gc.get_objects())

        runs(200)
        before = runs(200)
        assert runs(2000) - before < 500


def test_two_thousand_async_runs_leave_nothing_behind():
    """Nor does the mediator of an event loop."""
    journal = MemoryJournal()
    calls = []

    @step(retry=QUICK)
    async def a(payload):
        calls.append(payload)
        if payload % 3 == 0:
            raise ValueError(payload)

    async def main():
        async with AsyncMediator(Saga("s", [a], payload=int), journal=journal) as mediator:

            async def runs(number):
                for first in range(0, number, 100):
                    await asyncio.gather(
                        *[mediator.run("s", payload, check=False) for payload in range(first, first + 100)]
                    )
                journal.prune(float("inf"), limit=10_000)
                calls.clear()
                gc.collect()
                return len(gc.get_objects())

            await runs(200)
            before = await runs(200)
            return await runs(2000) - before

    assert asyncio.run(main()) < 500
