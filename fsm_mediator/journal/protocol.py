"""The `Journal` protocol, and the plain data of its arguments and results.

A journal stores, and judges nothing. It knows executions by id, their records as rows, and the driver that owns each
execution. It never calls a step, an observer or a machine, and reads only those fields of a record that are named here.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeGuard, runtime_checkable

import msgspec

from fsm_mediator.errors import DefinitionError, JournalError
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.notes import Note
from fsm_mediator.journal.planning import Plan
from fsm_mediator.records import Acceptance, InboxItem, Record, VerbAnswer


class Definition(msgspec.Struct, frozen=True):
    """A definition that a driver knows.

    Attributes:
        fingerprint: The fingerprint of its shape.
        shape: Its shape, as JSON.
    """

    fingerprint: str
    shape: str


ENGINE: Final = "engine:"
"""The beginning of the id of a driver that is an engine."""


class Driver(msgspec.Struct, frozen=True):
    """A driver performs effects: it is one mediator in one process.

    Attributes:
        id: Unique among all drivers of all times.
        host: The machine's name, for people.
        boot_id: An id of the machine since its last start; empty if the system has none.
        pid_namespace: An id of the namespace in which *pid* counts; empty if the system has none.
        pid: The process.
        started: When the process started, in the system's own count: a later process with this pid has another.
        limits: Names of limits, and how many attempts each allows at a time. Empty in entries.
        definitions: The definitions that it can drive. Empty in entries.
    """

    id: str
    host: str = ""
    boot_id: str = ""
    pid_namespace: str = ""
    pid: int = 0
    started: str = ""
    limits: tuple[tuple[str, int], ...] = ()
    definitions: tuple[Definition, ...] = ()

    @property
    def is_engine(self) -> bool:
        """Whether it is an engine, which has no process, and always counts as alive."""
        return self.id.startswith(ENGINE)

    def __str__(self) -> str:
        if self.is_engine:
            return f"the engine {self.host}"
        return f"process {self.pid} on {self.host or 'this machine'}"


class Recoveries(NamedTuple):
    """How often an execution was claimed from a dead driver while an attempt, probe or decision was under way.

    **total*: since it last made progress; *here*: since its last record.
    """

    total: int = 0
    here: int = 0


NO_RECOVERIES: Final = Recoveries()
"""The counts of an execution that was never claimed from a dead driver."""


class Commit(msgspec.Struct, frozen=True):
    """All rows for one execution that are written in one transaction: everything, or nothing.

    Attributes:
        saga_id: The execution.
        records: Its next records, in order. The target of the last one is its new state.
        driver: The id of the driver that writes; None if no driver owns the execution before or after.
        epoch: The execution's epoch as the driver knows it. If the journal has another, the lease is lost. A new
            execution starts with epoch 1.
        held: Whether the driver owns the execution afterwards; False: it is parked, stuck or ended.
        wake_at: When a driver must look at it again even without a new inbox item; None: never. In a state of an
            attempt: the attempt has not begun.
        awaits: Whether it is parked between two attempts and waits for *wake_at* or an inbox item.
        seen: The number of the newest inbox item that the driver has seen. A later item calls a driver.
        taken: The numbers of the inbox items that the commit handles and deletes.
        acceptance: Opens the execution; None: it exists.
        children: New executions, pending and without an owner.
        dormant: New executions like *children*, which may be claimed only after an item has come to their inbox.
        posts: Items for the inboxes of other executions: (saga id, item).
        unless_mail: Kind and name of an inbox item: if the inbox has such an item with a number above *seen*, nothing
            is written. A commit that ends a signal's wait by its time-out sets it, so that an accepted signal always
            counts.
        recoveries: The execution's new count of recoveries; None: the count does not change.
        slot: The name of the limit that an announced attempt falls under, which *driver* declares: it asks for a slot,
            see `SlotJournal`. Empty: the execution gives up its slot or place in the queue, as it must when it ends.
            None: it keeps what it has.
        answers: The answers to verbs in the inbox; the numbers of these verbs are in *taken* too.
        plan: The change to its planned branches. Only for a `PlanningJournal`.
        token: For a commit without a record: a unique number, by which a repetition is recognised. 0: it is not
            recognised.
        notes: Notes about the execution or others. Only for a `NotesJournal`.
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
    unless_mail: tuple[str, str] | None = None
    recoveries: Recoveries | None = None
    slot: str | None = None
    answers: tuple[VerbAnswer, ...] = ()
    plan: Plan | None = None
    token: int = 0
    notes: tuple[Note, ...] = ()


