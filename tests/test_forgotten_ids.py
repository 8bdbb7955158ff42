"""What was pruned is forgotten, except that it was there: its id is refused, and its disk space is free again."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from fsm_mediator import Parallel, Saga, SagaIdTakenError, SQLiteJournal, UnknownExecutionError
from fsm_mediator.cli.commands import cli
from fsm_mediator.journal.protocol import Forgotten, IdTakenError
from fsm_mediator.journal.sqlite import pruning
from tests.commits import Clock, ending, ids, opening, rows, statements, two_drivers
from tests.drivers import World

LATER = 1e12


@pytest.mark.parametrize("verb", ["run", "start"])
def test_a_pruned_id_is_not_run_again(drive, journal, verb):
    """On every journal: a caller that repeats an old request is refused, and no step is called for it."""
    world = World()
    saga = Saga("s", [world.step("a"), Parallel("g", [world.step("b"), world.step("c")])])
    mediator = drive(saga, journal=journal)
    mediator.run("s", saga_id="o-1")
    mediator.run("s", saga_id="o-2")
    before = len(world.calls)
    assert journal.prune(LATER, limit=1) == 3

    with pytest.raises(SagaIdTakenError, match=r"has ended, and its history is forgotten\. To start another one"):
        getattr(mediator, verb)("s", saga_id="o-1")
    with pytest.raises(UnknownExecutionError, match="and its history is forgotten"):
        mediator.outcome("o-1")
    assert len(world.calls) == before
    assert journal.prune(LATER, forget_ids=True) == 3
    assert mediator.run("s", saga_id="o-2").succeeded


def test_a_file_keeps_what_became_of_it(drive, tmp_path):
    """The refusal names the saga and how it ended, also after the file was opened again."""
    with closing(SQLiteJournal(tmp_path / "sagas.db")) as journal:
        mediator = drive(Saga("s", [World().step("a")]), journal=journal)
        mediator.run("s", saga_id="o-1")
        began = time.time()
        assert journal.prune(LATER) == 1
        journal.close()

        with pytest.raises(SagaIdTakenError, match=r"execution 'o-1' of saga 's' \(succeeded\) has ended, and its"):
            mediator.run("s", saga_id="o-1")
        kept = journal.forgotten("o-1")
        assert kept is not None
        assert kept.ended_at == pytest.approx(began, abs=60)
        assert journal.forgotten("\0") is None


def test_one_forgotten_id_among_many_is_refused_alone(tmp_path):
    """Of executions that are opened in one commit, in every kind of commit, only the forgotten one is refused."""
    with two_drivers(tmp_path / "sagas.db", Clock()) as journal:
        for saga_id in ("x", "y"):
            journal.write(opening(saga_id, "executing.a"))
            journal.write(ending(saga_id, 2))
        assert journal.prune(LATER) == 2
        for held, others in ((True, ("a", "b", "c")), (False, ("d", "e"))):
            opened = [opening(each, "executing.a", held=held) for each in ("x", *others, "y")]
            results = journal.write_all(opened)
            assert [isinstance(each, IdTakenError) for each in results] == [True, *(False for _ in others), True]
            with pytest.raises(IdTakenError, match="'x' exists, or is forgotten"):
                journal.write(opened[0])

        assert sorted(ids(journal)) == ["a", "b", "c", "d", "e"]
        assert journal.check() == []


def test_ids_are_forgotten_on_request(tmp_path):
    """What was kept earlier goes as well, but only of executions of that saga, and that ended before that time."""
    with two_drivers(tmp_path / "sagas.db", Clock()) as journal:
        for saga_id, saga in (("x", "s"), ("y", "t"), ("z", "s")):
            journal.write(opening(saga_id, opened={"saga": saga}, held=False))
            journal.claim(saga_id, "d-1")
            journal.write(ending(saga_id, 1, epoch=2))
        assert journal.prune(LATER) == 3
        assert journal.forgotten("y") == Forgotten("t", "succeeded", 1.0)
        assert journal.prune(0.5, forget_ids=True) == 0
        assert journal.prune(LATER, saga="t", forget_ids=True) == 0

        assert [journal.forgotten(each) is None for each in ("x", "y", "z")] == [False, True, False]
        assert journal.prune(LATER, forget_ids=True) == 0
        assert rows(journal, "SELECT count(*) FROM forgotten") == [(0,)]


def test_prune_on_the_command_line_forgets_on_request(tmp_path):
    """The option says so in its name; without it the ids stay known."""
    path = tmp_path / "sagas.db"
    with two_drivers(path, Clock()) as journal:
        for saga_id, options in (("x", ()), ("y", ("--forget-ids",))):
            journal.write(opening(saga_id, "executing.a"))
            journal.write(ending(saga_id, 2))
            done = CliRunner().invoke(cli, ["prune", "-j", str(path), "--older-than", "1d", *options])
            assert done.output == "deleted 1 executions that had ended\n"
            assert (journal.forgotten("x") is None, journal.forgotten("y")) == (bool(options), None)


def size(path: Path) -> int:
    """The bytes of the journal's files, except the index of the log."""
    return sum(file.stat().st_size for file in path.parent.glob("sagas.db*") if file.suffix != ".db-shm")


