"""Drivers: who this process is, and whether a driver that a journal knows is still alive.

Where life can be seen (same boot, same pid namespace), it alone decides: a process that is stopped, swapped out or
stuck in a debugger keeps what it holds for as long as it exists. Where it cannot, the lease decides: a driver that has
not beaten for so long counts as gone. Either way a driver that was replaced can write nothing more: see the epochs.

Source: tokens that tell a process from a later one with its pid, as in pidfd_open(2) and systemd's boot id.
"""

from __future__ import annotations

import os
import uuid
from functools import cache
from typing import TYPE_CHECKING, Final

from fsm_mediator.journal.protocol import Driver

if TYPE_CHECKING:
    from pathlib import Path

_PROC: Final = "/proc"
_DEAD: Final = frozenset(b"ZXx")
"""States of a process that will never run again: a zombie has ended, only its parent has not looked yet."""


def this_driver() -> Driver:
    """A new driver in this process."""
    return Driver(
        id=uuid.uuid4().hex,
        host=host(),
        boot_id=boot_id(),
        pid_namespace=pid_namespace(),
        pid=os.getpid(),
        started=_started("self") or "",
    )


def is_alive(driver: Driver, last_beat: float, lease: float, now: float) -> bool:
    """Whether *driver* lives, as far as can be told from here.

    Args:
        driver: Who is asked about.
        last_beat: When it renewed its lease last, in seconds since the epoch.
        lease: How many seconds a renewal is good for.
        now: The time, in seconds since the epoch.
    """
    lives = process_exists(driver)
    return now - last_beat <= lease if lives is None else lives


def process_exists(driver: Driver) -> bool | None:
    """Whether *driver*'s process exists; None: that cannot be seen from here."""
    if not driver.boot_id or (driver.boot_id, driver.pid_namespace) != (boot_id(), pid_namespace()):
        return None
    if not driver.started or not _proc_shows_our_pids():
        return None
    started = _started(str(driver.pid))
    if started is None:
        # /proc hides what belongs to others where it is mounted with hidepid: then the kernel is asked, and what it
        # does not tell (is this still the same process?) is left to the lease.
        try:
            os.kill(driver.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return None
        started = _started(str(driver.pid))  # one that has just begun may be seen now
        if started is None:
            return None
    return started == driver.started


def host() -> str:
    """This machine's name, for people."""
    import socket  # only by who drives: it takes its time to load

    return socket.gethostname()


def _proc(name: str) -> Path:
    from pathlib import Path  # likewise

    return Path(_PROC, name)


@cache
def boot_id() -> str:
    """Names the machine and its start; empty where the system tells none."""
    try:
        return _proc("sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@cache
def pid_namespace() -> str:
    """Names the space in which this process's pid counts; empty where the system tells none."""
    try:
        return str(_proc("self/ns/pid").readlink())
    except OSError:
        return ""


@cache
def _proc_shows_our_pids() -> bool:
    """Whether /proc is there, and is that of our own pid namespace: a container may have been given the host's."""
    try:
        return str(_proc("self").readlink()) == str(os.getpid())
    except OSError:
        return False


def _started(pid: str) -> str | None:
    """When the process started, in ticks since boot; empty: it has ended. None: there is none, or it is hidden."""
    try:
        stat = _proc(f"{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the command in parentheses, which may itself hold spaces and parentheses.
    fields = stat[stat.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0][0] in _DEAD:
        return ""
    return fields[19].decode("ascii")


def _look_again() -> None:
    """In a forked child, which may have begun in another pid namespace."""
    pid_namespace.cache_clear()
    _proc_shows_our_pids.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_look_again)
