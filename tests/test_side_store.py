"""The side store: counts beside a journal are those of its records, whatever happens to either."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_mediator import MemoryJournal, SQLiteJournal
from fsm_mediator.cli.commands import cli
from fsm_mediator.errors import DefinitionError, JournalError
from fsm_mediator.journal.finding import KEYS, Filter
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.mediator.finding import count_in, find
from fsm_mediator.records import Failure
from fsm_mediator.states import ENDED
from fsm_mediator.statistics import FailureGroup, SagaNumbers, side_store, side_tables
from fsm_mediator.statistics.numbers import SPAN, first_span, read_numbers, span_of
from fsm_mediator.statistics.side_batches import Batch
from fsm_mediator.statistics.side_sqlite import SQLiteHome
from fsm_mediator.statistics.side_store import FRESH, filled_store_of, filling, side_store_of
from fsm_mediator.testing.strategies import HISTORY_AT, acceptance_of, histories, sagas
from tests.commits import DRIVER, Clock, opening, record
from tests.drivers import World, eventually
from tests.postgres_server import connections_of, server
from tests.test_finding import FILTERS, populated, saga_of

HOUR = span_of(HISTORY_AT) + 1
SINCE = (None, float(HOUR * SPAN), float((HOUR + 2) * SPAN))
NAMES = ("order", "other")


KINDS = ("sqlite", pytest.param("postgres", marks=pytest.mark.postgres))


def journal_in(kind, folder):
    """A new journal, in a file or on a server."""
    return SQLiteJournal(folder / "sagas.db", durability="normal") if kind == "sqlite" else server().journal()


@pytest.fixture(params=KINDS)
def journal(request, tmp_path):
    """A journal that can have a side store."""
    with closing(journal_in(request.param, tmp_path)) as made:
        made.enlist(DRIVER)
        yield made


@pytest.fixture
def in_file(tmp_path):
    """A journal in a file."""
    with closing(journal_in("sqlite", tmp_path)) as made:
        made.enlist(DRIVER)
        yield made


def store_of(journal, clock=None):
    """The side store of *journal*."""
    store = side_store_of(journal, clock)
    assert store is not None
    return store


def where(journal):
    """The path or URL of a journal."""
    if isinstance(journal, SQLiteJournal):
        return journal.path
    return f"{server().url()}&schema={connections_of(journal).schema}"


def change(store, statement):
    """Change the tables of a store by hand."""
    with store.home.writing() as tables:
        tables.write(statement, [()])


def check_equal(journal, store):
    """Hold all numbers and counts of a full store against those that the journal's records give."""
    for name in NAMES:
        for version in (None, "2"):
            for since in SINCE:
                first = first_span(since)
                computed = read_numbers(journal, name, version, first)
                assert store.numbers(name, version, first).to_json() == computed.to_json()
    for chosen in (
        Filter(),
        Filter(saga="order"),
        Filter(states=("failed", "stuck")),
        Filter(since=SINCE[1], until=SINCE[2]),
    ):
        for by in (None, *KEYS):
            assert store.count(chosen, by) == journal.count(chosen, by)
    nothing = "SELECT 1 FROM samples WHERE count <= 0 UNION ALL SELECT 1 FROM places WHERE count <= 0"
    with store.home.reading() as tables:
        assert not tables.read(nothing)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_numbers_are_the_same_with_and_without_it(kind, data, tmp_path_factory):
    """Of any histories, written and counted in any portions, with some deleted in between: the same text."""
    folder = tmp_path_factory.mktemp("numbers")
    saga = data.draw(sagas(most=3))
    with (
        closing(journal_in(kind, folder)) as journal,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(side_store, "BATCH", data.draw(st.sampled_from([1, 3, 5000])))
        journal.enlist(DRIVER)
        store = store_of(journal)
        left = []
        for number in range(data.draw(st.integers(1, 5))):
            saga_id = f"e-{number}"
            records = data.draw(histories(saga, most=12, saga_id=saga_id))
            names = {"saga": data.draw(st.sampled_from(NAMES)), "version": data.draw(st.sampled_from("12"))}
            opened = msgspec.structs.replace(acceptance_of(saga, saga_id), **names)
            left.append((opened, [msgspec.structs.replace(each, saga=names["saga"]) for each in records]))
        while left:
            opened, records = left.pop(data.draw(st.integers(0, len(left) - 1)))
            cut = data.draw(st.integers(0, len(records)))
            if cut and records[cut - 1].target in ENDED:
                cut = len(records)  # nobody owns what has ended
            now, later = records[:cut], records[cut:]
            is_new = journal.find(opened.saga_id) is None
            held = bool(later) or not (records and records[-1].target in ENDED)
            if is_new or now:
                accepted = opened if is_new else None
                journal.write(Commit(opened.saga_id, tuple(now), DRIVER.id, held=held, acceptance=accepted))
            left += [(opened, later)] if later else []
            if data.draw(st.booleans()):
                store.refresh()
            if data.draw(st.booleans()):
                journal.prune(9e12, limit=1, forget_ids=True)
        store.refresh()
        check_equal(journal, store)
        store.rebuild()
        check_equal(journal, store)
        assert store.age() == 0
    shutil.rmtree(folder)


def test_mediator_gives_the_same_numbers_with_and_without_it(drive, journal):
    """`stats` tells failures, retries, where executions are and how they failed; and is the same as JSON again."""
    mediator = drive(saga_of(World()), journal=journal)
    for number in (1, 13, 13):
        mediator.run("order", number, check=False)
    numbers = mediator.stats("order", version="1")
    assert numbers.failures == [FailureGroup("pay", "fsm_mediator.errors.StepRejectedError", 2)]
    assert numbers.steps["pay"].failure_rate == pytest.approx(2 / 3)
    assert (numbers.steps["pay"].samples, numbers.steps["pay"].attempts, numbers.steps["pay"].doubts) == (3, 3, 0)
    assert (numbers.ended, numbers.states["failed"].now, numbers.states["succeeded"].now) == (3, 2, 1)
    assert numbers.states["executing.pay"].count == 3
    assert 0 < numbers.p50 <= numbers.p95 <= numbers.maximum
    assert SagaNumbers.from_json(numbers.to_json()) == numbers
    assert mediator.stats("order", version="2") != numbers
    if (store := side_store_of(mediator.journal)) is not None:
        store.refresh()
        assert mediator.stats("order", version="1") == numbers
    with pytest.raises(DefinitionError, match="give names"):
        mediator.stats(saga_of(World()))
    with pytest.raises(DefinitionError, match="not a time"):
        mediator.stats("order", since="yesterday")
    with pytest.raises(JournalError, match="holds no numbers"):
        SagaNumbers.from_json("{}")


def fill(journal, count=30):
    """Executions that succeeded, one after the other."""
    for number in range(count):
        journal.write(opening(f"o-{number}", "executing.a", "succeeded", held=False))


def test_kill_in_the_midst_leaves_what_was_counted(journal, monkeypatch):
    """Rows and cursor are one transaction: after a kill between them nothing is counted twice or left out."""
    fill(journal)
    store = store_of(journal)
    monkeypatch.setattr(side_store, "BATCH", 7)
    count, calls = Batch.count, []

    with monkeypatch.context() as patched:

        def dying(self, moves):
            calls.append(moves)
            if len(calls) == 4:  # samples are written by then, rows are not
                patched.setattr(side_tables, "KEEP", side_tables.KEEP.replace("INTO executions", "INTO nowhere"))
            count(self, moves)

        patched.setattr(Batch, "count", dying)
        with pytest.raises(JournalError, match=r"nowhere|table is missing"):
            store.refresh()
    assert 0 < store.count(Filter(), None)[""] < 30
    assert not store.exists  # it was never complete
    store.refresh()
    assert store.exists
    assert store.count(Filter(), "state") == {"succeeded": 30}
    assert store.numbers("s", None, None) == read_numbers(journal, "s", None, None)


KILLED = """
import sys, time
from fsm_mediator.journal.factory import open_journal
from fsm_mediator.statistics import side_store, side_tables
from fsm_mediator.statistics.side_batches import Batch
side_store.BATCH = 7
count, calls = Batch.count, []
def stopping(self, moves):
    calls.append(moves)
    count(self, moves)
    if len(calls) == 3:
        print("counted", flush=True)
        time.sleep(600)
Batch.count = stopping
side_store.side_store_of(open_journal(sys.argv[1])).refresh()
"""


def test_killed_process_leaves_what_was_counted_and_no_lock(journal):
    """The next refresh goes on behind the last whole transaction, and waits for nobody."""
    fill(journal)
    with subprocess.Popen([sys.executable, "-c", KILLED, where(journal)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "counted\n"
        process.kill()
    store = store_of(journal)
    assert store.count(Filter(), None) == {"": 5}  # of 14 changes: the third portion is undone
    assert not store.exists
    assert store.refresh() == 90 - 14
    assert store.count(Filter(), "state") == {"succeeded": 30}
    assert store.numbers("s", None, None) == read_numbers(journal, "s", None, None)


def test_store_that_catches_up_keeps_its_age_until_it_has(journal, monkeypatch):
    """A refresh that ends in the midst has counted something, and the age does not hide what is missing."""
    clock = Clock(1000.0)
    store = store_of(journal, clock)
    fill(journal, 2)
    store.refresh()
    clock.now = 1500.0
    for number in range(2, 12):
        journal.write(opening(f"o-{number}", "executing.a", "succeeded", held=False))
    monkeypatch.setattr(side_store, "BATCH", 7)

    def end():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.refresh(progress=end)
    assert 2 < store.count(Filter(), None)[""] < 12
    assert store.age() == 500.0
    assert not store.is_fresh()
    store.refresh()
    assert store.age() == 0
    journal.write(opening("late", "executing.a"))
    clock.now = 1507.0
    assert store.age() == 7.0


def test_rebuild_counts_everything_again(journal):
    """What is wrong in the tables is gone."""
    fill(journal, 3)
    store = store_of(journal)
    store.refresh()
    change(store, "UPDATE places SET count = 77")
    assert store.count(Filter(), None) == {"": 77}
    assert store.refresh() == 0
    assert store.rebuild() == 9
    assert store.count(Filter(), None) == {"": 3}
    assert store.numbers("s", None, None) == read_numbers(journal, "s", None, None)


def test_texts_that_json_escapes_are_no_obstacle(journal):
    """Beside a NUL in a message and backslashes in a result, the type of the error is found."""
    failure = Failure("shop.Declined", "a \0 and C:\\users and \\\\u0000")
    failed = record("o-1", 1, "failed", error=failure, step="pay")
    value = {"path": "C:\\users\\new\\u0041", "nul": "\0\x01", "end": "\\"}
    failed = msgspec.structs.replace(failed, event="rejected", value=value)
    journal.write(msgspec.structs.replace(opening("o-1", held=False, driver=None), records=(failed,)))
    store = store_of(journal)
    store.refresh()
    for by, key in (("error", "shop.Declined"), ("step", "pay"), ("state", "failed")):
        assert store.count(Filter(), by) == journal.count(Filter(), by) == {key: 1}
    assert store.count(Filter(error="Declined"), None) == journal.count(Filter(error="Declined"), None) == {"": 1}


def test_deleted_executions_are_forgotten_though_their_number_comes_again(journal):
    """What `prune` deleted is in no count and in no text, and the next execution may have its number."""
    fill(journal)
    store = store_of(journal)
    store.refresh()
    assert journal.prune(2e10, limit=29, forget_ids=True) == 29
    journal.prune(2e10, forget_ids=True)
    journal.write(opening("new", "executing.a"))
    store.refresh()
    assert store.count(Filter(), "state") == {"executing.a": 1}
    assert store.with_text("o-", 2**62, 100) == []
    assert [saga_id for _, saga_id, _, _ in store.with_text("new", 2**62, 100)] == ["new"]


def test_counts_by_each_filter_are_the_journal_s(journal):
    """What it knows it counts as the journal does; attributes, parents and texts it leaves to that."""
    populated(journal)
    store = store_of(journal)
    store.refresh()
    known = 0
    times = [chosen for chosen in FILTERS if chosen.since is not None or chosen.until is not None]
    spans = [  # their executions change within the first minute
        msgspec.structs.replace(chosen, since=since, until=until)
        for chosen in times
        for since, until in ((0.0, None), (None, 3600.0), (-3600.0, 17.0), (5.0, 3601.0), (3.0, 9.0), (9.0, 3.0))
    ]
    for chosen in (*FILTERS, *spans):
        for by in (None, *KEYS):
            found = store.count(chosen, by)
            assert found is None or found == journal.count(chosen, by), (chosen, by)
            assert count_in(journal, chosen, by) == (journal.count(chosen, by), None if found is None else 0.0)
            known += found is not None
    assert known > 200
    assert store.states() == {
        (saga, version): journal.count(Filter(saga=saga, version=version), "state") for saga in "st" for version in "12"
    }


@pytest.mark.parametrize("text", ["-1", "n-3/", "group", 'n-1"x', "N-3", "-", ""])
def test_texts_are_found_as_the_journal_finds_them(journal, text, monkeypatch):
    """With the store, a text in an id is found in pages, newest first, together with every other filter."""
    populated(journal)
    journal.write(opening('n-1"x', "executing.a", held=False))
    plain = [Filter(text=text), Filter(text=text, saga="t"), Filter(text=text, states=("failed",), error="Declined")]
    expected = [[entry.saga_id for entry in find(journal, chosen, None, None)] for chosen in plain]
    store_of(journal).refresh()
    monkeypatch.setattr("fsm_mediator.journal.sqlite.finding.FindingTables.search", None)  # it is not asked
    monkeypatch.setattr("fsm_mediator.mediator.finding.PAGE", 7)
    for chosen, ids in zip(plain, expected, strict=True):
        page = find(journal, chosen, None, 5)
        assert [entry.saga_id for entry in page] == ids[:5]
        more = find(journal, chosen, page[-1].cursor, None) if page else []
        assert [entry.saga_id for entry in (*page, *more)] == ids


def test_store_that_lags_behind_says_its_age_and_answers_no_count(journal):
    """While newer changes are missing the numbers say for how long; after a minute counts are the journal's again."""
    clock = Clock(1000.0)
    store = store_of(journal, clock)
    assert filled_store_of(journal) is None
    fill(journal, 2)
    store.refresh()
    clock.now += 10 * FRESH
    assert store.age() == store.numbers("s", None, None).age == 0
    fill_one = opening("late", "executing.a")
    journal.write(fill_one)
    assert store.age() == store.numbers("s", None, None).age == 10 * FRESH
    assert not store.is_fresh()
    clock.now = 1000.0 + FRESH
    assert store.is_fresh()
    assert store.count(Filter(), None) == {"": 2}
    if isinstance(journal, SQLiteJournal):
        os.utime(store.home.path)
    assert count_in(journal, Filter(), None) == ({"": 3}, None)  # by the real clock, the store is old
    store.refresh()
    assert store.age() == 0


def test_another_journal_at_the_same_path_is_counted_anew(tmp_path):
    """A store of a journal that was replaced is not believed; the next refresh builds it again."""
    path = tmp_path / "sagas.db"
    for saga_id in ("first", "second"):
        with closing(SQLiteJournal(path)) as journal:
            journal.enlist(DRIVER)
            journal.write(opening(saga_id, "executing.a"))
            store = store_of(journal)
            assert not store.exists
            store.refresh()
            assert [each for _, each, _, _ in store.with_text("s", 2**62, 9)] == [saga_id]
        for each in tmp_path.glob("sagas.db*"):
            each.rename(tmp_path / f"old-{saga_id}-{each.name}")  # so that the file's number is not given again


def test_file_of_another_application_is_left_alone(in_file):
    """What is no store of ours is not emptied, and the error says what to do."""
    store = store_of(in_file)
    with closing(sqlite3.connect(store.home.path)) as other:
        other.execute("CREATE TABLE mine (a)")
    with pytest.raises(JournalError, match="another application"):
        store.refresh()
    with closing(sqlite3.connect(store.home.path)) as other:
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("mine",)]
    store.home.path.write_bytes(b"no database at all, but some text that is long enough" * 20)
    with pytest.raises(JournalError, match="cannot be used: file is not a database"):
        store.refresh()


def test_store_is_for_its_owner_alone(in_file):
    """It has the ids of executions, and is as private as the journal."""
    store = store_of(in_file)
    store.refresh()
    assert store.home.path.name == "sagas.stats.db"
    assert store.home.path.stat().st_mode & 0o777 == 0o600
    assert store.home.path != SQLiteHome(in_file.path.removesuffix(".db")).path.with_suffix("")


def test_journals_without_a_file_have_none():
    """Numbers of a journal in memory are computed; nothing is written beside it."""
    with closing(SQLiteJournal(":memory:")) as in_memory:
        assert side_store_of(in_memory) is side_store_of(MemoryJournal()) is None


def test_no_look_up_reads_all_executions(in_file, monkeypatch):
    """Counts, numbers and texts are read by indexes and from counts: EXPLAIN shows it."""
    populated(in_file)
    store = store_of(in_file)
    store.refresh()
    plans: list[str] = []
    connect = sqlite3.connect

    def watched(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(plans.append)
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", watched)
        store.count(Filter(states=("failed",), since=0.0), "error")
        store.numbers("s", "1", 0)
        store.states()
        store.with_text("group", 50, 3)
        store.age()
    asked = [query for query in plans if query.lstrip().startswith("SELECT") and "fts" not in query]
    assert len(asked) > 6
    with closing(connect(store.home.path)) as connection:
        for query in asked:
            plan = [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {query.replace('Inf', '9e999')}")]
            assert not [step for step in plan if step.startswith(("SCAN e", "SCAN executions", "SCAN samples"))], plan


def test_changes_are_read_by_their_number(in_file):
    """A refresh reads what is new, however large the journal is."""
    fill(in_file)
    in_file.moves()
    from fsm_mediator.journal.sqlite import following

    with closing(sqlite3.connect(in_file.path)) as connection:
        plan = [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {following.MOVES}", (3, 5))]
    assert not [step for step in plan if step.startswith("SCAN")], plan


def test_daemon_fills_a_store_that_is_there(journal):
    """`serve` keeps it up to date in a thread; it makes none where nobody wants one."""
    fill(journal, 2)
    store = store_of(journal)
    with filling(journal, every=0.001):
        assert not store.home.is_there()
        store.refresh()
        journal.write(opening("late", "executing.a"))
        assert eventually(lambda: store.count(Filter(), None) == {"": 3})
        change(store, "UPDATE place SET source = 'another'")  # as after the journal was replaced
        assert eventually(lambda: store.exists)
    assert not any(thread.name == "side store" for thread in threading.enumerate())


def test_daemon_goes_on_without_a_store_that_cannot_be_written(in_file, caplog):
    """What is wrong with the store is logged once, and the daemon drives on."""
    store_of(in_file).home.path.write_bytes(b"no database at all, but some text that is long enough" * 20)
    with filling(in_file, every=0.001):
        assert eventually(lambda: "is not a database" in caplog.text)
    assert caplog.text.count("the side store is not filled") == 1


def test_commands_fill_it_and_say_where_counts_come_from(journal):
    """`stats --refresh` makes it, `--rebuild` makes it anew, and `count` says that it was asked."""
    fill(journal, 4)

    def run(*words):
        return CliRunner().invoke(cli, [*words, "--journal", where(journal)], catch_exceptions=False)

    assert "side store" not in run("count").stderr
    assert "4 executions" in run("stats", "--refresh").stderr
    assert run("count").stdout == "4\n"
    assert "from the side store; newer changes: none" in run("count").stderr
    assert "12 changes read, 4 executions" in run("stats", "--rebuild").stderr
    refused = CliRunner().invoke(cli, ["stats", "--refresh", "--journal", ":memory:"])
    assert refused.exit_code
