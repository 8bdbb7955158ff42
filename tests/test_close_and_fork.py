"""Opening on first use, closing, and forking."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from fsm_mediator import AsyncMediator, Mediator, MediatorClosedError, Retry, Saga, SagaWaitingError, step
from tests.drivers import World, core_of, eventually, in_thread, threads_ended

HOUR = Retry(attempts=2, wait_initial=3600.0, wait_max=3600.0)


def waits(world, tell):
    """A saga that waits an hour between its first two attempts, and an observer that says so."""
    saga = Saga("s", [world.step("a", OSError(), "done", retry=HOUR)])
    return saga, [lambda record: record.target == "retrying.a" and tell.set()]


def test_it_works_without_with(drive, journal):
    """No `with` is needed: it opens on first use, whichever verb that is."""
    world = World()
    saga = Saga("s", [world.step("a")])
    assert drive(saga, journal=journal).executions() == []
    assert drive(saga, journal=journal).recover() == []
    assert drive(saga, journal=journal).run("s", saga_id="o-1").succeeded
    assert drive(saga, journal=journal).wait("o-1").succeeded
    assert drive(saga, journal=journal).undo("o-1").failed


def test_a_closed_mediator_takes_no_new_work(drive, journal):
    """Closing again is harmless; every verb is refused by name."""
    world = World()
    mediator = drive(Saga("s", [world.step("a")]), journal=journal)
    mediator.run("s", saga_id="o-1")
    mediator.close()
    mediator.close()

    verbs = [
        lambda: mediator.run("s"),
        lambda: mediator.run("s", saga_id="o-1"),
        lambda: mediator.start("s"),
        mediator.recover,
        lambda: mediator.undo("o-1"),
        lambda: mediator.retry("o-1"),
        lambda: mediator.cancel("o-1"),
    ]
    for verb in verbs:
        with pytest.raises(MediatorClosedError):
            verb()
    assert world.calls == ["a"]


def test_closing_before_the_first_use_is_harmless(drive, journal):
    """A mediator that was never used can be closed, and is closed then."""
    mediator = drive(Saga("s", [World().step("a")]), journal=journal)
    mediator.close()
    with pytest.raises(MediatorClosedError):
        mediator.run("s")


def test_close_waits_for_what_is_under_way(drive, journal):
    """What was started ends within the grace, steps that had not begun included."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate()), world.step("b")])
    mediator = drive(saga, journal=journal, max_workers=1)
    ids = [mediator.start("s") for _ in range(3)]
    world.begun()
    closing = in_thread(mediator.close, 30.0)
    eventually(lambda: _is_closed(mediator))
    world.go()
    closing()

    other = drive(saga, journal=journal)
    assert [other.outcome(saga_id).state for saga_id in ids] == ["succeeded"] * 3


def _is_closed(mediator):
    try:
        mediator.executions()
    except MediatorClosedError:
        return True
    return core_of(mediator).closed  # looking may stay possible


@pytest.mark.parametrize("how", ["run", "start", "wait"])
def test_close_releases_what_waits_and_another_goes_on(drive, journal, how):
    """A saga that waits longer than the grace is released at once: its waiter is told; anybody can cancel it."""
    world, waiting = World(), threading.Event()
    saga, observers = waits(world, waiting)
    mediator = drive(saga, journal=journal, observers=observers)
    result = None
    if how == "run":
        result = in_thread(mediator.run, "s", saga_id="o-1")
    else:
        mediator.start("s", saga_id="o-1")
    assert waiting.wait(30)
    if how == "wait":
        result = in_thread(mediator.wait, "o-1")

    mediator.close(30.0)

    if result is not None:
        with pytest.raises((SagaWaitingError, MediatorClosedError)):
            result()
    other = drive(saga, journal=journal)
    assert other.outcome("o-1").state == "retrying.a"
    assert other.executions()[0].driver is None
    other.cancel("o-1")
    eventually(lambda: other.outcome("o-1").failed)
    assert world.calls == ["a"]


