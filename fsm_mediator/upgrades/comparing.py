"""compare: which executions of an older definition are, by their histories, executions of the newer one as well.

The theory: a machine is a finite automaton over its moves. An execution in flight can go on under another definition
exactly if its history, with parts renamed where that is asked for, is a history of the other machine too; for then
nobody can tell it from one that was started there, and every law that holds of the new machine holds of it. So a state
is safe if no way into it takes a move that the new machine lacks; the first such move on each way is the reason. A
part of another kind is another part: a sleep does not end where a signal comes.

No execution, no journal and no clock is looked at here.

Source: inclusion of deterministic automata, as in Hopcroft and Ullman; "Dynamic Software Updating", Hicks, 2001, calls
the safe states update points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from fsm_mediator.definition.saga import Saga
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
    phase_of,
)
from fsm_mediator.upgrades.report import Comparison, StateVerdict, Verdict
from fsm_mediator.upgrades.shape import PartShape, Shape

_DONE: Final = {
    "executed": "is done",
    "settled_done": "is done",
    "rejected": "is given up",
    "compensated": "is undone",
    "settled_undone": "is undone",
}
"""Events of which it does not matter which one it was, in words."""


def compare(
    old: Saga | Shape,
    new: Saga | Shape | Iterable[Saga | Shape],
    renamed: Mapping[str, str] | None = None,
    *,
    every: bool = False,
) -> Comparison:
    """What becomes of the executions of *old* once only *new* is there to drive them.

    ::

        compare(checkout_v1, checkout_v2, renamed={"charge": "pay"}).raise_for_stranded()

    Args:
        old: The definition that is in use.
        new: The definition that is to be deployed, or all that will be registered; of several of one name, the last is
            the one that new executions are started with.
        renamed: Paths of parts (or of nested sagas) in *old*, and what they are called in *new*.
        every: Take in the states that the settings of *old* rule out (``retrying`` of a step with one attempt): an
            execution may stand there if it was started under others.

    Returns:
        What was found: `Comparison.stranded` is what a mediator of today would leave; the verdict for each state tells
        which histories the new machine has.

    Raises:
        DefinitionError: What is given is no saga, or *renamed* names a part that there is not.
    """
    was = _shape(old)
    given = tuple(new) if isinstance(new, Iterable) else (new,)
    if renamed is not None and not isinstance(renamed, Mapping):
        raise DefinitionError(
            f"renamed is a dict, from paths in the old definition to those in the new, not {renamed!r}"
        )
    named = [shape for shape in map(_shape, given) if shape.saga == was.saga]
    kept = any(shape.fingerprint == was.fingerprint for shape in named)
    if not named:
        states = tuple(_of_nothing(was, state) for state in was.machine(every=every).states)
        gone = f"no saga is named {was.saga!r} any more"
        return Comparison(was.saga, _words(was), None, False, (gone,), states)
    return _compared(was, named[-1], _Renaming(was, named[-1], renamed or {}), kept=kept, every=every)


def _shape(given: Saga | Shape) -> Shape:
    if isinstance(given, Saga):
        return Shape.of(given)
    if not isinstance(given, Shape):
        raise DefinitionError(f"compare() is given sagas, or shapes of sagas, not {given!r}")
    return given


def _words(shape: Shape) -> str:
    return f"version {shape.version} ({shape.fingerprint})"


class _Renaming:
    """Paths of the old definition as those of the new one."""

    def __init__(self, old: Shape, new: Shape, renamed: Mapping[str, str]) -> None:
        old_paths, new_paths = ([part.path for part in shape.parts] for shape in (old, new))
        self.paths = {path: path for path in old_paths}
        for before, after in sorted(renamed.items(), key=lambda pair: pair[0].count(".")):
            scoped = [path for path in old_paths if path == before or path.startswith(f"{before}.")]
            if not scoped:
                raise DefinitionError(f"renamed: {old} has no part {before!r}; it has {', '.join(old_paths)}")
            if not any(path == after or path.startswith(f"{after}.") for path in new_paths):
                raise DefinitionError(f"renamed: {new} has no part {after!r}; it has {', '.join(new_paths)}")
            self.paths.update({path: after + path[len(before) :] for path in scoped})
        targets = list(self.paths.values())
        double = next((path for path in targets if targets.count(path) > 1 and path in new_paths), None)
        if double is not None:
            both = ", ".join(repr(before) for before, after in self.paths.items() if after == double)
            raise DefinitionError(f"renamed: {both} would both be {double!r}")

    def state(self, state: str) -> str:
        """The state as the new definition calls it."""
        phase, dot, path = state.partition(".")
        return f"{phase}{dot}{self.paths.get(path, path)}"

    def changes(self, path: str) -> bool:
        """Whether the part has another name."""
        return self.paths[path] != path


def _compared(old: Shape, new: Shape, names: _Renaming, *, kept: bool, every: bool) -> Comparison:
    branches = tuple(_branches(old, new, names, kept=kept, every=every))
    changes = _changes(old, new, names, branches)
    return Comparison(
        *(old.saga, _words(old), _words(new), kept, tuple(changes)),
        tuple(_Ways(old, new, names, branches, every=every).verdicts()),
        branches,
    )


def _branches(old: Shape, new: Shape, names: _Renaming, *, kept: bool, every: bool) -> Iterable[Comparison]:
    """Every branch that both have, compared; under the new name of its group."""
    for part in old.parts:
        other = new.part(names.paths[part.path])
        if other is not None and other.kind is part.kind:
            theirs = dict(other.branches)
            for name, branch in part.branches:
                if name in theirs:
                    there = theirs[name]
                    # A mediator finds the definition of a branch by its name and its fingerprint, as any other.
                    same = (branch.saga, branch.fingerprint) == (there.saga, there.fingerprint)
                    yield _compared(branch, there, _Renaming(branch, there, {}), kept=kept or same, every=every)


class _Lost(NamedTuple):
    """Why a move is none of the new machine's: in words, and, where it is for a state that there is not, that state."""

    why: str
    state: str | None = None


