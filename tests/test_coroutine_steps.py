"""Coroutines under check_saga: calls that block the event loop, and cancellations that are swallowed, are found."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from fsm_mediator import Saga, Step
from fsm_mediator.testing import SagaBrokenError, check_saga, coroutines
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


@pytest.mark.parametrize(("put", "call"), [(Blocks, "time.sleep"), (Connects, "socket.connect")])
def test_a_coroutine_that_blocks_the_event_loop_is_found(put, call):
    """All other sagas of the process wait for it."""
    assert f"execute of 'put' blocks the event loop ({call})" in told(put)


def test_a_coroutine_that_swallows_its_cancellation_is_found(monkeypatch):
    """A time-out could not end it: the saga would get stuck."""
    monkeypatch.setattr(coroutines, "PATIENCE", 0.05)

    assert "execute of 'put' swallows its cancellation" in told(Swallows, only="put-is_cut_short_once")


def test_a_cancellation_that_is_taken_for_a_success_is_found():
    """A coroutine that returns when it is cancelled says that it is done, and the world shows that it is not."""
    found = told(PretendsToBeDone, only="put-is_cut_short_once")

    assert "put: the first attempt is cancelled at its first await" in found
    assert "the world is not as it is when nothing goes wrong" in found
