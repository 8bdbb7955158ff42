"""CreateTables: the migration operation that creates the tables of `Transactions`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db import router

from fsm_mediator.transactions.databases.base import dialect_of
from fsm_mediator.transactions.databases.django import names_in_settings
from fsm_mediator.transactions.tables import Tables

if TYPE_CHECKING:  # Django has no type annotations
    Operation = object
else:
    from django.db.migrations.operations.base import Operation


class CreateTables(Operation):
    """Creates the tables of `Transactions` in each database for which the router allows migrations.

    The names of the tables come from the setting ``FSM_MEDIATOR``.
    """

    reversible = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Do nothing, because no Django model belongs to the tables."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:  # noqa: ARG002
        """Create the missing tables. Django calls this method when it applies the migration."""
        vendor = schema_editor.connection.vendor
        self._execute(app_label, schema_editor, Tables(**names_in_settings()).statements(dialect_of(vendor)))

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:  # noqa: ARG002
        """Drop the tables. Django calls this method when it reverts the migration."""
        self._execute(app_label, schema_editor, Tables(**names_in_settings()).drops())

    def _execute(self, app_label: str, schema_editor: Any, statements: Iterable[str]) -> None:
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            for statement in statements:
                schema_editor.execute(statement)

    def describe(self) -> str:
        """The text that ``manage.py migrate --plan`` shows for this operation."""
        return "Make the tables of transactional steps"
