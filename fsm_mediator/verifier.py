"""verify: walks the very machine, through the very `feed`, that run; over every outcome of every attempt.

The walk goes breadth first over *nodes*: an execution, as it would be folded from its records, and a ghost ledger that
knows what really took effect. From each node it tries everything that can happen there: the call returns, raises,
leaves doubt with and without an effect, times out, is abandoned, the driver dies; a cancel or the deadline comes; a
person says something. After each move the records are replayed into a second execution, which must equal the first:
so every node is one that recovery can find. Nodes with the same future (state, attempts, doubt, ledger) are one.

The laws (DESIGN, section 7):

1. from every node an end or a visible park can be reached, no policy's attempts are exceeded, and every cycle contains
   an operator's retry, a crash, or a `Retry` without limit;
2. ``failed`` leaves no effect of a compensatable step that was not compensated after it, newest first, or settled by a
   person; every other effect is among the leftovers;
3. ``succeeded`` has every effect and no compensation;
4. no attempt begins while another of its step is still running, no step executes after compensation began, and none
   whose answer is known executes again;
5. a crash at any point, and recovery, keep 1 to 4.

Source: explicit-state model checking as in Holzmann, "The SPIN Model Checker", 2003; the ledger is a history variable.
"""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Any, Final

import attrs

from fsm_mediator.errors import (
    MediatorError,
    RefusedError,
)
from fsm_mediator.execution import Execution
from fsm_mediator.machine import (
    COMPENSATING,
    ENDED,
    EXECUTING,
    FAILED,
    PENDING,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_EXECUTING,
    SUCCEEDED,
)
from fsm_mediator.moves import Ghost, Move, Moves, copied
from fsm_mediator.parts import COMPENSATE, EXECUTE
from fsm_mediator.records import (
    Acceptance,
    Record,
)
from fsm_mediator.saga import Saga

LAWS: Final = {
    1: "from everywhere an end or a visible park is reachable, within the attempts that the policies allow",
    2: "a failed saga leaves no effect uncompensated, newest first, but those in its leftovers",
    3: "a saga that succeeded has every effect, and no compensation",
    4: "no attempt overtakes another, none follows compensation, nothing known is done again",
    5: "a crash at any point, and recovery, keep the other laws",
}

UNLIMITED_ATTEMPTS: Final = 2
"""Up to which attempt a policy without limit is told apart: one more behaves like the one before."""


