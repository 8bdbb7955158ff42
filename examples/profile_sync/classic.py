"""The classic scenario, as short as it gets: log in, charge, notify.

Any object with these methods can be a service; the tests use mocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

from fsm_mediator import Step

if TYPE_CHECKING:
    from fsm_mediator import Context


class Auth(Protocol):
    """The service of AuthStep."""

    def login(self, user_id: int) -> object:
        """Opens a session."""

    def logout(self, user_id: int) -> object:
        """Ends the session, if there is one."""


class Billing(Protocol):
    """The service of BillingStep."""

    def charge(self, user_id: int, amount: int, *, key: str) -> object:
        """Charges the user, once for each key."""

    def refund(self, user_id: int, amount: int, *, key: str) -> object:
        """Refunds the charge with this key, if there was one."""


class Notification(Protocol):
    """The service of NotificationStep."""

    def send(self, user_id: int, message: str, *, key: str) -> object:
        """Sends the message, once for each key."""


@attrs.frozen(kw_only=True)
class MediatorPayload:
    """The payload of the steps."""

    user_id: int
    amount: int
    message: str


class AuthStep(Step):
    """Logs the user in."""

    def __init__(self, auth: Auth) -> None:
        self.auth = auth

    def execute(self, payload: MediatorPayload) -> None:
        """Logs in."""
        self.auth.login(payload.user_id)

    def compensate(self, payload: MediatorPayload) -> None:
        """Logs out."""
        self.auth.logout(payload.user_id)


class BillingStep(Step):
    """Charges the user."""

    def __init__(self, billing: Billing) -> None:
        self.billing = billing

    def execute(self, payload: MediatorPayload, context: Context) -> None:
        """Charges."""
        self.billing.charge(payload.user_id, payload.amount, key=context.idempotency_key)

    def compensate(self, payload: MediatorPayload, context: Context) -> None:
        """Refunds."""
        self.billing.refund(payload.user_id, payload.amount, key=context.execute_key)


class NotificationStep(Step):
    """Notifies the user. It is the last step, so it needs no compensation."""

    def __init__(self, notification: Notification) -> None:
        self.notification = notification

    def execute(self, payload: MediatorPayload, context: Context) -> None:
        """Sends the message."""
        self.notification.send(payload.user_id, payload.message, key=context.idempotency_key)
