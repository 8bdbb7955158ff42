"""Transactional steps: the effect, its key and its result are one transaction of my own database."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from fsm_mediator import AsyncMediator, Mediator, Retry, Saga, StepRejectedError, step, verify
from fsm_mediator.errors import DefinitionError, OutcomeUnknownError
from fsm_mediator.records import Happened, NotHappened
from fsm_mediator.steps import Context
from fsm_mediator.transactions import AttemptOpenError, TransactionalStep, TransactionError, Transactions
from tests.shops import KINDS, ON_POSTGRES, Shop, shops_in

NO_WAIT = Retry(attempts=3, wait_initial=0, wait_jitter=0)


def marked(kinds: tuple[str, ...]) -> list[Any]:
    """The kinds as parameters, those on PostgreSQL under its marker."""
    return [pytest.param(kind, marks=pytest.mark.postgres) if kind in ON_POSTGRES else kind for kind in kinds]


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Opens new shops, and closes them."""
    with shops_in(tmp_path) as open_:
        yield open_


@step(retry=NO_WAIT)
def ship(amount: int) -> None:
    """Refuse at once."""
    raise StepRejectedError("there is no such address")


def steps_of(shop: Shop, **settings: Any) -> TransactionalStep:
    """The step that debits, and its compensation."""

    @shop.tx.step(retry=NO_WAIT, **settings)
    def debit(session: Any, amount: int, context: Context) -> int:
        return shop.add(session, -amount)

    @debit.compensation
    def credit(session: Any, amount: int, context: Context) -> None:
        assert context.result == 1000 - amount
        shop.add(session, amount)

    return debit


def context(seq: int, verb: str = "execute") -> Context:
    """A call that was announced by record *seq*."""
    return Context("order-1", "debit", 1, verb, {}, seq=seq)


@pytest.mark.parametrize("kind", marked(KINDS))
def test_effect_and_compensation_are_done_once(kind, open_shop):
    """A saga that succeeds has debited once; one that fails later has credited once; the key tells which."""
    shop = open_shop(kind)
    debit = steps_of(shop)
    with Mediator(Saga("pay", [debit], payload=int), Saga("order", [debit, ship], payload=int)) as mediator:
        assert mediator.run("pay", 100, saga_id="p-1").results == {"debit": 900}
        assert shop.balance == 900
        shop.execute("UPDATE account SET balance = 1000")
        outcome = mediator.run("order", 100, saga_id="o-1", check=False)

    assert (outcome.compensated, outcome.leftovers) == (("debit",), ())
    assert shop.balance == 1000
    kept = shop.execute("SELECT key, state, result FROM fsm_mediator_done ORDER BY key")
    assert kept == [("o-1:debit:execute", "closed", "900"), ("p-1:debit:execute", "done", "900")]


def test_verify_holds_for_a_saga_of_transactional_steps(open_shop):
    """Such a step has a probe and may be repeated, so that nothing of it is ever left over."""
    report = verify(Saga("order", [steps_of(open_shop("sqlite3")), ship], payload=int))

    assert not report.violations


