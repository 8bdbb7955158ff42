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
        fingerprint: Of its shape.
        shape: Its shape, as JSON.
    """

    fingerprint: str
    shape: str


ENGINE: Final = "engine:"
"""Begins the id of a driver that is an engine."""


class Driver(msgspec.Struct, frozen=True):
    """Performs effects: one mediator in one process.

    Attributes:
        id: Unique among all drivers there ever were.
        host: The machine's name, for people.
        boot_id: An id of the machine since its last start; empty if the system has none.
        pid_namespace: An id of the namespace in which *pid* counts; empty if the system has none.
        pid: The process.
        started: When the process started, in the system's own count: a later process with this pid has another.
        limits: Names of limits, and how many attempts each allows at a time. Entries do not name them.
        definitions: What it can drive. Entries do not name them.
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
        """Whether it is an engine, which has no process, and counts as alive for ever."""
        return self.id.startswith(ENGINE)

    def __str__(self) -> str:
        if self.is_engine:
            return f"the engine {self.host}"
        return f"process {self.pid} on {self.host or 'this machine'}"


class Recoveries(NamedTuple):
    """How often an execution was claimed from a dead driver while an attempt, probe or decision was under way.

    *total*: since it last got further; *here*: since its last record.
    """

    total: int = 0
    here: int = 0


NO_RECOVERIES: Final = Recoveries()
"""Of an execution with no driver that has died in its midst."""


