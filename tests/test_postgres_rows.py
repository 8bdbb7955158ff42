"""The rows of a PostgreSQL journal: damage is found, what is derived from the records is derived anew."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import msgspec
import pytest

from fsm_mediator import LeaseLostError
from fsm_mediator.journal.planning import Plan
from fsm_mediator.journal.postgres.usual import FEW
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.journal.repair import RepairableJournal
from fsm_mediator.records import InboxItem
from fsm_mediator.states import ENDED
from tests.commits import DRIVER, acceptance, going_on, opening, record, seen
from tests.postgres_server import changed, server


@pytest.fixture
def journal() -> Any:
    """A journal in tables of its own."""
    with closing(server().journal()) as made:
        made.enlist(DRIVER)
        yield made


def test_few_records_and_many_are_written_alike(journal):
    """The usual commit has a few records as values, and more of them as arrays."""
    for count in range(FEW + 3):
        targets = [f"executing.{number}" for number in range(count)]
        journal.write(opening(f"o-{count}", *targets))
        journal.write(Commit(f"o-{count}", tuple(record(f"o-{count}", count + 1 + at) for at in range(FEW + 1)), "d-1"))
        written = journal.records(f"o-{count}")
        assert [each.seq for each in written] == list(range(1, count + FEW + 2))
        assert [each.target for each in written[:count]] == targets


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        ("DELETE FROM records WHERE seq = 0", "records are lost, or numbered wrongly"),
        ("DELETE FROM records", "records are lost, or numbered wrongly"),
        ("UPDATE records SET seq = 7 WHERE seq = 1", "records are lost, or numbered wrongly"),
        ("UPDATE records SET details = '{\"step' WHERE seq = 1", "record 1 cannot be decoded"),
        ("UPDATE records SET details = repeat('[', 200000) WHERE seq = 1", "record 1 cannot be decoded"),
        ("UPDATE executions SET parent = 'none'", "it is a branch of 'none', which is lost"),
    ],
)
def test_lost_and_damaged_records_are_found(journal, harm, fault):
    """The check names the execution; nothing can be derived for it, so that no repair is offered."""
    journal.write(opening("x", "executing.a", payload={"text": "\0"}))
    assert journal.check() == []
    changed(journal, harm)
    assert f"execution 'x': {fault}" in journal.check()
    assert journal.damage_of("x") == journal.check()
    assert journal.damage_of("y") == []


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (
            "DELETE FROM records WHERE execution = 1 AND seq = 2",
            "its row says that it has ended, and its last record leads to 'executing.a'",
        ),
        (
            "UPDATE executions SET ended_at = NULL WHERE number = 1",
            "it has ended in 'succeeded', and its row does not say so",
        ),
        (
            "UPDATE executions SET ended_at = 7 WHERE number = 1",
            "its row and its last record name different times of its end",
        ),
        (
            "UPDATE executions SET state = 'waiting.a' WHERE number = 2",
            "its row says that it is in 'waiting.a', and its last record leads to 'retrying.a'",
        ),
        (
            "UPDATE executions SET seq = 0 WHERE number = 2",
            "its row says that it is in 'retrying.a', and its last record leads to 'retrying.a'",
        ),
        (
            "UPDATE executions SET attention = NULL WHERE number = 2",
            "it is in 'retrying.a', and its row calls no driver",
        ),
        ("UPDATE executions SET mail = 3 WHERE number = 2", "the inbox has another number of items than is noted"),
    ],
)
def test_a_row_that_contradicts_its_records_is_found_and_repaired(journal, harm, fault):
    """An end that was lost or forged hides an execution from everybody; its row is derived anew from its records."""
    ended, parked = opening("x", "executing.a", "succeeded", held=False), opening("y", "retrying.a", held=False)
    journal.write_all([ended, msgspec.structs.replace(parked, wake_at=50.0)])
    journal.post("y", InboxItem("cancel"))
    whole: object = journal
    assert isinstance(whole, RepairableJournal)
    assert journal.check() == journal.repairable() == []
    changed(journal, harm)
    saga_id = "x" if "number = 1" in harm or "execution = 1" in harm else "y"
    records, inbox = seen(journal, saga_id), journal.inbox(saga_id)

    assert journal.check() == [f"execution {saga_id!r}: {fault}"] == journal.damage_of(saga_id)
    assert journal.repairable() == [saga_id]
    journal.repair(saga_id)

    assert journal.check() == []
    assert (seen(journal, saga_id), journal.inbox(saga_id)) == (records, inbox)
    is_ended = records[-1][1] in ENDED
    assert (saga_id in journal.claimable(0.0, 10)) is not is_ended
    if is_ended:
        assert journal.prune(3.0) == 1


def test_many_are_read_although_one_cannot_be_read(journal):
    """An execution with a record that cannot be read has no records at all; the others have theirs."""
    journal.write_all([opening(name, "executing.a", "executing.b") for name in ("x", "bad", "y")])
    changed(
        journal,
        "UPDATE records SET details = '{' WHERE seq = 2 AND execution IN "
        "(SELECT number FROM executions WHERE saga_id = 'bad')",
    )

    assert journal.records_of_all(["y", "bad", "x"]) == {name: journal.records(name) for name in ("x", "y")}
    assert list(journal.claim_all(["bad"], "d-1")) == list(journal.find_all(["bad"])) == ["bad"]


def test_a_repair_fences_the_driver_and_leaves_whole_rows_alone(journal):
    """A driver that goes on by what it remembers does not write over a repair; a row without fault is as it was."""
    journal.write(opening("x", "executing.a"))
    journal.repair("x")
    journal.write(going_on("x", 2))
    changed(journal, "UPDATE executions SET mail = 3")

    journal.repair("x")

    with pytest.raises(LeaseLostError):
        journal.write(going_on("x", 3))
    assert journal.check() == []


def test_a_dormant_branch_is_not_begun_by_a_repair(journal):
    """A branch that waits for its turn (`at_most`) waits for it after a repair as well."""
    journal.write(opening("x", "waiting.g", dormant=(acceptance("x/g.a", parent="x"),)))
    changed(journal, "UPDATE executions SET mail = 3 WHERE parent IS NOT NULL")

    journal.repair("x/g.a")

    assert journal.check() == journal.claimable(0.0, 10) == []


def test_lost_branches_are_missed_and_those_that_were_never_made_are_not(journal):
    """Named branches, numbered ones, and planned ones; a cancel that came first leaves none to miss."""
    named = record("x", 1, "waiting.g", children=("a",))
    journal.write(Commit("x", (named,), "d-1", acceptance=acceptance("x"), children=(acceptance("x/g.a", parent="x"),)))
    many = record("y", 1, "waiting.g", children=tuple(map(str, range(1200))))
    branches = tuple(acceptance(f"y/g.{number}", parent="y") for number in range(1200))
    journal.write(Commit("y", (many,), "d-1", acceptance=acceptance("y"), plan=Plan(branches)))
    journal.write(Commit("y", (), "d-1", plan=Plan(creates=(0, 3)), token=1))
    cancelled = msgspec.structs.replace(record("z", 2, "failed"), event="rejected")
    never = msgspec.structs.replace(named, saga_id="z")
    journal.write(Commit("z", (never, cancelled), "d-1", held=False, acceptance=acceptance("z")))
    assert journal.check() == []

    changed(journal, "DELETE FROM executions WHERE saga_id = 'x/g.a'")
    changed(journal, "DELETE FROM executions WHERE saga_id = 'y/g.1'")

    assert journal.check() == ["execution 'x': its branch 'x/g.a' is lost", "execution 'y': branches of 'g' are lost"]
