"""HTTP for all frameworks: the status code of a mediator's error, and the payload from the body of a request."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from fsm_mediator.errors import (
    InvalidSagaIdError,
    JournalError,
    MediatorError,
    PayloadError,
    RefusedError,
    StillRunningError,
    UnknownExecutionError,
)

T = TypeVar("T")

_STATUSES: Final = (
    (UnknownExecutionError, 404),
    ((PayloadError, InvalidSagaIdError), 422),
    (RefusedError, 409),  # for example, the execution has ended, or the id belongs to another payload
    (StillRunningError, 202),  # `run(timeout=...)` has stopped waiting; the saga continues
    (JournalError, 503),  # nothing was started, or the saga continues later: send the request again
)


def error_status(error: MediatorError) -> int:
    """The HTTP status code for an error of the mediator: 404, 422, 409, 202 or 503, and 500 for any other error."""
    return next((status for kinds, status in _STATUSES if isinstance(error, kinds)), 500)


def error_body(error: MediatorError) -> dict[str, str]:
    """The body of an error response: the error's message. For status 500 or 503, a fixed text without details."""
    status = error_status(error)
    return {"error": str(error) if status < 500 else "the operation is not available now; send the request again"}


def payload_from(body: bytes, type: type[T]) -> T:
    """Decode the JSON body of a request as a payload of the class *type*.

    Raises:
        PayloadError: The body is not JSON, or does not fit *type*. `error_status` of this error is 422.
    """
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.DecodeError as error:
        raise PayloadError(f"the body of the request is not valid: {error}") from error
