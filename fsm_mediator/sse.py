"""Server-sent events: let a browser follow an execution. For Starlette, FastAPI, Django and Flask.

::

    @app.get("/orders/{order_id}/events")
    async def follow(order_id: str, request: Request):
        return sse(mediator, order_id, request)

If the connection breaks, the browser's ``EventSource`` connects again and continues with the next event, because the id
of an event is the number of its record. Payloads, results and error messages are not sent.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from fsm_mediator.errors import DefinitionError
from fsm_mediator.mediator.watching import Moment
from fsm_mediator.narration import in_words, place_in_words

__all__ = ["event_of", "sse"]

HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""Response headers with which proxies do not store or buffer the events."""

TYPE: Final = "text/event-stream"


def event_of(moment: Moment) -> bytes:
    """The bytes of the event for *moment*: ``record``, with the record's number as id, or ``outcome`` at the end."""
    record, outcome = moment.record, moment.outcome
    if record is not None:
        error = None if record.error is None else record.error.type
        fields = {
            "saga_id": moment.saga_id,
            "seq": record.seq,
            "event": record.event,
            "state": record.target,
            "step": record.step,
            "attempt": record.attempt,
            "at": record.at,
            "error": error,
            "words": in_words(record),
            "then": place_in_words(record.target),
        }
        return _event("record", fields, record.seq)
    state = "pending" if outcome is None else outcome.state
    return _event("accepted" if outcome is None else "outcome", {"saga_id": moment.saga_id, "state": state})


def _event(name: str, fields: dict[str, Any], number: int | None = None) -> bytes:
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: {json.dumps(fields, separators=(',', ':'))}\n\n".encode()


def sse(mediator: Any, saga_id: str, request: Any) -> Any:
    """A response that sends each record of an execution when it is committed, and ends with the outcome.

    Args:
        mediator: A `Mediator` or an `AsyncMediator`. Flask, and Django on WSGI, need a `Mediator`.
        saga_id: The id of the execution.
        request: The request of Starlette, FastAPI, Django or Flask. If it has the header ``Last-Event-ID``, the events
            begin after the record with this number.

    Returns:
        A response of the request's framework.

    Raises:
        DefinitionError: The framework of the request is not supported.
        UnknownExecutionError: There is no such execution. This error is raised while the events are read.
    """
    last = str(request.headers.get("Last-Event-ID") or "")
    moments = mediator.watch(saga_id, from_seq=int(last) + 1 if last.isdecimal() else 1)
    events: Any = _each_async(moments) if hasattr(moments, "__anext__") else _each(moments)
    kinds = {base.__module__.split(".")[0] for base in type(request).__mro__}
    if "starlette" in kinds:
        from starlette.responses import StreamingResponse

        return StreamingResponse(events, media_type=TYPE, headers=HEADERS)
    if "django" in kinds:
        from django.http import StreamingHttpResponse

        return StreamingHttpResponse(events, content_type=TYPE, headers=HEADERS)
    if kinds & {"flask", "werkzeug"}:
        from flask import Response

        return Response(events, mimetype=TYPE, headers=HEADERS)
    raise DefinitionError(f"{type(request).__name__} is no request of Starlette, FastAPI, Django or Flask")


def _each(moments: Iterator[Moment]) -> Iterator[bytes]:
    for moment in moments:
        yield event_of(moment)


async def _each_async(moments: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for moment in moments:
        yield event_of(moment)
