"""The page of one execution: what it shows besides the timeline."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from fsm_mediator import Mediator, Parallel, Saga, Signal
from fsm_mediator.telemetry import Telemetry
from fsm_mediator.ui import Monitor
from tests.asgi import get
from tests.commits import found
from tests.drivers import World, eventually
from tests.test_monitor import acting


def test_trace_of_an_execution_is_shown(tmp_path):
    """The page has the id of the trace in which the execution was accepted; a branch has that of its parent."""
    provider = TracerProvider(shutdown_on_exit=False)
    telemetry = Telemetry(tracer_provider=provider)
    saga = Saga("s", [Parallel("g", [Saga("left", [Signal("go")])])])
    with Mediator(saga, journal=tmp_path / "sagas.db", around=[telemetry], observers=[telemetry]) as mediator:
        with provider.get_tracer("caller").start_as_current_span("request") as span:
            mediator.start("s", saga_id="o-1")
        mediator.start("s", saga_id="o-2")
        eventually(lambda: mediator.outcome("o-1/g.left").awaits_signal)
        monitor = Monitor(mediator, authorize=acting)
        accepted = span.get_span_context()
        for saga_id in ("o-1", "o-1/g.left"):
            page = get(monitor, f"/runs/{saga_id}").text
            assert f"{accepted.trace_id:032x}</code>" in page
            assert f"span {accepted.span_id:016x}" in page
        assert "Trace <code" not in get(monitor, "/runs/o-2").text


@pytest.mark.parametrize("text", ["", "00-xyz-1-01", "<script>", "00-" + "a" * 32])
def test_malformed_trace_is_not_shown(text):
    """Whatever a carrier holds, the page is shown."""

    class Hook:
        """A hook of a mediator that journals *text* with each execution."""

        def carrier(self) -> dict[str, str]:
            return {"traceparent": text}

        def __call__(self, context: Any) -> Any:
            return contextlib.nullcontext()

    mediator = Mediator(Saga("s", [World().step("a")]), around=[Hook()])
    mediator.enqueue("s", saga_id="o-1")
    page = get(Monitor(mediator, authorize=acting), "/runs/o-1").text
    assert found(mediator.journal, "o-1").acceptance.carrier == {"traceparent": text}
    assert not re.search(r"Trace|<script>", page)
