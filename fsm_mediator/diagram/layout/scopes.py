"""The frames of nested sagas in the detail view: whole, or a piece in each lane. Plain geometry.

A compensation is as tall as all parts that are given up to it. If such a part is in another nested saga than the
compensation, a frame around both lanes would be in the way. The frame then has a piece in the forward lane, and a
piece around its own compensations, if there are any::

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
    """A nested saga: the numbers of the first and last strip of each piece."""

    path: str
    first: int
    last: int
    whole: bool  # whether it is one frame around both lanes
    begins: int | None = None  # the first of its strips with a node in the other lane; None: there is none
    ends: int = 0  # the last strip that a compensation inside it reaches


class Scopes:
    """All nested sagas of a machine.

    Attributes:
        all: The nested sagas by path, the outer ones first.
        apart: How many nested sagas with two pieces are in each other.
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
        """Whether no compensation reaches into *scope* or out of it; a group's branches need both lanes."""
        inside = self.strips[scope.first : scope.last + 1]
        if any(strip.group is not None or strip.branches for strip in inside):
            return True
        around = [outer for outer in inside[0].scopes if outer != scope.path and scope.path.startswith(f"{outer}.")]
        if not all(self.all[outer].whole for outer in around):
            return False
        after = self.strips[scope.last + 1 : scope.last + 2]
        return inside[0].is_in_the_way and all(strip.is_in_the_way for strip in after)

    def reach(self, number: int, covered: int) -> int:
        """The last of the strips after *number* whose failure leads to the same; *number* itself if there is none.

        Args:
            number: A strip with a compensation; -1 for the end ``failed``.
            covered: How many strips may be reached.
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
        """The nested sagas that end with *strip*."""
        return [path for path in strip.scopes if self.all[path].last == strip.number]

    def beginning(self, strip: Strip) -> Sequence[str]:
        """The nested sagas whose piece in the other lane begins with *strip*, the outer ones first."""
        return [path for path, scope in self.all.items() if scope.begins == strip.number]

    def ending(self, strip: Strip) -> Sequence[str]:
        """The nested sagas whose piece in the other lane ends with *strip*, the outer ones first."""
        return [path for path, scope in self.all.items() if scope.begins is not None and scope.ends == strip.number]

    def inside(self, scope: Scope) -> int:
        """How many nested sagas with two pieces may be inside *scope*, which is one of them."""
        outer = (path for path in self.all if scope.path.startswith(f"{path}."))
        return self.apart - 1 - sum(not self.all[path].whole for path in outer)

    def is_framed(self, strip: Strip) -> bool:
        """Whether a frame around both lanes is around *strip*."""
        return any(self.all[path].whole for path in strip.scopes)
