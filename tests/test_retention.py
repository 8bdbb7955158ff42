"""Retention: what ended long enough ago is archived and deleted, in whole families, by the daemon or by a person."""

from __future__ import annotations

import gzip
import json
import math
from contextlib import closing
from pathlib import Path

import pytest

from fsm_mediator import (
    AesGcm,
    AsyncMediator,
    DefinitionError,
    JournalError,
    Mediator,
    MemoryJournal,
    Parallel,
    Saga,
    SQLiteJournal,
    conforms,
    step,
)
from fsm_mediator.journal import retention
from fsm_mediator.journal.archive import ENDING, Archive, ArchivedExecution, read_lines
from fsm_mediator.journal.retention import Retention, with_branches
from tests.commits import DRIVER, acceptance, going_on, opening, taken
from tests.drivers import ONCE, Clock, eventually, journal
from tests.secrets_app import KEYS
from tests.test_secrets import shown

__all__ = ["journal"]


@step(retry=ONCE)
def pack(payload: str) -> str:
    """Fail where the payload says so."""
    if "bad" in payload:
        raise ValueError(f"cannot pack {payload}")
    return f"packed {payload}"


@step
def wrap(payload: str) -> str:
    """Never fail: the other branch alone says why the saga failed."""
    return f"wrapped {payload}"


saga = Saga("order", [Parallel("halves", [Saga("left", [pack]), Saga("right", [wrap])])])


def ids(found):
    return sorted(entry.saga_id for entry in found.entries())


def run(where, clock, *saga_ids):
    with Mediator(saga, journal=where, clock=clock) as mediator:
        for saga_id in saga_ids:
            mediator.run("order", f"{saga_id}", saga_id=saga_id, check=False)


def test_families_are_archived_and_deleted_whole(journal, tmp_path):
    """Each state has its time; a family goes with all its branches; ids stay known; what is younger stays."""
    clock = Clock()
    run(journal, clock, "good-1", "bad-1")
    clock.now += 100.0
    run(journal, clock, "good-2", "bad-2")
    retention = Retention({"succeeded": "50s", "failed": "90s"}, archive=tmp_path / "archive", clock=clock)

    assert retention.sweep(journal) == 6
    assert [each for each in ids(journal) if "/" not in each] == ["bad-2", "good-2"]
    assert len(ids(journal)) == 6
    assert journal.forgotten("good-1") is not None
    clock.now += 60.0
    assert retention.sweep(journal) == 3
    assert [each for each in ids(journal) if "/" not in each] == ["bad-2"]
    assert retention.sweep(journal) == 0

    lines = [json.loads(line) for line in read_lines(tmp_path / "archive")]
    assert sorted(line["saga_id"] for line in lines if line["parent"] is None) == ["bad-1", "good-1", "good-2"]
    assert len(lines) == 9
    report = conforms(tmp_path / "archive", saga)
    assert report.ok
    assert report.executions == 9
    archived = ArchivedExecution(tmp_path / "archive", "bad-1")
    errors = [record.error for record in archived.records("bad-1/halves.left") if record.error is not None]
    assert "cannot pack bad-1" in errors[0].message


def test_a_family_that_moved_since_is_left(journal, tmp_path):
    """Between archive and deletion an execution may go on; then it is not deleted."""
    clock = Clock()
    run(journal, clock, "good-1")
    before = clock.now + 1.0

    assert journal.prune_these(["good-1"], before - 10.0) == 0
    assert journal.prune_these(["good-1/halves.left", "unknown"], before) == 0
    assert journal.prune_these(["good-1"], before) == 3
    assert ids(journal) == []
    assert journal.prune_these(["good-1"], before) == 0


def test_nothing_is_deleted_that_could_not_be_archived(journal, tmp_path):
    """The error says so, and the next sweep finds all of it again."""
    clock = Clock()
    run(journal, clock, "good-1")
    clock.now += 100.0
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="nothing was deleted"):
        Retention({"succeeded": "1s"}, archive=tmp_path / "file", clock=clock).sweep(journal)
    assert len(ids(journal)) == 3


