"""Faults of what drives, which `verify` cannot see since it has no driver: each is put in place and found.

They once passed every test.
"""

from __future__ import annotations

from typing import Any

import pytest

from fsm_mediator import Mediator, Outcome, Parallel, Retry, Saga, Signal, StepRejectedError, step
from fsm_mediator.machine.parts import Kind
from fsm_mediator.mediator import branches
from fsm_mediator.mediator.active import UNREAD, ActiveExecution
from tests.drivers import eventually

ONCE = Retry(attempts=1)


@step
def mail(payload: Any) -> None:
    """Cannot be unsent."""


@step
def note(payload: Any) -> None:
    """Cannot be compensated."""


@step(retry=ONCE)
def refuses(payload: Any) -> None:
    """Fails."""
    raise StepRejectedError("no")


def left_over_by_a_group_in_a_branch() -> tuple[str, ...]:
    """The leftovers of a saga whose branch had a group of its own."""
    branch = Saga("branch", [note, Parallel("inner", [mail])])
    saga = Saga("outer", [Parallel("group", [branch]), refuses])
    return Mediator(saga).run(saga, {}, check=False).leftovers


def test_leftovers_of_a_group_in_a_branch_are_listed():
    """I read of every effect that stays, however deep the groups are nested."""
    assert left_over_by_a_group_in_a_branch() == ("group.branch.note", "group.branch.inner.mail.mail")


def test_leftovers_that_leave_out_groups_in_branches_are_found(monkeypatch):
    """The fault: a branch that succeeded names its own steps, and not those of its groups."""

    def steps_only(_store, execution):
        return (part.path for part in execution.saga.parts if part.kind is Kind.STEP)

    monkeypatch.setattr(branches, "_uncompensatable_steps", steps_only)

    assert left_over_by_a_group_in_a_branch() == ("group.branch.note",)


class TwoSignals:
    """A saga that is sent two signals long before it awaits them; its driver dies in between.

    Args:
        path: The file of its journal.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.steps = [self.sends("first"), self.sends("second"), step(name="looks")(lambda payload: None), self.dies()]
        self.saga = Saga("signals", [*self.steps, Signal("first"), Signal("second")])

    def sends(self, word: str) -> Any:
        """A step that sends a signal to its own execution."""
        return step(name=f"sends_{word}")(lambda payload: self.mediator.signal("s", word, 1))

    def dies(self) -> Any:
        """A step whose first attempt ends its driver."""

        def die(payload, context):
            if context.attempt == 1:
                raise KeyboardInterrupt

        return step(name="dies")(die)

    def recovered(self) -> tuple[list[str], list[Outcome]]:
        """The signals in the inbox after the death, and what a second mediator makes of it."""
        with Mediator(self.saga, journal=self.path) as self.mediator:
            with pytest.raises(KeyboardInterrupt):
                self.mediator.run(self.saga, {}, saga_id="s")
            kept = [item.name for item in self.mediator.journal.inbox("s")]
        with Mediator(self.saga, journal=self.path) as other:
            return kept, other.recover()


def test_signals_sent_early_outlive_their_driver(tmp_path):
    """Both stay in the inbox until they are used, though the inbox was looked at between them."""
    kept, outcomes = TwoSignals(f"{tmp_path}/sagas.db").recovered()

    assert kept == ["first", "second"]
    assert [outcome.state for outcome in outcomes] == ["succeeded"]


def test_signal_that_is_handed_on_at_each_look_is_found(tmp_path, monkeypatch):
    """The fault: what is in the inbox is handed to the execution again, and so taken for one that came twice."""
    right = ActiveExecution.receive

    def forgetful(self, items):
        every = list(items)
        known = set() if self.inbox is UNREAD else set(self.inbox.received)
        if self.inbox is not UNREAD:
            self.inbox.received.clear()
        right(self, every)
        return any(item.number not in known for item in every)

    monkeypatch.setattr(ActiveExecution, "receive", forgetful)
    kept, outcomes = TwoSignals(f"{tmp_path}/sagas.db").recovered()

    assert kept == ["second"]
    assert [outcome.state for outcome in outcomes] == ["waiting.first"]


def group_with_a_stuck_branch() -> Saga:
    """One branch succeeds; the other cannot be compensated."""

    def fails(payload):
        raise ValueError("no")

    one = step(name="quick", compensation_retry=ONCE)(lambda payload: None)
    one.compensation(lambda payload: None)
    cannot = step(name="cannot", compensation_retry=ONCE)(lambda payload: None)
    cannot.compensation(fails)
    return Saga("whole", [Parallel("group", [one, Saga("two", [cannot, step(name="fails", retry=ONCE)(fails)])])])


def test_group_started_in_the_background_hears_of_a_stuck_branch(tmp_path):
    """Nobody looks at it: the branch that gets stuck says so, and its parent undoes the others and is stuck too."""
    with Mediator(group_with_a_stuck_branch(), journal=f"{tmp_path}/sagas.db") as mediator:
        mediator.start("whole", {}, saga_id="s")

        eventually(lambda: mediator.outcome("s").state == "stuck.group")
        assert mediator.outcome("s/group.quick").state == "failed"
