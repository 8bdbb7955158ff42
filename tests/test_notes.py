"""Notes: what is said about an execution without moving it, on every journal and in both mediators."""

from __future__ import annotations

import pytest

from fsm_mediator import MemoryJournal, Saga
from fsm_mediator.errors import JournalError, UnknownExecutionError
from fsm_mediator.journal.copying import copy
from fsm_mediator.journal.notes import Note, for_notes
from fsm_mediator.journal.protocol import Commit
from tests.commits import acceptance
from tests.drivers import World


def opened(journal, *ids):
    """*journal* with executions of these ids."""
    for saga_id in ids:
        journal.write(Commit(saga_id, (), None, held=False, acceptance=acceptance(saga_id)))
    return journal


def test_notes_are_read_back_in_order(journal):
    """I read what was said about an execution, and nothing that was said about another."""
    opened(journal, "a", "b")
    first = Note("seen", "a", value={"by": "phone"}, actor="ann", reason="asked", at=1.0)
    journal.add_note(first)
    journal.add_note(Note("seen", "b", at=2.0))
    journal.add_note(Note("checked", "a", at=0.5))

    assert [(note.kind, note.value, note.actor, note.reason, note.at) for note in journal.notes("a")] == [
        ("seen", {"by": "phone"}, "ann", "asked", 1.0),
        ("checked", None, None, None, 0.5),
    ]


def test_note_about_nothing_is_not_kept(journal):
    """A note about an execution that does not exist is refused, and no note of another execution's."""
    assert journal.add_note(Note("seen", "unknown")) == 0
    assert journal.notes() == []


def test_notes_are_deleted_with_their_execution(drive, journal):
    """Pruning leaves no notes behind, and an execution that is opened later under that id has none."""
    mediator = drive(Saga("s", [World().step("a")]), journal=journal)
    mediator.run("s", saga_id="x")
    mediator.run("s", saga_id="y")
    journal.add_note(Note("seen", "x"))
    journal.add_note(Note("about all", saga="s"))

    mediator.close()
    assert journal.prune(1e12, forget_ids=True) == 2

    assert [note.kind for note in journal.notes()] == ["about all"]


def test_value_that_is_no_json_is_refused(journal):
    """A note that could not be read back is not written."""
    opened(journal, "a")
    with pytest.raises(JournalError, match="not JSON"):
        journal.add_note(Note("seen", "a", value=object()))


def test_mediator_reads_notes(drive, journal):
    """`mediator.notes` tells what was said, and refuses an id that does not exist."""
    mediator = drive(Saga("s", [World().step("a")]), journal=journal)
    mediator.run("s", saga_id="x")
    journal.add_note(Note("seen", "x", at=5.0))

    assert [note.kind for note in mediator.notes("x")] == ["seen"]
    with pytest.raises(UnknownExecutionError):
        mediator.notes("unknown")


def test_journal_without_notes_is_said_to_lack_them():
    """A journal of somebody's own works without notes; the error names what it lacks, and what to use."""

    class Plain:
        """A journal of an earlier version."""

    with pytest.raises(JournalError, match=r"Plain keeps no notes.*SQLiteJournal"):
        for_notes(Plain())


def test_notes_are_copied(journal, tmp_path):
    """A copied journal tells the same about each execution."""
    from fsm_mediator import SQLiteJournal

    if isinstance(journal, MemoryJournal):
        pytest.skip("a journal in memory is not copied")
    opened(journal, "a", "b")
    journal.add_note(Note("seen", "b", value=[1], actor="ann", at=1.0))
    journal.add_note(Note("closed", saga="s", step="a.b", reason="why", at=2.0))

    new = SQLiteJournal(tmp_path / "new.db")
    copy(journal, new)

    assert new.notes() == journal.notes()
    assert new.add_note(Note("more", "a")) > max(note.number for note in journal.notes())


def test_notes_are_read_by_kind_and_in_pages(journal):
    """Those after a number, no more than asked for, about an execution or about anything; none if none is asked for."""
    opened(journal, "a", "b")
    kinds = (("seen", "a"), ("held", "a"), ("seen", "b"), ("seen", "a"), ("seen", None))
    one, two, three, four, five = (journal.add_note(Note(kind, saga_id)) for kind, saga_id in kinds)

    def numbers(*asked, **chosen):
        return [note.number for note in journal.notes(*asked, **chosen)]

    assert numbers() == [one, two, three, four, five]
    assert numbers("a") == [one, two, four]
    assert numbers("a", kind="seen") == [one, four]
    assert numbers(kind="seen", after=one) == [three, four, five]
    assert numbers(kind="seen", after=one, limit=2) == [three, four]
    assert numbers(limit=0) == numbers("a", limit=0) == numbers("unknown") == numbers("half \ud800") == []
    assert numbers(after=five) == []


def test_note_with_the_token_of_an_earlier_one_is_that_note(journal):
    """A repeated call adds nothing; one without a token adds another note."""
    opened(journal, "a")
    first = journal.add_note(Note("seen", "a"), token=7)
    assert journal.add_note(Note("seen", "a"), token=7) == first
    assert journal.add_note(Note("seen", "a"), token=8) != first
    assert len(journal.notes()) == 2
    assert journal.add_note(Note("seen", "half \ud800")) == 0
