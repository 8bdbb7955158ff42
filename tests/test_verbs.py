"""Operators do not have to drive: verbs in inboxes, judged by whoever drives, and answered."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import Any

import pytest

from fsm_mediator import (
    AlreadyDrivenError,
    JournalError,
    Mediator,
    RefusedError,
    Saga,
    Signal,
    Sleep,
    SQLiteJournal,
    StillRunningError,
    UnknownExecutionError,
    UnknownSagaError,
)
from fsm_mediator.journal.liveness import boot_id, pid_namespace
from fsm_mediator.journal.operators import for_operators, has_operators
from fsm_mediator.journal.protocol import Commit, Driver
from fsm_mediator.mediator.verbs import new_verb
from fsm_mediator.records import InboxItem, VerbAnswer
from tests.drivers import ONCE, World, eventually, in_thread


def stuck_saga(world: World, *, fails: int = 1) -> Saga:
    """A pivot, then a step that fails so many times before it works, and stays."""
    works = [OSError("no power")] * fails + ["on"]
    return Saga("s", [world.step("pay", pivot=True, undo=None), world.step("light", *works, retry=ONCE, undo=None)])


def get_stuck(drive: Any, journal: Any, saga: Saga) -> None:
    """Execution ``x`` of *saga* is stuck, and nothing is alive."""
    mediator = drive(saga, journal=journal)
    assert mediator.run(saga, saga_id="x", check=False).stuck
    mediator.close()


def succeed(drive: Any, journal: Any) -> Saga:
    """Execution ``x`` of a saga that can be undone has succeeded, and nothing is alive."""
    saga = Saga("s", [World().step("a")])
    mediator = drive(saga, journal=journal)
    mediator.run(saga, saga_id="x")
    mediator.close()
    return saga


def post(journal: Any, kind: str, reason: str, at: float = 1.0, value: Any = None) -> InboxItem:
    """Put a verb into the inbox of ``x``, as another process does."""
    verb = new_verb(kind, reason, value, at=at)
    assert journal.post("x", verb)
    return verb


def dead_driver() -> Driver:
    """A driver whose process has ended, as can be seen from here."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return Driver("dead", "", boot_id(), pid_namespace(), process.pid, "1")


def test_a_verb_is_judged_by_the_next_driver(drive, journal):
    """Nobody is alive when an operator says retry: the next driver carries it out, and journals the answer."""
    saga = stuck_saga(World())
    get_stuck(drive, journal, saga)
    verb = post(journal, "retry", "the power is back")
    (item,) = journal.inbox("x")

    (outcome,) = drive(saga, journal=journal).recover()

    assert outcome.succeeded
    retried = next(record for record in outcome.history if record.event == "retry")
    assert retried.reason == "the power is back"
    answer = journal.answer(verb.name)
    assert (answer.number, answer.seq, answer.refusal) == (item.number, retried.seq, None)
    assert journal.inbox("x") == ()


def test_a_resolve_brings_its_result(drive, journal):
    """What an operator says that a step returned is its result, whoever drives."""
    saga = stuck_saga(World(), fails=9)
    get_stuck(drive, journal, saga)
    post(journal, "resolve", "I lit it", value={"done": True, "result": "by hand"})

    (outcome,) = drive(saga, journal=journal).recover()

    assert outcome.results["light"] == "by hand"


def test_an_undo_reaches_what_has_succeeded(drive, journal):
    """An ended execution is claimed for an undo, and rests again afterwards."""
    saga = succeed(drive, journal)
    verb = post(journal, "undo", "ordered twice")
    assert journal.prune(1e12) == 0  # it is not over yet

    (outcome,) = drive(saga, journal=journal).recover()

    assert outcome.failed
    assert journal.answer(verb.name).seq == outcome.history[-1].seq - 1
    assert journal.claimable(1e12, 10) == []
    assert journal.prune(1e12) == 1


def test_a_refused_verb_leaves_the_execution_as_it_was(drive, journal):
    """A refusal is an answer in words, and nothing is left to be done."""
    saga = succeed(drive, journal)
    before = journal.records("x")
    verb = post(journal, "retry", "why not")

    drive(saga, journal=journal).recover()

    assert "from 'succeeded' there is only" in journal.answer(verb.name).refusal
    assert journal.records("x") == before
    assert journal.claimable(1e12, 10) == []
    assert journal.find("x").driver is None
    assert journal.prune(1e12) == 1


