"""`enqueue`: an execution is accepted, by itself or in the caller's own transaction, and driven by somebody else."""

from __future__ import annotations

import asyncio
from contextlib import closing
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from fsm_mediator import (
    AsyncMediator,
    DefinitionError,
    Mediator,
    MediatorClosedError,
    MemoryJournal,
    PayloadError,
    RefusedError,
    Saga,
    SagaIdTakenError,
    SQLiteJournal,
)
from fsm_mediator.journal.protocol import Journal
from tests.commits import found
from tests.drivers import World, eventually, in_thread
from tests.postgres_server import connections_of, server
from tests.test_lost_answers import Deaf

WAITS = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"


def shop(world: World, **settings: Any) -> Saga:
    """A saga of two steps."""
    return Saga("shop", [world.step("charge"), world.step("ship")], **settings)


class Alone:
    """A journal that counts the calls which only a driver makes."""

    def __init__(self, inner: Journal) -> None:
        self.inner = inner
        self.driven: list[str] = []

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.inner, name)
        if name not in ("enlist", "claim", "claim_some"):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            self.driven.append(name)
            return attribute(*args, **kwargs)

        return call


# On every journal


def test_an_enqueued_saga_waits_for_whoever_claims_it(drive, journal):
    """Nothing runs where it was accepted, and no driver is enlisted; a daemon elsewhere drives it."""
    world = World()
    alone = Alone(journal)
    saga_id = drive(shop(world), journal=alone).enqueue("shop", {"order": 1})
    assert alone.driven == []
    assert (found(journal, saga_id).state, found(journal, saga_id).driver, world.calls) == ("pending", None, [])

    drive(shop(world), journal=journal).recover()

    assert (found(journal, saga_id).state, world.calls) == ("succeeded", ["charge", "ship"])


def test_enqueued_twice_it_is_one(drive, journal):
    """The same id again joins, in whatever state it is by then; another payload or saga is refused."""
    world = World()
    mediator = drive(shop(world), Saga("other", [world.step("else")]), journal=journal)
    for _ in range(2):
        assert mediator.enqueue("shop", {"order": 1}, saga_id="o-1") == "o-1"
    mediator.recover()
    mediator.enqueue("shop", {"order": 1}, saga_id="o-1")
    with pytest.raises(SagaIdTakenError, match="another payload"):
        mediator.enqueue("shop", {"order": 2}, saga_id="o-1")
    with pytest.raises(SagaIdTakenError, match="belongs to an execution of saga 'shop'"):
        mediator.enqueue("other", {"order": 1}, saga_id="o-1")
    assert world.calls == ["charge", "ship"]


def test_a_forgotten_id_is_not_enqueued_again(drive, journal):
    """The id of a deleted execution stays refused."""
    mediator = drive(shop(World()), journal=journal)
    mediator.run("shop", saga_id="o-1")
    journal.prune(2e10)
    with pytest.raises(SagaIdTakenError, match="forgotten"):
        mediator.enqueue("shop", saga_id="o-1")


def test_a_deadline_counts_from_the_enqueuing(drive, journal):
    """What was enqueued too long ago fails without a call of a step."""
    world, now = World(), 1000.0
    saga = shop(world)
    drive(saga, journal=journal, clock=lambda: now).enqueue("shop", saga_id="o-1", deadline=10.0)
    drive(saga, journal=journal, clock=lambda: now + 11.0).recover()
    assert (found(journal, "o-1").state, world.calls) == ("failed", [])


def test_a_payload_of_another_type_and_a_closed_mediator_are_refused(drive, journal):
    """What `start` refuses, `enqueue` refuses, and nothing is written."""
    mediator = drive(shop(World(), payload=int), journal=journal)
    with pytest.raises(PayloadError):
        mediator.enqueue("shop", "seven")
    mediator.close()
    with pytest.raises(MediatorClosedError):
        mediator.enqueue("shop", 7)
    assert list(journal.entries()) == []


def test_an_answer_lost_after_the_commit_opens_no_second_one(drive, journal, impatient):
    """A commit that was made, and whose answer was lost, is recognised when it is tried again."""
    mediator = drive(shop(World()), journal=Deaf(journal, 2, "write", "write_all"))
    assert mediator.enqueue("shop", 1, saga_id="o-1") == "o-1"
    assert [entry.saga_id for entry in journal.entries()] == ["o-1"]


