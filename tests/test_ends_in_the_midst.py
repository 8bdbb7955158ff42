"""A step's exceptions are judged alike: in groups, in both mediators, in a caller's thread, a worker or a loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator import (
    AsyncMediator,
    DefinitionError,
    FunctionStep,
    Mediator,
    OutcomeUnknownError,
    Retry,
    RetryAfterError,
    Saga,
    StepRejectedError,
    step,
)
from tests.drivers import World, eventually, until

TWICE = Retry(attempts=2, wait_initial=0.0, wait_jitter=0.0)


def in_groups(*errors: BaseException) -> BaseException:
    """*errors*, each in a group of its own, in one group."""
    return BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [error]) for error in errors])


def raising(error: BaseException, **settings: Any) -> FunctionStep:
    """A step that raises it, and can be compensated."""

    @step(name="a", **{"retry": TWICE, **settings})
    def execute(payload):
        calls.append("a")
        raise error

    @execute.compensation
    def undo(payload):
        calls.append("undo a")

    return execute


calls: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls():
    calls.clear()


def ended(part: FunctionStep) -> tuple[str, ...]:
    """The calls of a run of a saga of *part*."""
    Mediator(Saga("s", [part])).run("s", check=False)
    return tuple(calls)


# Groups


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        pytest.param([ConnectionResetError()], "a a undo", id="doubt"),
        pytest.param([ValueError(), ConnectionResetError()], "a a undo", id="any leaf leaves doubt"),
        pytest.param([ValueError(), OutcomeUnknownError()], "a a undo", id="unknown"),
        pytest.param([ValueError(), KeyError()], "a a", id="no doubt"),
        pytest.param([StepRejectedError()], "a", id="refused"),
        pytest.param([StepRejectedError(), StepRejectedError()], "a", id="every leaf refuses"),
        pytest.param([StepRejectedError(), ValueError()], "a a", id="one leaf does not refuse"),
        pytest.param([StepRejectedError(), ConnectionResetError()], "a a undo", id="refused and in doubt"),
        pytest.param([ConnectionRefusedError()], "a a", id="a refused connection"),
    ],
)
def test_a_group_is_judged_by_its_leaves(errors, expected):
    """A TaskGroup in a step hides nothing: doubt, refusal and effect are those of what was raised in it."""
    assert " ".join(ended(raising(in_groups(*errors)))).replace("undo a", "undo") == expected


@pytest.mark.parametrize("on", [KeyError, (KeyError, OSError), lambda error: isinstance(error, KeyError)])
def test_retry_on_matches_any_leaf(on):
    """`Retry(on=...)` sees into groups: a type, several, or a predicate."""
    retry = Retry(attempts=2, wait_initial=0.0, wait_jitter=0.0, on=on)

    assert ended(raising(in_groups(ValueError(), KeyError()), retry=retry)) == ("a", "a")
    calls.clear()
    assert ended(raising(in_groups(ValueError(), TypeError()), retry=retry)) == ("a",)


def test_the_longest_retry_after_in_a_group_counts():
    """Two calls asked for 10 and 40 seconds: the next attempt waits for the longer."""
    sleeps: list[float] = []
    part = raising(in_groups(RetryAfterError(10), ValueError(), RetryAfterError(40)))

    Mediator(Saga("s", [part]), clock=lambda: 0.0, sleep=sleeps.append).run("s", check=False)

    assert sleeps == [40.0]


def test_a_group_in_a_compensation_is_judged_by_its_leaves():
    """Compensations retry by the leaves as well."""
    retry = Retry(attempts=3, wait_initial=0.0, wait_jitter=0.0, on=KeyError)
    part = raising(ConnectionResetError(), retry=Retry(attempts=1), compensation_retry=retry)
    part.__dict__["compensate"] = raising(in_groups(ValueError(), KeyError())).execute

    Mediator(Saga("s", [part])).run("s", check=False)

    assert calls == ["a"] * 4


def test_a_group_in_a_probe_cannot_tell():
    """A group raised by a probe means that the probe cannot tell, like any exception."""
    part = raising(ConnectionResetError(), retry=Retry(attempts=1))
    part.probing(raising(in_groups(ValueError())).execute)

    outcome = Mediator(Saga("s", [part])).run("s", check=False)

    assert "could not tell" in str(outcome.history[2].reason)
    assert calls[-1] == "undo a"


def test_an_interrupt_among_the_leaves_is_an_interrupt():
    """Ctrl-C inside a TaskGroup is not taken for a failed attempt."""
    mediator = Mediator(Saga("s", [raising(in_groups(ValueError(), KeyboardInterrupt()))]))

    with pytest.raises(BaseExceptionGroup):
        mediator.run("s", saga_id="o-1")

    assert mediator.outcome("o-1").state == "executing.a"


# No effect


def refused(payload):
    """Connect to a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    socket.create_connection(("127.0.0.1", port)).close()


