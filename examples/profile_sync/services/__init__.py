"""Four services that do not know each other: none imports another, each has a database of its own."""

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
    """The four of them, as the application that embeds them holds them."""

    auth: AuthService
    billing: BillingService
    notification: NotificationService
    ui_cache: UICacheService

    @classmethod
    def at(cls, folder: Path, faults: Faults | None = None) -> Services:
        """Services that keep their state in *folder*; nothing is opened before the first request."""
        return cls(
            AuthService(folder, faults),
            BillingService(folder, faults),
            NotificationService(folder, faults),
            UICacheService(folder, faults),
        )

    def enroll(self, profiles: Iterable[ProfileChange]) -> None:
        """Makes users known everywhere; whoever is known already stays as they are."""
        profiles = list(profiles)
        self.auth.enroll((p.user_id, p.email) for p in profiles)
        self.billing.enroll((p.user_id, p.plan) for p in profiles)
        self.ui_cache.enroll((p.user_id, p.display_name, p.plan) for p in profiles)

    def close(self) -> None:
        """Closes every file."""
        for service in (self.auth, self.billing, self.notification, self.ui_cache):
            service.close()