def test_close_releases_what_has_not_begun(drive, journal):
    """A saga that waits for a worker is recovered by another mediator, while the closed one's worker is still busy."""
    world = World()
    gate = world.gate()
    saga = Saga("s", [world.step("a", lambda payload, context: gate() if payload == 0 else payload)])
    mediator = drive(saga, journal=journal, max_workers=1)
    mediator.start("s", 0, saga_id="o-0")
    world.begun()
    if drive.is_async:
        world.go()
        return  # tasks begin at once: there is no queue of sagas
    for number in range(1, 30):
        mediator.start("s", number, saga_id=f"o-{number}")

    mediator.close(0.0)

    outcomes = drive(saga, journal=journal).recover()
    assert sorted(outcome.results["a"] for outcome in outcomes) == list(range(1, 30))
    world.go()


def test_a_step_that_outlasts_the_grace_is_not_overtaken(drive, journal, caplog):
    """The log says so; nobody takes it up while its thread lives; then it is driven on."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate(), "again"), world.step("b")])
    mediator, other = drive(saga, journal=journal), drive(saga, journal=journal)
    mediator.start("s", saga_id="o-1")
    world.begun()

    with caplog.at_level(logging.WARNING, "fsm_mediator"):
        mediator.close(0.0)
    assert "o-1" in caplog.text
    assert other.recover() == []
    assert world.calls == ["a"]
    world.go()

    assert other.run("s", saga_id="o-1").succeeded
    assert world.calls.count("b") == 1


def test_after_the_grace_no_further_step_begins(drive, journal):
    """The attempt that outlasts the grace is recorded, and the execution waits before its next step."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate()), world.step("b")])
    mediator, other = drive(saga, journal=journal), drive(saga, journal=journal)
    mediator.start("s", saga_id="o-1")
    world.begun()
    mediator.close(0.0)

    world.go()

    eventually(lambda: other.executions()[0].driver is None)
    assert world.calls == ["a"]
    assert other.run("s", saga_id="o-1").succeeded
    assert world.calls[-1] == "b"


def test_a_caller_whose_driver_was_closed_is_not_cancelled(journal):
    """A coroutine that outlasts the grace is ended; whoever awaits run gets an error of ours, not a CancelledError."""
    world = World()

    @step
    async def a(payload):
        world.calls.append("a")
        if len(world.calls) == 1:
            await asyncio.Event().wait()

    saga = Saga("s", [a])

    async def main():
        mediator = AsyncMediator(saga, journal=journal)
        task = asyncio.ensure_future(mediator.run("s", saga_id="o-1"))
        other = asyncio.ensure_future(mediator.run("s", saga_id="o-1"))
        while not world.calls:  # noqa: ASYNC110 - the step tells nobody
            await asyncio.sleep(0)
        await mediator.close(0.0)
        for each in (task, other):
            with pytest.raises((MediatorClosedError, SagaWaitingError)):
                await each
        async with AsyncMediator(saga, journal=journal) as again:
            assert (await again.recover())[0].succeeded

    asyncio.run(main())
    assert world.calls == ["a", "a"]


def test_a_step_may_close_its_own_mediator(journal):
    """A step that closes the mediator it runs on harms neither itself nor the journal."""
    world = World()
    mediator = Mediator(journal=journal)
    saga = Saga("s", [world.step("a", lambda *_: mediator.close(0.0)), world.step("b")])
    mediator.register(saga)
    with contextlib.suppress(MediatorClosedError, SagaWaitingError):
        mediator.run("s", saga_id="o-1")

    assert Mediator(saga, journal=journal).run("s", saga_id="o-1").succeeded
    assert world.calls.count("b") == 1


