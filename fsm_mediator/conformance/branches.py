"""Branches: whether a parent that waited for its branches went on as the records of the branches allow.

Parent and branches may each conform, and yet contradict each other: a group is executed only once every branch has
succeeded, and compensated only once every branch has ended. Branches without records are not judged, unless they are
known to be planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import attrs

from fsm_mediator.conformance.reading import LogEntry, Trace
from fsm_mediator.definition.saga import Saga
from fsm_mediator.execution.rules import NOT_BEGUN
from fsm_mediator.ids import branch_id, is_branch
from fsm_mediator.states import COMPENSATING, ENDED, SUCCEEDED, WAITING, path_of, split_state

PLANNED: Final = "planned"
"""The state of a branch that is still to be created."""

_End: TypeAlias = "tuple[str | None, bool]"
"""The state of a branch, and whether it has ever succeeded."""


@attrs.frozen
class JoinClaim:
    """A move of a parent that implies something of its branches: all have succeeded (*done*), or all have ended."""

    saga: Saga
    saga_id: str
    position: int
    before: LogEntry | None
    entry: LogEntry
    branches: tuple[str, ...]
    done: bool

    def contradiction(self, branch: str, end: _End) -> str | None:
        """The way in which the end of *branch* contradicts the claim; None: it does not."""
        state, has_succeeded = end
        if has_succeeded if self.done else (state in ENDED or state == NOT_BEGUN):
            return None
        return f"its branch {branch!r} {'never succeeded' if self.done else 'has not ended'}, and stands in {state!r}"


@attrs.define
class BranchConsistency:
    """The end of every branch, and the claims of the parents about them."""

    ends: dict[str, _End] = attrs.field(factory=dict)
    claims: list[JoinClaim] = attrs.field(factory=list)

    def note(self, trace: Trace, saga: Saga) -> None:
        """Add an execution that conforms by itself. One from a log is left out: the end of a log may be missing."""
        if trace.state is None:
            return
        if is_branch(trace.saga_id):
            self.ends[trace.saga_id] = _end_of(trace)
        groups: dict[str, tuple[str, ...]] = {}
        before: LogEntry | None = None
        for position, entry in enumerate(trace.moves, 1):
            record = entry.record
            phase, path = split_state(record.source)
            done = phase == WAITING and record.event == "executed"
            if path in groups and (done or (phase == COMPENSATING and record.event == "compensated")):
                self.claims.append(JoinClaim(saga, trace.saga_id, position, before, entry, groups[path], done))
            if record.children is not None:
                group = path_of(record.target)
                groups[group] = tuple(branch_id(trace.saga_id, group, name) for name in record.children)
            before = entry
        if trace.planned is not None and groups:
            first, end, ended = trace.planned
            *_, present = groups.values()
            self.ends.update((branch, (NOT_BEGUN if ended else PLANNED, False)) for branch in present[first:end])

    def contradictions(self, reread: Callable[[str], Trace | None]) -> Iterator[tuple[JoinClaim, str]]:
        """Every claim that a branch contradicts, and why.

        Args:
            reread: Reads a branch again: it may have been read before its parent went on.
        """
        for claim in self.claims:
            for branch in claim.branches:
                why = claim.contradiction(branch, self.ends[branch]) if branch in self.ends else None
                if why is not None and (now := reread(branch)) is not None:
                    why = claim.contradiction(branch, _end_of(now))
                if why is not None:
                    yield claim, why
                    break


def _end_of(trace: Trace) -> _End:
    return trace.state, any(entry.record.target == SUCCEEDED for entry in trace.moves)
