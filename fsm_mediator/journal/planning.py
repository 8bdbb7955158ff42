"""Planning: branches of a large group that are in the journal but not created yet. The module also counts branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeGuard

import msgspec

from fsm_mediator.records import Acceptance, Failure


class Plan(msgspec.Struct, frozen=True):
    """The change that a commit makes to planned branches.

    If a group has too many branches to create in one commit, its branches are planned first. A planned branch is not
    an execution yet: it cannot be claimed, and it has no inbox.

    Attributes:
        branches: The branches that this commit plans: all branches of the group. They are numbered from 0. A branch
            that another branch names as its successor is created dormant.
        creates: The planned branches to create: the first number, and the number after the last. Branches that were
            created before, or have ended, do not change. Therefore a repetition has no effect.
        ends: The error with which all branches that are still planned end. These branches are never created. None to
            end no branch.
    """

    branches: tuple[Acceptance, ...] = ()
    creates: tuple[int, int] = (0, 0)
    ends: Failure | None = None


class Planned(msgspec.Struct, frozen=True):
    """The branches of an execution that are still planned.

    Attributes:
        first: The number of the first planned branch in the group.
        end: The number after the last planned branch. All branches from *first* on are planned.
        dormant: The number of the first branch that is created dormant. All later branches are created dormant too.
            Equal to *end* if no branch is created dormant.
        ended: The error with which the branches ended before they were created. None if they will be created.
    """

    first: int
    end: int
    dormant: int
    ended: Failure | None


class PlanningJournal(Protocol):
    """A journal that plans branches: it has the optional method `planned`, and accepts commits with a `Plan`.

    In a journal without this method every group is created in one commit, even a large group.
    """

    def planned(self, saga_id: str) -> Planned | None:
        """The planned branches of an execution. None if there are none."""


class CountingJournal(Protocol):
    """A journal that counts the branches of a large group: it has the optional method `count_branches`.

    In a journal without this method a driver lists all branches each time that it checks the group.
    """

    def count_branches(self, saga_id: str) -> dict[str, int]:
        """The number of branches of an execution in each phase. Planned branches are not counted."""


def branches_counted(journal: object, saga_id: str) -> dict[str, int] | None:
    """Count the branches of an execution by phase: see `CountingJournal.count_branches`.

    None if the journal has no such method.
    """
    count: Callable[[str], dict[str, int]] | None = getattr(journal, "count_branches", None)
    return None if count is None else count(saga_id)


def plans_branches(journal: object) -> TypeGuard[PlanningJournal]:
    """Whether *journal* accepts commits with a `Plan`. ``__getattr__`` may provide its method `planned`."""
    return hasattr(journal, "planned")


def planned_of(journal: object, saga_id: str) -> Planned | None:
    """The planned branches of an execution. None if there are none."""
    return journal.planned(saga_id) if plans_branches(journal) else None
