"""The side store of a PostgreSQL journal: its schema, its roles, several processes at once, and open transactions."""

# ruff: noqa: S608 - only names of schemas are put into statements

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from fsm_mediator import DefinitionError, JournalError, Mediator, Saga
from fsm_mediator.journal.finding import Filter
from fsm_mediator.journal.postgres import PostgresJournal
from fsm_mediator.journal.postgres.counting import CHANGED, MOVES
from fsm_mediator.mediator.finding import count_in
from fsm_mediator.statistics import side_store, side_tables
from fsm_mediator.statistics.numbers import read_numbers
from fsm_mediator.statistics.side_postgres import WITH_TEXT, PostgresHome
from fsm_mediator.statistics.side_store import LOOKS, SideStore, filled_store_of, filling
from tests.commits import DRIVER, ROOT, Clock, opening
from tests.drivers import World, eventually, in_thread
from tests.postgres_server import changed, connections_of, server

pytestmark = pytest.mark.postgres


@pytest.fixture
def journal() -> Iterator[PostgresJournal]:
    """A journal with a driver."""
    with closing(server().journal()) as made:
        made.enlist(DRIVER)
        yield made


def store_of(journal: Any, clock: Any = None, sleep: Any = pytest.fail) -> SideStore:
    """The side store of *journal*. A sleep that is not expected fails."""
    return SideStore(journal, PostgresHome(journal), clock, sleep)


def schema_of(journal: Any) -> str:
    """The schema of the side store of *journal*."""
    return PostgresHome(journal).schema


def fill(journal: Any, count: int = 30) -> None:
    """Executions that succeeded, one after the other."""
    for number in range(count):
        journal.write(opening(f"o-{number}", "executing.a", "succeeded", held=False))


# Where it is


def test_schema_has_the_name_of_the_journal_s_or_that_which_is_given(journal):
    """In the URL or as an argument; a name that would be too long is cut, and stays another one for another journal."""
    schema = connections_of(journal).schema
    assert schema_of(journal) == f"{schema}_stats"
    for named in (
        PostgresJournal(f"{server().url()}&schema={schema}&stats_schema=numbers"),
        PostgresJournal(server().url(), schema=schema, stats_schema="numbers"),
    ):
        with closing(named):
            assert schema_of(named) == "numbers"
    long = [f"{'x' * 60}{number}" for number in range(2)]
    with closing(server().journal(long[0])) as first, closing(server().journal(long[1])) as second:
        names = {schema_of(each) for each in (first, second)}
    assert len(names) == 2
    assert all(len(name) == 63 for name in names)
    for bad, why in ((schema, "schema of its own"), ('a"b', "stats_schema='a\"b' must be a name")):
        with pytest.raises(DefinitionError, match=re.escape(why)):
            PostgresJournal(server().url(), schema=schema, stats_schema=bad)


def test_schema_of_another_application_is_left_alone(journal):
    """What is no store of ours is not dropped; the error says what to do."""
    server().execute("CREATE SCHEMA mine; CREATE TABLE mine.place (a int); INSERT INTO mine.place VALUES (7)")
    with closing(PostgresJournal(server().url(), schema=connections_of(journal).schema, stats_schema="mine")) as other:
        store = store_of(other)
        with pytest.raises(JournalError, match="another application; name another one"):
            store.refresh()
        assert not store.exists
        assert not store.home.is_there()
    with psycopg.connect(server().url()) as connection:
        assert connection.execute("SELECT a FROM mine.place").fetchall() == [(7,)]


