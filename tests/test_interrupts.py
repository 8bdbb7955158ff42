"""An interrupt passes through, other ends of a step are in doubt; cancelling a waiting caller only detaches."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
import sys
import threading
import time

import pytest

from fsm_mediator import AsyncMediator, Mediator, MemoryJournal, RecordingObserver, Retry, Saga, SQLiteJournal, step
from tests.drivers import ONCE, World, eventually, in_thread, until

INTERRUPTS = [KeyboardInterrupt, SystemExit]


class Interrupting:
    """A journal that is interrupted, once, before or after it has written; an observer that is, once."""

    def __init__(self, inner, interrupt, number, *, after):
        self.inner = inner
        self.interrupt = interrupt
        self.number = number
        self.after = after

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def write(self, commit):
        self.number -= 1
        if self.number == 0 and not self.after:
            raise self.interrupt
        written = self.inner.write(commit)
        if self.number == 0:
            raise self.interrupt
        return written


@pytest.fixture(params=[False, True], ids=["objects", "encoded"])
def memory(request):
    """A journal in memory."""
    return MemoryJournal(encode=request.param)


def is_whole(journal, saga, saga_id="o-1"):
    """Whether what is journaled can be folded."""
    return Mediator(saga, journal=journal).outcome(saga_id)


@pytest.fixture
def ctrl_c():
    """Press Ctrl-C once the given event is set; a function.

    The signal is sent again until Python has seen it: one that arrives just before a lock is waited for does not end
    that wait. The exception is raised once only.
    """
    main, seen = threading.get_ident(), threading.Event()

    def handler(*_):
        if not seen.is_set():
            seen.set()
            raise KeyboardInterrupt

    def press(when):
        assert when.wait(30)
        while not seen.wait(0.01):
            signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, handler)
    yield lambda when: in_thread(press, when)
    signal.signal(signal.SIGINT, before)


# Mediator: in the caller's thread


@pytest.mark.parametrize("how", ["run", "recover", "elsewhere"])
@pytest.mark.parametrize(
    ("interrupt", "timeout", "state"),
    [
        pytest.param(KeyboardInterrupt, None, "executing.b", id="interrupt"),
        pytest.param(KeyboardInterrupt, 30.0, "executing.b", id="interrupt in a thread"),
        pytest.param(SystemExit, None, "retrying.b", id="exit"),
        pytest.param(GeneratorExit, None, "retrying.b", id="generator exit"),
    ],
)
def test_an_interrupt_in_execute_passes_and_the_saga_drives_on(memory, interrupt, timeout, state, how):
    """The interrupt reaches the caller; the step is repeated with the same key, the rest once.

    An exit in the caller's own thread is journaled first, as an attempt in doubt.
    """
    world = World()
    saga = Saga("s", [world.step("a"), world.step("b", interrupt(), "done", timeout=timeout), world.step("c")])
    mediator = Mediator(saga, journal=memory)
    with pytest.raises(interrupt):
        mediator.run("s", saga_id="o-1")
    left = is_whole(memory, saga)
    assert left.state == state
    assert left.history[-1].in_doubt is (state == "retrying.b")

    if how == "recover":
        assert mediator.recover()[0].succeeded
    else:
        assert (mediator if how == "run" else Mediator(saga, journal=memory)).run("s", saga_id="o-1").succeeded
    assert world.keys == [f"o-1:{name}:execute" for name in "abbc"]


@pytest.mark.parametrize(
    ("interrupt", "timeout"), [(KeyboardInterrupt, None), (KeyboardInterrupt, 30.0), (SystemExit, None)]
)
def test_an_interrupt_in_compensate_passes_and_it_is_compensated_later(memory, interrupt, timeout):
    """An interrupted compensation is repeated."""
    world = World()
    saga = Saga(
        "s", [world.step("a", undo=[interrupt(), None], timeout=timeout), world.step("b", OSError(), retry=ONCE)]
    )
    mediator = Mediator(saga, journal=memory)
    with pytest.raises(interrupt):
        mediator.run("s", saga_id="o-1")

    assert mediator.run("s", saga_id="o-1", check=False).compensated == ("a",)
    assert world.calls == ["a", "b", "undo a", "undo a"]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_an_interrupt_in_a_commit_leaves_all_of_it_or_nothing(memory, interrupt, after, number):
    """Whichever commit is interrupted, before or after it is written: run drives on to the same end."""
    world = World()
    saga = Saga("s", [world.step("a"), world.step("b")])
    mediator = Mediator(saga, journal=Interrupting(memory, interrupt, number, after=after))
    with pytest.raises(interrupt):
        mediator.run("s", 1, saga_id="o-1")

    outcome = mediator.run("s", 1, saga_id="o-1")

    assert outcome.succeeded
    assert outcome.results == {"a": "a done", "b": "b done"}
    assert [record.seq for record in outcome.history] == list(range(1, len(outcome.history) + 1))
    assert mediator.undo("o-1").failed


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_interrupt_in_the_commit_of_start_holds_nothing(memory, after):
    """Start was interrupted: whether or not it was accepted, start again or recover gets it done."""
    world = World()
    saga = Saga("s", [world.step("a")])
    mediator = Mediator(saga, journal=Interrupting(memory, KeyboardInterrupt, 1, after=after))
    with pytest.raises(KeyboardInterrupt):
        mediator.start("s", 1, saga_id="o-1")

    if after:
        assert [outcome.saga_id for outcome in mediator.recover()] == ["o-1"]
    mediator.start("s", 1, saga_id="o-1")
    assert mediator.wait("o-1").succeeded
    assert world.calls == ["a"]
    mediator.close()


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_an_interrupt_in_an_observer_passes_after_the_record_is_written(memory, interrupt, number):
    """The record that was being told of stands; the saga drives on from it."""
    world, seen = World(), RecordingObserver()

    def observer(record):
        seen(record)
        if len(seen.records) == number:
            raise interrupt

    mediator = Mediator(Saga("s", [world.step(name) for name in "abc"]), journal=memory, observers=[observer])
    with pytest.raises(interrupt):
        mediator.run("s", saga_id="o-1")
    assert len(memory.records("o-1")) == number

    assert mediator.run("s", saga_id="o-1").succeeded
    assert world.calls == ["a", "b", "c"]


@pytest.mark.parametrize("how", ["run", "recover"])
def test_ctrl_c_while_a_timed_thread_is_waited_for_never_overtakes_it(ctrl_c, how):
    """The wait is interrupted, the thread is not: run of the same id waits for it before the next attempt."""
    world = World()
    gate, ended = world.gate(), []

    def works(*_):
        gate()
        ended.append(len(world.calls))

    journal = MemoryJournal()
    saga = Saga("s", [world.step("a", works, "done", timeout=30.0)])
    mediator = Mediator(saga, journal=journal)
    pressed = ctrl_c(world.gates["gate"][0])
    with pytest.raises(KeyboardInterrupt):
        mediator.run("s", saga_id="o-1")
    pressed()
    assert mediator.recover() == []
    assert mediator.executions()[0].driver is not None

    if how == "run":
        result = in_thread(mediator.run, "s", saga_id="o-1")
        world.go()
        assert result().succeeded
    else:
        world.go()
        assert eventually(mediator.recover)[0].succeeded
    assert ended == [1]
    assert world.calls == ["a", "a"]


def test_ctrl_c_in_a_wait_leaves_the_saga_to_be_driven_on(ctrl_c):
    """Interrupted between two attempts, the saga stands there, held by nobody."""
    world = World()
    waiting = threading.Event()

    def tell(record):
        if record.target == "retrying.a":
            waiting.set()

    saga = Saga("s", [world.step("a", OSError(), "done", retry=Retry(wait_initial=3600.0, wait_max=3600.0))])
    journal = MemoryJournal()
    mediator = Mediator(saga, journal=journal, observers=[tell])
    pressed = ctrl_c(waiting)
    with pytest.raises(KeyboardInterrupt):
        mediator.run("s", saga_id="o-1")
    pressed()

    assert mediator.executions()[0].driver is None
    mediator.cancel("o-1")
    eventually(lambda: mediator.outcome("o-1").failed)
    mediator.close()


# In the background


def test_an_interrupt_in_a_background_worker_is_logged_and_its_saga_is_taken_up_again(caplog):
    """A step that raises KeyboardInterrupt in a worker's thread ends neither the worker nor the saga's chance."""
    world = World()
    with Mediator(Saga("s", [world.step("a", KeyboardInterrupt(), "done")]), max_workers=1) as mediator:
        with caplog.at_level(logging.ERROR, "fsm_mediator"):
            mediator.start("s", saga_id="o-1")
            eventually(lambda: "left in its current state" in caplog.text)
        eventually(lambda: mediator.outcome("o-1").succeeded)
        assert mediator.run("s", timeout=30).succeeded


def test_a_coroutine_in_a_mediator_is_refused_without_effect(recwarn):
    """A plain function that returns a coroutine: said at once, not repeated, nothing left unawaited."""
    world = World()

    async def work():
        raise AssertionError("never")

    outcome = Mediator(Saga("s", [world.step("a"), world.step("b", lambda *_: work())])).run("s", check=False)

    assert outcome.failed
    assert "returned a coroutine" in str(outcome.error)
    assert world.calls == ["a", "b", "undo a"]
    gc.collect()
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


# AsyncMediator


def test_cancelling_the_awaiting_task_only_detaches(journal):
    """A web client that hangs up does not break the saga: run, wait, start, retry and undo alike."""
    world = World()

    async def main():
        gate = asyncio.Event()

        @step
        async def a(payload):
            world.calls.append("a")
            await gate.wait()

        @a.compensation
        async def undo_a(payload):
            world.calls.append("undo a")
            await gate.wait()

        async def given_up(awaitable, called):
            task = asyncio.ensure_future(awaitable)
            await until(lambda: called in world.calls)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        async with AsyncMediator(Saga("s", [a]), journal=journal) as mediator:
            await given_up(mediator.run("s", saga_id="o-1"), "a")
            await given_up(mediator.wait("o-1"), "a")
            await given_up(mediator.run("s", saga_id="o-1"), "a")
            gate.set()
            assert (await mediator.wait("o-1")).succeeded
            gate.clear()
            await given_up(mediator.undo("o-1"), "undo a")
            gate.set()
            assert (await mediator.wait("o-1", check=False)).failed

    asyncio.run(main())
    assert world.calls == ["a", "undo a"]


@pytest.mark.parametrize("verb", ["run", "start", "wait", "undo", "recover", "outcome"])
def test_a_verb_given_up_at_any_moment_holds_nothing(journal, verb):
    """Cancelled after however many turns of the loop, a call leaves an execution that others can go on with."""
    world = World()
    saga = Saga("s", [world.step("a")])

    async def main(turns):
        async with AsyncMediator(saga, journal=journal) as mediator:
            saga_id = f"{verb}-{turns}"
            if verb in ("wait", "undo", "outcome"):
                await mediator.run("s", saga_id=saga_id)
            given = {"run": ("s",), "start": ("s",), "recover": ()}.get(verb, (saga_id,))
            named = {"saga_id": saga_id} if verb in ("run", "start") else {}
            task = asyncio.ensure_future(getattr(mediator, verb)(*given, **named))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if verb != "recover":
                outcome = await asyncio.wait_for(mediator.run("s", saga_id=saga_id, check=False), 30)
                assert outcome.ended

    for turns in range(8):
        asyncio.run(main(turns))


@pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "plain"])
def test_a_cancelled_error_inside_a_step_is_the_steps_own(journal, plain):
    """A library that cancels itself leaves the attempt in doubt; nobody else is cancelled by it."""
    world = World()
    if plain:
        made = world.step("a", asyncio.CancelledError(), "done")
    else:

        @step(name="a", retry=Retry(wait_initial=0.0, wait_jitter=0.0))
        async def made(payload, context):
            world.calls.append("a")
            if context.attempt == 1:
                raise asyncio.CancelledError

    async def main():
        async with AsyncMediator(Saga("s", [made]), journal=journal) as mediator:
            return await mediator.run("s")

    outcome = asyncio.run(main())
    assert outcome.succeeded
    assert world.calls == ["a", "a"]
    assert outcome.history[1].in_doubt


def test_an_interrupt_in_a_coroutine_ends_the_loop_and_the_saga_drives_on(journal):
    """KeyboardInterrupt in a step passes through asyncio.run; the next asyncio.run goes on with the same mediator."""
    world = World()

    @step
    async def a(payload, context):
        world.keys.append(context.idempotency_key)
        if len(world.keys) == 1:
            raise KeyboardInterrupt

    mediator = AsyncMediator(Saga("s", [a]), journal=journal)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(mediator.run("s", saga_id="o-1"))

    async def again():
        outcome = await mediator.run("s", saga_id="o-1")
        await mediator.close()
        return outcome

    assert asyncio.run(again()).succeeded
    assert world.keys == ["o-1:a:execute"] * 2


@pytest.mark.parametrize("how", ["run", "recover"])
def test_a_second_loop_goes_on_with_what_the_first_left(journal, how):
    """asyncio.run ends with sagas in flight, waiting and queued; a second one with the same mediator finishes them."""
    world = World()
    begun = []
    waits = Retry(wait_initial=0.2, wait_jitter=0.0)

    async def hang(payload, context):
        begun.append(context.saga_id)
        if begun.count(context.saga_id) == 1:
            await asyncio.Event().wait()

    saga = Saga("hangs", [step(name="a")(hang)])
    waiting = Saga("waits", [world.step("b", OSError(), "done", retry=waits)])
    mediator = AsyncMediator(saga, waiting, journal=journal, max_workers=2)
    ids = [f"h-{number}" for number in range(5)]

    async def first():
        for saga_id in ids:
            await mediator.start("hangs", saga_id=saga_id)
        await mediator.start("waits", saga_id="w-1")
        await until(lambda: len(begun) == 5 and "b" in world.calls)

    async def second():
        try:
            if how == "recover":
                await mediator.recover()
            runs = [mediator.run("hangs", saga_id=saga_id) for saga_id in ids]
            return await asyncio.gather(*runs, mediator.run("waits", saga_id="w-1"))
        finally:
            await mediator.close()

    asyncio.run(first())
    outcomes = asyncio.run(second())

    assert {outcome.state for outcome in outcomes} == {"succeeded"}
    assert sorted(begun) == sorted(ids * 2)
    assert world.calls == ["b", "b"]


def test_a_second_loop_does_not_overtake_a_thread_of_the_first(journal):
    """The loop is gone, its plain step's thread is not: the second loop waits for it before the next attempt."""
    world = World()
    gate, ended = world.gate(), []

    def works(*_):
        gate()
        time.sleep(0)
        ended.append(len(world.calls))

    mediator = AsyncMediator(Saga("s", [world.step("a", works, "done")]), journal=journal)

    async def first():
        await mediator.start("s", saga_id="o-1")
        await until(world.gates["gate"][0].is_set)

    async def second():
        task = asyncio.ensure_future(mediator.run("s", saga_id="o-1"))
        await asyncio.sleep(0.02)
        assert not task.done()
        world.go()
        outcome = await task
        await mediator.close()
        return outcome

    asyncio.run(first())
    assert asyncio.run(second()).succeeded
    assert ended == [1]
    assert world.calls == ["a", "a"]