KILLED = """
import os, signal, sys
from fsm_mediator import Mediator, Saga
from tests.shops import Shop
from tests.test_transactions import ship, steps_of

kind, where, journal, moment = sys.argv[1:]
shop = Shop(kind, where, make=False)
debit = steps_of(shop)
database = shop.tx.database
commit = database.commit

async def killed(session):
    if moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    await commit(session)
    os.kill(os.getpid(), signal.SIGKILL)

database.commit = killed
Mediator(Saga("pay", [debit], payload=int), journal=journal).run("pay", 100, saga_id="p-1")
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("kind", marked(KINDS))
def test_process_killed_around_its_commit_debits_once(kind, moment, open_shop, tmp_path):
    """SIGKILL before or after the COMMIT, before our record of it: the recovered saga has debited exactly once."""
    shop = open_shop(kind)
    journal = str(tmp_path / "sagas.db")
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, kind, shop.where, journal, moment],
        env={**os.environ, "PYTHONPATH": root},
        check=False,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert shop.balance == (1000 if moment == "before" else 900)

    with Mediator(Saga("pay", [steps_of(shop)], payload=int), journal=journal) as mediator:
        assert mediator.run("pay", 100, saga_id="p-1").results == {"debit": 900}

    assert shop.balance == 900


@pytest.mark.parametrize("kind", marked(KINDS))
def test_attempt_begun_before_the_fence_is_rejected_and_a_later_one_is_not(kind, open_shop):
    """A probe says no, and so has to be right for ever: the attempt that it asked about never takes effect."""
    shop = open_shop(kind)
    debit = steps_of(shop)

    assert debit.probe(100, context(3, "probe")) == NotHappened()
    with pytest.raises(StepRejectedError, match="begun by record 2, and its door was closed by record 3"):
        debit.execute(100, context(2))
    debit.compensate(100, context(4, "compensate"))
    assert shop.balance == 1000

    assert debit.execute(100, context(6)) == 900  # an operator's retry
    assert debit.execute(100, context(2)) == 900  # the zombie reads the winner's result
    assert debit.probe(100, context(7, "probe")) == Happened(900)
    debit.compensate(100, context(8, "compensate"))
    debit.compensate(100, context(9, "compensate"))
    assert shop.balance == 1000
    with pytest.raises(StepRejectedError):
        debit.execute(100, context(6))
    assert shop.balance == 1000


class Held:
    """Holds the first transaction of a shop open: before its first statement, or in the midst of the work."""

    def __init__(self, shop: Shop, *, before: bool) -> None:
        self.held, self.go = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self.result: Any = None
        begin = shop.tx.database.begin

        async def begin_and_hold(isolation: str | None) -> Any:
            session = await begin(isolation)
            shop.tx.database.begin = begin  # type: ignore[method-assign]
            if before:
                await shop.tx.database.query(session, "SELECT 1", {})  # it has its snapshot
                self.hold()
            return session

        shop.tx.database.begin = begin_and_hold  # type: ignore[method-assign]
        self.before = before

    def hold(self) -> None:
        self.held.set()
        assert self.go.wait(60)

    def run(self, work: Callable[[], Any]) -> threading.Thread:
        def call() -> None:
            try:
                self.result = work()
            except BaseException as error:
                self.error = error

        thread = threading.Thread(target=call)
        thread.start()
        assert self.held.wait(60)
        return thread


@pytest.mark.postgres
@pytest.mark.parametrize("isolation", [None, "SERIALIZABLE"])
@pytest.mark.parametrize("kind", ON_POSTGRES)
def test_zombie_whose_transaction_was_open_all_the_while_is_rejected(kind, isolation, open_shop):
    """Its transaction stays open through probe, rejection, compensation and an operator's retry; then it goes on."""
    shop = open_shop(kind)
    zombie = Held(shop, before=True)
    debit = steps_of(shop, isolation=isolation)
    thread = zombie.run(lambda: debit.execute(100, context(2)))

    assert debit.probe(100, context(3, "probe")) == NotHappened()
    debit.compensate(100, context(4, "compensate"))
    zombie.go.set()
    thread.join(60)

    assert isinstance(zombie.error, StepRejectedError)
    assert shop.balance == 1000
    assert debit.execute(100, context(6)) == 900


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ON_POSTGRES)
def test_attempt_that_holds_its_key_is_waited_for_and_nobody_guesses(kind, open_shop):
    """While its transaction may still commit, a probe and a compensation raise; afterwards the probe knows."""
    shop = open_shop(kind, patience=0.2)
    zombie = Held(shop, before=False)

    @shop.tx.step
    def debit(session: Any, amount: int) -> int:
        zombie.hold()
        balance: int = shop.add(session, -amount)
        return balance

    debit.compensation(shop.add)
    thread = zombie.run(lambda: debit.execute(100, context(2)))

    with pytest.raises(AttemptOpenError, match=r"held its transaction open for 0\.2 seconds"):
        debit.probe(100, context(3, "probe"))
    with pytest.raises(AttemptOpenError):
        debit.compensate(100, context(4, "compensate"))
    zombie.go.set()
    thread.join(60)

    assert zombie.result == 900
    assert debit.probe(100, context(5, "probe")) == Happened(900)
    debit.compensate(100, context(6, "compensate"))
    assert shop.balance == 1000


