"""What every test file shares."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.drivers import drive, impatient, journal

__all__ = ["drive", "impatient", "journal"]  # fixtures

# No deadline: the time that an example takes says more about the machine than about the code.
settings.register_profile("default", deadline=None, max_examples=100)
# What decides about a change must decide the same twice: new examples are searched for elsewhere.
settings.register_profile(
    "ci",
    settings.get_profile("default"),
    database=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def torture_seconds() -> float:
    """How long one search of a torture test may take: the seconds in TORTURE_SECONDS, else 60."""
    return float(os.environ.get("TORTURE_SECONDS", "60"))