def test_a_daemon_keeps_to_the_retention(tmp_path):
    """As a setting of either mediator: it looks at once, and then once in a while."""
    found = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    run(found, None, "good-1", "bad-1")
    with closing(found):
        retention = Retention({"succeeded": 0.0}, archive=tmp_path / "archive")
        with Mediator(saga, journal=found, retention=retention) as mediator, mediator.daemon(poll=0.01):
            eventually(lambda: [each for each in ids(found) if "/" not in each] == ["bad-1"])
            assert mediator.settings["relays"] == (retention,)  # `serve` has it, too
        assert AsyncMediator(saga, retention={"failed": "1y"}).settings["relays"][0].kept == {"failed": 31536000.0}


async def sweep_on_loop(retention, mediator):
    return await retention.pass_on(mediator)


def test_a_loop_is_not_blocked_by_a_sweep(tmp_path):
    """On an event loop the journal is swept in a thread, and not again before its time."""
    import asyncio
    import threading

    class Asked:
        journal = MemoryJournal()

    clock = Clock()
    run(Asked.journal, clock, "good-1")
    clock.now += 100.0
    swept = []

    class Noting(Retention):
        def sweep(self, *arguments, **settings):
            swept.append(threading.current_thread() is threading.main_thread())
            return super().sweep(*arguments, **settings)

    retention = Noting({"succeeded": "1s"}, every=50.0, clock=clock)
    assert asyncio.run(sweep_on_loop(retention, Asked)) == 3
    assert asyncio.run(sweep_on_loop(retention, Asked)) == 0
    assert swept == [False]
    clock.now += 50.0
    assert asyncio.run(sweep_on_loop(retention, Asked)) == 0
    assert swept == [False, False]


def test_sweep_takes_what_rests_in_batches_and_counts_it(journal, tmp_path, monkeypatch):
    """One saga or all, so many wholes in a file; a whole stays as long as one of its branches can change."""
    monkeypatch.setattr(retention, "BATCH", 2)
    clock = Clock(1000.0)
    journal.enlist(DRIVER)
    branches = {"rests": "stuck.a", "stuck": "stuck_executing.a", "ended": "failed", "moves": "retrying.a"}
    for saga_id, state in branches.items():
        branch = acceptance(f"{saga_id}/g.a", parent=saga_id)
        journal.write(opening(saga_id, "failed", held=False, children=(branch,)))
        epoch = taken(journal, branch.saga_id, "d-1").epoch
        journal.write(going_on(branch.saga_id, 1, state, epoch=epoch, held=False, wake_at=5000.0))
    journal.write(opening("other", "failed", held=False, opened={"saga": "t"}))
    journal.write(opening("good", "succeeded", held=False))
    journal.write(opening("undone", "failed", held=False))
    taken(journal, "undone", "d-1")
    counted: list[int] = []
    swept = Retention({"failed": "999s"}, archive=tmp_path / "archive", clock=clock)

    assert swept.sweep(journal) == 0  # they ended at 1.0, which is 999 seconds ago
    clock.now = 1000.5
    assert swept.sweep(journal, saga="t", advance=counted.append) == 1
    assert swept.sweep(journal, advance=counted.append) == 6
    assert counted[0] == 1
    assert sorted(counted[1:], reverse=True) == [4, 2, 0]
    assert set(ids(journal)) == {"moves", "moves/g.a", "good", "undone"}
    assert len(list((tmp_path / "archive").iterdir())) == 3
    lines = [json.loads(line)["saga_id"] for line in read_lines(tmp_path / "archive")]
    families = [f"{root}{end}" for root in ("rests", "stuck", "ended") for end in ("", "/g.a")]
    assert sorted(lines) == sorted(["other", *families])


def test_settings_that_mean_nothing_are_refused():
    """Each says what it takes."""
    for kept in ({"stuck": "1d"}, {"succeeded": "30"}, {"succeeded": -1}, {"failed": None}, "30d", {"failed": "1 day"}):
        with pytest.raises(DefinitionError, match="retention"):
            Mediator(saga, retention=kept)  # type: ignore[arg-type]
    for every in (0.0, -1.0, math.nan, "1h"):
        with pytest.raises(DefinitionError, match=r"retention: every \(seconds\)"):
            Retention({"failed": "1y"}, every=every)  # type: ignore[arg-type]
    assert Retention({"succeeded": "30d", "failed": "1y"}).kept == {"succeeded": 2592000.0, "failed": 31536000.0}


