"""Transactional steps when processes, connections, pools and servers fail."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg_pool
import pytest
import sqlalchemy

from fsm_mediator import Mediator, Retry, Saga, StepRejectedError
from fsm_mediator.errors import DefinitionError
from fsm_mediator.steps import Context
from fsm_mediator.transactions import Transactions
from tests.postgres_server import Server, server
from tests.shops import KINDS, ON_POSTGRES, Shop, address, shops_in
from tests.statement_proxy import StatementProxy
from tests.test_postgres_pooler import PROGRAM, pooler
from tests.test_transactions import NO_WAIT, context, marked, ship, steps_of

__all__ = ["pooler"]  # a fixture

ROOT = Path(__file__).parent.parent


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Opens new shops, and closes them."""
    with shops_in(tmp_path) as open_:
        yield open_


@pytest.fixture
def proxy() -> Iterator[StatementProxy]:
    """A proxy in front of the tests' server."""
    with contextlib.closing(StatementProxy(server())) as made:
        yield made


def program(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process, which can import the tests."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Data definition, and autocommit


@pytest.mark.parametrize("kind", marked(KINDS))
def test_tables_that_a_step_makes_are_part_of_its_transaction(kind, open_shop):
    """DDL commits nothing by the way: a step that makes a table and then fails has made none."""
    shop = open_shop(kind)

    @shop.tx.step(retry=NO_WAIT)
    def archive(session: Any, amount: int) -> None:
        statement = "CREATE TABLE archive (amount integer)"
        session.execute(sqlalchemy.text(statement) if shop.engine is not None else statement)
        shop.add(session, -amount)
        if amount < 0:
            raise StepRejectedError("a negative amount")

    with pytest.raises(StepRejectedError):
        archive.execute(-1, context(2))
    assert shop.balance == 1000
    archive.execute(1, context(3))
    assert (shop.balance, shop.execute("SELECT * FROM archive")) == (999, [])


@pytest.mark.parametrize("kind", marked(("sqlalchemy-sqlite", "sqlalchemy-postgres")))
@pytest.mark.parametrize("where", ["engine", "options"])
def test_engine_that_commits_each_statement_is_refused(kind, where, open_shop):
    """With AUTOCOMMIT the effect and its key would be two commits. The step says so, and does nothing."""
    shop = open_shop(kind)
    engine = (
        sqlalchemy.create_engine(shop.engine.url, isolation_level="AUTOCOMMIT")
        if where == "engine"
        else shop.engine.execution_options(isolation_level="AUTOCOMMIT")
    )
    shop.tx = Transactions.sqlalchemy(engine)
    debit = steps_of(shop)

    with pytest.raises(DefinitionError, match="AUTOCOMMIT"):
        debit.execute(100, context(2))
    assert shop.balance == 1000
    assert shop.execute("SELECT * FROM fsm_mediator_done") == []
    engine.dispose()


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ON_POSTGRES)
@pytest.mark.parametrize("own", ["0", "7s"])
def test_compensation_waits_for_locks_as_long_as_the_database_says(kind, own, open_shop):
    """The bound of the door is for the key: the statements of a compensation have the lock_timeout that they had."""
    shop = open_shop(kind)
    name = shop.where.partition("@/")[2].partition("?")[0]
    shop.execute(f"ALTER DATABASE {name} SET lock_timeout = '{own}'")
    shop.close()  # connections that are open have what was set before
    seen = []

    def look(session: Any) -> None:
        statement = "SELECT current_setting('lock_timeout')"
        found = session.execute(sqlalchemy.text(statement) if shop.engine is not None else statement).fetchone()
        seen.append(found[0])

    @shop.tx.step
    def debit(session: Any, amount: int) -> None:
        look(session)

    @debit.compensation
    def credit(session: Any, amount: int) -> None:
        look(session)

    debit.execute(100, context(2))
    debit.compensate(100, context(3, "compensate"))
    assert seen == [own, own]


# Processes

