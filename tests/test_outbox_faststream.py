"""Messages of an outbox, published by FastStream to a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faststream.redis import RedisBroker, RedisStreamMessage, StreamSub

from fsm_mediator import AsyncMediator, Saga
from tests.shops import Shop, address
from tests.test_outbox import note, session_of

PROGRAM = shutil.which("redis-server", path=f"{os.environ.get('PATH', '')}:/usr/bin")
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(PROGRAM is None, reason="there is no redis-server; apt install redis-server"),
]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The URL of a Redis on a free port, which keeps nothing on disk."""
    assert PROGRAM is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen([PROGRAM, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            assert process.poll() is None, "redis-server did not start"
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def test_subscriber_is_given_each_message_in_order_with_its_id(redis, tmp_path):
    """Emitted in a transaction on PostgreSQL, relayed by the daemon, published to a stream, read by a subscriber."""
    received: list[tuple[Any, ...]] = []

    async def run() -> None:
        broker = RedisBroker(redis)

        @broker.subscriber(stream=StreamSub("orders.paid", last_id="0"))
        async def take(body: dict[str, int], message: RedisStreamMessage) -> None:
            received.append((body, message.correlation_id, message.headers["key"]))

        async def publish(topic: str, payload: Any, key: str, message_id: str) -> None:
            await broker.publish(payload, stream=topic, correlation_id=message_id, headers={"key": key})

        shop = Shop("psycopg", address("psycopg", tmp_path), publish=publish)
        session = session_of(shop)
        for number in range(3):
            shop.tx.emit(session, "orders.paid", {"order": number}, key="customer-7")
        session.commit()
        shop.tx.emit(session, "orders.paid", {"order": 99}, key="customer-7")
        session.rollback()
        session.close()
        async with broker:
            await broker.start()
            async with AsyncMediator(Saga("order", [note]), relays=[shop.tx]) as mediator, mediator.daemon(poll=0.05):
                for _ in range(1200):
                    if len(received) >= 3 and (await asyncio.to_thread(shop.tx.lag)).waiting == 0:
                        break
                    await asyncio.sleep(0.05)

    asyncio.run(run())

    assert [body for body, *_ in received] == [{"order": 0}, {"order": 1}, {"order": 2}]
    assert [message_id for _, message_id, _ in received] == [f"fsm_mediator_outbox:{number}" for number in (1, 2, 3)]
    assert {key for *_, key in received} == {"customer-7"}