def test_a_journal_without_the_method_says_so():
    """Its own `prune` is named."""

    class Plain:
        pass

    with pytest.raises(JournalError, match="prune_these"):
        Retention({"failed": 1.0}).sweep(Plain())  # type: ignore[arg-type]


# The archive


@pytest.fixture
def sealed_archive(tmp_path):
    """An archive of a sealed journal."""
    clock = Clock()
    with closing(SQLiteJournal(tmp_path / "sagas.db", durability="normal", cipher=AesGcm(KEYS))) as found:
        run(found, clock, "good-SECRET-id", "bad-1")
        entries = [
            each for root in found.entries() if root.acceptance.parent is None for each in with_branches(found, root)
        ]
        Archive(tmp_path / "archive").add(found, entries)
    return tmp_path / "archive"


def test_an_archive_is_its_owners_alone_and_whole(sealed_archive):
    """Mode, name, no file that is not finished."""
    (path,) = sealed_archive.iterdir()
    assert path.name.endswith(ENDING)
    assert path.stat().st_mode & 0o777 == 0o600
    assert sealed_archive.stat().st_mode & 0o777 == 0o700
    (sealed_archive / f".unfinished{ENDING}").write_bytes(b"half")
    assert len(list(read_lines(sealed_archive))) == 6
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(JournalError, match="cannot be read"):
        list(read_lines(sealed_archive))


def test_an_archive_of_a_sealed_journal_is_sealed(sealed_archive):
    """No payload, result or error is in it; with the key `show` has them all."""
    (path,) = sealed_archive.iterdir()
    text = gzip.decompress(path.read_bytes()).decode()
    assert "cannot pack" not in text
    assert '"packed' not in text
    shown_plain = shown("show", "bad-1", "--from", sealed_archive)
    assert "ValueError: (sealed)" in shown_plain
    assert "sealed with the key 'new'" in shown_plain
    keys = {"FSM_MEDIATOR_CIPHER": "env:K", "K": f"new:{KEYS['new']}"}
    assert '"bad-1"' in shown("show", "bad-1", "--from", sealed_archive, **keys)
    assert "cannot pack bad-1" in shown("show", "bad-1/halves.left", "--from", path, **keys)
    again = json.loads(shown("show", "bad-1/halves.left", "--from", path, "--json", **keys))
    assert again["payload"] == "bad-1"
    shown("show", "other", "--from", sealed_archive, code=3)
    assert conforms(path, saga).ok


def test_the_last_line_of_an_execution_counts(sealed_archive):
    """A family that was archived twice, by a crash between archive and deletion, is shown as it was the last time."""
    (path,) = sealed_archive.iterdir()
    lines = list(read_lines(path))
    (line,) = (json.loads(each) for each in lines if json.loads(each)["saga_id"] == "bad-1")
    later = sealed_archive / f"9{ENDING}"
    later.write_bytes(gzip.compress(json.dumps({**line, "version": "later"}).encode() + b"\n"))
    (entry,) = (each for each in ArchivedExecution(sealed_archive, "bad-1").entries() if each.saga_id == "bad-1")
    assert entry.acceptance.version == "later"
    for broken in (b"{}", b'{"saga_id": "bad-1"}', b'"bad-1"', b"bad-1 {"):
        later.write_bytes(broken)
        with pytest.raises(JournalError, match="a line that is not an execution"):
            ArchivedExecution(sealed_archive, "bad-1") if b"bad" in broken else ArchivedExecution(later, "{}")


def test_prune_archives_what_it_deletes(tmp_path):
    """By state, from the command line; the journal's redaction holds for the archive."""
    path = tmp_path / "sagas.db"
    with closing(SQLiteJournal(path, durability="normal")) as found:
        run(found, Clock(), "good-1", "bad-1")
    words = ("prune", "-j", path, "--older-than", "1s", "--state", "failed")
    assert "would delete 1 " in shown(*words, "--dry-run")
    assert "deleted 3 " in shown("--redact", "/cannot/", *words, "--archive", tmp_path / "archive")
    with closing(SQLiteJournal(path, durability="normal")) as found:
        assert [each for each in ids(found) if "/" not in each] == ["good-1"]
    assert "*** pack bad-1" in shown("show", "bad-1/halves.left", "--from", tmp_path / "archive")
    shown("prune", "-j", path, "--older-than", "1s", "--state", "failed", "--forget-ids", code=2)
    assert Path(tmp_path / "archive").is_dir()
