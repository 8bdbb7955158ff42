"""What a web app answers: where an order stands, and which status an error of the mediator has. For every framework."""

from __future__ import annotations

from typing import Any

from fsm_mediator import JournalError, MediatorError, Outcome, PayloadError, RefusedError, UnknownExecutionError


def told(outcome: Outcome) -> dict[str, Any]:
    """Where it stands, for whoever asks over the web."""
    return {"order": outcome.saga_id, "state": outcome.state, "waits_for": outcome.step}


def status_of(error: MediatorError) -> int:
    """The HTTP status that says what the error says."""
    for kind, status in (
        (UnknownExecutionError, 404),
        (PayloadError, 422),
        (RefusedError, 409),  # ended already, another payload under this id, somebody else is at it ...
        (JournalError, 503),  # nothing was begun, or it goes on later: ask again
    ):
        if isinstance(error, kind):
            return status
    return 500