class Entry(msgspec.Struct, frozen=True):
    """One execution as the journal lists it.

    Attributes:
        acceptance: The acceptance that opened it.
        state: Its state.
        changed_at: When it entered that state, in seconds since the epoch.
        seq: The number of its last record; 0: none yet.
        epoch: How many times drivers have claimed or opened it.
        driver: Its owner; None: it has none (parked, stuck, ended, or not begun).
        driver_alive: Whether the owner is alive, as far as this process can see.
        wake_at: When a driver must look at it again; infinite: it is dormant. In a state of an attempt: the attempt was
            announced and has not begun.
        mail: How many items are in its inbox.
        called: Whether its inbox has an item that no driver has seen.
        recoveries: How often it was recovered without progress.
        abandoned: In entries of `Journal.claim`: whether it was claimed from a dead driver.
        queued: The name of the concurrency limit it is queued on. If the journal keeps no slots, only the mediator that
            drives the execution sets it.
        undrivable: Why no living driver can drive it, in words; None: one can, or it has ended. Set by mediators.
        cursor: Its place in a listing, for ``after=``; None: it was not listed.
        attributes: Its attributes. Set by mediators.
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
    recoveries: Recoveries = NO_RECOVERIES
    abandoned: bool = False
    queued: str | None = None
    undrivable: str | None = None
    cursor: str | None = None
    attributes: Mapping[str, str | int | float | bool] = {}

    @property
    def saga_id(self) -> str:
        """The execution's id."""
        return self.acceptance.saga_id


class Forgotten(msgspec.Struct, frozen=True):
    """The row that a journal keeps of a deleted execution, so that its id is not used again.

    Attributes:
        saga: The name of its saga; None: not kept.
        state: The state it ended in; None: not kept.
        ended_at: When it ended, in seconds since the epoch; None: not kept.
    """

    saga: str | None = None
    state: str | None = None
    ended_at: float | None = None


class IdTakenError(JournalError):
    """The acceptance in `Journal.write` has an id that exists, or is forgotten. Nothing was written."""


class InboxChangedError(JournalError):
    """The item that `Commit.unless_mail` names is in the inbox. Nothing was written: read the inbox and continue."""


Written: TypeAlias = tuple[InboxItem, ...]


class Queued(tuple[InboxItem, ...]):
    """The inbox after a commit; the attempt that it announces has no slot yet, and may not begin."""

    __slots__ = ()


