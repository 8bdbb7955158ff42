"""The classic scenario, as short as it gets: log in, charge, notify.

The services are whatever has these methods; the tests put mocks in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

from fsm_mediator import Step

if TYPE_CHECKING:
    from fsm_mediator import Context


class Auth(Protocol):
    """What AuthStep needs."""

    def login(self, user_id: int) -> object:
        """Opens a session."""

    def logout(self, user_id: int) -> object:
        """Ends the session, if there is one."""


class Billing(Protocol):
    """What BillingStep needs."""

    def charge(self, user_id: int, amount: int, *, key: str) -> object:
        """Takes the money, once for each key."""

    def refund(self, user_id: int, amount: int, *, key: str) -> object:
        """Gives back what was taken under that key, if anything was."""


class Notification(Protocol):
    """What NotificationStep needs."""

    def send(self, user_id: int, message: str) -> object:
        """Sends the message."""


@attrs.frozen(kw_only=True)
class MediatorPayload:
    """What the steps are given."""

    user_id: int
    amount: int
    message: str


class AuthStep(Step):
    """The user is logged in."""

    def __init__(self, auth: Auth) -> None:
        self.auth = auth

    def execute(self, payload: MediatorPayload) -> None:
        """Logs in."""
        self.auth.login(payload.user_id)

    def compensate(self, payload: MediatorPayload) -> None:
        """Logs out."""
        self.auth.logout(payload.user_id)


class BillingStep(Step):
    """The user has paid."""

    def __init__(self, billing: Billing) -> None:
        self.billing = billing

    def execute(self, payload: MediatorPayload, context: Context) -> None:
        """Charges."""
        self.billing.charge(payload.user_id, payload.amount, key=context.idempotency_key)

    def compensate(self, payload: MediatorPayload, context: Context) -> None:
        """Refunds."""
        self.billing.refund(payload.user_id, payload.amount, key=context.execute_key)


class NotificationStep(Step):
    """The user is told. It comes last, so there is nothing to undo it for."""

    def __init__(self, notification: Notification) -> None:
        self.notification = notification

    def execute(self, payload: MediatorPayload) -> None:
        """Sends the message."""
        self.notification.send(payload.user_id, payload.message)