RACING = """
import sys
from tests.shops import Shop
from tests.test_transactions import context, steps_of

shop = Shop(sys.argv[1], sys.argv[2], make=False)
debit = steps_of(shop)
print("ready", flush=True)
sys.stdin.readline()
print(debit.execute(100, context(int(sys.argv[3]))))
"""


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["sqlite3", *ON_POSTGRES])
def test_two_processes_that_race_for_one_key_do_the_work_once(kind, open_shop):
    """Both are given the same result."""
    shop = open_shop(kind)
    racers = [program(RACING, kind, shop.where, str(seq)) for seq in (2, 3)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=60) for racer in racers]

    assert [answer for answer, _ in answers] == ["900\n", "900\n"], answers
    assert shop.balance == 900


FORKED = """
import os, sys
from tests.shops import Shop
from tests.test_transactions import Context, steps_of

def context(saga_id):
    return Context(saga_id, "debit", 1, "execute", {}, seq=2)

shop = Shop(sys.argv[1], sys.argv[2], make=False)
debit = steps_of(shop)
assert debit.execute(100, context("parent-1")) == 900
child = os.fork()
if child == 0:
    if shop.engine is not None:
        shop.engine.dispose(close=False)  # as SQLAlchemy asks of every fork
    assert debit.execute(100, context("child")) == 800
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert debit.execute(100, context("parent-2")) == 700
shop.close()
print("held")
"""


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["sqlite3", *ON_POSTGRES])
def test_steps_go_on_in_a_forked_process_and_in_its_parent(kind, open_shop):
    """Nothing of `Transactions` is shared by the two."""
    shop = open_shop(kind)
    answer, errors = program(FORKED, kind, shop.where).communicate(timeout=60)

    assert answer == "held\n", errors
    assert shop.balance == 700


# Statements, one after another

ORDERS = ("pay", 900), ("order", 1000)


def sagas_of(shop: Shop) -> list[Saga]:
    """One that debits; one that debits, is refused, and credits."""
    debit = steps_of(shop)
    return [Saga("pay", [debit], payload=int), Saga("order", [debit, ship], payload=int)]


@pytest.mark.postgres
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("saga", "balance"), ORDERS)
@pytest.mark.parametrize("kind", ON_POSTGRES)
def test_connection_that_ends_at_any_statement_moves_the_money_once(kind, saga, balance, when, open_shop, proxy):
    """COMMIT included: before the server has it, and after it was done but the answer was lost."""
    shop = open_shop(kind)
    for at in itertools.count(1):
        shop.execute("UPDATE account SET balance = 1000")
        cut = Shop(kind, proxy.url(shop.where), make=False)
        with contextlib.closing(cut), Mediator(*sagas_of(cut)) as mediator:
            proxy.arm(at, when)
            mediator.run(saga, 100, saga_id=f"o-{at}", check=False)
        assert shop.balance == balance, f"after statement {at} of {proxy.count}"
        if proxy.count < at:
            break
    assert at > 5


KILLED = """
import sys
from fsm_mediator import Mediator
from tests.shops import Shop
from tests.test_transactions_faults import sagas_of

kind, where, journal, saga = sys.argv[1:]
with Mediator(*sagas_of(Shop(kind, where, make=False)), journal=journal) as mediator:
    mediator.run(saga, 100, saga_id="o-1", check=False)
"""


@pytest.mark.torture
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("saga", "balance"), ORDERS)
def test_process_killed_at_any_statement_moves_the_money_once(saga, balance, when, open_shop, proxy, tmp_path):
    """SIGKILL, and another process recovers: the money is where it should be, once."""
    for at in itertools.count(1):
        shop = open_shop("psycopg")
        journal = str(tmp_path / f"sagas-{at}.db")
        started = threading.Event()
        victim: list[subprocess.Popen[str]] = []

        def strike(started: threading.Event = started, victim: list[subprocess.Popen[str]] = victim) -> None:
            assert started.wait(60)
            victim[0].kill()

        proxy.strike = strike
        proxy.arm(at, when)
        victim.append(program(KILLED, "psycopg", proxy.url(shop.where), journal, saga))
        started.set()
        _, errors = victim[0].communicate(timeout=120)
        struck = proxy.count >= at
        assert victim[0].returncode == (-signal.SIGKILL if struck else 0), errors
        with Mediator(*sagas_of(shop), journal=journal) as mediator:
            mediator.run(saga, 100, saga_id="o-1", check=False)
        assert shop.balance == balance, f"after statement {at}"
        if not struck:
            break
    assert at > 5


