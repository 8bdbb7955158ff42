"""Servers for the tests of engines: each is started once, and stopped with the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.engines.sagas import NEVER
from tests.engines.servers import RestateServer, TemporalServer

SAGAS = int(os.environ.get("ENGINES_SAGAS", "200"))
SEED = int(os.environ.get("ENGINES_SEED", "0"))


@pytest.fixture(scope="session")
def temporal_server() -> Iterator[TemporalServer]:
    """A Temporal server in memory."""
    server = TemporalServer()
    yield server
    NEVER.set()
    server.stop()


@pytest.fixture(scope="session")
def restate_server() -> Iterator[RestateServer]:
    """A Restate server."""
    server = RestateServer()
    yield server
    NEVER.set()
    server.stop()
