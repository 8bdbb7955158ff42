"""Four independent services: none imports another, and each has its own database."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

from examples.profile_sync.changes import ProfileChange
from examples.profile_sync.faults import Faults
from examples.profile_sync.services.auth import AuthService
from examples.profile_sync.services.billing import BillingService
from examples.profile_sync.services.notification import NotificationService
from examples.profile_sync.services.ui_cache import UICacheService

__all__ = ["AuthService", "BillingService", "NotificationService", "Services", "UICacheService"]


@attrs.frozen
class Services:
    """The clients of all services."""

    auth: AuthService
    billing: BillingService
    notification: NotificationService
    ui_cache: UICacheService

    @classmethod
    def at(cls, folder: Path, faults: Faults | None = None) -> Services:
        """Services with their databases in *folder*, opened at the first request."""
        return cls(
            AuthService(folder, faults),
            BillingService(folder, faults),
            NotificationService(folder, faults),
            UICacheService(folder, faults),
        )

    def enroll(self, profiles: Iterable[ProfileChange]) -> None:
        """Adds users to every service; existing users are not changed."""
        profiles = list(profiles)
        self.auth.enroll((p.user_id, p.email) for p in profiles)
        self.billing.enroll((p.user_id, p.plan) for p in profiles)
        self.ui_cache.enroll((p.user_id, p.display_name, p.plan) for p in profiles)

    def close(self) -> None:
        """Closes every database."""
        for service in (self.auth, self.billing, self.notification, self.ui_cache):
            service.close()
