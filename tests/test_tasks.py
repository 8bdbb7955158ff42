"""The parts of the runtime of `AsyncMediator`: timers by two clocks, the workers of a loop, calls in tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fsm_mediator.mediator import tasks as tasks_module
from fsm_mediator.mediator.tasks import LoopEvent, LoopTimer, TaskCall, Workers, answer_of
from fsm_mediator.records import Answer, Raised, Returned


class Handle:
    """A call that a `HandLoop` was told to make."""

    def __init__(self, wait: float, call: Callable[[], object]) -> None:
        self.wait = wait
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """Note that the call must not be made."""
        self.cancelled = True


class HandLoop:
    """A loop and a clock that are moved by hand. Seconds on the loop begin at 7, those of the clock at 1000."""

    def __init__(self) -> None:
        self.now = 7.0
        self.clock = 1000.0
        self.handles: list[Handle] = []

    def time(self) -> float:
        """The time of the loop."""
        return self.now

    def call_later(self, wait: float, call: Callable[[], object]) -> Handle:
        """Note that *call* is to be made after *wait* seconds."""
        self.handles.append(Handle(wait, call))
        return self.handles[-1]

    def timer(self, time: float, fired: list[str]) -> tuple[LoopTimer, set[LoopTimer]]:
        """A timer that notes when it fires, and the set of the timers that are set."""
        timers: set[LoopTimer] = set()
        loop: Any = self
        return LoopTimer(loop, lambda: self.clock, timers, time, lambda: fired.append("fired")), timers


@pytest.mark.parametrize(
    ("time", "wait"), [(1005.0, 5.0), (1000.25, 0.25), (1000.0, 0.0), (990.0, 0.0), (1060.0, 60.0), (9000.0, 60.0)]
)
def test_timer_waits_until_its_time_in_slices_of_a_minute(time, wait):
    """A time that has passed is not waited for. A far time is looked at again, because the clock may be set."""
    loop = HandLoop()
    loop.timer(time, [])

    assert [handle.wait for handle in loop.handles] == [wait]


@pytest.mark.parametrize(
    ("by_clock", "by_loop", "wait"),
    [
        (3.0, 3.0, 2.0),
        (3.0, 4.5, 0.5),  # the clock was set back
        (4.5, 3.0, 0.5),  # the clock was set forward
        (-50.0, 4.75, 0.25),
    ],
)
def test_timer_that_is_looked_at_too_early_waits_for_the_rest(by_clock, by_loop, wait):
    """The earlier end counts: by the clock, or by the loop."""
    loop, fired = HandLoop(), list[str]()
    _, timers = loop.timer(1005.0, fired)
    loop.clock += by_clock
    loop.now += by_loop

    loop.handles[0].call()

    assert ([handle.wait for handle in loop.handles], fired, len(timers)) == ([5.0, wait], [], 1)


@pytest.mark.parametrize(("by_clock", "by_loop"), [(5.0, 5.0), (5.0, 1.0), (1.0, 5.0), (-50.0, 6.0)])
def test_timer_fires_once_one_of_its_clocks_has_come(by_clock, by_loop):
    """It is then set no more."""
    loop, fired = HandLoop(), list[str]()
    _, timers = loop.timer(1005.0, fired)
    assert len(timers) == 1
    loop.clock += by_clock
    loop.now += by_loop

    loop.handles[0].call()

    assert (fired, timers, len(loop.handles)) == (["fired"], set(), 1)


def test_cancelled_timer_of_a_loop_is_set_no_more():
    """The loop is told, and the timer is forgotten."""
    loop, fired = HandLoop(), list[str]()
    timer, timers = loop.timer(1005.0, fired)

    timer.cancel()

    assert (loop.handles[0].cancelled, timers, fired) == (True, set(), [])


def test_workers_that_wait_do_not_count_and_those_in_coroutines_count_less(monkeypatch):
    """Two may work in plain functions, four in all. A task that is no worker changes nothing."""
    monkeypatch.setattr(tasks_module, "MOST_AT_WORK", 4)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        workers = Workers(loop, 2)
        assert workers.free == 2
        go, rest = asyncio.Event(), asyncio.Event()

        async def work(**aside: bool) -> None:
            with workers.aside(**aside):
                assert workers.freed.is_set()
                workers.freed.clear()
                await go.wait()
            await rest.wait()

        async def plain() -> None:
            await go.wait()

        async def begin(*works: Any) -> list[asyncio.Task[None]]:
            begun = [loop.create_task(each) for each in works]
            for each in begun:
                workers.add(each)
            await asyncio.sleep(0)
            return begun

        for aside in (True, False):
            begun = await begin(work(waits=aside))
            assert workers.free == 2
            go.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert workers.free == 1  # it works again after its wait
            go.clear()
            workers.ended(begun[0])
            begun[0].cancel()
        begun = await begin(work(), work())
        assert workers.free == 2
        begun += await begin(work(waits=False), work(waits=False), work(waits=False))
        assert workers.free == 1
        begun += await begin(work(waits=False))
        assert workers.free == 0
        begun += await begin(plain(), plain(), plain())
        assert workers.free == 0
        with workers.aside():
            assert workers.free == 0
        go.set()
        rest.set()
        await asyncio.gather(*begun)
        for each in begun:
            workers.freed.clear()
            workers.ended(each)
            assert workers.freed.is_set()
        assert workers.free == 2
        begun = await begin(plain())
        assert workers.free == 1
        await asyncio.gather(*begun)

    asyncio.run(main())


def test_event_is_set_by_any_thread_and_after_its_loop():
    """At once on its loop, soon from another thread, and without an error if the loop is closed."""

    async def main() -> LoopEvent:
        event = LoopEvent(asyncio.get_running_loop())
        thread = threading.Thread(target=event.set)
        thread.start()
        thread.join()
        assert not event.is_set()
        await asyncio.wait_for(event.wait(), 30)
        event.clear()
        event.set()
        assert event.is_set()
        return LoopEvent(asyncio.get_running_loop())

    late = asyncio.run(main())
    late.set()
    assert not late.is_set()


@pytest.mark.parametrize("blocks", [True, False])
def test_call_in_a_task_knows_its_answer(blocks):
    """A value, an error, or a cancellation. Before the answer it is not answered, and cannot be prevented."""

    async def fails() -> None:
        raise ValueError("no")

    async def main() -> None:
        loop, told = asyncio.get_running_loop(), list[Any]()
        for work, value, error in (
            (asyncio.sleep(0, "done"), "done", None),
            (fails(), None, "ValueError('no')"),
            (asyncio.sleep(60), None, "CancelledError()"),
        ):
            task: asyncio.Task[Answer] = loop.create_task(answer_of(work))
            call = TaskCall(task, lambda function, *given: told.append((function, given)), blocks=blocks)
            call.add_done_callback(print)
            assert (call.answered, call.revoke(), told) == (False, False, [])
            if error == "CancelledError()":
                await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait((task,))
            await asyncio.sleep(0)
            assert (call.answered, call.revoke()) == (blocks, True)
            assert call.value == value
            assert (None if call.error is None else repr(call.error)) == error
            assert told == [(print, (call,))]
            told.clear()

    asyncio.run(main())


def test_answer_of_a_coroutine_is_what_it_did():
    """An error is an answer. A cancellation of the task, and Ctrl-C, are none."""

    async def raises(error: BaseException) -> None:
        raise error

    async def main() -> None:
        assert await answer_of(asyncio.sleep(0, 5)) == Returned(5)
        answer = await answer_of(raises(SystemExit(3)))
        assert isinstance(answer, Raised)
        assert repr(answer.error) == "SystemExit(3)"
        with pytest.raises(asyncio.CancelledError):
            await answer_of(raises(asyncio.CancelledError()))
        with pytest.raises(KeyboardInterrupt):
            await answer_of(raises(KeyboardInterrupt()))

    asyncio.run(main())
