"""The frames of nested sagas in the detail view: one frame around both lanes, or one piece in each lane.

A compensating node extends down beside the parts whose failure leads to it. If such a part is in another nested saga
than the compensating node, a frame around both lanes would cross the node. The frame then has two pieces: one in the
forward lane, and one around the saga's own compensating nodes, if there are any::

    ┌─ inner ─────┐  ┌──────────────┐
    │ ┌─────────┐ │  │ compensating │
    │ │executing├─┼─▶│ first        │
    │ └────┬────┘ │  └──────────────┘
    │      ▼      │  ┌─ inner ────────────┐
    │ ┌─────────┐ │  │ ┌──────────────┐   │
    │ │executing├─┼──┼▶│ compensating │   │
    └─┴─────────┴─┘  └─┴──────────────┴───┘
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from fsm_mediator.diagram.layout.strips import Strip, common


@attrs.define
class Scope:
    """The frame of a nested saga. A strip is given by its index, `Strip.number`."""

    path: str
    first: int
    last: int
    whole: bool  # whether one frame is around both lanes
    begins: int | None = None  # the first strip of the piece in the lane of compensation. None if it has no such piece
    ends: int = 0  # the last strip of the piece in the lane of compensation


class Scopes:
    """The frames of all nested sagas of a machine.

    *covered* is the number of strips, counted from the top, that can have a box beside them in the lane of
    compensation. *goes_back* is whether the machine has such boxes.

    Attributes:
        all: The frame of each nested saga, by the saga's path. A saga is before the sagas inside it.
        apart: The maximum number of frames with two pieces that are around the same part.
    """

    def __init__(self, strips: Sequence[Strip], covered: int, *, goes_back: bool) -> None:
        self.strips = strips
        self.all: dict[str, Scope] = {}
        for strip in strips:
            for path in strip.scopes:
                known = self.all.setdefault(path, Scope(path, strip.number, strip.number, whole=False))
                known.last = strip.number
        for scope in self.all.values():
            scope.whole = not goes_back or self._is_whole(scope)
        for strip in strips:
            strip.last = self.reach(strip.number, covered)
        for scope in self.all.values():
            own = [strip for strip in strips[scope.first : scope.last + 1] if strip.is_in_the_way]
            if own and not scope.whole:
                scope.begins, scope.ends = own[0].number, max(strip.last for strip in own)
        two = [path for path, scope in self.all.items() if not scope.whole]
        self.apart: int = max((sum(path in two for path in strip.scopes) for strip in strips), default=0)

    def _is_whole(self, scope: Scope) -> bool:
        """Whether one frame can be around both lanes.

        Always True if the saga has a group, because the branches need both lanes. Otherwise True if all frames around
        this frame are whole, and this frame crosses no compensating node. The frame would cross a compensating node if
        the node extends down from outside to a strip inside, or from inside to a strip outside.
        """
        inside = self.strips[scope.first : scope.last + 1]
        if any(strip.group is not None or strip.branches for strip in inside):
            return True
        around = [outer for outer in inside[0].scopes if outer != scope.path and scope.path.startswith(f"{outer}.")]
        if not all(self.all[outer].whole for outer in around):
            return False
        after = self.strips[scope.last + 1 : scope.last + 2]
        return inside[0].is_in_the_way and all(strip.is_in_the_way for strip in after)

    def reach(self, number: int, covered: int) -> int:
        """The index of the last strip to which a compensating node extends down. At least *number*.

        If the part of one of these strips is given up, the part's edge leads to this compensating node.

        Args:
            number: The index of the node's strip. -1 for the end ``failed``.
            covered: The number of strips, counted from the top, that can have a node beside them.
        """
        if number >= 0 and (self.strips[number].branches or self.strips[number].has_joining_under):
            return number
        while number + 1 < covered:
            here = self.strips[number].scopes if number >= 0 else ()
            there = self.strips[number + 1].scopes
            shared = common(here, there)
            if self.strips[number + 1].is_in_the_way or any(
                self.all[path].whole for path in (*here[shared:], *there[shared:])
            ):
                return number
            number += 1
        return number

    def closing(self, strip: Strip) -> Sequence[str]:
        """The paths of the nested sagas that have their last part in *strip*."""
        return [path for path in strip.scopes if self.all[path].last == strip.number]

    def beginning(self, strip: Strip) -> Sequence[str]:
        """The paths of the nested sagas whose second frame piece begins with *strip*, the outer sagas first."""
        return [path for path, scope in self.all.items() if scope.begins == strip.number]

    def ending(self, strip: Strip) -> Sequence[str]:
        """The paths of the nested sagas whose second frame piece ends with *strip*, the outer sagas first."""
        return [path for path, scope in self.all.items() if scope.begins is not None and scope.ends == strip.number]

    def inside(self, scope: Scope) -> int:
        """How many frames with two pieces can be nested inside the frame *scope*, which has two pieces itself."""
        outer = (path for path in self.all if scope.path.startswith(f"{path}."))
        return self.apart - 1 - sum(not self.all[path].whole for path in outer)

    def is_framed(self, strip: Strip) -> bool:
        """Whether *strip* is inside a frame that contains both lanes."""
        return any(self.all[path].whole for path in strip.scopes)
