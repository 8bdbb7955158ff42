"""One worker of a fleet under test: ``python -m tests.cluster.worker SETTINGS``, which are JSON; see `Settings`.

Its participants write down each call, before and after it, in a file that the library cannot see.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec

from fsm_mediator import Context, JournalError, Mediator, Retry, Saga, StepRejectedError, step
from fsm_mediator.journal import liveness
from fsm_mediator.journal.postgres import PostgresJournal

ENDLESS = Retry(attempts=None, wait_initial=0.0, wait_jitter=0.0)


class Settings(msgspec.Struct, kw_only=True):
    """What a worker is told.

    Attributes:
        url: The journal.
        schema: Its schema.
        ledger: The folder of the calls.
        seconds: How long a call takes.
        elsewhere: Whether to seem to run on a machine of its own, so that /proc tells nothing.
        lease: Of the journal.
        poll: Of the daemon.
        workers: How many executions are driven at a time.
        loses: Of each kind of write, the answer to every so many-th is lost; 0: none.
        versions: The versions of the saga that it knows.
    """

    url: str
    schema: str
    ledger: str
    seconds: float = 0.1
    elsewhere: bool = False
    lease: float = 30.0
    poll: float = 1.0
    workers: int = 8
    loses: int = 0
    versions: tuple[int, ...] = (1,)


def fleet_saga(ledger: Path, seconds: float, version: int = 1) -> Saga:
    """A saga of three steps, the third of which rejects every third payload; version 2 has a fourth."""
    log = os.open(ledger / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(kind: str, what: str, context: Context) -> None:
        line = [time.monotonic(), os.getpid(), kind, context.saga_id, what, version]
        os.write(log, json.dumps(line).encode() + b"\n")

    def call(what: str, context: Context) -> None:
        note("begin", what, context)
        if seconds:
            threading.Event().wait(seconds)
        note("end", what, context)

    def make(name: str) -> Any:
        @step(name=name, retry=ENDLESS, compensation_retry=ENDLESS)
        def execute(payload: int, context: Context) -> str:
            call(name, context)
            if name == "c" and payload % 3 == 0:
                raise StepRejectedError("no")
            return name

        @execute.compensation
        def compensate(payload: int, context: Context) -> None:
            call(f"undo {name}", context)

        return execute

    names = "abcde"[: 2 + version]
    return Saga("fleet", [make(name) for name in names], payload=int, version=str(version))


class Deaf(PostgresJournal):
    """A journal on PostgreSQL whose answers to writes are lost on the way, after the commit."""

    loses = 2

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.calls = itertools.count(1)

    def write(self, commit: Any) -> Any:
        """As `Journal.write`."""
        written = super().write(commit)
        self._lose()
        return written

    def claim_some(self, *args: Any, **named: Any) -> Any:
        """As `Journal.claim_some`."""
        claimed = super().claim_some(*args, **named)
        if claimed:
            self._lose()
        return claimed

    def _lose(self) -> None:
        if next(self.calls) % self.loses == 0:
            raise JournalError("the answer was lost")


def main(settings: Settings) -> None:
    """Serve until the process is killed, or is sent an end of its input."""
    if settings.elsewhere:
        fake = uuid.uuid4().hex
        liveness.boot_id = lambda: fake  # type: ignore[assignment]
    Deaf.loses = settings.loses
    kind = Deaf if settings.loses else PostgresJournal
    journal = kind(settings.url, schema=settings.schema, lease=settings.lease)
    sagas = [fleet_saga(Path(settings.ledger), settings.seconds, version) for version in settings.versions]
    with (
        Mediator(*sagas, journal=journal, max_workers=settings.workers, max_recoveries=1000) as mediator,
        mediator.daemon(poll=settings.poll),
    ):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Settings))
