"""Time-outs: coroutines are cancelled and awaited; a thread cannot be ended, and is never overtaken."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import signal
import threading

import pytest

from fsm_mediator import (
    AlreadyDrivenError,
    AsyncMediator,
    Happened,
    Mediator,
    NotHappened,
    RefusedError,
    Saga,
    SagaStuckError,
    step,
)
from tests.drivers import ONCE, QUICK, World, eventually, in_thread

SOON = 0.2
"""Seconds of a time-out that is to pass."""


def never_answers(world, *then, name="hang", **settings):
    """A saga whose second step hangs at the gate in its first attempt, longer than time-out and grace."""
    settings = {"timeout": SOON, "grace": 0.0} | settings
    return Saga("s", [world.step("a"), world.step(name, world.gate(), *then, **settings)])


# Threads


def test_an_answer_within_the_grace_counts(drive, journal):
    """A plain function that outlives its time-out is waited for: its late answer settles the doubt."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate(), timeout=SOON, grace=30.0)])
    result = in_thread(drive(saga, journal=journal).run, "s")
    world.begun()
    assert not threading.Event().wait(2 * SOON)  # the time-out passes
    world.go()

    outcome = result()
    assert outcome.succeeded
    assert outcome.history[-1].reason == "answered late"
    assert world.calls == ["a"]


def test_an_answer_in_time_leaves_nothing_running(drive, journal):
    """A time-out that is not needed changes nothing."""
    world = World()
    outcome = drive(Saga("s", [world.step("a", timeout=30.0)]), journal=journal).run("s")
    assert outcome.results == {"a": "a done"}
    assert outcome.history[-1].reason is None


def test_a_thread_beyond_its_grace_is_never_overtaken(drive, journal, caplog):
    """Stuck and abandoned; verbs are refused while the thread lives; its late answer is noted, then retry works."""
    world = World()
    mediator = drive(never_answers(world, "at last"), journal=journal)

    with pytest.raises(SagaStuckError, match="may be running still") as caught:
        mediator.run("s", saga_id="o-1")
    outcome = caught.value.outcome
    assert outcome.state == "stuck_executing.hang"
    assert outcome.history[-1].abandoned
    assert outcome.history[-1].in_doubt
    for verb in (lambda: mediator.retry("o-1"), lambda: mediator.resolve("o-1", reason="looked", done=True)):
        with pytest.raises(AlreadyDrivenError):
            verb()
    assert mediator.wait("o-1", check=False).stuck
    assert mediator.recover() == []

    world.go()
    eventually(lambda: mediator.executions()[0].driver is None)
    assert any("returned 'through gate'" in message for message in caplog.messages)
    outcome = mediator.retry("o-1", "it answered")

    assert outcome.succeeded
    retried = next(record for record in outcome.history if record.event == "retry")
    assert "it answered" in retried.reason
    assert "returned 'through gate'" in retried.reason
    assert world.keys[1:] == ["o-1:hang:execute"] * 2


def test_another_mediator_does_not_overtake_either(drive, journal):
    """While the thread lives, another mediator's verbs are refused as well; then they see what it answered."""
    world = World()
    saga = never_answers(world, "at last")
    mediator, other = drive(saga, journal=journal), drive(saga, journal=journal)
    mediator.run("s", saga_id="o-1", check=False)

    with pytest.raises(RefusedError, match="thread is still running"):
        other.retry("o-1")
    world.go()
    eventually(lambda: other.executions()[0].driver is None)

    outcome = other.resolve("o-1", reason="I saw it", done=True, result="mine")
    assert outcome.succeeded
    assert "through gate" in outcome.history[-1].reason
    assert outcome.results["hang"] == "mine"


def test_a_late_error_is_noted_too(drive, journal):
    """What the abandoned attempt raised is told in the verb's record."""
    world = World()
    gate = world.gate()

    def fails(*_):
        gate()
        raise OSError("cable")

    saga = Saga("s", [world.step("a", fails, "done", timeout=SOON, grace=0.0)])
    mediator = drive(saga, journal=journal)
    mediator.run("s", saga_id="o-1", check=False)
    world.go()
    eventually(lambda: mediator.executions()[0].driver is None)

    outcome = mediator.retry("o-1")
    assert "raised OSError: cable" in outcome.history[-2].reason


