"""The cost of a transactional step on PostgreSQL, compared with the bare transaction and with DBOS's datasource.

Each of them executes one ``UPDATE`` of one row, with SQLAlchemy. The CPU time of the client and of the server's
processes is measured, as in ``benchmarks.postgres``. The last measurement shows the saving if the step and its record
were committed together, with hand-written code.
"""

from __future__ import annotations

import argparse
import itertools
import json
import queue
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy.orm import Session

from benchmarks import environments
from benchmarks.postgres import CONNECTIONS, GO_ON, TABLES, Spent, in_threads, measured
from benchmarks.roster import ROSTER
from fsm_mediator import Context, Mediator, Saga, step
from fsm_mediator.cli.embedded import EmbeddedServer
from fsm_mediator.journal.postgres import PostgresJournal
from fsm_mediator.transactions import Transactions

AT_ONCE = (1, 16)
ACCOUNTS = 1000
BARE = "the transaction alone"
UPDATE = "UPDATE account SET balance = balance - 1 WHERE id = :id RETURNING balance"
MAKE = """
    CREATE TABLE account (id int PRIMARY KEY, balance int) WITH (fillfactor = 50);
    INSERT INTO account SELECT id, 1000 FROM generate_series(0, 999) AS id"""

_accounts = itertools.count()


def account_of() -> int:
    """The account of the next transaction. No transaction waits for the account of another."""
    return next(_accounts) % ACCOUNTS


def over_all(postmaster: int, number: int, call: Callable[[str], object]) -> dict[int, Spent]:
    """Measure *call* at each number at a time, after a warm-up with a tenth of the calls."""
    found = {}
    for at_once in AT_ONCE:
        in_threads(call, at_once, max(at_once, number // 10))
        found[at_once] = measured(postmaster, number, lambda at_once=at_once: in_threads(call, at_once, number))  # type: ignore[misc]
    return found


def ours(url: str, postmaster: int, number: int) -> dict[str, dict[int, Spent]]:
    """The transaction alone; with its key and result; in a saga as a plain step; and as a transactional step."""
    engine = sqlalchemy.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1), pool_size=CONNECTIONS, max_overflow=0
    )
    tx = Transactions.sqlalchemy(engine)
    tx.migrate()
    update = sqlalchemy.text(UPDATE)

    def alone(_: object = None) -> int:
        with Session(engine) as session, session.begin():
            return int(session.execute(update, {"id": account_of()}).scalar_one())

    @step
    def by_hand(payload: Any) -> int:
        return alone()

    @tx.step
    def once(session: Any, payload: Any) -> int:
        return int(session.execute(update, {"id": account_of()}).scalar_one())

    def with_key(saga_id: str) -> None:
        once.execute(None, Context(saga_id, "once", 1, "execute", {}, seq=2))

    found = {
        BARE: over_all(postmaster, number, alone),
        "with its key and result": over_all(postmaster, number, with_key),
    }
    journal = PostgresJournal(url, schema="sagas", most_connections=CONNECTIONS)
    with Mediator(Saga("plain", [by_hand]), Saga("once", [once]), journal=journal) as mediator:
        for label, saga in (("saga, a plain step", "plain"), ("saga, a transactional step", "once")):
            found[label] = over_all(
                postmaster,
                number,
                lambda saga_id, saga=saga: mediator.run(saga, saga_id=f"{saga}-{saga_id}"),  # type: ignore[misc]
            )
    engine.dispose()
    return found


def commits(url: str, postmaster: int, number: int) -> dict[str, dict[int, Spent]]:
    """With hand-written code: a key, the work, the result and a record of the journal, in two commits and in one."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLES)
        connection.execute("CREATE TABLE by_hand_done (key text PRIMARY KEY, state text, result text)")
    idle: queue.SimpleQueue[psycopg.Connection[Any]] = queue.SimpleQueue()
    for _ in range(CONNECTIONS):
        idle.put(psycopg.connect(url, autocommit=True))

    def work(connection: psycopg.Connection[Any], saga_id: str, record: bytes | None) -> None:
        values = {"id": saga_id, "seq": 2, "state": "b", "account": account_of()}
        with connection.transaction():
            connection.execute("INSERT INTO by_hand_done VALUES (%(id)s, 'begun', NULL)", values)
            connection.execute("UPDATE account SET balance = balance - 1 WHERE id = %(account)s", values)
            connection.execute("UPDATE by_hand_done SET state = 'done', result = '1' WHERE key = %(id)s", values)
            if record is not None:
                connection.execute(record, values)
        if record is None:
            connection.execute(GO_ON, values)

    def in_commits(one: bool) -> Callable[[str], None]:
        def call(saga_id: str) -> None:
            connection = idle.get()
            connection.execute("INSERT INTO by_hand VALUES (%s, 1, 'a')", [saga_id])
            work(connection, saga_id, GO_ON if one else None)
            idle.put(connection)

        return call

    found = {
        f"by hand, {label}": over_all(postmaster, number, in_commits(one))
        for label, one in (("step and record apart", False), ("step and record at once", True))
    }
    while not idle.empty():
        idle.get().close()
    return found


def with_dbos(url: str, postmaster: int, number: int) -> dict[str, dict[int, Spent]]:
    """DBOS in its own environment and databases, on the same server. Empty if it is not installed."""
    contestant = next(each for each in ROSTER if each.module == "dbos")
    try:
        python = environments.interpreter(contestant)
    except environments.NotToBeHadError as error:
        print(f"DBOS is not compared: {error}")
        return {}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE dbos")
    app = url.replace("postgresql://", "postgresql+psycopg://", 1)
    command = [str(python), "-m", "benchmarks.peers.dbos_datasource", url.replace("/postgres?", "/dbos?"), app]
    done = subprocess.run(  # noqa: S603 - our own
        [*command, str(postmaster), str(number)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(f"DBOS is not compared: {done.stderr.strip()[-500:]}")
        return {}
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: {int(at_once): Spent(*spent) for at_once, spent in each.items()} for name, each in found.items()}


def run(number: int) -> str:
    """Run all measurements. Returns a table."""
    with EmbeddedServer() as server:
        postmaster = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(MAKE.encode())
        found = ours(server.url, postmaster, number)
        found |= with_dbos(server.url, postmaster, number)
        found |= commits(server.url, postmaster, number)
    lines = [f"{'':28}" + "".join(f"{f'{at_once} at a time':>32}" for at_once in AT_ONCE)]
    for name, each in found.items():
        cells = [
            f"{spent.rate:6.0f}/s {spent.client:5.2f} +{spent.server:5.2f} ms "
            f"{spent.total / found[BARE][at_once].total:5.1f}x".rjust(32)
            for at_once, spent in each.items()
        ]
        lines.append(f"{name:28}{''.join(cells)}")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transactions", description=__doc__)
    parser.add_argument("--number", type=int, default=1000, help="transactions for each measurement (default: 1000)")
    print(run(parser.parse_args().number))


if __name__ == "__main__":
    main()
