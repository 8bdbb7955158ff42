"""One of several processes under one limit: ``python -m tests.crash.limited_worker FOLDER SAGAS SLOTS SECONDS [URL]``.

Once it is sent a line, it starts its own sagas, and takes up those of processes that were killed. Each attempt takes
one of as many locks as there are slots. The system gives a lock back when the process ends, whatever ends it.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from pathlib import Path

from fsm_mediator import Mediator, Retry, Saga, SQLiteJournal, step
from fsm_mediator.journal.factory import open_journal


def limited_saga(folder: Path, slots: int, seconds: float) -> Saga:
    """A saga of one step, which shouts if more attempts are under way than there are slots."""

    @step(retry=Retry(attempts=100, wait_initial=0.0, wait_jitter=0.0))
    def call(payload: int) -> int:
        for number in range(slots):
            lock = os.open(folder / f"lock-{number}", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            threading.Event().wait(seconds)  # so that there is a middle in which to be killed
            os.close(lock)
            return payload
        (folder / "too-many").touch()
        return payload

    return Saga("limited", [call])


def main(folder: Path, sagas: int, slots: int, seconds: float, *url: str) -> None:
    """Start sagas, and serve until the process is killed."""
    journal = open_journal(*url) if url else SQLiteJournal(folder / "sagas.db", durability="normal")
    saga = limited_saga(folder, slots, seconds)
    mediator = Mediator(saga, journal=journal, limits={"call": slots}, max_workers=2 * slots, max_recoveries=1000)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for number in range(sagas):
        mediator.start(saga, number, saga_id=f"{os.getpid()}-{number}")
    with mediator.daemon(poll=0.05):
        threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), *sys.argv[5:])
