"""OpenTelemetry in an app: beside instrumentations of FastAPI, httpx and SQLAlchemy, after a fork, without an SDK."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastapi
import httpx
import pytest
import sqlalchemy
import uvicorn
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from fsm_mediator import Saga, Signal, step
from fsm_mediator.contrib.fastapi import MediatorDep, saga_lifespan
from fsm_mediator.telemetry import Telemetry
from fsm_mediator.transactions import Transactions
from tests.drivers import PATIENCE, eventually
from tests.otlp import attributes, exporting, links_of, receiving, tree

ROOT = Path(__file__).parent.parent


@pytest.fixture
def receiver():
    """A receiver, for one test."""
    with receiving() as server:
        yield server


@contextlib.contextmanager
def serving(app: fastapi.FastAPI, tracing: TracerProvider) -> Iterator[str]:
    """The address at which uvicorn serves *app*, which is instrumented."""
    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"], tracer_provider=tracing)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            eventually(lambda: server.started or not thread.is_alive())
            assert server.started
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            FastAPIInstrumentor.uninstrument_app(app)


@contextlib.contextmanager
def instrumented(engine: sqlalchemy.Engine, tracing: TracerProvider) -> Iterator[None]:
    """The instrumentations of the database and of the client are in use."""
    HTTPXClientInstrumentor().instrument(tracer_provider=tracing)
    SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=tracing)
    try:
        yield
    finally:
        SQLAlchemyInstrumentor().uninstrument()
        HTTPXClientInstrumentor().uninstrument()


def payments_app() -> fastapi.FastAPI:
    """A participant: an app of another team."""
    app = fastapi.FastAPI()

    @app.post("/charges/{key}")
    async def charge(key: str) -> str:
        return f"charged {key}"

    return app


def checkout(engine: sqlalchemy.Engine, payments: str) -> Saga:
    """The first step writes to the app's database, the second awaits a client, the last calls a client in a thread."""
    tx = Transactions.sqlalchemy(engine)
    tx.migrate()

    @tx.step
    def reserve(session, payload):
        session.execute(sqlalchemy.text("UPDATE stock SET pieces = pieces - 1"))

    @step(pivot=True)
    async def charge(payload, context):
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{payments}/charges/{context.saga_id}")
        return answer.raise_for_status().json()

    @step
    def remind(payload, context):
        return httpx.post(f"{payments}/charges/again-{context.saga_id}").raise_for_status().json()

    reserve.compensation(lambda session, payload: None)
    return Saga("checkout", [reserve, charge, Signal("packed"), remind])


def shop_app(saga: Saga, **settings: Any) -> fastapi.FastAPI:
    """An app whose requests run sagas."""
    app = fastapi.FastAPI(lifespan=saga_lifespan(saga, daemon=False, park_after=0.0, **settings))

    @app.put("/orders/{order_id}")
    async def place_order(order_id: str, mediator: MediatorDep) -> str:
        return (await mediator.run("checkout", saga_id=order_id, check=False)).state

    @app.post("/orders/{order_id}/packed")
    async def packed(order_id: str, mediator: MediatorDep) -> None:
        await mediator.signal(order_id, "packed")

    return app


def test_requests_statements_and_calls_are_in_the_trace_of_the_saga(receiver, tmp_path):
    """From the client's call to the participant's answer is one trace: FastAPI, saga, attempts, SQLAlchemy and httpx.

    After the wait, the saga continues in a trace of its own, which is linked to the request that ended the wait.
    """
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE stock (pieces integer)"))
        connection.execute(sqlalchemy.text("INSERT INTO stock VALUES (3)"))
    with exporting(receiver) as tracing, instrumented(engine, tracing), serving(payments_app(), tracing) as payments:
        telemetry = Telemetry(tracing)
        settings: Any = {"journal": tmp_path / "sagas.db", "around": [telemetry], "observers": [telemetry]}
        with serving(shop_app(checkout(engine, payments), **settings), tracing) as shop:
            assert httpx.put(f"{shop}/orders/o-1").json() == "waiting.packed"
            assert httpx.post(f"{shop}/orders/o-1/packed").status_code == 200
            eventually(lambda: len(receiver.named("saga checkout")) == 2)
    engine.dispose()

    before, after = receiver.named("saga checkout")
    first = [span for span in receiver.spans if span.trace_id == before.trace_id]
    (reserve,) = receiver.named("execute reserve")
    statements = [span.name.split()[0] for span in first if span.parent_span_id == reserve.span_id]
    assert statements == ["connect", "INSERT", "UPDATE", "UPDATE"]  # the key, the step's own statement, the result
    others = [span for span in first if span.parent_span_id != reserve.span_id]
    call = ["POST", ["POST /charges/{key}"]]
    assert tree(others) == [
        "PUT",
        ["PUT /orders/{order_id}", ["saga checkout", ["execute reserve", "execute charge", call]]],
    ]

    second = [span for span in receiver.spans if span.trace_id == after.trace_id]
    assert tree(second) == ["saga checkout", ["execute remind", call]]
    (request,) = receiver.named("POST /orders/{order_id}/packed")
    assert links_of(after)["cause"] == [request.span_id.hex()]
    assert links_of(after)["previous"] == [before.span_id.hex()]
    assert [attributes(span)["left"] for span in (before, after)] == ["parked", "settled"]