class _Ways:
    """Every way into every state of the old machine, and which of them the new machine has."""

    def __init__(
        self, old: Shape, new: Shape, names: _Renaming, branches: Sequence[Comparison], *, every: bool
    ) -> None:
        self.old, self.new, self.names = old, new, names
        # A fold takes every state that any settings allow, so that those of the new definition do not matter.
        self.machine, self.theirs = old.machine(every=every), new.machine(every=True)
        self.moves = list(self.machine.moves())
        self.has = {(move.event, move.source): move.target for move in self.theirs.moves()}
        self.unsafe_branches = {branch.saga for branch in branches if not _all_fold(branch)}
        self.onward: dict[str, list[Transition]] = {}
        self.lost: dict[Transition, _Lost] = {}
        for move in self.moves:
            self.onward.setdefault(move.source, []).append(move)
            lost = self.why_not(move)
            if lost is not None:
                self.lost[move] = lost
        self.reached = self.reach(PENDING, lambda move: move not in self.lost)

    def reach(self, start: str, through: Callable[[Transition], bool]) -> set[str]:
        """Every state that can be reached from *start* by moves that are let *through*."""
        reached, todo = {start}, [start]
        while todo:
            for move in self.onward.get(todo.pop(), ()):
                if move.target not in reached and through(move):
                    reached.add(move.target)
                    todo.append(move.target)
        return reached

    def verdicts(self) -> Iterable[StateVerdict]:
        """What becomes of what stands in each state."""
        # The first move on a way that the new machine lacks; whatever lies behind it is no history of that machine.
        first = [move for move in self.lost if move.source in self.reached]
        behind = {move: self.reach(move.target, lambda _: True) for move in first}
        begun = {
            path: self.reach_all(
                state for state, place in self.machine.places.items() if place.part and place.part.path == path
            )
            for path in self.names.paths
            if self.names.changes(path)
        }
        for state in self.machine.states:
            lost = list(dict.fromkeys(self.lost[move] for move in first if state in behind[move]))
            yield self.verdict(state, lost, [path for path, states in begun.items() if state in states])

    def reach_all(self, starts: Iterable[str]) -> set[str]:
        """Every state that can be reached from any of *starts*."""
        return set().union(*(self.reach(start, lambda _: True) for start in set(starts)))

    def verdict(self, state: str, lost: Sequence[_Lost], begun: Sequence[str]) -> StateVerdict:
        """What becomes of what stands in *state*.

        Args:
            state: The state.
            lost: Why histories that lead there are none of the new machine's.
            begun: The parts with another name that may have been begun on the way.
        """
        phase, part = self.machine.places[state]
        becomes = self.names.state(state)
        whys = tuple(dict.fromkeys(each.why for each in lost))
        if state in ENDED:
            told = tuple(f"it can no longer be undone or looked at: {why}" for why in whys)
            return StateVerdict(state, Verdict.ENDED, None if lost else becomes, told)
        if not lost and not begun:
            return StateVerdict(state, Verdict.SAME, becomes)
        if not lost:
            return StateVerdict(state, Verdict.RENAMED, becomes, tuple(map(self.caution, begun)))
        if state in self.reached:
            told = tuple(
                f"not if it went through {each.state}: {each.why}" if each.state else f"not if {each.why}"
                for each in lost
            )
            return StateVerdict(state, Verdict.DEPENDS, becomes, (*told, *map(self.caution, begun)))
        waits = phase in STUCK_PHASES or (phase == WAITING and part is not None and part.kind is Kind.SIGNAL)
        return StateVerdict(state, Verdict.CANNOT if waits else Verdict.DRAIN, None, whys)

    def caution(self, path: str) -> str:
        """What to mind where a part with another name has been begun: what it said to others was said with the old."""
        now, part = self.names.paths[path], self.old.part(path)
        if part is not None and part.kind is Kind.SIGNAL:
            return f"mind the signal: who says {path!r} must say {now!r}, and what was said before is not heard"
        if part is not None and part.kind is not Kind.STEP:
            return f"{path!r} is called {now!r}"
        return (
            f"mind the keys: what {path!r} began with ID:{path}:execute is repeated, and compensated, with "
            f"ID:{now}:execute"
        )

    def why_not(self, move: Transition) -> _Lost | None:
        """Why the new machine does not have *move*; None: it has."""
        event, source, target = move.event, self.names.state(move.source), self.names.state(move.target)
        for state in (move.source, move.target):
            why = self.why_not_there(state)
            if why is not None:
                return _Lost(why, state)
        leads = self.has.get((event, source))
        if leads == target:
            return None
        # Whatever brought it so far (it was executed, or a person says so), what follows is what differs.
        subject = self.machine.places[move.source].part
        who = repr(subject.path) if subject is not None else "it"
        before = f"{who} {_DONE.get(event, WORDS[event])}"
        if leads is None:
            return _Lost(f"{before}: version {self.new.version} has no such move there")
        entered = self.theirs.places[leads].part
        is_new = entered is not None and entered.path not in self.names.paths.values()
        return _Lost(
            f"{before}: version {self.new.version} then goes on to {place_in_words(leads)!r}"
            f"{', which is new' if is_new else ''}, not to {place_in_words(target)!r}"
        )

    def why_not_there(self, state: str) -> str | None:
        """Why the new machine does not have *state*, or has another thing there; None: it has it."""
        phase, part = self.machine.places[state]
        if part is None:
            return None
        path = self.names.paths[part.path]
        was, other = self.old.part(part.path), self.new.part(path)
        assert was is not None
        if other is None:
            return f"{path!r} is no part of it any more"
        if other.kind is not was.kind:
            return f"{path!r} was a {was.kind.value} and is a {other.kind.value}"
        why = self.why_not_the_branches(was, other)
        if why is not None:
            return why
        if self.names.state(state) in self.theirs.states:
            return None
        if phase in (COMPENSATING, RETRYING_COMPENSATION) or (phase == STUCK and was.compensatable):
            return f"{path!r} can no longer be compensated"
        if phase == PROBING:
            return f"{path!r} has no probe any more"
        if was.forward_only != other.forward_only:
            return f"{path!r} {'is no longer' if was.forward_only else 'is now'} after the pivot"
        if was.pivot != other.pivot:
            return f"{path!r} is {'no longer' if was.pivot else 'now'} the pivot"
        return f"{path!r} {'can now' if other.compensatable else 'can no longer'} be compensated"

    def why_not_the_branches(self, was: PartShape, other: PartShape) -> str | None:
        """Why a group's branches are others than they were: those that exist, or how each of them goes."""
        if was.branches and was.path != other.path:
            return f"the branches of {was.path!r} are executions that are named after it, and not after {other.path!r}"
        before, after = dict(was.branches), dict(other.branches)
        # A branch more to choose from is in nobody's way; one more in a group is missing in those that were begun.
        if was.kind is Kind.CHOICE:
            after = {name: branch for name, branch in after.items() if name in before}
        if before.keys() != after.keys():
            parts = [f"{name!r} is gone" for name in before if name not in after]
            parts += [f"{name!r} is new" for name in after if name not in before]
            return f"the branches of {other.path!r} are others: {', '.join(parts)}"
        unsafe = [name for name, branch in before.items() if branch.saga in self.unsafe_branches]
        if unsafe:
            return f"the branches of {other.path!r} go another way: {', '.join(map(repr, unsafe))}"
        return None