def test_of_two_equal_verbs_the_second_is_refused(drive, journal):
    """Two operators retry at once: the step is tried once, and the second one is told of the first."""
    world = World()
    saga = stuck_saga(world)
    get_stuck(drive, journal, saga)
    first, second = post(journal, "retry", "the power is back"), post(journal, "retry", "try now")

    (outcome,) = drive(saga, journal=journal).recover()

    assert outcome.succeeded
    assert [record.event for record in outcome.history].count("retry") == 1
    accepted = journal.answer(first.name)
    refusal = journal.answer(second.name).refusal
    assert f"it is record {accepted.seq} (the power is back)" in refusal
    assert world.calls == ["pay", "light", "light"]


def test_a_verb_of_the_caller_comes_after_those_in_the_inbox(drive, journal):
    """The caller is refused, for another operator was first; the execution goes on all the same."""
    saga = stuck_saga(World())
    get_stuck(drive, journal, saga)
    post(journal, "retry", "the power is back")
    mediator = drive(saga, journal=journal)

    with pytest.raises(RefusedError, match="the power is back"):
        mediator.retry("x", "me too")

    assert mediator.wait("x").succeeded


def test_a_second_retry_counts_once_it_is_stuck_again(drive, journal):
    """Only a verb that nothing is left to do for is refused."""
    saga = stuck_saga(World(), fails=2)
    get_stuck(drive, journal, saga)
    mediator = drive(saga, journal=journal)

    assert mediator.retry("x").stuck
    assert mediator.retry("x").succeeded


@pytest.mark.parametrize("verb", ["retry", "undo"])
def test_a_driver_that_dies_before_it_records_leaves_the_verb(tmp_path, drive, verb):
    """It had claimed the execution for the verb, and read it: the next driver carries it out."""
    journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    saga = stuck_saga(World())
    if verb == "retry":
        get_stuck(drive, journal, saga)
    else:
        saga = succeed(drive, journal)
    said = post(journal, verb, "do it")
    journal.enlist(dead_driver())
    assert journal.claim("x", "dead") is not None

    (outcome,) = drive(saga, journal=journal).recover()

    assert outcome.ended
    answer = journal.answer(said.name)
    assert answer is not None
    assert answer.seq is not None


def test_a_mediator_waits_for_the_driver_that_knows_the_definition(drive, journal):
    """The definition is not registered here: a living driver judges and drives, and the outcome comes back."""
    saga = stuck_saga(World())
    get_stuck(drive, journal, saga)
    knows, asked = drive(saga, journal=journal), drive(Saga("t", [World().step("b")]), journal=journal)
    knows.executions()
    done = threading.Event()

    def serve() -> None:
        while not done.wait(0.01):
            knows.recover()

    serving = in_thread(serve)
    outcome = asked.retry("x", "the power is back")
    done.set()
    serving()

    assert outcome.succeeded
    assert outcome.results == {"pay": "pay done", "light": "on"}
    assert outcome.saga.name == "s"


def test_a_definition_that_no_driver_knows_is_said_at_once(drive, journal):
    """Nobody could ever answer: nothing is posted, and nothing is waited for."""
    get_stuck(drive, journal, stuck_saga(World()))
    asked = drive(Saga("t", [World().step("b")]), journal=journal)

    with pytest.raises(UnknownSagaError):
        asked.retry("x")

    assert journal.inbox("x") == ()


def test_a_saga_that_is_registered_later_is_known(drive, journal):
    """A driver enlists again with what it knows now."""
    mediator, saga = drive(Saga("t", [World().step("b")]), journal=journal), stuck_saga(World())
    mediator.executions()
    assert saga.fingerprint not in journal.known()

    mediator.register(saga)
    mediator.executions()

    assert saga.fingerprint in journal.known()
    mediator.close()
    assert journal.known() == frozenset()


