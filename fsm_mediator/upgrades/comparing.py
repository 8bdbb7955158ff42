"""compare: finds out whether executions of an older definition can continue under a newer definition.

The theory: a machine is a finite automaton over its moves. An execution can continue under another definition if and
only if its history is also a possible history of the other machine, after the requested renaming of parts. Such an
execution does not differ from an execution that was started under the other definition. So every law of the new machine
holds for it.

A state is *safe* if every path to the state is also a path of the new machine. If a state is not safe, the report gives
a reason: the first move, on a path to the state, that the new machine does not have. A part whose kind has changed
counts as a missing part.

This module does not read executions, journals or a clock.

Source: inclusion of deterministic automata, as in Hopcroft and Ullman. In "Dynamic Software Updating", Hicks, 2001, the
safe states are called update points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from fsm_mediator.definition.saga import Saga
from fsm_mediator.definition.shape import PartShape, Shape
from fsm_mediator.definition.shape_changes import changes, other_kind
from fsm_mediator.errors import DefinitionError
from fsm_mediator.machine.parts import Kind
from fsm_mediator.machine.table import Transition
from fsm_mediator.narration import WORDS, place_in_words
from fsm_mediator.states import (
    COMPENSATING,
    ENDED,
    PENDING,
    PROBING,
    RETRYING_COMPENSATION,
    STUCK,
    STUCK_PHASES,
    WAITING,
    is_stuck,
    split_state,
)
from fsm_mediator.upgrades.report import Comparison, StateVerdict, Verdict

_DONE: Final = {
    "executed": "is done",
    "settled_done": "is done",
    "rejected": "is given up",
    "compensated": "is undone",
    "settled_undone": "is undone",
}
"""The phrase for an event in the reasons of a verdict. Events with the same meaning here have the same phrase."""


def compare(
    old: Saga | Shape,
    new: Saga | Shape | Iterable[Saga | Shape],
    renamed: Mapping[str, str] | None = None,
    *,
    every: bool = False,
) -> Comparison:
    """Compare *old* with *new*: can executions of *old* continue after *new* replaces *old*?

    ::

        compare(checkout_v1, checkout_v2, renamed={"charge": "pay"}).raise_for_stranded()

    Args:
        old: The definition that is in use.
        new: The definition to deploy, or all definitions that will be registered. If several definitions have the same
            name, the last of them starts new executions.
        renamed: The paths of renamed parts or nested sagas. The keys are paths in *old*, the values are paths in *new*.
        every: Include the states that the settings of *old* exclude, such as ``retrying`` of a step with one attempt.
            An execution that was started under other settings may be in such a state.

    Returns:
        The comparison. `Comparison.stranded` has the states of executions that no mediator would drive. The verdict for
        each state says whether the histories that lead to this state are histories of the new machine.

    Raises:
        DefinitionError: An argument is not a saga, or *renamed* names an unknown part.
    """
    shape = _shape(old)
    candidates = [each for each in map(_shape, new if isinstance(new, Iterable) else (new,)) if each.saga == shape.saga]
    if renamed is not None and not isinstance(renamed, Mapping):
        raise DefinitionError(
            f"renamed must be a dict from paths in the old definition to paths in the new one, not {renamed!r}"
        )
    if candidates:
        kept = any(each.fingerprint == shape.fingerprint for each in candidates)
        latest = candidates[-1]
        return _compare(shape, latest, _Renaming(shape, latest, renamed or {}), kept=kept, every=every)
    gone = (f"the new code has no saga {shape.saga!r}",)
    states = tuple(
        StateVerdict(state, Verdict.ENDED)
        if state in ENDED
        else StateVerdict(state, Verdict.CANNOT if is_stuck(state) else Verdict.DRAIN, None, gone)
        for state in shape.machine(every=every).states
    )
    return Comparison(shape.saga, _label(shape), None, False, gone, states)


def _shape(saga: Saga | Shape) -> Shape:
    if not isinstance(saga, (Saga, Shape)):
        raise DefinitionError(f"compare() takes sagas or shapes of sagas, not {saga!r}")
    return Shape.of(saga) if isinstance(saga, Saga) else saga


def _label(shape: Shape) -> str:
    return f"version {shape.version} ({shape.fingerprint})"


class _Renaming:
    """Maps the paths of parts in the old definition to the paths of the same parts in the new definition.

    Raises:
        DefinitionError: A path in *renamed* is unknown, or two parts would have the same path.
    """

    def __init__(self, old: Shape, new: Shape, renamed: Mapping[str, str]) -> None:
        self.paths = {part.path: part.path for part in old.parts}
        new_paths = [part.path for part in new.parts]
        for before, after in sorted(renamed.items(), key=lambda pair: pair[0].count(".")):
            for shape, path in ((old, before), (new, after)):
                if not shape.paths_under(path):
                    known = ", ".join(part.path for part in shape.parts)
                    raise DefinitionError(f"renamed: {shape} has no part {path!r}; it has {known}")
            self.paths.update({path: after + path.removeprefix(before) for path in old.paths_under(before)})
        for path, count in Counter(self.paths.values()).items():
            if count > 1 and path in new_paths:
                both = ", ".join(repr(before) for before, after in self.paths.items() if after == path)
                raise DefinitionError(f"renamed: {both} would get the same path {path!r}")

    def state(self, state: str) -> str:
        """The name of *state* in the new definition."""
        phase, path = split_state(state)
        return f"{phase}.{self.paths[path]}" if path else state


def _compare(old: Shape, new: Shape, names: _Renaming, *, kept: bool, every: bool) -> Comparison:
    branches = tuple(_compare_branches(old, new, names, kept=kept, every=every))
    return Comparison(
        *(old.saga, _label(old), _label(new), kept, tuple(_changes(old, new, names, branches))),
        tuple(_Reachability(old, new, names, branches, every=every).verdicts()),
        branches,
    )


def _compare_branches(old: Shape, new: Shape, names: _Renaming, *, kept: bool, every: bool) -> Iterator[Comparison]:
    """The comparison of each branch that is in both definitions."""
    for part in old.parts:
        other = new.part(names.paths[part.path])
        if other is not None and other.kind is part.kind:
            new_branches = dict(other.branches)
            for name, was in part.branches:
                if name in new_branches:
                    now = new_branches[name]
                    # A mediator finds the definition of a branch, as of any saga, by its name and fingerprint.
                    same = (was.saga, was.fingerprint) == (now.saga, now.fingerprint)
                    yield _compare(was, now, _Renaming(was, now, {}), kept=kept or same, every=every)


class _MissingTransition(NamedTuple):
    """The reason why the new machine does not have a move.

    Attributes:
        why: The reason, in words.
        state: The state of the old machine that the new machine does not have. None if there is another reason.
    """

    why: str
    state: str | None = None


class _Reachability:
    """Finds the states of the old machine that can be reached with the moves of the new machine."""

    def __init__(
        self, old: Shape, new: Shape, names: _Renaming, branches: Iterable[Comparison], *, every: bool
    ) -> None:
        self.old, self.new, self.names = old, new, names
        # The settings of the new definition do not matter: a replay accepts every state that any settings allow.
        self.machine, self.new_machine = old.machine(every=every), new.machine(every=True)
        self.new_targets = {(move.event, move.source): move.target for move in self.new_machine.moves()}
        self.unsafe_branches = {branch.saga for branch in branches if not _all_fold(branch)}
        self.moves: dict[str, list[Transition]] = {}
        self.missing: dict[Transition, _MissingTransition] = {}
        for move in self.machine.moves():
            self.moves.setdefault(move.source, []).append(move)
            why = self.why_missing(move)
            if why is not None:
                self.missing[move] = why
        self.safe = self.reachable([PENDING], without=self.missing)

    def reachable(self, starts: Iterable[str], without: Container[Transition] = ()) -> set[str]:
        """Every state of the old machine that can be reached from *starts* without the moves in *without*."""
        todo = list(starts)
        reached = set(todo)
        while todo:
            for move in self.moves.get(todo.pop(), ()):
                if move.target not in reached and move not in without:
                    reached.add(move.target)
                    todo.append(move.target)
        return reached

    def verdicts(self) -> Iterator[StateVerdict]:
        """The verdict for each state of the old machine."""
        # The first missing move on a path decides, because no history with this move is a history of the new machine.
        behind = {move: self.reachable([move.target]) for move in self.missing if move.source in self.safe}
        begun = {
            path: self.reachable(
                state for state, (_, part) in self.machine.places.items() if part is not None and part.path == path
            )
            for path, after in self.names.paths.items()
            if path != after
        }
        for state in self.machine.states:
            missing = list(dict.fromkeys(self.missing[move] for move, states in behind.items() if state in states))
            yield self.verdict(state, missing, [path for path, states in begun.items() if state in states])

    def verdict(self, state: str, missing: Sequence[_MissingTransition], begun: Iterable[str]) -> StateVerdict:
        """The verdict for *state*.

        Args:
            state: The state.
            missing: For the paths to the state, the first moves that the new machine does not have.
            begun: The paths of the renamed parts that may have begun on a path to the state.
        """
        phase, part = self.machine.places[state]
        becomes = self.names.state(state)
        whys = tuple(dict.fromkeys(each.why for each in missing))
        cautions = tuple(map(self.caution, begun))
        if state in ENDED:
            reasons = tuple(f"it can no longer be undone or read: {why}" for why in whys)
            return StateVerdict(state, Verdict.ENDED, None if missing else becomes, reasons)
        if not missing:
            return StateVerdict(state, Verdict.RENAMED if cautions else Verdict.SAME, becomes, cautions)
        if state in self.safe:
            reasons = tuple(
                f"not if it was in {each.state}: {each.why}" if each.state else f"not if {each.why}" for each in missing
            )
            return StateVerdict(state, Verdict.DEPENDS, becomes, reasons + cautions)
        waits = phase in STUCK_PHASES or (phase == WAITING and part is not None and part.kind is Kind.SIGNAL)
        return StateVerdict(state, Verdict.CANNOT if waits else Verdict.DRAIN, None, whys)

    def caution(self, path: str) -> str:
        """The warning about the renamed part at *path*, if it may have begun: other systems may use the old name."""
        now, part = self.names.paths[path], self.old.part(path)
        if part is not None and part.kind is Kind.SIGNAL:
            return f"warning: send the signal {path!r} as {now!r}; a signal that was sent as {path!r} is ignored"
        if part is not None and part.kind is not Kind.STEP:
            return f"{path!r} is now called {now!r}"
        return (
            f"warning: an attempt of {path!r} with the key ID:{path}:execute is repeated, and compensated, with the "
            f"key ID:{now}:execute"
        )

    def why_missing(self, move: Transition) -> _MissingTransition | None:
        """The reason why the new machine does not have *move*. None if it has the move."""
        for state in (move.source, move.target):
            why = self.why_state_missing(state)
            if why is not None:
                return _MissingTransition(why, state)
        target = self.names.state(move.target)
        leads_to = self.new_targets.get((move.event, self.names.state(move.source)))
        if leads_to == target:
            return None
        # Several events have the same meaning. They get the same words, so that the difference is reported only once.
        part = self.machine.places[move.source].part
        before = f"{'it' if part is None else repr(part.path)} {_DONE.get(move.event, WORDS[move.event])}"
        if leads_to is None:
            return _MissingTransition(f"{before}: version {self.new.version} has no such transition")
        entered = self.new_machine.places[leads_to].part
        is_new = entered is not None and entered.path not in self.names.paths.values()
        return _MissingTransition(
            f"{before}: version {self.new.version} continues with {place_in_words(leads_to)!r}"
            f"{', which is new' if is_new else ''}, not with {place_in_words(target)!r}"
        )

    def why_state_missing(self, state: str) -> str | None:
        """The reason why the new machine has no state that corresponds to *state*. None if it has such a state.

        A state with the same name does not correspond if the kind or the branches of its part have changed.
        """
        phase, part = self.machine.places[state]
        if part is None:
            return None
        path = self.names.paths[part.path]
        was, now = self.old.part(part.path), self.new.part(path)
        assert was is not None
        if now is None:
            return f"the new definition has no part {path!r}"
        if now.kind is not was.kind:
            return other_kind(path, was, now)
        why = self.why_other_branches(was, now)
        if why is not None or self.names.state(state) in self.new_machine.states:
            return why
        if phase in (COMPENSATING, RETRYING_COMPENSATION) or (phase == STUCK and was.compensatable):
            return f"{path!r} can no longer be compensated"
        if phase == PROBING:
            return f"{path!r} no longer has a probe"
        if was.forward_only != now.forward_only:
            return f"{path!r} {'is no longer' if was.forward_only else 'is now'} after the pivot"
        if was.pivot != now.pivot:
            return f"{path!r} is {'no longer' if was.pivot else 'now'} the pivot"
        return f"{path!r} {'can now' if now.compensatable else 'can no longer'} be compensated"

    def why_other_branches(self, was: PartShape, now: PartShape) -> str | None:
        """A text about the difference in the branches of the groups *was* and *now*. None if there is no difference."""
        if was.branches and was.path != now.path:
            return f"the ids of the branches in flight contain the name {was.path!r}, not {now.path!r}"
        before, after = dict(was.branches), dict(now.branches)
        # A new branch of a choice is no problem. A new branch of a group is a problem: begun groups lack it.
        if was.kind is Kind.CHOICE:
            after = {name: branch for name, branch in after.items() if name in before}
        if before.keys() != after.keys():
            parts = [f"{name!r} is gone" for name in before if name not in after]
            parts += [f"{name!r} is new" for name in after if name not in before]
            return f"{now.path!r} has other branches: {', '.join(parts)}"
        unsafe = [repr(name) for name, branch in before.items() if branch.saga in self.unsafe_branches]
        return f"branches of {now.path!r} have other transitions: {', '.join(unsafe)}" if unsafe else None


def _all_fold(comparison: Comparison) -> bool:
    """Whether every history of a branch is a history of the new definition.

    Ended branches count too, because they can be undone.
    """
    return all(each.becomes is not None and each.verdict is not Verdict.DEPENDS for each in comparison.states) and all(
        map(_all_fold, comparison.branches)
    )


def _changes(old: Shape, new: Shape, names: _Renaming, branches: Iterable[Comparison]) -> Iterator[str]:
    """A text for each difference between *old* and *new*, and between their branches."""
    yield from changes(old, new, names.paths)
    for branch in branches:
        for change in branch.changes:
            yield f"branch {branch.saga!r}: {change}"
