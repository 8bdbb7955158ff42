"""Branches that are only planned: `verify` lets them end where, and as, a real mediator ends them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from fsm_mediator import (
    InboxItem,
    Mediator,
    MemoryJournal,
    OutcomeUnknownError,
    Parallel,
    Retry,
    Saga,
    StepRejectedError,
    step,
    verify,
)
from fsm_mediator.definition.waits import EACH
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.rules import NOT_BEGUN
from fsm_mediator.journal.protocol import Commit
from fsm_mediator.mediator import commits
from fsm_mediator.states import WAITING
from fsm_mediator.verifier.branches import GOING_ON, Status, status_of
from fsm_mediator.verifier.state_space import StateSpace
from tests.drivers import Clock

ONCE = Retry(attempts=1)
Situation = tuple[str, tuple[str, ...]]


def each(ends: str = Status.SUCCEEDED, **settings: Any) -> Saga:
    """A group over two items; *ends*: how the first branch ends."""

    def refuse() -> None:
        if ends == Status.FAILED:
            raise StepRejectedError("no")
        if ends == Status.STUCK_UNDOING:
            raise OutcomeUnknownError("it may have had its effect")

    def made(name: str, does: Callable[[], None] = lambda: None) -> Any:
        one = step(name=name, retry=ONCE, compensation_retry=ONCE)(lambda payload: does())

        @one.compensation
        def undo(payload: Any) -> None:
            if name == "i" and ends == Status.STUCK_UNDOING:
                raise OSError("it cannot be undone")

        return one

    group = Parallel.each("e", made("i", refuse), over=lambda payload: [1, 2], **settings)
    return Saga("each", [made("a"), group, made("z")])


class Told(MemoryJournal):
    """A journal that calls *then* after the commit with this many branches created, and keeps every situation."""

    def __init__(self, saga: Saga, born: int, then: Callable[[], object]) -> None:
        super().__init__(encode=True)
        self.saga = saga
        self.situations: list[Situation] = []
        self._plans = itertools.count()
        self._born, self._then = born, then

    def write(self, commit: Commit) -> Any:
        """As `Journal.write`."""
        written = super().write(commit)
        if commit.saga_id == "o-1":
            if commit.plan is not None and next(self._plans) == self._born:
                self._then()
                written = self.inbox("o-1")
            self.situations.append((self.entry("o-1").state, tuple(self._statuses())))
        return written

    def entry(self, saga_id: str) -> Any:
        """The entry of an execution that exists."""
        return self.find(saga_id)

    def _statuses(self) -> Iterator[str]:
        planned = self.planned("o-1")
        for number in range(2):
            entry = self.find(f"o-1/e.{number}")
            if entry is not None:
                saga = self.saga.branches["e"][EACH]
                records = [msgspec.structs.replace(record, value=None) for record in self.records(entry.saga_id)]
                yield in_short(status_of(Execution.fold(saga, entry.acceptance, records)))
            elif planned is not None:
                yield NOT_BEGUN if planned.ended is not None else in_short(Status.RUNNING)


def in_short(status: str) -> str:
    """The status; of branches under way it does not matter in which direction they go."""
    return "going on" if status in GOING_ON else status


def as_walked(saga: Saga) -> set[Situation]:
    """Where the verifier finds that the saga can stand, and how its branches then do."""
    walk = StateSpace(saga, strict=False, most_nodes=100_000, once=False)
    walk.explore()
    group = walk.possible.index["e"]
    return {(at.execution.state, tuple(map(in_short, ledger.branches[group]))) for at, ledger in walk.nodes}


def as_run(born: int, trouble: str, ends: str) -> list[Situation]:
    """The situations of a run in which *trouble* comes once so many branches are created; the first then *ends* so."""
    clock = Clock()
    saga = each(ends)

    def then() -> None:
        if born:
            with contextlib.closing(Mediator(saga, journal=journal, clock=clock)) as other:
                other.wait("o-1/e.0", check=False)
        if trouble == "cancel":
            journal.post("o-1", InboxItem("cancel", at=1.0))
        elif trouble == "deadline":
            clock.sleep(100.0)

    journal = Told(saga, born, then)
    with contextlib.closing(Mediator(saga, journal=journal, clock=clock)) as mediator:
        mediator.run("each", saga_id="o-1", deadline=50.0, check=False)
    return journal.situations


RUNS = [
    (0, "cancel", Status.SUCCEEDED),
    (0, "deadline", Status.SUCCEEDED),
    *itertools.product([1], ["cancel", "deadline"], [Status.SUCCEEDED, Status.FAILED, Status.STUCK_UNDOING]),
    *itertools.product([1], ["a branch failed"], [Status.FAILED, Status.STUCK_UNDOING]),
]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of more than one branch is a large one."""
    monkeypatch.setattr(commits, "CREATED_AT_ONCE", 1)


@pytest.fixture(scope="module")
def walked() -> set[Situation]:
    """What the verifier walks."""
    return as_walked(each())


@pytest.mark.parametrize(("born", "trouble", "ends"), RUNS)
def test_what_ends_without_having_begun_is_walked(born, trouble, ends, walked):
    """A cancel, the deadline and a failed branch end what is planned: `verify` knows each situation on the way."""
    run = as_run(born, trouble, ends)

    assert (f"{WAITING}.e", (ends,) * born + (NOT_BEGUN,) * (2 - born)) in run
    assert [situation for situation in run if situation[1] and situation not in walked] == []


def test_what_is_walked_without_having_begun_happens(walked):
    """Each way for a group to stand before it is given up, with branches that have not begun, is one of a mediator.

    A branch stuck on the way forward before the pivot takes drivers that die in it again and again: it is left out.
    """
    waiting = {situation for situation in walked if situation[0] == f"{WAITING}.e" and NOT_BEGUN in situation[1]}
    settled = {each for each in waiting if "going on" not in each[1] and Status.STUCK not in each[1]}
    runs = {situation for run in RUNS for situation in as_run(*run)}

    assert settled <= runs


def test_nothing_has_to_have_begun_for_every_law_to_hold():
    """With branches that end unbegun every law holds, whether the group fails fast or settles."""
    fast, settles = (verify(each(on_failure=on_failure)) for on_failure in ("cancel", "settle"))

    assert fast.ok
    assert settles.ok
    assert fast.nodes == settles.nodes


def test_group_after_the_pivot_has_every_branch_begin():
    """What only goes forward has no branch that has not begun, and neither has a group of one."""
    one = step(name="i", retry=ONCE)(lambda payload: None)
    pivot = step(name="go", pivot=True)(lambda payload: None)
    group = Parallel.each("e", one, over=lambda payload: [1, 2])

    assert not any(NOT_BEGUN in statuses for _, statuses in as_walked(Saga("onward", [pivot, group])))
    assert (f"{WAITING}.e", (NOT_BEGUN,)) not in as_walked(each())
