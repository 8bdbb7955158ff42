"""Liveness: describes the driver of this process, and decides whether a driver that a journal knows is alive.

If a driver runs on the same boot of the machine and in the same pid namespace as this process, the driver is alive as
long as its process exists. Therefore a driver keeps its executions while it is stopped, swapped out or in a debugger.
Any other driver is alive until its lease expires; heartbeats renew the lease. In both cases epochs prevent a replaced
driver from writing.

Source: ids that distinguish a process from a later process with the same pid, as in pidfd_open(2) and systemd's boot
id.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from functools import cache
from typing import Final, Generic, TypeVar

from fsm_mediator.journal.protocol import Driver

_PROC: Final = "/proc"
_DEAD: Final = frozenset(b"ZXx")
"""The states of a process that will never run again. A zombie (Z) has ended, but its parent has not collected it yet.
"""

T = TypeVar("T")

_REMEMBERED: Final = 7 * 24 * 3600.0
"""Seconds for which a journal keeps a driver that owns no execution, if this process cannot see the driver's process.
"""


def this_driver() -> Driver:
    """A new `Driver` for this process."""
    return Driver(
        id=uuid.uuid4().hex,
        host=host(),
        boot_id=boot_id(),
        pid_namespace=pid_namespace(),
        pid=os.getpid(),
        started=start_time_of_this_process() or "",
    )


def is_alive(driver: Driver, last_beat: float, lease: float, now: float) -> bool:
    """Whether *driver* is alive, according to what this process can see.

    Args:
        driver: The driver.
        last_beat: When the driver last renewed its lease, in seconds since the epoch.
        lease: How long the lease lasts after a renewal, in seconds.
        now: The time, in seconds since the epoch.
    """
    exists = process_exists(driver)
    return now - last_beat <= lease if exists is None else exists


def is_forgettable(driver: Driver, last_beat: float, now: float) -> bool:
    """Whether a journal can delete *driver*, a driver that owns no execution.

    The driver's process must have ended. If this process cannot see that process, the driver can be deleted when it has
    not renewed its lease for a week.
    """
    exists = process_exists(driver)
    return now - last_beat > _REMEMBERED if exists is None else not exists


class LivenessCheck:
    """Decides whether drivers are alive, from their rows in a journal. It remembers the drivers whose process ended.

    Args:
        clock: Returns the time in seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # The key needs the id too: a journal in memory that was closed numbers its drivers from 1 again.
        self._ended: set[tuple[int, str]] = set()

    def is_alive(self, number: int, driver: Driver, last_beat: float, lease: float) -> bool:
        """Whether *driver*, which has this *number* in the journal, is alive: see `is_alive`."""
        if (number, driver.id) in self._ended:
            return False
        if is_alive(driver, last_beat, lease, self._clock()):
            return True
        if process_exists(driver) is False:
            self._ended.add((number, driver.id))
        return False

    def has_ended(self, number: int, driver: Driver) -> bool:
        """Whether this check has seen that the driver's process ended. Such a driver can never return.

        A driver whose lease expired can return.
        """
        return (number, driver.id) in self._ended


def process_exists(driver: Driver) -> bool | None:
    """Whether the process of *driver* exists. None if this process cannot see that process.

    True if the driver is a workflow engine, which has no process.
    """
    if driver.is_engine:
        return True
    if not driver.boot_id or (driver.boot_id, driver.pid_namespace) != (boot_id(), pid_namespace()):
        return None
    if not driver.started or not proc_shows_our_pids():
        return None
    started = start_time_of_this_process() if driver.pid == os.getpid() else process_start_time(str(driver.pid))
    if started is None:
        # If /proc is mounted with hidepid, it hides the processes of other users. The kernel says whether a process
        # has this pid, but not whether it is the same process: the lease has to decide.
        try:
            os.kill(driver.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return None
        started = process_start_time(str(driver.pid))  # a process that has just started may be visible now
        if started is None:
            return None
    return started == driver.started


def host() -> str:
    """This machine's name, for display."""
    import platform  # `socket` would be slower to load

    return platform.node()


def _read(name: str) -> bytes:
    with open(f"{_PROC}/{name}", "rb") as file:  # noqa: PTH123 - `pathlib` is slow to load
        return file.read()


def _link(name: str) -> str:
    return os.readlink(f"{_PROC}/{name}")  # noqa: PTH115 - `pathlib` is slow to load


class OncePerProcess(Generic[T]):
    """A function without arguments that is called once in each process. Later calls return the first result.

    A forked child calls the function again. This is safe even while the objects of the child are reset after the fork,
    in any order, because each call compares the process id.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._known: tuple[int, T] | None = None

    def __call__(self) -> T:
        """The result of the function in this process."""
        pid = os.getpid()
        if self._known is None or self._known[0] != pid:
            self._known = pid, self._function()
        return self._known[1]

    def cache_clear(self) -> None:
        """Forget the result."""
        self._known = None


@cache
def boot_id() -> str:
    """An id of this boot of the machine. Empty if the system has none."""
    try:
        return _read("sys/kernel/random/boot_id").decode("ascii").strip()
    except OSError:
        return ""


@OncePerProcess
def pid_namespace() -> str:
    """An id of the pid namespace of this process. Empty if the system has none."""
    try:
        return _link("self/ns/pid")
    except OSError:
        return ""


@OncePerProcess
def proc_shows_our_pids() -> bool:
    """Whether /proc shows the pid namespace of this process. In a container it may show the host's."""
    try:
        return _link("self") == str(os.getpid())
    except OSError:
        return False


@OncePerProcess
def start_time_of_this_process() -> str | None:
    """The time at which this process started, as `process_start_time` returns it."""
    return process_start_time("self")


def process_start_time(pid: str) -> str | None:
    """The time at which a process started, in ticks since boot.

    Empty if the process has ended and is still listed (a zombie). None if there is no such process, or if it is hidden.
    """
    try:
        stat = _read(f"{pid}/stat")
    except OSError:
        return None
    # The second field is the command in parentheses, which may itself hold spaces and parentheses.
    fields = stat[stat.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0][0] in _DEAD:
        return ""
    return fields[19].decode("ascii")