def test_with_overtake_an_attempt_is_just_in_doubt(drive, journal):
    """overtake=True: the next attempt is made while the first may still be running."""
    world = World()
    outcome = drive(never_answers(world, "second", overtake=True), journal=journal).run("s")
    world.go()

    assert outcome.results["hang"] == "second"
    assert outcome.history[2].in_doubt


def test_a_compensation_that_hangs_is_not_overtaken(drive, journal):
    """A compensation beyond its grace is stuck and abandoned; retry repeats it once its thread has ended."""
    world = World()
    hangs = world.step("a", undo=[world.gate(), None], timeout=SOON, grace=0.0)
    mediator = drive(Saga("s", [hangs, world.step("b", OSError(), retry=ONCE)]), journal=journal)

    outcome = mediator.run("s", saga_id="o-1", check=False)
    assert outcome.state == "stuck.a"
    assert outcome.history[-1].abandoned
    with pytest.raises(AlreadyDrivenError):
        mediator.retry("o-1")
    world.go()
    eventually(lambda: mediator.executions()[0].driver is None)

    assert mediator.retry("o-1").compensated == ("a",)


def test_a_probe_that_hangs_could_not_tell(drive, journal):
    """A probe is harmless, so it is left behind: the step is tried again."""
    world = World()
    gate = world.gate()
    mediator = drive(
        Saga("s", [world.step("a", ConnectionError(), "done", probe=lambda payload: gate(), timeout=SOON)]),
        journal=journal,
    )
    outcome = mediator.run("s")
    world.go()
    assert [record.event for record in outcome.history] == ["start", "unsure", "errored", "retry_due", "executed"]
    assert "could not tell" in outcome.history[2].reason


@pytest.mark.parametrize("answer", [Happened("found"), NotHappened()], ids=["happened", "did not"])
def test_a_probe_that_answers_decides(drive, journal, answer):
    """What the probe says is what counts, and its result is the step's."""
    world = World()
    saga = Saga("s", [world.step("a", ConnectionError(), "done", probe=lambda payload: answer, timeout=30.0)])
    outcome = drive(saga, journal=journal).run("s")
    assert outcome.results["a"] == ("found" if isinstance(answer, Happened) else "done")
    assert world.calls == ["a"] * (1 if isinstance(answer, Happened) else 2)


def test_a_probe_that_returns_something_else_could_not_tell(drive, journal):
    """A value that merely looks like an answer is none."""

    class Alike:
        result = 7

    world = World()
    saga = Saga("s", [world.step("a", ConnectionError(), "done", probe=lambda payload: Alike())])
    assert drive(saga, journal=journal).run("s").results["a"] == "done"


def test_context_variables_reach_the_step(drive, journal):
    """A step sees the context variables of whoever runs the saga, time-out or not."""
    variable = contextvars.ContextVar("variable", default="unset")
    world = World()
    saga = Saga("s", [world.step(name, lambda *_: variable.get(), timeout=t) for name, t in (("a", None), ("b", 9.0))])
    mediator = drive(saga, journal=journal)
    if drive.is_async:

        async def run():
            variable.set("mine")
            return await mediator.inner.run("s")

        outcome = asyncio.run_coroutine_threadsafe(run(), mediator.loop).result(30)
    else:
        context = contextvars.copy_context()
        context.run(variable.set, "mine")
        outcome = context.run(mediator.run, "s")
    assert outcome.results == {"a": "mine", "b": "mine"}


def test_a_waiter_of_an_interrupted_wait_does_not_overtake(drive, journal):
    """A second run of an id whose thread is still running waits for that thread before it tries again."""
    world = World()
    gate = world.gate()

    def hangs(*_):
        gate()
        raise OSError("late")

    saga = Saga("s", [world.step("a", hangs, "done", timeout=30.0)])
    mediator = drive(saga, journal=journal)
    first = in_thread(mediator.run, "s", saga_id="o-1")
    second = in_thread(mediator.run, "s", saga_id="o-1")
    world.begun()
    assert world.calls == ["a"]
    world.go()
    assert first().succeeded
    assert second().succeeded
    assert world.calls == ["a", "a"]


# Coroutines


