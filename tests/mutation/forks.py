"""Jobs run in forked children: everything is imported once, and what a mutant breaks ends with its child.

Limits are in seconds of CPU time, so that a busy machine changes no verdict. Only a child that waits for something that
never comes is ended by the clock: it has used no CPU time for `IDLE` seconds.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

IDLE: Final = 15.0
LONGEST: Final = 30.0
"""How many times its CPU time a child may take by the clock; many threads that wait use little."""

MEMORY: Final = 3 * 1024**3
"""Bytes of address space that a child may have."""

FINISHED: Final = "finished"
TIMED_OUT: Final = "time-out"
DIED: Final = "died"


class Job(NamedTuple):
    """A call that is made in a child. It is handed a function that sends a line of text to the parent."""

    name: str
    call: Callable[[Callable[[str], None]], None]
    seconds: float


class Ran(NamedTuple):
    """What became of a job: how it ended, and the lines that it sent."""

    job: Job
    end: str
    lines: list[str]
    seconds: float


class _Child:
    """A child under way."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.started = self.moved = time.monotonic()
        self.used = 0.0
        self.received = b""
        self.reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.reader)
            _run(job, writer)
        os.close(writer)

    def hangs(self) -> bool:
        """Whether it waits for nothing, or takes far too long by the clock."""
        now = time.monotonic()
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            used = float(int(fields[11]) + int(fields[12]))
            if used > self.used or fields[0] == "R":
                self.used, self.moved = used, now
        return now - self.moved > IDLE or now - self.started > LONGEST * (1 + self.job.seconds)

    def ended(self, end: str) -> Ran:
        """What became of it."""
        os.close(self.reader)
        lines = self.received.decode("utf-8", "replace").splitlines()
        return Ran(self.job, end, lines, time.monotonic() - self.started)


def _run(job: Job, writer: int) -> NoReturn:
    """Run *job* in the child, and end it."""
    status = 1
    try:
        os.setpgid(0, 0)
        devnull = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1) if os.environ.get("MUTANTS_TRACE") else (0, 1, 2):
            os.dup2(devnull, descriptor)
        whole = int(job.seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 2))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        job.call(lambda line: _send(writer, line))
        status = 0
    except BaseException:
        if os.environ.get("MUTANTS_TRACE"):
            traceback.print_exc()
    finally:
        os._exit(status)


def _send(writer: int, line: str) -> None:
    os.write(writer, f"{line}\n".encode())


def run_all(jobs: Iterable[Job], at_once: int, until: float = math.inf) -> Iterator[Ran]:
    """Run *jobs*, so many at once; each result as it comes.

    *until*, by `time.monotonic`: no job begins later, and a job that is under way then is ended and has no result.
    """
    queue = iter(jobs)
    children: dict[int, _Child] = {}
    exhausted = False
    while children or not exhausted:
        if time.monotonic() >= until:
            for child in children.values():
                _end(child)
            return
        while len(children) < at_once and not exhausted:
            job = next(queue, None)
            if job is None:
                exhausted = True
            else:
                child = _Child(job)
                children[child.reader] = child
        yield from _wait(children)


def _wait(children: dict[int, _Child]) -> Iterator[Ran]:
    """Read what the children send; each that has ended."""
    ready, _, _ = select.select(list(children), [], [], 1.0)
    for reader in ready:
        child = children[reader]
        sent = os.read(reader, 65536)
        child.received += sent
        if not sent:
            del children[reader]
            _, status = os.waitpid(child.pid, 0)
            yield child.ended(_end_of(status))
            _kill_group(child.pid)
    for reader, child in list(children.items()):
        if child.hangs():
            del children[reader]
            yield _end(child)


def _end(child: _Child) -> Ran:
    """End a child that is under way."""
    _kill_group(child.pid)
    os.waitpid(child.pid, 0)
    return child.ended(TIMED_OUT)


def _end_of(status: int) -> str:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        return TIMED_OUT
    return FINISHED if status == 0 else DIED


def _kill_group(pid: int) -> None:
    """End whatever a child has left behind: the processes that its tests have started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
