"""`fsm-mediator copy`: all that a journal keeps, in another place; whole, or not at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fsm_mediator import (
    JournalError,
    Mediator,
    MemoryJournal,
    Parallel,
    RefusedError,
    Retry,
    Saga,
    SagaIdTakenError,
    Signal,
    SQLiteJournal,
    conforms,
)
from fsm_mediator.cli.commands import cli
from fsm_mediator.errors import DefinitionError
from fsm_mediator.journal.copying import copy
from fsm_mediator.journal.operators import for_operators
from fsm_mediator.journal.planning import Plan, Planned
from fsm_mediator.journal.protocol import Commit, Driver, Journal
from fsm_mediator.records import RETRY, SIGNAL, InboxItem
from fsm_mediator.states import phase_of
from tests.commits import acceptance, found, opening
from tests.drivers import MORTAL, ONCE, Died, World, eventually
from tests.postgres_server import server
from tests.test_journal_rules import Lacking

SLOW = Retry(attempts=5, wait_initial=3600.0, wait_max=3600.0, wait_jitter=0.0)


def sqlite(folder: Path, number: int) -> SQLiteJournal:
    """A journal in a file of its own."""
    return SQLiteJournal(folder / f"{number}.db", durability="normal")


def postgres(_folder: Path, _number: int) -> Journal:
    """A journal in a schema of its own."""
    return server().journal()


@pytest.fixture(
    params=itertools.product((sqlite, postgres), repeat=2), ids=lambda pair: "-".join(f.__name__ for f in pair)
)
def pair(request, tmp_path) -> Iterator[tuple[Any, Any]]:
    """A journal and an empty one, of each kind."""
    (one, other) = request.param
    with closing(one(tmp_path, 1)) as old, closing(other(tmp_path, 2)) as new:
        yield old, new


def sagas(world: World, *, now: bool) -> list[Saga]:
    """Two sagas that come to stand where their payload says, unless it is *now*, when everything works."""

    def charge(payload: Any, _context: Any) -> str:
        if now or payload == "good":
            return "charged"
        if payload == "dies":
            raise Died
        raise ValueError(f"no \0 {payload}")

    def refund(payload: Any, _context: Any) -> str:
        if not now and payload == "stuck":
            raise ValueError("the bank is away")
        return "refunded"

    reserve = world.step("reserve", undo=[refund], compensation_retry=ONCE)
    plain = Saga("plain", [reserve, world.step("charge", charge), Signal("approval")], version="2")
    again = world.step("again", lambda payload, context: charge(now or "bad", context), retry=SLOW)
    return [plain, Saga("group", [Parallel("both", [world.step("a"), again])])]


def write(journal: Journal) -> None:
    """One execution for each way to stand, with items in inboxes, an answer, a forgotten id and a dead driver."""
    at = itertools.count(1_000_000)
    settings: dict[str, Any] = {"journal": journal, "clock": lambda: float(next(at)), "park_after": 0.0, **MORTAL}
    with Mediator(*sagas(World(), now=False), **settings) as mediator:
        mediator.run("plain", "bad", saga_id="forgotten", check=False)
        journal.prune(2e10)
        for saga_id in ("bad", "stuck"):
            mediator.run("plain", saga_id, saga_id=saga_id, check=False)
        for saga, saga_id in (("plain", "good"), ("group", "group")):
            mediator.start(saga, "good", saga_id=saga_id)
            eventually(partial(is_parked, journal, saga_id))
        mediator.enqueue("plain", "good", saga_id="pending")
        journal.post("good", InboxItem(SIGNAL, "later", {"why": "x"}, "a \0 reason", at=5.0))
    journal.enlist(Driver("gone", boot_id="elsewhere"))
    assert journal.claim("pending", "gone") is not None


def is_parked(journal: Journal, saga_id: str) -> bool:
    """Whether the execution waits, with its branches, and no driver owns it."""
    entries = [found(journal, saga_id), *journal.entries(parent=saga_id)]
    return all(
        entry.driver is None and phase_of(entry.state) in ("waiting", "retrying", "succeeded") for entry in entries
    )


def forget_drivers(journal: Any) -> None:
    """Have every driver be gone, whatever its lease."""
    journal._liveness = NobodyLives()


class NobodyLives:
    """A liveness check by which no driver is alive."""

    is_alive = is_present = staticmethod(lambda *_: False)
    is_gone = staticmethod(lambda *_: True)
    has_crashed = staticmethod(lambda *_: True)
    forget = staticmethod(lambda *_: None)


def kept(journal: Any) -> dict[str, list[Any]]:
    """All rows that a copy of the journal has."""
    found: dict[str, list[Any]] = {}
    journal.hand_over(lambda tables: found.update((table, sorted(rows, key=repr)) for table, rows in tables))
    return found


def without_nul(rows: dict[str, list[Any]]) -> Any:
    """*rows* as PostgreSQL keeps them: NUL as an escape; no table that is empty."""
    clean = partial(map, lambda value: value.replace("\0", "\\x00") if isinstance(value, str) else value)
    return {table: [tuple(clean(row)) for row in each] for table, each in rows.items() if each}


def test_a_copy_keeps_everything_and_goes_on(pair):
    """States, histories, inboxes, shapes and forgotten ids are the same, and the copy is driven to the end."""
    old, new = pair
    write(old)
    forget_drivers(old)
    before = kept(old)

    written = copy(old, new)

    assert without_nul(kept(new)) == without_nul(before)
    assert written == {table: len(rows) for table, rows in before.items()}
    assert {"shapes", "forgotten", "executions", "records", "inbox"} <= set(without_nul(before))
    assert kept(old) == before
    with Mediator(*sagas(World(), now=True), journal=new) as mediator:
        for saga_id in ("good", "pending"):
            mediator.signal(saga_id, "approval", True)
        mediator.retry("stuck")
        mediator.recover()
        with pytest.raises(SagaIdTakenError, match="forgotten"):
            mediator.run("plain", saga_id="forgotten")
    ended = {entry.saga_id: entry.state for entry in new.entries() if entry.acceptance.parent is None}
    good = dict.fromkeys(("good", "pending", "group"), "succeeded")
    assert ended == {**good, "stuck": "failed", "bad": "failed"}
    assert conforms(new, sagas(World(), now=True)).ok
    assert new.check() == []


def test_a_copy_gives_no_number_twice(pair):
    """Executions and items that come to the copy are numbered after those that were copied, answered ones included."""
    old, new = pair
    with Mediator(*sagas(World(), now=False), journal=old) as mediator:
        mediator.run("plain", "stuck", saga_id="stuck", check=False)
        for number in range(3):
            old.post("stuck", InboxItem(RETRY, f"verb-{number}", at=found(old, "stuck").changed_at))
        mediator.recover()
    assert len(kept(old)["answers"]) == 3
    copy(old, new)
    with Mediator(*sagas(World(), now=True), journal=new) as mediator:
        mediator.enqueue("plain", "good", saga_id="later")
        new.post("stuck", InboxItem(RETRY, "another", at=6.0))
        mediator.recover()
    answer = for_operators(new).answer("another")
    assert answer is not None
    assert answer.seq is not None
    assert [entry.saga_id for entry in new.entries()] == ["later", "stuck"]
    assert len(kept(new)["answers"]) == 4


def test_planned_branches_are_copied(pair):
    """The branches of a large group that are not created yet are created in the copy."""
    old, new = pair
    branches = tuple(acceptance(f"o-1/all.{number}", parent="o-1") for number in range(5))
    old.write(opening("o-1", "waiting.all", driver=None, held=False, plan=Plan(branches)))
    copy(old, new)
    assert new.planned("o-1") == Planned(0, 5, 5, None)
    new.write(Commit("o-1", (), None, held=False, plan=Plan(creates=(0, 5)), token=7))
    assert [entry.saga_id for entry in new.entries(parent="o-1")] == [each.saga_id for each in reversed(branches)]


def test_a_journal_that_somebody_drives_is_not_copied(pair):
    """A living driver is named, and the new journal stays empty."""
    old, new = pair
    with Mediator(*sagas(World(), now=True), journal=old) as mediator:
        mediator.executions()
        with pytest.raises(RefusedError, match=r"is in use by process .*nothing was copied"):
            copy(old, new)
    assert not any(kept(new).values())
    copy(old, new)


def test_nothing_is_copied_over_something(pair):
    """A journal with an execution, or with a forgotten id alone, is refused."""
    old, new = pair
    for journal in pair:
        with Mediator(*sagas(World(), now=False), journal=journal) as mediator:
            mediator.run("plain", "bad", saga_id="o-1", check=False)
    before = kept(new)
    with pytest.raises(RefusedError, match="is not empty; nothing was copied"):
        copy(old, new)
    assert kept(new) == before
    new.prune(2e10)
    assert not kept(new)["executions"]
    with pytest.raises(RefusedError, match="is not empty"):
        copy(old, new)


@pytest.mark.parametrize("table", ["shapes", "executions", "inbox"])
def test_a_copy_that_breaks_leaves_nothing(pair, table):
    """An error in the midst, after any table: the new journal is empty, and can be copied to again."""
    old, new = pair
    write(old)
    forget_drivers(old)

    def broken(tables: Any) -> Iterator[Any]:
        for name, rows in tables:
            yield name, rows
            if name == table:
                raise JournalError("the disk is full")

    with pytest.raises(JournalError, match="the disk is full"):
        old.hand_over(lambda tables: new.fill(broken(tables)))
    assert not any(kept(new).values())
    copy(old, new)
    assert without_nul(kept(new)) == without_nul(kept(old))


def test_error_in_the_midst_of_a_copy_is_the_one_that_was_raised(tmp_path):
    """A refusal stays a refusal, and a row that cannot be written is an error of the journal; nothing is written."""

    def refusing() -> Iterator[Any]:
        yield "shapes", iter([("f", "{}")])
        raise RefusedError("a driver lives")

    with closing(sqlite(tmp_path, 1)) as journal:
        with pytest.raises(RefusedError, match=r"^a driver lives$"):
            journal.fill(refusing())
        with pytest.raises(JournalError, match=r"could not be written: NOT NULL constraint failed: shapes\.shape"):
            journal.fill([("shapes", iter([("f", "{}"), ("g", None)]))])
        assert not any(kept(journal).values())
        assert journal.fill([("shapes", iter([("f", "{}"), ("g", "{}")])), ("answers", iter(()))]) == {
            "shapes": 2,
            "answers": 0,
        }
        assert journal.shape("g") == "{}"


def test_a_journal_in_memory_is_refused_by_name(tmp_path):
    """It has no rows to copy, and says so."""
    with (
        closing(sqlite(tmp_path, 1)) as journal,
        pytest.raises(DefinitionError, match="MemoryJournal cannot be copied"),
    ):
        copy(journal, MemoryJournal())
    for name in ("hand_over", "fill"):
        lacking: Any = Lacking(journal, name)
        for pair in ((journal, lacking), (lacking, journal)):
            with pytest.raises(DefinitionError, match="Lacking cannot be copied"):
                copy(*pair)


def test_the_command_moves_a_file_to_the_server(tmp_path):
    """`copy OLD NEW` makes the tables, and says what it copied; a second time it is refused with exit code 4."""
    path = tmp_path / "old.db"
    with closing(SQLiteJournal(path)) as journal, Mediator(*sagas(World(), now=False), journal=journal) as mediator:
        mediator.run("plain", "bad", saga_id="o-1", check=False)
    url = f"{server().url()}&schema=copied"
    done = CliRunner().invoke(cli, ["copy", str(path), "env:NEW"], env={"NEW": url})
    assert (done.exit_code, done.output) == (
        0,
        "copied 1 executions with 8 records; from now on use the new journal, and keep the old journal as a backup\n",
    )
    shown = CliRunner().invoke(cli, ["list", "--journal", url])
    assert "o-1" in shown.output
    assert CliRunner().invoke(cli, ["copy", str(path), url]).exit_code == 4
    assert CliRunner().invoke(cli, ["copy", str(tmp_path / "none.db"), url]).exit_code == 5