# Pools, poolers and servers


@pytest.mark.postgres
def test_pool_that_is_exhausted_costs_attempts_and_no_money(open_shop):
    """No connection in time: nothing happened, and the step is tried again. One connection is enough for everything."""
    shop = open_shop("psycopg")
    with psycopg_pool.ConnectionPool(shop.where, min_size=1, max_size=1, timeout=0.2, open=True) as pool:
        shop.tx = Transactions.psycopg(pool)
        held = [pool.getconn()]
        tried = []

        @shop.tx.step(retry=Retry(attempts=5, wait_initial=0, wait_jitter=0))
        def debit(session: Any, amount: int, context: Context) -> int:
            tried.append(context.attempt)
            balance: int = shop.add(session, -amount)
            return balance

        def give_back(record: Any) -> None:
            if record.event == "errored":
                while held:
                    pool.putconn(held.pop())

        with Mediator(Saga("pay", [debit], payload=int), observers=[give_back]) as mediator:
            outcome = mediator.run("pay", 100)

        assert (outcome.results, tried) == ({"debit": 900}, [2])
        assert "PoolTimeout" in str(outcome.history)
        assert shop.tx.lag().waiting == 0
        assert pool.get_stats()["pool_available"] == 1
    assert shop.balance == 900


@pytest.mark.postgres
@pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer; apt install pgbouncer")
@pytest.mark.parametrize("kind", ON_POSTGRES)
def test_steps_and_starts_behind_a_pooler(kind, pooler, tmp_path):
    """PgBouncer in transaction mode: each transaction may have another connection to the server."""
    database = address(kind, tmp_path).partition("@/")[2].partition("?")[0]
    with contextlib.closing(Shop(kind, pooler.replace("/postgres", f"/{database}"))) as shop:
        with Mediator(*sagas_of(shop)) as mediator:
            assert mediator.run("order", 100, check=False).compensated == ("debit",)
            calls = [threading.Thread(target=mediator.run, args=("pay", 10)) for _ in range(8)]
            for call in calls:
                call.start()
            for call in calls:
                call.join(60)
        assert shop.balance == 920


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ON_POSTGRES)
def test_server_that_restarts_in_between_moves_the_money_once(kind, tmp_path):
    """Stopped at once in the midst of a step, and between two: what was committed stays, the rest is done again."""
    own = Server()
    try:
        own.execute("CREATE DATABASE shop")
        shop = Shop(kind, own.url().replace("/postgres?", "/shop?"))
        again = Retry(attempts=4, wait_initial=0, wait_jitter=0)
        restarts = []

        def restart() -> None:
            restarts.append(1)
            own.stop(signal.SIGQUIT)
            own.start()

        @shop.tx.step(retry=again)
        def debit(session: Any, amount: int) -> int:
            balance = shop.add(session, -amount)
            if not restarts:
                restart()
            return balance

        @shop.tx.step(retry=again)
        def fee(session: Any, amount: int) -> int:
            return shop.add(session, -1)

        def between(record: Any) -> None:
            if record.event == "executed" and len(restarts) == 1:
                restart()

        with (
            contextlib.closing(shop),
            Mediator(Saga("pay", [debit, fee], payload=int), observers=[between]) as mediator,
        ):
            assert mediator.run("pay", 100).results == {"debit": 900, "fee": 899}
        assert (shop.balance, len(restarts)) == (899, 2)
    finally:
        own.remove()
