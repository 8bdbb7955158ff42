"""OpenTelemetry: the real SDK exports over HTTP into a receiver, which decodes it; what was journaled; log fields."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from fsm_mediator import (
    DefinitionError,
    Mediator,
    MissingExtraError,
    Parallel,
    Retry,
    Saga,
    Signal,
    SQLiteJournal,
    step,
)
from fsm_mediator.telemetry import SagaFilter, Telemetry, log_context
from tests.drivers import World, eventually
from tests.otlp import attributes, exporting, links_of, measuring, receiving

ROOT = Path(__file__).parent.parent


@pytest.fixture
def receiver():
    """A receiver, for one test."""
    with receiving() as server:
        yield server


@pytest.fixture
def tracing(receiver):
    """A provider of the real SDK that exports each span when it ends."""
    with exporting(receiver) as provider:
        yield provider


def exception_of(span) -> dict[str, str]:
    """What a span tells of an exception."""
    (event,) = span.events
    assert event.name == "exception"
    return {each.key: each.value.string_value for each in event.attributes}


def both(telemetry: Telemetry) -> dict[str, Any]:
    """The settings of a mediator."""
    return {"around": [telemetry], "observers": [telemetry]}


def carrier_of(journal: Any, saga_id: str) -> Any:
    """What is journaled of the trace in which an execution was accepted."""
    return journal.find(saga_id).acceptance.carrier


def test_each_stint_and_each_attempt_is_a_span(drive, journal, receiver, tracing):
    """In my tracing tool a saga is a span until it is parked, and another from then on, each with its attempts."""
    world = World()
    saga = Saga("s", [world.step("a", ConnectionError("no"), "ok"), Signal("go"), world.step("b", undo=None)])
    telemetry = Telemetry(tracing)
    mediator = drive(saga, journal=journal, **both(telemetry))

    mediator.run("s", saga_id="o-1", check=False)
    assert telemetry.carrier_of_stint("o-1") is None
    first = receiver.named("saga s")[0]
    mediator.signal("o-1", "go")
    mediator.wait("o-1")
    second = receiver.named("saga s")[-1]

    assert [attributes(span)["outcome"] for span in receiver.named("execute a")] == ["in_doubt", "executed"]
    assert [attributes(span)["attempt"] for span in receiver.named("execute a")] == [1, 2]
    assert {span.parent_span_id for span in receiver.named("execute a")} == {first.span_id}
    assert {span.parent_span_id for span in receiver.named("execute b")} == {second.span_id}
    assert first.trace_id != second.trace_id
    assert attributes(first) | {"saga": "s", "left": "parked", "state": "waiting.go"} == attributes(first)
    assert attributes(second)["left"] == "settled"
    assert [event.name for event in first.events] == ["wait"]
    failed, fine = receiver.named("execute a")
    assert (failed.status.code, attributes(failed)["error.type"]) == (2, "ConnectionError")
    assert (fine.status.code, first.status.code) == (0, 0)


def test_exceptions_are_redacted_before_they_are_exported(drive, receiver, tracing):
    """Nothing that leaves the process has the secret: no message, no traceback, no cause."""

    def fails(payload, context):
        try:
            raise KeyError("4111-SECRET")
        except KeyError as error:
            raise ValueError("card 4111-SECRET") from error

    saga = Saga("s", [World().step("a", fails, undo=None)])
    drive(saga, **both(Telemetry(tracing, redact=[r"/4111-\w+/"]))).run("s", check=False)
    drive(saga, **both(Telemetry(tracing, redact=["message", "traceback"]))).run("s", check=False)
    shown = [exception_of(span) for span in receiver.named("execute a")]
    assert shown[0]["exception.message"] == "card ***"
    assert "KeyError: '***'" in shown[0]["exception.stacktrace"]
    assert (shown[-1]["exception.message"], shown[-1]["exception.stacktrace"]) == ("***", "***")
    assert {each["exception.type"] for each in shown} == {"ValueError"}
    assert receiver.bodies
    assert not any(b"SECRET" in body for body in receiver.bodies)

    drive(saga, **both(Telemetry(tracing))).run("s", check=False)
    assert exception_of(receiver.named("execute a")[-1])["exception.message"] == "card 4111-SECRET"
    drive(saga, **both(Telemetry(tracing, record_exceptions=False))).run("s", check=False)
    assert not receiver.named("execute a")[-1].events
    with pytest.raises(DefinitionError, match="redact"):
        Telemetry(tracing, redact="message")


def test_a_saga_that_compensates_is_no_error_and_one_that_is_stuck_is(drive, receiver, tracing):
    """To compensate is an outcome; to wait for a person is an error."""
    world = World()
    broken = world.step("b", ValueError("no"), undo=None)
    fine = Saga("fine", [world.step("a"), broken])
    stuck = Saga("stuck", [world.step("a", undo=[ValueError("no")]), broken])
    mediator = drive(fine, stuck, **both(Telemetry(tracing)))

    assert mediator.run("fine", check=False).state == "failed"
    assert mediator.run("stuck", check=False).state == "stuck.a"

    (one,), (other,) = receiver.named("saga fine"), receiver.named("saga stuck")
    assert (one.status.code, attributes(one)["state"]) == (0, "failed")
    assert (other.status.code, attributes(other)["state"]) == (2, "stuck.a")
    assert {attributes(span)["kind"] for span in receiver.named("compensate a")} == {"compensate"}


def test_run_is_part_of_the_callers_trace_and_start_is_linked(receiver, tracing, tmp_path):
    """Who waits sees the saga in the own trace. A saga that outlives a request has a trace of its own, with a link."""
    tracer = tracing.get_tracer("app")
    with Mediator(Saga("s", [World().step("a")]), journal=tmp_path / "s.db", **both(Telemetry(tracing))) as mediator:
        with tracer.start_as_current_span("request") as request:
            mediator.run("s", saga_id="waited")
            mediator.start("s", saga_id="started")
        mediator.wait("started")
        carrier = carrier_of(mediator.journal, "started")

    asked = request.get_span_context()
    by_id = {attributes(span)["saga_id"]: span for span in receiver.named("saga s")}
    waited, started = by_id["waited"], by_id["started"]
    assert int.from_bytes(waited.parent_span_id) == asked.span_id
    assert list(waited.links) == []
    assert started.parent_span_id == b""
    assert int.from_bytes(started.trace_id) != asked.trace_id
    (link,) = started.links
    assert (int.from_bytes(link.trace_id), int.from_bytes(link.span_id)) == (asked.trace_id, asked.span_id)
    assert attributes(link) == {"link": "origin"}
    assert list(carrier) == ["traceparent"]
    assert carrier["traceparent"].startswith(f"00-{asked.trace_id:032x}-{asked.span_id:016x}-")


def test_the_spans_of_a_participant_nest_inside_its_attempt(drive, receiver, tracing):
    """A client that is instrumented continues the trace of the attempt, also in a thread of its own."""
    HTTPXClientInstrumentor().instrument(tracer_provider=tracing)
    try:

        @step(timeout=60.0)
        def call(payload):
            return httpx.post(f"{receiver.url}/participant", content=b"").status_code

        assert drive(Saga("s", [call]), **both(Telemetry(tracing))).run("s").results == {"call": 200}
    finally:
        HTTPXClientInstrumentor().uninstrument()

    (attempt,), (client,) = receiver.named("execute call"), receiver.named("POST")
    assert client.parent_span_id == attempt.span_id


def test_branches_are_in_the_trace_of_their_parent(receiver, tracing, tmp_path):
    """Branches that the same process drives are part of its trace; each has the origin of the whole."""
    world = World()
    saga = Saga("s", [Parallel("both", [world.step("a"), world.step("b")])])
    with (
        tracing.get_tracer("app").start_as_current_span("request"),
        Mediator(saga, journal=tmp_path / "s.db", **both(Telemetry(tracing))) as mediator,
    ):
        mediator.run("s", saga_id="o-1")
        carriers = {carrier_of(mediator.journal, entry.saga_id)["traceparent"] for entry in mediator.executions()}

    (whole,) = receiver.named("saga s")
    assert {span.trace_id for span in receiver.spans} == {whole.trace_id}
    assert len(carriers) == 1


PROGRAM = """
import os, signal, sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from fsm_mediator import Mediator, Saga, step
from fsm_mediator.telemetry import Telemetry