def test_closing_ends_its_threads(journal):
    """No worker, alarm or heartbeat outlives a closed mediator."""
    world = World()
    with threads_ended():
        with Mediator(Saga("s", [world.step("a", OSError(), "done", timeout=9.0)]), journal=journal) as mediator:
            for saga_id in [mediator.start("s") for _ in range(20)]:
                mediator.wait(saga_id)
        journal.close()


def test_an_async_mediator_of_another_loop_is_refused(journal):
    """Two loops at once cannot share one: it says so."""
    mediator = AsyncMediator(Saga("s", [World().step("a")]), journal=journal)

    async def main():
        await mediator.run("s")
        told = []

        def other():
            try:
                asyncio.run(mediator.run("s"))
            except Exception as error:
                told.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        await asyncio.to_thread(thread.join)
        await mediator.close()
        return told

    assert "one event loop" in asyncio.run(main())[0]


FORK = """
    import os, sys, threading, warnings
    from fsm_mediator import Mediator, MemoryJournal, Saga, SQLiteJournal, step

    go = threading.Event()
    begun = threading.Event()
    parent = os.getpid()

    @step
    def a(payload, context):
        if payload == "slow" and os.getpid() == parent:
            begun.set()
            go.wait(30)
        return os.getpid()

    saga = Saga("s", [a], payload=str)
    journal = {journal}
    mediator = Mediator(saga, journal=journal)
    assert mediator.run("s", "quick", saga_id="before").succeeded
    mediator.start("s", "slow", saga_id="slow")
    begun.wait(30)
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # from Python 3.12 on
    child = os.fork()
    if child == 0:
        try:
            outcome = mediator.run("s", "quick", saga_id="in-child", timeout=20)
            assert outcome.results["a"] == os.getpid()
            known = {{entry.saga_id for entry in mediator.executions()}}
            assert known == {known}, known
            assert mediator.recover() == []      # the parent drives the slow one
            mediator.close(0.0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    go.set()
    assert mediator.wait("slow", timeout=20).results["a"] == parent
    assert mediator.run("s", "quick", saga_id="after").succeeded
    mediator.close()
    print("all well")
"""


@pytest.mark.parametrize(
    ("made", "known"),
    [("MemoryJournal()", "{'in-child'}"), ("SQLiteJournal(sys.argv[1])", "{'before', 'slow', 'in-child'}")],
    ids=["memory", "sqlite"],
)
def test_forked_child_opens_its_own_journal_and_leaves_the_parents_alone(tmp_path, made, known):
    """The child is another driver: it runs its own sagas, and leaves alone what the parent is in the midst of."""
    script = textwrap.dedent(FORK.format(journal=made, known=known))
    command = [sys.executable, "-c", script, tmp_path / "sagas.db"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "all well\n", done.stderr
    assert done.stderr == ""


FORKING_STEP = """
    import logging, os, sys
    from fsm_mediator import Mediator, Saga, SQLiteJournal, step

    reads, writes = os.pipe()

    class Leave(logging.Handler):
        def emit(self, record):
            os.write(writes, record.getMessage().encode())
            os._exit(0)

    @step
    def a(payload):
        child = os.fork()
        if child == 0:
            logging.getLogger("fsm_mediator").addHandler(Leave())
        else:
            os.waitpid(child, 0)

    @step
    def b(payload):
        if parent != os.getpid():
            os.write(writes, b"the child called b")
            os._exit(0)

    parent = os.getpid()
    mediator = Mediator(Saga("s", [a, b]), journal=SQLiteJournal(sys.argv[1]))
    outcome = mediator.run("s", 1, saga_id="o-1")
    print(outcome.succeeded, os.read(reads, 1000).decode())
"""


def test_child_that_returns_from_the_step_that_forked_it_attempts_no_further_step(tmp_path):
    """If a step forks and the child also returns from the step, only the parent continues the saga."""
    command = [sys.executable, "-c", textwrap.dedent(FORKING_STEP), tmp_path / "sagas.db"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("True execution 'o-1': "), done.stdout + done.stderr
    assert "nothing was written" in done.stdout
