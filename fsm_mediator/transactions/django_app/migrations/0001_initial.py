"""The first migration: creates the table of keys and the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_mediator.transactions.django_app.operations import CreateTables

if TYPE_CHECKING:  # Django has no types
    MigrationBase = object
else:
    from django.db.migrations import Migration as MigrationBase


class Migration(MigrationBase):
    """The first migration: creates all tables of `Transactions`."""

    operations: tuple[CreateTables, ...] = (CreateTables(),)
