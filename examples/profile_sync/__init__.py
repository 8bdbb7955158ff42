"""Synchronises changes of user profiles over modules that do not know each other, and checks the result.

``python -m examples.profile_sync`` runs it; `saga` is its definition, to be drawn and verified.
"""

from __future__ import annotations

from pathlib import Path

from examples.profile_sync.changes import ProfileChange
from examples.profile_sync.lifecycle import user_lifecycle
from examples.profile_sync.services import Services
from examples.profile_sync.steps import profile_steps

DEFAULT_FOLDER = Path("demo_state")

# Nothing is opened here: a service opens its file with its first request.
saga = user_lifecycle(profile_steps(Services.at(DEFAULT_FOLDER)), payload=ProfileChange)