path, url, role = sys.argv[1:]
tracing = TracerProvider()
tracing.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(url + "/v1/traces")))

@step
def first(payload):
    return 1

@step
def second(payload, context):
    if context.attempt == 1 and role == "second":
        raise ConnectionError("tried again")
    if role != "last":
        print(format(trace.get_current_span().get_span_context().trace_id, "032x"), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return 2

telemetry = Telemetry(tracing)
mediator = Mediator(Saga("s", [first, second]), journal=path, around=[telemetry], observers=[telemetry])
if role == "first":
    with tracing.get_tracer("app").start_as_current_span("request") as span:
        print(format(span.get_span_context().trace_id, "032x"), flush=True)
        mediator.run("s", saga_id="o-1")
else:
    mediator.recover()
"""


def test_a_trace_is_found_across_two_killed_processes(receiver, tmp_path):
    """Two processes are killed in the midst of a step; the trace of the third still leads to the request."""

    def run(role: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", PROGRAM, str(tmp_path / "s.db"), receiver.url, role]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, env=env)

    one, two, last = run("first"), run("second"), run("last")

    assert (one.returncode, two.returncode, last.returncode) == (-signal.SIGKILL, -signal.SIGKILL, 0), last.stderr
    (stint,) = receiver.named("saga s")  # those of the killed were never exported
    assert attributes(stint)["stint"] == "recovered"
    assert stint.links[0].trace_id.hex() == one.stdout.split()[0]
    assert stint.links[1].trace_id.hex() == two.stdout.split()[-1]  # that of the stint that was killed before
    assert list(links_of(stint)) == ["origin", "previous"]
    assert [attributes(span)["outcome"] for span in receiver.named("execute second")] == ["executed"]


def test_a_stint_is_linked_to_the_one_before_and_to_what_was_said(drive, journal, receiver, tracing):
    """From a stint I find the one before it, in any process, and the requests that had it go on."""
    world, tracer = World(), tracing.get_tracer("app")
    fails = world.step("b", OSError("no"), OSError("no"), "b", retry=Retry(attempts=1), undo=None)
    saga = Saga("s", [world.step("a", pivot=True, undo=None), Signal("go"), fails])
    one = drive(saga, journal=journal, **both(Telemetry(tracing)))
    one.run("s", saga_id="o-1", check=False)
    one.close()
    other = drive(saga, journal=journal, **both(Telemetry(tracing)))
    with tracer.start_as_current_span("signalled") as signalled:
        other.signal("o-1", "go")
    assert other.wait("o-1", check=False).stuck
    with tracer.start_as_current_span("retried") as retried:
        assert other.retry("o-1").stuck
    assert other.retry("o-1").succeeded

    first, second, third, last = receiver.named("saga s")
    assert [links_of(span).get("previous") for span in (first, second, third, last)] == [
        None,
        *([span.span_id.hex()] for span in (first, second, third)),
    ]
    assert links_of(second)["cause"] == [format(signalled.get_span_context().span_id, "016x")]
    assert links_of(third)["cause"] == [format(retried.get_span_context().span_id, "016x")]
    assert [links_of(span).get("cause") for span in (first, last)] == [None, None]
    assert journal.records("o-1")[-1].carrier["traceparent"].split("-")[1:3] == [
        last.trace_id.hex(),
        last.span_id.hex(),
    ]


def test_cancel_is_a_cause(drive, receiver, tracing):
    """The stint in which a saga compensates leads to the request that cancelled it."""
    saga = Saga("s", [World().step("a"), Signal("go")])
    mediator = drive(saga, **{**both(Telemetry(tracing)), "park_after": 0.0})
    mediator.run("s", saga_id="o-1", check=False)
    with tracing.get_tracer("app").start_as_current_span("cancelled") as cancelled:
        mediator.cancel("o-1")
    eventually(lambda: mediator.outcome("o-1").failed)

    stints = eventually(lambda: len(found := receiver.named("saga s")) == 2 and found)
    assert links_of(stints[-1])["cause"] == [format(cancelled.get_span_context().span_id, "016x")]


def test_signal_to_a_saga_that_others_know_is_a_cause(receiver, tracing, tmp_path):
    """The web process sends signals, and knows no saga; a worker drives: its stint leads to the web's request."""
    path = tmp_path / "s.db"
    saga = Saga("s", [Signal("go"), World().step("a")])
    with Mediator(saga, journal=path, park_after=0.0, **both(Telemetry(tracing))) as worker:
        worker.run("s", saga_id="o-1", check=False)
        web = Mediator(journal=path, **both(Telemetry(tracing)))
        with web, tracing.get_tracer("app").start_as_current_span("signalled") as signalled:
            web.signal("o-1", "go")
        worker.recover()
        assert worker.wait("o-1").succeeded

    assert links_of(receiver.named("saga s")[-1])["cause"] == [format(signalled.get_span_context().span_id, "016x")]


def test_span_processors_see_the_baggage_of_the_caller(drive, tracing):
    """A processor that copies baggage into spans works for attempts too."""
    seen: dict[str, object] = {}

    class Copies(SpanProcessor):
        def on_start(self, span, parent_context=None):
            seen[span.name] = baggage.get_baggage("tenant", parent_context)

    tracing.add_span_processor(Copies())
    mediator = drive(Saga("s", [World().step("a")]), **both(Telemetry(tracing)))
    token = otel_context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        with tracing.get_tracer("app").start_as_current_span("request"):
            mediator.run("s", saga_id="o-1")
    finally:
        otel_context.detach(token)

    assert seen == {"request": "acme", "saga s": "acme", "execute a": "acme"}
    assert list(carrier_of(mediator.journal, "o-1")) == ["traceparent"]  # baggage is not journaled


def test_what_a_branch_posts_leads_to_its_stint(receiver, tracing, tmp_path):
    """The whole that was parked goes on because of its branch, and is linked to the branch's stint."""
    world = World()
    saga = Saga("s", [Parallel("both", [Saga("slow", [Signal("go"), world.step("b")]), world.step("a")])])
    with Mediator(saga, journal=tmp_path / "s.db", **both(Telemetry(tracing))) as mediator:
        mediator.run("s", saga_id="o-1", check=False)
        mediator.signal("o-1", "both.slow.go")
        assert mediator.wait("o-1/both.slow").succeeded
        eventually(lambda: mediator.outcome("o-1").succeeded)

    branch = [span for span in receiver.spans if attributes(span).get("saga_id") == "o-1/both.slow"][-1]
    assert branch.span_id.hex() in links_of(receiver.named("saga s")[-1])["cause"]


def test_an_execution_that_is_not_sampled_runs(drive, receiver):
    """Where my sampler says no, no span is exported, participants are told so, and the metrics are as ever."""

    def is_sampled(*_: Any) -> bool:
        return trace.get_current_span().get_span_context().trace_flags.sampled

    saga = Saga("s", [World().step("a", ConnectionError("no"), is_sampled)])
    with exporting(receiver, sampler=ALWAYS_OFF) as provider, measuring(receiver) as meters:
        mediator = drive(saga, **both(Telemetry(provider, meters)))
        assert mediator.run("s", saga_id="o-1").results == {"a": False}

    assert receiver.spans == []
    flags = mediator.journal.records("o-1")[-1].carrier["traceparent"].rpartition("-")[-1]
    assert int(flags, 16) % 2 == 0
    assert [point.as_int for point in receiver.points("saga.started")] == [1]


def test_without_an_sdk_nothing_is_journaled_and_no_provider_is_set(drive, tmp_path):
    """With the API alone a saga runs, and its journal names no trace."""
    before = trace.get_tracer_provider()
    with contextlib.closing(SQLiteJournal(tmp_path / "s.db")) as journal:
        mediator = drive(Saga("s", [World().step("a")]), journal=journal, **both(Telemetry()))
        assert mediator.run("s", saga_id="o-1").state == "succeeded"
        assert carrier_of(journal, "o-1") is None
        mediator.close()
    assert trace.get_tracer_provider() is before


def test_without_the_extra_an_error_names_it(monkeypatch):
    """I am told what to install; log fields need nothing."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "fsm_mediator.telemetry.spans")

    with pytest.raises(MissingExtraError, match=r"fsm-mediator\[otel\]"):
        importlib.import_module("fsm_mediator.telemetry.spans")


def test_a_forked_child_leaves_the_open_spans_to_its_parent(drive, receiver, tracing):
    """What `forking` calls in a child forgets the spans of the parent: the child does not end them."""
    telemetry, world = Telemetry(tracing), World()
    saga = Saga("s", [world.step("a", lambda *_: telemetry.reset())])

    assert drive(saga, **both(telemetry)).run("s").state == "succeeded"

    assert [span.name for span in receiver.spans] == ["execute a"]


@pytest.mark.parametrize("hook", [log_context, Telemetry()], ids=["alone", "telemetry"])
def test_my_own_log_lines_name_the_execution_and_the_step(drive, caplog, hook):
    """What a step logs with any logger carries the execution's id and the step's path; other lines carry None."""
    caplog.handler.addFilter(SagaFilter())
    world = World()

    def log(payload, context):
        logging.getLogger("shop").warning("out of stock")

    drive(Saga("s", [world.step("a", log)]), around=[hook]).run("s", saga_id="o-1")
    logging.getLogger("shop").warning("closing")
    caplog.handler.filters.clear()

    fields = {(line.getMessage(), line.saga_id, line.step) for line in caplog.records if line.name == "shop"}
    assert fields == {("out of stock", "o-1", "a"), ("closing", None, None)}
