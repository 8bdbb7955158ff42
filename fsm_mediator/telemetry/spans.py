"""Telemetry: metrics, a span for each attempt, and a span for each stint. Uses only OpenTelemetry's API.

A stint is the time in which one driver drives an execution without a break. No span lasts longer than a stint, because
a span is exported only when it ends: an open span cannot be seen, and a crash loses it.

If a caller waits for the execution, or if the parent of a branch is in a stint, the span of the stint is part of their
trace. Any other stint has its own trace. Its span then links to the trace in which the execution was accepted; the
context of that trace is journaled. This module never sets the global provider.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fsm_mediator import forking
from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.steps import Context
from fsm_mediator.error_types import MissingExtraError, StepRejectedError
from fsm_mediator.execution.judging import leaves_doubt
from fsm_mediator.observe.notices import LEASE_LOST, RECOVERED, RELEASED, Notice
from fsm_mediator.records import Failure, Record
from fsm_mediator.redaction import Pattern, Redaction
from fsm_mediator.states import ENDED, STUCK_PHASES, phase_of
from fsm_mediator.telemetry.logs import log_context

try:
    from opentelemetry import context as otel_context
    from opentelemetry import metrics, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as _error:
    raise MissingExtraError("fsm_mediator.telemetry.Telemetry", "otel") from _error

NAME = "fsm_mediator"
"""The name of the tracer and of the meter, and the prefix of the names of all attributes and instruments."""

OUTCOMES = {"execute": "executed", "compensate": "compensated", "probe": "probed", "decide": "decided"}
"""The outcome of an attempt that returned, by the verb of the attempt."""

_propagator = TraceContextTextMapPropagator()


class _Stint:
    """The open span of a stint, and the data that the spans of the stint's attempts need."""

    def __init__(self, notice: Notice, span: trace.Span) -> None:
        self.saga = notice.saga
        self.accepted_at = notice.acceptance.at
        self.span = span


