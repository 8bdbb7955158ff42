"""A PostgreSQL server of the tests' own, started when the first test asks for it, and stopped with the tests."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fsm_mediator.cli import embedded
from fsm_mediator.errors import DefinitionError
from fsm_mediator.journal.postgres import PostgresJournal, sql
from fsm_mediator.journal.postgres.connections import Connections
from fsm_mediator.journal.postgres.presence import SecondLook
from fsm_mediator.journal.postgres.schema import lock_class

_names = itertools.count(1)
_started: list[Server] = []
SETTINGS = {
    "fsync": "off",  # the machine outlives the tests
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
}


def programs() -> Path:
    """The folder of ``initdb`` and ``postgres``."""
    try:
        return embedded.programs()
    except DefinitionError as error:
        pytest.fail(f"no PostgreSQL server can be started: {error}, or deselect these tests: -m 'not postgres'", False)


class Server:
    """A server on a free port of 127.0.0.1 and on a Unix socket; root starts it as ``nobody``, since it must."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="fsm-pg-"))
        self.programs = programs()
        self.user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self.user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.folder, "nobody", "nogroup")
        self.process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.initialise()
        self.start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def initialise(self) -> None:
        auth = ("--auth-local=trust", "--auth-host=scram-sha-256")
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "-E", "UTF8", "--no-locale", "-N", *auth)

    def run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments], check=False, capture_output=True, cwd="/", **self.user
        )
        if done.returncode != 0:
            pytest.fail(f"{program} failed: {done.stderr.decode(errors='replace')}", pytrace=False)

    def start(self) -> None:
        settings = {**SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.data, *options], stdout=log, stderr=log, cwd="/", **self.user
            )
        for _ in range(1200):
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url()).close()
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        log_text = (self.folder / "log").read_text(errors="replace")
        pytest.fail(f"the PostgreSQL server did not start: {log_text[-2000:]}", pytrace=False)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT, in order; SIGQUIT, at once, as ``pg_ctl stop -m immediate`` does."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(how)
            process.wait(60)

    def url(self, user: str = "postgres") -> str:
        return f"postgresql://{user}@/postgres?host={self.folder}&port={self.port}"

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def journal(self, schema: str | None = None, **settings: Any) -> PostgresJournal:
        """A journal in a schema of its own."""
        return PostgresJournal(self.url(), schema=schema or f"s{os.getpid()}_{next(_names)}", **settings)

    def remove(self) -> None:
        self.stop()  # in order: after SIGQUIT, the server's shared memory would stay in /dev/shm
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def server() -> Server:
    """The server that all tests of this process share."""
    started = Server()
    _started.append(started)
    return started


def stop_server() -> None:
    """Stop the shared server, if it was started."""
    while _started:
        _started.pop().remove()


def server_clock(schema: str, now: float) -> None:
    """Set the clock that a journal's tables are read by."""
    server().execute(
        f"CREATE OR REPLACE FUNCTION {schema}.now_seconds() RETURNS float8 LANGUAGE sql AS 'SELECT {now!r}::float8'"
    )


def changed(journal: PostgresJournal, statement: str) -> None:
    """Change the tables of a journal by hand."""
    server().execute(f"SET search_path = {connections_of(journal).schema}; {statement}")


def until_unlocked(journal: PostgresJournal, *drivers: str) -> None:
    """Wait until the server has released what these drivers locked: it does so some time after they disconnected."""
    key = lock_class(connections_of(journal).schema)
    for _ in range(1200):
        if not any(row[3] for row in connections_of(journal).read(sql.DRIVERS_OF_IDS, (key, list(drivers)))):
            return
        time.sleep(0.05)
    pytest.fail(f"the server still holds the locks of {drivers}")


def without_second_look(journal: PostgresJournal) -> PostgresJournal:
    """A journal that takes a driver to be gone at the first look."""
    liveness_of(journal).pause = 0.0
    return journal


def liveness_of(journal: PostgresJournal) -> SecondLook:
    """How the journal looks at drivers; only this function reads it."""
    liveness: SecondLook = journal._liveness
    return liveness


def connections_of(journal: PostgresJournal) -> Connections:
    """The journal's connections; only this function reads them."""
    connections: Connections = journal._connections
    return connections
