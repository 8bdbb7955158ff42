"""A small model of the journal's protocol: one execution, two drivers, lost answers; searched exhaustively.

Each state holds what the journal keeps and what each driver believes. Each action is one call of a driver, or one thing
that happens to it. `NAMES` are the invariants that docs/journal.md names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

DRIVERS = (0, 1)
RECORDS = 3
EPOCHS = 3
POSTS = 1


class Belief(NamedTuple):
    """What a driver that drives the execution knows of it: its epoch, its last record, its inbox."""

    epoch: int
    seq: int
    mail: tuple[int, ...] = ()


class State(msgspec.Struct, frozen=True):
    """The journal and the drivers.

    *writers*: of each record the driver and the epoch that it believed in, then the owner and the epoch in the journal.
    *taken*: the inbox items that were dealt with. *posted*: how many items were accepted under a token that is kept.
    *pruned*: how often the execution was deleted, and *told*: how often a pruning caller was told so.
    """

    owner: int | None = None
    epoch: int = 0
    writers: tuple[tuple[int, int, int | None, int], ...] = ()
    ended: bool = False
    mail: tuple[int, ...] = ()
    taken: tuple[int, ...] = ()
    posted: int = 0
    pruned: int = 0
    told: int = 0
    alive: tuple[bool, ...] = (True, True)
    beliefs: tuple[Belief | None, ...] = (None, None)

    @property
    def is_free(self) -> bool:
        """Whether a driver may claim it."""
        return (
            self.epoch > 0 and not self.ended and not self.pruned and (self.owner is None or not self.alive[self.owner])
        )

    def believing(self, driver: int, belief: Belief | None) -> State:
        """The state in which *driver* believes this."""
        return replace(self, beliefs=tuple(belief if each == driver else self.beliefs[each] for each in DRIVERS))

    def accepts(self, driver: int, belief: Belief) -> bool:
        """Whether the journal takes the next commit of a driver that believes this."""
        fits = (self.owner, self.epoch) == (driver, belief.epoch) and len(self.writers) == belief.seq
        return fits and not self.pruned


Action: TypeAlias = "tuple[str, int]"
"""What happens, and to which driver. A name that ends with ``_lost``: it is done, and its answer is lost."""

Step: TypeAlias = "tuple[Action, str, State]"
"""An action, what the journal answers, and the state after it."""


def steps(state: State) -> Iterator[Step]:
    """Every step that is possible in *state*."""
    yield from _of_others(state)
    for driver in DRIVERS:
        belief = state.beliefs[driver]
        yield from _of_idle(state, driver) if belief is None else _of_driving(state, driver, belief)
        if state.alive[driver] and state.epoch < EPOCHS:
            alive = tuple(each != driver and state.alive[each] for each in DRIVERS)
            yield ("dismiss", driver), "done", replace(state, alive=alive, owner=_unless(state.owner, driver))
        if not state.alive[driver]:
            alive = tuple(each == driver or state.alive[each] for each in DRIVERS)
            yield ("enlist", driver), "done", replace(state, alive=alive)
        if state.epoch > 1:
            # A thread of it slept since an earlier claim: the number of its record fits again, its epoch does not.
            yield ("append_late", driver), "fenced", state
            yield ("release_late", driver), "done", state


def _of_others(state: State) -> Iterator[Step]:
    """The steps of a sender and of a person who prunes. A call with ``_again`` has the token of the one before."""
    if state.epoch and state.posted < POSTS:
        if state.ended:
            yield ("post", 0), "refused", state
        else:
            number = state.posted + 1
            yield ("post", 0), "done", replace(state, mail=(*state.mail, number), posted=number)
    if state.posted:
        yield ("post_again", 0), "refused" if state.pruned else "done", state
    if state.ended and not state.pruned:
        yield ("prune", 0), "1", replace(state, pruned=1, told=1)
        yield ("prune_lost", 0), "1", replace(state, pruned=1)
    if state.pruned:
        yield ("prune_again", 0), "1", replace(state, told=1)


def _of_idle(state: State, driver: int) -> Iterator[Step]:
    """The steps of a driver that drives nothing."""
    if not state.alive[driver]:
        return
    if not state.epoch:
        opened = replace(state, owner=driver, epoch=1, writers=((driver, 1, driver, 1),))
        yield ("open", driver), "done", opened.believing(driver, Belief(1, 1))
        yield ("open_lost", driver), "done", opened
        return
    yield ("open", driver), "taken", state
    if state.owner == driver:
        # The answer to its claim or its commit was lost: it finds out, or claims again. It does not claim its own among
        # others.
        own = state.believing(driver, Belief(state.epoch, len(state.writers), state.mail))
        yield ("look", driver), "own", own
        yield ("claim_again", driver), "done", own
        yield ("claim_all_again", driver), "done", own
        yield ("claim_some", driver), "none", state
    elif state.pruned:
        yield ("claim", driver), "unknown", state
        yield ("claim_all", driver), "none", state
        yield ("claim_some", driver), "none", state
    elif not state.is_free:
        if not state.ended:
            yield ("claim", driver), "held", state
            yield ("claim_all", driver), "none", state
            yield ("claim_some", driver), "none", state
    elif state.epoch <= EPOCHS:
        claimed = replace(state, owner=driver, epoch=state.epoch + 1)
        believed = claimed.believing(driver, Belief(claimed.epoch, len(state.writers), state.mail))
        for verb in ("claim", "claim_all", "claim_some"):
            yield (verb, driver), "done", believed
            yield (f"{verb}_lost", driver), "done", claimed


def _of_driving(state: State, driver: int, belief: Belief) -> Iterator[Step]:
    """The steps of a driver that believes that it drives."""
    idle = state.believing(driver, None)
    yield ("restart", driver), "done", idle  # its process loses its memory
    if belief.epoch != state.epoch or state.owner is None or state.pruned:
        yield ("release", driver), "done", idle
    elif state.epoch <= EPOCHS:
        yield ("release", driver), "done", replace(idle, owner=None)
    verb = "end" if belief.seq == RECORDS - 1 else "append"
    if not state.accepts(driver, belief):
        yield (verb, driver), "fenced", idle
        return
    written = replace(
        state,
        writers=(*state.writers, (driver, belief.epoch, state.owner, state.epoch)),
        mail=tuple(each for each in state.mail if each not in belief.mail),
        taken=(*state.taken, *belief.mail),
        ended=verb == "end",
        owner=None if verb == "end" else driver,
    )
    known = Belief(belief.epoch, belief.seq + 1, written.mail)
    yield (verb, driver), "done", written.believing(driver, None if verb == "end" else known)
    yield (f"{verb}_lost", driver), "done", written  # it believes what it believed, and repeats its commit


def _unless(owner: int | None, driver: int) -> int | None:
    return None if owner == driver else owner


NAMES = {
    "one writer": "only the owner writes a record, under its epoch; a driver that lost the execution writes nothing",
    "no gap, no fork": "records are numbered without a gap, and none is written twice, even if a commit is repeated",
    "each item once": "an accepted item is in the inbox, or was consumed by one commit, even if it is posted again",
    "counted once": "a prune deletes an execution once, and counts it once",
    "nothing after the end": "an ended execution has no owner, and no record after its end",
    "never abandoned": (
        "from every state the execution can end; no lost answer leaves an execution that no driver can drive"
    ),
}
"""The invariants, in words."""


def broken(state: State) -> list[str]:
    """The invariants that *state* breaks; the last one is of the whole graph."""
    holds = {
        "one writer": all(each[:2] == each[2:] for each in state.writers),
        "no gap, no fork": len(state.writers) <= RECORDS,
        "each item once": sorted((*state.mail, *state.taken)) == list(range(1, state.posted + 1)),
        "counted once": state.told <= state.pruned <= 1,
        "nothing after the end": not state.ended or (state.owner is None and len(state.writers) == RECORDS),
    }
    return [name for name, holding in holds.items() if not holding]


Graph: TypeAlias = "dict[State, tuple[Step | None, State | None]]"
"""Every reachable state, with the step that first led to it, and the state before that step."""


def explored(possible: Callable[[State], Iterator[Step]] = steps) -> Graph:
    """Every state that can be reached, by the shortest path."""
    graph: Graph = {State(): (None, None)}
    todo = deque(graph)
    while todo:
        state = todo.popleft()
        for step in possible(state):
            if step[2] not in graph:
                graph[step[2]] = step, state
                todo.append(step[2])
    return graph


def traps(graph: Graph, possible: Callable[[State], Iterator[Step]] = steps) -> set[State]:
    """The states from which no end can be reached."""
    before: dict[State, set[State]] = {state: set() for state in graph}
    for state in graph:
        for _, _, after in possible(state):
            before[after].add(state)
    todo = [state for state in graph if state.ended]
    good = set(todo)
    while todo:
        new = before[todo.pop()] - good
        good |= new
        todo += new
    return set(graph) - good


def path_to(graph: Graph, state: State) -> list[Step]:
    """The shortest path to *state*."""
    path: list[Step] = []
    before: State | None = state
    while before is not None:
        step, before = graph[before]
        if step is not None:
            path.append(step)
    return path[::-1]
