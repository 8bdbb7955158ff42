"""A model without a table, which gives the list of executions its place and its permission in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:  # Django has no types
    Model = object
else:
    from django.db.models import Model


class Execution(Model):
    """An execution of a saga. The journal keeps it; no row of the site's database does."""

    saga_id: Any = models.CharField(primary_key=True, max_length=255)

    class Meta:
        """No table, and no permission but to view."""

        managed = False
        default_permissions: tuple[str, ...] = ("view",)
