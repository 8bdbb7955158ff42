"""The `Journal` protocol, and the data types of its arguments and results.

A journal stores executions by id, their records as rows, and the driver that owns each execution. A journal never calls
a step, an observer or a machine. It reads only those fields of a record that this module names.
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
    """A saga definition that a driver can drive.

    Attributes:
        fingerprint: The fingerprint of the definition's shape.
        shape: The definition's shape, as JSON.
    """

    fingerprint: str
    shape: str


ENGINE: Final = "engine:"
"""The prefix of the id of a driver that is an engine."""


class Driver(msgspec.Struct, frozen=True):
    """A driver: one mediator in one process. It performs the effects of its executions.

    Attributes:
        id: The id of the driver. No other driver ever has it.
        host: The machine's name, for display.
        boot_id: An id of this boot of the machine. Empty if the system has none.
        pid_namespace: An id of the pid namespace of the process. Empty if the system has none.
        pid: The id of the process.
        started: When the process started, in ticks since boot. A later process with the same pid has another value.
        limits: The name of each limit, and the number of attempts that it allows at a time. Empty in `Entry.driver`.
        definitions: The definitions that the driver can drive. Empty in `Entry.driver`.
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
        """Whether the driver is a workflow engine. It has no process, and always counts as alive."""
        return self.id.startswith(ENGINE)

    def __str__(self) -> str:
        if self.is_engine:
            return f"the engine {self.host}"
        return f"process {self.pid} on {self.host or 'this machine'}"


class Recoveries(NamedTuple):
    """How often an execution was claimed from a dead driver during an attempt, a probe or a decision.

    *total* counts these claims since the execution last made progress. *here* counts them since its last record.
    """

    total: int = 0
    here: int = 0


NO_RECOVERIES: Final = Recoveries()
"""The counts of an execution that was never claimed from a dead driver."""


class Commit(msgspec.Struct, frozen=True):
    """The rows that are written for one execution in one transaction: either all of them or none.

    Attributes:
        saga_id: The execution.
        records: The execution's next records, in order. The target of the last record is the new state.
        driver: The id of the driver that writes. None if no driver owns the execution before or after the commit.
        epoch: The execution's epoch as the driver knows it. If the journal has another epoch, the lease is lost. A new
            execution starts with epoch 1.
        held: Whether the driver owns the execution after the commit. False if it is parked, stuck or ended.
        wake_at: When a driver must drive the execution again, even without a new inbox item. None for never. If
            the new state is the state of an attempt, a *wake_at* means that the attempt has not begun.
        awaits: Whether the execution is parked between two attempts and waits for *wake_at* or an inbox item.
        seen: The number of the newest inbox item that the driver has seen. A driver must look at later items.
        taken: The numbers of the inbox items that the commit handles and deletes.
        acceptance: The acceptance that opens the execution. None if the execution exists.
        children: The acceptances of new executions, which are opened pending and without an owner.
        dormant: Like *children*, but these executions can be claimed only after their inbox has got an item.
        posts: Items for the inboxes of other executions: (saga id, item).
        unless_mail: The kind and name of an inbox item. If the inbox has such an item with a number above *seen*,
            nothing is written. A commit that ends a signal's wait by its timeout sets this field, so that an accepted
            signal always counts.
        recoveries: The execution's new count of recoveries. None if the count does not change.
        slot: The name of the limit for which an announced attempt asks for a slot: see `SlotJournal`. *driver* must
            declare this limit. If empty, the execution gives up its slot or its place in the queue, as it must do when
            it ends. If None, the execution keeps its slot or place.
        answers: The answers to verbs in the inbox. The numbers of these verbs are in *taken*, too.
        plan: The change to the planned branches of the execution. Only for a `PlanningJournal`.
        token: A unique number by which a repetition of a commit without records is recognised. 0 for no recognition.
        notes: New notes about this or other executions. Only for a `NotesJournal`.
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
    """One execution, as a journal lists it.

    Attributes:
        acceptance: The acceptance that opened the execution.
        state: The execution's state.
        changed_at: When the execution entered its state, in seconds since the epoch.
        seq: The number of the last record. 0 if there is no record yet.
        epoch: How many times drivers have claimed or opened the execution.
        driver: The owner. None if there is no owner: the execution is parked, stuck, ended, or not begun.
        driver_alive: Whether the owner is alive, as far as this process can see.
        wake_at: When a driver must drive the execution again. Infinite if it is dormant. If the state is the
            state of an attempt, a *wake_at* means that the attempt was announced and has not begun.
        mail: The number of items in the inbox.
        called: Whether the inbox has an item that no driver has seen.
        recoveries: How often the execution was claimed from a dead driver without progress.
        abandoned: In entries of `Journal.claim`: whether the execution was claimed from a dead driver.
        queued: The name of the concurrency limit on which the execution is queued. If the journal keeps no slots, only
            the mediator that drives the execution sets it.
        undrivable: The reason why no living driver can drive the execution. None if not known. Set by mediators.
        cursor: The execution's place in a listing, for ``after=``. None if it was not listed.
        attributes: The execution's attributes. Set by mediators.
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
    """The row that a journal keeps for a deleted execution, so that its id is not used again.

    Attributes:
        saga: The name of the execution's saga. None if it is not kept.
        state: The state in which the execution ended. None if it is not kept.
        ended_at: When the execution ended, in seconds since the epoch. None if it is not kept.
    """

    saga: str | None = None
    state: str | None = None
    ended_at: float | None = None