def test_enqueued_saga_is_found_by_its_attributes_before_it_runs(drive, journal):
    """Attributes are there with the acceptance; the same id again changes none, and a wrong one writes nothing."""
    mediator = drive(shop(World()), journal=journal)
    mediator.enqueue("shop", 1, saga_id="o-1", attributes={"tenant": "acme", "order": 17})
    mediator.enqueue("shop", 1, saga_id="o-1", attributes={"tenant": "other"})
    mediator.enqueue("shop", 1, saga_id="o-2", attributes={})
    for wrong in ({"a b": 1}, {"tenant": [1]}, ["tenant"], ""):
        with pytest.raises(PayloadError, match="attribute"):
            mediator.enqueue("shop", 1, saga_id="o-3", attributes=wrong)
    assert [entry.saga_id for entry in mediator.executions(attributes={"tenant": "acme", "order": 17})] == ["o-1"]
    assert mediator.executions(attributes={"tenant": "other"}) == []
    assert journal.find("o-3") is None
    mediator.recover()
    assert [entry.state for entry in mediator.executions(attributes={"tenant": "acme"})] == ["succeeded"]


def test_attributes_are_enqueued_once_though_the_answer_was_lost(drive, journal, impatient):
    """The commit that is repeated adds no second note."""
    mediator = drive(shop(World()), journal=Deaf(journal, 1, "write", "write_all"))
    mediator.enqueue("shop", 1, saga_id="o-1", attributes={"tenant": "acme"})
    assert [note.value for note in journal.notes("o-1")] == [{"tenant": "acme"}]


@pytest.mark.parametrize("make", [MemoryJournal, lambda: SQLiteJournal("sagas.db")], ids=["memory", "sqlite"])
def test_no_transaction_of_the_callers_reaches_a_local_journal(drive, make, tmp_path, monkeypatch):
    """On SQLite and in memory connection= is refused by name."""
    monkeypatch.chdir(tmp_path)
    with closing(make()) as journal:
        mediator = drive(shop(World()), journal=journal)
        with pytest.raises(DefinitionError, match=rf"connection=...\) needs .* {type(journal).__name__}"):
            mediator.enqueue("shop", connection=object())
        assert list(journal.entries()) == []


# In the caller's own transaction, on PostgreSQL


@pytest.fixture
def orders():
    """A journal, and a table of the application's."""
    with closing(server().journal()) as journal:
        schema = connections_of(journal).schema
        server().execute(f"CREATE TABLE {schema}.orders (id text PRIMARY KEY)")
        yield journal, f"INSERT INTO {schema}.orders VALUES (%s)".encode()  # noqa: S608


def count(journal: Any) -> int:
    """The orders of the application's table."""
    ((number,),) = connections_of(journal).read("SELECT count(*) FROM journal.orders")
    return int(number)


@pytest.mark.parametrize("settings", [{}, {"row_factory": dict_row}, {"cursor_factory": psycopg.ClientCursor}])
def test_it_begins_with_the_callers_transaction_or_not_at_all(drive, orders, settings):
    """After the commit there are order and saga, after a roll-back or a crash neither."""
    journal, insert = orders
    world = World()
    mediator = drive(shop(world), journal=journal)
    for name in ("good", "bad", "killed"):
        connection = psycopg.connect(server().url(), **settings)
        connection.execute(insert, (name,))
        assert mediator.enqueue("shop", {"order": name}, saga_id=name, connection=connection) == name
        assert journal.find(name) is None  # not yet
        if name == "good":
            connection.commit()
        elif name == "bad":
            connection.rollback()
        connection.close()  # "killed": without a word
    mediator.recover()
    assert (count(journal), [entry.saga_id for entry in journal.entries()]) == (1, ["good"])
    assert found(journal, "good").state == "succeeded"


def test_attributes_come_with_the_callers_transaction_or_not_at_all(drive, orders):
    """After the commit it is found by them, after a roll-back nothing of them is there."""
    journal, _ = orders
    mediator = drive(shop(World()), journal=journal)
    with psycopg.connect(server().url()) as connection:
        mediator.enqueue("shop", saga_id="bad", attributes={"tenant": "acme"}, connection=connection)
        connection.rollback()
        for tenant in ("acme", "other"):
            mediator.enqueue("shop", saga_id="good", attributes={"tenant": tenant}, connection=connection)
        with pytest.raises(PayloadError, match="attribute"):
            mediator.enqueue("shop", saga_id="wrong", attributes={"tenant": None}, connection=connection)
        assert mediator.executions(attributes={"tenant": "acme"}) == []
    assert [entry.saga_id for entry in mediator.executions(attributes={"tenant": "acme"})] == ["good"]
    assert [note.value for note in journal.notes()] == [{"tenant": "acme"}]
    assert journal.find("wrong") is None


