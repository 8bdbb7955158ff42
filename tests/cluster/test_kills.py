"""Three workers, and SIGKILL: nothing is lost, nothing is repeated without cause, and never two drive one execution."""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.cluster.fleet import fleet_on
from tests.postgres_server import server

pytestmark = pytest.mark.cluster

WHOLE = bool(os.environ.get("FLEET_WHOLE"))
SEED = int(os.environ.get("FLEET_SEED", "18"))
SAGAS, KILLS, SECONDS = (100, 20, 0.4) if WHOLE else (24, 4, 0.2)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_workers_that_are_killed_lose_nothing_and_repeat_only_what_was_under_way(tmp_path, where):
    """Any worker is killed at any moment; a repeated call is one that a kill interrupted, and the journal knows it."""
    luck = random.Random(SEED)  # noqa: S311 - which worker is killed is no secret
    with fleet_on(tmp_path, server().url(), f"kills_{where}", seconds=SECONDS, elsewhere=where == "elsewhere") as fleet:
        fleet.start(3)
        fleet.enqueue(SAGAS)
        for _ in range(KILLS):
            time.sleep(luck.uniform(0.6, 1.2))
            fleet.kill(luck.randrange(3))
        fleet.wait()
        fleet.end()
        fleet.report().check()
