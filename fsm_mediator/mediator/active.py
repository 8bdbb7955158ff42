"""ActiveExecution: a mediator's data about one of its executions. It makes no decisions and does no I/O."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from contextvars import Context
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from fsm_mediator.errors import PayloadError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.execution.views import Encoding
from fsm_mediator.journal.protocol import NO_RECOVERIES, Entry, Recoveries
from fsm_mediator.machine.parts import AWAIT, GROUPS
from fsm_mediator.mediator.limits import Slot
from fsm_mediator.records import BEGIN, CHILD, LATE, UNCHECKED, VERBS, Branch, InboxItem, VerbAnswer
from fsm_mediator.states import SUCCEEDED

logger: logging.Logger = logging.getLogger("fsm_mediator")


class Inbox:
    """The items that the driver has read from an execution's inbox.

    Attributes:
        received: The numbers of the items that the execution has received.
        seen: The highest number in *received*. 0 if no item was received.
        late: The answers of abandoned attempts that came too late, as text. None if there are none.
        successes: The number of received messages that report the success of a branch.
        trouble: Whether a branch has begun to compensate or has become stuck since the driver last read the branches.
        verbs: The received verbs (such as ``retry``) that the driver has not answered yet, in order of arrival.
        carriers: The trace contexts of the items that were sent within a trace.
    """

    seen = 0
    successes = 0
    late: str | None = None
    trouble = False

    def __init__(self) -> None:
        self.received: set[int] = set()
        self.verbs: list[InboxItem] = []
        self.carriers: list[dict[str, str]] = []


class Waiting(msgspec.Struct, eq=False):
    """The data about the present wait of an execution's driver, and about the callers that wait for the driver.

    Attributes:
        wake: An event that is set when an item came to the inbox, or when the driver has to stop. Created at the first
            wait.
        done: An event that is set when the execution is finished. Created for the first caller that waits for it.
        until: The time at which the driver's present wait ends, in seconds since the epoch. None if it does not wait.
        due: The end of the wait for which *ends* was computed, in seconds since the epoch.
        ends: The same end of the wait, on the monotonic clock.
        token: Set while nothing drives the execution, because it is queued or waits for a timer. The thread or task
            that takes the token drives or releases the execution.
        timer: The timer for which the execution waits.
    """

    wake: Any = None
    done: Any = None
    until: float | None = None
    due: float | None = None
    ends: float = 0.0
    token: object = None
    timer: Any = None


class SucceededBranch(NamedTuple):
    """The status of a branch that has succeeded, and the epoch in which it succeeded."""

    epoch: int
    branch: Branch


class Group:
    """The driver's data about the branches of an execution's current group.

    Attributes:
        notified: The ids of the branches to which a cancel was posted.
        quiescent: Whether no branch continued by itself when the driver last read the branches.
        must_retry: Whether the parent must try again to undo a branch, because the branch could not be claimed.
        planned: Whether there are planned branches that this driver has to create.
        enough: While fewer success messages than this number have come, at least one branch has certainly not settled.
        listed_until: The monotonic time until which the last listing of the branches is valid, if all of them continue.
        succeeded: Branches that this mediator drove until they succeeded, by id. While the epoch of such a branch is
            the same, the branch need not be loaded from the journal.
    """

    notified: frozenset[str] = frozenset()
    quiescent = False
    must_retry = False
    planned = False
    enough = 0
    listed_until: float = -math.inf

    def __init__(self) -> None:
        self.succeeded: dict[str, SucceededBranch] = {}


UNREAD: Final = Inbox()
"""Stands for an inbox that was not read yet."""

NO_GROUP: Final = Group()
"""The data of an execution that has not waited for branches yet."""


class ActiveExecution(msgspec.Struct, eq=False):
    """An execution that this mediator drives, or is about to claim.

    Attributes:
        saga_id: The id of the execution.
        execution: The execution. None before it is claimed.
        claimed: The entry that the claim returned. None before the claim, and after the execution was loaded.
        epoch: The epoch under which the execution is driven. 0 if it is not loaded yet, 1 if it is new.
        background: Whether the execution is driven in the background. Then it has no owner during long waits.
        recoveries: How often the execution was claimed from a dead driver without progress.
        recorded: The value of *recoveries* in the journal.
        orphaned: Whether the execution was claimed from a dead driver.
        asks_at: When to repeat a probe that a dead driver left unfinished, in seconds since the epoch. None for at
            once.
        decides: Whether *recoveries* counts the present call of a deciding function. The call is counted before it
            begins, if a driver may have died during the previous call. False again when the function has decided.
        recovered: Whether the execution was claimed during an attempt, which then counts as crashed.
        stopping: Whether the driver must release the execution after the next record.
        called: Whether the inbox has items that the driver has not read.
        finished: Whether this process has stopped driving the execution.
        rests: Whether the execution had ended, or waited for a person, a signal or a branch, when driving stopped.
        outcome: The outcome when the execution was finished. None if driving stopped with an error.
        error: The error with which driving stopped. None if it stopped without an error.
        driver: The current driver: the id of a thread, or a task.
        context: The context variables of the caller that started the execution in the background.
        call: The running call of a step. None if no step runs.
        slot: The slot of the next or running attempt, or its place in the limit's queue. None if it has neither.
        used: The slot of the last attempt, until the answer of the attempt is written.
        listed: Whether the journal may have a slot, or a place in a queue, for the execution.
        unbegun: Whether the journal says that the announced attempt has not begun.
        dormant: Whether the execution must not begin yet, because another branch of its group has to settle first.
        failed_observers: The observers that have raised an error. Each is logged once.
        inbox: The items that were read from the execution's inbox.
        answers: The answers to verbs. The next commit writes them.
        wait: The data about the driver's present wait, and about the callers that wait for the driver.
        group: The data about the branches of the present group.
        elapsed: A time, in seconds since the epoch, that has passed according to this process's monotonic clock. The
            time counts as passed even if the system clock was set back.
    """

    saga_id: str
    execution: Execution = None  # type: ignore[assignment]  # as documented above
    epoch: int = 0
    background: bool = False
    claimed: Entry | None = None
    recoveries: Recoveries = NO_RECOVERIES
    recorded: Recoveries = NO_RECOVERIES
    orphaned: bool = False
    asks_at: float | None = None
    decides: bool = False
    recovered: bool = False
    stopping: bool = False
    called: bool = False
    finished: bool = False
    rests: bool = False
    outcome: Outcome | None = None
    error: BaseException | None = None
    driver: object = None
    context: Context | None = None
    call: Any = None
    slot: Slot | None = None
    used: Slot | None = None
    listed: bool = False
    unbegun: bool = False
    dormant: bool = False
    failed_observers: frozenset[int] = frozenset()
    inbox: Inbox = UNREAD
    answers: tuple[VerbAnswer, ...] = ()
    wait: Waiting = msgspec.field(default_factory=Waiting)
    group: Group = NO_GROUP
    elapsed: float = -math.inf

    def receive(self, items: Iterable[InboxItem]) -> bool:
        """Pass new items among *items* to the execution. Returns whether any item was new."""
        if self.inbox is UNREAD:
            self.inbox = Inbox()
        inbox, known = self.inbox, len(self.inbox.received)
        encoding = self.execution.encoding
        for each in items:
            if each.number not in inbox.received:
                item = each if encoding is None else self._decoded(each, encoding)
                inbox.received.add(item.number)
                inbox.seen = max(inbox.seen, item.number)
                if item.carrier is not None:
                    inbox.carriers.append(item.carrier)
                if item.kind in VERBS:
                    inbox.verbs.append(item)
                    continue
                self.execution.receive(item)
                if item.kind == BEGIN:
                    self.dormant = False
                if item.kind == CHILD and item.value == SUCCEEDED:
                    inbox.successes += 1
                elif item.kind == CHILD:
                    inbox.trouble = True
                if item.kind == LATE:
                    inbox.late = f"{inbox.late}; {item.reason}" if inbox.late else item.reason
        return len(inbox.received) > known

    def note_cause(self, verb: InboxItem) -> None:
        """Store the trace context of *verb*, which did not come through the inbox. The next notice has it."""
        if verb.carrier is not None:
            if self.inbox is UNREAD:
                self.inbox = Inbox()
            self.inbox.carriers.append(verb.carrier)

    def _decoded(self, item: InboxItem, encoding: Encoding) -> InboxItem:
        """Return *item* with its value decoded.

        A signal that was not checked when it was sent is ignored if its value does not have the signal's type.
        """
        try:
            (decoded,) = encoding.decode_items(self.execution.saga, (item,))
        except PayloadError as error:
            if item.reason != UNCHECKED:
                raise
            logger.warning("execution %r: the signal %r does not count: %s", self.saga_id, item.name, error)
            return replace(item, kind="", value=None)
        return decoded

    def enter_group(self) -> Group:
        """The data about the branches of the present group. The first call creates it."""
        if self.group is NO_GROUP:
            self.group = Group()
        return self.group

    @property
    def is_finishing(self) -> bool:
        """Whether the driver has not loaded the execution yet, or is about to finish it.

        In both cases, a caller that waits for the driver waits only for a short time.
        """
        return self.epoch == 0 or (self.execution.effect is None and self.execution.seq > 0)


def is_quiescent(execution: Execution, *, mail: bool, branches_quiescent: bool) -> bool:
    """Whether an execution does not continue by itself.

    It has ended, or waits for a person, for a signal, or for branches that do not continue by themselves.
    """
    if execution.effect is None:
        return execution.seq > 0
    if execution.effect.kind != AWAIT or mail:
        return False
    return branches_quiescent if execution.effect.part.kind in GROUPS else True
