"""Helpers for views and steps: errors as JSON, and database connections in the threads that run steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fsm_mediator.contrib.http import error_body, error_status
from fsm_mediator.definition.steps import Context
from fsm_mediator.errors import MediatorError

if TYPE_CHECKING:
    from fsm_mediator.cli.loading import App

SETTING = "FSM_MEDIATOR_APP"
"""The name of Django's setting that names the mediator as ``module:object``."""


def json_errors(view: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator for views. It turns errors of the mediator into JSON responses with the matching HTTP status.

    The error first passes through the view's ``transaction.atomic()`` blocks, so these transactions are rolled back.
    """
    from django.http import JsonResponse

    @functools.wraps(view)
    def call(request: Any, *arguments: Any, **settings: Any) -> Any:
        try:
            return view(request, *arguments, **settings)
        except MediatorError as error:
            return JsonResponse(error_body(error), status=error_status(error))

    return call


@contextmanager
def fresh_connections(_context: Context) -> Iterator[None]:
    """Close old database connections around each attempt: ``Mediator(around=[fresh_connections])``.

    Django closes old connections only before and after requests. But steps run in threads that live longer than a
    request.
    """
    from django.db import close_old_connections

    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


def configured_app() -> App:
    """The sagas and the journal of the mediator that Django's setting ``FSM_MEDIATOR_APP`` names.

    Raises:
        DefinitionError: The setting is missing, or the object that it names cannot be loaded.
    """
    from django.conf import settings

    from fsm_mediator.cli.loading import load_app
    from fsm_mediator.errors import DefinitionError

    spec = getattr(settings, SETTING, None)
    if not isinstance(spec, str) or not spec:
        raise DefinitionError(f'the setting {SETTING} is missing: {SETTING} = "shop.sagas:mediator"')
    return load_app(spec)
