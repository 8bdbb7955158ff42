"""Families: whether an execution that waited for branches went on as they allow.

Each of them may conform by itself, and yet not all of them together: a group is only executed once every branch has
succeeded, and only compensated once none of them goes on or is stuck. What no source tells of is not judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from fsm_mediator.conformance.reading import Told, Trace
from fsm_mediator.definition.saga import Saga
from fsm_mediator.states import COMPENSATING, ENDED, SUCCEEDED, WAITING, path_of, split_state


@attrs.frozen
class _Member:
    """What is kept of a branch: where it stands, and whether it ever succeeded."""

    state: str
    succeeded: bool


@attrs.frozen
class Claim:
    """What a move of a parent says of its branches: that all succeeded (*done*), or that none of them goes on."""

    saga_id: str
    saga: Saga
    position: int
    before: Told | None
    told: Told
    branches: tuple[str, ...]
    done: bool


@attrs.define
class Families:
    """The branches that were told of, and what their parents say of them."""

    members: dict[str, _Member] = attrs.field(factory=dict)
    claims: list[Claim] = attrs.field(factory=list)

    def note(self, trace: Trace, saga: Saga) -> None:
        """Take notice of an execution that conforms by itself. Of a log, whose end may be missing, nothing is taken."""
        if trace.state is None:
            return
        if "/" in trace.saga_id:
            self.members[trace.saga_id] = _member(trace)
        planned: dict[str, tuple[str, ...]] = {}
        for position, told in enumerate(trace.moves, 1):
            record = told.record
            phase, path = split_state(record.source)
            done = phase == WAITING and record.event == "executed"
            if path in planned and (done or (phase == COMPENSATING and record.event == "compensated")):
                ids = tuple(f"{trace.saga_id}/{path}.{name}" for name in planned[path])
                before = trace.moves[position - 2] if position > 1 else None
                self.claims.append(Claim(trace.saga_id, saga, position, before, told, ids, done))
            if record.children is not None:
                planned[path_of(record.target)] = record.children

    def broken(self, again: Callable[[str], Trace | None]) -> Iterator[tuple[Claim, str]]:
        """Every claim that a branch contradicts, and how.

        Args:
            again: Reads a branch once more: it may have been read before its parent went on.
        """
        for claim in self.claims:
            for branch in claim.branches:
                member = self.members.get(branch)
                if member is not None and self._contradicts(member, claim):
                    now = again(branch)
                    member = member if now is None else _member(now)
                    if self._contradicts(member, claim):
                        why = "never succeeded" if claim.done else "has not ended"
                        yield claim, f"its branch {branch!r} {why}, and stands in {member.state!r}"
                        break

    @staticmethod
    def _contradicts(member: _Member, claim: Claim) -> bool:
        return not member.succeeded if claim.done else member.state not in ENDED


def _member(trace: Trace) -> _Member:
    return _Member(trace.state or "", any(told.record.target == SUCCEEDED for told in trace.moves))
