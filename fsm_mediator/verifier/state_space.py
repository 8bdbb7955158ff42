"""verify: searches every outcome of every attempt, with the machine and the `feed` of production.

The search visits *nodes*, breadth first. A node is an abstract state together with a ledger of the effects that really
happened. The report calls a node a situation. From each node the search tries every action (`actions`), and the laws
check each transition.

The branches of a group are separate executions, with their own crashes, inboxes and operators. So each branch is
searched separately. The search over the parent sees a branch only as a `branches.Status`.

Source: explicit-state model checking as in Holzmann, "The SPIN Model Checker", 2003.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import attrs

from fsm_mediator.definition.saga import Saga, check_is_saga
from fsm_mediator.errors import DefinitionError
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import SUCCEEDED, WAITING, is_settled, path_of
from fsm_mediator.verifier.abstract_states import UNLIMITED_ATTEMPTS, AbstractState, StateTable, Successor
from fsm_mediator.verifier.action import DIES, Action
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.answer_laws import accepted_wrongly, held_wrongly
from fsm_mediator.verifier.branches import BACKWARD, FORWARD, Child, Status, child_of, status_of
from fsm_mediator.verifier.choices import MOST_ITEMS
from fsm_mediator.verifier.effect_ledger import EffectLedger
from fsm_mediator.verifier.equal_branches import FewBranches, with_few_branches
from fsm_mediator.verifier.graph import Graph
from fsm_mediator.verifier.laws import Laws
from fsm_mediator.verifier.parks import CAUSES, park_of
from fsm_mediator.verifier.replay import violation_of
from fsm_mediator.verifier.report import Report
from fsm_mediator.verifier.rules_table import Broken
from fsm_mediator.verifier.rules_table import broken as broken_rule
from fsm_mediator.verifier.shortening import shortened
from fsm_mediator.verifier.violation import Violation

_REPORTED: Final = 100
"""The number of situations between two reports of progress."""


class _Found(NamedTuple):
    """A broken rule, and the path to it: the *number* of a node, and the *labels* of the actions after this node.

    *goes_round*: whether these last actions form a cycle.
    """

    broken: Broken
    number: int
    labels: tuple[str, ...]
    goes_round: bool


def verify(
    saga: Saga,
    *,
    strict: bool = False,
    most_nodes: int = 1_000_000,
    progress: Callable[[int], object] | None = None,
) -> Report:
    """Check every failure path of *saga* against the five laws, with the machine and rules that drive executions.

    Args:
        saga: The saga. None of its steps is called.
        strict: Let steps also raise after their effect without reporting doubt, which is against the rules. The search
            then finds the steps that must report doubt.
        most_nodes: The maximum number of situations. It bounds time and memory. If the search stops at this number, the
            report says so and lists the states that were not reached.
        progress: A function that the search calls repeatedly, with the number of situations since the previous call.

    Returns:
        The report with all broken laws. Call `Report.raise_for_violations` to raise an error for them.

    Raises:
        DefinitionError: *saga* is not a `Saga`, or *most_nodes* is not a whole number of at least 1.
    """
    check_is_saga("verify()", saga)
    if type(most_nodes) is not int or most_nodes < 1:
        raise DefinitionError(f"verify(): most_nodes must be a whole number of at least 1, not {most_nodes!r}")
    return StateSpace(saga, strict=strict, most_nodes=most_nodes, progress=progress).report()


class StateSpace:
    """The search over everything that can happen to a saga's executions.

    Args:
        saga: The saga. If it is long and has many equal steps, a shortened saga is searched.
        strict: Whether steps may also raise after their effect without reporting doubt.
        most_nodes: The maximum number of nodes.
        progress: A function that the search calls repeatedly, with the number of nodes since the previous call.
        once: Whether the search tries actions on only one of several symmetric branches in the same status, and on
            only a few of several equal branches.

    Attributes:
        saga: The saga that is searched. It can be shorter than the given saga.
        nodes: The abstract state and the ledger of each node.
        came: For each node, the previous node on a shortest path, and the label of the action. (-1, "") for the first.
        branches: The searches over the branches of the saga's groups, by the group's path and the branch's name.
        possible: The actions that can happen to the saga.
    """

    def __init__(
        self,
        saga: Saga,
        *,
        strict: bool,
        most_nodes: int,
        once: bool = True,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self.strict = strict
        self.once = once
        self.most_nodes = most_nodes
        self._progress = progress
        self._few = with_few_branches(saga) if once else FewBranches(saga, {})
        self._whole = saga = self._few.saga
        self._shortened = shortened(saga)
        self._begin(saga if self._shortened is None else self._shortened.saga)

    def _begin(self, saga: Saga) -> None:
        """Forget the results of an earlier search, and prepare a search over *saga*."""
        self.saga = saga
        self.branches: dict[str, dict[str, StateSpace]] = {
            path: {name: self._of_branch(branch) for name, branch in branches.items()}
            for path, branches in saga.branches.items()
        }
        self.nodes: list[tuple[AbstractState, EffectLedger]] = []
        self.came: list[tuple[int, str]] = []
        self._graph = Graph()
        self._numbers: dict[Any, int] = {}
        self._queue: deque[int] = deque()
        self._crashed = bytearray()
        self._undone: set[int] = set()
        self._moves = 0
        self._complete = True
        self._found: dict[int, _Found] = {}  # the keys are the numbers of the laws
        self._broken_rules: set[str] = set()
        self._parks: dict[str, set[str]] = {}

    def _of_branch(self, branch: Saga) -> StateSpace:
        return StateSpace(branch, strict=self.strict, most_nodes=self.most_nodes, progress=self._progress)

    @property
    def is_broken(self) -> bool:
        """Whether a law was found to be broken."""
        return bool(self._found)

    def report(self) -> Report:
        """Search, and return the report."""
        started = time.perf_counter()
        self.explore()
        self._check_liveness()
        if self._found and self._shortened is not None:
            self.walk_whole()
        machine = self._whole.machine
        own = {(move.event, move.source) for move in machine.moves()}
        states, taken = self._table.states, self._table.taken
        if self._shortened is not None:
            states, taken = self._shortened.states(states), self._shortened.taken(taken)
        return Report(
            saga=self.saga.name,
            version=self.saga.version,
            fingerprint=self.saga.fingerprint,
            nodes=len(self.nodes),
            moves=self._moves,
            paths=self._graph.ways(),
            states=tuple(sorted(states)),
            unreached=tuple(sorted(machine.states.keys() - states)),
            transitions=len(taken & own),
            all_transitions=len(own),
            violations=tuple(self._violation(law) for law in sorted(self._found)),
            broken_rules=tuple(sorted(self._broken_rules)),
            parks=self._parks_in_order(),
            overtaking=tuple(part.path for part in self._whole.parts if part.overtake),
            bounds=self._bounds(),
            complete=self._complete,
            strict=self.strict,
            seconds=time.perf_counter() - started,
            branches=self._reports,
        )

    def walk_whole(self) -> None:
        """Search the whole saga after the shortened saga broke a law.

        A counterexample must be a path of the whole saga.
        """
        self._shortened = None
        self._begin(self._whole)
        self.explore()
        self._check_liveness()

    def _parks_in_order(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each cause for which the saga can stop, with the paths of the parts where it can stop for this cause."""
        found = []
        for cause in CAUSES:
            states = self._parks.get(cause, set())
            if self._shortened is not None:
                states = self._shortened.states(states)
            paths = {path_of(state) for state in states}
            if paths:
                found.append((cause, tuple(part.path for part in self._whole.parts if part.path in paths)))
        return tuple(found)

    def _bounds(self) -> str:
        bounds = f"attempts without limit are distinguished up to attempt {UNLIMITED_ATTEMPTS}"
        if any(part.each for part in self.saga.parts):
            bounds += f"; groups over items have at most {MOST_ITEMS} items"
        if self._shortened is not None:
            bounds += f"; {self._shortened.in_words()}"
        if self._few.left_out:
            bounds += f"; {self._few.in_words()}"
        if not self._complete:
            bounds += f"; STOPPED after {self.most_nodes:,} situations: nothing is proved about the rest"
        return bounds

    # Branches

    def child(self, name: str) -> Child:
        """The `Child` *name* for a parent's search: a branch that runs this saga, with the outcomes that were found."""
        if not self._complete or self._found:
            return child_of(name, self._whole)  # the outcomes are not known, so every outcome is assumed to be possible
        succeeded = {number for number, (position, _) in enumerate(self.nodes) if position.execution.state == SUCCEEDED}
        forward = self._statuses(self._graph.reached([0], leave=succeeded)) & FORWARD
        # A branch stuck in compensation counts as undone too, although it may have nothing to undo.
        stuck = {
            number
            for number, (position, _) in enumerate(self.nodes)
            if status_of(position.execution) == Status.STUCK_UNDOING
        }
        backward = self._statuses(self._graph.reached(self._undone | stuck)) & BACKWARD
        return child_of(name, self._whole, (forward, backward))

    def _statuses(self, numbers: set[int]) -> frozenset[str]:
        return frozenset(status_of(self.nodes[number][0].execution) for number in numbers) - {Status.RUNNING}

    # Walking

    def explore(self) -> None:
        """Visit all nodes, breadth first. So the first path that is found to a node is a shortest path."""
        self._reports = tuple(walk.report() for walks in self.branches.values() for walk in walks.values())
        children = {
            path: {name: walk.child(name) for name, walk in walks.items()} for path, walks in self.branches.items()
        }
        passed = self._shortened.passed if self._shortened is not None else frozenset[str]()
        self.possible: ActionModel = ActionModel(
            self.saga, strict=self.strict, thorough=True, children=children, once=self.once, passed=passed
        )
        self._laws = Laws(self.saga, self.possible.branch_models)
        self._table = StateTable(self.saga, self.possible, self._laws, errors_alike=self._shortened is not None)
        self._node(self._table.first(), self.possible.nothing, -1, "", crash=False)
        while self._queue:
            if len(self.nodes) > self.most_nodes:
                self._complete = False
                return
            number = self._queue.popleft()
            if self._progress is not None and number and number % _REPORTED == 0:
                self._progress(_REPORTED)
            position, ledger = self.nodes[number]
            if not position.led:
                for broken in (*accepted_wrongly(position.execution), *held_wrongly(position.execution)):
                    self._broken(broken, number, crashed=bool(self._crashed[number]))
            moves = list(self.possible.at(position.execution, ledger))
            alike: set[tuple[int, int, bool, bool]] = set()
            for move in moves:
                every = self._table.after(position, move)
                key = (id(every), id(move.ledger), move.crash, move.again)
                if isinstance(every, str) or key not in alike:  # otherwise an earlier action led to the same nodes
                    alike.add(key)
                    self._follow(number, move, every)

    def _follow(self, number: int, move: Action, every: list[Successor] | str) -> None:
        """Make *move* from the node with this number, check the laws, and add the successors to the graph.

        *every*: the successors. If the execution refuses the move, the reason as a text.
        """
        position, ledger = self.nodes[number]
        crashed = bool(self._crashed[number]) or move.crash
        if isinstance(every, str):
            self._broken(
                broken_rule("refused", f"{move.label!r} is refused: {every}"), number, move.label, crashed=crashed
            )
            return
        for led in every:
            label = move.label + led.decided
            after = self._born(move, led)
            for broken in led.broken:
                crash = [DIES] if broken.rule == "recovery" else []
                self._broken(broken, number, label, *crash, crashed=crashed)
            for broken in self._laws.broken_by(led.passage, ledger, after):
                self._broken(broken, number, label, crashed=crashed)
            if not led.quiet:
                cause = park_of(position.execution, move, led.position.execution)
                if cause is not None:
                    self._parks.setdefault(cause, set()).add(led.position.execution.state)
            after = _settled(after, led)
            if led.quiet and led.position is position and after == ledger and not move.crash:
                continue  # the action changed nothing, such as a repeated signal
            self._moves += 1
            target = self._node(led.position, after, number, label, crash=crashed)
            if move.observation == "undo":
                self._undone.add(target)
            self._graph.add_edge(number, target, cut=move.crash or move.again or led.endless)

    def _born(self, move: Action, led: Successor) -> EffectLedger:
        return self.possible.after(move.ledger, led.births) if led.births else move.ledger

    def successors(self, number: int) -> Iterator[tuple[Action, str, int]]:
        """The actions from the node with this number, each with its label and the number of its target node."""
        position, ledger = self.nodes[number]
        for move in self.possible.at(position.execution, ledger):
            every = self._table.after(position, move)
            for led in every if not isinstance(every, str) else ():
                target = self._numbers.get(self._key(led.position, _settled(self._born(move, led), led)))
                if target is not None:
                    yield move, move.label + led.decided, target

    def _key(self, position: AbstractState, ledger: EffectLedger) -> Any:
        """The key of the node of *position* and *ledger*. Nodes with the same future have equal keys."""
        branches = self._in_order(position, ledger) if ledger.branches else ()
        if position.backward and ledger.undoing:  # during compensation, `EffectLedger.known` does not matter
            return (position.number, ledger.effects, ledger.running, branches)
        return (position.number, ledger._replace(branches=()), branches)

    def _node(self, position: AbstractState, ledger: EffectLedger, parent: int, label: str, *, crash: bool) -> int:
        """The number of the node of an abstract state and a ledger. A new node is added to the queue."""
        key = self._key(position, ledger)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._graph.add()
            self.nodes.append((position, ledger))
            self.came.append((parent, label))
            self._crashed.append(crash)
            self._queue.append(number)
        return number

    def _in_order(self, position: AbstractState, ledger: EffectLedger) -> tuple[Any, ...]:
        """For each group that was entered, the statuses of its branches.

        The value does not change if symmetric branches exchange their statuses (`BranchModel.in_order`).
        """
        plans = position.execution.plans or {}
        branch_models = self.possible.branch_models.items()
        return tuple(
            model.in_order(plans[path], ledger.branches[model.at]) for path, model in branch_models if path in plans
        )

    def way(self, number: int) -> list[str]:
        """The labels of the actions on a shortest path to the node with this number."""
        way = []
        while number > 0:
            number, label = self.came[number]
            way.append(label)
        return way[::-1]

    # Findings

    def _check_liveness(self) -> None:
        """Check law 1 on the whole graph.

        From each node, an end or a park must be reachable. In a park, the saga waits for an operator or a signal. Every
        cycle must contain a crash, an operator's retry or a retry without limit.
        """
        if self._complete:
            lost = self._graph.first_dead_end(
                number for number, (position, _) in enumerate(self.nodes) if _is_rest(position)
            )
            if lost is not None:
                state = self.nodes[lost][0].execution.state
                dead_end = broken_rule("end", f"no end can be reached from {state}")
                self._broken(dead_end, lost, crashed=bool(self._crashed[lost]))
        cycle = self._graph.cycle()
        if cycle:
            first = cycle[0]
            what = f"the saga can loop forever in {self.nodes[first][0].execution.state} although nothing asks for it"
            around = [self._label(source, target) for source, target in zip(cycle, [*cycle[1:], first], strict=True)]
            self._broken(broken_rule("round", what), first, *around, crashed=bool(self._crashed[first]), round_=True)

    def _label(self, source: int, target: int) -> str:
        """The label of an action from *source* to *target* that is neither a crash nor an operator's retry."""
        every = (
            label for move, label, to in self.successors(source) if to == target and not (move.crash or move.again)
        )
        return next(every)

    def _broken(self, broken: Broken, number: int, *labels: str, crashed: bool, round_: bool = False) -> None:
        """Store a broken law with the path to it. A path with a crash breaks law 5.

        Only the first path to each law is stored. It is a shortest path, because the search is breadth first.
        """
        self._broken_rules.add(broken.rule)
        law = 5 if crashed else broken.law
        self._found.setdefault(law, _Found(broken, number, labels, round_))

    def _violation(self, law: int) -> Violation:
        broken, number, labels, goes_round = self._found[law]
        path = [*self.way(number), *labels]
        violation = violation_of(self.saga, law, broken.what, path, self.possible, self.branches)
        return attrs.evolve(violation, rule=broken.rule, around=len(labels) if goes_round else 0)


def _settled(ledger: EffectLedger, led: Successor) -> EffectLedger:
    """The ledger after the transition to *led*. If compensation begins, it has no effects of signals and leftovers.

    These effects do not matter during compensation.
    """
    listed = led.passage.turns
    if listed is None:
        return ledger
    effects = list(ledger.effects)
    for at in listed:
        effects[at] = False
    return ledger._replace(effects=tuple(effects), suspect=False, undoing=True)


def _is_rest(position: AbstractState) -> bool:
    """Whether an execution in this state has ended, or visibly waits for an operator or a signal."""
    execution = position.execution
    if execution.phase == WAITING and execution.effect is not None:
        return execution.effect.part.kind is Kind.SIGNAL and execution.due_at is None
    return is_settled(execution.state)
