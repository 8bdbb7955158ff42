"""Records in words: every event and every place of the machine can be said, and is said as a person would."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from fsm_mediator import MemoryJournal
from fsm_mediator.narration import WORDS, details, in_words, place_in_words, timeline
from fsm_mediator.records import Failure, Record
from fsm_mediator.states import EVENTS, PHASES
from tests.ledger import Plan, plans
from tests.test_laws import carried_out
from tests.virtual import SyncDriver

LOST = Failure("ConnectionError", "lost")


def record(event: str, **values: Any) -> Record:
    """The record of an event of the step `charge`."""
    told = {"source": "executing.charge", "target": "executing.next", "at": 10.0, "step": "charge", "attempt": 1}
    return Record("o-1", "shop", 1, event, **{**told, **values})


# What happened


def test_every_event_of_the_machine_has_its_words():
    """No event that the machine can make is told as a blank."""
    assert set(WORDS) == set(EVENTS)
    assert len(set(WORDS.values())) == len(WORDS)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (record("start", step=None, attempt=0), "the saga begins"),
        (record("executed"), "charge is executed"),
        (record("executed", attempt=2), "charge is executed, attempt 2"),
        (record("errored"), "charge fails, attempt 1"),
        (record("compensation_errored", attempt=3), "charge fails to be compensated, attempt 3"),
        (record("retry_due"), "charge is tried again, attempt 2"),
        (record("compensation_due", attempt=2), "charge is tried again to be compensated, attempt 3"),
        (record("unsure"), "charge is in doubt, its probe is asked"),
        (record("rejected"), "charge is given up"),
        (record("rejected", step=None, attempt=0), "the saga is given up"),
        (record("settled_undone", attempt=0), "charge has no effect, says a person"),
        (record("undo", step=None, attempt=0), "the saga is undone, says a person"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_happened_is_a_sentence(told, said):
    """A record reads as a sentence; the attempt is told where there is more than one, or will be."""
    assert in_words(told) == said


def test_an_attempt_that_begins_again_is_told_by_its_own_number():
    """The attempt that failed is told as attempt 1, and the one that begins after the wait as attempt 2."""
    failed, begun = record("errored"), record("retry_due", source="retrying.charge")

    assert (in_words(failed)[-1], in_words(begun)[-1]) == ("1", "2")


# What is done next


@pytest.mark.parametrize("phase", PHASES)
def test_every_place_is_told_with_its_part(phase):
    """Where a saga stands is told in words, and which step it stands at; a nested step by its whole path."""
    ends = phase in ("pending", "succeeded", "failed")
    said = place_in_words(phase if ends else f"{phase}.outer.inner")

    assert said == phase if ends else "outer.inner" in said
    assert "{" not in said
    assert "_" not in said


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("executing.charge", "execute charge"),
        ("retrying_compensation.charge", "wait to compensate charge again"),
        ("stuck.charge", "stuck in charge"),
        ("stuck_executing.charge", "stuck executing charge"),
    ],
)
def test_place_in_words(state, said):
    """The states of the machine, as I would say them."""
    assert place_in_words(state) == said


# What else there is to tell


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (record("executed"), []),
        (record("errored", error=LOST), ["ConnectionError: lost"]),
        (
            record("errored", error=LOST, in_doubt=True, due_at=10.25, target="retrying.charge"),
            ["ConnectionError: lost", "it may have had its effect", "waits 0.25 s"],
        ),
        (record("errored", error=LOST, due_at=10.0, target="retrying.charge"), ["ConnectionError: lost"]),
        # It is the same doubt as the record before told of.
        (record("retry_due", in_doubt=True), []),
        # What is compensated next is told by the event: it "is given up in doubt".
        (record("in_doubt", error=LOST, in_doubt=True, target="compensating.charge"), ["ConnectionError: lost"]),
        (
            record("exhausted", error=Failure("E", "late"), in_doubt=True, abandoned=True, target="stuck.charge"),
            ["E: late", "its thread may be running still"],
        ),
        (record("settled_done", reason="I rang them up"), ["I rang them up"]),
        # The reason is told once, where the error's message has it already.
        (
            record("undo", error=Failure("E", "it was undone: a mistake"), reason="a mistake"),
            ["E: it was undone: a mistake"],
        ),
        (record("rejected", error=Failure("E", "no"), reason="a cancel"), ["E: no", "a cancel"]),
    ],
)
def test_details_say_what_matters_once(told, said):
    """Under a record I read why, and what to reckon with; nothing twice, and nothing that the sentence says already."""
    assert details(told) == said


# A whole history


def test_timeline_of_a_history():
    """A history reads from top to bottom: when, what happened, what is done next; and the reasons below it."""
    history = [
        record("start", source="pending", target="executing.charge", step=None, attempt=0, at=100.0),
        record("errored", error=LOST, in_doubt=True, target="retrying.charge", at=100.5, due_at=101.5),
        record("retry_due", source="retrying.charge", target="executing.charge", in_doubt=True, at=101.5),
        record("executed", attempt=2, target="succeeded", at=101.625),
    ]

    assert timeline(history).splitlines() == [
        "    0.000 s  the saga begins                          -> execute charge",
        "    0.500 s  charge fails, attempt 1                  -> wait to retry charge",
        "             ConnectionError: lost",
        "             it may have had its effect",
        "             waits 1 s",
        "    1.500 s  charge is tried again, attempt 2         -> execute charge",
        "    1.625 s  charge is executed, attempt 2            -> succeeded",
    ]


def test_message_of_several_lines_stays_below_its_record():
    """An error's message of many lines, a server's answer say, cannot be mistaken for records."""
    told = record("errored", error=Failure("ServerError", "<html>\n    9.000 s  charge is executed"))

    first, *below = timeline([told]).splitlines()

    assert first.lstrip().startswith("0.000 s  charge fails")
    assert below == ["             ServerError: <html>", "                 9.000 s  charge is executed"]


def test_timeline_of_nothing_is_nothing():
    """A saga that has not begun has an empty timeline, not an error."""
    assert timeline([]) == ""


@given(plan=plans(max_size=3))
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_every_history_can_be_told(plan: Plan) -> None:
    """Whatever happens to a saga, its timeline has a line for each record, none blank, and every error is in it."""
    history = carried_out(plan, SyncDriver, MemoryJournal()).outcome.history
    lines = timeline(history).splitlines()

    assert len([line for line in lines if " -> " in line]) == len(history)
    assert len(lines) == len(history) + sum(len(details(each)) for each in history)
    for each in history:
        if each.event in ("errored", "unsure", "rejected", "in_doubt", "exhausted"):
            assert any(str(each.error) in line for line in lines)
