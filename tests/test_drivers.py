"""Who drives, and whether it still lives: the word of the kernel where it can be had, the lease where not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fsm_mediator import forking
from fsm_mediator.journal import liveness as drivers
from fsm_mediator.journal.liveness import boot_id, is_alive, pid_namespace, process_exists, this_driver
from fsm_mediator.journal.protocol import Driver

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="life is seen in Linux's /proc")

SLEEPER = "import sys; print(flush=True); sys.stdin.read()"


def sleeper():
    """A child process that does nothing, and its driver."""
    process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    started = drivers.process_start_time(str(process.pid))
    own = this_driver()
    return process, msgspec.structs.replace(own, id="child", pid=process.pid, started=started or "")


@pytest.fixture
def child():
    """A process that sleeps, as a driver."""
    process, driver = sleeper()
    yield process, driver
    process.kill()
    process.communicate()


@linux
def test_this_driver_names_this_process():
    """A driver says which process it is, on which machine, since which boot; and no two are the same."""
    driver = this_driver()

    assert driver.pid == os.getpid()
    assert driver.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert driver.pid_namespace.startswith("pid:")
    assert driver.started.isdigit()
    assert driver.host
    assert this_driver().id != driver.id
    assert is_alive(driver, last_beat=0.0, lease=1.0, now=1e9)


@linux
def test_a_process_that_was_killed_is_dead_at_once(child):
    """No lease has to run out, and a zombie that its parent has not collected yet counts as dead."""
    process, driver = child
    assert is_alive(driver, 0.0, 1.0, 0.0)

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is left a zombie

    assert process_exists(driver) is False
    assert not is_alive(driver, last_beat=100.0, lease=1000.0, now=100.0)
    process.wait()
    assert process_exists(driver) is False


@linux
def test_a_stopped_process_lives_however_long_it_is_stopped(child):
    """SIGSTOP, a debugger, a laptop that sleeps: what exists is not robbed."""
    process, driver = child

    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)

    assert is_alive(driver, last_beat=0.0, lease=1.0, now=1e9)
    process.send_signal(signal.SIGCONT)


@linux
def test_a_later_process_with_the_same_pid_is_another():
    """Pids are given again; the time of the start is not."""
    driver = msgspec.structs.replace(this_driver(), started="1")

    assert not is_alive(driver, last_beat=0.0, lease=1000.0, now=0.0)


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"boot_id": "another machine, or an earlier boot"},
        {"pid_namespace": "pid:[1]"},
        {"boot_id": "", "pid_namespace": ""},
        {"started": ""},
    ],
)
def test_elsewhere_the_lease_decides(elsewhere):
    """Where its process cannot be seen, a driver lives for as long as it renews its lease."""
    driver = msgspec.structs.replace(this_driver(), **elsewhere)

    assert process_exists(driver) is None
    assert is_alive(driver, last_beat=100.0, lease=30.0, now=130.0)
    assert not is_alive(driver, last_beat=100.0, lease=30.0, now=130.1)
    assert is_alive(driver, last_beat=100.0, lease=30.0, now=50.0)  # a clock that was set back robs nobody


@linux
def test_this_process_is_looked_up_once(monkeypatch):
    """A journal that looks whether its own driver is alive reads no file each time."""
    driver = this_driver()
    monkeypatch.setattr(drivers, "_PROC", "/nowhere")

    assert process_exists(driver) is True
    assert process_exists(msgspec.structs.replace(driver, started="0")) is False  # a former process with this pid


@linux
def test_a_hidden_process_is_left_to_its_lease(monkeypatch):
    """If /proc hides a process and the kernel says that it exists, it does not count as dead."""
    driver = msgspec.structs.replace(this_driver(), pid=1)
    monkeypatch.setattr(drivers, "process_start_time", lambda pid: None)

    def kill(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)

    assert process_exists(driver) is None


@linux
def test_a_foreign_proc_tells_nothing(monkeypatch):
    """A container that is shown the host's /proc does not take the host's processes for its own."""
    monkeypatch.setattr(drivers, "proc_shows_our_pids", lambda: False)

    assert process_exists(this_driver()) is None


@linux
def test_a_forked_child_is_another_driver_while_its_objects_are_reset():
    """The journal of the child enlists it during the reset, in no defined order. It must not count as its parent."""

    class Resets:
        started = ""

        def reset(self) -> None:
            self.started = this_driver().started

    objects = [Resets() for _ in range(50)]
    for each in objects:
        forking.register(each)
    assert this_driver().started == drivers.process_start_time("self")
    child = os.fork()
    if child == 0:
        os._exit({each.started for each in objects} != {drivers.process_start_time("self")})
    assert os.waitpid(child, 0)[1] == 0


def test_a_system_without_proc_still_makes_drivers(monkeypatch, tmp_path):
    """Elsewhere than on Linux a driver is nameless but for its id, host and pid, and its lease decides."""
    monkeypatch.setattr(drivers, "_PROC", tmp_path)
    caches = boot_id, pid_namespace, drivers.proc_shows_our_pids, drivers.start_time_of_this_process
    for cache in caches:
        cache.cache_clear()
    try:
        driver = this_driver()
        assert (driver.boot_id, driver.pid_namespace, driver.started) == ("", "", "")
        assert pid_namespace() == ""
        assert driver.pid == os.getpid()
        assert is_alive(driver, last_beat=0.0, lease=10.0, now=5.0)
        assert not is_alive(driver, last_beat=0.0, lease=10.0, now=15.0)
    finally:
        for cache in caches:
            cache.cache_clear()


@linux
def test_a_name_with_parentheses_is_no_trap(tmp_path, monkeypatch):
    """The start is read right whatever the process is called."""
    (tmp_path / "7").mkdir()
    fields = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "7" / "stat").write_text(f"7 (a ) Z (b) R {fields}")
    monkeypatch.setattr(drivers, "_PROC", tmp_path)

    assert drivers.process_start_time("7") == "22"


def test_driver_reads_well_in_a_sentence():
    """What a person is told of a driver: which process, and where."""
    assert str(Driver("x", host="shop-1", pid=17)) == "process 17 on shop-1"
