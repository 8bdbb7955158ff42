"""Fates: for each branch on a way, one way of its own on which it comes to stand as it does there.

To the saga that waits for it a branch is one of a few words (`Status`). That one can come to stand so was found by
walking its own saga; here it is said how, so that it can be played.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fsm_mediator.moves import NOTHING, PARTICIPANT, PERSON, Move
from fsm_mediator.moves.family import GOING_ON, status_of

if TYPE_CHECKING:
    from fsm_mediator.verifier.walking import Walk

_TAKES_TIME: Final = frozenset(("timed out", "abandoned", "late"))
"""What takes real seconds to be played."""


def way_to(walk: Walk, statuses: Sequence[str]) -> tuple[str, ...] | None:
    """The easiest way on which an execution comes to stand as *statuses* say, one after the other; None: there is none.

    Easy is what is short; what takes real time, or a cancel, is taken where nothing else leads there, and a driver that
    dies never, for that is no different from a call that gives no answer.
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
        for move, label, target in walk.leads(number):
            step = _step(move, status_of(walk.nodes[target][0].execution), statuses[reached:])
            if step is not None:
                heapq.heappush(heap, (effort + step[0], next(order), (target, reached + step[1]), place, label))
    return None


def _step(move: Move, status: str, wanted: Sequence[str]) -> tuple[int, int] | None:
    """The effort of a move to where an execution stands so, and how much that is of what is *wanted*; None: not this.

    What is wanted next is either that it settles, or that it goes on from where it has settled, as it is told to.
    """
    if wanted[0] in GOING_ON:
        if move.said in ("retry", "undo"):
            if status in GOING_ON or len(wanted) == 1:
                return 1, 1
            return (1, 2) if status == wanted[1] else None  # it settles at once
        return (1, 0) if move.who == PARTICIPANT and move.said == NOTHING else None  # an abandoned thread ends
    if move.crash or move.who == PERSON or move.said == "deadline" or status not in (*GOING_ON, wanted[0]):
        return None
    effort = 10_000 if move.said in _TAKES_TIME else 100 if move.said == "cancel" else 1
    return effort, int(status == wanted[0])
