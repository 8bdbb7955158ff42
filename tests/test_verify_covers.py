"""Whatever a real run comes to, `verify` has walked: random sagas, both mediators, memory and SQLite.

Here the runs come first. At each commit the driver's execution, with what it has received, is abstracted as the
verifier abstracts its own, and so is the fold of what the journal then holds. Either must be among the situations that
`verify` walks for that saga, and the fold must be what the driver has. The other direction is in
`test_counterexamples` and `test_group_counterexamples`: each situation of the verifier is reached by a real mediator.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, assume, given, settings

from fsm_mediator import MemoryJournal, Saga, SQLiteJournal
from fsm_mediator.definition.waits import EACH
from fsm_mediator.execution.execution import Execution
from fsm_mediator.verifier import Report, equal_branches
from fsm_mediator.verifier.abstract_states import _state_key
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.laws import Laws
from fsm_mediator.verifier.state_space import StateSpace
from tests.drivers import MortalRuntime, core_of
from tests.player.law_monitor import _plain
from tests.test_family_laws import Leaf, Ledger, Tree, carried_out, part_of, trees

pytestmark = pytest.mark.once

MOST = 1500
"""The most situations of the sagas that are tried: larger ones take the time of many small ones."""


def situation(execution: Execution, *, is_back: bool) -> tuple[Any, ...]:
    """The situation of an execution, as far as its future depends on it.

    On the way back it does not matter what is known. The verifier has one word for all that a branch leaves over.
    """
    left = sorted(path for path, every in (execution.branch_leftovers or {}).items() if every)
    known = (bool(execution.leftovers),) if is_back else (tuple(execution.answered), execution.doubtful)
    return (
        *(execution.state, _state_key(execution), execution.doubt, execution.due_at is not None),
        *(execution.cancelled, tuple(sorted(execution.signals or ()))),
        *(str(sorted((execution.plans or {}).items())), str(left)),
        *known,
    )


def durable(execution: Execution) -> tuple[Any, ...]:
    """All of an execution that a fold of its records has to bring back."""
    return (
        *(execution.state, execution.attempt, execution.doubt, execution.due_at, execution.seq),
        *(list(execution.answered), execution.compensated, execution.leftovers, execution.plans),
        *(execution.failure is None, execution.trouble is None),
    )


class Walked:
    """The situations that `verify` walks for a saga and its branches."""

    def __init__(self, saga: Saga) -> None:
        with pytest.MonkeyPatch.context() as patches:
            patches.setattr(equal_branches, "EQUAL", 1000)  # a run has them all
            self.search = StateSpace(saga, strict=False, most_nodes=MOST)
        self.report = self.search.report()
        self.known: dict[str, tuple[dict[str, bool], set[tuple[Any, ...]]]] = {}

    def has(self, execution: Execution) -> bool:
        """Whether the situation of *execution*, of the saga or of a branch, was walked."""
        search = self.search
        for place in execution.saga_id.split("/")[1:]:
            group, _, name = place.rpartition(".")
            search = search.branches[group].get(name) or search.branches[group][EACH]
        if search.saga.name not in self.known:
            positions = [position for position, _ in search.nodes]
            sides = {position.execution.state: position.backward for position in positions}
            every = {situation(each.execution, is_back=each.backward) for each in positions}
            self.known[search.saga.name] = sides, every
        sides, every = self.known[search.saga.name]
        return situation(execution, is_back=sides.get(execution.state, False)) in every


class Watching(MortalRuntime):
    """A runtime that notes the situation of an execution at each of its commits."""

    def __init__(self, inner: Any, watch: Watch) -> None:
        super().__init__(inner)
        self._watch = watch
        self._write = inner.write

    async def write(self, commit: Any) -> Any:
        """As `Runtime.write`."""
        self._watch.note(commit.saga_id)
        mail = await self._write(commit)
        self._watch.note(commit.saga_id)
        self._watch.fold(commit.saga_id)
        return mail


@attrs.define
class Watch:
    """What a run came to, beside what was walked."""

    walked: Walked
    saga: Saga
    journal: Any = None
    mediator: Any = None
    commits: int = 0
    folds: int = 0
    unknown: list[str] = attrs.field(factory=list)
    lock: Any = attrs.field(factory=threading.Lock)

    def note(self, saga_id: str) -> None:
        """A commit of that execution is written, or has been."""
        active = core_of(self.mediator).owned.active.get(saga_id)
        if active is not None:
            self.judge(active.execution, "in memory")

    def judge(self, execution: Execution, where: str) -> None:
        """Hold a situation against those that were walked."""
        with self.lock:
            self.commits += 1
            if not self.walked.has(execution):
                self.unknown.append(f"{where}: {execution.saga_id} {situation(execution, is_back=False)}")

    def fold(self, saga_id: str) -> None:
        """A commit is written: what it has left in the journal is a situation from which the next driver goes on.

        It is the situation of this driver as well, but for what waits in the inbox.
        """
        entry = self.journal.find(saga_id)
        own = self.saga
        for place in saga_id.split("/")[1:]:
            group, _, name = place.rpartition(".")
            own = own.branches[group].get(name) or own.branches[group][EACH]
        folded = Execution.fold(own, entry.acceptance, map(_plain, self.journal.records(saga_id)))
        self.judge(folded, "in the journal")
        active = core_of(self.mediator).owned.active.get(saga_id)
        if active is not None and active.execution.seq == folded.seq:
            self.compare(folded, active.execution)

    def compare(self, folded: Execution, ran: Execution) -> None:
        """Hold a fold against the driver's own execution."""
        with self.lock:
            self.folds += 1
            if durable(folded) != durable(ran):
                self.unknown.append(f"{ran.saga_id} is folded as {durable(folded)}, and was {durable(ran)}")


