"""Live: what a mediator keeps about an execution while it drives it. It judges nothing and does no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import Context
from typing import Any

from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.codec import decode_items
from fsm_mediator.machine.parts import AWAIT, GROUPS
from fsm_mediator.mediator.limits import Turn
from fsm_mediator.mediator.threads import ThreadedAttempt
from fsm_mediator.records import BEGIN, LATE, InboxItem
from fsm_mediator.states import ENDED, STUCK, STUCK_EXECUTING


class Live:
    """An execution that this mediator drives, or is about to take up.

    Attributes:
        saga_id: Its id.
        execution: It; not there before it is claimed.
        epoch: The epoch it is driven under; 0: it is not claimed yet.
        background: Whether no caller waits for this very drive, so that long waits need hold nothing.
        recovered: Whether it was taken up in the midst of something, which counts as a crash of what was under way.
        stopping: Whether its driver is to leave it after the next record.
        called: Whether something has come to its inbox that nobody has looked at.
        finished: Whether it is driven no more.
        rests: Whether it has ended or waits for a person, a signal or a child.
        outcome: Where it stood when it was finished; None: it was dropped by an error.
        error: That error.
        wake: Set when something came or it is to stop; made when somebody waits.
        done: Set when it is finished; made when somebody waits.
        seat: While nobody is at it (it is queued, or waits for its alarm): whoever takes this has it to drive or drop.
        until: While it waits: till when, in seconds since the epoch.
        alarm: While it waits with nobody at it: what ends the wait.
        context: The context variables of whoever started it in the background.
        driver: What drives it now: the thread's id, or the task.
        attempt: The thread that an attempt of it is running in, on an event loop.
        late: What abandoned attempts have answered since.
        noted: The inbox items that its execution has taken notice of.
        seen: The number of the newest of them.
        told: The branches that were told of a cancel.
        resting: Whether none of the branches that it waits for goes on by itself.
        turn: Its place in the queue of a limit, or its slot.
        unbegun: Whether the attempt that was announced has not begun, and the journal says so.
        dormant: Whether it may not begin yet, for another branch of its group has to settle first.
        untold: Whether a branch could not be told yet that it is to be undone.
        unobserved: The observers that have raised, which is logged once.
    """

    __slots__ = (
        *("alarm", "attempt", "background", "called", "context", "done", "dormant", "driver", "epoch", "error"),
        *("execution", "finished", "late", "noted", "outcome", "recovered", "resting", "rests", "saga_id", "seat"),
        *("seen", "stopping", "told", "turn", "unbegun", "unobserved", "until", "untold", "wake"),
    )

    execution: Execution

    def __init__(self, saga_id: str, execution: Execution | None = None, *, background: bool = False) -> None:
        self.saga_id = saga_id
        if execution is not None:
            self.execution = execution
            self.epoch = 1
        else:
            self.epoch = 0
        self.background = background
        self.recovered = False
        self.stopping = False
        self.called = False
        self.finished = False
        self.rests = False
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.wake: Any = None
        self.done: Any = None
        self.seat: object = None
        self.until: float | None = None
        self.alarm: Any = None
        self.context: Context | None = None
        self.driver: Any = None
        self.attempt: ThreadedAttempt | None = None
        self.late: str | None = None
        self.noted: set[int] | None = None
        self.seen = 0
        self.told: set[str] | None = None
        self.resting = False
        self.turn: Turn | None = None
        self.unbegun = False
        self.dormant = False
        self.untold = False
        self.unobserved: set[int] | None = None

    def note(self, mail: Iterable[InboxItem]) -> bool:
        """Have the execution take notice of what is in its inbox, of each item once; whether there was anything new."""
        noted = self.noted
        if noted is None:
            noted = self.noted = set()
        known = len(noted)
        for item in decode_items(self.execution.saga, mail):
            if item.number not in noted:
                noted.add(item.number)
                self.seen = max(self.seen, item.number)
                self.execution.note(item)
                if item.kind == BEGIN:
                    self.dormant = False
                if item.kind == LATE:
                    self.late = f"{self.late}; {item.reason}" if self.late else item.reason
        return len(noted) > known

    @property
    def is_leaving(self) -> bool:
        """Whether it is only looked at, or at rest and about to be finished: who waits for that will not wait long."""
        return self.epoch == 0 or (self.execution.effect is None and self.execution.seq > 0)


def rests(execution: Execution, *, mail: bool, resting: bool) -> bool:
    """Whether nothing goes on by itself: it has ended, or waits for a person, a signal, or branches that rest."""
    if execution.effect is None:
        return execution.seq > 0
    if execution.effect.kind != AWAIT or mail:
        return False
    return resting if execution.effect.part.kind in GROUPS else True


def is_at_rest(state: str) -> bool:
    """Whether nothing goes on from *state* unless a person says so."""
    return state in ENDED or state.startswith((f"{STUCK}.", f"{STUCK_EXECUTING}."))
