"""A model without a table. Django's admin needs it to list executions and to check the permission to view them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:  # Django has no type annotations
    Model = object
else:
    from django.db.models import Model


class Execution(Model):
    """An execution of a saga. It is stored in the journal, not in the site's database."""

    saga_id: Any = models.CharField(primary_key=True, max_length=255)

    class Meta:
        """The options of the model: Django creates no table for it, and only the permission to view it."""

        managed = False
        default_permissions: tuple[str, ...] = ("view",)