FORK = """
    import os, sys, threading, warnings
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from fsm_mediator import Mediator, Saga, step
    from fsm_mediator.telemetry import Telemetry

    path, url = sys.argv[1:]
    tracing = TracerProvider()
    # It exports when it is shut down, and not while the process forks: the child would get the SDK's locks as they are.
    exporter = OTLPSpanExporter(url + "/v1/traces")
    tracing.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
    telemetry = Telemetry(tracing)
    begun, go = threading.Event(), threading.Event()

    @step
    def a(payload, context):
        if context.saga_id == "slow":
            begun.set()
            go.wait(60)

    mediator = Mediator(Saga("s", [a]), journal=path, around=[telemetry], observers=[telemetry])
    mediator.run("s", saga_id="before")  # its spans are in the queue of the parent while that forks
    mediator.start("s", saga_id="slow")
    assert begun.wait(60)
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # from Python 3.12 on
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert telemetry.carrier_of_stint("slow") is None
            mediator.run("s", saga_id="in-child", timeout=60)
            mediator.close()
            tracing.shutdown()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert telemetry.carrier_of_stint("slow") is not None
    go.set()
    mediator.wait("slow", timeout=60)
    mediator.run("s", saga_id="after")
    mediator.close()
    tracing.shutdown()
"""


def test_each_side_of_a_fork_exports_its_own_spans_once(receiver, tmp_path):
    """A process forks while it drives a saga: no span is lost, none is exported twice, no id is used twice."""
    words = [sys.executable, "-c", textwrap.dedent(FORK), str(tmp_path / "s.db"), receiver.url]
    done = run_program(words)

    assert (done.returncode, done.stderr) == (0, "")
    found = sorted((attributes(span)["saga_id"], span.name) for span in receiver.spans)
    assert found == [
        (name, span) for name in ("after", "before", "in-child", "slow") for span in ("execute a", "saga s")
    ]
    assert len({span.span_id for span in receiver.spans}) == 8
    stints, attempts = receiver.named("saga s"), receiver.named("execute a")
    assert {(span.trace_id, span.span_id) for span in stints} == {
        (each.trace_id, each.parent_span_id) for each in attempts
    }
    assert len({span.trace_id for span in stints}) == 4


NO_SDK = """
    import sys

    sys.modules["opentelemetry.sdk"] = None  # importing it is an error, as if it was not installed
    from opentelemetry import trace
    from fsm_mediator import Mediator, Saga, step
    from fsm_mediator.telemetry import Telemetry

    telemetry = Telemetry()

    @step
    def a(payload, context):
        return trace.get_current_span().is_recording()

    with Mediator(Saga("s", [a]), journal=sys.argv[1], around=[telemetry], observers=[telemetry]) as mediator:
        print(mediator.run("s", saga_id="o-1").results, mediator.journal.find("o-1").acceptance.carrier)
    print(type(trace.get_tracer_provider()).__name__)
"""


def test_telemetry_works_with_the_api_alone(tmp_path):
    """Where only the API is installed, as the extra `otel` does, sagas run, and nothing is recorded or journaled."""
    done = run_program([sys.executable, "-c", textwrap.dedent(NO_SDK), str(tmp_path / "s.db")])

    assert done.stderr == ""
    assert done.stdout == "{'a': False} None\nProxyTracerProvider\n"


def run_program(words: list[str]) -> subprocess.CompletedProcess[str]:
    """A program of a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, env=environment)