def _all_fold(comparison: Comparison) -> bool:
    """Whether every history of a branch is one of the new definition; an ended one too, for it may be undone yet."""
    return all(each.becomes is not None and each.verdict is not Verdict.DEPENDS for each in comparison.states) and all(
        map(_all_fold, comparison.branches)
    )


def _of_nothing(old: Shape, state: str) -> StateVerdict:
    if state in ENDED:
        return StateVerdict(state, Verdict.ENDED)
    parked = phase_of(state) in STUCK_PHASES
    return StateVerdict(
        state, Verdict.CANNOT if parked else Verdict.DRAIN, None, (f"no saga is named {old.saga!r} any more",)
    )


def _changes(old: Shape, new: Shape, names: _Renaming, branches: Iterable[Comparison]) -> Iterable[str]:
    """What is different, part by part, in words."""
    after = {part.path: part for part in new.parts}
    met = {names.paths[part.path]: part for part in old.parts}
    for path, part in met.items():
        if path not in after:
            yield f"{path!r} is gone"
        elif part.path != path:
            yield f"{part.path!r} is called {path!r} now"
    for number, part in enumerate(new.parts):
        if part.path not in met:
            before = f"after {new.parts[number - 1].path!r}" if number else "at the beginning"
            yield f"{part.path!r} is new, {before}"
    kept = [path for path in met if path in after]
    if kept != [part.path for part in new.parts if part.path in met]:
        yield f"the order is another: {', '.join(part.path for part in new.parts)}"
    for path in kept:
        yield from _changes_of(path, met[path], after[path])
    for branch in branches:
        for change in branch.changes:
            yield f"branch {branch.saga!r}: {change}"


def _changes_of(path: str, was: PartShape, now: PartShape) -> Iterable[str]:
    if was.kind is not now.kind:
        yield f"{path!r} was a {was.kind.value} and is a {now.kind.value}"
        return
    for name, does, does_not in (
        ("compensatable", "can now be compensated", "can no longer be compensated"),
        ("probed", "has a probe now", "has no probe any more"),
        ("pivot", "is the pivot now", "is no longer the pivot"),
        ("repeatable", "may now be repeated in doubt", "may no longer be repeated in doubt"),
    ):
        if getattr(was, name) != getattr(now, name):
            yield f"{path!r} {does if getattr(now, name) else does_not}"
    before, after = dict(was.branches), dict(now.branches)
    for name in before.keys() - after.keys():
        yield f"the branch {name!r} of {path!r} is gone"
    for name in after.keys() - before.keys():
        yield f"the branch {name!r} of {path!r} is new"
