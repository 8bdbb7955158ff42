"""Graph: numbered nodes and edges. The graph finds dead ends and forbidden cycles, and counts paths.

The graph knows nothing of sagas. An edge is stored as one number: twice its target node, plus one if the edge is *cut*.
A cycle with a cut edge is allowed. A cycle without a cut edge is forbidden.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable


class Graph:
    """Nodes, numbered from 0, and their edges.

    Attributes:
        onward: For each node, its outgoing edges. An edge is the number ``2 * target``, plus one if the edge is cut:
            see `add_edge`.
    """

    def __init__(self) -> None:
        self.onward: list[list[int]] = []

    def add(self) -> int:
        """Add a node, and return its number."""
        self.onward.append([])
        return len(self.onward) - 1

    def add_edge(self, source: int, target: int, *, cut: bool) -> None:
        """Add an edge. If *cut*, `cycle` ignores cycles through the edge, and `ways` ignores paths through the edge."""
        self.onward[source].append(2 * target + cut)

    def reached(self, starts: Iterable[int], *, leave: Container[int] = ()) -> set[int]:
        """The nodes that can be reached from *starts*. The edges of the nodes in *leave* are not followed."""
        todo = list(starts)
        seen = set(todo)
        while todo:
            number = todo.pop()
            if number in leave:
                continue
            for edge in self.onward[number]:
                if edge >> 1 not in seen:
                    seen.add(edge >> 1)
                    todo.append(edge >> 1)
        return seen

    def first_dead_end(self, ends: Iterable[int]) -> int | None:
        """The lowest number of a node from which no node in *ends* can be reached. None if there is no such node."""
        backward: list[list[int]] = [[] for _ in self.onward]
        for source, edges in enumerate(self.onward):
            for edge in edges:
                backward[edge >> 1].append(source)
        todo = list(ends)
        seen = bytearray(len(self.onward))
        for number in todo:
            seen[number] = True
        while todo:
            for source in backward[todo.pop()]:
                if not seen[source]:
                    seen[source] = True
                    todo.append(source)
        found = seen.find(0)
        return found if found >= 0 else None

    def cycle(self) -> list[int]:
        """The nodes of a cycle without cut edges, in order. Empty if there is no such cycle.

        If there are several such cycles, the result goes through the node with the lowest number on any of them. The
        result is a shortest cycle through this node.
        """
        every = (self._shortest_cycle(number) for number in self._with_ways_in())
        return next((nodes for nodes in every if nodes), [])

    def _with_ways_in(self) -> list[int]:
        """The nodes that are on a cycle without cut edges, or can be reached from such a cycle.

        The method repeatedly removes the nodes without an incoming edge, and returns the rest.
        """
        ways_in = [0] * len(self.onward)
        for edges in self.onward:
            for edge in edges:
                if not edge & 1:
                    ways_in[edge >> 1] += 1
        todo = [number for number, ways in enumerate(ways_in) if not ways]
        while todo:
            for edge in self.onward[todo.pop()]:
                if not edge & 1:
                    target = edge >> 1
                    ways_in[target] -= 1
                    if not ways_in[target]:
                        todo.append(target)
        return [number for number, ways in enumerate(ways_in) if ways]

    def _shortest_cycle(self, start: int) -> list[int]:
        """The nodes of a shortest path from *start* back to *start* without a cut edge. Empty if there is none."""
        came = {start: start}
        todo = deque([start])
        while todo:
            number = todo.popleft()
            for edge in self.onward[number]:
                if edge == 2 * start:
                    nodes = [number]
                    while nodes[-1] != start:
                        nodes.append(came[nodes[-1]])
                    return nodes[::-1]
                if not edge & 1 and edge >> 1 not in came:
                    came[edge >> 1] = number
                    todo.append(edge >> 1)
        return []

    def ways(self) -> int:
        """The number of paths without cut edges from node 0 to a node whose outgoing edges, if any, are all cut."""
        counts: dict[int, int] = {}
        stack = [0]
        begun: set[int] = set()
        while stack:
            number = stack.pop()
            if number < 0:  # this marks a node whose successors are all counted
                number = -number - 1
                ways = sum(counts.get(edge >> 1, 0) for edge in self.onward[number] if not edge & 1)
                counts[number] = ways or 1
            elif number not in begun:
                begun.add(number)
                stack.append(-number - 1)
                stack.extend(edge >> 1 for edge in self.onward[number] if not edge & 1 and edge >> 1 not in begun)
        return counts[0]
