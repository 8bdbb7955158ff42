"""`check_saga` on transactional steps: the kit dumps the tables before and after each run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from examples.bank import Banks, Transfer
from fsm_mediator import Saga
from fsm_mediator.errors import DefinitionError
from fsm_mediator.testing import SagaBrokenError, check_saga
from tests.shops import ON_POSTGRES, Shop, address, shops_in
from tests.test_transactions import NO_WAIT, marked, steps_of


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Opens new shops, and closes them."""
    with shops_in(tmp_path) as open_:
        yield open_


@pytest.mark.parametrize("kind", marked(("sqlite3", *ON_POSTGRES)))
def test_saga_of_transactional_steps_survives_every_fault(kind, open_shop):
    """Faults before and after each effect, doubt, crashes: the account is what it was, or what it should be."""
    shop = open_shop(kind)
    report = check_saga(Saga("pay", [steps_of(shop)], payload=int), 100, observe=shop.tx.observe("account"))

    assert any(case.outcome.failed for case in report.cases)
    assert any(case.deaths for case in report.cases)
    assert shop.balance == 1000


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ON_POSTGRES)
def test_coroutine_steps_survive_every_fault(kind, open_shop):
    """Steps, compensations and what `observe` reads are coroutine functions."""
    shop = open_shop(kind, coroutines=True)

    async def add(session: Any, amount: int) -> None:
        statement = f"UPDATE account SET balance = balance + {amount}"  # noqa: S608 - a number
        await session.execute(statement if shop.engine is None else sqlalchemy.text(statement))

    @shop.tx.step(retry=NO_WAIT)
    async def debit(session: Any, amount: int) -> None:
        await add(session, -amount)

    @debit.compensation
    async def credit(session: Any, amount: int) -> None:
        await add(session, amount)

    report = check_saga(Saga("pay", [debit], payload=int), 100, observe=shop.tx.observe("account"))

    assert any(case.outcome.failed for case in report.cases)
    assert any(case.deaths for case in report.cases)
    assert shop.balance == 1000


@pytest.mark.torture
@pytest.mark.parametrize("kind", ["sqlite3", "psycopg"])
def test_killed_processes_are_survived(kind, open_shop):
    """With `kill=True` the driver is a process, which is killed wherever it can die."""
    shop = open_shop(kind)
    saga = Saga("pay", [steps_of(shop)], payload=int)

    report = check_saga(saga, 100, observe=shop.tx.observe("account"), kill=True)
    assert any("killed" in str(case.plan) for case in report.cases)


def test_compensation_that_is_wrong_is_found_in_the_tables(open_shop):
    """It gives back one too little: the report shows the row."""
    shop = open_shop("sqlite3")

    @shop.tx.step(retry=NO_WAIT)
    def debit(session: Any, amount: int) -> None:
        shop.add(session, -amount)

    @debit.compensation
    def credit(session: Any, amount: int) -> None:
        shop.add(session, amount - 1)

    with pytest.raises(SagaBrokenError, match=r"(?s)account.*999"):
        check_saga(Saga("pay", [debit], payload=int), 100, observe=shop.tx.observe("account"))


def test_observed_are_tables_and_selects(open_shop):
    """A name stands for all of its rows; a SELECT for what it returns; nothing at all is a mistake."""
    shop = open_shop("sqlite3")
    shop.execute("INSERT INTO account VALUES (7)")
    total = "SELECT sum(balance) FROM account"

    assert shop.tx.observe("account", total)() == {"account": [(1000,), (7,)], total: [(1007,)]}
    with pytest.raises(DefinitionError, match="names of the tables"):
        shop.tx.observe()


@pytest.mark.torture
@pytest.mark.parametrize("direction", [0, 1])
def test_transfers_between_banks_survive_every_fault(direction, tmp_path):
    """The sagas of examples/bank, on their two databases."""
    banks = Banks.at(address("psycopg", tmp_path), tmp_path)
    for bank in (banks.north, banks.south):
        bank.open()
    north, south = (bank.tx.observe("SELECT number, balance FROM account") for bank in (banks.north, banks.south))

    report = check_saga(banks.sagas()[direction], Transfer(1, 2, 100), observe=lambda: (north(), south()))
    assert any(case.outcome.failed for case in report.cases)