class Commit(msgspec.Struct, frozen=True):
    """All that is written for one execution in one transaction: everything, or nothing.

    Attributes:
        saga_id: The execution.
        records: Its next records, in order. The target of the last one is its new state.
        driver: The id of the driver that writes; None if no driver owns the execution before or after.
        epoch: The execution's epoch as the driver knows it. If the journal has another, the lease is lost. A new
            execution starts with epoch 1.
        held: Whether the driver owns the execution afterwards; False: it is parked, stuck or ended.
        wake_at: When a driver must look at it again without a new inbox item; None: never. In a state of an attempt:
            the attempt has not begun.
        awaits: Whether it is parked between two attempts and waits for *wake_at* or an inbox item.
        seen: The number of the newest inbox item that the driver has seen. A later item calls a driver.
        taken: The numbers of the inbox items that are dealt with, and are deleted.
        acceptance: Opens the execution; None: it exists.
        children: New executions, pending and without an owner.
        dormant: As *children*, but to be claimed only after an item has come to their inbox.
        posts: Items for the inboxes of other executions: (saga id, item).
        unless_mail: Kind and name of an inbox item: if one with a number above *seen* is there, nothing is written. Set
            by a commit that closes a signal's wait by its time-out, so that an accepted signal is never overruled.
        recoveries: The execution's new count of recoveries; None: it is as it was.
        slot: The name of the limit that an announced attempt falls under, which *driver* declares: it asks for a slot,
            see `SlotJournal`. Empty: the execution gives up its slot or place in the queue, as it must when it ends.
            None: it keeps what it has.
        answers: What became of verbs in the inbox; these are in *taken* too.
        plan: What is done about its planned branches. Only for a `PlanningJournal`.
        token: Of a commit without a record: a number that no other commit has, so that it is recognised when it is
            repeated. 0: it is not.
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
        epoch: How often a driver has claimed or opened it.
        driver: Its owner; None: it has none (parked, stuck, ended, or not begun).
        driver_alive: Whether the owner is alive, as far as this process can see.
        wake_at: When a driver must look at it again; infinite: it is dormant. In a state of an attempt: the attempt was
            announced and has not begun.
        mail: How many items are in its inbox.
        called: Whether an item is in its inbox that no driver has seen.
        recoveries: How often it was recovered without getting further.
        abandoned: Of what `Journal.claim` returns: whether it was claimed from a dead driver.
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
    """`Journal.write` was given an acceptance for an id that exists, or is forgotten. Nothing was written."""


class InboxChangedError(JournalError):
    """The item that `Commit.unless_mail` names is in the inbox. Nothing was written: read the inbox and go on."""


Written: TypeAlias = tuple[InboxItem, ...]


class Queued(tuple[InboxItem, ...]):
    """The inbox after a commit; the attempt that it announces has no slot yet, and may not begin."""

    __slots__ = ()


@runtime_checkable
class Journal(Protocol):
    """A durable log of records, by execution. Every method may be called from any thread.

    If *encodes* is True, values (payloads, results) are encoded to JSON by *codec* when they are written, and returned
    as `msgspec.Raw`, for a caller that knows their types; a value that *codec* does not accept is refused. If it is
    False, values stay objects. *heartbeat* is the number of seconds between two calls of `beat` by a driver; None: no
    calls.

    A journal may have a *patience*: for how many seconds a driver tries a failed commit again, after a few attempts at
    once. None: for as long as its lease is not known to be lost. Without it, and by default, 0. `claim_some`,
    `forgotten`, `check` and the parameters *token*, *everything* and *forget_ids* are optional too, since they came
    later: ``optional.py`` says what happens without them.

    A journal may also be a `PlanningJournal` and a `CountingJournal`: see ``planning.py``.

    Every method raises `JournalError` if the journal cannot do its work. Then nothing was written, or the answer was
    lost: the same call again by the same driver, while the execution is as that call left it, does nothing more and
    has the same result. For `post` and `prune` it is the same call if it has the same token, a number that no other
    call has; without one, 0, an item is posted again, and more is deleted. `claim_some` alone claims further
    executions when it is repeated: `beat` names all that the driver owns, and `claim` returns each as it was claimed.
    """

    encodes: bool
    heartbeat: float | None
    codec: Codec

    def write(self, commit: Commit) -> Written:
        """Make *commit* durable. Returns the execution's inbox after it.

        A commit that was made already is recognised, under the same epoch: by its records, which are the last ones
        kept, or by its token.

        Raises:
            IdTakenError: The commit opens an execution, and the id exists, or is forgotten.
            LeaseLostError: The execution has another epoch, or another owner.
            InboxChangedError: The item of `Commit.unless_mail` has come.
        """

    def write_all(self, commits: Sequence[Commit]) -> list[Written | JournalError]:
        """Make many commits, of different executions, durable at the price of one.

        They do not affect each other. Where `write` would raise an error, that error is in the commit's place.
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
            phase: Only those in this phase (``stuck`` includes ``stuck_executing``), or in exactly this state.
            saga: Only those of the saga of this name.
            parent: Only the children of this execution.
            before: Only those that entered their state before this time.
            limit: At most so many.
        """

    def post(self, saga_id: str, item: InboxItem, *, clock: Callable[[], float] | None = None, token: int = 0) -> bool:
        """Put *item* into an inbox, durably. False, and nothing is done: the execution has ended or is unknown.

        An execution that has succeeded takes verbs. A verb is recognised by its name, and needs no token.

        Args:
            saga_id: The execution.
            item: The item.
            clock: If given, it is asked for the time of the item in the transaction that writes it. A signal is then
                put nowhere, and False returned, if the execution is in that signal's wait and its time is over: if its
                state is ``waiting.NAME``, and the ``due_at`` of its last record is not later than the time.
            token: By which the call is recognised when it is repeated, see `new_token`. It is kept as long as the
                execution is.
        """

    def enlist(self, driver: Driver) -> None:
        """Register *driver*, which counts as alive from now on."""

    def beat(self, driver_id: str, *, everything: bool = False) -> tuple[str, ...]:
        """Renew a driver's lease. Returns the ids of its executions with items in their inbox.

        With *everything* it returns the ids of all its executions. A driver asks for these after a claim whose answer
        was lost, and not at each heartbeat, for they may be many.

        Raises:
            LeaseLostError: There is no such driver.
        """

    def dismiss(self, driver_id: str) -> None:
        """Delete a driver. Its executions have no owner from now on."""

    def claim(self, saga_id: str, driver_id: str) -> Entry | None:
        """Give an execution without a living owner to this driver, under a new epoch. None: it has a living owner.

        `Entry.abandoned` says whether a dead driver owned it.

        A driver that owns it already is given what it owns, under the epoch that it has: the answer to its claim may
        have been lost.

        Raises:
            UnknownExecutionError: There is no such execution.
        """

    def claim_some(
        self, driver_id: str, at: float, limit: int, skip: Sequence[str] = (), leave: Sequence[str] = ()
    ) -> list[Entry]:
        """Claim at most *limit* of the executions that `claimable` would list, all in one transaction.

        In this order: those of a dead driver; those that can go on at once, such as with an unseen item; those that
        are due, by their time; the pending ones. Otherwise the oldest comes first. Its own are not among them.

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

        These are all that have not ended and whose owner is dead; and, of those without an owner, all that are pending,
        in a state of an attempt, or due, and all with an inbox item that no driver has seen. A stuck execution is among
        them only for an item of a branch or a verb, one that has ended only for a verb, a dormant one only after an
        item has come.

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

        An execution is deleted together with its branches, once none of these can move. A stuck branch cannot, if the
        whole has ended: a person settled both.

        A deleted id cannot be opened again, see `forgotten`. With *forget_ids* it can: nothing is kept of it, nor, in a
        journal that keeps when they ended, of those deleted earlier that ended before that time.

        A call with the token of an earlier one goes on where that one ended, and returns the number of both. Tokens
        are kept for a day.
        """

    def forgotten(self, saga_id: str) -> Forgotten | None:
        """The row that is kept of a deleted execution; None: it was not deleted, or nothing is kept."""

    def check(self) -> list[str]:
        """Look for damage in the records: each fault in words; empty: none was found.

        Raises:
            JournalError: It is so damaged that it cannot be read.
        """

    def close(self) -> None:
        """Close files and connections. The journal opens again when it is used again."""


def new_token() -> int:
    """A number that no other call has: see `Journal`."""
    return uuid.uuid4().int >> 65


def check_unless_mail(commit: Commit, mail: Iterable[InboxItem]) -> None:
    """Hold *commit* against the inbox of its execution.

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