def test_no_answer_in_time_is_said_and_the_verb_stays(drive, journal):
    """The driver is in a long attempt: the operator is told, and the verb counts when the driver reads it."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate()), world.step("b")])
    mediator = drive(saga, journal=journal)
    mediator.start("s", saga_id="x")
    world.begun()

    with pytest.raises(StillRunningError, match="no answer to 'undo'"):
        drive(saga, journal=journal).undo("x", timeout=0.0)

    (verb,) = journal.inbox("x")
    world.go()
    assert mediator.wait("x").succeeded
    assert "executing.b" in journal.answer(verb.name).refusal


def test_a_step_cannot_command_its_own_execution(journal):
    """It would wait for itself; it is refused at once."""
    world = World()
    said: list[bool] = []

    def asks(*_: Any) -> None:
        with pytest.raises(RefusedError, match="its own execution"):
            mediator.retry("x")
        said.append(True)

    with Mediator(Saga("s", [world.step("a", asks)]), journal=journal) as mediator:
        mediator.run("s", saga_id="x")
    assert said


def test_a_pruned_execution_takes_no_verb(drive, journal):
    """It was deleted just before: the operator is told, and waits for nothing."""
    saga = succeed(drive, journal)
    journal.prune(1e12)
    with pytest.raises(UnknownExecutionError, match="its history is forgotten"):
        drive(saga, journal=journal).undo("x")
    assert not journal.post("x", new_verb("undo", None, at=1.0))


def test_it_is_pruned_while_an_answer_is_waited_for(drive, journal, monkeypatch):
    """Whoever waits for an answer hears that the execution is gone."""
    saga = succeed(drive, journal)
    monkeypatch.setattr(journal, "claim", lambda *_: None)  # it is always held elsewhere
    monkeypatch.setattr(journal, "post", lambda *_: bool(journal.prune(1e12)))
    with pytest.raises(UnknownExecutionError, match="its history is forgotten"):
        drive(saga, journal=journal).undo("x")


def test_what_has_failed_takes_no_verb(drive, journal):
    """There is nothing to say to an execution that has failed."""
    saga = Saga("s", [World().step("a", OSError(), retry=ONCE)])
    mediator = drive(saga, journal=journal)
    mediator.run(saga, saga_id="x", check=False)

    assert not journal.post("x", new_verb("undo", None, at=1.0))
    with pytest.raises(RefusedError, match="'failed'"):
        mediator.undo("x")


def test_a_verb_that_is_posted_again_is_one(drive, journal):
    """The answer to a post was lost, and it is repeated: the verb is in the inbox once, and then answered once."""
    saga = stuck_saga(World())
    get_stuck(drive, journal, saga)
    verb = post(journal, "retry", "once")
    assert journal.post("x", verb)
    assert len(journal.inbox("x")) == 1
    drive(saga, journal=journal).recover()

    assert journal.post("x", verb)
    assert journal.inbox("x") == ()


def test_an_answer_is_kept_until_it_is_read_or_for_a_day(drive, journal):
    """An operator who comes back within a day finds it; whoever has read it forgets it."""
    mediator = drive(Saga("s", [Signal("go")]), journal=journal)
    mediator.run("s", saga_id="x", check=False)
    mediator.close()
    journal.enlist(Driver("d"))
    entry = journal.claim("x", "d")

    def answer(name: str, at: float) -> None:
        journal.write(Commit("x", (), "d", entry.epoch, answers=(VerbAnswer(int(at), name, 1, None, at),)))

    answer("old", 1.0)
    answer("read", 2.0)
    journal.forget_answer("read")
    journal.forget_answer("read")
    answer("new", 86_000.0)
    assert (journal.answer("old"), journal.answer("read")) == (VerbAnswer(1, "old", 1, None, 1.0), None)
    answer("newest", 86_402.0)
    assert journal.answer("old") is None
    assert journal.answer("new") is not None


class Older:
    """A journal of a third party that knows no verbs."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name in ("answer", "forget_answer", "known", "shape"):
            raise AttributeError(name)
        return getattr(self._inner, name)