def test_a_refused_connection_has_had_no_effect():
    """Nothing was sent: a pivot that cannot connect fails, and needs no person."""
    pay = step(name="pay", retry=TWICE, pivot=True)(refused)

    outcome = Mediator(Saga("s", [pay])).run("s", check=False)

    assert outcome.failed
    assert outcome.leftovers == ()
    assert not any(record.in_doubt for record in outcome.history)


class LateRefusalError(ConnectionRefusedError):
    """Raised by a client after it has sent something."""


@pytest.mark.parametrize(
    ("settings", "error", "in_doubt"),
    [
        pytest.param({}, ConnectionRefusedError, False, id="default"),
        pytest.param({}, ConnectionResetError, True, id="another connection error"),
        pytest.param({}, LateRefusalError, False, id="a subclass of what had no effect"),
        pytest.param({"no_effect_on": ()}, ConnectionRefusedError, True, id="a step of two calls"),
        pytest.param({"in_doubt_on": LateRefusalError}, LateRefusalError, True, id="the more specific is in doubt"),
        pytest.param({"in_doubt_on": OSError}, ConnectionRefusedError, False, id="the more specific has no effect"),
        pytest.param({"in_doubt_on": ConnectionRefusedError}, ConnectionRefusedError, True, id="set beats default"),
        pytest.param({"no_effect_on": TimeoutError}, TimeoutError, False, id="set beats the other default"),
        pytest.param({"no_effect_on": TimeoutError}, ConnectionResetError, True, id="the rest of the default stays"),
    ],
)
def test_the_more_specific_class_counts(settings, error, in_doubt):
    """`in_doubt_on` and `no_effect_on` together: the nearer class, and what is set on the step before a default."""
    outcome = Mediator(Saga("s", [raising(error(), **settings)])).run("s", check=False)

    assert outcome.history[1].in_doubt is in_doubt


def test_a_class_in_both_settings_of_a_step_is_refused():
    """It would say that the effect may have happened, and that it has not."""
    with pytest.raises(DefinitionError, match=r"OSError is in in_doubt_on and in no_effect_on.*Remove it from one"):
        raising(ValueError(), in_doubt_on=(OSError, KeyError), no_effect_on=OSError)


# Ends in the midst


