"""What every test file shares."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.drivers import drive, impatient, journal
from tests.postgres_server import stop_server
from tests.shares import LONG_SHARE, drawn, mark_long, share_of

__all__ = ["drive", "impatient", "journal"]  # fixtures

# Where there is room, the files of tests are in memory: a journal need not wait for a disk. No test needs a file to
# outlive the machine, and the files of a killed process stay.
if "TMPDIR" not in os.environ and (memory := Path("/dev/shm")).is_dir():  # noqa: S108 - a folder of our own
    with contextlib.suppress(OSError):
        if shutil.disk_usage(memory).free > 4 << 30:
            (folder := memory / f"tmp_{os.getuid()}").mkdir(mode=0o711, exist_ok=True)
            os.environ["TMPDIR"] = tempfile.tempdir = str(folder)

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
# A mutant is killed by any example: few are tried, the same ones each time, and none is made smaller.
settings.register_profile(
    "mutants", settings.get_profile("ci"), max_examples=40, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


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


def pytest_configure(config: pytest.Config) -> None:
    """Run a share of the long tests with the whole suite, unless LONG_SHARE says how many."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    os.environ.setdefault("LONG_SHARE", str(LONG_SHARE) if whole else "1")  # the workers of xdist inherit it


def pytest_report_header() -> str:
    """Say what share of the long tests runs."""
    share, seed = share_of("LONG")
    return f"long tests: one in {share}, drawn by LONG_SEED={seed!r}; make long runs them all"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the long tests and the tests of those files, and keep a share of what takes minutes."""
    mark_long(items)
    for item in items:
        if item.path.stem in THE_SAME_ON_EVERY_PYTHON:
            item.add_marker("once")
    items[:] = drawn(items)


def pytest_sessionfinish() -> None:
    """Stop the PostgreSQL server that tests have started."""
    stop_server()
