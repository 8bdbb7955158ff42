"""Undrivable: what no living driver can drive is said, listed, and closed only by a person."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from fsm_mediator import (
    AlreadyDrivenError,
    DefinitionChangedError,
    Mediator,
    MediatorError,
    MemoryJournal,
    Parallel,
    PayloadError,
    RefusedError,
    Saga,
    SagaAbandonedError,
    Signal,
    SQLiteJournal,
    Statistics,
    UnknownExecutionError,
    UnknownSagaError,
    conforms,
    step,
)
from fsm_mediator.cli.commands import cli
from fsm_mediator.journal.abandoning import abandon
from fsm_mediator.journal.liveness import this_driver
from fsm_mediator.journal.operators import Fault
from fsm_mediator.records import InboxItem
from tests.drivers import JOURNALS, ONCE, World, eventually

ENCODING = [name for name in JOURNALS if name != "memory"]


@dataclasses.dataclass
class Order:
    """As it was."""

    item: str


@dataclasses.dataclass
class PricedOrder:
    """As it is after a deploy."""

    item: str
    currency: str


@dataclasses.dataclass
class Answer:
    """What a signal brings."""

    approved: bool


@step
def reserve(order):
    """Reserve it."""
    return "reserved"


@reserve.compensation
def release(order):
    """Release it."""
    return


def waits(payload: Any = Order, *, answer: Any = Answer) -> Saga:
    """It waits for the signal ``approval``."""
    return Saga(
        "s", [reserve, Signal("approval", payload=answer), step(name="ship")(lambda order: None)], payload=payload
    )


@pytest.fixture(params=ENCODING)
def journal(request, tmp_path) -> Any:
    """Each journal that encodes."""
    made = JOURNALS[request.param](tmp_path)
    yield made
    made.close()


def park(drive: Any, journal: Any, saga: Saga | None = None) -> None:
    """Execution ``x`` is parked, and nothing is alive."""
    saga = saga or waits()
    mediator = drive(saga, journal=journal)
    mediator.run(saga, Order("lamp") if saga.payload is Order else None, saga_id="x", check=False)
    mediator.close()


def verbs(mediator: Any) -> dict[str, Any]:
    """What a person can say to ``x``."""
    return {
        "signal": lambda: mediator.signal("x", "approval", Answer(True)),
        "cancel": lambda: mediator.cancel("x", "enough"),
        "wait": lambda: mediator.wait("x", check=False),
        "outcome": lambda: mediator.outcome("x"),
        "retry": lambda: mediator.retry("x"),
        "resolve": lambda: mediator.resolve("x", reason="looked"),
        "undo": lambda: mediator.undo("x"),
    }


@pytest.mark.parametrize("verb", verbs(None))
def test_what_cannot_be_decoded_refuses_every_verb_alike(drive, journal, verb):
    """A required field came: no verb is half accepted, and each message has the two next moves."""
    park(drive, journal)
    mediator = drive(waits(PricedOrder), journal=journal)

    with pytest.raises(PayloadError, match="currency") as caught:
        verbs(mediator)[verb]()

    assert "Register the version that wrote it" in str(caught.value)
    assert "fsm-mediator abandon x --reason" in str(caught.value)
    assert journal.inbox("x") == ()


def test_what_cannot_be_decoded_is_listed_with_type_and_field(drive, journal):
    """The driver that could not decode it notes why, and anybody who lists executions sees it."""
    park(drive, journal)
    with pytest.raises(PayloadError):
        drive(waits(PricedOrder), journal=journal).outcome("x")

    other = drive(Saga("t", [reserve]), journal=journal)
    (entry,) = other.executions()
    assert "could not decode it" in entry.undrivable
    assert "type PricedOrder, field $.currency" in entry.undrivable
    assert other.executions(state="undrivable") == [entry]
    assert journal.faults()["x"].message.startswith("the payload of execution 'x' does not come back")


def test_a_driver_that_can_decode_it_takes_the_fault_back(drive, journal):
    """The version that wrote it is registered again: it goes on, and nothing is said any more."""
    park(drive, journal)
    with pytest.raises(PayloadError):
        drive(waits(PricedOrder), journal=journal).outcome("x")

    mediator = drive(waits(), journal=journal)
    mediator.signal("x", "approval", Answer(True))

    assert mediator.wait("x").succeeded
    assert mediator.executions(state="undrivable") == []


def test_the_value_of_a_signal_can_be_the_fault(drive, journal):
    """A signal was accepted, and its type changed before a driver read it: it is kept, and the fault is noted."""
    park(drive, journal)
    journal.post("x", InboxItem("signal", "approval", {"approved": True}, at=1.0))

    changed = drive(waits(answer=int), journal=journal)
    changed.recover()

    (entry,) = changed.executions(state="undrivable")
    assert "type int" in entry.undrivable
    assert len(journal.inbox("x")) == 1
    (outcome,) = drive(waits(), journal=journal).recover()
    assert outcome.succeeded


def changed_saga() -> Saga:
    """In place of `waits`: another order, a part is gone, another is new."""
    return Saga("s", [Signal("approval"), reserve, step(name="bill")(lambda order: None)], payload=Order)


@pytest.mark.parametrize("verb", verbs(None))
def test_a_changed_definition_names_the_parts_that_differ(drive, journal, verb):
    """Every verb says what is another: no fingerprint has to be looked up."""
    park(drive, journal)
    mediator = drive(changed_saga(), journal=journal)

    with pytest.raises(DefinitionChangedError) as caught:
        verbs(mediator)[verb]()

    said = str(caught.value)
    assert "'ship' is gone" in said
    assert "'bill' is new, after 'reserve'" in said
    assert "'reserve', 'approval' are in another order" in said
    assert "fsm-mediator abandon x --reason" in said


def test_a_changed_branch_is_named_within_its_group(drive, journal):
    """The parts of branches are compared as well."""
    before = Saga(
        "s",
        [
            Parallel("both", [Saga("left", [reserve, Signal("go")])]),
            reserve.with_name("r2") if False else Signal("end"),
        ],
    )
    park(drive, journal, before)
    after = Saga("s", [Parallel("both", [Saga("left", [reserve, Signal("went")])]), Signal("end")])

    with pytest.raises(DefinitionChangedError, match="in the branch 'left' of 'both' 'go' is gone"):
        drive(after, journal=journal).outcome("x")


def test_it_is_undrivable_while_no_living_driver_knows_it(drive, journal):
    """It is so by the drivers that live now, and by nothing that is stored."""
    park(drive, journal)
    other = drive(changed_saga(), journal=journal)
    (entry,) = other.executions()
    assert entry.undrivable == "no living driver knows its definition"

    knows = drive(waits(), journal=journal)
    knows.executions()
    assert [entry.undrivable for entry in other.executions()] == [None]
    assert other.executions(state="undrivable") == []


def test_a_signal_for_what_another_driver_knows_is_judged_there(drive, journal):
    """The mediator that was asked does not know the definition: the signal is accepted by its path, and counts."""
    park(drive, journal)
    knows = drive(waits(), journal=journal)
    knows.executions()

    drive(changed_saga(), journal=journal).signal("x", "approval", {"approved": True})

    (outcome,) = knows.recover()
    assert outcome.results["approval"] == Answer(True)


def test_a_signal_of_another_type_does_not_count_there(drive, journal, caplog):
    """Nobody could check its value: the driver refuses it, says so, and waits on for another."""
    park(drive, journal)
    knows, asked = drive(waits(), journal=journal), drive(changed_saga(), journal=journal)
    knows.executions()
    asked.signal("x", "approval", "yes")

    (outcome,) = knows.recover()

    assert outcome.awaits_signal
    assert "the signal 'approval' does not count" in caplog.text
    knows.signal("x", "approval", Answer(True))
    assert knows.wait("x").succeeded


def test_a_cancel_for_what_another_driver_knows_is_judged_there(drive, journal):
    """It compensates, though the mediator that was asked does not know how."""
    park(drive, journal)
    knows = drive(waits(), journal=journal)
    knows.executions()

    drive(changed_saga(), journal=journal).cancel("x", "enough")

    (outcome,) = knows.recover()
    assert outcome.failed
    assert outcome.compensated == ("reserve",)
    with pytest.raises(RefusedError, match="it has ended"):
        drive(changed_saga(), journal=journal).cancel("x")
    with pytest.raises(RefusedError, match="is not awaited"):
        drive(changed_saga(), journal=journal).signal("x", "approval", 1)


# What a type may change in flight: the table in docs/upgrades.md


class Colour(enum.Enum):
    """As it was."""

    RED = "red"


class MoreColours(enum.Enum):
    """It has another member."""

    RED = "red"
    BLUE = "blue"


class OtherColours(enum.Enum):
    """A member is gone."""

    BLUE = "blue"


def made(**fields: Any) -> Any:
    """A dataclass with these fields: a type, or a type and a default."""
    listed = [(name, *(kind if isinstance(kind, tuple) else (kind,))) for name, kind in fields.items()]
    return dataclasses.make_dataclass("Made", listed)


THING = made(item=str, count=int)("lamp", 3)
CHANGES: dict[str, tuple[Any, Any, bool]] = {
    "a new field with a default": (THING, made(item=str, count=int, currency=(str, "EUR")), True),
    "a removed field": (THING, made(item=str), True),
    "another order of the fields": (THING, made(count=int, item=str), True),
    "a wider type: int to float, int to int | None, int to int | str": (THING, made(item=str, count=int | None), True),
    "a new member of an Enum": (Colour.RED, MoreColours, True),
    "another kind of class with the same fields": (
        THING,
        msgspec.defstruct("T", [("item", str), ("count", int)]),
        True,
    ),
    "list to set or tuple": (["a"], set[str], True),
    "float to Decimal, datetime to str": (1.5, decimal.Decimal, True),
    "a new field without a default": (THING, made(item=str, count=int, currency=str), False),
    "another name of a field without a default": (THING, made(thing=str, count=int), False),
    "another type: int to str, Decimal to float": (THING, made(item=str, count=str), False),
    "a narrower type: int | None to int, if a value is None": (made(count=int | None)(None), made(count=int), False),
    "a removed member of an Enum, if a value has this member": (MoreColours.RED, OtherColours, False),
    "a removed field in a class that forbids unknown fields": (
        *(THING, msgspec.defstruct("T", [("item", str)], forbid_unknown_fields=True)),
        False,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_type_may_change_in_flight(change):
    """What is journaled under the type of before is decoded as the type of after, or is not: the docs say which."""
    value, after, decodes = CHANGES[change]
    journal = MemoryJournal(encode=True)
    saga = Saga("s", [Signal("go")], payload=type(value) if not isinstance(value, (list, float)) else None)
    with Mediator(saga, journal=journal) as mediator:
        mediator.run("s", value, saga_id="x", check=False)
    with Mediator(Saga("s", [Signal("go")], payload=after), journal=journal) as mediator:
        if decodes:
            assert not mediator.outcome("x").ended
        else:
            with pytest.raises(PayloadError):
                mediator.outcome("x")
    row = f"| {change.replace('|', chr(92) + '|')} | {'yes' if decodes else 'no'} |"
    assert row in (Path(__file__).parent.parent / "docs" / "upgrades.md").read_text(encoding="utf-8")


# To give it up


def test_an_execution_is_given_up(drive, journal):
    """Nothing is undone; it has failed, with the reason, and what it had done is left over; then it can be pruned."""
    park(drive, journal)
    drive(changed_saga(), journal=journal).executions()

    assert abandon(journal, journal.find("x"), "the customer is gone", 5e9) == ["x"]

    mediator = drive(waits(), journal=journal)
    outcome = mediator.outcome("x")
    assert outcome.failed
    assert isinstance(outcome.error, SagaAbandonedError)
    assert outcome.leftovers == ("reserve",)
    assert outcome.compensated == ()
    assert "the customer is gone" in outcome.summary()
    assert "left over: reserve" in outcome.summary()
    assert outcome.history[-1].reason == "the customer is gone"
    assert conforms(journal, waits()).ok
    assert "digraph" in outcome.diagram().to_dot()
    assert outcome.diagram("steps").to_dot()
    assert journal.claimable(1e12, 10) == []
    assert journal.prune(1e12) == 1


def test_a_mediator_gives_an_execution_up(drive, journal):
    """One that does not know its definition; with a reason, and only what no living driver can drive."""
    park(drive, journal)
    mediator = drive(changed_saga(), journal=journal)
    assert Statistics.read(waits(), journal).undrivable == 0  # nobody is alive yet
    assert [entry.undrivable is None for entry in mediator.executions()] == [False]
    assert Statistics.read(waits(), journal).undrivable == 1
    with pytest.raises(RefusedError, match="needs a reason"):
        mediator.abandon("x", reason=" ")
    with pytest.raises(UnknownExecutionError):
        mediator.abandon("y", reason="gone")

    assert mediator.abandon("x", reason="the customer is gone") == ["x"]

    assert journal.find("x").state == "failed"
    assert journal.records("x")[-1].reason == "the customer is gone"
    assert Statistics.read(waits(), journal).undrivable == 0
    with pytest.raises(RefusedError, match="has ended"):
        mediator.abandon("x", reason="again")


def test_a_mediator_does_not_give_up_what_it_can_drive(drive, journal):
    """It is to be cancelled, and compensated."""
    park(drive, journal)
    with pytest.raises(RefusedError, match="can be driven"):
        drive(waits(), journal=journal).abandon("x", reason="gone")
    assert journal.find("x").state != "failed"


def test_no_move_follows_what_was_given_up(drive, journal):
    """A record after it, or of what had ended, is one that no driver can have made."""
    park(drive, journal)
    abandon(journal, journal.find("x"), "gone", 5e9)
    history = journal.records("x")
    again = msgspec.structs.replace(history[-1], seq=len(history) + 1, source="failed")

    assert conforms(history, waits()).ok
    assert not conforms([*history, again], waits()).ok


def test_a_step_under_way_is_left_in_doubt(drive, journal):
    """Its effect may be there: it is among the leftovers."""
    world = World()
    saga = Saga("s", [world.step("pay", pivot=True, undo=None), world.step("ship", OSError(), retry=ONCE, undo=None)])
    mediator = drive(saga, journal=journal)
    assert mediator.run("s", saga_id="x", check=False).stuck
    mediator.close()

    abandon(journal, journal.find("x"), "gone", 5e9)

    assert drive(saga, journal=journal).outcome("x").leftovers == ("pay", "ship")


def test_branches_are_given_up_with_the_whole(drive, journal):
    """So that nothing of it can move, and all of it can be pruned."""
    saga = Saga("s", [Parallel("both", [Saga("left", [reserve, Signal("go")]), step(name="right")(lambda p: None)])])
    park(drive, journal, saga)
    drive(changed_saga(), journal=journal).executions()
    with pytest.raises(RefusedError, match=r"give up 'x'"):
        abandon(journal, journal.find("x/both.left"), "gone", 5e9)

    assert abandon(journal, journal.find("x"), "gone", 5e9) == ["x", "x/both.left"]

    assert journal.find("x/both.left").state == "failed"
    assert drive(saga, journal=journal).outcome("x").leftovers == ("both",)
    assert conforms(journal, saga).ok
    assert journal.prune(1e12) == 3


def test_only_what_is_undrivable_is_given_up(drive, journal):
    """A living driver can compensate it: giving it up would leave its effects in silence."""
    park(drive, journal)
    knows = drive(waits(), journal=journal)
    knows.executions()

    with pytest.raises(RefusedError, match="can be driven"):
        abandon(journal, journal.find("x"), "gone", 5e9)

    knows.cancel("x")
    eventually(lambda: knows.outcome("x").ended)
    with pytest.raises(RefusedError, match="has ended"):
        abandon(journal, journal.find("x"), "gone", 5e9)


def test_what_a_driver_owns_is_not_given_up(drive, journal):
    """A fault is noted, and a driver holds it all the same: that one is to end first; nothing was changed."""
    saga = Saga("s", [Parallel("both", [Saga("left", [reserve, Signal("go")])])])
    park(drive, journal, saga)
    owner = this_driver()
    journal.enlist(owner)
    journal.claim("x/both.left", owner.id)

    with pytest.raises(AlreadyDrivenError, match=r"x/both\.left"):
        abandon(journal, journal.find("x"), "gone", 5e9)

    assert journal.find("x").state == "waiting.both"
    assert journal.find("x").driver is None


def test_a_journal_that_cannot_tell_gives_nothing_up(drive):
    """Whether it can be driven is not known there."""

    class Older(MemoryJournal):
        def __getattribute__(self, name: str) -> Any:
            if name in ("known", "faults", "shape", "note_fault", "answer", "forget_answer"):
                raise AttributeError(name)
            return super().__getattribute__(name)

    journal = Older(encode=True)
    park(drive, journal)
    mediator = drive(waits(PricedOrder), journal=journal)
    with pytest.raises(PayloadError, match="currency"):
        mediator.cancel("x")
    assert [entry.undrivable for entry in mediator.executions()] == [None]
    with pytest.raises(UnknownSagaError, match="no saga of that name"):
        drive(Saga("t", [reserve]), journal=journal).retry("x")
    found = journal.find("x")
    assert found is not None
    with pytest.raises(RefusedError, match="this journal cannot tell"):
        abandon(journal, found, "gone", 5e9)


# On the command line

SAGAS = [waits()]
PRICED = [waits(PricedOrder)]


def ran(*words: Any, code: int = 0) -> str:
    """What a command prints."""
    result = CliRunner().invoke(cli, [*map(str, words)], terminal_width=200)
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture
def path(tmp_path, drive, monkeypatch) -> Any:
    """A file in which ``x`` is parked."""
    monkeypatch.chdir(tmp_path)
    journal = SQLiteJournal(tmp_path / "sagas.db")
    park(drive, journal)
    journal.close()
    return tmp_path / "sagas.db"


def test_list_and_show_name_what_nobody_can_drive(path, drive):
    """Operators see it where they look first, with the next moves."""
    assert "undrivable" not in ran("list", "-j", path)  # nobody is alive: nothing is wrong with it
    shown = ran("show", "x", "-j", path)
    assert "nobody can drive it" not in shown
    assert "no driver is alive now; fsm-mediator serve starts one" in shown
    mediator = drive(waits(PricedOrder), journal=path)
    with pytest.raises(PayloadError):
        mediator.outcome("x")

    said = ran("list", "-j", path)
    assert "(undrivable)" in said
    assert "undrivable: 1. 'x': a driver could not decode it" in said
    assert "fsm-mediator abandon x --reason" in ran("show", "x", "-j", path)
    (line,) = ran("list", "--state", "undrivable", "--json", "-j", path).splitlines()
    assert "field $.currency" in json.loads(line)["undrivable"]
    mediator.close()


def test_stats_count_the_undrivable_ones(path, drive):
    """In the JSON, and in a line that names the command that lists them; while nobody is alive there are none."""
    (path.parent / "undrivable_app.py").write_text("from tests.test_undrivable import waits\nsaga = waits()\n")
    sys.path.insert(0, str(path.parent))
    try:
        assert '"undrivable":0' in ran("stats", "undrivable_app:saga", "-j", path)
        mediator = drive(changed_saga(), journal=path)
        mediator.executions()
        said = ran("stats", "undrivable_app:saga", "-j", path)
        assert '"undrivable":1' in said
        assert "1 undrivable: no living driver can drive them; see fsm-mediator list " in said
        assert "--state undrivable" in said
        mediator.close()
    finally:
        sys.path.remove(str(path.parent))


def test_abandon_on_the_command_line(path):
    """The reason is asked for, and journaled."""
    assert "--reason" in ran("abandon", "x", "-j", path, code=2)
    said = ran("abandon", "x", "--reason", "the customer is gone", "-j", path)
    assert "execution 'x' is given up; nothing was undone" in said
    assert "is given up by a person; nothing is undone" in ran("show", "x", "-j", path)
    assert "has ended" in ran("abandon", "x", "--reason", "again", "-j", path, code=4)


def test_compare_decodes_what_is_in_flight(path):
    """The next deploy has the same shape, and a type that cannot read what is in the journal: it is named before."""
    assert "no execution in flight" in ran("compare", f"{__name__}:SAGAS", f"{__name__}:SAGAS", "-j", path)
    said = ran("compare", f"{__name__}:SAGAS", f"{__name__}:PRICED", "-j", path, code=1)
    assert "execution 'x' cannot be decoded (type PricedOrder, field $.currency)" in said
    found = json.loads(ran("compare", f"{__name__}:SAGAS", f"{__name__}:PRICED", "-j", path, "--json", code=1))
    assert found["undecoded"][0]["saga_id"] == "x"
    ran("export-shape", f"{__name__}:PRICED", "-o", "shapes.json")
    ran("compare", f"{__name__}:SAGAS", "shapes.json", "-j", path)  # a file of shapes has no types


def test_a_fault_has_the_path_of_the_field():
    """As msgspec says it, also inside; and without a path where it says none."""
    inner = MediatorError("outer")
    inner.__cause__ = ValueError("Object missing required field `price` - at `$.items[0]`")
    assert Fault.of(inner) == Fault("", "$.items[0].price", "outer")
    assert Fault.of(MediatorError("just so")) == Fault("", "$", "just so")
