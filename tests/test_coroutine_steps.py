"""Coroutines under check_saga: calls that block the event loop, and cancellations that are swallowed, are found."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fsm_mediator import DefinitionError, Retry, Saga, Step
from fsm_mediator.testing import SagaBrokenError, VirtualClock, check_saga
from tests.fake_services import ORDER, FakeService


class Put(Step):
    """A right step: it awaits, and lets its cancellation pass, after it has cleaned up."""

    def __init__(self, shelf: FakeService) -> None:
        self.name = "put"
        self.shelf = shelf

    async def execute(self, order, context):
        try:
            await asyncio.to_thread(time.sleep, 0.001)
            self.shelf.put(context.idempotency_key, order["amount"])
        finally:
            await asyncio.sleep(0.001)

    async def compensate(self, order, context):
        await asyncio.sleep(0)
        self.shelf.held.pop(context.execute_key, None)


class Blocks(Put):
    """It sleeps as a thread does."""

    async def execute(self, order, context):
        time.sleep(0.001)  # noqa: ASYNC251 - that is the mistake
        await super().execute(order, context)


class Connects(Put):
    """It connects as a thread does."""

    async def execute(self, order, context):
        with socket.socket() as found:
            found.settimeout(0.01)
            found.connect_ex(("127.0.0.1", 9))
        await super().execute(order, context)


class Waits(Put):
    """It waits for a thread as a thread does."""

    async def execute(self, order, context):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(time.sleep, 0.05).result()
        await super().execute(order, context)


class Swallows(Put):
    """It goes on when it is cancelled."""

    async def execute(self, order, context):
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            await asyncio.sleep(3600)
        self.shelf.put(context.idempotency_key, order["amount"])


class PretendsToBeDone(Put):
    """It takes its cancellation for a success."""

    async def execute(self, order, context):
        try:
            await super().execute(order, context)
        except asyncio.CancelledError:
            return "done"


def shop(put: Any) -> Any:
    """A function that makes a saga of one step."""

    def make():
        shelf = FakeService()
        return Saga("shop", [put(shelf)]), lambda: shelf.held

    return make


def told(put: Any, **settings: Any) -> str:
    """What is told of the broken saga."""
    with pytest.raises(SagaBrokenError) as caught:
        check_saga(shop(put), ORDER, **settings)
    return str(caught.value)


def test_a_right_coroutine_survives():
    """A thread of its own may block, and a cancelled coroutine may clean up."""
    report = check_saga(shop(Put), ORDER)

    assert not report.broken
    assert {"put-is_cut_short_once", "undo_put-is_cut_short_once"} <= {case.id for case in report.cases}


@pytest.mark.parametrize(
    ("put", "call"), [(Blocks, "time.sleep"), (Connects, "socket.connect"), (Waits, "threading.Condition.wait")]
)
def test_a_coroutine_that_blocks_the_event_loop_is_found(put, call):
    """All other sagas of the process wait for it."""
    assert f"execute of 'put' blocks the event loop ({call})" in told(put)


def test_a_coroutine_that_swallows_its_cancellation_is_found():
    """A time-out could not end it: the saga would get stuck. The patience is virtual, and takes no time."""
    assert "execute of 'put' swallows its cancellation" in told(Swallows, only="put-is_cut_short_once")


def test_a_cancellation_that_is_taken_for_a_success_is_found():
    """A coroutine that returns when it is cancelled says that it is done, and the world shows that it is not."""
    found = told(PretendsToBeDone, only="put-is_cut_short_once")

    assert "put: the first attempt is cancelled at its first await" in found
    assert "the world is not as it is when nothing goes wrong" in found


class TakesHours(Put):
    """It polls a slow service, once an hour."""

    async def execute(self, order, context):
        for _ in range(3):
            await asyncio.sleep(3600)
        await super().execute(order, context)


def test_hours_in_a_coroutine_take_no_time():
    """The waits of coroutines pass on the virtual clock, as those of the saga."""
    report = check_saga(shop(TakesHours), ORDER)

    assert not report.broken
    assert report.cases[0].outcome.history[-1].at - report.cases[0].outcome.history[0].at > 3 * 3600


class IsTooSlow(Put):
    """Its time-out is shorter than its work; a time-out ends it, each time."""

    timeout = 60.0
    retry = Retry(attempts=2)

    async def execute(self, order, context):
        await asyncio.sleep(3600)
        self.shelf.put(context.idempotency_key, order["amount"])


def test_a_time_out_of_a_coroutine_strikes_on_the_virtual_clock():
    """A step that is really too slow is ended by its time-out, and the check says that the saga does not succeed."""
    with pytest.raises(DefinitionError, match="the saga does not succeed with this payload even without faults"):
        check_saga(shop(IsTooSlow), ORDER)


def test_time_does_not_jump_while_a_thread_works():
    """A coroutine that waits for a thread is not timed out by hours that never passed."""
    loop = VirtualClock().event_loop()
    go = threading.Event()

    async def work():
        asyncio.get_running_loop().call_later(0.001, go.set)  # real time passes, and so this comes
        async with asyncio.timeout(3600):
            await asyncio.to_thread(go.wait, 60)

    loop.run_until_complete(work())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()

    assert go.is_set()
    assert loop.time() < 3600


def test_sleeps_of_tasks_pass_in_the_order_of_their_ends():
    """On the loop of a clock, the shorter of two sleeps ends first, and the clock moves with both."""
    clock = VirtualClock(0.0)
    ends: list[tuple[str, float]] = []

    async def sleep(name, seconds):
        await clock.sleep_async(seconds)
        ends.append((name, round(clock())))

    async def both():
        await asyncio.gather(sleep("long", 7200.0), sleep("short", 60.0))

    with asyncio.Runner(loop_factory=clock.event_loop) as runner:
        runner.run(both())

    assert ends == [("short", 60), ("long", 7200)]
    assert clock.slept == [7200.0, 60.0]


def test_a_plain_step_among_coroutines_is_not_timed_out_by_a_jump():
    """A plain function works in a thread: its time-out passes in real time, however little else there is to do."""

    class Plain(Step):
        name = "plain"
        timeout = 3600.0

        def __init__(self, shelf):
            self.shelf = shelf

        def execute(self, order, context):
            time.sleep(0.01)
            self.shelf.put(context.idempotency_key, order["amount"])

        def compensate(self, order, context):
            self.shelf.held.pop(context.execute_key, None)

    def make():
        shelf = FakeService()
        return Saga("shop", [Plain(shelf), Put(shelf)]), lambda: shelf.held

    assert not check_saga(make, ORDER, only=["put-is_rejected"]).broken
