"""What every test file shares."""

from __future__ import annotations

import os
import zlib

import pytest
from hypothesis import HealthCheck, settings

from tests.drivers import drive, impatient, journal
from tests.postgres_server import stop_server

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


THE_SAME_ON_EVERY_PYTHON = frozenset(
    (
        *("test_cli", "test_cli_checks", "test_cli_errors", "test_cli_terminals", "test_cli_waits", "test_conformance"),
        *("test_crashes", "test_disk", "test_explorer", "test_forgotten_ids", "test_group_counterexamples"),
        *("test_house", "test_journal_files", "test_mutants", "test_profile_sync", "test_promises"),
        *("test_pytest_plugin", "test_pytest_source", "test_sqlite_opening", "test_strategies", "test_upgrades"),
        *("test_big_groups", "test_check_together", "test_limits_across", "test_process_memory", "test_protocol_model"),
        *("test_statistics", "test_undrivable"),
        *("test_verifier", "test_verify_examples", "test_verify_waits", "test_versions"),
    )
)
"""Files whose tests CI runs on one Python: they take long, and what they test is not Python's."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of those files; of those on PostgreSQL keep one in POSTGRES_SHARE, drawn by POSTGRES_SEED."""
    share, seed = (
        os.environ.get(name) or default for name, default in (("POSTGRES_SHARE", "1"), ("POSTGRES_SEED", ""))
    )
    for item in items:
        if item.path.stem in THE_SAME_ON_EVERY_PYTHON:
            item.add_marker("once")
    items[:] = [
        item
        for item in items
        if item.get_closest_marker("postgres") is None or zlib.crc32(f"{seed}{item.nodeid}".encode()) % int(share) == 0
    ]


def pytest_sessionfinish() -> None:
    """Stop the PostgreSQL server that tests have started."""
    stop_server()
