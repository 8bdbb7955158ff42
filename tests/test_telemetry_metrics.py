"""Metrics of OpenTelemetry as a receiver gets them, and stints that end as errors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fsm_mediator import (
    JournalError,
    Mediator,
    MemoryJournal,
    OutcomeUnknownError,
    Retry,
    Saga,
    Signal,
    StepRejectedError,
)
from fsm_mediator.telemetry import Telemetry, spans
from tests.drivers import ONCE, QUICK, Clock, Flaky, World, core_of, eventually
from tests.otlp import attributes, exporting, measuring, receiving


@pytest.fixture
def receiver():
    """A receiver, for one test."""
    with receiving() as server:
        yield server


def both(telemetry: Telemetry) -> dict[str, Any]:
    """The settings of a mediator."""
    return {"around": [telemetry], "observers": [telemetry]}


def test_metrics_have_names_and_units_and_no_ids(drive, receiver):
    """My dashboards get counts and durations by saga and step; no id makes a series of its own."""
    world = World()
    saga = Saga("s", [world.step("a", OutcomeUnknownError("?"), "ok"), world.step("b", ValueError("no"), retry=QUICK)])
    with measuring(receiver) as provider:
        drive(saga, **both(Telemetry(None, provider))).run("s", saga_id="o-17", check=False)

    found = receiver.metrics
    assert {name.removeprefix("fsm_mediator."): metric.unit for name, metric in found.items()} == {
        "saga.duration": "s",
        "saga.started": "{saga}",
        "attempt.duration": "s",
        "attempt.active": "{attempt}",
    }
    points = [attributes(point) for point in receiver.points("attempt.duration")]
    assert {(point["step"], point["kind"], point["outcome"], point.get("error.type")) for point in points} == {
        ("a", "execute", "in_doubt", "OutcomeUnknownError"),
        ("a", "execute", "executed", None),
        ("b", "execute", "errored", "ValueError"),
        ("a", "compensate", "compensated", None),
    }
    assert {name for point in points for name in point} == {"saga", "step", "kind", "outcome", "error.type"}
    assert "o-17" not in str(found)
    assert {point.as_int for point in receiver.points("attempt.active")} == {0}
    assert {name for point in receiver.points("attempt.active") for name in attributes(point)} == {
        *("saga", "step", "kind")
    }


def test_whatever_happens_to_a_saga_is_counted_once(drive, receiver, journal):
    """Started, stuck and ended, in three stints; the duration is in seconds, and lasts from acceptance to end."""
    world, clock = World(), Clock()
    undo = [OSError("o-17 is away"), "undone"]
    stuck = world.step("a", undo=undo, compensation_retry=ONCE)
    saga = Saga("s", [stuck, Signal("go"), world.step("b", ValueError("no"), retry=ONCE)], version="3")
    with measuring(receiver) as provider:
        mediator = drive(saga, journal=journal, clock=clock, **both(Telemetry(None, provider)))
        assert mediator.run("s", saga_id="o-17", check=False).state == "waiting.go"
        clock.now += 40.0
        mediator.signal("o-17", "go")
        eventually(lambda: mediator.outcome("o-17").stuck)
        clock.now += 2.5
        assert mediator.retry("o-17").state == "failed"

    named = {"saga": "s", "version": "3"}
    expected = {"saga.started": named, "saga.stuck": {**named, "step": "a"}}
    for name, labels in expected.items():
        (point,) = receiver.points(name)
        assert (point.as_int, attributes(point)) == (1, labels)
    (duration,) = receiver.points("saga.duration")
    assert (duration.count, duration.sum, attributes(duration)) == (1, 42.5, {**named, "state": "failed"})
    assert "fsm_mediator.saga.recovered" not in receiver.metrics
    assert "o-17" not in str(receiver.metrics)


def test_outcomes_of_attempts_are_told_apart(drive, receiver):
    """A rejection is no error of the network, and a compensation that fails leaves no doubt: it is repeated."""
    world = World()
    undone = world.step("a", undo=[ConnectionError("no"), "undone"], compensation_retry=QUICK)
    with measuring(receiver) as provider:
        mediator = drive(
            Saga("s", [undone, world.step("b", StepRejectedError("no"))]), **both(Telemetry(None, provider))
        )
        assert mediator.run("s", check=False).failed

    points = [attributes(point) for point in receiver.points("attempt.duration")]
    assert {(point["step"], point["kind"], point["outcome"], point.get("error.type")) for point in points} == {
        ("a", "execute", "executed", None),
        ("b", "execute", "rejected", "StepRejectedError"),
        ("a", "compensate", "errored", "ConnectionError"),
        ("a", "compensate", "compensated", None),
    }


def test_attempts_are_measured_in_seconds(receiver, monkeypatch):
    """An attempt of two and a half seconds counts as 2.5."""
    monkeypatch.setattr(spans, "time", SimpleNamespace(perf_counter=iter((10.0, 12.5)).__next__))
    saga = Saga("s", [World().step("a")])
    with measuring(receiver) as provider, Mediator(saga, **both(Telemetry(None, provider))) as mediator:
        mediator.run("s")

    (point,) = receiver.points("attempt.duration")
    assert (point.count, point.sum) == (1, 2.5)


def test_execution_that_is_taken_over_is_counted_and_its_lost_stint_is_an_error(receiver):
    """Its driver was taken for dead: the recovery is counted, and the driver's stint says that it lost the lease."""
    journal = MemoryJournal(encode=True)

    def overtaken(payload, context):
        journal.dismiss(core_of(first).driver.id)
        with Mediator(Saga("s", [World().step("a", undo=None)]), journal=journal, **both(other)) as second:
            second.recover()

    with exporting(receiver) as tracing, measuring(receiver) as provider:
        other = Telemetry(tracing, provider)
        saga = Saga("s", [World().step("a", overtaken, undo=None)])
        with Mediator(saga, journal=journal, **both(Telemetry(tracing))) as first:
            assert first.run("s", saga_id="o-17").state == "succeeded"

    (point,) = receiver.points("saga.recovered")
    assert (point.as_int, attributes(point)) == (1, {"saga": "s", "version": "1"})
    status = {attributes(span)["left"]: (span.status.code, span.status.message) for span in receiver.named("saga s")}
    assert status["settled"] == (0, "")
    assert status["lease_lost"] == (2, "LeaseLostError")


