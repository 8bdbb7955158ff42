"""Following a journal: one cursor, from which nothing is missed, whatever commits at the same time."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
import pytest

from fsm_mediator import JournalError, Mediator, MemoryJournal, Saga, SQLiteJournal
from fsm_mediator.journal.following import REMOVED, changes_of
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.records import Failure
from tests.commits import DRIVER, acceptance, going_on, opening, record, taken
from tests.drivers import World, in_thread
from tests.postgres_server import connections_of, server


@pytest.fixture(params=["sqlite", "postgres"])
def followed(request, tmp_path):
    """A journal that can be followed."""
    made: Any = SQLiteJournal(tmp_path / "sagas.db") if request.param == "sqlite" else server().journal()
    with closing(made):
        made.enlist(DRIVER)
        yield made


def read(journal: Any, after: str = "", limit: int = 1000) -> tuple[list[tuple[str, int]], str]:
    """All changes after a cursor, as ids and numbers of records, and the cursor after them."""
    found: list[tuple[str, int]] = []
    while changes := changes_of(journal, after, limit):
        found += [(change.saga_id, change.record.seq if change.record else 0) for change in changes]
        after = changes[-1].cursor
    return found, after


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_each_change_comes_once_in_the_order_of_commits(followed, limit):
    """From the beginning or from a cursor, with acceptances, in pages of any size."""
    followed.write(opening("a", "executing.a"))
    followed.write(opening("b", driver=None, held=False))
    first, cursor = read(followed, limit=limit)
    assert first == [("a", 0), ("a", 1), ("b", 0)]
    followed.write_all([going_on("a", 2), opening("c", "executing.a", "executing.b")])
    later, _ = read(followed, cursor, limit)
    assert sorted(later) == [("a", 2), ("c", 0), ("c", 1), ("c", 2)]
    assert read(followed, limit=limit)[0] == first + later
    assert changes_of(followed, cursor)[0].record in followed.records(later[0][0])


def test_pruned_changes_are_skipped(followed):
    """They do not come any more, and later ones do, even of an execution of the same number."""
    followed.write(opening("a", "succeeded", held=False))
    _, cursor = read(followed)
    followed.prune(2e10, forget_ids=True)
    followed.write(opening("a", "executing.a"))
    assert read(followed)[0] == read(followed, cursor)[0] == [("a", 0), ("a", 1)]


def test_a_cursor_of_another_kind_is_refused(followed):
    """So is a journal that numbers nothing."""
    with pytest.raises(JournalError, match="'x' is not a cursor of this journal"):
        changes_of(followed, "x")
    with pytest.raises(JournalError, match="MemoryJournal cannot be followed"):
        changes_of(MemoryJournal())


def test_a_transaction_that_commits_after_a_later_one_is_not_missed():
    """What was written under a lower number, and is committed last, comes; nothing above it is read before."""
    with (
        closing(server().journal()) as journal,
        Mediator(Saga("shop", [World().step("a")]), journal=journal) as mediator,
    ):
        for end, kept in (("commit", ["lower", "higher"]), ("rollback", ["higher"])):
            _, cursor = read(journal)
            with psycopg.connect(server().url()) as connection:
                mediator.enqueue("shop", saga_id=f"lower-{end}", connection=connection)
                mediator.enqueue("shop", saga_id=f"higher-{end}")
                assert read(journal, cursor)[0] == []
                getattr(connection, end)()
            assert [saga_id for saga_id, _ in read(journal, cursor)[0]] == [f"{name}-{end}" for name in kept]


def test_a_page_is_found_without_sorting_the_table():
    """The index of the transactions narrows down what is read: EXPLAIN shows it."""
    with closing(server().journal()) as journal:
        journal.write_all([opening(f"o-{number}", driver=None, held=False) for number in range(50)])
        with connections_of(journal).session("read") as session:
            session.connection.execute("SET enable_seqscan = off")
            from fsm_mediator.journal.postgres import sql

            plan = session.execute(f"EXPLAIN {sql.CHANGES}", (0, 10**9, 0, 0, 0, 10)).fetchall()
    assert any("changes" in line for (line,) in plan)


def test_a_follower_beside_many_writers_reads_everything(followed):
    """Threads write; the follower's last page is complete, and nothing came twice."""
    world = World()
    with Mediator(Saga("shop", [world.step("a"), world.step("b")]), journal=followed) as mediator:
        threads = [
            in_thread(lambda k=k: [mediator.run("shop", saga_id=f"{k}-{n}") for n in range(10)]) for k in range(4)
        ]
        seen, cursor = read(followed, limit=7)
        for thread in threads:
            thread()
        more, _ = read(followed, cursor, limit=7)
    seen += more
    expected = {(entry.saga_id, seq) for entry in followed.entries() for seq in range(entry.seq + 1)}
    assert len(seen) == len(expected)
    assert set(seen) == expected


@pytest.mark.parametrize("followed_before", [False, True])
def test_moves_are_counted_with_what_was_deleted(tmp_path, followed_before):
    """Each change without its values, in pages; a deletion comes once, and takes the changes of its execution along."""
    with closing(SQLiteJournal(tmp_path / "sagas.db", durability="normal")) as journal:
        journal.enlist(DRIVER)
        error: dict[str, Any] = {"error": Failure("shop.Declined", "secret"), "in_doubt": True}
        journal.write(Commit("a", (record("a", 1, "failed", **error),), "d-1", held=False, acceptance=acceptance("a")))
        if followed_before:
            assert len(changes_of(journal)) == 2
        assert (journal.last_change(), journal.decided()) == ((2, 2) if followed_before else (0, 0))
        journal.write(opening("a/g.b", driver=None, opened={"parent": "a", "version": "7", "saga": "t"}))

        moves = journal.moves()

        assert [tuple(move)[2:] for move in moves] == [
            (0, "a", "s", "1", 0, "accepted", "", "pending", 1.0, None, None, 0),
            (1, "a", "s", "1", 0, "executed", "executing.a", "failed", 1.0, "a", "shop.Declined", 1),
            (0, "a/g.b", "t", "7", 1, "accepted", "", "pending", 1.0, None, None, 0),
        ]
        assert [move.execution for move in moves] == [moves[0].execution] * 2 + [moves[2].execution]
        assert moves == [*journal.moves(limit=1), *journal.moves(moves[0].cursor, 2)]
        assert (journal.last_change(), journal.decided()) == (3, 3)
        assert [journal.is_changed(cursor) for cursor in ("", moves[1].cursor, moves[2].cursor)] == [True, True, False]
        with pytest.raises(JournalError, match="not a cursor"):
            journal.moves("1:2")

        epoch = taken(journal, "a/g.b", "d-1").epoch
        journal.write(going_on("a/g.b", 1, "failed", epoch=epoch, held=False))
        assert journal.prune(9.0) == 2
        later = journal.moves(moves[2].cursor)
        assert sorted((move.execution, move.seq, move.saga_id) for move in later) == [
            (each, REMOVED, "") for each in sorted({move.execution for move in moves})
        ]
        assert [tuple(move)[3:] for move in later] == [("", "", "", 0, "", "", "", 0.0, None, None, 0)] * 2
        assert changes_of(journal) == []