class Telemetry:
    """Spans and metrics for OpenTelemetry. Each mediator needs its own `Telemetry`.

    Pass it to the mediator twice: ``Mediator(checkout, around=[telemetry], observers=[telemetry])``.

    Args:
        tracer_provider: The provider of the tracer. If None, the global provider at the time of the first span.
        meter_provider: The provider of the meter. If None, the global provider.
        record_exceptions: Whether the span of a failed attempt has the message and the traceback of the step's error.
        redact: Patterns for the texts to hide in messages and tracebacks: see `Redaction`. The field names ``message``
            and ``traceback`` hide the whole text.

    Raises:
        MissingExtraError: The extra ``otel`` is not installed.
        DefinitionError: A pattern cannot be used.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        record_exceptions: bool = True,
        redact: Iterable[Pattern] = (),
    ) -> None:
        self._tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider)
        self._record_exceptions = record_exceptions
        self._redaction = Redaction(redact)
        self._stints: dict[str, _Stint] = {}
        meter = metrics.get_meter(NAME, meter_provider=meter_provider)
        self._duration = meter.create_histogram(f"{NAME}.saga.duration", "s", "From acceptance to the end")
        self._started = meter.create_counter(f"{NAME}.saga.started", "{saga}", "Executions that have begun")
        self._stuck = meter.create_counter(f"{NAME}.saga.stuck", "{saga}", "Executions that came to wait for a person")
        self._recovered = meter.create_counter(f"{NAME}.saga.recovered", "{saga}", "Executions taken over midway")
        self._attempts = meter.create_histogram(f"{NAME}.attempt.duration", "s", "Calls of a step's functions")
        self._active = meter.create_up_down_counter(f"{NAME}.attempt.active", "{attempt}", "Calls under way")
        forking.register(self)

    def reset(self) -> None:
        """Forget the open spans. A forked child calls this method, because these spans belong to the parent process."""
        self._stints = {}

    def carrier(self) -> dict[str, str] | None:
        """The context of the caller's trace, to be journaled with a new execution. None if the caller has no trace."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        return carrier or None

    def carrier_of_stint(self, saga_id: str) -> dict[str, str] | None:
        """The context of an execution's open span, to be journaled with its records. None if no span is open."""
        stint = self._stints.get(saga_id)
        if stint is None:
            return None
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(stint.span, otel_context.Context()))
        return carrier or None

    # The spans of stints.

    def notice(self, notice: Notice) -> None:
        """Begin or end the span of a stint, the time in which one driver drives an execution. See `Notice`."""
        if not notice.begins:
            self._end(notice)
            return
        acceptance = notice.acceptance
        if notice.kind == RECOVERED:
            self._recovered.add(1, _named(notice.saga))
        parent = self._stints.get(acceptance.parent or "")
        links = []
        if notice.opens:
            context = otel_context.get_current()  # the caller waits, so the span is part of the caller's trace
        elif parent is not None:
            context = trace.set_span_in_context(parent.span, otel_context.Context())
        else:
            context = otel_context.Context()
            links += _links("origin", [acceptance.carrier or {}])
        links += _links("previous", [notice.previous or {}])
        links += _links("cause", notice.causes)
        attributes = {**_named(notice.saga), f"{NAME}.saga_id": notice.saga_id, f"{NAME}.stint": notice.kind}
        span = self._tracer.start_span(f"saga {acceptance.saga}", context, attributes=attributes, links=links)
        self._stints[notice.saga_id] = _Stint(notice, span)

    def _end(self, notice: Notice) -> None:
        stint = self._stints.pop(notice.saga_id, None)
        if stint is None:
            return  # the span began before a fork and belongs to the parent process
        span = stint.span
        if span.is_recording():
            span.set_attribute(f"{NAME}.state", notice.state)
            span.set_attribute(f"{NAME}.left", notice.kind)
            unwell = notice.kind == LEASE_LOST or (notice.kind == RELEASED and notice.error is not None)
            if unwell or phase_of(notice.state) in STUCK_PHASES:
                span.set_status(trace.StatusCode.ERROR, notice.state if notice.error is None else _kind(notice.error))
        span.end()

    def __call__(self, thing: Record | Context) -> Any:
        """For a record, update the span and the metrics. For an attempt's context, return the attempt's span."""
        return self._observe(thing) if isinstance(thing, Record) else self._attempt(thing)

    def _observe(self, record: Record) -> None:
        stint = self._stints.get(record.saga_id)
        if stint is None:
            return
        if record.due_at is not None and stint.span.is_recording():
            wait: dict[str, str | float] = {
                f"{NAME}.state": record.target,
                f"{NAME}.wait": max(0.0, record.due_at - record.at),
            }
            stint.span.add_event("wait", wait)
        attributes = _named(stint.saga)
        phase = phase_of(record.target)
        if record.seq == 1:
            self._started.add(1, attributes)
        if phase in STUCK_PHASES:
            self._stuck.add(1, {**attributes, f"{NAME}.step": record.step or ""})
        elif phase in ENDED:
            self._duration.record(record.at - stint.accepted_at, {**attributes, f"{NAME}.state": phase})

    # The spans of attempts.

    @contextlib.contextmanager
    def _attempt(self, context: Context) -> Iterator[None]:
        stint = self._stints.get(context.saga_id)
        around = otel_context.get_current()
        parent = around if stint is None else trace.set_span_in_context(stint.span, around)
        kind = {f"{NAME}.step": context.step, f"{NAME}.kind": context.verb}
        if stint is not None:
            kind[f"{NAME}.saga"] = stint.saga.name
        span = self._tracer.start_span(f"{context.verb} {context.step}", parent, attributes=kind)
        if span.is_recording():
            span.set_attributes({f"{NAME}.saga_id": context.saga_id, f"{NAME}.attempt": context.attempt})
        outcome, began = {f"{NAME}.outcome": OUTCOMES[context.verb]}, time.perf_counter()
        self._active.add(1, kind)
        try:
            with (
                log_context(context),
                trace.use_span(
                    span,
                    record_exception=False,
                    set_status_on_exception=False,
                ),
            ):
                yield
        except BaseException as error:
            if self._record_exceptions and isinstance(error, Exception) and span.is_recording():
                span.add_event("exception", self._exception(error))
            outcome = {f"{NAME}.outcome": _outcome(stint, context, error), "error.type": _kind(error)}
            span.set_status(trace.StatusCode.ERROR, _kind(error))
            raise
        finally:
            self._active.add(-1, kind)
            self._attempts.record(time.perf_counter() - began, {**kind, **outcome})
            span.set_attributes(outcome)
            span.end()

    def _exception(self, error: Exception) -> dict[str, str]:
        """The attributes that describe *error*, with the names of OpenTelemetry's conventions and without secrets."""
        failure, hidden = Failure.of(error), self._redaction.field
        return {
            "exception.type": failure.type,
            "exception.message": str(hidden("message", failure.message)),
            "exception.stacktrace": str(hidden("traceback", failure.traceback)),
        }


def _links(kind: str, carriers: Iterable[Mapping[str, str]]) -> list[trace.Link]:
    """Links to the spans with the journaled contexts *carriers*.

    Each link has *kind* as an attribute: ``origin``, ``previous`` or ``cause``.
    """
    contexts = (_propagator.extract(carrier, otel_context.Context()) for carrier in carriers)
    spans = (trace.get_current_span(context).get_span_context() for context in contexts)
    return [trace.Link(span, {f"{NAME}.link": kind}) for span in spans if span.is_valid]


def _named(saga: Saga) -> dict[str, str]:
    return {f"{NAME}.saga": saga.name, f"{NAME}.version": saga.version}


def _outcome(stint: _Stint | None, context: Context, error: BaseException) -> str:
    if isinstance(error, StepRejectedError):
        return "rejected"
    if stint is not None and context.verb == "execute" and leaves_doubt(stint.saga.part(context.step), error):
        return "in_doubt"
    return "errored"


def _kind(error: BaseException) -> str:
    """The class name of *error*. A metric needs attributes with few different values, and messages have too many."""
    return type(error).__qualname__
