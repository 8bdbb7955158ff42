"""Profile sync: applies changes of user profiles in four independent services, and checks the result.

``python -m examples.profile_sync`` runs it; `saga` is its definition, for diagrams and `verify`.
"""

from __future__ import annotations

from pathlib import Path

from examples.profile_sync.changes import ProfileChange
from examples.profile_sync.lifecycle import user_lifecycle
from examples.profile_sync.services import Services
from examples.profile_sync.steps import profile_steps

DEFAULT_FOLDER = Path("demo_state")

# This opens no file: a service opens its database at its first request.
saga = user_lifecycle(profile_steps(Services.at(DEFAULT_FOLDER)), payload=ProfileChange)
