"""The server is stopped, cut off or replaced under load: no worker dies, so no step is called twice for any of it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tests.cluster.fleet import Fleet, fleet_on
from tests.cluster.network import Proxy, Standby
from tests.cluster.test_kills import SEED, WHOLE
from tests.postgres_server import Server

pytestmark = pytest.mark.cluster

SAGAS, SECONDS = (60, 1.0) if WHOLE else (18, 0.5)
PASSWORD = "of-the-tests"  # noqa: S105 - of a server that lives as long as the test


@pytest.fixture
def own() -> Iterator[Server]:
    """A server of the test's own."""
    server = Server()
    try:
        yield server
    finally:
        server.remove()


def check_once(fleet: Fleet, *, claims: bool = True) -> None:
    """Every step was called once, and (*claims*) every execution claimed once: nobody living was taken for dead."""
    fleet.wait()
    fleet.end()
    report = fleet.report()
    report.check()
    assert report.caused == 0
    assert report.highest_epoch == 2 or not claims


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
def test_a_server_that_is_restarted_three_times_costs_no_repetition(tmp_path, own, elsewhere):
    """The answers of steps are kept until they can be written; all locks of drivers are gone, and nobody is dead."""
    with fleet_on(tmp_path, own.url(), "restarts", seconds=SECONDS, elsewhere=elsewhere) as fleet:
        fleet.start(3)
        fleet.enqueue(SAGAS)
        for _ in range(3):
            time.sleep(2 * SECONDS)
            own.stop(signal.SIGQUIT)
            own.start()
        check_once(fleet)


def test_a_server_that_is_down_for_longer_than_the_lease_costs_no_repetition(tmp_path, own):
    """Leases run out while nobody can renew them. They are looked at twice, and renewed in between."""
    lease, down = (30.0, 40.0) if WHOLE else (3.0, 6.0)
    with fleet_on(tmp_path, own.url(), "outage", seconds=SECONDS, elsewhere=True, lease=lease) as fleet:
        fleet.start(3)
        fleet.enqueue(SAGAS)
        time.sleep(2 * SECONDS)
        own.stop(signal.SIGQUIT)
        time.sleep(down)
        own.start()
        check_once(fleet)


@pytest.mark.parametrize("every", [2, 3, 4] if WHOLE else [2])
def test_answers_that_are_lost_after_their_commit_cost_no_repetition(tmp_path, own, every):
    """The commit is tried again, and recognised."""
    with fleet_on(tmp_path, own.url(), "deaf", seconds=0.05, loses=every, elsewhere=True) as fleet:
        fleet.start(3)
        fleet.enqueue(SAGAS)
        check_once(fleet, claims=False)  # a worker that did not hear that it has claimed claims what it owns again


def test_a_network_that_cuts_delays_and_half_closes_costs_no_repetition(tmp_path, own):
    """Whatever happens to connections, each step is called once."""
    own.execute(f"ALTER ROLE postgres PASSWORD '{PASSWORD}'")
    proxy = Proxy(own.port, SEED)
    url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{proxy.port}/postgres"
    stopped = threading.Event()

    def disturb() -> None:
        while not stopped.wait(0.2):
            proxy.disturb()

    try:
        with fleet_on(tmp_path, url, "network", own.url(), seconds=SECONDS / 5, elsewhere=True) as fleet:
            fleet.start(3)
            fleet.enqueue(SAGAS)
            disturbing = threading.Thread(target=disturb, daemon=True)
            disturbing.start()
            fleet.wait()
            stopped.set()
            disturbing.join()
            check_once(fleet)
            print(proxy.done)  # noqa: T201 - `make fleet` shows it
    finally:
        stopped.set()
        proxy.close()


def test_a_standby_that_is_promoted_goes_on_where_the_primary_stood(tmp_path, own):
    """With synchronous replication nothing is lost, and nobody living is taken for dead."""
    standby = Standby(own)
    try:
        standby.follow_in_step()
        hosts, ports = f"{own.folder},{standby.folder}", f"{own.port},{standby.port}"
        url = f"postgresql:///postgres?user=postgres&host={hosts}&port={ports}&target_session_attrs=read-write"
        with fleet_on(tmp_path, url, "standby", seconds=SECONDS, elsewhere=True) as fleet:
            fleet.start(3)
            fleet.enqueue(SAGAS)
            time.sleep(2 * SECONDS)
            own.stop(signal.SIGQUIT)
            standby.promote()
            check_once(fleet)
    finally:
        standby.remove()