def test_stint_that_could_not_continue_is_an_error_with_the_type_alone(drive, receiver, impatient):
    """The journal cannot be written: the span has the type of the error and nothing of its message."""
    journal = Flaky(MemoryJournal())

    def breaks(payload, context):
        journal.broken = True

    with exporting(receiver) as tracing:
        mediator = drive(Saga("s", [World().step("a", breaks)]), journal=journal, **both(Telemetry(tracing)))
        with pytest.raises(JournalError):
            mediator.run("s")
        journal.broken = False

    (span,) = receiver.named("saga s")
    assert attributes(span)["left"] == "released"
    assert (span.status.code, span.status.message) == (2, "JournalError")


def test_interrupt_is_no_exception_of_the_step(receiver):
    """Ctrl-C in an attempt: its span is an error, and has no traceback of mine."""
    with exporting(receiver) as tracing, pytest.raises(KeyboardInterrupt):
        Mediator(Saga("s", [World().step("a", KeyboardInterrupt())]), **both(Telemetry(tracing))).run("s")

    (span,) = receiver.named("execute a")
    assert (span.status.message, list(span.events)) == ("KeyboardInterrupt", [])


def test_stint_that_ends_with_its_mediator_is_no_error(drive, receiver):
    """A mediator that closes leaves its executions to others: that is not a failure."""
    later = Retry(wait_initial=3600.0, wait_max=3600.0, wait_jitter=0.0)
    with exporting(receiver) as tracing:
        mediator = drive(Saga("s", [World().step("a", OSError("no"), retry=later)]), **both(Telemetry(tracing)))
        mediator.start("s", saga_id="o-1")
        eventually(lambda: mediator.outcome("o-1").state == "retrying.a")
        mediator.close()

    (span,) = receiver.named("saga s")
    assert (attributes(span)["left"], attributes(span)["state"], span.status.code) == ("released", "retrying.a", 0)
    (wait,) = span.events
    assert attributes(wait) == {"state": "retrying.a", "wait": pytest.approx(3600.0)}
