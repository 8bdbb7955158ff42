"""Executions are found by what they are and what became of them, in pages, on every journal, by indexes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fsm_mediator import Mediator, MemoryJournal, Saga, SQLiteJournal, StepRejectedError
from fsm_mediator.errors import DefinitionError, JournalError, PayloadError, UnknownExecutionError
from fsm_mediator.journal.attributes import LONGEST_TEXT
from fsm_mediator.journal.finding import KEYS, Filter, failure_of, newest_by_phase
from fsm_mediator.journal.notes import ATTRIBUTES, Note
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.journal.sqlite.finding import OWNED, PARKED, FindingTables
from fsm_mediator.journal.sqlite.reading import JournalReader
from fsm_mediator.mediator import finding
from fsm_mediator.records import Failure, InboxItem
from tests.commits import DRIVER, acceptance, connections_of, going_on, opening, record
from tests.drivers import World
from tests.postgres_server import changed, server
from tests.postgres_server import connections_of as sessions_of

STATES = ("succeeded", "failed", "executing.a.b", "stuck.a", "stuck_executing.pay", "retrying.pay", "pending")
ERRORS = (None, "ConnectionError", "shop.errors.Declined", "Declined")

FILTERS = (
    Filter(),
    Filter(saga="s"),
    Filter(saga="s", version="2"),
    Filter(version="1"),
    Filter(saga="unknown"),
    Filter(states=("failed",)),
    Filter(states=("failed",), saga="t"),
    Filter(states=("succeeded", "failed")),
    Filter(states=("succeeded",), since=5.0),
    Filter(states=("stuck",)),
    Filter(states=("stuck_executing", "pending")),
    Filter(states=("executing.a.b", "failed")),
    Filter(attributes=(("tenant", "acme"),)),
    Filter(attributes=(("tenant", "acme"), ("order", 3)), states=("failed",)),
    Filter(attributes=(("order", True),)),
    Filter(error="Declined"),
    Filter(error="shop.errors.Declined", saga="s"),
    Filter(error="eclined"),
    Filter(step="a.b"),
    Filter(step="pay", error="ConnectionError"),
    Filter(since=10.0),
    Filter(until=10.0),
    Filter(since=8.0, until=20.0, saga="s"),
    Filter(parent="n-3"),
    Filter(parent="n-3", states=("failed",)),
    Filter(text="-1"),
    Filter(roots=True, states=("failed",)),
)


def populated(journal):
    """Fill *journal* with executions of every kind: the id, attributes and records of each, newest first."""
    journal.enlist(DRIVER)
    made = []
    kinds = list(product(STATES, ERRORS, ("s", "t")))
    for number, (state, error, saga) in enumerate(kinds * 2):
        parent = "n-3" if number % 7 == 5 else None
        saga_id = f"n-3/group.{number}" if parent else f"n-{number}"
        opened = acceptance(saga_id, saga=saga, version=str(1 + number // 2 % 2), at=float(number), parent=parent)
        records = []
        if error is not None and state != "pending":
            failure = Failure(error, "why")
            records.append(record(saga_id, 1, "compensating.a", at=number / 3, error=failure, step="pay"))
            records[0] = msgspec.structs.replace(records[0], event="rejected")
            later = record(saga_id, 2, "retrying_compensation.a", at=number / 3, error=Failure("Late"), step="a")
            records.append(msgspec.structs.replace(later, event="compensation_errored"))
        if state != "pending":
            records.append(record(saga_id, len(records) + 1, state, at=number / 2))
        records = [msgspec.structs.replace(each, saga=saga) for each in records]
        # One in three was opened by a driver that ends it later: in a SQLite file its row is not marked as ended.
        lazy = number % 3 == 0
        attributes = {"tenant": "acme" if number % 4 else "other", "order": number % 5, "vip": number % 2 == 0}
        notes = (Note(ATTRIBUTES, saga_id, value=attributes),) if number % 2 else ()
        first = tuple(records[:-1] if lazy else records)
        owner = DRIVER.id if lazy else None
        journal.write(Commit(saga_id, first, owner, held=lazy, acceptance=opened, notes=notes))
        if lazy:
            journal.write(Commit(saga_id, tuple(records[-1:]), owner, held=False, wake_at=None, token=number + 1))
        made.append((saga_id, attributes if notes else {}, records))
    return list(reversed(made))


def test_every_filter_finds_what_fits_it(journal):
    """What a filter finds, page by page, is what fits it, newest first; counts say the same."""
    made = populated(journal)
    for chosen in FILTERS:
        fitting = []
        for saga_id, attributes, records in made:
            entry = journal.find(saga_id)
            fits = chosen.fits(entry, attributes, records)
            assert type(fits) is bool
            fitting += [(entry, records)] if fits else []
        expected = [entry.saga_id for entry, _ in fitting]
        found, after = [], None
        while page := journal.search(chosen, after, 7):
            found += [entry.saga_id for entry in page]
            after = page[-1].cursor
        assert found == expected, chosen
        assert [entry.saga_id for entry in journal.search(chosen, limit=1000)] == expected, chosen
        assert journal.count_after(chosen, None, 5) == min(5, len(expected))
        assert journal.count_after(chosen, None, 1000) == len(expected)
        assert sum(journal.count(chosen).values()) == len(expected), chosen
        for by in KEYS:
            counts = journal.count(chosen, by)
            expected_counts: dict[str, int] = {}
            for entry, records in fitting:
                error, step = failure_of(entry.state, records)
                opened = entry.acceptance
                keys = {"state": entry.state, "saga": opened.saga, "version": opened.version}
                key = {**keys, "error": error, "step": step}[by] or ""
                expected_counts[key] = expected_counts.get(key, 0) + 1
            assert counts == expected_counts, (chosen, by)


def test_newest_of_each_phase_are_found_at_once(journal):
    """Of each phase of what has not ended the newest, `stuck_executing` among `stuck`, as a list for each would say."""
    populated(journal)
    phases = ("executing", "stuck", "retrying", "pending", "waiting")
    for limit in (1, 3, 1000):
        expected = {phase: list(journal.entries(phase=phase, limit=limit)) for phase in phases}
        assert newest_by_phase(journal, phases, limit) == expected


def test_executions_that_wait_are_not_read_to_find_the_stuck(tmp_path):
    """Of those without an owner, only the newest of a phase are read, by an index in their order; EXPLAIN shows it."""
    with closing(SQLiteJournal(tmp_path / "sagas.db")) as journal:
        cursor = connections_of(journal).writer()
        assert plan_of(cursor, PARKED, ("stuck", 5)) == ["SEARCH e USING INDEX parked (parked=?)"]
        owned = plan_of(cursor, OWNED, ())
        reads: list[str] = []
        with connections_of(journal).reader() as connection:
            connection.set_trace_callback(reads.append)
        newest_by_phase(journal, ("stuck", "retrying"), 5)
        with connections_of(journal).reader() as connection:
            connection.set_trace_callback(None)
    assert reads.count(OWNED) == 1
    assert len(reads) == 1 + 3 + 1, reads  # what is owned, what is parked in each phase, and the rows of all of them
    assert owned[0] == "SEARCH e USING INDEX in_hand (driver>?)", owned
    assert not [step for step in owned if step.startswith("SCAN")], owned


def ids_by_phase(journal: Any, phases: Any) -> dict[str, list[str]]:
    """The ids of the newest in each phase."""
    newest = newest_by_phase(journal, phases, 10)
    return {phase: [entry.saga_id for entry in found] for phase, found in newest.items()}


def plan_of(cursor: Any, query: str, parameters: Any) -> list[str]:
    """What SQLite does for a query."""
    return [step for *_, step in cursor.execute(f"EXPLAIN QUERY PLAN {query}", parameters)]


def test_parked_executions_are_listed_in_the_phase_of_their_last_record(journal):
    """However an execution lost its owner, it is found in the phase that its last record leads to."""
    journal.enlist(DRIVER)
    for number in range(3):
        journal.write(opening(f"w-{number}", "waiting.a", held=False))
    journal.write(opening("held", "executing.a"))
    journal.write(opening("posted", "waiting.a", held=False))
    assert journal.post("posted", InboxItem("signal", "a", None, None, 2.0))
    claimed = [journal.claim(f"w-{number}", DRIVER.id) for number in range(2)]
    epochs = [entry.epoch for entry in claimed]
    journal.write(going_on("w-0", 2, "stuck.b", epoch=epochs[0], held=False))
    journal.write(going_on("w-1", 2, "executing.b", epoch=epochs[1]))

    phases = ("waiting", "stuck", "executing", "pending")
    found = ids_by_phase(journal, phases)
    assert found == {"waiting": ["posted", "w-2"], "stuck": ["w-0"], "executing": ["held", "w-1"], "pending": []}
    journal.release("w-1", epochs[1])
    journal.dismiss(DRIVER.id)
    assert ids_by_phase(journal, phases) == found
    assert journal.check() == []


def test_filters_are_told_apart(journal):
    """Each filter of these tests finds something, and not everything, so that it cannot be ignored unseen."""
    made = populated(journal)
    sizes = {index: len(journal.search(chosen, limit=1000)) for index, chosen in enumerate(FILTERS)}
    unknown = {index for index, chosen in enumerate(FILTERS) if chosen.saga == "unknown" or chosen.error == "eclined"}
    unknown |= {index for index, chosen in enumerate(FILTERS) if chosen.attributes == (("order", True),)}
    assert all((size == 0) == (index in unknown) for index, size in sizes.items()), sizes
    assert all(size < len(made) for index, size in sizes.items() if index)


def test_execution_that_ends_while_a_page_is_read_is_listed_once(tmp_path, monkeypatch, opened):
    """One query finds the execution as running, the next query as ended. The page is full nevertheless."""
    journal = opened(tmp_path / "sagas.db")
    journal.enlist(DRIVER)
    for number, state in enumerate(("succeeded", "succeeded", "executing.b")):
        journal.write(opening(f"o-{number}", state))
    ended = vars(FindingTables)["_ended"]
    monkeypatch.setattr(SQLiteJournal, "_ended", lambda self, *chosen: [3, *ended(self, *chosen)])

    assert [entry.saga_id for entry in journal.search(Filter(), limit=2)] == ["o-2", "o-1"]


def test_listing_goes_on_behind_executions_that_are_deleted_meanwhile(journal, monkeypatch):
    """Retention deletes what a page was about to show: the page is full, and is not taken for the last one."""
    method = "_numbers_of" if hasattr(journal, "_numbers_of") else "_found"
    find_them = getattr(type(journal), method)
    deleted = ["o-5", "o-3"]  # the first of them while all are listed, the other while one page is read

    def then_one_is_deleted(self, *asked):
        found = list(find_them(self, *asked))
        self.prune_these(deleted[:1], math.inf)  # its number is on the page, its row no longer
        return found

    with Mediator(Saga("s", [World().step("a")]), journal=journal) as mediator:
        for number in range(7):
            mediator.run("s", saga_id=f"o-{number}")
        monkeypatch.setattr(finding, "PAGE", 2)
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(type(journal), method, then_one_is_deleted)
            listed = [entry.saga_id for entry in mediator.executions(state="succeeded")]
            deleted.pop(0)
            page = journal.search(Filter(), limit=3)

        assert [each for each in listed if each != "o-5"] == ["o-6", "o-4", "o-3", "o-2", "o-1", "o-0"]
        assert [entry.saga_id for entry in page][:2] == ["o-6", "o-4"]
        assert len(page) == 3
        assert [entry.saga_id for entry in mediator.executions(limit=3)] == ["o-6", "o-4", "o-2"]
        assert journal.search(Filter(), limit=0) == []


def test_cursor_of_another_kind_is_refused(journal):
    """A cursor that no listing gave is an error, not the first page again."""
    populated(journal)
    for after in ("", "x", "-1", "1.5"):
        with pytest.raises(JournalError, match="no cursor"):
            journal.search(Filter(), after)


@pytest.fixture
def opened() -> Iterator[Callable[[Path], SQLiteJournal]]:
    """Opens journals, and closes them at the end."""
    with ExitStack() as closed:
        yield lambda path: closed.enter_context(closing(SQLiteJournal(path)))


def test_wide_span_of_time_is_a_range_of_numbers(tmp_path, monkeypatch, opened):
    """Of a span in which many have ended the same are found as of a narrow one."""
    with_range, one_by_one = opened(tmp_path / "a.db"), opened(tmp_path / "b.db")
    populated(with_range), populated(one_by_one)
    timed = [chosen for chosen in FILTERS if chosen.since is not None or chosen.until is not None]
    assert len(timed) > 3
    for chosen in timed:
        expected = [entry.saga_id for entry in one_by_one.search(chosen, limit=1000)]
        with monkeypatch.context() as patched:
            patched.setattr("fsm_mediator.journal.sqlite.finding.NARROW", 3)
            assert [entry.saga_id for entry in with_range.search(chosen, limit=1000)] == expected


def test_no_listing_reads_the_whole_file(tmp_path, monkeypatch, opened):
    """Pages by saga, ended state, attribute, parent and time are read by indexes; EXPLAIN shows it."""
    journal = opened(tmp_path / "sagas.db")
    populated(journal)
    journal.dismiss(DRIVER.id)
    asked, read = [], SQLiteJournal.__dict__.get("_read", vars(JournalReader)["_read"])

    def noted(self, query, parameters=()):
        asked.append((query, parameters))
        return read(self, query, parameters)

    monkeypatch.setattr(SQLiteJournal, "_read", noted)
    for narrow in (5000, 3):
        monkeypatch.setattr("fsm_mediator.journal.sqlite.finding.NARROW", narrow)
        for chosen in FILTERS:
            journal.search(chosen, "50", 10)
            journal.count_after(chosen, "50", 10)
    monkeypatch.undo()
    cursor = connections_of(journal).writer()
    for query, parameters in asked:
        plan = [step for *_, step in cursor.execute(f"EXPLAIN QUERY PLAN {query}", parameters)]
        scans = [step for step in plan if re.match(r"SCAN (e|executions|r|t|a|x|records|attributes)\b", step)]
        assert all("in_hand" in step for step in scans), (query, plan)
    assert any("ended_in_failed" in query for query, _ in asked)
    assert any("ended_by_time" in query for query, _ in asked)


# Attributes


def saga_of(world):
    """A saga of two steps, the second of which fails for a payload of 13."""

    def pay(payload, _):
        if payload == 13:
            raise StepRejectedError("no")
        return "paid"

    return Saga("order", [world.step("reserve"), world.step("pay", pay)])


def test_executions_are_found_by_attributes(drive, journal):
    """I give a saga attributes when I run or start it, and find it by them, with what they are."""
    mediator = drive(saga_of(World()), journal=journal)
    mediator.run("order", 1, saga_id="a", attributes={"tenant": "acme", "order": 17})
    mediator.run("order", 13, saga_id="b", attributes={"tenant": "acme", "order": 18}, check=False)
    mediator.start("order", 3, saga_id="c", attributes={"tenant": "other", "order": 17})
    mediator.wait("c")
    mediator.run("order", 4, saga_id="d")

    def found(**chosen):
        return [entry.saga_id for entry in mediator.executions(**chosen)]

    assert found(attributes={"tenant": "acme"}) == ["b", "a"]
    assert found(attributes={"tenant": "acme", "order": 17.0}) == ["a"]
    assert found(attributes={"tenant": "acme"}, state="failed", error="StepRejectedError", step="pay") == ["b"]
    assert found(state=["failed", "succeeded"], saga="order", limit=2) == ["d", "c"]
    assert found(state=["failed", "undrivable"]) == ["b"]
    assert found(state=["succeeded", "undrivable"], limit=2) == ["d", "c"]
    page = mediator.executions(limit=2)
    assert [each.saga_id for each in mediator.executions(after=page[-1].cursor)] == ["b", "a"]
    assert {each.saga_id: dict(each.attributes) for each in mediator.executions()} == {
        "a": {"tenant": "acme", "order": 17},
        "b": {"tenant": "acme", "order": 18},
        "c": {"tenant": "other", "order": 17},
        "d": {},
    }
    assert mediator.count() == 4
    assert mediator.count(by="state") == {"succeeded": 3, "failed": 1}
    assert mediator.count(by="error", state="failed") == {"fsm_mediator.errors.StepRejectedError": 1}
    assert mediator.count(by="step", state="failed") == {"pay": 1}


def test_attributes_are_changed_later(drive, journal):
    """I set, change and remove attributes of an execution that has ended; a note says who did."""
    mediator = drive(saga_of(World()), journal=journal)
    mediator.run("order", 1, saga_id="a", attributes={"tenant": "acme", "order": 17})

    changed = mediator.set_attributes("a", {"order": None, "seen": True, "x": 1.5}, actor="ann", reason="sorted")

    assert changed == {"seen": True, "tenant": "acme", "x": 1.5}
    assert [entry.saga_id for entry in mediator.executions(attributes={"seen": True})] == ["a"]
    assert mediator.executions(attributes={"order": 17}) == []
    assert [(note.kind, note.actor, note.reason) for note in mediator.notes("a")] == [
        (ATTRIBUTES, None, None),
        (ATTRIBUTES, "ann", "sorted"),
    ]
    with pytest.raises(UnknownExecutionError):
        mediator.set_attributes("unknown", {"a": 1})


def test_second_start_changes_no_attributes(drive, journal):
    """A start that is repeated joins what was started, with the attributes of the first."""
    mediator = drive(saga_of(World()), journal=journal)
    for tenant in ("acme", "other"):
        mediator.run("order", 1, saga_id="a", attributes={"tenant": tenant})

    assert dict(mediator.executions()[0].attributes) == {"tenant": "acme"}


@pytest.mark.parametrize(
    "attributes",
    [
        {"a": None},
        {"a": [1]},
        {"a": float("nan")},
        {"a": 2**63},
        {"a": "x" * (LONGEST_TEXT + 1)},
        {"a": "half \udce4"},
        {"": 1},
        {"a b": 1},
        {"a=b": 1},
        {1: 1},
        {str(number): number for number in range(33)},
        ["a"],
    ],
)
def test_attribute_that_cannot_be_kept_is_refused(drive, journal, attributes):
    """What could not be found again is refused before the saga begins."""
    world = World()
    mediator = drive(saga_of(world), journal=journal)
    with pytest.raises(PayloadError, match="attribute"):
        mediator.run("order", 1, saga_id="a", attributes=attributes)
    assert world.calls == []
    assert mediator.executions() == []


def test_attributes_are_no_more_than_32(drive, journal):
    """Changes do not get past the limit either."""
    mediator = drive(saga_of(World()), journal=journal)
    mediator.run("order", 1, saga_id="a", attributes={str(number): number for number in range(32)})
    with pytest.raises(PayloadError, match="33 attributes"):
        mediator.set_attributes("a", {"more": 1})
    mediator.set_attributes("a", {"0": None, "more": 1})


def test_filter_that_can_match_nothing_is_refused(drive, journal):
    """A mistyped filter is an error, and no empty list that looks as if all were well."""
    mediator = drive(saga_of(World()), journal=journal)
    for wrong in (
        {"state": "stucked"},
        {"state": ["failed", "over"]},
        {"since": "today"},
        {"step": 5},
        {"error": OSError},
    ):
        with pytest.raises(DefinitionError):
            mediator.executions(**wrong)
    with pytest.raises(DefinitionError, match="counted by"):
        mediator.count(by="tenant")
    for undrivable in ("undrivable", ["failed", "undrivable"]):
        with pytest.raises(DefinitionError, match=r"'undrivable' is counted by len\(mediator.executions\(state="):
            mediator.count(state=undrivable)


def test_attributes_are_deleted_with_their_execution(drive, journal):
    """An id that is used again after it was pruned and forgotten has none of the old attributes."""
    mediator = drive(saga_of(World()), journal=journal)
    mediator.run("order", 1, saga_id="a", attributes={"tenant": "acme"})
    mediator.close()
    assert journal.prune(1e12, forget_ids=True) == 1

    again = drive(saga_of(World()), journal=journal)
    again.run("order", 1, saga_id="a")
    assert again.executions(attributes={"tenant": "acme"}) == []


def test_journal_that_cannot_look_for_that_says_so(drive):
    """A journal of somebody's own lists by state and saga as ever, and says what it lacks for more."""

    class Plain:
        """A journal of an earlier version."""

        def __init__(self):
            self.inner = MemoryJournal()

        def __getattr__(self, name):
            if name in ("search", "count", "count_after", "attributes"):
                raise AttributeError(name)
            return getattr(self.inner, name)

    mediator = drive(saga_of(World()), journal=Plain())
    mediator.run("order", 1, saga_id="a")
    assert [entry.saga_id for entry in mediator.executions(state="succeeded", saga="order", limit=5)] == ["a"]
    nothing: tuple[dict[str, Any], ...] = ({"state": "failed"}, {"saga": "other"}, {"limit": 0})
    assert [mediator.executions(**each) for each in nothing] == [[], [], []]
    with pytest.raises(JournalError, match=r"finds executions only by state and saga"):
        mediator.executions(error="OSError")
    with pytest.raises(JournalError, match=r"finds executions only by state and saga"):
        mediator.run("order", 1, saga_id="b", attributes={"a": 1})


