"""Traces of branches: for each branch on a path of its parent, a path of the branch through the same statuses.

The search over the parent saga sees a branch only as a `Status`. The separate search over the branch proved that each
status can be reached. This module returns a path of the branch that reaches the statuses.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from fsm_mediator.definition.saga import Saga
from fsm_mediator.verifier.action import NOTHING, PARTICIPANT, POISONED, PROBE_POISONED, SIBLING_FAILED, Action
from fsm_mediator.verifier.actions import ActionModel
from fsm_mediator.verifier.branches import AGAIN, GOING_ON, status_of

_HAVE_IT_GO_ON: Final = frozenset(("retry", "undo", "settled_done", "settled_undone"))
"""Commands after which a settled execution continues."""

_EFFORT: Final = {
    "retry": 1,
    "undo": 1,
    "cancel": 100,
    SIBLING_FAILED: 1_000,
    "settled_done": 1_000,
    "settled_undone": 1_000,
    "timed out": 10_000,
    "abandoned": 10_000,
    "late": 10_000,
    POISONED: 100_000,
    PROBE_POISONED: 100_000,
}
"""The effort of an action, by `Action.observation`. An action that is not in this table has effort 1.

`cheapest_trace` looks for the path whose actions have the least effort together.
"""

_BY_HAND: Final = 1_000_000
"""The additional effort of a settlement by hand, and the effort of an action with changed settings.

A path of the parent contains no settlement of a branch: a retry of the whole saga only retries its branches.
"""

_POISON: Final = frozenset((POISONED, PROBE_POISONED))

_UNSEEN: Final = 1_000
"""The additional effort of a stuck status that the parent's path does not contain."""


class BranchSearch(Protocol):
    """The search over a branch's saga: the members that `cheapest_trace` needs. `StateSpace` implements it.

    Attributes:
        saga: The saga that was searched.
        possible: The actions that can happen to the saga.
    """

    saga: Saga
    possible: ActionModel

    @property
    def branches(self) -> Mapping[str, Mapping[str, Any]]:
        """The searches over the saga's own branches, by the group's path and the branch's name."""

    @property
    def nodes(self) -> Sequence[tuple[Any, Any]]:
        """The abstract state and the ledger of each node that was reached."""

    @property
    def is_broken(self) -> bool:
        """Whether the search found a broken law."""

    def successors(self, number: int) -> Iterable[tuple[Action, str, int]]:
        """The actions from the node with this number, each with its label and the number of its target node."""


def cheapest_trace(walk: BranchSearch, statuses: Sequence[str]) -> tuple[str, ...] | None:
    """The labels of the easiest path of an execution through *statuses*, in order. None if there is no such path.

    A shorter path is easier. A cancel, a settlement by hand and actions that take real time are used only if no other
    path exists. A single crash is never used, because the same statuses can be reached by a call that leaves doubt.
    """
    came: dict[tuple[int, int], tuple[tuple[int, int], str]] = {}
    done: set[tuple[int, int]] = set()
    order = itertools.count()
    heap = [(0, next(order), (0, 0), (0, 0), "")]
    while heap:
        effort, _, place, before, label = heapq.heappop(heap)
        if place in done:
            continue
        done.add(place)
        came[place] = (before, label)
        number, reached = place
        if reached == len(statuses):
            way = []
            while place != (0, 0):
                place, label = came[place]
                way.append(label)
            return tuple(way[::-1])
        stood = status_of(walk.nodes[number][0].execution)
        for move, label, target in walk.successors(number):
            step = _step(move, stood, status_of(walk.nodes[target][0].execution), statuses[reached:])
            if step is not None:
                heapq.heappush(heap, (effort + step[0], next(order), (target, reached + step[1]), place, label))
    return None


def _step(move: Action, stood: str, position: str, wanted: Sequence[str]) -> tuple[int, int] | None:
    """The effort of *move*, and how many of the *wanted* statuses it reaches: none, the first, or the first two.

    Args:
        move: The move.
        stood: The status before the move.
        position: The status after the move.
        wanted: The statuses that are still to be reached, in order. The first is the status of a branch that has ended
            or is stuck, or the running status that such a branch gets by a command.

    Returns:
        The effort and the number. None if the path must not contain the move.
    """
    thread_ends = move.who == PARTICIPANT and move.observation == NOTHING
    if stood not in GOING_ON and not thread_ends and move.observation not in _HAVE_IT_GO_ON:
        return None
    if wanted[0] in GOING_ON:
        if move.observation not in _HAVE_IT_GO_ON:
            return (1, 0) if thread_ends else None
        effort = _EFFORT[move.observation]
        if move.observation.startswith("settled"):
            effort += _BY_HAND
        if position in GOING_ON or len(wanted) == 1:
            return effort, 1
        return (effort, 2) if position == wanted[1] else None  # the branch continues and settles at once
    if (
        (move.crash and move.observation not in _POISON)
        or move.observation in ("deadline", "undo")
        or position not in (*GOING_ON, *AGAIN, wanted[0])
    ):
        return None
    effort = _EFFORT.get(move.observation, 1) if not move.settings else _BY_HAND
    if position in AGAIN and position != wanted[0]:  # a stuck branch: an operator must act before the parent sees it
        effort += _UNSEEN
    return effort, int(position == wanted[0])
