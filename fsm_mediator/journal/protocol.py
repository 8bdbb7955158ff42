"""The `Journal` protocol, and the plain data it takes and gives.

A journal keeps; it judges nothing. It knows executions by id, their records as rows, and which driver holds which
execution. It never calls a step, an observer or a machine, and it reads no field of a record but those named here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeGuard, runtime_checkable

import msgspec

from fsm_mediator.errors import DefinitionError, JournalError
from fsm_mediator.records import Acceptance, InboxItem, Record


class Driver(msgspec.Struct, frozen=True):
    """Who performs effects: one mediator in one process.

    Attributes:
        id: Unique among all drivers there ever were.
        host: The machine's name, for people.
        boot_id: Names the machine and its start; empty where the system tells none.
        pid_namespace: Names the space in which *pid* counts; empty where the system tells none.
        pid: The process.
        started: When the process started, as the system counts; tells a process from a later one with its pid.
    """

    id: str
    host: str = ""
    boot_id: str = ""
    pid_namespace: str = ""
    pid: int = 0
    started: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host or 'this machine'}"


class Commit(msgspec.Struct, frozen=True):
    """What is written for one execution in one transaction: all of it, or nothing.

    Attributes:
        saga_id: The execution.
        records: Its next records, in order; their last target is its state from now on.
        driver: The id of the driver that writes; None where no driver holds the execution before or after.
        epoch: The execution's epoch as the driver knows it; another one in the journal means the lease is lost.
            A new execution starts with epoch 1.
        held: Whether the driver holds the execution from now on; False: parked, stuck or ended.
        wake_at: When a driver must look at it again though nothing came; None: not by itself. In a state of an attempt:
            it has not begun.
        awaits: Whether, held by nobody, it waits until then or for something in its inbox, and is in the midst of
            nothing.
        seen: The number of the newest inbox item that the driver has taken notice of: what came later calls one.
        taken: The numbers of the inbox items that are dealt with, and go.
        acceptance: Given if the execution is new.
        children: New executions, pending and held by nobody, that come into being with this commit.
        dormant: As *children*, to be taken up only once something has come to their inbox.
        posts: Items for the inboxes of other executions: (saga id, item).
    """

    saga_id: str
    records: tuple[Record, ...]
    driver: str | None = None
    epoch: int = 1
    held: bool = True
    wake_at: float | None = None
    awaits: bool = False
    seen: int = 0
    taken: tuple[int, ...] = ()
    acceptance: Acceptance | None = None
    children: tuple[Acceptance, ...] = ()
    dormant: tuple[Acceptance, ...] = ()
    posts: tuple[tuple[str, InboxItem], ...] = ()


class Entry(msgspec.Struct, frozen=True):
    """One execution as the journal lists it.

    Attributes:
        acceptance: What opened it.
        state: Where it stands.
        changed_at: When it came there, in seconds since the epoch.
        seq: The number of its last record; 0: none yet.
        epoch: How often it was taken up by a driver.
        driver: Who holds it; None: nobody (parked, stuck, ended, or not begun).
        driver_alive: Whether that driver lives, as far as can be told from here.
        wake_at: When a driver must look at it again; infinite: it is dormant. In the midst of an attempt: that was
            announced and has not begun.
        mail: How many items are in its inbox.
        called: Whether something is in its inbox that no driver has seen.
        queued: The limit that it waits its turn at, where the mediator that was asked drives it.
    """

    acceptance: Acceptance
    state: str
    changed_at: float
    seq: int
    epoch: int
    driver: Driver | None = None
    driver_alive: bool = False
    wake_at: float | None = None
    mail: int = 0
    called: bool = False
    queued: str | None = None

    @property
    def saga_id(self) -> str:
        """The execution's id."""
        return self.acceptance.saga_id


class IdTakenError(JournalError):
    """`Journal.write` was given an acceptance for an id that exists. Nothing was written."""


Written: TypeAlias = tuple[InboxItem, ...]


