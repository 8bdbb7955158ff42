"""Sagas in Flask: a mediator for the app, and error responses.

::

    app = Flask(__name__)
    use_mediator(app, Mediator(order, journal="orders.db", close_grace=10.0))

    @app.put("/orders/<order_id>")
    def place_order(order_id: str):
        get_mediator().start("order", payload_from(request.get_data(), Order), saga_id=order_id)
        return {}, 202

Also run ``fsm-mediator serve``: it recovers the sagas of workers that died.
"""

from __future__ import annotations

import atexit

from fsm_mediator.contrib.http import error_body, error_status, payload_from
from fsm_mediator.errors import DefinitionError, MediatorError, MissingExtraError
from fsm_mediator.mediator.sync import Mediator

try:
    from flask import Flask, current_app
except ImportError as _error:
    raise MissingExtraError("fsm_mediator.contrib.flask", "flask") from _error

__all__ = ["get_mediator", "payload_from", "use_mediator"]

_NAME = "fsm_mediator"


def use_mediator(app: Flask, mediator: Mediator) -> None:
    """Let the app use *mediator*.

    `get_mediator` returns the mediator, its errors become JSON responses, and it is closed when the process ends. The
    mediator also works if the server forks its workers after the import, as ``gunicorn --preload`` does.
    """
    app.extensions[_NAME] = mediator
    app.register_error_handler(MediatorError, _error_response)
    atexit.register(mediator.close)


def get_mediator() -> Mediator:
    """The mediator that `use_mediator` has set for the current Flask app.

    Raises:
        DefinitionError: The app has no mediator.
    """
    mediator: Mediator | None = current_app.extensions.get(_NAME)
    if mediator is None:
        raise DefinitionError("this Flask app has no mediator: call use_mediator(app, mediator) where it is made")
    return mediator


def _error_response(error: MediatorError) -> tuple[dict[str, str], int]:
    return error_body(error), error_status(error)
