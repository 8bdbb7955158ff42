"""Planning: the branches of a large group, while they are in the journal and not created; and how many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeGuard

import msgspec

from fsm_mediator.records import Acceptance, Failure


class Plan(msgspec.Struct, frozen=True):
    """The change that a commit makes to planned branches: those of a group too large to be created in one commit.

    A planned branch is no execution: nothing can claim it, and it has no inbox.

    Attributes:
        branches: The branches that are planned now, all of the group. They are numbered from 0. A branch that another
            one names as its successor is created dormant.
        creates: A range of numbers, without its end: create these planned branches. Branches that were created before,
            or have ended, are left alone: the same again changes nothing.
        ends: End all branches that are still planned, with this error. They are never created.
    """

    branches: tuple[Acceptance, ...] = ()
    creates: tuple[int, int] = (0, 0)
    ends: Failure | None = None


class Planned(NamedTuple):
    """The branches of an execution that are still planned.

    Attributes:
        first: The number of the first of them in their group.
        end: The number after that of the last; all between are planned.
        dormant: The number of the first branch that is created dormant, as all after it are; *end*: none is.
        ended: The error with which they ended without being created; None: they will be created.
    """

    first: int
    end: int
    dormant: int
    ended: Failure | None


class PlanningJournal(Protocol):
    """A further method of a journal that takes commits with a `Plan`.

    A journal without it creates every group in one commit, whatever its size.
    """

    def planned(self, saga_id: str) -> Planned | None:
        """The planned branches of an execution; None: there are none."""


class CountingJournal(Protocol):
    """A further method of a journal, so that the driver of a large group need not list all branches at each look.

    Without it all are listed.
    """

    def count_branches(self, saga_id: str) -> dict[str, int]:
        """How many branches of an execution are in each phase. Planned ones are not counted."""


def branches_counted(journal: object, saga_id: str) -> dict[str, int] | None:
    """As `CountingJournal.count_branches`; None: the journal does not count."""
    count: Callable[[str], dict[str, int]] | None = getattr(journal, "count_branches", None)
    return None if count is None else count(saga_id)


def plans_branches(journal: object) -> TypeGuard[PlanningJournal]:
    """Whether *journal* takes commits with a `Plan`, if only through ``__getattr__``."""
    return hasattr(journal, "planned")


def planned_of(journal: object, saga_id: str) -> Planned | None:
    """The planned branches of an execution; None: there are none."""
    return journal.planned(saga_id) if plans_branches(journal) else None
