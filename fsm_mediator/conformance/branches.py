"""Branches: checks the moves of a group's parent against the records of the group's branches.

If each execution conforms, a parent and its branches can still contradict each other. A group succeeds only after every
branch has succeeded. A group is given up only after every branch has ended or got stuck. A group is compensated only
after every branch has ended, and was undone if possible. A branch without records is checked only if the journal
stores that it is not created yet. If a journal has lost branches, `Journal.check` reports the damage.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from fsm_mediator.conformance.reading import LogEntry, Trace
from fsm_mediator.definition.saga import Saga
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.rules import NOT_BEGUN
from fsm_mediator.ids import branch_id, is_branch
from fsm_mediator.machine.parts import GROUPS, Kind
from fsm_mediator.records import Record
from fsm_mediator.states import (
    COMPENSATING,
    ENDED,
    FAILED,
    PENDING,
    SUCCEEDED,
    WAITING,
    is_settled,
    path_of,
    split_state,
)

PLANNED: Final = "planned"
"""The state of a branch that is planned and not created yet."""


@attrs.frozen
class _End:
    """A branch: its current state, all its states so far, and whether its saga can be undone."""

    state: str
    entered: frozenset[str]
    undoable: bool

    @classmethod
    def of(cls, trace: Trace, *, undoable: bool) -> _End:
        return cls(trace.state or PENDING, frozenset(entry.record.target for entry in trace.moves), undoable)


class _Implied(enum.StrEnum):
    """A fact that must be true for each branch of a group, because the parent of the branches made a certain move.

    The value of a member is a text for messages: what is wrong with a branch for which the fact is false.
    """

    SUCCEEDED = "never succeeded"
    SETTLED = "has neither ended nor got stuck"
    UNDONE = "has not ended"

    def problem(self, end: _End) -> str | None:
        """How a branch, described by *end*, contradicts this fact, in words. None if it does not."""
        holds = {
            _Implied.SUCCEEDED: SUCCEEDED in end.entered,
            _Implied.SETTLED: any(map(is_settled, end.entered)),
            _Implied.UNDONE: end.state in (*ENDED, NOT_BEGUN),
        }[self]
        if not holds:
            return f"{self}, and is in {end.state!r}"
        if self is _Implied.UNDONE and end.state == SUCCEEDED and end.undoable:
            return "succeeded, and was not undone"
        return None


_IMPLIED: Final = {
    (WAITING, "executed"): _Implied.SUCCEEDED,
    (WAITING, "in_doubt"): _Implied.SETTLED,
    (WAITING, "exhausted"): _Implied.SETTLED,
    (COMPENSATING, "compensated"): _Implied.UNDONE,
}


@attrs.frozen
class JoinClaim:
    """A move of a parent, and the fact that this move implies for the parent's branches.

    Attributes:
        saga: The saga of the parent.
        saga_id: The id of the parent.
        position: The number of the move, from 1.
        before: The previous move. None if there is no previous move.
        entry: The move of the parent.
        branches: The ids of the branches that the fact is about.
        implied: The fact: it must be true for each of these branches.
    """

    saga: Saga
    saga_id: str
    position: int
    before: LogEntry | None
    entry: LogEntry
    branches: tuple[str, ...]
    implied: _Implied


@attrs.define
class BranchConsistency:
    """Collects all branches and the claims of their parents, and finds contradictions between them.

    Attributes:
        ends: The `_End` of each branch, by id.
        claims: The moves of parents that imply facts about their branches.
    """

    ends: dict[str, _End] = attrs.field(factory=dict)
    claims: list[JoinClaim] = attrs.field(factory=list)

    def note(self, trace: Trace, saga: Saga) -> None:
        """Store *trace*, an execution that conforms. If it is a branch, `ends` gets its states.

        If *trace* is a parent, `claims` gets the moves that imply facts about its branches. An execution from a log is
        ignored, because a log may not have all moves.
        """
        if trace.state is None:
            return
        if is_branch(trace.saga_id):
            self.ends[trace.saga_id] = _End.of(trace, undoable="undo" in saga.machine.events)
        groups: dict[str, tuple[str, ...]] = {}
        before: LogEntry | None = None
        for position, entry in enumerate(trace.moves, 1):
            record = entry.record
            phase, path = split_state(record.source)
            implied = _IMPLIED.get((phase, record.event))
            if path in groups and implied is not None:
                self.claims.append(JoinClaim(saga, trace.saga_id, position, before, entry, groups[path], implied))
            if record.children is not None:
                group = path_of(record.target)
                groups[group] = tuple(branch_id(trace.saga_id, group, name) for name in record.children)
            if record.target in ENDED:
                for names in groups.values():
                    self.claims.append(JoinClaim(saga, trace.saga_id, position, before, entry, names, _Implied.SETTLED))
            before = entry
        if trace.planned is not None and groups:
            first, end, ended = trace.planned
            *_, present = groups.values()
            end_of_all = _End(NOT_BEGUN, frozenset((FAILED,)), False) if ended else _End(PLANNED, frozenset(), False)
            self.ends.update(dict.fromkeys(present[first:end], end_of_all))

    def contradictions(self, reread: Callable[[str], Trace | None]) -> Iterator[tuple[JoinClaim, str]]:
        """For each parent, the first claim that a branch contradicts, and the contradiction in words.

        Args:
            reread: A function that reads a branch again by its id. A branch may have been read before its parent made
                the move.
        """
        reported: set[str] = set()
        for claim in self.claims:
            for branch in claim.branches if claim.saga_id not in reported else ():
                end = self.ends.get(branch)
                why = claim.implied.problem(end) if end is not None else None
                if why is not None and end is not None and (now := reread(branch)) is not None:
                    why = claim.implied.problem(_End.of(now, undoable=end.undoable))
                if why is not None:
                    reported.add(claim.saga_id)
                    yield claim, f"its branch {branch!r} {why}"
                    break


def branches_mismatch(record: Record, execution: Execution) -> str | None:
    """The reason why the branches in *record* do not fit the current state of *execution*. None if they fit."""
    if record.children is None:
        return None
    phase, part = execution.machine.places[execution.state]
    if phase != WAITING or part is None or part.kind not in GROUPS:
        return f"it names branches, and {execution.state!r} waits for none"
    children, known = record.children, part.branches
    if part.each:
        fits = children == tuple(map(str, range(len(children))))
    elif part.kind is Kind.CHOICE:
        fits = len(children) == 1 and children[0] in known
    else:
        fits = children == known
    return None if fits else f"it names the branches {', '.join(children) or 'none'}, which {part.path!r} cannot have"