class IdTakenError(JournalError):
    """The acceptance in `Journal.write` has the id of an existing or deleted execution. Nothing was written."""


class InboxChangedError(JournalError):
    """The inbox has the item that `Commit.unless_mail` names. Nothing was written: read the inbox and continue."""


Written: TypeAlias = tuple[InboxItem, ...]


class Queued(tuple[InboxItem, ...]):
    """The inbox after a commit that announces an attempt, if the attempt is queued for a slot and must not begin."""

    __slots__ = ()


@runtime_checkable
class Journal(Protocol):
    """A durable log of the records of executions. Every method may be called from any thread.

    If *encodes* is True, *codec* encodes values (payloads, results) to JSON when they are written. They are returned as
    `msgspec.Raw`, because only the caller knows their types. A value that *codec* does not accept is refused. If
    *encodes* is False, values stay objects. *heartbeat* is the number of seconds between two calls of `beat` by a
    driver. If it is None, drivers do not call `beat`.

    A journal may have a *patience*: the seconds during which a driver repeats a failed commit, after a few immediate
    attempts. If it is None, the driver repeats the commit until it knows that its lease is lost. The default is 0.
    `claim_some`, `forgotten`, `check` and the parameters *token*, *everything* and *forget_ids* are optional, too,
    because they were added later: ``optional.py`` has their replacements.

    A journal may also be a `PlanningJournal`, a `CountingJournal` (``planning.py``) and a `ManyJournal`.

    Every method raises `JournalError` if the journal cannot do its work. Then either nothing was written, or all was
    written and the answer was lost. So the driver may repeat the call. If the execution has not changed since the first
    call, the repetition writes nothing more and has the same result. Calls of `post` and `prune` are repetitions if
    they have the same token, a number that no other call has. Without a token (0) a repeated `post` adds another item,
    and a repeated `prune` deletes more. A repeated `claim_some` claims further executions. After a lost answer, `beat`
    with *everything* returns the ids of all executions that the driver owns, and `claim` returns the entry of each.
    """

    encodes: bool
    heartbeat: float | None
    codec: Codec

    def write(self, commit: Commit) -> Written:
        """Make *commit* durable. Returns the execution's inbox after the commit.

        A repetition of the last commit, under the same epoch, is recognised by its records or by its token.

        Raises:
            IdTakenError: The commit opens an execution, and the id belongs to an existing or deleted execution.
            LeaseLostError: The execution has another epoch, or another owner.
            InboxChangedError: The item of `Commit.unless_mail` is in the inbox.
        """

    def write_all(self, commits: Sequence[Commit]) -> list[Written | JournalError]:
        """Make commits for different executions durable together, at the cost of one commit.

        The commits do not affect each other. Each result is what `write` would return, or the error it would raise.
        """

    def find(self, saga_id: str) -> Entry | None:
        """The execution with this id. None if it does not exist."""

    def records(self, saga_id: str) -> list[Record]:
        """The records of an execution, in order."""

    def inbox(self, saga_id: str) -> Written:
        """The inbox of an execution, oldest item first."""

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
            parent: Only the branches of this execution.
            before: Only executions that entered their state before this time.
            limit: The maximum number of executions that are listed.
        """

    def post(self, saga_id: str, item: InboxItem, *, clock: Callable[[], float] | None = None, token: int = 0) -> bool:
        """Put *item* into the inbox of an execution, durably. Returns False if the execution has ended or is unknown.

        An execution that has succeeded still takes verbs. A repeated verb is recognised by its name, without a token.

        Args:
            saga_id: The execution.
            item: The item.
            clock: If given, it is called in the transaction that writes the item, and returns the time of the item. A
                signal whose wait is over is then refused, too, with False. The wait is over if the state is
                ``waiting.NAME``, and the ``due_at`` of the last record is not later than the time of the item.
            token: A number by which a repetition is recognised: see `new_token`. It is kept as long as the execution.
        """

    def enlist(self, driver: Driver) -> None:
        """Register *driver*, which counts as alive from now on."""

    def beat(self, driver_id: str, *, everything: bool = False) -> tuple[str, ...]:
        """Renew a driver's lease. Returns the ids of the driver's executions with items in their inbox.

        With *everything* all ids of the driver's executions are returned. There may be many, so a driver sets it
        only after a claim whose answer was lost.

        Raises:
            LeaseLostError: There is no such driver.
        """

    def dismiss(self, driver_id: str) -> None:
        """Delete a driver. Its executions then have no owner."""

    def claim(self, saga_id: str, driver_id: str) -> Entry | None:
        """Give an execution without a living owner to this driver, under a new epoch. None if it has a living owner.

        In the result, `Entry.abandoned` says whether a dead driver owned the execution.

        If the driver owns the execution already, the entry is returned under the current epoch, because the answer to
        the first claim may have been lost.

        Raises:
            UnknownExecutionError: There is no such execution.
        """

    def claim_some(
        self, driver_id: str, at: float, limit: int, skip: Sequence[str] = (), leave: Sequence[str] = ()
    ) -> list[Entry]:
        """Claim at most *limit* of the executions that `claimable` would list, all in one transaction.

        Executions of a dead driver come first. Then come executions that can continue at once, for example because of
        an unseen item, then due executions by their time, and then pending executions. Among executions of one kind
        the oldest comes first. The driver's own executions are not claimed again.

        Args:
            driver_id: The new owner.
            at: The time, in seconds since the epoch.
            limit: The maximum number of executions that are claimed: as many as the driver can drive at once.
            skip: Fingerprints of definitions that the driver cannot drive.
            leave: Ids of executions that are not claimed now.

        Returns:
            The claimed executions, each as `claim` returns it.

        Raises:
            LeaseLostError: There is no such driver.
        """

    def release(self, saga_id: str, epoch: int) -> None:
        """Free an execution from its owner, without a record. Does nothing if the execution has another epoch."""

    def claimable(self, at: float, limit: int, skip: Sequence[str] = ()) -> list[str]:
        """At most *limit* executions that a driver should claim at time *at*, oldest first.

        Every execution that has not ended and whose owner is dead can be claimed. An execution without an owner can be
        claimed if it is pending, in a state of an attempt, or due, or if its inbox has an item that no driver has seen.
        For a stuck execution, only an item of a branch or a verb counts. For an ended execution, only a verb counts. A
        dormant execution can be claimed only after an item has come.

        Args:
            at: The time, in seconds since the epoch.
            limit: The maximum number of executions that are listed.
            skip: Fingerprints of definitions that the driver cannot drive.
        """

    def next_wake(self) -> float | None:
        """The earliest ``wake_at`` of all executions without an owner. None if none of them has a ``wake_at``."""

    def prune(
        self, before: float, *, saga: str | None = None, limit: int = 1000, forget_ids: bool = False, token: int = 0
    ) -> int:
        """Delete at most *limit* executions that ended before *before*, with their records. Returns the number deleted.

        An execution is deleted together with its branches, when no branch can change any more. A stuck branch of an
        ended execution cannot change, because a person decided the outcome of both.

        A deleted id cannot be opened again, because the journal keeps a row for it: see `forgotten`. With *forget_ids*
        the journal keeps no such rows. It also deletes the rows that earlier calls kept, if the execution of the row
        ended before *before*.

        A call with the token of an earlier call continues where the earlier call stopped, and returns the total. Tokens
        are kept for a day.
        """

    def forgotten(self, saga_id: str) -> Forgotten | None:
        """The row that is kept for a deleted execution. None if it was not deleted, or if no row is kept."""

    def check(self) -> list[str]:
        """Search for damage in the records. Returns a description of each fault that was found.

        Raises:
            JournalError: The journal is so damaged that it cannot be read.
        """

    def close(self) -> None:
        """Close files and connections. The next use of the journal opens them again."""


def new_token() -> int:
    """A random number that identifies one call. The journal recognises a repeated call by it: see `Journal`."""
    return uuid.uuid4().int >> 65


def check_unless_mail(commit: Commit, mail: Iterable[InboxItem]) -> None:
    """Check *commit* against the inbox of its execution.

    Raises:
        InboxChangedError: The item of `Commit.unless_mail` is in the inbox, and the driver has not seen it.
    """
    if any((item.kind, item.name) == commit.unless_mail and item.number > commit.seen for item in mail):
        raise InboxChangedError(f"execution {commit.saga_id!r} has an unread {commit.unless_mail}; nothing was written")


_MEMBERS: Final = (
    *Journal.__annotations__,
    *(name for name, member in vars(Journal).items() if callable(member) and not name.startswith("_")),
)
_OPTIONAL: Final = frozenset({"claim_some", "forgotten", "check"})


def is_journal(candidate: object) -> TypeGuard[Journal]:
    """Whether *candidate* has all required members of a journal. ``__getattr__`` may provide these members.

    ``isinstance`` does not work here: from Python 3.12 on it ignores ``__getattr__``.
    """
    return all(hasattr(candidate, name) for name in _MEMBERS if name not in _OPTIONAL)


def check_bounds(before: Any, limit: Any) -> None:
    """Refuse a *before* or *limit* of a wrong type. In SQLite, `prune` with a text as *before* would delete all.

    Raises:
        DefinitionError: *before* is not a number, or *limit* is not a whole number.
    """
    is_time = isinstance(before, (int, float)) and not isinstance(before, bool) and -math.inf <= before <= math.inf
    if before is not None and not is_time:
        raise DefinitionError(
            f"before={before!r} is not a time: give seconds since the epoch, such as time.time() - 30 * 86400; "
            f"of a datetime, its .timestamp()"
        )
    if limit is not None and type(limit) is not int:
        raise DefinitionError(f"limit={limit!r} must be a whole number")
