"""Engines: three steps that do nothing, as native code of an engine and as a saga on the engine.

The CPU time of client and server is measured.

``python -m benchmarks.engines`` starts the servers that it finds, and names the servers that it does not find. The
native code and our saga run in turn on one server, and each ratio is from such a pair, so other load on the machine
affects both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import restate_native, temporal_native
from fsm_mediator import Saga, step
from tests.engines.servers import RestateServer, TemporalServer, free_ports

WIDTHS = (1, 16)
"""How many sagas at a time."""

Run = Callable[[str], Awaitable[Any]]


def saga() -> Saga:
    """A saga of three steps that do nothing."""
    return Saga("w3", [step(name=name)(lambda payload: None) for name in "abc"])


def spent(pid: int) -> float:
    """The seconds of CPU time that this process and the server have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


async def one_sample(run: Callable[[str], Awaitable[Any]], number: int, width: int, pid: int) -> tuple[float, float]:
    """Run sagas, *width* at a time.

    Returns the milliseconds of CPU time for each saga, and the number of sagas per second.
    """
    ids = iter([uuid.uuid4().hex for _ in range(number)])

    async def some() -> None:
        for saga_id in ids:
            await run(saga_id)

    began, used = time.perf_counter(), spent(pid)
    await asyncio.gather(*(some() for _ in range(width)))
    return (spent(pid) - used) / number * 1e3, number / (time.perf_counter() - began)


async def compare(engine: str, native: Run, ours: Run, pid: int, arguments: argparse.Namespace) -> None:
    """Measure both in turn, and print the results."""
    for width in WIDTHS:
        ratios, costs, rates = [], [], []
        await one_sample(native, width, width, pid)
        await one_sample(ours, width, width, pid)
        number = max(arguments.number, width)
        for _ in range(arguments.rounds):
            theirs, their_rate = await one_sample(native, number, width, pid)
            mine, my_rate = await one_sample(ours, number, width, pid)
            ratios.append(mine / theirs)
            costs.append((theirs, mine))
            rates.append((their_rate, my_rate))
        theirs, mine = (statistics.median(column) for column in zip(*costs, strict=True))
        their_rate, my_rate = (statistics.median(column) for column in zip(*rates, strict=True))
        print(
            f"{engine}, {width} at a time: native {theirs:.1f} ms of CPU a saga ({their_rate:.1f}/s), "
            f"ours {mine:.1f} ({my_rate:.1f}/s); "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


async def on_temporal(server: TemporalServer, arguments: argparse.Namespace) -> None:
    """Measure both on Temporal."""
    from temporalio.client import Client

    from fsm_mediator.engines.temporal import TemporalMediator, worker

    client = await Client.connect(server.address)
    async with temporal_native.worker(client), worker(saga(), client=client, max_workers=64):
        mediator = TemporalMediator(saga(), client=client)
        await compare(
            "Temporal",
            lambda saga_id: temporal_native.run(client, saga_id),
            lambda saga_id: mediator.run("w3", saga_id=saga_id),
            server.process.pid,
            arguments,
        )


async def on_restate(server: RestateServer, arguments: argparse.Namespace) -> None:
    """Measure both on Restate."""
    import httpx

    from fsm_mediator.engines.restate import RestateMediator, worker

    binds = [f"127.0.0.1:{port}" for port in free_ports(2)]
    async with (
        restate_native.worker(binds[0], server.admin),
        worker(saga(), bind=binds[1], admin=server.admin, max_workers=64),
        httpx.AsyncClient(base_url=server.ingress) as client,
    ):
        mediator = RestateMediator(saga(), client=client)
        await compare(
            "Restate",
            lambda saga_id: restate_native.run(client, saga_id),
            lambda saga_id: mediator.run("w3", saga_id=saga_id),
            server.process.pid,
            arguments,
        )


ENGINES: dict[str, tuple[Any, Any]] = {
    "temporalio": (TemporalServer, on_temporal),
    "restate": (RestateServer, on_restate),
}
"""By the module that an engine needs: its server, and the measurement on it."""


def main() -> None:
    """Measure on every engine that has a server on this machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of samples for each width")
    parser.add_argument("--number", type=int, default=64, help="sagas in a sample")
    arguments = parser.parse_args()
    for module, (server_of, measure) in ENGINES.items():
        if find_spec(module) is None:
            print(f"{module}: skipped, it is not installed; make engines installs it")
            continue
        try:
            server = server_of()
        except pytest.skip.Exception as missing:
            print(f"{module}: skipped: {missing}")
            continue
        try:
            asyncio.run(measure(server, arguments))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
