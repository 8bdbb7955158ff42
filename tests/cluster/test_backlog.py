"""Several workers on one backlog, and two versions of a saga in one fleet."""

from __future__ import annotations

import time

import pytest

from fsm_mediator import Mediator
from tests.cluster.fleet import fleet_on
from tests.cluster.test_kills import WHOLE
from tests.cluster.worker import fleet_saga
from tests.postgres_server import connections_of, server

pytestmark = pytest.mark.cluster

SAGAS = 600 if WHOLE else 60


@pytest.mark.parametrize("workers", [1, 3, 6] if WHOLE else [3])
def test_workers_do_not_get_into_each_others_way(tmp_path, workers):
    """Each execution is claimed once, whatever the number of workers. The throughput is printed, and not asserted."""
    with fleet_on(tmp_path, server().url(), f"backlog_{workers}", seconds=0.0) as fleet:
        fleet.enqueue(SAGAS)
        began = time.monotonic()
        fleet.start(workers)
        fleet.wait()
        first, last = connections_of(fleet.journal).read("SELECT min(at), max(at) FROM journal.records WHERE seq > 0")[
            0
        ]
        ((claims,),) = connections_of(fleet.journal).read("SELECT sum(epoch - 1) FROM journal.executions")
        fleet.report().check()
        print(  # noqa: T201 - `make fleet` shows it
            f"{workers} workers: {SAGAS} sagas in {last - first:.1f} s of {time.monotonic() - began:.1f}, "
            f"{SAGAS / (last - first):.0f} a second, {claims / SAGAS:.2f} claims a saga"
        )
        assert claims <= 1.3 * SAGAS


def test_each_execution_is_driven_by_a_worker_that_knows_its_version(tmp_path):
    """Two versions in a fleet; what no worker knows stays pending, is claimed by none, and is listed as undrivable."""
    with fleet_on(tmp_path, server().url(), "versions", seconds=0.0) as fleet:
        fleet.enqueue(10, version=1)
        fleet.enqueue(10, version=2)
        fleet.start(2, versions=(1,), poll=0.1)
        fleet.start(1, versions=(2,), poll=0.1)
        fleet.wait()
        one, two = ({worker.pid for worker in fleet.workers[:2]}, {fleet.workers[2].pid})
        for saga_id, calls in fleet.calls().items():
            assert {call.pid for call in calls} <= (one if saga_id.startswith("1-") else two)

        with Mediator(fleet_saga(tmp_path, 0.0, 3), journal=fleet.journal) as unknown:
            unknown.enqueue("fleet", 1, saga_id="3-0001")
        for worker in fleet.workers[:2]:
            worker.kill()
        fleet.enqueue(10, first=10, version=2)  # enough rounds of the daemon have passed once these have ended
        fleet.wait()
        stranded = fleet.journal.find("3-0001")
        assert stranded is not None
        assert (stranded.state, stranded.driver) == ("pending", None)
        assert stranded.epoch <= 4  # claimed once a worker at the most, to be looked at
        with Mediator(fleet_saga(tmp_path, 0.0, 2), journal=fleet.journal) as looks:
            assert [entry.saga_id for entry in looks.executions(state="undrivable")] == ["3-0001"]
        assert fleet.log.read_text().count("execution '3-0001' is left") <= 3  # once a worker