@pytest.mark.postgres
def test_postgresql_reads_no_table_as_a_whole(tmp_path, monkeypatch):
    """Pages by saga, ended state, attribute, parent and time are read by indexes of the server; EXPLAIN shows it."""
    from fsm_mediator.journal.postgres.connections import Connections

    filled = """
        INSERT INTO executions (saga_id, saga, version, fingerprint, state, changed_at, seq, epoch, mail, ended_at,
            parent)
        SELECT 'n' || n, 's' || n % 500, '1', 'f',
            CASE n % 100 WHEN 1 THEN 'failed' WHEN 2 THEN 'stuck.a' ELSE 'succeeded' END, n, 1, 1, 0,
            CASE WHEN n % 100 <> 2 THEN n END, CASE WHEN n % 50 = 7 THEN 'n' || n / 50 END
        FROM generate_series(1, 20000) n;
        INSERT INTO records SELECT n, seq, 'executed', 'a', 'b', n, '{}'
        FROM generate_series(1, 20000) n, generate_series(0, 1) seq;
        INSERT INTO attributes SELECT n, 'tenant', (n % 1000)::text FROM generate_series(1, 20000) n;
        ANALYZE executions, records, attributes
    """
    asked: list[tuple[str, Any]] = []
    read = Connections.read
    with closing(server().journal()) as journal:
        changed(journal, filled)
        with monkeypatch.context() as patched:

            def noted(self, query, parameters=()):
                asked.append((query, parameters))
                return read(self, query, parameters)

            patched.setattr(Connections, "read", noted)
            for chosen in (
                Filter(saga="s7"),
                Filter(states=("failed",)),
                Filter(states=("failed",), saga="s1"),
                Filter(states=("stuck",)),
                Filter(attributes=(("tenant", 7),)),
                Filter(parent="n5"),
                Filter(since=5000.0, until=5050.0),
                Filter(),
            ):
                assert journal.search(chosen, None, 10), chosen
            newest = newest_by_phase(journal, ("stuck", "waiting", "executing"), 10)
            assert {phase: len(found) for phase, found in newest.items()} == {"stuck": 10, "waiting": 0, "executing": 0}
        assert len(asked) > 16
        for query, parameters in asked:
            plan = "\n".join(line for (line,) in read(sessions_of(journal), f"EXPLAIN {query}", parameters))
            assert not re.search(r"Seq Scan on (executions|records|attributes)", plan), (query, parameters, plan)
            if "row_number" in query:
                assert "Index Only Scan Backward using parked" in plan, plan