def few_items(tree: Any) -> Any:
    """The tree, with no more items than `verify` walks."""
    if not isinstance(tree, Tree):
        return tree
    number = min(tree.number, 2) if tree.kind == "each" else tree.number
    return Tree(tree.kind, tree.name, [few_items(each) for each in tree.inside], number)


def is_complete(report: Report) -> bool:
    """Whether a saga and its branches, at every depth, are small enough."""
    return report.complete and all(map(is_complete, report.branches))


def watched(drive: Any, keeps: str, tree: Tree, cancel_at: int | None) -> Watch:
    """Run a saga of this plan, if it is small enough, and hold what it comes to against what is walked."""
    ledger = Ledger(cancel_at)
    saga = part_of(tree, ledger)
    watch = Watch(Walked(saga), saga)
    if not is_complete(watch.walked.report):
        return watch
    watch.walked.report.raise_for_violations()
    with tempfile.TemporaryDirectory() as folder:
        journal: Any = MemoryJournal(encode=True)
        if keeps == "sqlite":
            journal = SQLiteJournal(Path(folder) / "sagas.db", durability="normal")
        watch.journal = journal
        runtime: Any = lambda inner: Watching(inner, watch)  # noqa: E731
        watch.mediator = mediator = drive(saga, journal=journal, max_workers=3, _runtime=runtime)
        try:
            carried_out(saga, ledger, mediator, journal)
        finally:
            mediator.close()
            journal.close()
    return watch


def search(drive: Any, keeps: str, examples: int) -> None:
    """Try so many trees."""
    logging.getLogger("fsm_mediator").setLevel(logging.CRITICAL)

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(trees())
    def holds(planned: tuple[Tree, int | None]) -> None:
        tree, cancel_at = planned
        watch = watched(drive, keeps, few_items(tree), cancel_at)
        assume(is_complete(watch.walked.report))
        assert watch.commits > 2
        assert watch.folds > 1
        assert watch.unknown == []

    try:
        holds()
    finally:
        logging.getLogger("fsm_mediator").setLevel(logging.NOTSET)


@pytest.mark.parametrize("keeps", ["memory", "sqlite"])
def test_what_a_random_run_comes_to_is_walked(drive, keeps):
    """However sagas are put together, and whatever happens to them: `verify` knows each situation of the real run."""
    search(drive, keeps, 10 if keeps == "memory" else 5)


def test_a_branch_with_nothing_to_undo_is_undone_in_one_commit(drive):
    """A death between the verb and what follows from it at once would leave a situation that `verify` does not know."""
    none = Tree("each", "p1", [Leaf("p2", ["returns"], ["returns"])], 0)
    steps = [Tree("each", "p0", [none], 2), Leaf("p3", ["rejects"], None)]

    watch = watched(drive, "memory", Tree("saga", "tree", steps), None)

    assert watch.commits > 2
    assert watch.unknown == []


def test_what_is_not_walked_is_noticed(drive, monkeypatch):
    """A `verify` to which no signal ever comes does not know a run to which one comes."""
    monkeypatch.setattr(Laws, "broken_by", lambda *_: iter(()))
    monkeypatch.setattr(ActionModel, "_others_can_say", lambda *_: iter(()))
    steps = [Leaf("p0", ["returns"], ["returns"]), Tree("signal", "p1", []), Leaf("p2", ["rejects"], None)]

    watch = watched(drive, "memory", Tree("saga", "tree", steps), None)

    assert any("in memory: root ('executing.p2'" in unknown for unknown in watch.unknown)


@pytest.mark.torture
@pytest.mark.parametrize("keeps", ["memory", "sqlite"])
def test_what_many_random_runs_come_to_is_walked(drive, keeps, torture_seconds):
    """As above, for as long as there is time."""
    until = time.monotonic() + torture_seconds / 4
    while time.monotonic() < until:
        search(drive, keeps, 20)
