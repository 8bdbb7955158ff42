"""The app's configuration."""

from __future__ import annotations

from django.apps import AppConfig


class TransactionsConfig(AppConfig):
    """An app without models: it has the migrations of two tables."""

    name = "fsm_mediator.transactions.django_app"
    label = "fsm_mediator"
    verbose_name = "fsm_mediator: transactional steps"