def test_pruning_gives_disk_space_back(tmp_path):
    """While the journal is in use: its file and its log shrink to what is left."""
    path = tmp_path / "sagas.db"
    with two_drivers(path, Clock()) as journal:
        for number in range(200):
            journal.write(opening(f"{number}", "executing.a", payload="x" * 8000))
            journal.write(ending(f"{number}", 2))
        full = size(path)
        journal.write(opening("left", "executing.a"))
        assert journal.prune(LATER) == 200

        assert size(path) < full / 10
        assert ids(journal) == ["left"]
        assert journal.check() == []


def test_an_older_file_is_pruned_as_well(tmp_path):
    """A file that was made before keeps its size, and is pruned all the same."""
    path = tmp_path / "sagas.db"
    shutil.copy(Path(__file__).parent / "journals" / "v1.db", path)
    with closing(SQLiteJournal(path)) as journal:
        assert journal.prune(LATER) == 2
        assert journal.check() == []


@pytest.mark.parametrize("how", ["prune", "prune_these"])
def test_disk_space_is_released_some_pages_at_a_time(tmp_path, monkeypatch, how):
    """No page stays free in the file, however many there are; no transaction is long, and the log is emptied."""
    monkeypatch.setattr(pruning, "PAGES", 3)
    monkeypatch.setattr(pruning, "BATCH", 4)
    with two_drivers(tmp_path / "sagas.db", Clock()) as journal:
        for number in range(9):
            journal.write(opening(f"{number}", "failed", held=False, payload="x" * 30_000))
        journal.write(opening("stays", "executing.a"))
        with statements(journal) as executed:
            deleted = journal.prune(LATER) if how == "prune" else journal.prune_these([str(n) for n in range(9)], LATER)
        assert deleted == 9
        assert rows(journal, "PRAGMA freelist_count") == [(0,)]
        released, most = 0, 0
        for statement in executed:
            released = 0 if statement.startswith("BEGIN") else released + ("incremental_vacuum" in statement)
            most = max(most, released)
        assert most == 3
        assert ids(journal) == ["stays"]
        assert len(rows(journal, "SELECT saga_id FROM forgotten")) == 9
        if how == "prune":
            assert Path(f"{tmp_path / 'sagas.db'}-wal").stat().st_size == 0


def test_heartbeat_moves_the_log_into_the_file(tmp_path):
    """A third of the lease after the last one, so that a commit need not wait for it."""
    clock, path = Clock(), tmp_path / "sagas.db"
    with two_drivers(path, clock) as journal:
        journal.write(opening("x", "executing.a", payload="x" * 300_000))
        journal.beat("d-1")
        before = path.stat().st_size
        clock.now += 10.0
        journal.beat("d-1")
        assert path.stat().st_size > before + 300_000