@pytest.mark.parametrize("kind", marked(KINDS))
@pytest.mark.parametrize("how", ["commit", "rollback"])
def test_step_that_ends_its_transaction_is_refused(kind, how, open_shop):
    """`session.commit()` in a step is an error that says why, at once; nothing of the step is done."""
    shop = open_shop(kind)
    tried = []

    @shop.tx.step(retry=NO_WAIT)
    def debit(session: Any, amount: int) -> None:
        tried.append(shop.add(session, -amount))
        getattr(session, how)()

    with Mediator(Saga("pay", [debit], payload=int)) as mediator:
        outcome = mediator.run("pay", 100, check=False)

    assert isinstance(outcome.error, TransactionError)
    assert "may not commit or roll back" in str(outcome.error)
    assert (tried, shop.balance, outcome.leftovers) == ([900], 1000, ())


@pytest.mark.postgres
def test_commit_by_a_statement_leaves_the_step_in_doubt_for_a_person(open_shop):
    """What a driver cannot refuse is seen afterwards: the step was committed without a result, and nobody guesses."""
    shop = open_shop("psycopg")

    @shop.tx.step(retry=NO_WAIT)
    def debit(session: Any, amount: int) -> None:
        shop.add(session, -amount)
        session.execute("COMMIT")

    with pytest.raises(OutcomeUnknownError, match="ended the transaction of its attempt"):
        debit.execute(100, context(2))
    with pytest.raises(OutcomeUnknownError, match="ended its transaction too early"):
        debit.probe(100, context(3, "probe"))


@pytest.mark.parametrize("kind", marked(("sqlalchemy-sqlite", "sqlalchemy-postgres")))
def test_savepoint_may_be_rolled_back(kind, open_shop):
    """A part of the step may fail by itself."""
    shop = open_shop(kind)

    @shop.tx.step
    def debit(session: Any, amount: int) -> int:
        savepoint = session.begin_nested()
        shop.add(session, -amount)
        savepoint.rollback()
        with session.begin_nested():
            balance: int = shop.add(session, -1)
        return balance

    assert debit.execute(100, context(2)) == 999
    assert shop.balance == 999


@pytest.mark.parametrize("kind", marked(KINDS))
def test_two_that_race_for_one_key_do_the_work_once(kind, open_shop):
    """Both attempts are told the same result."""
    shop = open_shop(kind)
    debit = steps_of(shop)
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda seq=seq: results.append(debit.execute(100, context(seq)))) for seq in range(2, 6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert results == [900] * 4
    assert shop.balance == 900


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ON_POSTGRES)
def test_serialization_failure_repeats_the_attempt_at_once(kind, open_shop):
    """The saga sees nothing of it: one attempt, one record."""
    shop = open_shop(kind)
    calls = []

    @shop.tx.step(isolation="SERIALIZABLE", retry=Retry(attempts=1))
    def debit(session: Any, amount: int) -> int:
        calls.append(shop.add(session, 0))
        if len(calls) == 1:
            raise_serialization_failure(session)
        balance: int = shop.add(session, -amount)
        return balance

    def raise_serialization_failure(session: Any) -> None:
        statement = "DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$"
        if shop.engine is not None:
            session.connection().exec_driver_sql(statement)
        else:
            session.execute(statement)

    with Mediator(Saga("pay", [debit], payload=int)) as mediator:
        outcome = mediator.run("pay", 100)

    assert outcome.results == {"debit": 900}
    assert calls == [1000, 1000]
    assert [record.event for record in outcome.history] == ["start", "executed"]


