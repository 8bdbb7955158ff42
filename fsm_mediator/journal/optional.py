"""Optional methods of journals, and functions that also work if a journal does not have such a method."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from fsm_mediator.errors import DefinitionError, JournalError
from fsm_mediator.journal.protocol import Entry, Forgotten, Journal, Written
from fsm_mediator.records import Acceptance, InboxItem, Record

OVERTAKEN: Final = 2
"""For each slot of a limit, the number of later attempts that can overtake a queued attempt although a slot is free
for it.
"""


class SlotJournal(Journal, Protocol):
    """A journal that keeps the slots of concurrency limits. Therefore a limit applies to all processes of the journal.

    To announce an attempt under a limit, a driver writes a commit with `Commit.slot`. In the same transaction the
    journal decides whether the attempt has a slot. The number of slots is the smallest number that a living driver
    declares for this limit in `Driver.limits`. The attempt queues if no slot is free, or if earlier attempts queue for
    all free slots. The journal then returns `Queued`. If the commit has no ``wake_at``, the journal gives the execution
    one. A commit with a ``wake_at`` lets its attempt queue even if a slot is free.

    The queue is in the order of arrival. A commit with records goes to the end of the queue. After a commit without
    records, the execution keeps its place, even under a new driver.

    If a slot is free for a queued attempt, the slot stays free until the driver of the attempt asks for it. Meanwhile a
    journal may give other free slots to later attempts, but at most to twice as many attempts as there are slots.

    A slot becomes free when a commit gives it up, when its execution has no living owner, or when its execution is
    claimed. A place in the queue counts only while the execution's owner renews its lease, so that a stopped process
    does not delay other processes.
    """

    def turns(self, driver_id: str) -> list[str]:
        """The queued executions of a driver for which a slot is free now, in the order of arrival."""
        ...


def turns_of(journal: Journal) -> Callable[[str], list[str]] | None:
    """The method `SlotJournal.turns` of a journal.

    None if the journal keeps no slots. Each process then applies its limits alone.
    """
    turns: Callable[[str], list[str]] | None = getattr(journal, "turns", None)
    return turns


class LaterItemsJournal(Journal, Protocol):
    """A journal that can read only the newest items of an inbox.

    The inbox of a group's parent can be long, because each branch adds an item. If the journal is no
    `LaterItemsJournal`, a driver reads the whole inbox each time.
    """

    def inbox_after(self, saga_id: str, number: int) -> Written:
        """The items of an execution's inbox with a number higher than *number*, oldest first."""
        ...


def inbox_after(journal: Journal, saga_id: str, number: int) -> Written:
    """The newer items in the inbox of an execution: see `LaterItemsJournal.inbox_after`.

    If the journal has no such method, the whole inbox is returned.
    """
    read: Callable[[str, int], Written] | None = getattr(journal, "inbox_after", None)
    return journal.inbox(saga_id) if read is None else read(saga_id, number)


class ManyJournal(Journal, Protocol):
    """A journal that can find, claim and read many executions at about the cost of one execution.

    If a journal is no `ManyJournal`, a recovery claims and loads its executions one by one.
    """

    def find_all(self, saga_ids: Sequence[str]) -> dict[str, Entry]:
        """The executions with these ids, by id, each as `find` returns it. Unknown ids are left out."""
        ...

    def claim_all(self, saga_ids: Sequence[str], driver_id: str) -> dict[str, Entry]:
        """Call `claim` for each of these executions, in one transaction.

        Returns the claimed executions by id. An execution is left out if `claim` returns None, or raises an error about
        this execution or the driver. An execution may also be left out while another transaction changes it. The
        journal's own failure is raised.
        """
        ...

    def records_of_all(self, saga_ids: Sequence[str]) -> dict[str, list[Record]]:
        """The records of these executions, by id, each as `records` returns them.

        An execution is left out if it has no records, or if one of its records cannot be read.
        """
        ...


def many_of(journal: Journal) -> ManyJournal | None:
    """Return *journal* if it is a `ManyJournal`, otherwise None."""
    names = ("find_all", "claim_all", "records_of_all")
    many: Any = journal if all(hasattr(journal, name) for name in names) else None
    return many  # type: ignore[no-any-return]


class TransactionJournal(Journal, Protocol):
    """A journal in the application's database, which can open executions in transactions of the application."""

    async def open_within(self, connection: Any, acceptance: Acceptance) -> Entry | None:
        """Open an execution, pending and without an owner, in the present transaction of *connection*.

        The execution exists when the caller commits. If the execution is refused, the transaction can still be used.

        Returns:
            The existing execution with this id. None if the execution was opened.

        Raises:
            DefinitionError, RefusedError: The connection cannot be used. Nothing was sent on it.
            IdTakenError: An execution with this id was deleted.
        """