ENDS = [SystemExit, GeneratorExit, asyncio.CancelledError, type("OddError", (BaseException,), {})]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", ["worker", "thread", "plain on a loop", "coroutine", "coroutine in time"])
def test_an_end_in_the_midst_is_in_doubt_and_stays_in_its_attempt(end, kind):
    """No step ends a loop, a worker or another saga: the attempt is in doubt, and is repeated as after a crash."""
    world = World()
    timeout = 30.0 if kind in ("thread", "coroutine in time") else None
    plain = world.step("a", end(), "done", timeout=timeout, retry=Retry(attempts=2, wait_initial=0.0, on=KeyError))

    @step(name="a", timeout=timeout, retry=Retry(attempts=2, wait_initial=0.0, on=KeyError))
    async def coroutine(payload):
        world.calls.append("a")
        await asyncio.sleep(0)
        if len(world.calls) == 1:
            raise end

    saga = Saga("s", [coroutine if kind.startswith("coroutine") else plain])
    if kind in ("worker", "thread"):
        with Mediator(saga, max_workers=1) as mediator:
            mediator.start("s", saga_id="o-1")
            outcome = mediator.wait("o-1", timeout=30)
            others = [mediator.run("s", timeout=30) for _ in range(2)]
    else:

        async def main():
            async with AsyncMediator(saga) as mediator:
                return await mediator.run("s"), [await mediator.run("s") for _ in range(2)]

        outcome, others = asyncio.run(main())

    assert outcome.succeeded
    assert [record.event for record in outcome.history] == ["start", "errored", "retry_due", "executed"]
    assert outcome.history[1].in_doubt
    assert end.__name__ in str(outcome.history[1].error)
    assert all(other.succeeded for other in others)
    assert world.calls == ["a", "a", "a", "a"]


@pytest.mark.parametrize("end", ENDS)
def test_an_end_in_the_callers_thread_is_journaled_and_goes_on(end, journal):
    """`run` in the caller's own thread: the attempt is in doubt in the journal, and the exception is the caller's.

    A CancelledError cannot come from outside into a plain function: it stays with its attempt.
    """
    world = World()
    mediator = Mediator(Saga("s", [world.step("a", end(), "done", retry=TWICE)]), journal=journal)
    if end is asyncio.CancelledError:
        assert mediator.run("s", saga_id="o-1").succeeded
    else:
        with pytest.raises(end):
            mediator.run("s", saga_id="o-1")
        left = mediator.executions()[0]
        assert (left.state, left.driver) == ("retrying.a", None)
        assert mediator.run("s", saga_id="o-1").succeeded
    assert mediator.outcome("o-1").history[1].in_doubt
    assert world.calls == ["a", "a"]


def test_one_exit_among_a_hundred_harms_no_other():
    """A step that calls sys.exit among 100 sagas on one loop: the other 99 do not notice."""

    @step(name="a", retry=TWICE)
    async def work(number):
        await asyncio.sleep(0.001)
        if number == 50:
            sys.exit(2)

    async def main():
        async with AsyncMediator(Saga("s", [work])) as mediator:
            runs = (mediator.run("s", number, check=False) for number in range(100))
            return await asyncio.gather(*runs)

    outcomes = asyncio.run(main())

    assert [outcome.succeeded for outcome in outcomes] == [number != 50 for number in range(100)]


SIGTERM = """
import signal, sys, time
from fsm_mediator import Mediator, Saga, step

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

@step
def work(payload):
    print("begun", flush=True)
    time.sleep(60)

Mediator(Saga("s", [work]), journal=sys.argv[1]).run("s", saga_id="o-1")
"""