@runtime_checkable
class Journal(Protocol):
    """A durable log of records, by execution. Every method may be called from any thread.

    If *encodes* is True, *codec* encodes values (payloads, results) to JSON when they are written. They are returned as
    `msgspec.Raw`, because the caller knows their types. A value that *codec* does not accept is refused. If *encodes*
    is False, values stay objects. *heartbeat*: seconds between two calls of `beat` by a driver; None: no calls.

    A journal may have a *patience*: the seconds during which a driver repeats a failed commit, after a few immediate
    attempts. None: until the driver knows that its lease is lost. The default is 0. `claim_some`, `forgotten`, `check`
    and the parameters *token*, *everything* and *forget_ids* are optional too, because they were added later:
    ``optional.py`` has their replacements.

    A journal may also be a `PlanningJournal` and a `CountingJournal`: see ``planning.py``.

    Every method raises `JournalError` if the journal cannot do its work. Then nothing was written, or the answer was
    lost. So a repetition by the same driver, while the execution is as the first call left it, does nothing more and
    has the same result. Calls of `post` and `prune` are repetitions if they have the same token, a number that no other
    call has. Without a token (0) a repeated `post` adds another item, and a repeated `prune` deletes more. A repeated
    `claim_some` claims further executions: `beat` names all executions that the driver owns, and `claim` returns each
    of them.
    """

    encodes: bool
    heartbeat: float | None
    codec: Codec

    def write(self, commit: Commit) -> Written:
        """Make *commit* durable. Returns the execution's inbox after it.

        It recognises a repeated commit under the same epoch: by its records, which are the execution's last records, or
        by its token.

        Raises:
            IdTakenError: The commit opens an execution, and the id exists, or is forgotten.
            LeaseLostError: The execution has another epoch, or another owner.
            InboxChangedError: The item of `Commit.unless_mail` has come.
        """

    def write_all(self, commits: Sequence[Commit]) -> list[Written | JournalError]:
        """Make many commits of different executions durable, at the cost of one.

        They do not affect each other. If `write` would raise an error for a commit, that error is in its place.
        """

    def find(self, saga_id: str) -> Entry | None:
        """The execution with this id."""

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
            phase: Only executions in this phase (``stuck`` includes ``stuck_executing``), or in exactly this state.
            saga: Only executions of the saga with this name.
            parent: Only the children of this execution.
            before: Only executions that entered their state before this time.
            limit: At most so many.
        """

    def post(self, saga_id: str, item: InboxItem, *, clock: Callable[[], float] | None = None, token: int = 0) -> bool:
        """Put *item* into an inbox, durably. Returns False without an effect if the execution has ended or is unknown.

        An execution that has succeeded takes verbs. A verb is recognised by its name, and needs no token.

        Args:
            saga_id: The execution.
            item: The item.
            clock: If given, it is called for the time of the item in the transaction that writes it. False is then
                returned for a signal whose wait is over: the state is ``waiting.NAME``, and the ``due_at`` of the last
                record is not later than that time.
            token: A number by which a repetition is recognised, see `new_token`. It is kept as long as the execution.
        """

    def enlist(self, driver: Driver) -> None:
        """Register *driver*, which counts as alive from now on."""

    def beat(self, driver_id: str, *, everything: bool = False) -> tuple[str, ...]:
        """Renew a driver's lease. Returns the ids of its executions with items in their inbox.

        With *everything* it returns the ids of all its executions. There may be many, so a driver asks for these only
        after a claim whose answer was lost.

        Raises:
            LeaseLostError: There is no such driver.
        """

    def dismiss(self, driver_id: str) -> None:
        """Delete a driver. Its executions have no owner from now on."""

    def claim(self, saga_id: str, driver_id: str) -> Entry | None:
        """Give an execution without a living owner to this driver, under a new epoch. None: it has a living owner.

        `Entry.abandoned` says whether a dead driver owned it.

        If the driver owns it already, the entry is returned under the current epoch: the answer to the first claim may
        have been lost.

        Raises:
            UnknownExecutionError: There is no such execution.
        """

    def claim_some(
        self, driver_id: str, at: float, limit: int, skip: Sequence[str] = (), leave: Sequence[str] = ()
    ) -> list[Entry]:
        """Claim at most *limit* of the executions that `claimable` would list, all in one transaction.

        Executions of a dead driver come first. Then come executions that can continue at once, such as with an unseen
        item, then due executions, by their time, and then pending ones. Otherwise the oldest comes first. The driver's
        own executions are not among them.

        Args:
            driver_id: Their new owner.
            at: The time, in seconds since the epoch.
            limit: At most so many: as many as can be driven at once.
            skip: Fingerprints that the driver cannot drive.
            leave: Ids of executions that it does not claim now.

        Returns:
            The claimed executions, each as `claim` returns it.

        Raises:
            LeaseLostError: There is no such driver.
        """

    def release(self, saga_id: str, epoch: int) -> None:
        """Free an execution from its owner, without a record. Does nothing if it has another epoch."""

    def claimable(self, at: float, limit: int, skip: Sequence[str] = ()) -> list[str]:
        """The executions that a driver should claim at time *at*, oldest first, at most *limit*.

        These are all unended executions whose owner is dead. An execution without an owner is among them if it is
        pending, in a state of an attempt, or due, or if its inbox has an item that no driver has seen. A stuck
        execution is among them only for an item of a branch or a verb. An ended execution is among them only for a
        verb, and a dormant execution only after an item has come.

        Args:
            at: The time, in seconds since the epoch.
            limit: At most so many.
            skip: Fingerprints that the asking driver cannot drive.
        """

    def next_wake(self) -> float | None:
        """The earliest ``wake_at`` of all executions without an owner."""

    def prune(
        self, before: float, *, saga: str | None = None, limit: int = 1000, forget_ids: bool = False, token: int = 0
    ) -> int:
        """Delete at most *limit* executions that ended before that time, with their records. Returns how many.

        An execution is deleted together with its branches, once no branch can change. A stuck branch of an ended
        execution cannot change: a person settled both.

        A deleted id cannot be opened again, see `forgotten`. With *forget_ids* it can: no row of it is kept. If the
        journal knows when they ended, it also deletes earlier such rows of executions that ended before that time.

        A call with the token of an earlier call continues where that call ended, and returns the total. Tokens are kept
        for a day.
        """

    def forgotten(self, saga_id: str) -> Forgotten | None:
        """The row that is kept of a deleted execution; None: it was not deleted, or no row is kept."""

    def check(self) -> list[str]:
        """Search for damage in the records. Returns a description of each fault; empty: none was found.

        Raises:
            JournalError: The journal is too damaged to be read.
        """

    def close(self) -> None:
        """Close files and connections. The journal opens again when it is used again."""


def new_token() -> int:
    """A number that no other call has: see `Journal`."""
    return uuid.uuid4().int >> 65


def check_unless_mail(commit: Commit, mail: Iterable[InboxItem]) -> None:
    """Check *commit* against the inbox of its execution.

    Raises:
        InboxChangedError: The item of `Commit.unless_mail` is there, and the driver has not seen it.
    """
    if any((item.kind, item.name) == commit.unless_mail and item.number > commit.seen for item in mail):
        raise InboxChangedError(f"execution {commit.saga_id!r} has an unread {commit.unless_mail}; nothing was written")


_MEMBERS: Final = (
    *Journal.__annotations__,
    *(name for name, member in vars(Journal).items() if callable(member) and not name.startswith("_")),
)
_OPTIONAL: Final = frozenset({"claim_some", "forgotten", "check"})


def is_journal(candidate: object) -> TypeGuard[Journal]:
    """Whether *candidate* has all members of a journal but the optional ones, if only through ``__getattr__``.

    From Python 3.12 on ``isinstance`` ignores ``__getattr__``.
    """
    return all(hasattr(candidate, name) for name in _MEMBERS if name not in _OPTIONAL)


def check_bounds(before: Any, limit: Any) -> None:
    """Refuse a time that is no number: SQLite sorts any text after all numbers, and would prune everything.

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