class VerificationError(MediatorError):
    """A law is broken. The message has the shortest way to it.

    Attributes:
        report: The whole report.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


@attrs.define(eq=False)
class Node:
    """An execution and a ledger, and the way that led here first."""

    execution: Execution
    ghost: Ghost
    parent: Node | None = None
    label: str = ""
    records: tuple[Record, ...] = ()
    crashed: bool = False
    onward: list[tuple[Node, bool]] = attrs.field(factory=list)

    def path(self) -> list[tuple[str, tuple[Record, ...]]]:
        """What happened on the way here, and what was recorded of it."""
        way = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            way.append((node.label, node.records))
            node = node.parent
        return way[::-1]


@attrs.frozen
class Violation:
    """A broken law, and the shortest way to where it is broken.

    Attributes:
        law: Its number.
        what: What is wrong there.
        path: What happened, step by step, in words.
        records: What the journal has of it.
    """

    law: int
    what: str
    path: tuple[str, ...]
    records: tuple[Record, ...]

    def __str__(self) -> str:
        way = "\n".join(f"  {number:3}. {label}" for number, label in enumerate(self.path, 1))
        return f"law {self.law} is broken: {self.what}\nthe shortest way there:\n{way}"


@attrs.frozen
class Report:
    """What `verify` found.

    Attributes:
        saga: The saga's name.
        version: Its version.
        fingerprint: Its fingerprint.
        nodes: How many different situations were reached.
        moves: How many moves led from one to the next.
        paths: In how many ways an end or a park can be reached without going in circles.
        states: The machine's states that were reached.
        unreached: Those that were not: no outcome leads there under the settings of today.
        transitions: How many of the machine's transitions were taken.
        all_transitions: How many it has.
        violations: One for each law that is broken: the nearest.
        overtaking: Steps that may be overtaken by choice, to which law 4 does not apply.
        bounds: What the walk was bounded by, in words.
        strict: Whether steps were also taken to raise after an effect without saying so.
        seconds: How long it took.
    """

    saga: str
    version: str
    fingerprint: str
    nodes: int
    moves: int
    paths: int
    states: tuple[str, ...]
    unreached: tuple[str, ...]
    transitions: int
    all_transitions: int
    violations: tuple[Violation, ...]
    overtaking: tuple[str, ...]
    bounds: str
    strict: bool
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every law holds."""
        return not self.violations

    def raise_for_violations(self) -> None:
        """Raise if a law is broken.

        Raises:
            VerificationError: With the shortest way to each broken law.
        """
        if self.violations:
            raise VerificationError(self)

    def to_json(self) -> str:
        """The report as JSON, records left out."""
        fields = attrs.asdict(self, filter=lambda attribute, _: attribute.name != "records")
        return json.dumps({"ok": self.ok, **fields}, indent=2)

    def __str__(self) -> str:
        broken = {violation.law for violation in self.violations}
        lines = [
            f"saga {self.saga!r} version {self.version} ({self.fingerprint})",
            f"{self.nodes:,} situations, {self.moves:,} moves, {_many(self.paths)} ways to an end or a park",
            (
                f"{len(self.states)} states reached; {self.transitions} of {self.all_transitions} transitions taken; "
                f"{self.seconds:.2f} s"
            ),
        ]
        if self.unreached:
            lines.append(f"not reached under today's settings: {', '.join(self.unreached)}")
        lines += [f"  {'broken' if law in broken else 'holds '}  {law}. {text}" for law, text in LAWS.items()]
        if self.overtaking:
            lines.append(f"law 4 is not claimed for steps that may be overtaken: {', '.join(self.overtaking)}")
        lines.append(f"bounds: {self.bounds}")
        lines += [f"\n{violation}" for violation in self.violations]
        return "\n".join(lines)


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


