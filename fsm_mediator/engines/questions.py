"""Questions: facts about an execution that an engine's adapter needs between turns.

The answers depend only on the state of the execution and the shape of its saga. So they are the same when the engine
replays its log, even if settings and functions have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fsm_mediator.definition.saga import find_signal
from fsm_mediator.execution.execution import Execution
from fsm_mediator.ids import branch_id
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import PENDING, WAITING


def awaits_signal(execution: Execution) -> bool:
    """Whether the execution itself waits for a signal."""
    part = execution.machine.places[execution.state].part
    return execution.phase == WAITING and part is not None and part.kind is Kind.SIGNAL


def may_decide(execution: Execution) -> bool:
    """Whether the next move of *execution* may enter a wait, and so may call a user's deciding function."""
    if execution.phase not in (PENDING, WAITING):
        return False
    parts, part = execution.saga.parts, execution.machine.places[execution.state].part
    following = 0 if part is None else parts.index(part) + 1
    return following < len(parts) and parts[following].kind is not Kind.STEP


def leftovers_of(execution: Execution, below: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The steps that keep their effects if *execution*, a succeeded branch, is not undone. Returns their paths.

    These are all steps of *execution*, and the leftovers of its own branches. *below* has the data of these branches,
    by the path of the group and the name of the branch. Each has a ``summary``.
    """
    found: list[str] = []
    for part in execution.saga.parts:
        if part.kind is Kind.STEP:
            found.append(part.path)
        standing = below.get(part.path, {})
        for name in execution.branches_of(part.path):
            found += (
                f"{part.path}.{name}.{left}" for left in standing.get(name, {}).get("summary", {}).get("leftovers", ())
            )
    return found


def target_of_signal(execution: Execution, name: str) -> tuple[str, str] | None:
    """The id of the branch that gets the signal *name*, and the signal's name in the branch.

    None if the execution itself gets the signal, or if the branch does not exist yet.
    """
    found = find_signal(execution.saga, name)
    if found is None or found.group is None or found.branch not in execution.branches_of(found.group.path):
        return None
    return branch_id(execution.saga_id, found.group.path, found.branch), found.inside
