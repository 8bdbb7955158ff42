"""The page of one execution: what it shows besides the timeline."""

from __future__ import annotations

import asyncio
import contextlib
import html
import re
from typing import Any
from urllib.parse import quote, unquote

import pytest
from opentelemetry.sdk.trace import TracerProvider

from fsm_mediator import Mediator, OutcomeUnknownError, Parallel, Saga, Signal
from fsm_mediator.records import InboxItem
from fsm_mediator.telemetry import Telemetry
from fsm_mediator.ui import Monitor
from tests.asgi import get
from tests.commits import found
from tests.drivers import ONCE, World, eventually
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


def test_trace_and_actor_of_an_inbox_item_are_shown(tmp_path):
    """A signal that waits to be read has the trace of its caller, as long as it waits."""
    provider = TracerProvider(shutdown_on_exit=False)
    telemetry = Telemetry(tracer_provider=provider)
    with Mediator(Saga("s", [Signal("go")]), journal=tmp_path / "sagas.db", around=[telemetry]) as mediator:
        mediator.enqueue("s", saga_id="o-1")
        item = InboxItem("signal", "go", None, "", 5.0, actor="ann", carrier=telemetry_carrier(telemetry, provider))
        assert mediator.journal.post("o-1", item)
        page = get(Monitor(mediator, authorize=acting), "/runs/o-1").text
    assert item.carrier is not None
    _, trace, span, _ = item.carrier["traceparent"].split("-")
    assert re.search(rf'by ann, trace <code title="In its span {span}">{trace}</code>', page)


def telemetry_carrier(telemetry: Telemetry, provider: TracerProvider) -> dict[str, str] | None:
    """The carrier of a caller in a span."""
    with provider.get_tracer("caller").start_as_current_span("request"):
        return telemetry.carrier()


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


def test_secrets_are_hidden_in_the_picture(tmp_path):
    """What `redact=` hides in the timeline is not readable in the picture above it, in no view and at no moment."""
    world = World()
    refusing = world.step("pay", OutcomeUnknownError("card 4111"), retry=ONCE, pivot=True, undo=None)
    with Mediator(Saga("s", [refusing]), journal=tmp_path / "sagas.db") as mediator:
        mediator.run("s", saga_id="o-1", check=False)
        mediator.retry("o-1", reason="the owner of 4111 called")
        monitor = Monitor(mediator, authorize=acting, redact=lambda text: text.replace("4111", "***"))
        for query in ("", "?view=detail", "?at=2", "?at=2&view=detail"):
            page = get(monitor, f"/runs/o-1{query}").text
            assert "<svg" in page
            assert "card ***" in page
            assert "4111" not in page


class EnoughError(Exception):
    """Ends a response that has no end."""


async def first_event(app: Any, path: str, root: str) -> bytes:
    """The first event, or sign of life, of a stream of events."""
    where, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(where),
        "raw_path": where.encode(),
        "root_path": root,
        "query_string": query.encode(),
        "headers": [(b"host", b"monitor.test")],
        "client": None,
        "server": ("monitor.test", 80),
    }
    parts: list[bytes] = []

    async def receive() -> Any:
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        parts.append(message.get("body", b""))
        if len(parts) == 3:
            raise EnoughError

    with contextlib.suppress(EnoughError, BaseExceptionGroup):
        await app(scope, receive, send)
    return parts[-1]


@pytest.mark.parametrize("root", ["", "/behind/a proxy"])
def test_page_of_an_odd_id_stays_live(root):
    """With any character in an id, the page asks for itself again, and hears of no change while there is none."""
    mediator = Mediator(Saga("s", [World().step("a")]))
    mediator.enqueue("s", saga_id=(saga_id := "a?b#c%2F d&\"e'<f>"))
    monitor = Monitor(mediator, authorize=acting)
    page = get(monitor, quote(f"{root}/runs/{saga_id}"), root_path=root).text
    assert html.escape(saga_id, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
    again, listening = (re.search(rf'{name}="([^"]*)"', page) for name in ("hx-get", "data-events"))
    digest = re.search(r'data-digest="(\w+)"', page)
    assert again is not None
    assert listening is not None
    assert digest is not None
    assert f'data-digest="{digest[1]}"' in get(monitor, html.unescape(again[1]), root_path=root).text
    stream = f"{html.unescape(listening[1])}&known={digest[1]}".replace(root, quote(root), 1)
    assert asyncio.run(first_event(monitor, stream, root)) == b": the same\n\n"
