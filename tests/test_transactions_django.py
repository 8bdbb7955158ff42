"""Transactional steps on Django's own database: models take part, and the request's transaction does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.shops import django_database

PROGRAM = """
import sys
import django
from django.conf import settings

settings.configure(DATABASES={"default": eval(sys.argv[1])}, USE_TZ=True)
django.setup()

from django.db import connection, models, transaction
from fsm_mediator import Mediator, Retry, Saga, StepRejectedError, step
from fsm_mediator.steps import Context
from fsm_mediator.transactions import TransactionError, Transactions


class Account(models.Model):
    balance = models.IntegerField()

    class Meta:
        app_label = "bank"


with connection.schema_editor() as editor:
    editor.create_model(Account)
tx = Transactions.django()
tx.migrate()
Account.objects.create(id=1, balance=1000)
NO_WAIT = Retry(attempts=2, wait_initial=0, wait_jitter=0)


def balance():
    return Account.objects.get(id=1).balance


@tx.step(retry=NO_WAIT, isolation="SERIALIZABLE")
def debit(session, amount: int) -> int:
    with transaction.atomic():  # a savepoint
        Account.objects.filter(id=1).update(balance=models.F("balance") - amount)
    return balance()


@debit.compensation
def credit(session, amount: int):
    Account.objects.filter(id=1).update(balance=models.F("balance") + amount)


@tx.step(retry=NO_WAIT)
def commits(session, amount: int):
    Account.objects.filter(id=1).update(balance=0)
    transaction.commit()


@step
def ship(amount: int):
    raise StepRejectedError("no such address")


sagas = (
    Saga("pay", [debit], payload=int),
    Saga("order", [debit, ship], payload=int),
    Saga("bad", [commits], payload=int),
)
with Mediator(*sagas, relays=[tx]) as mediator:
    assert mediator.run("pay", 100).results == {"debit": 900}
    outcome = mediator.run("order", 100, check=False)
    assert (outcome.compensated, balance()) == (("debit",), 900)

    outcome = mediator.run("bad", 100, check=False)
    assert isinstance(outcome.error, TransactionError) and "may not commit" in str(outcome.error), outcome.error
    assert balance() == 900

    with transaction.atomic():  # as ATOMIC_REQUESTS has it
        outcome = mediator.run("pay", 100, check=False)
    assert "ATOMIC_REQUESTS" in str(outcome.error), outcome.error
    assert balance() == 900

    with transaction.atomic():  # but a start is part of it
        tx.start(connection, "pay", 100, saga_id="o-1")
    try:
        with transaction.atomic():
            tx.start(connection, "pay", 100, saga_id="o-2")
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    with mediator.daemon(poll=0.05):
        import time
        for _ in range(600):
            if balance() == 800 and tx.lag().waiting == 0:
                break
            time.sleep(0.05)
    assert balance() == 800
    assert mediator.journal.find("o-2") is None
print("held")
"""


def run(database: dict[str, Any]) -> None:
    """Run the program on a database of Django's."""
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", PROGRAM, repr(database)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "held\n"


def test_on_sqlite(tmp_path):
    """Models and savepoints take part; commit() and an outer atomic are refused; a start is part of an atomic."""
    run(django_database("sqlite3", tmp_path))


@pytest.mark.postgres
def test_on_postgresql(tmp_path):
    """The same on PostgreSQL, in serializable transactions."""
    run(django_database("psycopg", tmp_path))
