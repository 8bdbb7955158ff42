"""The configuration of the Django app, and its system check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core import checks

from fsm_mediator.contrib.django.helpers import SETTING, configured_app
from fsm_mediator.errors import MediatorError
from fsm_mediator.journal.memory import MemoryJournal

if TYPE_CHECKING:  # Django has no type annotations
    AppConfig = object
else:
    from django.apps import AppConfig


class SagasConfig(AppConfig):
    """The app that adds sagas to the admin and to ``manage.py``."""

    name = "fsm_mediator.contrib.django"
    label = "fsm_mediator_sagas"
    verbose_name = "Sagas"

    def ready(self) -> None:
        """Register the system check."""
        checks.register(check_app)


def check_app(**_: Any) -> list[checks.CheckMessage]:
    """Check that the mediator of ``FSM_MEDIATOR_APP`` can be loaded, and that other processes can read its journal."""
    try:
        app = configured_app()
    except MediatorError as error:
        return [checks.Error(str(error), id="fsm_mediator.E001")]
    if app.journal is None:
        hint = f"Let {SETTING} name a Mediator with a journal."
        return [checks.Error(f"{SETTING} names sagas without a mediator.", hint=hint, id="fsm_mediator.E002")]
    if isinstance(app.journal, MemoryJournal):
        hint = 'Give the mediator a journal: Mediator(..., journal="sagas.db").'
        text = "The journal is in memory: other workers cannot see its sagas, and a restart loses them."
        return [checks.Warning(text, hint=hint, id="fsm_mediator.W001")]
    return []
