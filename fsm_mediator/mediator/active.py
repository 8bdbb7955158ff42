"""ActiveExecution: what a mediator keeps about an execution while it owns it. It decides nothing and does no I/O."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from contextvars import Context
from typing import Any, Final

from msgspec.structs import replace

from fsm_mediator.errors import PayloadError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.execution.views import Encoding
from fsm_mediator.journal.protocol import NO_RECOVERIES, Entry, Recoveries
from fsm_mediator.machine.parts import AWAIT, GROUPS
from fsm_mediator.mediator.limits import Slot
from fsm_mediator.records import BEGIN, CHILD, LATE, UNCHECKED, VERBS, InboxItem, VerbAnswer
from fsm_mediator.states import SUCCEEDED

logger: logging.Logger = logging.getLogger("fsm_mediator")


class Inbox:
    """What the driver has read of an execution's inbox.

    Attributes:
        received: The numbers of the items that the execution has received.
        seen: The highest of these numbers.
        late: The answers of abandoned attempts, in words; None: there are none.
        successes: How many messages said that a branch has succeeded.
        trouble: Whether a branch has left the way forward, or is stuck, since the driver last looked at the branches.
        verbs: The verbs that are not judged yet, in order.
        carriers: The contexts of the traces in which the items were said, where they were said in any.
    """

    seen = 0
    successes = 0
    late: str | None = None
    trouble = False

    def __init__(self) -> None:
        self.received: set[int] = set()
        self.verbs: list[InboxItem] = []
        self.carriers: list[dict[str, str]] = []


class Waiting:
    """How the driver of an execution waits, and how others wait for the driver.

    Attributes:
        wake: Set when something came to the inbox, or when the driver is to stop; made at the first wait.
        done: Set when the execution is finished; made when somebody waits for that.
        until: While the driver waits: the time at which the wait ends, in seconds since the epoch.
        due: The time at which the execution's present wait ends; *ends*: the same by the monotonic clock.
        token: While no driver is at work, because the execution is queued or waits for a timer: whoever takes the token
            drives the execution or releases it.
        timer: While the execution waits for a timer: that timer.
    """

    wake: Any = None
    done: Any = None
    until: float | None = None
    due: float | None = None
    ends: float = 0.0
    token: object = None
    timer: Any = None


class Group:
    """What the driver knows about the branches of the group that an execution waits in.

    Attributes:
        notified: The ids of the branches to which a cancel was posted.
        quiescent: Whether none of the branches goes on by itself.
        must_retry: Whether a branch that must be undone could not be commanded yet.
        planned: Whether branches are planned that this driver is to create.
        enough: How many messages of success there must be before all branches can have settled.
        listed_until: The monotonic time until which the last listing of the branches will do, if all go on.
    """

    notified: frozenset[str] = frozenset()
    quiescent = False
    must_retry = False
    planned = False
    enough = 0
    listed_until: float = -math.inf


UNREAD: Final = Inbox()
"""The inbox of every execution for which nothing was read yet."""

NO_GROUP: Final = Group()
"""What is known of the branches of every execution that has not waited for any yet."""


class ActiveExecution:
    """An execution that this mediator drives, or is about to claim.

    Attributes:
        saga_id: Its id.
        execution: The execution; not set before it is claimed.
        claimed: What it was claimed as, until it is loaded. None: it is yet to be claimed.
        epoch: The epoch it is driven under; 0: it is not loaded yet.
        background: Whether it is driven in the background, so that long waits need no owner.
        recoveries: How often it was claimed from a dead driver without getting further.
        recorded: The same, as the journal has it.
        orphaned: Whether it was claimed from a dead driver.
        asks_at: When a probe that a dead driver left is asked again, in seconds since the epoch. None: at once.
        decides: Whether a decision was counted as begun that a dead driver may have left; until the decision is made.
        recovered: Whether it was claimed in the midst of something, which counts as a crash of what was under way.
        stopping: Whether its driver is to leave it after the next record.
        called: Whether its inbox has items that the driver has not read.
        finished: Whether nothing here drives it any more.
        rests: Whether it has ended, or waits for a person, a signal or a branch.
        outcome: Its outcome when it was finished; None: an error dropped it.
        error: That error.
        driver: What drives it now: the id of a thread, or a task.
        context: The context variables of the caller that started it in the background.
        call: The call of a step that is under way.
        slot: Its place in the queue of a limit, or its slot.
        used: The slot of the last attempt, until the answer is written.
        listed: Whether the journal may have a slot, or a place in the queue, of it.
        unbegun: Whether the announced attempt has not begun, and the journal says so.
        dormant: Whether it may not begin yet, because another branch of its group has to settle first.
        failed_observers: The observers that have raised, which is logged once.
        inbox: What was read of its inbox.
        answers: The answers to verbs, for the next commit.
        wait: How it waits.
        group: What is known about its branches.
        elapsed: A time that has passed by this process's monotonic clock, even if the clock was set back meanwhile.
    """

    __slots__ = (
        *(
            "answers",
            "asks_at",
            "background",
            "call",
            "called",
            "claimed",
            "context",
            "decides",
            "dormant",
            "driver",
            "elapsed",
            "epoch",
            "error",
            "execution",
        ),
        *("failed_observers", "finished", "group", "inbox", "listed", "orphaned", "outcome", "recorded", "recovered"),
        *("recoveries", "rests", "saga_id", "slot"),
        *("stopping", "unbegun", "used", "wait"),
    )

    execution: Execution
    epoch: int
    recoveries: Recoveries
    recorded: Recoveries
    dormant: bool

    def __init__(self, saga_id: str, execution: Execution | None = None, *, background: bool = False) -> None:
        self.saga_id = saga_id
        if execution is not None:
            self.execution = execution
            self.epoch = 1
        else:
            self.epoch = 0
        self.background = background
        self.recovered = self.stopping = self.called = self.finished = self.rests = False
        self.unbegun = self.dormant = self.orphaned = self.decides = self.listed = False
        self.recoveries = self.recorded = NO_RECOVERIES
        self.claimed: Entry | None = None
        self.asks_at: float | None = None
        self.elapsed: float = -math.inf
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.driver: object = None
        self.context: Context | None = None
        self.call: Any = None
        self.slot: Slot | None = None
        self.used: Slot | None = None
        self.failed_observers: frozenset[int] = frozenset()
        self.inbox: Inbox = UNREAD
        self.answers: tuple[VerbAnswer, ...] = ()
        self.wait: Waiting = Waiting()
        self.group = NO_GROUP

    def receive(self, items: Iterable[InboxItem]) -> bool:
        """Hand *items* of the inbox to the execution, each once; return whether any of them was new."""
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
        """Note the trace in which a verb was said that comes by no inbox."""
        if verb.carrier is not None:
            if self.inbox is UNREAD:
                self.inbox = Inbox()
            self.inbox.carriers.append(verb.carrier)

    def _decoded(self, item: InboxItem, encoding: Encoding) -> InboxItem:
        """*item* decoded. An unchecked signal with a value of another type does not count, and is taken."""
        try:
            (decoded,) = encoding.decode_items(self.execution.saga, (item,))
        except PayloadError as error:
            if item.reason != UNCHECKED:
                raise
            logger.warning("execution %r: the signal %r does not count: %s", self.saga_id, item.name, error)
            return replace(item, kind="", value=None)
        return decoded

    @property
    def is_finishing(self) -> bool:
        """Whether its driver only looks at it, or is about to finish it, so that waiting for the driver is short."""
        return self.epoch == 0 or (self.execution.effect is None and self.execution.seq > 0)


def is_quiescent(execution: Execution, *, mail: bool, branches_quiescent: bool) -> bool:
    """Whether nothing goes on by itself: it has ended, or waits for a person, a signal, or quiescent branches."""
    if execution.effect is None:
        return execution.seq > 0
    if execution.effect.kind != AWAIT or mail:
        return False
    return branches_quiescent if execution.effect.part.kind in GROUPS else True
