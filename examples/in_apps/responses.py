"""HTTP responses, the same under every framework: the status of an order, and the HTTP status of an error."""

from __future__ import annotations

from dataclasses import dataclass

from fsm_mediator import JournalError, MediatorError, Outcome, PayloadError, RefusedError, UnknownExecutionError


@dataclass
class OrderStatus:
    """The body of a response about an order.

    Attributes:
        order_id: The id of the order, and of its saga.
        state: The state of the saga, for example ``waiting.approval``.
        step: The step that the saga is at; None when it has ended.
    """

    order_id: str
    state: str
    step: str | None


def order_status(outcome: Outcome) -> OrderStatus:
    """The status of an order, from the outcome of its saga."""
    return OrderStatus(outcome.saga_id, outcome.state, outcome.step)


def http_status(error: MediatorError) -> int:
    """The HTTP status code for an error of the mediator."""
    for kind, status in (
        (UnknownExecutionError, 404),
        (PayloadError, 422),
        (RefusedError, 409),  # already ended, another payload under the same id, driven by another process ...
        (JournalError, 503),  # nothing was started, or the saga continues later: send the request again
    ):
        if isinstance(error, kind):
            return status
    return 500