def test_a_refusal_leaves_the_callers_transaction_usable(drive, orders):
    """Joining, and an id that is taken or forgotten, are no error of the server: the transaction goes on."""
    journal, insert = orders
    mediator = drive(shop(World()), journal=journal)
    mediator.run("shop", saga_id="old")
    journal.prune(2e10)
    mediator.enqueue("shop", 1, saga_id="o-1")
    with psycopg.connect(server().url()) as connection:
        connection.execute(insert, ("a",))
        mediator.enqueue("shop", 1, saga_id="o-1", connection=connection)
        mediator.enqueue("shop", 3, saga_id="o-3", connection=connection)
        mediator.enqueue("shop", 3, saga_id="o-3", connection=connection)  # seen within the transaction
        with pytest.raises(SagaIdTakenError, match="another payload"):
            mediator.enqueue("shop", 2, saga_id="o-1", connection=connection)
        with pytest.raises(SagaIdTakenError, match="forgotten"):
            mediator.enqueue("shop", saga_id="old", connection=connection)
        with pytest.raises(PayloadError):
            mediator.enqueue("shop", object(), saga_id="o-4", connection=connection)
        connection.execute(insert, ("b",))
    assert count(journal) == 2
    assert sorted(entry.saga_id for entry in journal.entries()) == ["o-1", "o-3"]


def test_a_connection_that_cannot_be_used_is_refused_before_anything_is_sent(drive, orders):
    """No connection of psycopg, a closed one, one in a failed transaction, one to another database."""
    journal, insert = orders
    mediator = drive(shop(World()), journal=journal)
    with pytest.raises(DefinitionError, match=r"takes a psycopg\.Connection"):
        mediator.enqueue("shop", connection="postgresql://")
    with psycopg.connect(server().url()) as connection:
        connection.execute(insert, ("a",))
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert, ("a",))
        with pytest.raises(RefusedError, match="INERROR"):
            mediator.enqueue("shop", connection=connection)
        connection.rollback()
    with pytest.raises(RefusedError, match="closed"):
        mediator.enqueue("shop", connection=connection)
    with psycopg.connect(server().url().replace("/postgres?", "/template1?")) as elsewhere:
        with pytest.raises(RefusedError, match="'template1'"):
            mediator.enqueue("shop", connection=elsewhere)
        assert elsewhere.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert list(journal.entries()) == []


def test_the_same_server_under_another_name_is_recognised(orders):
    """A connection by TCP is one to the database that the journal has by a Unix socket."""
    journal, _ = orders
    server().execute("ALTER ROLE postgres PASSWORD 'a'")
    url = f"postgresql://postgres:a@127.0.0.1:{server().port}/postgres"
    with Mediator(shop(World()), journal=journal) as mediator, psycopg.connect(url) as connection:
        mediator.enqueue("shop", saga_id="o-1", connection=connection)
    assert found(journal, "o-1").state == "pending"


def test_an_asynchronous_connection_is_awaited_by_an_async_mediator(orders):
    """AsyncMediator takes both kinds; Mediator refuses the one that it cannot await."""
    journal, insert = orders

    async def main() -> None:
        connection = await psycopg.AsyncConnection.connect(server().url())
        with pytest.raises(DefinitionError, match="use AsyncMediator"):
            Mediator(shop(World()), journal=journal).enqueue("shop", connection=connection)
        async with AsyncMediator(shop(World()), journal=journal) as mediator, connection:
            await connection.execute(insert, ("a",))
            await mediator.enqueue("shop", 1, saga_id="o-1", connection=connection)
            await mediator.enqueue("shop", 1, saga_id="o-1", connection=connection)
            with pytest.raises(SagaIdTakenError):
                await mediator.enqueue("shop", 2, saga_id="o-1", connection=connection)

    asyncio.run(main())
    assert (count(journal), found(journal, "o-1").state) == (1, "pending")


def test_two_that_enqueue_the_same_id_at_once_are_one(orders):
    """The second transaction waits for the first, and joins it, or opens the execution if that was rolled back."""
    journal, _ = orders
    with Mediator(shop(World()), journal=journal) as mediator:
        for end in ("commit", "rollback"):
            with psycopg.connect(server().url()) as one, psycopg.connect(server().url()) as two:
                mediator.enqueue("shop", 1, saga_id=end, connection=one)
                other = in_thread(mediator.enqueue, "shop", 1, saga_id=end, connection=two)
                eventually(partial(connections_of(journal).read, WAITS, (two.info.backend_pid,)))
                getattr(one, end)()
                assert other() == end
    assert sorted(entry.saga_id for entry in journal.entries()) == ["commit", "rollback"]


def test_more_executions_than_one_query_finds_are_recovered():
    """A journal is asked for 1,000 executions at a time. None is left over."""
    journal = MemoryJournal()
    with Mediator(Saga("s", [World().step("a")]), journal=journal) as mediator:
        for number in range(1001):
            mediator.enqueue("s", saga_id=f"o-{number}")

        assert len(mediator.recover()) == 1001
