"""Liveness: the driver of this process, and whether a driver that a journal knows is alive.

On the same boot and in the same pid namespace the process alone decides. A driver that is stopped, swapped out or in a
debugger keeps its executions for as long as its process exists. Elsewhere the lease decides: a driver without a
heartbeat for that long counts as dead. In both cases the epochs keep a replaced driver from writing.

Source: tokens that tell a process from a later one with its pid, as in pidfd_open(2) and systemd's boot id.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final

from fsm_mediator import forking
from fsm_mediator.journal.protocol import Driver

if TYPE_CHECKING:
    from pathlib import Path

_PROC: Final = "/proc"
_DEAD: Final = frozenset(b"ZXx")
"""States of a process that will never run again. A zombie has ended; only its parent has not collected it yet."""

_REMEMBERED: Final = 7 * 24 * 3600.0
"""Seconds for which a journal remembers a driver that owns nothing and whose process cannot be seen from here."""


def this_driver() -> Driver:
    """A new driver in this process."""
    return Driver(
        id=uuid.uuid4().hex,
        host=host(),
        boot_id=boot_id(),
        pid_namespace=pid_namespace(),
        pid=os.getpid(),
        started=process_start_time("self") or "",
    )


def is_alive(driver: Driver, last_beat: float, lease: float, now: float) -> bool:
    """Whether *driver* is alive, as far as this process can see.

    Args:
        driver: The driver.
        last_beat: When it renewed its lease last, in seconds since the epoch.
        lease: How many seconds a renewal is good for.
        now: The time, in seconds since the epoch.
    """
    exists = process_exists(driver)
    return now - last_beat <= lease if exists is None else exists


def is_forgettable(driver: Driver, last_beat: float, now: float) -> bool:
    """Whether a journal can delete *driver*, which owns nothing."""
    exists = process_exists(driver)
    return now - last_beat > _REMEMBERED if exists is None else not exists


class LivenessCheck:
    """Answers whether drivers are alive, by their row in a journal; remembers the processes that have ended.

    Args:
        clock: Returns the time in seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By number and id: a journal in memory that was closed counts from 1 again.
        self._ended: set[tuple[int, str]] = set()

    def is_alive(self, number: int, driver: Driver, last_beat: float, lease: float) -> bool:
        """Whether the driver with this *number* is alive."""
        if (number, driver.id) in self._ended:
            return False
        if is_alive(driver, last_beat, lease, self._clock()):
            return True
        if process_exists(driver) is False:
            self._ended.add((number, driver.id))
        return False

    def has_ended(self, number: int, driver: Driver) -> bool:
        """Whether its process was seen to have ended. A driver with an expired lease can return; this one cannot."""
        return (number, driver.id) in self._ended


def process_exists(driver: Driver) -> bool | None:
    """Whether *driver*'s process exists; None: that cannot be seen from here. An engine always exists."""
    if driver.is_engine:
        return True
    if not driver.boot_id or (driver.boot_id, driver.pid_namespace) != (boot_id(), pid_namespace()):
        return None
    if not driver.started or not proc_shows_our_pids():
        return None
    started = process_start_time(str(driver.pid))
    if started is None:
        # Mounted with hidepid, /proc hides the processes of others. The kernel says whether there is one with this pid,
        # but not whether it is the same one: the lease has to decide.
        try:
            os.kill(driver.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return None
        started = process_start_time(str(driver.pid))  # a process that has just begun may be visible now
        if started is None:
            return None
    return started == driver.started


def host() -> str:
    """This machine's name, for people."""
    import socket  # slow to load, and only drivers need it

    return socket.gethostname()


def _proc(name: str) -> Path:
    from pathlib import Path  # slow to load, and only drivers need it

    return Path(_PROC, name)


@cache
def boot_id() -> str:
    """An id of the machine since its last start; empty if the system has none."""
    try:
        return _proc("sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@cache
def pid_namespace() -> str:
    """An id of the namespace in which this process's pid counts; empty if the system has none."""
    try:
        return str(_proc("self/ns/pid").readlink())
    except OSError:
        return ""


@cache
def proc_shows_our_pids() -> bool:
    """Whether /proc shows our own pid namespace: a container may see the host's."""
    try:
        return str(_proc("self").readlink()) == str(os.getpid())
    except OSError:
        return False


def process_start_time(pid: str) -> str | None:
    """When the process started, in ticks since boot; empty if it has ended, None if there is none or it is hidden."""
    try:
        stat = _proc(f"{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the command in parentheses, which may itself hold spaces and parentheses.
    fields = stat[stat.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0][0] in _DEAD:
        return ""
    return fields[19].decode("ascii")


class _Caches:
    """The cached answers that a forked child must ask for again: it may be in another pid namespace."""

    def reset(self) -> None:
        """Forget them."""
        pid_namespace.cache_clear()
        proc_shows_our_pids.cache_clear()


_CACHES: Final = _Caches()
forking.register(_CACHES)