def test_store_of_another_format_or_journal_is_built_again(journal):
    """It is not believed, and answers nothing; the next refresh makes it."""
    fill(journal, 3)
    store = store_of(journal)
    store.refresh()
    with store.home.writing() as tables:
        tables.write("UPDATE side_store SET format = ?", [(1,)])
        tables.write("CREATE TABLE older (a int)", [()])
    assert filled_store_of(journal) is None
    assert store.refresh() == 9
    with store.home.reading() as tables:
        named = tables.read("SELECT tablename::text FROM pg_tables WHERE schemaname = ?", (schema_of(journal),))
    assert ("older",) not in named
    assert ("place",) in named
    journal.close()
    schema = connections_of(journal).schema
    server().execute(f"DROP SCHEMA {schema} CASCADE")
    with closing(server().journal(schema)) as second:
        assert not store_of(second).exists
        second.enlist(DRIVER)
        fill(second, 1)
        assert store_of(second).refresh() == 3
        assert store_of(second).count(Filter(), None) == {"": 1}


@pytest.mark.parametrize("pooled", [False, True])
def test_one_connection_of_the_journal_is_enough(pooled):
    """The store has connections of its own, and waits for none of the journal while it keeps one of these."""
    with closing(server().journal(most_connections=1, pooled=pooled)) as journal:
        journal.enlist(DRIVER)
        fill(journal, 2)
        store = store_of(journal)
        store.refresh()
        assert store.numbers("s", None, None) == read_numbers(journal, "s", None, None)
        store.rebuild()
        assert (store.is_fresh(), store.age(), store.is_just_filled(60)) == (True, 0.0, True)
    assert not store.is_just_filled(0)


# Roles


def test_documented_roles_suffice_for_a_store():
    """`counter` fills it; `worker` keeps it filled and `viewer` reads it, with the rights that the page lists."""
    server().journal("counted").close()
    text = (ROOT / "docs" / "scaling.md").read_text()
    roles, granted = (text.split("```sql\n")[at].split("```")[0].replace("fsm_mediator", "counted") for at in (1, 2))
    made, later = granted.split("-- after the first refresh\n")
    names = "worker", "viewer", "counter"
    for name in names:
        server().execute(f"DROP OWNED BY {name}; DROP ROLE {name}" if _is_role(name) else "SELECT 1")
    server().execute(roles + made)
    journals = {name: PostgresJournal(server().url(name), schema="counted") for name in names}
    try:
        worker, viewer, counter = journals.values()
        worker.enlist(DRIVER)
        fill(worker, 3)
        assert store_of(counter).refresh() == 9
        server().execute("GRANT USAGE ON SCHEMA counted_stats TO viewer")
        for each in (worker, viewer):  # they may not read it, and count in the journal
            assert filled_store_of(each) is None
            assert count_in(each, Filter(), None) == ({"": 3}, None)
        server().execute(later)
        worker.prune(1e10, limit=1, forget_ids=True)
        assert store_of(worker).refresh() == 1
        assert count_in(viewer, Filter(), None) == ({"": 2}, 0.0)
        assert store_of(worker).rebuild() == 7  # the deletion is a change
        assert count_in(viewer, Filter(), None) == ({"": 2}, 0.0)
        with pytest.raises(JournalError, match=r"the side store in the schema 'counted_stats' cannot be used.*may not"):
            store_of(viewer).refresh()
    finally:
        for name, each in journals.items():
            each.close()
            server().execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def _is_role(name: str) -> bool:
    with psycopg.connect(server().url()) as connection:
        return connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone() is not None


def test_daemon_says_once_that_it_may_not_fill_a_store(journal, caplog):
    """A role that may only read the store is reported once, and the daemon goes on."""
    fill(journal, 1)
    store_of(journal).refresh()
    schema, stats = connections_of(journal).schema, schema_of(journal)
    server().execute(
        f"""DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN;
        GRANT USAGE ON SCHEMA {schema}, {stats} TO reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA {schema}, {stats} TO reader"""
    )
    with closing(PostgresJournal(server().url("reader"), schema=schema)) as reading:
        with store_of(journal).home.writing() as tables:
            tables.write("UPDATE place SET at = ?", [(1.0,)])
        with filling(reading, every=0.001):
            assert eventually(lambda: "this user may not" in caplog.text)
        assert caplog.text.count("the side store is not filled") == 1
    server().execute("DROP OWNED BY reader; DROP ROLE reader")


