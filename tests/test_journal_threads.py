"""The threads that call a journal for an event loop: few wake-ups, and nothing that is lost, kept or left running."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from fsm_mediator import AsyncMediator, Saga, SQLiteJournal, step
from fsm_mediator.mediator.journal_threads import JournalThreads
from fsm_mediator.testing import VirtualClock
from tests.drivers import eventually, impatient

__all__ = ["impatient"]


@step
async def a(payload):
    """Does nothing."""


@step
async def b(payload):
    """Does nothing."""


def on_threads(work, most=2):
    """Run *work*, which gets such threads."""

    async def main():
        threads = JournalThreads(asyncio.get_running_loop(), most, "calls")
        try:
            await work(threads)
        finally:
            threads.stop()

    asyncio.run(main())


def named(name="calls"):
    """The threads with this name that run."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def test_a_commit_wakes_one_thread_and_the_loop_once(tmp_path):
    """A run of two steps is three commits: as many calls from a thread, from the same thread, and no task for any."""
    wakes: list[str] = []
    tasks: list[object] = []

    class Loop(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *arguments, **settings):  # type: ignore[override]
            wakes.append(threading.current_thread().name)
            return super().call_soon_threadsafe(*arguments, **settings)

        def create_task(self, *arguments, **settings):
            task = super().create_task(*arguments, **settings)
            tasks.append(task)
            return task

    async def main():
        async with AsyncMediator(Saga("s", [a, b]), journal=journal) as mediator:
            await mediator.run("s")
            wakes.clear()
            tasks.clear()
            await mediator.run("s")
            assert wakes == ["fsm-mediator-journal_0"] * 3
            assert len(tasks) <= 1  # the run's own, which Python 3.12 begins at once

    journal = SQLiteJournal(tmp_path / "sagas.db")
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
    journal.close()


def test_threads_are_made_as_calls_need_them():
    """One call after the other takes one thread; many at once take no more than allowed, and all are answered."""

    async def work(threads):
        for _ in range(5):
            await threads.call(len, "abc")
        assert len(named()) == 1
        both = threading.Barrier(2)
        assert sorted(await asyncio.gather(*(threads.call(both.wait, 30.0) for _ in range(6)))) == [0, 0, 0, 1, 1, 1]
        assert len(named()) == 2

    on_threads(work)
    eventually(lambda: not named())


def test_an_error_of_a_call_is_raised_where_it_is_awaited():
    """It comes without a frame of this library's own, and no thread keeps what was called with."""

    class Argument:
        pass

    def fails(argument):
        raise LookupError("no such row")

    async def work(threads):
        argument = Argument()
        kept = weakref.ref(argument)
        with pytest.raises(LookupError, match="no such row"):
            await threads.call(fails, argument)
        del argument
        await threads.call(len, "")  # the thread waits again
        gc.collect()
        assert kept() is None

    on_threads(work, most=1)


def test_a_call_whose_caller_was_cancelled_before_it_began_is_not_made():
    """A claim that nothing waits for any more would leave an execution with an owner who does not drive it."""
    made: list[str] = []

    async def work(threads):
        go = threading.Event()
        first = asyncio.ensure_future(threads.call(go.wait, 30.0))
        second = asyncio.ensure_future(threads.call(made.append, "made"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        go.set()
        assert await first
        await threads.call(len, "")
        assert made == []

    on_threads(work, most=1)


def test_threads_of_a_mediator_that_is_never_closed_end():
    """Without a reference to them nothing calls them any more."""

    async def main():
        threads = JournalThreads(asyncio.get_running_loop(), 2, "forgotten")
        await threads.call(len, "")

    asyncio.run(main())
    gc.collect()
    eventually(lambda: not named("forgotten"))


def test_an_answer_that_comes_after_the_loop_was_closed_is_dropped():
    """The thread ends as usual."""
    go = threading.Event()
    loop = asyncio.new_event_loop()
    threads = JournalThreads(loop, 1, "late")
    threads.submit(go.wait, (30.0,), lambda result, error: None)
    loop.close()
    go.set()
    threads.stop()
    eventually(lambda: not named("late"))


def test_one_thread_is_enough_where_the_system_has_no_more(monkeypatch):
    """Without any thread the call is refused; with one, further calls wait for it."""
    allowed: list[str] = []

    class Thread(threading.Thread):
        def start(self):
            if not allowed:
                raise RuntimeError("can't start new thread")
            allowed.pop()
            super().start()

    async def work(threads):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await threads.call(len, "")
        allowed.append("one")
        assert await asyncio.gather(*(threads.call(len, "abc") for _ in range(3))) == [3, 3, 3]
        assert len(named()) == 1

    monkeypatch.setattr("fsm_mediator.mediator.journal_threads.threading.Thread", Thread)
    on_threads(work)


def test_a_commit_for_which_there_is_no_thread_is_tried_again(tmp_path, impatient, monkeypatch, caplog):
    """To the driver it is a fault of the journal like any other."""
    journal = SQLiteJournal(tmp_path / "sagas.db")
    refusals = ["can't start new thread"] * 2
    submit = JournalThreads.submit

    def refusing(self, function, *arguments):
        if refusals and function == journal.write_all:
            raise RuntimeError(refusals.pop())
        submit(self, function, *arguments)

    async def main():
        async with AsyncMediator(Saga("s", [a, b]), journal=journal) as mediator:
            assert (await mediator.run("s")).succeeded

    monkeypatch.setattr(JournalThreads, "submit", refusing)
    asyncio.run(main())
    assert sum("can't start new thread; trying again" in message for message in caplog.messages) == 2
    journal.close()


def test_a_virtual_clock_does_not_jump_while_a_commit_is_written(tmp_path):
    """A journal that takes a real moment is not timed out by hours that never passed."""
    go = threading.Event()

    class Slow(SQLiteJournal):
        def write_all(self, commits):
            go.wait(30.0)
            return super().write_all(commits)

    loop = VirtualClock().event_loop()
    journal = Slow(tmp_path / "sagas.db")

    async def main():
        async with AsyncMediator(Saga("s", [a, b]), journal=journal) as mediator:
            asyncio.get_running_loop().call_later(0.001, go.set)
            async with asyncio.timeout(3600):
                assert (await mediator.run("s")).succeeded
        assert asyncio.get_running_loop().time() < 3600

    loop.run_until_complete(main())
    loop.close()
    journal.close()