def open_within_of(journal: Journal) -> Callable[[Any, Acceptance], Awaitable[Entry | None]]:
    """The method `TransactionJournal.open_within` of *journal*, which opens executions in a caller's transaction.

    Raises:
        DefinitionError: *journal* is no `TransactionJournal`.
    """
    found: Callable[[Any, Acceptance], Awaitable[Entry | None]] | None = getattr(journal, "open_within", None)
    if found is None:
        raise DefinitionError(
            f"enqueue(connection=...) needs a journal on PostgreSQL, and this one is a {type(journal).__name__}, whose "
            f"commits are not part of your transaction; leave out connection="
        )
    return found


def patience_of(journal: Journal) -> float | None:
    """The seconds for which a driver repeats a commit that failed in the journal. None if there is no limit."""
    patience: float | None = getattr(journal, "patience", 0.0)
    return patience


def claim_some(
    journal: Journal, driver_id: str, at: float, limit: int, skip: Sequence[str] = (), leave: Sequence[str] = ()
) -> list[Entry]:
    """Claim several executions at once: see `Journal.claim_some`.

    If the journal has no such method, executions are claimed one by one, oldest first.
    """
    if hasattr(journal, "claim_some"):
        return journal.claim_some(driver_id, at, limit, skip, leave)
    found = [saga_id for saga_id in journal.claimable(at, limit + len(leave), skip) if saga_id not in leave]
    claims = (journal.claim(saga_id, driver_id) for saga_id in found[:limit])
    return [claimed for claimed in claims if claimed is not None]


# Methods and parameters that were added to the protocol later: a journal may have been written before them.


def post_item(
    journal: Journal, saga_id: str, item: InboxItem, token: int, clock: Callable[[], float] | None = None
) -> bool:
    """Put an item into the inbox of an execution: see `Journal.post`.

    If the journal's method takes no token, a repeated call may post the item twice.
    """
    return journal.post(saga_id, item, clock=clock, **_taken_by(journal.post, token=token))


def owned_by(journal: Journal, driver_id: str) -> tuple[str, ...]:
    """The ids of all executions that a driver owns, from `Journal.beat` with *everything*.

    If the journal's `beat` has no parameter *everything*, the executions of all drivers are listed and filtered.
    """
    if everything := _taken_by(journal.beat, everything=True):
        return journal.beat(driver_id, **everything)
    journal.beat(driver_id)
    owners = ((entry.saga_id, entry.driver) for entry in journal.entries())
    return tuple(saga_id for saga_id, owner in owners if owner is not None and owner.id == driver_id)


def forgotten_of(journal: Journal, saga_id: str) -> Forgotten | None:
    """The row that is kept for a deleted execution: see `Journal.forgotten`.

    None if the journal has no such method and so keeps no rows of deleted executions.
    """
    return journal.forgotten(saga_id) if hasattr(journal, "forgotten") else None


def is_driver_alive(journal: Journal, driver_id: str) -> bool:
    """Whether a driver is enlisted and alive. False if the journal has no method ``is_driver_alive``."""
    ask: Callable[[str], bool] | None = getattr(journal, "is_driver_alive", None)
    return ask is not None and ask(driver_id)


def damage_in(journal: Journal) -> list[str]:
    """Search for damage in the records: see `Journal.check`.

    Raises:
        JournalError: The journal has no such method, or is so damaged that it cannot be read.
    """
    if not hasattr(journal, "check"):
        raise JournalError(f"a {type(journal).__name__} cannot be checked for damage: it has no method check")
    return journal.check()


def prune_ended(journal: Journal, before: float, *, saga: str | None, forget_ids: bool) -> int:
    """Delete ended executions: see `Journal.prune`.

    Raises:
        JournalError: The journal cannot delete the executions. Or *forget_ids* is set, and the method of the journal
            has no parameter *forget_ids*.
    """
    taken = _taken_by(journal.prune, forget_ids=forget_ids)
    if forget_ids and not taken:
        raise JournalError(
            f"a {type(journal).__name__} cannot forget ids: its method prune takes no forget_ids. Prune without "
            f"forget_ids; nothing was deleted"
        )
    return journal.prune(before, saga=saga, **taken)


def _taken_by(method: Callable[..., Any], **settings: Any) -> dict[str, Any]:
    """Those of *settings* for which *method* has a parameter of the same name."""
    parameters = inspect.signature(method).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return {name: value for name, value in settings.items() if takes_any or name in parameters}