def test_no_message_shows_the_password(journal, monkeypatch):
    """Neither the name of the store nor an error of it has the password of the URL."""
    server().execute("DROP ROLE IF EXISTS secretive; CREATE ROLE secretive LOGIN SUPERUSER PASSWORD 'pa55w0rd'")
    url = f"postgresql://secretive:pa55w0rd@127.0.0.1:{server().port}/postgres?schema={connections_of(journal).schema}"
    monkeypatch.setattr(side_tables, "SET_PLACE", "INSERT INTO nowhere VALUES (?, ?, ?)")
    with closing(PostgresJournal(url)) as opened, pytest.raises(JournalError) as caught:
        store_of(opened).refresh()
    assert "pa55w0rd" not in str(caught.value) + store_of(opened).home.name
    assert "127.0.0.1" in str(caught.value)
    server().execute("DROP ROLE secretive")


# At once


def test_processes_that_refresh_at_once_count_each_change_once(journal, monkeypatch):
    """While others write and delete, several fill the same store, and the first of them make it."""
    monkeypatch.setattr(side_store, "BATCH", 5)
    schema = connections_of(journal).schema
    saga = Saga("shop", [World().step("a"), World().step("b")])
    fill(journal, 10)
    with Mediator(saga, journal=journal) as mediator:
        writers = [
            in_thread(lambda k=k: [mediator.run("shop", saga_id=f"{k}-{n}") for n in range(8)]) for k in range(2)
        ]

        def refresh() -> int:
            with closing(server().journal(schema)) as own:
                return sum(store_of(own, sleep=lambda _: None).refresh() for _ in range(5))

        refreshing = [in_thread(refresh) for _ in range(3)]
        journal.prune(1e10, saga="s", limit=5, forget_ids=True)
        for wait in writers:
            wait()
        counted = sum(wait() for wait in refreshing)
    store = store_of(journal)
    counted += store.refresh()
    assert store.count(Filter(), "saga") == {"shop": 16, "s": 5}
    assert store.numbers("shop", None, None) == read_numbers(journal, "shop", None, None)
    assert store.numbers("s", None, None) == read_numbers(journal, "s", None, None)
    assert counted <= 16 * 6 + 10 * 3 + 5  # no change twice
    with store.home.reading() as tables:
        assert not tables.read("SELECT 1 FROM samples WHERE count <= 0 UNION ALL SELECT 1 FROM places WHERE count <= 0")


def test_rebuild_waits_for_no_reader_and_leaves_it_its_snapshot(journal):
    """A page that is being computed from the store keeps the rows that it has begun to read."""
    fill(journal, 3)
    store = store_of(journal)
    store.refresh()
    with store.home.reading() as tables:
        assert tables.read("SELECT count(*) FROM places") == [(1,)]
        in_thread(store_of(journal).rebuild)()
        assert tables.read("SELECT sum(count)::int FROM places") == [(3,)]
        assert tables.read("SELECT count(*) FROM executions") == [(3,)]
    assert store.count(Filter(), None) == {"": 3}


def test_age_counts_from_before_a_transaction_that_is_open(journal):
    """A change that is committed, and held back by an earlier transaction, is missing: the store does not hide that."""
    clock = Clock(1000.0)
    pauses: list[float] = []
    store = store_of(journal, clock, pauses.append)
    with Mediator(Saga("shop", [World().step("a")]), journal=journal) as mediator:
        store.refresh()
        clock.now = 1100.0
        with psycopg.connect(server().url()) as connection:
            mediator.enqueue("shop", saga_id="lower", connection=connection)
            store.refresh()
            assert pauses == []  # nothing is missing yet
            clock.now = 1200.0
            mediator.enqueue("shop", saga_id="higher")
            assert store.refresh() == 0
            assert len(pauses) == LOOKS
            assert store.age() == 100.0
            assert not store.is_fresh()
            assert count_in(journal, Filter(), None)[0] == {"": 1}
            late = store_of(journal, clock, lambda _: connection.commit())
            assert late.refresh() == 2
        assert store.age() == 0
        journal.write(opening("newest", "executing.a"))
        clock.now = 1230.0
        assert store.age() == 30.0


