"""Sagas in Django: a Django app and helpers for views. The app adds a system check, an admin list and a command.

::

    INSTALLED_APPS = [..., "fsm_mediator.contrib.django"]
    FSM_MEDIATOR_APP = "shop.sagas:mediator"

The command is ``manage.py sagas``. The decorator `json_errors` turns errors of the mediator into JSON responses of a
view. With ``Mediator(around=[fresh_connections])``, steps use no old database connections. This app creates no tables.
The app ``fsm_mediator.transactions.django_app`` creates the tables of transactional steps.
"""

from __future__ import annotations

from fsm_mediator.errors import MissingExtraError

try:
    import django  # noqa: F401
except ImportError as _error:
    raise MissingExtraError("fsm_mediator.contrib.django", "django") from _error

from fsm_mediator.contrib.django.helpers import fresh_connections, json_errors
from fsm_mediator.contrib.http import payload_from

__all__ = ["fresh_connections", "json_errors", "payload_from"]
