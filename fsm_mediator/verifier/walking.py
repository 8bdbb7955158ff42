"""verify: walks the very machine, through the very `feed`, that run; over every outcome of every attempt.

The walk goes breadth first over *nodes*: where an execution stands, and a ghost ledger that knows what really took
effect. From each it tries everything that can happen there (`moves`), and has the laws judge each move. What an
execution makes of something said to it does not depend on the ledger; so that is found out once for each *stand* (an
execution, as far as its future depends on it), and the ledger is followed through what was found. Each time the records
are also replayed into a second execution, which must equal the first: so every node is one that recovery can find.

Source: explicit-state model checking as in Holzmann, "The SPIN Model Checker", 2003.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final, NamedTuple

from fsm_mediator.errors import MediatorError, RefusedError
from fsm_mediator.execution import Execution
from fsm_mediator.machine import (
    COMPENSATING,
    ENDED,
    FAILED,
    PENDING,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_EXECUTING,
)
from fsm_mediator.moves import DIES, DUE, Ghost, Move, Moves, copied
from fsm_mediator.records import Acceptance, Record
from fsm_mediator.saga import Saga
from fsm_mediator.verifier.graph import Graph
from fsm_mediator.verifier.laws import Laws, Passage
from fsm_mediator.verifier.report import Report
from fsm_mediator.verifier.violation import Violation

UNLIMITED_ATTEMPTS: Final = 2
"""Up to which attempt a policy without limit is told apart: one more behaves like the one before."""

BACKWARD: Final = frozenset({COMPENSATING, RETRYING_COMPENSATION, FAILED})
"""The phases in which it no longer matters what has answered, but for what will be among the leftovers."""


def verify(saga: Saga, *, strict: bool = False, most_nodes: int = 1_000_000) -> Report:
    """Check every failure path of *saga*, as it really runs, against the five laws.

    Args:
        saga: The saga; no step of it is called.
        strict: Take steps also to raise after an effect without saying so (which is against the rules), to find those
            that should have said it.
        most_nodes: When to give up, so that a check cannot run for ever; the report says so.

    Returns:
        The report. Broken laws are in it; `Report.raise_for_violations` raises for them.
    """
    return _Walk(saga, strict=strict, most_nodes=most_nodes).report()


class _Led(NamedTuple):
    """What something said to an execution led to."""

    stand: _Stand
    passage: Passage
    endless: bool
    differs: str | None


class _Stand:
    """Where an execution can stand, whatever is in the ledger; and what it made of what was said to it."""

    __slots__ = ("backward", "execution", "led", "number")

    def __init__(self, execution: Execution, number: int) -> None:
        execution.history = []  # no judgement reads it, and kept in every stand it would grow with each path
        self.execution = execution
        self.number = number
        self.backward = execution.phase in BACKWARD
        self.led: dict[str, _Led | str] = {}


class _Walk:
    def __init__(self, saga: Saga, *, strict: bool, most_nodes: int) -> None:
        self.saga = saga
        self.strict = strict
        self.most_nodes = most_nodes
        self.possible = Moves(saga, strict=strict)
        self.laws = Laws(saga)
        self.stands: dict[Any, _Stand] = {}
        self.states = {PENDING}
        self.taken: set[tuple[str, str]] = set()
        self.graph = Graph()
        self.numbers: dict[Any, int] = {}
        self.nodes: list[tuple[_Stand, Ghost]] = []
        self.came: list[tuple[int, str]] = []  # from which node, by what; of all nodes but the first
        self.crashed = bytearray()
        self.moves = 0
        self.complete = True
        self.found: dict[int, tuple[str, int, tuple[str, ...]]] = {}  # law: what, from which node, by what

    def report(self) -> Report:
        started = time.perf_counter()
        self.explore()
        self.judge_the_whole()
        violations = tuple(self.violation(law) for law in sorted(self.found))
        machine = self.saga.machine
        bounds = f"policies without limit are told apart up to attempt {UNLIMITED_ATTEMPTS}"
        if not self.complete:
            bounds += f"; GIVEN UP after {self.most_nodes:,} situations, so that nothing is proved about the rest"
        return Report(
            saga=self.saga.name,
            version=self.saga.version,
            fingerprint=self.saga.fingerprint,
            nodes=len(self.nodes),
            moves=self.moves,
            paths=self.graph.ways(),
            states=tuple(sorted(self.states)),
            unreached=tuple(sorted(machine.states.keys() - self.states)),
            transitions=len(self.taken),
            all_transitions=sum(1 for _ in machine.moves()),
            violations=violations,
            overtaking=tuple(part.path for part in self.saga.parts if part.overtake),
            bounds=bounds,
            complete=self.complete,
            strict=self.strict,
            seconds=time.perf_counter() - started,
        )

    # Walking

    def explore(self) -> None:
        """Breadth first, so that the first way to anything is a shortest one."""
        queue: deque[int] = deque()
        self.node(self.stand(begun(self.saga)), self.possible.nothing, -1, "", queue, crash=False)
        while queue:
            if len(self.nodes) > self.most_nodes:
                self.complete = False
                return
            number = queue.popleft()
            stand, ghost = self.nodes[number]
            for move in self.possible.at(stand.execution, ghost):
                self.follow(number, stand, ghost, move, queue)

    def follow(self, number: int, stand: _Stand, ghost: Ghost, move: Move, queue: deque[int]) -> None:
        """Make *move* from a node."""
        led = stand.led.get(move.said)
        if led is None:
            led = stand.led[move.said] = self.said(stand, move)
        crashed = bool(self.crashed[number]) or move.crash
        if isinstance(led, str):
            self.broken(1, f"{move.label!r} is refused: {led}", number, move.label, crashed=crashed)
            return
        self.moves += 1
        if led.differs is not None:
            self.broken(5, led.differs, number, move.label, DIES, crashed=crashed)
        for law, what in self.laws.broken_by(led.passage, ghost, move.ghost):
            self.broken(law, what, number, move.label, crashed=crashed)
        target = self.node(led.stand, move.ghost, number, move.label, queue, crash=crashed)
        self.graph.lead(number, target, cut=move.crash or move.again or led.endless)

    def node(self, stand: _Stand, ghost: Ghost, parent: int, label: str, queue: deque[int], *, crash: bool) -> int:
        """The node of a stand and a ledger; new ones are queued."""
        # On the way back it no longer matters what is known.
        key = (stand.number, ghost.effects if stand.backward and ghost.undoing and ghost.running is None else ghost)
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = self.graph.add()
            self.nodes.append((stand, ghost))
            self.came.append((parent, label))
            self.crashed.append(crash)
            queue.append(number)
        return number

    def said(self, stand: _Stand, move: Move) -> _Led | str:
        """What an execution that stands there makes of a move; why it refuses it, if it does."""
        execution = copied(stand.execution)
        try:
            records = made(execution, move, 0.0)
        except RefusedError as error:
            return str(error)
        for record in records:
            self.states.add(record.target)
            self.taken.add((record.event, record.source))
        differs = self.fold_differs(stand.execution, execution, move, records)
        return _Led(
            self.stand(execution), self.laws.passage(execution, records), self.is_without_limit(records), differs
        )

    def fold_differs(self, before: Execution, after: Execution, move: Move, records: tuple[Record, ...]) -> str | None:
        """Recovery must find what runs: what was recorded, replayed, is what is. What is wrong, if it is not."""
        folded = copied(before)
        if move.outside:
            move.act(folded, 0.0)
        for record in records:
            try:
                folded.replay(record)
            except MediatorError as error:
                return f"its records cannot be folded: {error}"
        if _essence(folded) == _essence(after):
            return None
        return f"folded from its records it is {_essence(folded)}, not {_essence(after)}"

    def is_without_limit(self, records: tuple[Record, ...]) -> bool:
        """Whether a policy without limit made one of these moves."""
        for record in records:
            if record.step is not None and record.event in ("retry_due", "compensation_due"):
                part = self.saga.parts[self.possible.index[record.step]]
                policy = part.retry if record.event == "retry_due" else part.compensation_retry
                if policy.attempts is None:
                    return True
        return False

    def stand(self, execution: Execution) -> _Stand:
        """The stand of an execution: the same for all that have the same future."""
        essence = _essence(execution, _told_apart(execution))
        if execution.phase in BACKWARD:
            essence = (*essence[:-2], execution.leftovers)
        stand = self.stands.get(essence)
        if stand is None:
            stand = self.stands[essence] = _Stand(execution, len(self.stands))
        return stand

    # What is found

    def judge_the_whole(self) -> None:
        """Law 1, on the whole graph: no node without a way on that is neither an end nor a park, and no bare cycle."""
        if self.complete:
            lost = self.graph.without_end(number for number, (stand, _) in enumerate(self.nodes) if _is_rest(stand))
            if lost is not None:
                state = self.nodes[lost][0].execution.state
                self.broken(1, f"no end can be reached from {state}", lost, crashed=bool(self.crashed[lost]))
        looping = self.graph.cycle()
        if looping is not None:
            state = self.nodes[looping][0].execution.state
            what = f"it can go round in {state} for ever, with nobody asking for it"
            self.broken(1, what, looping, crashed=bool(self.crashed[looping]))

    def broken(self, law: int, what: str, number: int, *labels: str, crashed: bool) -> None:
        """Remember the first, and so the nearest, way to break a law; one that needs a crash breaks law 5."""
        self.found.setdefault(5 if crashed else law, (what, number, labels))

    def violation(self, law: int) -> Violation:
        what, number, labels = self.found[law]
        way = list(labels[::-1])
        while number > 0:
            number, label = self.came[number]
            way.append(label)
        return violation_of(self.saga, law, what, way[::-1], strict=self.strict)


def begun(saga: Saga) -> Execution:
    """An execution that was accepted, and has not begun."""
    return Execution(saga, Acceptance("verified", saga.name, saga.version, saga.fingerprint, None, 0.0))


def made(execution: Execution, move: Move, at: float) -> tuple[Record, ...]:
    """Make *move*, and what follows of it with no effect in between; its records.

    Raises:
        RefusedError: The execution refuses it.
    """
    before = len(execution.history)
    move.act(execution, at)
    while execution.advance(at) is not None:
        pass
    return tuple(execution.history[before:])


def violation_of(saga: Saga, law: int, what: str, path: list[str], *, strict: bool) -> Violation:
    """The violation at the end of *path*, which is gone once more, so that its records tell of waits and attempts."""
    possible = Moves(saga, strict=strict)
    execution, ghost, at = begun(saga), possible.nothing, 0.0
    recorded: list[tuple[Record, ...]] = []
    for label in path:
        move = next((move for move in possible.at(execution, ghost) if move.label == label), None)
        if move is None:  # nothing is under way that a crash could interrupt
            break
        try:
            if move.said == DUE:
                at = max(at, execution.due_at or 0.0)
            recorded.append(made(execution, move, at))
        except RefusedError:
            recorded.append(())
        ghost = move.ghost
    effects = tuple(part.path for part, effect in zip(saga.parts, ghost.effects, strict=True) if effect)
    return Violation(
        law=law,
        what=what,
        saga=saga,
        path=tuple(path[: len(recorded)]),
        recorded=tuple(recorded),
        effects=effects,
        strict=strict,
    )


def _is_rest(stand: _Stand) -> bool:
    execution = stand.execution
    return execution.state in ENDED or execution.phase in (STUCK, STUCK_EXECUTING)


def _told_apart(execution: Execution) -> int:
    """The number of the attempt, as far as the future depends on it."""
    part = execution.machine.places[execution.state].part
    if part is None:
        return 0
    policy = part.compensation_retry if execution.phase in (COMPENSATING, RETRYING_COMPENSATION) else part.retry
    return min(execution.attempt, UNLIMITED_ATTEMPTS) if policy.attempts is None else execution.attempt


def _essence(execution: Execution, attempt: int | None = None) -> tuple[Any, ...]:
    """What an execution's future depends on."""
    return (
        execution.state,
        execution.attempt if attempt is None else attempt,
        execution.doubt,
        execution.due_at is not None,
        execution.deadline_at is not None and execution.cancellable,
        execution._cancel is not None,
        tuple(execution._answered),
        execution._doubtful,
    )
