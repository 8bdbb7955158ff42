"""The steps: each calls one service, and undoes that call.

This is the only module that uses both the services and fsm_mediator. No step depends on another.
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
def service_rejections() -> Iterator[None]:
    """Translates a refusal of a service: it had no effect, and must not be retried."""
    try:
        yield
    except RefusedError as error:
        raise StepRejectedError(str(error)) from error


class ProfileStep(Step):
    """The retry policy of the four steps. The waits are short, for a demo; see `Retry` for the defaults."""

    retry = Retry(attempts=4, wait_initial=0.002, wait_max=0.01, wait_jitter=0.002)
    compensation_retry = Retry(attempts=12, wait_initial=0.002, wait_max=0.01, wait_jitter=0.002)


class AuthStep(ProfileStep):
    """Changes the e-mail address."""

    def __init__(self, auth: AuthService) -> None:
        self.auth = auth

    def execute(self, change: ProfileChange, context: Context) -> None:
        """Changes the address."""
        with service_rejections():
            self.auth.change_email(change.user_id, change.email, key=context.idempotency_key)

    def compensate(self, change: ProfileChange, context: Context) -> None:
        """Restores the old address."""
        self.auth.restore_email(change.user_id, key=context.execute_key)


class BillingStep(ProfileStep):
    """Changes the plan and charges for it."""

    def __init__(self, billing: BillingService) -> None:
        self.billing = billing

    def execute(self, change: ProfileChange, context: Context) -> int:
        """Subscribes and charges. Returns the cents."""
        with service_rejections():
            self.billing.subscribe(change.user_id, change.plan, change.cents, key=context.idempotency_key)
        return change.cents

    def compensate(self, change: ProfileChange, context: Context) -> None:
        """Restores the old plan and refunds."""
        self.billing.refund(change.user_id, key=context.execute_key)


class NotificationStep(ProfileStep):
    """Sends a message to the user."""

    def __init__(self, notification: NotificationService) -> None:
        self.notification = notification

    def execute(self, change: ProfileChange, context: Context) -> None:
        """Sends the message."""
        with service_rejections():
            self.notification.send(change.user_id, change.message, key=context.idempotency_key)

    def compensate(self, change: ProfileChange, context: Context) -> None:
        """Withdraws the message."""
        self.notification.withdraw(change.user_id, key=context.execute_key)


class UICacheStep(ProfileStep):
    """Updates the profile page."""

    def __init__(self, ui_cache: UICacheService) -> None:
        self.ui_cache = ui_cache

    def execute(self, change: ProfileChange, context: Context) -> None:
        """Refreshes the page."""
        with service_rejections():
            self.ui_cache.refresh(change.user_id, change.display_name, change.plan, key=context.idempotency_key)

    def compensate(self, change: ProfileChange, context: Context) -> None:
        """Restores the page."""
        self.ui_cache.restore(change.user_id, key=context.execute_key)


def profile_steps(services: Services) -> list[ProfileStep]:
    """The steps of a profile change, in order."""
    return [
        AuthStep(services.auth),
        BillingStep(services.billing),
        NotificationStep(services.notification),
        UICacheStep(services.ui_cache),
    ]
