"""The participants: each step says what its service is to do, and how that is undone.

A step is the only place where a service and fsm_mediator meet; no step knows another one, or another's service.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from examples.profile_sync.changes import ProfileChange
from examples.profile_sync.faults import RefusedError
from examples.profile_sync.services import (
    AuthService,
    BillingService,
    NotificationService,
    Services,
    UICacheService,
)
from fsm_mediator import Context, Retry, Step, StepRejectedError


@contextmanager
def refusals() -> Iterator[None]:
    """Tells the mediator what the service means by "no": without effect, and not to be tried again."""
    try:
        yield
    except RefusedError as error:
        raise StepRejectedError(str(error)) from error


class ProfileStep(Step):
    """What the four steps share: patience. The waits are tiny, for a demo; see `Retry` for the usual ones."""

    retry = Retry(attempts=4, wait_initial=0.002, wait_max=0.01, wait_jitter=0.002)
    compensation_retry = Retry(attempts=12, wait_initial=0.002, wait_max=0.01, wait_jitter=0.002)


class AuthStep(ProfileStep):
    """The user logs in with the new address."""

    def __init__(self, auth: AuthService) -> None:
        self.auth = auth

    def execute(self, change: ProfileChange, context: Context) -> None:
        """Changes the address."""
        with refusals():
            self.auth.change_email(change.user_id, change.email, key=context.idempotency_key)

    def compensate(self, change: ProfileChange, context: Context) -> None:
        """Puts the old address back."""
        self.auth.restore_email(change.user_id, key=context.execute_key)


class BillingStep(ProfileStep):
    """The user is on the new plan and has paid for it."""

    def __init__(self, billing: BillingService) -> None:
        self.billing = billing

    def execute(self, change: ProfileChange, context: Context) -> int:
        """Subscribes and charges; returns the cents charged."""
        with refusals():
            self.billing.subscribe(change.user_id, change.plan, change.cents, key=context.idempotency_key)
        return change.cents

    def compensate(self, change: ProfileChange, context: Context) -> None:
        """Puts the old plan back and refunds."""
        self.billing.refund(change.user_id, key=context.execute_key)


class NotificationStep(ProfileStep):
    """The user is told."""

    def __init__(self, notification: NotificationService) -> None:
        self.notification = notification

    def execute(self, change: ProfileChange, context: Context) -> None:
        """Sends the message."""
        with refusals():
            self.notification.send(change.user_id, change.message, key=context.idempotency_key)

    def compensate(self, change: ProfileChange, context: Context) -> None:
        """Withdraws the message."""
        self.notification.withdraw(change.user_id, key=context.execute_key)


class UICacheStep(ProfileStep):
    """The user's page shows it."""

    def __init__(self, ui_cache: UICacheService) -> None:
        self.ui_cache = ui_cache

    def execute(self, change: ProfileChange, context: Context) -> None:
        """Refreshes the page."""
        with refusals():
            self.ui_cache.refresh(change.user_id, change.display_name, change.plan, key=context.idempotency_key)

    def compensate(self, change: ProfileChange, context: Context) -> None:
        """Restores the page."""
        self.ui_cache.restore(change.user_id, key=context.execute_key)


def profile_steps(services: Services) -> list[ProfileStep]:
    """The steps of a profile's change, in order."""
    return [
        AuthStep(services.auth),
        BillingStep(services.billing),
        NotificationStep(services.notification),
        UICacheStep(services.ui_cache),
    ]