def test_plain_functions_on_a_loop_are_bounded_by_max_workers():
    """No more plain functions run at a time than max_workers; and the loop goes on meanwhile."""
    lock, running, most = threading.Lock(), [0], [0]
    together = threading.Barrier(3)

    @step
    def plain(payload):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait(30)
        with lock:
            running[0] -= 1

    async def main():
        async with AsyncMediator(Saga("s", [plain]), max_workers=3) as mediator:
            await asyncio.gather(*[mediator.run("s") for _ in range(12)])

    asyncio.run(main())
    assert most[0] == 3


def test_a_coroutine_is_cancelled_and_awaited(journal):
    """A coroutine that outlives its time-out is cancelled, may clean up, and is over before the next attempt."""
    calls = []

    @step(timeout=SOON, retry=QUICK)
    async def a(payload, context):
        calls.append("begin")
        if context.attempt == 1:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                calls.append("cleaned up")

    async def main():
        async with AsyncMediator(Saga("s", [a]), journal=journal) as mediator:
            return await mediator.run("s")

    outcome = asyncio.run(main())
    assert calls == ["begin", "cleaned up", "begin"]
    assert outcome.history[1].error.type.endswith("AttemptTimedOutError")
    assert outcome.history[1].in_doubt


def test_a_coroutine_that_swallows_its_cancelling_answers_late(journal):
    """A coroutine that returns after all has answered, late."""

    @step(timeout=SOON)
    async def a(payload) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "anyway"

    async def main():
        async with AsyncMediator(Saga("s", [a]), journal=journal) as mediator:
            return await mediator.run("s")

    outcome = asyncio.run(main())
    assert outcome.results == {"a": "anyway"}
    assert outcome.history[-1].reason == "answered late"


def test_a_timeout_error_of_the_steps_own_is_not_ours(journal):
    """A TimeoutError that the coroutine itself raises is its own error, with its own text."""

    @step(timeout=30.0, retry=ONCE)
    async def a(payload):
        raise TimeoutError("of a socket")

    async def main():
        async with AsyncMediator(Saga("s", [a]), journal=journal) as mediator:
            return await mediator.run("s", check=False)

    outcome = asyncio.run(main())
    assert outcome.failed
    assert outcome.history[-1].error.message == "of a socket"


def test_a_coroutine_made_by_a_plain_function_is_its_effect(journal):
    """A lambda that returns a coroutine is awaited, within the time-out, as a coroutine function would be."""
    seen = []

    async def work(number):
        seen.append(number)
        if len(seen) == 1:
            await asyncio.Event().wait()
        return number

    async def main():
        plain = step(name="a", timeout=SOON, retry=QUICK)(lambda payload: work(payload))  # noqa: PLW0108 - that it is no coroutine function is the point
        async with AsyncMediator(Saga("s", [plain]), journal=journal) as mediator:
            return await mediator.run("s", 7)

    assert asyncio.run(main()).results == {"a": 7}
    assert seen == [7, 7]


def test_an_attempt_for_which_there_is_no_thread_was_not_made(drive, monkeypatch):
    """The system has no more threads: the attempt counts as one without an effect, and is repeated."""
    world, refused = World(), list[str]()
    start = threading.Thread.start

    def refuses(thread: threading.Thread) -> None:
        if thread.name.startswith("fsm-mediator o-1 ") and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuses)
    outcome = drive(Saga("s", [world.step("a", timeout=30.0)])).run("s", saga_id="o-1")

    assert (refused, world.calls) == (["fsm-mediator o-1 execute a"], ["a"])
    assert [record.event for record in outcome.history] == ["start", "errored", "retry_due", "executed"]
    assert not any(record.in_doubt for record in outcome.history)


def test_error_of_a_signal_handler_is_not_the_answer_of_a_step(journal):
    """A handler raises RuntimeError while a step runs in its thread: the caller gets it, and the step is not done."""
    world, main, raised = World(), threading.get_ident(), threading.Event()
    saga = Saga("s", [world.step("a", world.gate(), timeout=60.0)])

    def handler(*_):
        if not raised.is_set():
            raised.set()
            raise RuntimeError("from the handler")

    def send():
        world.begun()
        while not raised.wait(0.01):  # a signal that comes just before the wait does not end it
            signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        sent = in_thread(send)
        with Mediator(saga, journal=journal) as mediator:
            with pytest.raises(RuntimeError, match="from the handler"):
                mediator.run("s", saga_id="o-1")
            sent()
            assert journal.find("o-1").state == "executing.a"
            world.go()
    finally:
        signal.signal(signal.SIGUSR1, before)
