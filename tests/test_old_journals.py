"""Journals that released versions have written are read for ever, and what they hold goes on.

``tests/journals/shop-vN.db`` was written by ``python -m tests.test_old_journals vN`` when schema N was newest, and is
never written again: a new schema gets a new file beside the old ones.
"""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from fsm_mediator import JournalError, Mediator, Retry, Saga, SagaStuckError, SQLiteJournal, StepRejectedError, step
from fsm_mediator.journal.sqlite.schema import STEPS
from tests.drivers import MORTAL, Died

JOURNALS = Path(__file__).parent / "journals"


def shop(*, now: bool) -> Saga:
    """The saga that the journals are of; *now*: everything that failed then works."""

    @step
    def reserve(order: dict[str, int]) -> str:
        return f"shelf {order['sku']}"

    @reserve.compensation
    def release(order: dict[str, int]) -> None:
        if order["sku"] == 3 and not now:
            raise RuntimeError("the warehouse is closed")

    @step(retry=Retry(attempts=3, wait_initial=3600.0, wait_max=3600.0, wait_jitter=0.0))
    def charge(order: dict[str, int]) -> dict[str, int]:
        if order["sku"] in (2, 3):
            raise StepRejectedError("the card is declined: été ☃")
        if order["sku"] == 4 and not now:
            raise Died
        if order["sku"] == 5 and not now:
            raise ConnectionError("the bank is away")
        return {"receipt": order["sku"] * 100}

    @charge.compensation
    def refund(order: dict[str, int]) -> None:
        """Nothing to do."""

    once = Retry(attempts=1)
    return Saga("shop", [reserve.with_(compensation_retry=once), charge])


def write(path: Path) -> None:
    """One execution for each way to stand."""
    ticks = itertools.count(1_790_000_000)
    with Mediator(
        shop(now=False), journal=path, clock=lambda: float(next(ticks)), park_after=0.0, **MORTAL
    ) as mediator:
        for sku, saga_id in enumerate(("succeeded", "failed", "stuck", "left"), 1):
            try:
                mediator.run("shop", {"sku": sku}, saga_id=saga_id, check=False)
            except Died:
                continue
        mediator.start("shop", {"sku": 5}, saga_id="waiting")
        while mediator.executions(state="retrying") == []:
            time.sleep(0.01)


def forget_this_machine(path: Path) -> None:
    """Take the paths of the machine that wrote it out of the tracebacks."""
    connection = sqlite3.connect(path)
    for folder in (str(Path(__file__).parent.parent), sys.base_prefix):
        connection.execute("UPDATE records SET details = replace(details, ?, '.') WHERE details IS NOT NULL", (folder,))
    connection.commit()
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@pytest.fixture(params=sorted(JOURNALS.glob("shop-v*.db")), ids=lambda path: path.stem)
def old(request, tmp_path):
    """A copy of each old journal."""
    return Path(shutil.copy(request.param, tmp_path / "sagas.db"))


def test_there_is_an_old_journal():
    """The tests below have something to read."""
    assert (JOURNALS / "shop-v1.db").is_file()


def test_old_records_are_read(old):
    """Every state, payload, result, error and time is as it was."""
    with Mediator(shop(now=True), journal=old) as mediator:
        states = {entry.saga_id: entry.state for entry in mediator.executions()}
        assert states == {
            "succeeded": "succeeded",
            "failed": "failed",
            "stuck": "stuck.reserve",
            "left": "executing.charge",
            "waiting": "retrying.charge",
        }
        succeeded, failed = mediator.outcome("succeeded"), mediator.outcome("failed")
        assert succeeded.results == {"reserve": "shelf 1", "charge": {"receipt": 100}}
        assert [record.event for record in failed.history] == ["start", "executed", "rejected", "compensated"]
        error = failed.history[2].error
        assert error is not None
        assert error.message == "the card is declined: été ☃"
        assert "StepRejectedError" in error.traceback
        assert 1_790_000_000 <= failed.history[0].at < 1_790_000_100


def test_unfinished_executions_of_old_journals_go_on(old):
    """Recovery continues unfinished executions, a stuck one is retried, a finished one undone."""
    with Mediator(shop(now=True), journal=old, sleep=lambda seconds: None) as mediator:
        recovered = {outcome.saga_id: outcome.state for outcome in mediator.recover()}
        assert recovered["waiting"] == "succeeded"
        assert mediator.run("shop", {"sku": 4}, saga_id="left").results["charge"] == {"receipt": 400}
        assert mediator.retry("stuck").failed
        assert mediator.undo("succeeded").failed


def test_it_is_only_read_where_it_is_only_looked_at(old):
    """Looking at an old journal, read-only, changes no byte of it. Before it is migrated it cannot be read so."""
    before = old.read_bytes()
    newest = JOURNALS / f"shop-v{len(STEPS)}.db"  # written last, once a schema is finished
    if newest.is_file() and before == newest.read_bytes():
        journal = SQLiteJournal(old, read_only=True)
        assert len(list(journal.entries())) == 5
        journal.close()
    else:
        with pytest.raises(JournalError, match="The first mediator that uses the journal updates it"):
            SQLiteJournal(old, read_only=True)
    assert old.read_bytes() == before


def test_a_stuck_one_still_says_so(old):
    """What waits for a person waits for a person, however old it is."""
    with Mediator(shop(now=False), journal=old) as mediator, pytest.raises(SagaStuckError, match="warehouse"):
        mediator.run("shop", {"sku": 3}, saga_id="stuck")


if __name__ == "__main__":
    newest = JOURNALS / f"shop-{sys.argv[1]}.db"
    assert not newest.exists(), f"{newest} is history, and stays as it is"
    write(newest)
    forget_this_machine(newest)