@pytest.mark.parametrize("kind", marked(KINDS))
def test_result_that_does_not_come_back_undoes_the_step(kind, open_shop):
    """It is refused before the commit, so that nothing is left."""
    shop = open_shop(kind)

    @shop.tx.step(retry=NO_WAIT)
    def debit(session: Any, amount: int) -> object:
        shop.add(session, -amount)
        return object()

    with Mediator(Saga("pay", [debit], payload=int)) as mediator:
        outcome = mediator.run("pay", 100, check=False)

    assert outcome.failed
    assert "the result of step 'debit' cannot be journaled" in str(outcome.error)
    assert shop.balance == 1000


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ON_POSTGRES)
def test_coroutine_steps(kind, open_shop):
    """With an `AsyncEngine`, or psycopg's asynchronous connections, steps are coroutine functions."""
    shop = open_shop(kind, coroutines=True)
    tx = shop.tx

    @tx.step(retry=NO_WAIT)
    async def debit(session: Any, amount: int) -> int:
        return await add(session, -amount)

    @debit.compensation
    async def credit(session: Any, amount: int) -> None:
        await add(session, amount)

    async def add(session: Any, amount: int) -> int:
        statement = f"UPDATE account SET balance = balance + {amount} RETURNING balance"  # noqa: S608 - a number
        if shop.engine is not None:
            return (await session.execute(sqlalchemy.text(statement))).scalar_one()  # type: ignore[no-any-return]
        return (await (await session.execute(statement)).fetchone())[0]  # type: ignore[no-any-return]

    async def run() -> Any:
        async with AsyncMediator(
            Saga("pay", [debit], payload=int), Saga("order", [debit, ship], payload=int)
        ) as mediator:
            await mediator.run("pay", 100)
            outcome = await mediator.run("order", 50, check=False)
        if shop.engine is not None:
            await shop.engine.dispose()
            shop.engine = None
        return outcome

    assert asyncio.run(run()).compensated == ("debit",)
    assert shop.balance == 900


def test_mistakes_are_refused_where_they_are_made(open_shop):
    """A wrong name, isolation, signature or kind of function is an error with the next move, before anything runs."""
    tx = open_shop("sqlite3").tx

    for wrong, why in (
        (lambda: Transactions.sqlite3("x.db", table="a; drop"), "plain identifier"),
        (lambda: Transactions.sqlalchemy("sqlite://"), "an Engine or an AsyncEngine"),
        (lambda: Transactions.sqlite3("x.db", patience=0), "patience"),
        (lambda: tx.step(isolation="serializable"), "one of READ COMMITTED"),
        (lambda: tx.step(tries=3), "unknown setting 'tries'"),
        (lambda: tx.step(lambda payload: None), r"must take \(session, payload\)"),
        (lambda: tx.step(int), "takes a function"),
        (lambda: steps_of(Shop("sqlite3", ":memory:", make=False)).probing(len), "needs no probe"),
    ):
        with pytest.raises(DefinitionError, match=why):
            wrong()

    async def debit(session: Any, amount: int) -> None: ...

    with pytest.raises(DefinitionError, match="must be a function: its sessions are not for coroutines"):
        tx.step(debit)


@pytest.mark.postgres
def test_tables_have_the_names_that_i_choose(open_shop):
    """A schema of its own, other names; making them twice changes nothing."""
    shop = open_shop("psycopg", table="effects", outbox="messages", schema="sagas")
    shop.tx.migrate()

    steps_of(shop).execute(100, context(2))

    assert shop.execute("SELECT state FROM sagas.effects") == [("done",)]
    assert "CREATE TABLE IF NOT EXISTS sagas.messages" in shop.tx.ddl()