def test_sigterm_in_a_sync_run_ends_the_process(tmp_path):
    """A handler that exits is heard though a step is under way; the attempt is journaled in doubt, and is free."""
    path = tmp_path / "x.db"
    child = subprocess.Popen(
        [sys.executable, "-c", SIGTERM, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert child.stdout is not None
    with child.stdout as out:
        assert out.readline() == b"begun\n"
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 143

    @step
    def work(payload):
        return "done"

    with Mediator(Saga("s", [work]), journal=path) as mediator:
        left = mediator.executions()[0]
        assert (left.state, left.driver) == ("retrying.work", None)
        assert mediator.run("s", saga_id="o-1").succeeded


def test_a_loop_that_ends_leaves_its_attempts_to_recovery(journal):
    """asyncio.run that ends with an attempt under way: it was not answered, and counts as crashed."""
    begun: list[int] = []

    @step(timeout=60.0)
    async def hang(payload):
        begun.append(1)
        await asyncio.sleep(60 if len(begun) == 1 else 0)

    saga = Saga("s", [hang])

    async def first():
        mediator = AsyncMediator(saga, journal=journal)
        await mediator.start("s", saga_id="o-1")
        await until(lambda: begun)

    async def second():
        async with AsyncMediator(saga, journal=journal) as mediator:
            return await mediator.run("s", saga_id="o-1")

    asyncio.run(first())
    outcome = asyncio.run(second())

    assert outcome.succeeded
    assert [record.error.type.rpartition(".")[2] for record in outcome.history if record.error] == [
        "AttemptCrashedError"
    ]


def test_a_task_that_cancels_itself_is_taken_up_again_by_its_mediator():
    """A step that cancels the task that drives it is a departure; the mediator claims the execution again."""
    begun: list[int] = []

    @step(retry=Retry(wait_initial=0.0))
    async def work(payload):
        begun.append(1)
        if len(begun) == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)

    async def main():
        async with AsyncMediator(Saga("s", [work])) as mediator:
            await mediator.start("s", saga_id="o-1")
            return await mediator.wait("o-1", timeout=30)

    assert asyncio.run(main()).succeeded
    assert begun == [1, 1]


# Coroutines that outlive time-out and grace


def test_a_coroutine_that_swallows_its_cancellation_gets_stuck_as_a_thread_does(journal):
    """Past time-out and grace the saga stands visibly; the coroutine is cancelled once more at each grace."""
    cancelled: list[float] = []
    stop: list[bool] = []

    @step(name="poll", timeout=0.05, grace=0.05)
    async def poll(payload):
        while not stop:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                cancelled.append(time.monotonic())

    @poll.compensation
    def undo(payload):
        calls.append("undo poll")

    async def main():
        async with AsyncMediator(Saga("s", [poll]), journal=journal) as mediator:
            outcome = await mediator.run("s", saga_id="o-1", check=False)
            try:
                await until(lambda: len(cancelled) >= 4)
                with pytest.raises(Exception, match="still running"):
                    await mediator.retry("o-1")
            finally:
                stop.append(True)  # else the loop would never end
            resolved = None
            while resolved is None:
                await asyncio.sleep(0.01)
                try:
                    resolved = await mediator.resolve("o-1", done=False, reason="it has none")
                except Exception as error:
                    assert "still running" in str(error)  # noqa: PT017 - until it has ended
            return outcome, resolved

    outcome, resolved = asyncio.run(main())

    assert outcome.state == "stuck_executing.poll"
    assert outcome.history[-1].abandoned
    assert resolved.failed


def test_a_coroutine_that_answers_within_the_grace_counts():
    """It was cancelled at its time-out, and returned all the same: the late result is the result."""

    @step(name="a", timeout=0.02, grace=5.0)
    async def late(payload):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "late"

    async def main():
        async with AsyncMediator(Saga("s", [late])) as mediator:
            return await mediator.run("s")

    outcome = asyncio.run(main())

    assert outcome.results == {"a": "late"}
    assert outcome.history[-1].reason == "answered late"


def test_a_coroutine_that_may_be_overtaken_is_repeated():
    """`overtake=True`: the next attempt begins though the first still runs."""
    begun: list[int] = []

    @step(name="a", timeout=0.02, grace=0.05, overtake=True, retry=TWICE)
    async def work(payload):
        begun.append(1)
        while len(begun) == 1:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    async def main():
        async with AsyncMediator(Saga("s", [work])) as mediator:
            return await mediator.run("s")

    assert asyncio.run(main()).succeeded
    assert begun == [1, 1]


def test_what_a_worker_raised_is_judged_after_a_restart_as_before(tmp_path):
    """The doubt that an exit leaves is in the journal: another process compensates the step itself."""
    path = tmp_path / "x.db"
    part = raising(SystemExit(2), retry=Retry(attempts=1))
    with Mediator(Saga("s", [part]), journal=path) as mediator:
        mediator.start("s", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1").failed)
    with Mediator(Saga("s", [part]), journal=path) as mediator:
        assert mediator.outcome("o-1").compensated == ("a",)
