"""What is Restate's alone, on a real server: workers and servers that are killed, executions that are suspended."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("restate", reason="the extra `restate` is not installed: make engines")

import httpx

from fsm_mediator import (
    JournalError,
    Parallel,
    Retry,
    Saga,
    SagaIdTakenError,
    Signal,
    Sleep,
    StillRunningError,
    conforms,
    step,
)
from fsm_mediator.engines.restate import RestateMediator, worker
from fsm_mediator.engines.restate import worker as restate_worker_of
from tests.engines.backends import ROOT, Undone, Work, restate, run, until
from tests.engines.restate_worker import sagas
from tests.engines.servers import RestateServer, free_ports

pytestmark = pytest.mark.engines

PATIENCE = 120.0
KILLS = ("worker", "server", "worker", "worker", "server")


@contextlib.asynccontextmanager
async def client_of(server: RestateServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of its ingress."""
    async with httpx.AsyncClient(base_url=server.ingress) as client:
        yield client


class Process:
    """A worker in a process, at an address of its own."""

    def __init__(self, server: RestateServer, ledger: Path) -> None:
        self.arguments = [f"127.0.0.1:{free_ports(1)[0]}", server.admin, str(ledger)]

    async def start(self) -> asyncio.subprocess.Process:
        """Start it, also again, and wait until Restate knows it."""
        words = [sys.executable, "-m", "tests.engines.restate_worker", *self.arguments]
        self.process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        assert self.process.stdout is not None
        assert await self.process.stdout.readline() == b"ready\n"
        return self.process

    async def kill(self) -> None:
        """End it as a crash does."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


@pytest.mark.parametrize("name", ["repeatable", "once"])
def test_a_worker_that_dies_leaves_its_attempt_in_doubt(restate_server, tmp_path, name):
    """A process that dies in a step: the next worker repeats it with the next attempt, in doubt, if it may."""
    ledger = tmp_path / "ledger"

    async def all_of_it() -> None:
        process = Process(restate_server, ledger)
        async with asyncio.timeout(PATIENCE), client_of(restate_server) as client:
            mediator = RestateMediator(*sagas(ledger), client=client)
            try:
                first = await process.start()
                await mediator.start(name, saga_id=f"dies-{name}")
                assert await first.wait() == 9
                await process.start()
                outcome = await mediator.wait(f"dies-{name}", check=False)
            finally:
                await process.kill()
        events = [record.event for record in outcome.history]
        if name == "repeatable":
            assert outcome.results == {"dies": True}
            assert events == ["start", "errored", "retry_due", "executed"]
            assert ledger.read_text() == "1\n2\n"
        else:
            assert outcome.failed
            assert outcome.leftovers == ("dies",)
            assert ledger.read_text() == "1\n"
        assert outcome.history[1].error is not None
        assert outcome.history[1].error.type == "fsm_mediator.errors.AttemptCrashedError"

    asyncio.run(all_of_it())


def test_kills_of_workers_and_of_the_server_lose_and_repeat_nothing(restate_server, tmp_path):
    """SIGKILL for worker and server, again and again: all succeed, each attempt is made once, each crash has a kill."""
    ledger = tmp_path / "ledger"
    ledger.touch()
    ids = [f"killed-{number}" for number in range(8)]

    async def lines(more: int) -> None:
        """Wait until so many more attempts have begun, or all have ended."""
        async with asyncio.timeout(PATIENCE):
            seen = len(ledger.read_text().splitlines())
            while len(ledger.read_text().splitlines()) < min(seen + more, 5 * len(ids)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def all_of_it() -> None:
        process = Process(restate_server, ledger)
        async with client_of(restate_server) as client:
            mediator = RestateMediator(*sagas(ledger), client=client)
            try:
                await process.start()
                for saga_id in ids:
                    await mediator.start("whole", {"seconds": 0.2}, saga_id=saga_id)
                for what in KILLS:
                    await lines(4)
                    if what == "worker":
                        await process.kill()
                        await process.start()
                    else:
                        restate_server.kill()
                        restate_server.start()
                for saga_id in ids:
                    outcome = await mediator.wait(saga_id, timeout=PATIENCE)
                    assert outcome.succeeded, outcome
                    assert conforms(outcome.history, sagas(ledger)[2]).ok
                    crashes = [record for record in outcome.history if record.event == "errored"]
                    assert len(crashes) <= KILLS.count("worker"), outcome.history
            finally:
                await process.kill()

    asyncio.run(all_of_it())
    attempts = Counter(ledger.read_text().splitlines())
    assert {line: times for line, times in attempts.items() if times > 1} == {}
    assert len({line.rpartition(" ")[0] for line in attempts}) == 5 * len(ids)


def test_a_step_outlives_the_server(restate_server):
    """The server is killed while a step runs: the worker goes on, and its answer counts. Nothing is repeated."""
    entered, go_on, calls = threading.Event(), threading.Event(), list[int]()

    @step(retry=Retry(attempts=1), repeatable=False)
    def long(payload: Any, context: Any) -> str:
        calls.append(context.attempt)
        entered.set()
        go_on.wait(PATIENCE)
        return "done"

    saga = Saga("outlives", [long, Work("after", set())])

    async def body(mediator: RestateMediator) -> None:
        await mediator.start("outlives", saga_id="k1")
        await asyncio.to_thread(entered.wait, PATIENCE)
        restate_server.kill()
        await asyncio.to_thread(restate_server.start)
        go_on.set()
        outcome = await mediator.wait("k1", timeout=PATIENCE)
        assert [record.event for record in outcome.history] == ["start", "executed", "executed"]

    run(restate(restate_server, saga), body)
    assert calls == [1]


def test_a_worker_that_stops_leaves_no_doubt(restate_server):
    """A worker that is closed lets its attempt end, and begins no other: the next one goes on, and nothing crashed."""
    entered, go_on, calls = threading.Event(), threading.Event(), list[str]()

    @step(retry=Retry(attempts=1), repeatable=False)
    def long(payload: Any) -> str:
        calls.append("long")
        entered.set()
        go_on.wait(PATIENCE)
        return "done"

    saga = Saga("stops", [long, Work("after", set(), calls=calls)])
    bind = f"127.0.0.1:{free_ports(1)[0]}"

    async def all_of_it() -> None:
        async with asyncio.timeout(PATIENCE), client_of(restate_server) as client:
            mediator = RestateMediator(saga, client=client)
            async with worker(saga, bind=bind, admin=restate_server.admin):
                await mediator.start("stops", saga_id="g1")
                await asyncio.to_thread(entered.wait, PATIENCE)
                asyncio.get_running_loop().call_soon(go_on.set)
            assert calls == ["long"]
            async with worker(saga, bind=bind):
                outcome = await mediator.wait("g1")
        assert [record.event for record in outcome.history] == ["start", "executed", "executed"]
        assert calls == ["long", "after"]

    asyncio.run(all_of_it())


def test_what_restate_suspends_goes_on_without_doubt(restate_server, monkeypatch):
    """Restate takes a waiting execution from the worker, and one whose step takes long: neither counts as crashed."""
    monkeypatch.setattr(sys.modules[restate_worker_of.__module__], "INACTIVITY", 1.0)
    idle = threading.Event()

    @step(retry=Retry(attempts=1), repeatable=False)
    def long(payload: Any) -> None:
        idle.wait(3.0)  # nobody sets it; Restate's timer is over meanwhile

    group = Parallel("g", [Saga("b", [Sleep("nap", 2.5), Undone("b1", set())]), Undone("a", set())])
    saga = Saga("suspended", [long, Work("a", set()), Signal("go", timeout=3600.0), Work("b", set()), group])

    async def body(mediator: RestateMediator) -> None:
        async def suspended() -> bool:
            query = "SELECT status FROM sys_invocation WHERE target_service_key = 'q1' AND target_handler_name = 'run'"
            async with httpx.AsyncClient(base_url=restate_server.admin) as admin:
                answer = await admin.post("/query", json={"query": query}, headers={"accept": "application/json"})
            return [row["status"] for row in answer.json()["rows"]] == ["suspended"]

        await mediator.run("suspended", saga_id="q1", check=False)
        await until(suspended)
        await mediator.signal("q1", "go")
        outcome = await until(lambda: done(mediator))
        assert outcome.succeeded
        assert {record.event for record in outcome.history} == {"start", "executed"}
        assert {record.event for record in (await mediator.outcome("q1/g.b")).history} == {"start", "executed"}

    async def done(mediator: RestateMediator) -> Any:
        outcome = await mediator.outcome("q1")
        return outcome if outcome.ended else None

    run(restate(restate_server, saga), body)


def test_a_worker_that_knows_another_definition_leaves_it(restate_server):
    """A saga is driven by the worker that knows its shape; one with another shape does not crash its attempts."""
    old, new = Saga("shape", [Work("a", set()), Work("b", set())]), Saga("shape", [Work("a", set())])
    bind = f"127.0.0.1:{free_ports(1)[0]}"

    async def all_of_it() -> None:
        async with asyncio.timeout(PATIENCE), client_of(restate_server) as client:
            mediator = RestateMediator(old, client=client)
            async with worker(new, bind=bind, admin=restate_server.admin):
                await mediator.start("shape", saga_id="d1")
                with pytest.raises(StillRunningError):
                    await mediator.wait("d1", timeout=1.5)
            async with worker(old, bind=bind):
                outcome = await mediator.wait("d1")
        assert [record.event for record in outcome.history] == ["start", "executed", "executed"]

    asyncio.run(all_of_it())


def test_a_verb_without_a_worker_says_so(restate_server):
    """Nobody to judge it: the caller is told."""
    saga = Saga("alone", [Signal("go")])

    async def all_of_it() -> None:
        async with client_of(restate_server) as client:
            async with worker(saga, bind=f"127.0.0.1:{free_ports(1)[0]}", admin=restate_server.admin):
                await RestateMediator(saga, client=client).run("alone", saga_id="l1", check=False)
            with pytest.raises(StillRunningError, match="check that a worker runs"):
                await RestateMediator(saga, client=client).cancel("l1", timeout=1.0)

    asyncio.run(all_of_it())


def test_a_new_execution_is_run_by_one_request(restate_server):
    """The request begins it and waits for its end. An execution that was there before needs more requests."""
    saga, asked = Saga("asked", [Work("a", set())]), []

    async def note(request: httpx.Request) -> None:
        asked.append(request.url.path)

    async def all_of_it() -> None:
        async with client_of(restate_server) as client:
            client.event_hooks["request"] = [note]
            async with worker(saga, bind=f"127.0.0.1:{free_ports(1)[0]}", admin=restate_server.admin):
                mediator = RestateMediator(saga, client=client)
                for paths in (["run"], ["run", "output", "output", "attach", "output"]):
                    asked.clear()
                    await mediator.run("asked", saga_id="asked-1")
                    seen = [path.partition("asked-1/")[2] or path.rpartition("/")[2] for path in asked]
                    assert [path for path in seen if path != "standing"] == paths
                with pytest.raises(SagaIdTakenError):
                    await mediator.run("asked", "another payload", saga_id="asked-1")

    asyncio.run(all_of_it())


class Broken(httpx.AsyncHTTPTransport):
    """A connection that breaks once, before a request is sent or after it was answered."""

    def __init__(self, moment: str) -> None:
        super().__init__()
        self.moment = moment

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, but for the first."""
        moment, self.moment = self.moment, ""
        if moment == "before":
            raise httpx.ConnectError("cut before", request=request)
        response = await super().handle_async_request(request)
        if moment == "after":
            await response.aclose()
            raise httpx.ReadError("cut after", request=request)
        return response


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_whose_connection_breaks_is_joined(restate_server, moment):
    """Restate has the execution or not: in both cases it runs once, and the call returns its outcome."""
    done: list[str] = []
    saga = Saga("cut", [step(name="a")(lambda payload: done.append("a"))])

    async def all_of_it() -> None:
        bind = f"127.0.0.1:{free_ports(1)[0]}"
        async with (
            httpx.AsyncClient(base_url=restate_server.ingress, transport=Broken(moment)) as client,
            worker(saga, bind=bind, admin=restate_server.admin),
        ):
            outcome = await RestateMediator(saga, client=client).run("cut", saga_id=f"cut-{moment}")
            assert (outcome.state, done) == ("succeeded", ["a"])

    asyncio.run(all_of_it())


def test_a_server_that_is_not_there_is_named():
    """The message says where it was looked for, and that a start can be repeated."""
    url = f"http://127.0.0.1:{free_ports(1)[0]}"

    async def all_of_it() -> None:
        async with httpx.AsyncClient(base_url=url) as client:
            with pytest.raises(JournalError, match=f"does not answer at {url}.*same saga_id"):
                await RestateMediator(Saga("any", [Work("a", set())]), client=client).start("any")
        with pytest.raises(JournalError, match=f"admin API does not answer at {url}"):
            async with worker(bind=f"127.0.0.1:{free_ports(1)[0]}", admin=url):
                pass

    asyncio.run(all_of_it())