def test_age_advances_though_some_transaction_is_always_open(journal):
    """A later refresh, which sees other transactions, knows that those of the earlier one ended."""
    clock = Clock(1000.0)
    store = store_of(journal, clock)
    with Mediator(Saga("shop", [World().step("a")]), journal=journal) as mediator:
        store.refresh()
        url = server().url()
        with psycopg.connect(url) as one, psycopg.connect(url) as other:
            clock.now = 1200.0
            mediator.enqueue("shop", saga_id="lower", connection=one)
            mediator.enqueue("shop", saga_id="higher")
            store.refresh(looks=0)
            assert store.age() == 200.0
            mediator.enqueue("shop", saga_id="other", connection=other)
            one.commit()
            mediator.enqueue("shop", saga_id="newest")
            clock.now = 1300.0
            store.refresh(looks=0)
            assert store.age() == 100.0
            store_of(journal, clock).refresh(looks=0)
            assert store.age() == 100.0
    assert store.refresh() == 2
    assert store.age() == 0


def test_first_fill_that_a_transaction_holds_back_is_no_store_yet(journal):
    """Its numbers would lack what was there before it began."""
    clock = Clock(1000.0)
    store = store_of(journal, clock, lambda _: None)
    with (
        Mediator(Saga("shop", [World().step("a")]), journal=journal) as mediator,
        psycopg.connect(server().url()) as connection,
    ):
        mediator.enqueue("shop", saga_id="lower", connection=connection)
        mediator.enqueue("shop", saga_id="higher")
        store.refresh()
        assert filled_store_of(journal) is None
        connection.rollback()
    store.refresh()
    assert store.count(Filter(), None) == {"": 1}
    assert store.exists


def test_deletion_under_way_when_counting_begins_is_not_missed(journal):
    """The first call waits for it: later it could not be noted, and the execution would be counted for ever."""
    fill(journal, 2)
    store = store_of(journal, sleep=lambda _: None)
    with psycopg.connect(server().url()) as connection:
        schema = connections_of(journal).schema
        connection.execute(f"DELETE FROM {schema}.executions WHERE saga_id = 'o-0'".encode())
        connection.execute(f"DELETE FROM {schema}.records r WHERE execution = 1".encode())
        wait = in_thread(store.refresh)
        assert eventually(_waits_for_a_lock)
        connection.commit()
    wait()
    store.refresh()
    assert store.count(Filter(), None) == {"": 1}


def _waits_for_a_lock() -> bool:
    with psycopg.connect(server().url()) as connection:
        query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%counting SET is_on%'"
        return connection.execute(query).fetchone() is not None


def test_deletions_cost_nothing_while_nobody_counts(journal):
    """They are noted once a store follows the journal."""
    fill(journal, 4)
    assert journal.prune(1e10, limit=1, forget_ids=True) == 1
    removed = f"SELECT count(*) FROM {connections_of(journal).schema}.removed"
    with psycopg.connect(server().url(), autocommit=True) as connection:
        assert connection.execute(removed.encode()).fetchone() == (0,)
        store_of(journal).refresh()
        journal.prune(1e10, limit=1, forget_ids=True)
        assert connection.execute(removed.encode()).fetchone() == (1,)
    assert [move.seq for move in journal.moves("", 9)] == [0, 1, 2, 0, 1, 2, -1]
    assert [move.seq for move in journal.moves("", 6)] == [0, 1, 2, 0, 1, 2]
    assert [move.seq for move in journal.moves(journal.moves("", 6)[-1].cursor, 9)] == [-1]