def test_a_journal_without_verbs_works_as_before(drive, journal):
    """Verbs reach what nothing drives; what is driven refuses them at once, and names its driver."""
    older, world = Older(journal), World()
    saga = Saga("s", [world.step("a", world.gate(), pivot=True, undo=None), *stuck_saga(world).contents[1:]])
    mediator, other = drive(saga, journal=older), drive(saga, journal=older)
    result = in_thread(mediator.run, "s", saga_id="x", check=False)
    world.begun()
    for asked in (mediator, other):
        with pytest.raises(AlreadyDrivenError, match="is being driven by"):
            asked.retry("x")
    world.go()
    assert result().stuck

    assert other.retry("x").succeeded
    assert not has_operators(older)
    with pytest.raises(JournalError, match="Older takes no verbs for other drivers"):
        for_operators(older)


def test_a_driver_with_an_abandoned_attempt_refuses_at_its_heartbeat(drive, tmp_path):
    """Another process owns the execution for a thread that cannot be ended: it refuses, and names itself."""
    journal: Any = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    world = World()
    hangs = world.step("a", world.gate(), timeout=0.3, grace=0.0, pivot=True, undo=None)
    mediator = drive(Saga("s", [hangs]), journal=journal)
    assert mediator.run("s", saga_id="x", check=False).stuck
    verb = post(journal, "retry", "now")  # nothing in this process is told

    answer = eventually(lambda: journal.answer(verb.name))

    assert "thread is still running" in answer.refusal
    assert str(journal.find("x").driver) in answer.refusal
    world.go()
    eventually(lambda: journal.find("x").driver is None)
    assert mediator.retry("x").succeeded


def test_a_repaired_row_calls_a_driver_for_the_verb_in_its_inbox(tmp_path, drive):
    """A row that says it has ended is derived anew: what an operator has said to it is carried out."""
    journal: Any = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    saga = succeed(drive, journal)
    post(journal, "undo", "ordered twice")
    assert journal.check() == []
    with closing(sqlite3.connect(tmp_path / "sagas.db")) as connection, connection:
        connection.execute(
            "UPDATE executions SET attention = NULL, ended_at = (SELECT max(at) FROM records WHERE seq > 0)"
        )
    connection.close()
    assert journal.repairable() == ["x"]

    journal.repair("x")

    assert journal.check() == []
    (outcome,) = drive(saga, journal=journal).recover()
    assert outcome.failed


def test_what_waits_has_nothing_to_settle(drive, journal):
    """A person who wants to answer a signal is told how. Another wait is not taken for a signal."""
    sagas = (Saga("signal", [Signal("ok", timeout=1e6)]), Saga("sleep", [Sleep("nap", 1e6)]))
    mediator = drive(*sagas, journal=journal, park_after=0.0)
    for saga in sagas:
        mediator.start(saga, saga_id=saga.name)
    eventually(lambda: [journal.find(saga.name).driver for saga in sagas] == [None, None])

    with pytest.raises(RefusedError, match=r"nothing to settle\. It waits for the signal 'ok': mediator.signal, or "):
        mediator.resolve("signal", reason="seen")
    with pytest.raises(RefusedError, match=r"is in 'waiting\.nap': there is nothing to settle$"):
        mediator.resolve("sleep", reason="seen")


def test_a_verb_that_nobody_can_obey_is_not_posted(drive, journal):
    """Another mediator drives the execution. A verb that contradicts itself is refused here, and not sent to it."""
    world = World()
    saga = Saga("s", [world.step("a", world.gate())])
    drives, asks = drive(saga, journal=journal), drive(saga, journal=journal)
    drives.start(saga, saga_id="x")
    world.begun()

    with pytest.raises(RefusedError, match="only a step that is done has a result"):
        asks.resolve("x", reason="seen", done=False, result=5, timeout=0.0)

    assert not journal.inbox("x")
    world.go()
    assert drives.wait("x").succeeded


def test_a_verb_counts_also_after_another_item(drive, journal):
    """An abandoned attempt has answered late, then an operator says retry: the next driver carries it out."""
    saga = stuck_saga(World())
    get_stuck(drive, journal, saga)
    assert journal.post("x", InboxItem("late", "light", None, "the abandoned attempt raised OSError", 1.0))
    post(journal, "retry", "the power is back")

    (outcome,) = drive(saga, journal=journal).recover()

    assert outcome.succeeded