class NowError(KeyboardInterrupt):
    """Ctrl-C, told from one that a person pressed."""


def is_of_an_interrupt(what):
    """Whether an interrupt hit a finaliser, or destroyed a coroutine before it began."""
    return what.exc_type is NowError or "never awaited" in str(what.exc_value)


@pytest.mark.torture
def test_interrupts_at_any_moment_hang_nobody_and_lose_nothing(tmp_path, monkeypatch, torture_seconds):
    """The main thread runs sagas among others, and is interrupted again and again, between any two lines."""

    @step
    def first(order):
        pass

    @step
    def second(order):
        pass

    armed = False

    def interrupt(*_):
        if armed:  # one that comes late must not hit the test itself
            raise NowError

    hook = sys.unraisablehook  # pytest's
    monkeypatch.setattr(sys, "unraisablehook", lambda what: is_of_an_interrupt(what) or hook(what))

    mediator = Mediator(Saga("work", [first, second]), journal=SQLiteJournal(tmp_path / "x.db", durability="normal"))
    until = time.monotonic() + torture_seconds
    ended, interrupts = [], 0

    def work():
        while time.monotonic() < until:
            ended.append(mediator.run("work").saga_id)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(12)]
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for thread in threads:
            thread.start()
        while time.monotonic() < until:
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.02))  # noqa: S311 - chance, no secret
                for _ in range(50):  # one that hits in a finaliser is swallowed by Python, and another must follow
                    ended.append(mediator.run("work").saga_id)  # noqa: PERF401 - those before an interrupt count
                armed = False
            except NowError:
                interrupts += 1
    finally:
        armed = False
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    for thread in threads:
        thread.join(60.0)

    assert not any(thread.is_alive() for thread in threads)
    assert interrupts > torture_seconds
    succeeded = {entry.saga_id for entry in mediator.executions(state="succeeded")}
    assert set(ended) <= succeeded
    mediator.recover()
    assert {entry.state for entry in mediator.executions()} == {"succeeded"}
    mediator.close()