def test_records_with_numbers_of_another_server_are_not_left_out(journal):
    """After a restore from a dump the order of the transactions is lost: the store says so, and is not filled."""
    fill(journal, 3)
    changed(journal, "UPDATE records SET transaction = transaction + 1000000000 WHERE execution = 2")
    with pytest.raises(JournalError, match=r"another server's transactions.*Next: UPDATE") as caught:
        store_of(journal).refresh()
    assert filled_store_of(journal) is None
    statement = str(caught.value).split("Next: ")[1].split(", then")[0]
    server().execute(statement)
    assert store_of(journal).rebuild() == 9
    assert store_of(journal).count(Filter(), None) == {"": 3}


def test_journal_that_was_never_counted_is_not_changed_by_a_reader(journal):
    """A read-only journal creates no side store. If a store exists, the journal reads it."""
    fill(journal, 1)
    with closing(PostgresJournal(server().url(), schema=connections_of(journal).schema, read_only=True)) as reading:
        with pytest.raises(JournalError, match=r"never counted, and was opened only for reading.*stats --refresh"):
            store_of(reading).refresh()
        store_of(journal).refresh()
        assert count_in(reading, Filter(), None) == ({"": 1}, 0.0)


# Plans


def test_texts_and_periods_are_found_by_indexes(journal):
    """In a large store neither a text nor the rest of an hour is found by reading all executions: EXPLAIN shows it."""
    fill(journal, 1)
    store = store_of(journal)
    store.refresh()
    large = """
        INSERT INTO executions SELECT n, 'order-' || n, 1, 0, n, 'succeeded', n, '', '', '', 0, '[]'
        FROM generate_series(10, 20000) n;
        INSERT INTO ids SELECT number, saga_id FROM executions WHERE number >= 10;
        ANALYZE executions, ids"""
    with store.home.writing() as tables:
        for statement in large.split(";"):
            tables.write(statement, [()])
    count = side_tables.COUNT.format(key="''", where="p.is_branch = 0")
    with store.home.reading() as tables:
        text = "\n".join(line for (line,) in tables.read(f"EXPLAIN {WITH_TEXT}", ("r-12345", 2**62, "r-12345", 100)))
        period = "\n".join(line for (line,) in tables.read(f"EXPLAIN {count}", (1, 2, 17.0, 19.0, 23.0, 29.0)))
    assert "ids_by_text" in text
    assert "executions_by_change" in period
    assert "Seq Scan on ids" not in text
    assert "Seq Scan on executions" not in text + period
    assert [saga_id for _, saga_id, _, _ in store.with_text("r-12345", 2**62, 9)] == ["order-12345"]


def test_following_reads_no_table_as_a_whole(journal):
    """In a large journal a page of moves and the look for newer changes read by the index of the transactions."""
    journal.moves()
    large = """
        INSERT INTO executions (saga_id, saga, version, fingerprint, state, changed_at, seq, epoch, mail)
        SELECT 'n' || n, 's', '1', 'f', 'executing.a', n, 1, 1, 0 FROM generate_series(1, 20000) n;
        INSERT INTO records (execution, seq, event, source, target, at, details, transaction)
        SELECT n, seq, 'executed', 'a', 'b', n, '{}', n FROM generate_series(1, 20000) n, generate_series(0, 1) seq;
        INSERT INTO removed SELECT n, n FROM generate_series(1, 20000) n"""
    changed(journal, large)
    for table in ("executions", "records", "removed"):
        server().execute(f"VACUUM ANALYZE {connections_of(journal).schema}.{table}")
    chosen = {"low": 700, "high": 900, "last": 700, "execution": 0, "seq": 0, "limit": 10}
    for mode in ("force_generic_plan", "force_custom_plan"):
        with connections_of(journal).session("read") as session:
            session.connection.execute(f"SET plan_cache_mode = {mode}".encode())
            session.connection.prepare_threshold = 0
            for query in (MOVES, CHANGED):
                plan = "\n".join(line for (line,) in session.execute(f"EXPLAIN {query}", chosen).fetchall())
                assert "Index Scan on changes" in plan
                assert "Seq Scan" not in plan
