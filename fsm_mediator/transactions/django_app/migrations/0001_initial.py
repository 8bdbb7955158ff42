"""The table of keys, and the outbox."""

from __future__ import annotations

from django.db import migrations

from fsm_mediator.transactions.django_app.operations import CreateTables


class Migration(migrations.Migration):
    """The first one."""

    operations = (CreateTables(),)
