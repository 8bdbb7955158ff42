"""check_saga on sagas that wait: signals, sleeps, groups and choices; faults strike branches as they strike steps."""

from __future__ import annotations

from typing import Any

import pytest

from fsm_mediator import Choose, DefinitionError, Parallel, Retry, Saga, Signal, Sleep
from fsm_mediator.testing import SagaBrokenError, check_saga, plans
from tests.fake_services import ORDER, FakeService, Forgets, Put, RaisesWithoutExecute

PATIENT: dict[str, Any] = {"retry": Retry(attempts=2), "compensation_retry": Retry(attempts=2)}


def wide(branch=Put):
    """What makes a saga with a group anew, one of whose branches is a saga with a step as given."""

    def make():
        shelves = {name: FakeService() for name in ("first", "quick", "pack", "label", "last")}
        put = {name: (branch if name == "label" else Put)(shelf, name) for name, shelf in shelves.items()}
        group = Parallel("both", [put["quick"], Saga("deep", [put["pack"], put["label"]])])
        saga = Saga("wide", [put["first"], group, put["last"]], **PATIENT)
        return saga, lambda: {name: shelf.held for name, shelf in shelves.items()}

    return make


def names(saga):
    """The parts that faults can meet."""
    return list(dict.fromkeys(fault.part for plan in plans(saga) for fault in plan.faults))


def test_steps_of_branches_meet_every_fault():
    """A branch's steps are named after it, and whatever happens to them, the whole saga ends as it must."""
    assert names(wide()()[0]) == ["first", "both.quick", "both.deep.pack", "both.deep.label", "last"]
    some = [plan for plan in plans(wide()()[0]) if plan.id.startswith(("both.deep.label-", "undo_both.deep.label-"))]

    report = check_saga(wide(), ORDER, only=some)

    assert not report.broken
    assert report.missed == ()
    assert sum(case.outcome.failed for case in report.cases) > len(some) / 3
    assert {"checked/both.quick", "checked/both.deep"} == set(report.cases[0].branches)


@pytest.mark.torture
def test_every_fault_of_a_group_is_survived():
    """All of them, and those of the rest of the saga."""
    assert not check_saga(wide(), ORDER).broken


@pytest.mark.parametrize("bug", [Forgets, RaisesWithoutExecute])
def test_bug_in_a_branch_is_caught(bug):
    """A step of a branch that does not undo is caught, and the branch's timeline is told as well."""
    with pytest.raises(SagaBrokenError) as caught:
        check_saga(wide(bug), ORDER, only=["last-is_rejected", "both.deep.label-times_out_before_effect"])

    assert "timeline of checked/both.deep\n    0.000 s  the saga begins" in str(caught.value)
    assert "'label'" in str(caught.value) or "'both.deep.label'" in str(caught.value)


def test_coroutine_branches_survive():
    """Groups of coroutines are driven by `AsyncMediator`."""

    class Slow(Put):
        async def execute(self, order, context):
            return super().execute(order, context)

        async def compensate(self, order, context):
            super().compensate(order, context)

    some = ["both.deep.label-answer_lost_after_effect", "both.deep.label-crashes_after_effect_once", "last-is_rejected"]

    assert not check_saga(wide(Slow), ORDER, only=[*some, "undo_both.deep.label-crashes_after_effect_once"]).broken


def test_one_branch_for_each_item_meets_faults_as_one():
    """Of a group over items, all branches are named by a star."""

    class PutEach(Put):
        def execute(self, order, context):
            self.shelf.put(context.idempotency_key, order)

    def make():
        shelf = FakeService()
        group = Parallel.each("all", PutEach(shelf, "one"), over=lambda order: [order["amount"], 8])
        return Saga("many", [group, Put(shelf, "last")], **PATIENT), lambda: shelf.held

    assert names(make()[0]) == ["all.*", "last"]
    report = check_saga(make, ORDER, only=["all.*-is_rejected", "all.*-crashes_after_effect_once", "last-is_rejected"])

    assert not report.broken
    assert report.missed == ()
    assert [case.outcome.state for case in report.cases] == ["succeeded", "failed", "succeeded", "failed"]


