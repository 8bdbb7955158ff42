"""A model without a table, which gives the list of executions its place and its permission in the admin."""

from __future__ import annotations

from django.db import models


class Execution(models.Model):
    """An execution of a saga. The journal keeps it; no row of the site's database does."""

    saga_id = models.CharField(primary_key=True, max_length=255)

    class Meta:
        """No table, and no permission but to view."""

        managed = False
        default_permissions = ("view",)
