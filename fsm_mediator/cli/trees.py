"""The lines of a listing, in which branches are below their execution, and the next command for an execution.

This module reads only the journal and not the app, so it does not know the kind of a part. It guesses: a part with
branches in the journal is a group, and a wait without branches and without an end is a wait for a signal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Final, TypeAlias

import attrs

from fsm_mediator.cli.console import next_command
from fsm_mediator.cli.loading import App
from fsm_mediator.definition.saga import all_definitions
from fsm_mediator.execution.rules import NOT_BEGUN
from fsm_mediator.ids import group_of
from fsm_mediator.journal.planning import planned_of
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.machine.parts import Kind
from fsm_mediator.states import COMPENSATING, ENDED, STUCK_PHASES, SUCCEEDED, WAITING, phase_of, split_state

Signals: TypeAlias = "frozenset[tuple[str, str, str]]"
"""The signals of an app. For each signal: the name of its saga or branch, the version, and the path of the signal."""

SHOWN: Final = 8
"""The maximum number of branches that are shown for one execution. Branches that have not succeeded come first."""

COUNTED: Final = 10_000
"""The maximum number of branches that are counted for one execution. The newest branches are counted."""


@attrs.frozen
class Line:
    """One line of a listing: an execution, or the number of an execution's branches that are not shown.

    Attributes:
        depth: The level of indentation. 0 for an execution, 1 for its branches, and so on.
        entry: The execution.
        branches: The number of branches in each phase, for the group that the execution is in now.
        left: The number of branches of *entry* that are not shown. 0 if the line shows the execution itself.
    """

    depth: int
    entry: Entry
    branches: Counter[str] = attrs.field(factory=Counter)
    left: int = 0


def is_dormant(entry: Entry) -> bool:
    """Whether an execution is a branch that begins only when another branch has settled (``at_most``)."""
    return entry.wake_at == float("inf")


def tree(journal: Journal, entry: Entry, depth: int = 0) -> Iterator[Line]:
    """Yield the line of an execution, then the lines of the branches of its current group and of their branches."""
    phase, path = split_state(entry.state)
    branches: list[Entry] = []
    planned = None
    if phase in (WAITING, COMPENSATING, *STUCK_PHASES):
        children = islice(journal.entries(parent=entry.saga_id), COUNTED)
        branches = [child for child in children if group_of(child.saga_id) == path][::-1]  # in the defined order
        planned = planned_of(journal, entry.saga_id)
    counted = Counter("dormant" if is_dormant(each) else phase_of(each.state) for each in branches)
    if planned is not None:
        counted[NOT_BEGUN] = planned.end - planned.first
    yield Line(depth, entry, counted)
    left = len(branches) - SHOWN
    if left > 0:
        branches = sorted(branches, key=lambda branch: (branch.state == SUCCEEDED, is_dormant(branch)))[:SHOWN]
    for branch in branches:
        yield from tree(journal, branch, depth + 1)
    if left > 0:
        yield Line(depth + 1, entry, left=left)


def signals_of(app: App | None) -> Signals | None:
    """Every signal of the app's sagas and of their branches. None if *app* is None."""
    if app is None:
        return None
    members = [member for saga in app.sagas for member in all_definitions(saga)]
    return frozenset(
        (each.name, each.version, part.path) for each in members for part in each.parts if part.kind is Kind.SIGNAL
    )


def what_next(line: Line, signals: Signals | None = None) -> str | None:
    """The command line with which a person resumes an execution.

    None if the execution has ended, or if it needs no person as far as the journal shows.

    Args:
        line: The line of the execution.
        signals: The result of `signals_of` for the app. None if no app is loaded.
    """
    entry = line.entry
    phase, path = split_state(entry.state)
    if entry.state in ENDED or line.left:
        return None
    if phase in STUCK_PHASES:
        return next_command("retry", entry.saga_id)
    if phase != WAITING or line.branches or entry.driver is not None:
        return None
    command = next_command("signal", entry.saga_id, path, "VALUE")
    if signals is not None:
        return command if (entry.acceptance.saga, entry.acceptance.version, path) in signals else None
    return command if entry.wake_at is None else f"{command}  (if it is a signal)"
