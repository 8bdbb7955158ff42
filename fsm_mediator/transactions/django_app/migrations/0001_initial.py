"""The first migration. It creates all tables of `Transactions`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_mediator.transactions.django_app.operations import CreateTables

if TYPE_CHECKING:  # Django has no type annotations
    MigrationBase = object
else:
    from django.db.migrations import Migration as MigrationBase


class Migration(MigrationBase):
    """Creates the table of keys and the tables of the outbox."""

    operations: tuple[CreateTables, ...] = (CreateTables(),)