class _Walk:
    def __init__(self, saga: Saga, *, strict: bool, most_nodes: int) -> None:
        self.saga = saga
        self.strict = strict
        self.most_nodes = most_nodes
        self.possible = Moves(saga, strict=strict)
        self.index = self.possible.index
        self.nodes: dict[Any, Node] = {}
        self.violations: dict[int, Violation] = {}
        self.states = {PENDING}
        self.taken: set[tuple[str, str]] = set()
        self.moves = 0
        self.complete = True

    def report(self) -> Report:
        started = time.perf_counter()
        acceptance = Acceptance("verified", self.saga.name, self.saga.version, self.saga.fingerprint, None, 0.0)
        root = Node(Execution(self.saga, acceptance), self.possible.nothing)
        self.nodes[self.key(root)] = root
        queue = deque([root])
        while queue:
            if len(self.nodes) > self.most_nodes:
                self.complete = False
                break
            node = queue.popleft()
            for move in self.possible.at(node.execution, node.ghost):
                reached = self.follow(node, move)
                if reached is not None:
                    queue.append(reached)
        self.check_that_it_ends()
        machine = self.saga.machine
        bounds = f"policies without limit are told apart up to attempt {UNLIMITED_ATTEMPTS}"
        if not self.complete:
            bounds += f"; GIVEN UP after {self.most_nodes:,} situations, so that nothing is proved about the rest"
        return Report(
            self.saga.name,
            self.saga.version,
            self.saga.fingerprint,
            len(self.nodes),
            self.moves,
            self.count_paths(root),
            tuple(sorted(self.states)),
            tuple(sorted(machine.states.keys() - self.states)),
            len(self.taken),
            sum(1 for _ in machine.moves()),
            tuple(self.violations[law] for law in sorted(self.violations)),
            tuple(part.path for part in self.saga.parts if part.overtake),
            bounds,
            self.strict,
            time.perf_counter() - started,
        )

    # Following a move

    def follow(self, node: Node, move: Move) -> Node | None:
        """Make *move* from *node*; the node reached, if it is new."""
        execution = copied(node.execution)
        before = len(execution.history)
        try:
            move.act(execution, 0.0)
            while execution.advance(0.0) is not None:
                pass
        except RefusedError as error:
            self.broken(1, f"{move.label!r} is refused: {error}", Node(execution, move.ghost, node, move.label))
            return None
        records = tuple(execution.history[before:])
        reached = Node(execution, move.ghost, node, move.label, records, node.crashed or move.crash)
        self.check_the_fold(node, move, reached)
        for record in records:
            self.states.add(record.target)
            self.taken.add((record.event, record.source))
        self.moves += 1
        self.check(node, reached)
        key = self.key(reached)
        known = self.nodes.get(key)
        if known is None:
            self.nodes[key] = reached
        node.onward.append((known or reached, move.crash or move.again or self.is_without_limit(records)))
        return reached if known is None else None

    def check_the_fold(self, node: Node, move: Move, reached: Node) -> None:
        """Recovery must find what runs: what was recorded, replayed, is what is."""
        folded = copied(node.execution)
        if move.outside:
            move.act(folded, 0.0)
        for record in reached.records:
            try:
                folded.replay(record)
            except MediatorError as error:
                self.broken(5, f"its records cannot be folded: {error}", reached)
                return
        if _essence(folded) != _essence(reached.execution):
            self.broken(
                5, f"folded from its records it is {_essence(folded)}, not {_essence(reached.execution)}", reached
            )

    def is_without_limit(self, records: tuple[Record, ...]) -> bool:
        """Whether a policy without limit made one of these moves."""
        for record in records:
            if record.step is not None and record.event in ("retry_due", "compensation_due"):
                part = self.saga.parts[self.index[record.step]]
                policy = part.retry if record.event == "retry_due" else part.compensation_retry
                if policy.attempts is None:
                    return True
        return False

    def key(self, node: Node) -> Any:
        """All that the future of a node depends on."""
        execution, ghost = node.execution, node.ghost
        essence = _essence(execution, self.cap(execution))
        if ghost.undoing and ghost.running is None:
            # On the way back it no longer matters what is known, but for what will be among the leftovers.
            return (*essence[:-2], execution.leftovers, ghost.effects)
        return (*essence, ghost)

    def cap(self, execution: Execution) -> int:
        part = execution.machine.places[execution.state].part
        if part is None:
            return 0
        policy = part.compensation_retry if execution.phase in (COMPENSATING, RETRYING_COMPENSATION) else part.retry
        return min(execution.attempt, UNLIMITED_ATTEMPTS) if policy.attempts is None else execution.attempt

    # The laws

    def check(self, before: Node, node: Node) -> None:
        execution, ghost = node.execution, node.ghost
        self.check_attempts(node)
        if ghost.running is not None and execution.effect is not None:
            self.broken(4, f"it goes on while a thread of {self.saga.parts[ghost.running].path} may be running", node)
        for record in node.records:
            self.check_order(before, node, record)
        if execution.state == SUCCEEDED:
            missing = [part.path for part, effect in zip(self.saga.parts, ghost.effects, strict=True) if not effect]
            if missing:
                self.broken(3, f"it succeeded, and {', '.join(missing)} had no effect", node)
            if ghost.undoing:
                self.broken(3, "it succeeded after a compensation", node)
        elif execution.state == FAILED:
            leftovers = execution.leftovers
            for part, effect in zip(self.saga.parts, ghost.effects, strict=True):
                if effect and part.compensatable:
                    self.broken(2, f"it failed, and the effect of {part.path} was not compensated", node)
                elif effect and part.pivot:
                    self.broken(2, f"it failed, though its pivot {part.path} took effect", node)
                elif effect and part.path not in leftovers:
                    self.broken(2, f"it failed, and the effect of {part.path} is not among its leftovers", node)

    def check_attempts(self, node: Node) -> None:
        execution = node.execution
        effect = execution.effect
        if effect is None or effect.kind not in (EXECUTE, COMPENSATE):
            return
        policy = effect.part.retry if effect.kind == EXECUTE else effect.part.compensation_retry
        if policy.attempts is not None and execution.attempt > policy.attempts:
            self.broken(1, f"attempt {execution.attempt} of {effect.part.path}, which has {policy.attempts}", node)

    def check_order(self, before: Node, node: Node, record: Record) -> None:
        phase, _, path = record.target.partition(".")
        at = self.index.get(path)
        if at is None:
            return
        part = self.saga.parts[at]
        if phase == EXECUTING:
            if node.ghost.undoing:
                self.broken(4, f"{path} is executed after a compensation", node)
            if node.ghost.known[at]:
                self.broken(4, f"{path} is executed again, though its answer is known", node)
            if not part.repeatable and before.ghost.effects[at] and record.event == "retry_due":
                self.broken(4, f"{path} is not repeatable, and is repeated in doubt", node)
        if phase in (EXECUTING, COMPENSATING) and before.ghost.running is not None and not part.overtake:
            self.broken(4, f"{path} is attempted while a thread of it may be running", node)
        if phase == COMPENSATING:
            later = [
                other.path
                for other, effect in zip(self.saga.parts[at + 1 :], node.ghost.effects[at + 1 :], strict=True)
                if effect and other.compensatable
            ]
            if later:
                self.broken(2, f"{path} is compensated before {', '.join(reversed(later))}", node)

    def check_that_it_ends(self) -> None:
        """Law 1, on the whole graph: no node without a way on that is neither an end nor a park, and no bare cycle."""
        good = []
        backward: dict[int, list[Node]] = {}
        for node in self.nodes.values():
            phase = node.execution.phase
            if node.execution.state in ENDED or phase in (STUCK, STUCK_EXECUTING):
                good.append(node)
            for onward, _ in node.onward:
                backward.setdefault(id(onward), []).append(node)
        seen = {id(node) for node in good}
        while good:
            for earlier in backward.get(id(good.pop()), ()):
                if id(earlier) not in seen:
                    seen.add(id(earlier))
                    good.append(earlier)
        if self.complete:
            for node in self.nodes.values():
                if id(node) not in seen:
                    self.broken(1, f"no end can be reached from {node.execution.state}", node)
        looping = self.find_a_cycle()
        if looping is not None:
            self.broken(1, f"it can go round in {looping.execution.state} for ever, with nobody asking for it", looping)

    def find_a_cycle(self) -> Node | None:
        """A node on a cycle that no operator, crash or limitless policy cuts; by removing what has no way in."""
        ways_in = {id(node): 0 for node in self.nodes.values()}
        for node in self.nodes.values():
            for onward, cut in node.onward:
                if not cut:
                    ways_in[id(onward)] += 1
        todo = [node for node in self.nodes.values() if ways_in[id(node)] == 0]
        left = len(self.nodes)
        while todo:
            node = todo.pop()
            left -= 1
            for onward, cut in node.onward:
                if not cut:
                    ways_in[id(onward)] -= 1
                    if ways_in[id(onward)] == 0:
                        todo.append(onward)
        return next((node for node in self.nodes.values() if ways_in[id(node)] > 0), None) if left else None

    def count_paths(self, root: Node) -> int:
        """How many ways lead from *root* to an end or a park, cut edges left out; counted, not walked one by one."""
        counts: dict[int, int] = {}
        stack: list[tuple[Node, bool]] = [(root, False)]
        on_the_way: set[int] = set()
        while stack:
            node, done = stack.pop()
            ways = [onward for onward, cut in node.onward if not cut]
            if done:
                on_the_way.discard(id(node))
                counts[id(node)] = sum(counts.get(id(way), 0) for way in ways) or 1
            elif id(node) not in counts and id(node) not in on_the_way:
                on_the_way.add(id(node))
                stack.append((node, True))
                stack.extend((way, False) for way in ways if id(way) not in counts and id(way) not in on_the_way)
        return counts[id(root)]

    def broken(self, law: int, what: str, node: Node) -> None:
        """Remember the first, and so the nearest, way to break a law; one that needs a crash breaks law 5."""
        if node.crashed:
            law = 5
        if law not in self.violations:
            way = node.path()
            records = tuple(record for _, each in way for record in each)
            labels = tuple(
                f"{label}  [{' → '.join(record.target for record in each) or 'nothing is recorded'}]"
                for label, each in way
            )
            self.violations[law] = Violation(law, what, labels, records)


def _many(number: int) -> str:
    return f"{number:,}" if number < 10**9 else f"{float(number):.1e}"


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
