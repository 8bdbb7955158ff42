"""Executions with their branches below them, as a person looks at them: who waits for whom, and what to type next.

It reads the journal. Without the app nobody knows what sort of part a state belongs to; but a group has branches in the
journal, and what waits without branches and without an end waits for a signal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeAlias

import attrs

from fsm_mediator.cli.console import next_command
from fsm_mediator.definition.saga import Saga
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import (
    COMPENSATING,
    ENDED,
    STUCK,
    STUCK_EXECUTING,
    STUCK_PHASES,
    SUCCEEDED,
    WAITING,
    phase_of,
    split_state,
)

Signals: TypeAlias = "frozenset[tuple[str, str, str]]"
"""The signals of an app: of each the saga's name (a branch's too), its version and the signal's path."""

SHOWN = 8
"""How many branches of one execution are shown, those first that have not succeeded."""

COUNTED = 10_000
"""How many branches of one execution are looked at, the newest."""


@attrs.frozen
class Line:
    """One line of a listing: an execution, or how many branches more there are.

    Attributes:
        depth: How many executions stand above it.
        entry: The execution.
        branches: How many branches there are of the group that it stands in, by phase.
        left: How many branches of *entry* are not shown; 0: this is the execution itself.
    """

    depth: int
    entry: Entry
    branches: Counter[str] = attrs.field(factory=Counter)
    left: int = 0


def is_dormant(entry: Entry) -> bool:
    """Whether it is a branch that begins only when another has settled (``at_most``)."""
    return entry.wake_at == float("inf")


def phase_in_tree(entry: Entry) -> str:
    """The state without its part; a branch that may not begin yet is ``dormant``."""
    return "dormant" if is_dormant(entry) else phase_of(entry.state)


def branches_of(journal: Journal, entry: Entry) -> list[Entry]:
    """The branches of the group that it stands in, in the order in which they were defined; [] where it is in none."""
    phase, path = split_state(entry.state)
    if phase not in (WAITING, COMPENSATING, STUCK, STUCK_EXECUTING):
        return []
    prefix = f"{entry.saga_id}/{path}."
    children = islice(journal.entries(parent=entry.saga_id), COUNTED)
    return [child for child in children if child.saga_id.startswith(prefix)][::-1]


def tree(journal: Journal, entry: Entry, depth: int = 0) -> Iterator[Line]:
    """The execution, and below it the branches of the group that it stands in, and theirs."""
    branches = branches_of(journal, entry)
    yield Line(depth, entry, Counter(map(phase_in_tree, branches)))
    shown = branches
    if len(branches) > SHOWN:
        shown = sorted(branches, key=lambda branch: (branch.state == SUCCEEDED, is_dormant(branch)))[:SHOWN]
    for branch in shown:
        yield from tree(journal, branch, depth + 1)
    if len(branches) > len(shown):
        yield Line(depth + 1, entry, left=len(branches) - len(shown))


def roots(entries: Iterable[Entry], limit: int) -> list[Entry]:
    """The first *limit* of *entries* that are no branches."""
    return list(islice((entry for entry in entries if entry.acceptance.parent is None), limit))


def signals_of(sagas: Iterable[Saga]) -> Signals:
    """Every signal of these sagas and of their branches."""
    found: set[tuple[str, str, str]] = set()
    for saga in sagas:
        found.update((saga.name, saga.version, part.path) for part in saga.parts if part.kind is Kind.SIGNAL)
        for branches in saga.branches.values():
            found |= signals_of(branches.values())
    return frozenset(found)


def what_next(line: Line, signals: Signals | None = None) -> str | None:
    """What a person can type for it to go on; None: it goes on by itself, for all that is known, or has ended.

    Args:
        line: The execution.
        signals: Those of the app; None: not known.
    """
    entry = line.entry
    phase, path = split_state(entry.state)
    if entry.state in ENDED or line.left:
        return None
    if phase in STUCK_PHASES:
        return next_command("retry", entry.saga_id)
    if phase != WAITING or line.branches or entry.driver is not None:
        return None
    next_ = next_command("signal", entry.saga_id, path, "VALUE")
    if signals is not None:
        return next_ if (entry.acceptance.saga, entry.acceptance.version, path) in signals else None
    return next_ if entry.wake_at is None else f"{next_}  (if it is a signal)"
