"""DBOS's datasource. It prints figures as JSON.

Call ``python -m benchmarks.peers.dbos_datasource URL APP_URL POSTMASTER NUMBER``.

This module does not import our package, because it runs in DBOS's environment. It measures like
``benchmarks.transactions``.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy
from dbos import DBOS, SetWorkflowID, SQLAlchemyDatasource
from sqlalchemy.orm import Session

from benchmarks.server_time import server_seconds

UPDATE = sqlalchemy.text("UPDATE account SET balance = balance - 1 WHERE id = :id RETURNING balance")


def main(url: str, app_url: str, postmaster: int, number: int) -> None:
    """Measure a workflow of one step: with a hand-written transaction, and with a transaction of the datasource."""
    DBOS(config={"name": "pay", "system_database_url": url, "log_level": "CRITICAL"})
    engine = sqlalchemy.create_engine(app_url, pool_size=16, max_overflow=0)
    source = SQLAlchemyDatasource.create(app_url, engine=engine)

    @DBOS.step()
    def by_hand(account: int) -> int:
        with Session(engine) as session, session.begin():
            return int(session.execute(UPDATE, {"id": account}).scalar_one())

    @source.transaction
    def once(account: int) -> int:
        return int(source.sql_session().execute(UPDATE, {"id": account}).scalar_one())

    @DBOS.workflow()
    def pay_by_hand(account: int) -> int:
        return int(by_hand(account))

    @DBOS.workflow()
    def pay_once(account: int) -> int:
        return int(once(account))

    DBOS.launch()
    numbers = itertools.count()

    def run(workflow: Callable[[int], int]) -> None:
        place = next(numbers)
        with SetWorkflowID(f"w-{place}"):
            workflow(place % 1000)

    found: dict[str, dict[int, list[float]]] = {}
    for name, workflow in (("DBOS, a step", pay_by_hand), ("DBOS, its datasource", pay_once)):
        found[name] = {}
        for at_once in (1, 16):
            with ThreadPoolExecutor(at_once) as pool:
                list(pool.map(run, [workflow] * max(at_once, number // 10)))
                before = time.perf_counter(), time.process_time(), server_seconds(postmaster)
                list(pool.map(run, [workflow] * number))
                after = time.perf_counter(), time.process_time(), server_seconds(postmaster)
            seconds, client, server = (late - early for late, early in zip(after, before, strict=True))
            found[name][at_once] = [number / seconds, 1000 * client / number, 1000 * server / number]
    print(json.dumps(found))
    DBOS.destroy()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
