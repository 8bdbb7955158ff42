"""A receiver of OTLP over HTTP that decodes what the real SDK exports."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.drivers import PATIENCE


class Receiver(http.server.ThreadingHTTPServer):
    """Takes what is exported by OTLP over HTTP, and decodes it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.bodies: list[bytes] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def points(self, name: str) -> list[Any]:
        """The last points of the metric *name*, which begins with the name of the package."""
        metric = self.metrics[f"fsm_mediator.{name}"]
        return list(getattr(metric, metric.WhichOneof("data")).data_points)

    def named(self, name: str) -> list[Any]:
        """The spans of a name, in the order of their ends."""
        return [span for span in self.spans if span.name == name]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        if self.path == "/v1/traces":
            for traced in ExportTraceServiceRequest.FromString(body).resource_spans:
                for spans_of in traced.scope_spans:
                    self.server.spans += spans_of.spans
        elif self.path == "/v1/metrics":
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for metrics_of in measured.scope_metrics:
                    self.server.metrics |= {metric.name: metric for metric in metrics_of.metrics}
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join(PATIENCE)
    server.server_close()


@contextlib.contextmanager
def exporting(receiver: Receiver, **settings: Any) -> Iterator[TracerProvider]:
    """A provider of the real SDK that exports each span when it ends."""
    provider = TracerProvider(shutdown_on_exit=False, **settings)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{receiver.url}/v1/traces")))
    yield provider
    provider.shutdown()


@contextlib.contextmanager
def measuring(receiver: Receiver) -> Iterator[MeterProvider]:
    """A provider of the real SDK that exports its metrics at the end."""
    exporter = OTLPMetricExporter(f"{receiver.url}/v1/metrics")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider
    provider.force_flush()
    provider.shutdown()


def attributes(span: Any) -> dict[str, Any]:
    """The attributes of a span, a link or a point, without the prefix."""
    values = {each.key.removeprefix("fsm_mediator."): each.value for each in span.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}


def links_of(span: Any) -> dict[str, list[str]]:
    """The ids of the spans that it is linked to, by the kind of the link."""
    found: dict[str, list[str]] = {}
    for link in span.links:
        found.setdefault(attributes(link)["link"], []).append(link.span_id.hex())
    return found


def tree(spans: list[Any], parent: bytes = b"") -> list[Any]:
    """The names of the spans below *parent*, in the order of their beginnings; children follow their span in a list."""
    found: list[Any] = []
    for span in sorted(spans, key=lambda span: span.start_time_unix_nano):
        if span.parent_span_id == parent:
            found.append(span.name)
            if below := tree(spans, span.span_id):
                found.append(below)
    return found