@runtime_checkable
class Journal(Protocol):
    """A durable log of records, by execution. Every method may be called from any thread.

    Values (payloads, results) are objects when *encodes* is False. Otherwise they are encoded to JSON by msgspec as
    they are written, and come back as `msgspec.Raw`, to be decoded by who knows their types; one that takes more than
    *max_value_bytes* is refused. *heartbeat* is how many seconds apart a driver is to call `beat`; None: never.

    Every method raises `JournalError` if the journal cannot do it; then nothing was written.
    """

    encodes: bool
    heartbeat: float | None
    max_value_bytes: int

    def write(self, commit: Commit) -> Written:
        """Make *commit* durable; return what is in the execution's inbox after it.

        Raises:
            IdTakenError: It opens an execution whose id exists.
            LeaseLostError: The execution's epoch is another one, or another driver holds it.
        """

    def write_all(self, commits: Sequence[Commit]) -> list[Written | JournalError]:
        """Make many commits, of different executions, durable at the price of one.

        Each stands for itself: what `write` would raise for one is given in its place, and harms no other.
        """

    def find(self, saga_id: str) -> Entry | None:
        """The execution of this id."""

    def records(self, saga_id: str) -> list[Record]:
        """Its records, in order."""

    def inbox(self, saga_id: str) -> Written:
        """Its inbox, oldest first."""

    def entries(
        self,
        *,
        phase: str | None = None,
        saga: str | None = None,
        parent: str | None = None,
        before: float | None = None,
        limit: int | None = None,
    ) -> Iterator[Entry]:
        """The executions, newest first.

        Args:
            phase: Only those in this phase (``stuck`` takes in ``stuck_executing``), or in exactly this state.
            saga: Only those of the saga of this name.
            parent: Only the children of this execution.
            before: Only those that came where they stand before this time.
            limit: At most so many.
        """

    def post(self, saga_id: str, item: InboxItem) -> bool:
        """Put *item* into an inbox, durably; False, and nothing is done, if the execution has ended or is unknown."""

    def enlist(self, driver: Driver) -> None:
        """Make *driver* known, and count it as alive from now on."""

    def beat(self, driver_id: str) -> tuple[str, ...]:
        """Renew a driver's lease. Returns the ids of the executions it holds that have something in their inbox.

        Raises:
            LeaseLostError: There is no such driver.
        """

    def dismiss(self, driver_id: str) -> None:
        """Forget a driver: what it still holds is free from now on."""

    def claim(self, saga_id: str, driver_id: str) -> Entry | None:
        """Take an unheld execution (or one whose driver is gone): it gets a new epoch. None: somebody holds it.

        A driver cannot claim what it holds itself.

        Raises:
            UnknownExecutionError: There is no such execution.
        """

    def release(self, saga_id: str, epoch: int) -> None:
        """Hold an execution no longer, without a record. Does nothing if the epoch is another one."""

    def claimable(self, at: float, limit: int, skip: Sequence[str] = ()) -> list[str]:
        """Executions that a driver should take up at time *at*, oldest first, at most *limit*.

        Those not ended whose driver is gone, and those held by nobody that are pending, are in the midst of an
        attempt, are due, or have something in their inbox that no driver has seen. Stuck ones only where a branch of
        theirs has something to say; dormant ones once something has come.

        Args:
            at: The time, in seconds since the epoch.
            limit: At most so many.
            skip: Fingerprints that the asking driver cannot drive.
        """

    def next_wake(self) -> float | None:
        """The earliest ``wake_at`` of all executions that nobody holds."""

    def prune(self, before: float, *, saga: str | None = None, limit: int = 1000) -> int:
        """Delete at most *limit* executions that ended before that time, with all they had; return how many.

        Branches go with the whole, once none of them goes on: what is stuck of an ended whole was settled with it.
        """

    def close(self) -> None:
        """Release what the journal holds open. It opens again when it is used again."""


_MEMBERS: Final = (
    *Journal.__annotations__,
    *(name for name, member in vars(Journal).items() if callable(member) and not name.startswith("_")),
)


def is_journal(candidate: object) -> TypeGuard[Journal]:
    """Whether it has all that a journal has; if only by handing on to another what is asked of it.

    ``isinstance`` does not see that from Python 3.12 on, which looks past ``__getattr__``.
    """
    return all(hasattr(candidate, name) for name in _MEMBERS)


def check_bounds(before: Any, limit: Any) -> None:
    """Refuse a time that is no number: SQLite takes any text for later than all times, and would prune everything.

    Raises:
        DefinitionError: *before* is no number, or *limit* no whole number.
    """
    is_time = isinstance(before, (int, float)) and not isinstance(before, bool) and -math.inf <= before <= math.inf
    if before is not None and not is_time:
        raise DefinitionError(
            f"before={before!r} is no time: give seconds since the epoch, such as time.time() - 30 * 86400; "
            f"of a datetime, its .timestamp()"
        )
    if limit is not None and type(limit) is not int:
        raise DefinitionError(f"limit={limit!r} must be a whole number")
