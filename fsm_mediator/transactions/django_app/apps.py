"""The configuration of the Django app that creates the tables of `Transactions`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Django has no type annotations
    AppConfig = object
else:
    from django.apps import AppConfig


class TransactionsConfig(AppConfig):
    """The configuration of a Django app without models. Its migrations create the tables of `Transactions`."""

    name = "fsm_mediator.transactions.django_app"
    label = "fsm_mediator"
    verbose_name = "fsm_mediator: transactional steps"