def waiting():
    """A saga that waits for an approval and for two hours, then goes one of two ways."""
    shelves = {name: FakeService() for name in ("first", "left", "right")}
    put = {name: Put(shelf, name) for name, shelf in shelves.items()}
    ways = Choose("way", {"left": put["left"], "right": put["right"]}, by=lambda order: "left")
    parts: list[Any] = [put["first"], Signal("approval", timeout=3600.0), Sleep("nap", 7200.0), ways]
    return Saga("waiting", parts, **PATIENT), lambda: {name: shelf.held for name, shelf in shelves.items()}


def test_sleep_after_a_step_of_a_branch_survives_a_crash():
    """A driver dies when a branch has begun to sleep: the check lets the time pass, and the branch resumes."""

    def make():
        shelf = FakeService()
        branch = Saga("patient", [Put(shelf, "pack"), Sleep("rest", 3600.0)])
        return Saga("shop", [Choose("way", {"patient": branch}, by=lambda order: "patient")]), lambda: shelf.held

    report = check_saga(make, ORDER, only="way.patient.pack-crashes_after_record_once")

    assert [case.deaths for case in report.cases if case.deaths] == [1]
    assert all(case.outcome.succeeded for case in report.cases)


def test_signals_sleeps_and_choices_survive():
    """A signal's value is given, hours take no time, and of a choice the way that is gone meets the faults."""
    report = check_saga(waiting, ORDER, signals={"approval": True})

    assert not report.broken
    assert all(".right-" in case.id for case in report.missed)
    assert report.missed
    assert any("executed waiting.nap" in step for step in report.cases[0].path)


def test_signal_that_is_not_given_is_told():
    """A saga that waits for what the test does not give cannot be checked, and the error says what to pass."""
    with pytest.raises(DefinitionError, match=r"it waits in 'waiting\.approval' for what is not given: pass signals="):
        check_saga(waiting, ORDER)


@pytest.mark.parametrize("given", [{"aproval": True}, {"approval": True, "way.left": 1}, {5: True}])
def test_signal_that_nobody_waits_for_is_told(given):
    """A misspelt signal would be given to nobody: I am told which there are."""
    with pytest.raises(DefinitionError, match=r"'waiting' waits for no signal .*; it waits for approval"):
        check_saga(waiting, ORDER, signals=given)
    with pytest.raises(DefinitionError, match="signals is a dict, of names and values, not 5"):
        check_saga(waiting, ORDER, signals=5)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"waits for no signal 'ok'; it waits for none"):
        check_saga(wide(), ORDER, signals={"ok": True})


@pytest.mark.parametrize("name", ["ask.0.ok", "ask.1.ok", "yes", "way.yes", "way.yes.yes", "in.side"])
def test_signals_may_be_named_as_a_mediator_names_them(name):
    """One of a branch by its path, the only part of a branch by the branch's, one of an item by its number."""
    parts: list[Any] = [
        Parallel.each("ask", Saga("each", [Signal("ok")]), over=lambda order: [1, 2]),
        Choose("way", {"yes": Signal("yes")}, by=lambda order: "yes"),
        Saga("in", [Signal("side")]),
        Signal("yes"),
    ]
    given: dict[str, Any] = {"ask.0.ok": 1, "ask.1.ok": 1, "yes": 1, "way.yes": 1, "in.side": 1}
    shelf = FakeService()
    make = lambda: (Saga("many", [Put(shelf), *parts]), lambda: dict(shelf.held))  # noqa: E731

    report = check_saga(make, ORDER, signals={**given, name: 1}, only=[])

    assert report.cases[0].outcome.succeeded


def test_signal_of_a_branch_is_named_by_its_path():
    """A branch waits for a signal of its own."""

    def make():
        shelf = FakeService()
        group = Parallel("both", [Saga("ask", [Put(shelf, "a"), Signal("ok")]), Put(shelf, "b")])
        return Saga("asking", [group, Put(shelf, "last")], **PATIENT), lambda: shelf.held

    some = ["last-is_rejected", "both.ask.a-crashes_after_effect_once"]
    assert not check_saga(make, ORDER, signals={"both.ask.ok": 1}, only=some).broken
