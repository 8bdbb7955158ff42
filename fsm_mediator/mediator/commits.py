"""CommitBuilder: makes the commits of a driver, and decides when an execution is released. It does no I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from fsm_mediator.errors import DecisionError, ResultRefusedError, SignalTimedOutError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.rules import MOST_CRASHES
from fsm_mediator.ids import branch_name
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.optional import turns_of
from fsm_mediator.journal.planning import Plan, plans_branches
from fsm_mediator.journal.protocol import NO_RECOVERIES, Commit, Driver, Journal, Recoveries, new_token
from fsm_mediator.machine.parts import AWAIT, EXECUTE, GROUPS, PROBE, Effect, Kind
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.holding import Holds
from fsm_mediator.records import (
    BEGIN,
    CHILD,
    SIGNAL,
    Acceptance,
    Begin,
    Crashed,
    Happened,
    InboxItem,
    Raised,
    Record,
    Returned,
)
from fsm_mediator.states import FAILED, FURTHER, PENDING, WAITING, is_settled, phase_of

CREATED_AT_ONCE: Final = 1000
"""The maximum number of branches that are created in one commit."""


class CommitBuilder:
    """Decides which commits a driver writes for an execution.

    Args:
        journal: The journal that will write the commits.
        clock: Returns the time, in seconds since the epoch.
        chance: Draws a number from 0 to 1, for the jitter of waits.
        park_after: Seconds. If an execution in the background waits longer than this, it is released during the wait.
        sleeps: Whether the user gave the mediator a *sleep*. Then no execution is released during a sleep.
        limited: Whether the mediator limits the number of attempts at a time.
        max_recoveries: The number of drivers that may die while they drive an execution that makes no progress.

    Attributes:
        driver: The driver that writes.
        holds: The holds that the driver knows.
        created_at_once: The maximum number of a group's branches that one commit creates. None if the journal keeps no
            plans: then one commit creates all branches of a group.
    """

    driver: Driver
    holds: Holds

    def __init__(
        self,
        journal: Journal,
        clock: Callable[[], float],
        chance: Callable[[], float],
        *,
        park_after: float,
        sleeps: bool,
        limited: bool,
        max_recoveries: int,
    ) -> None:
        self.clock = clock
        self.chance = chance
        self.created_at_once = CREATED_AT_ONCE if plans_branches(journal) else None
        self._codec = journal.codec if journal.encodes else None
        self._park_after = park_after
        self._sleeps = sleeps
        self._asks_for_slots = limited and turns_of(journal) is not None
        self._max_recoveries = max_recoveries

    def is_straightforward(self, active: ActiveExecution) -> bool:
        """Whether the execution now ends or attempts a step at once. This is the usual case.

        In the other cases further records may come first, or the execution waits, is released or queues.
        """
        execution = active.execution
        effect = execution.effect
        return not (
            (effect is not None and effect.callback is None)
            or self.holds.restricts
            or active.stopping
            or active.unbegun
            or execution.is_interruptible
        )

    def commit(
        self,
        active: ActiveExecution,
        records: Sequence[Record],
        *,
        opens: bool = False,
        parks: bool = False,
        queues: bool = False,
        plan: Plan | None = None,
    ) -> Commit:
        """Make the commit of *records*, which is not written yet.

        Args:
            active: The execution.
            records: Its new records, in order.
            opens: Whether this is the first commit of the execution.
            parks: Whether the execution has no owner after the commit.
            queues: Whether the attempt that *records* announce has to wait for its slot.
            plan: The change to the planned branches. None if there is no change.
        """
        execution = active.execution
        effect = execution.effect
        wake_at = None
        if effect is not None:
            wake_at = execution.wake_at if effect.callback is None or not (parks or queues) else active.asks_at
            if wake_at is None and effect.callback is not None and (parks or queues):
                wake_at = self.clock()
        may_not_begin = active.dormant and execution.state == PENDING
        if may_not_begin:
            wake_at = math.inf
        at_work = effect is not None or execution.state == PENDING
        answers = active.answers
        if answers:
            active.answers = ()
        held = (at_work and not parks) or (bool(records) and records[-1].abandoned)
        children: tuple[Acceptance, ...] = ()
        dormant: tuple[Acceptance, ...] = ()
        if execution.new_branches:  # rare, like the cases below: a commit without them must be fast
            if self._plans(execution):
                plan = Plan(execution.pop_new_branches())
            else:
                new = execution.pop_new_branches()
                later = {acceptance.successor for acceptance in new}
                children = tuple(acceptance for acceptance in new if acceptance.saga_id not in later)
                dormant = tuple(acceptance for acceptance in new if acceptance.saga_id in later)
        posts: tuple[tuple[str, InboxItem], ...] = ()
        if active.group.planned or (plan is not None and plan.branches):
            wake_at = self.clock()  # even if this driver keeps the execution: if it dies, another creates the rest
        elif execution.forwarded:
            posts = execution.pop_forwarded()
        if execution.acceptance.parent is not None:
            posts += _branch_notifications(execution, records)
        taken = execution.drain_consumed()
        if answers:
            taken += tuple(answer.number for answer in answers)
        return Commit(
            execution.saga_id,
            tuple(records),
            self.driver.id,
            active.epoch,
            held,
            wake_at,
            not at_work
            or may_not_begin
            or (parks and (active.asks_at is not None or _is_wait(effect)) and not active.group.must_retry),
            active.inbox.seen,
            taken,
            execution.acceptance if opens else None,
            children,
            dormant,
            posts,
            _timed_out_signal(execution, records),
            _counted(active, records),
            self._slot(active, records, parks=parks) if self._asks_for_slots else None,
            answers,
            plan,
            0 if records or opens else new_token(),
            execution.acceptance.notes if opens else (),
        )

    def _plans(self, execution: Execution) -> bool:
        """Whether there are too many new branches for one commit."""
        return self.created_at_once is not None and len(execution.new_branches) > self.created_at_once

    def _slot(self, active: ActiveExecution, records: Sequence[Record], *, parks: bool) -> str | None:
        """The value of `Commit.slot`: a limit's name to ask for a slot, "" to give it up, None to change nothing.

        An execution that is parked before its attempt begins keeps its place in the queue.
        """
        if active.slot is not None and not parks:
            return active.slot.limit.name
        keeps = records[-1].abandoned if records else parks and active.unbegun
        return "" if active.listed and not keeps else None

    def should_release(
        self, active: ActiveExecution, *, written: bool, left: Callable[[ActiveExecution, float, float], float]
    ) -> bool:
        """Whether the execution is released while it waits.

        Args:
            active: The execution.
            written: Whether all records of the execution are written.
            left: A function that takes the execution, the end of its wait and the present time. It returns the seconds
                that are left.
        """
        execution = active.execution
        effect = execution.effect
        if effect is None:
            # The execution is stuck or dormant: there was no reason to claim it.
            return active.stopping or active.dormant or (written and execution.seq > 0)
        if active.stopping:
            return True
        if effect.callback is not None and active.asks_at is None:
            return False
        if effect.part.kind in GROUPS:
            # New branches notify their parent. Other branches may have settled before, so the parent must check them
            # first. A parent in the foreground waits until its branches settle.
            created = bool(execution.new_branches) and not self._plans(execution)
            may_park = (written or created) and not active.group.must_retry
            return may_park and (active.background or (written and active.group.quiescent))
        if effect.kind == AWAIT:
            return True
        if not active.background or self._sleeps:
            return False
        until = execution.wake_at if active.asks_at is None else active.asks_at
        return until is None or left(active, until, self.clock()) > self._park_after

    def resume_records(self, active: ActiveExecution, at: float) -> list[Record]:
        """The records with which a driver resumes an execution in its present state."""
        execution = active.execution
        records = []
        if active.recovered:  # the running attempt counts as crashed
            active.recovered = False
            crashed = self._crashed(active)
            record = execution.feed(crashed, at, self.chance())
            if record is not None:
                records.append(record)
            elif crashed.times and execution.effect is not None:  # the crash of a probe
                active.asks_at = at + execution.effect.part.retry.wait(crashed.times, self.chance())
        if execution.state == PENDING:
            append_immediate_moves(active, records, at)  # a cancel or the deadline can come before the start
            if execution.state == PENDING and not active.stopping and not active.dormant:
                record = execution.feed(Begin(), at)
                assert record is not None
                records.append(record)
        return records

    def _crashed(self, active: ActiveExecution) -> Crashed:
        """The answer to an effect that a driver left unfinished. If the driver has died, the crash is counted."""
        effect = active.execution.effect
        if not active.orphaned or effect is None or effect.callback is None:
            return Crashed()
        total, here = active.recoveries
        active.recoveries = Recoveries(total + 1, here + 1)
        return Crashed(here + 1, too_often=total + 1 > self._max_recoveries)

    def counts_decision(self, active: ActiveExecution) -> bool:
        """Count the next call of a deciding function before it begins, if a driver may have died during the last call.

        Returns whether the call is counted. The next commit journals the count. After too many crashes, the deciding
        function is no longer called.
        """
        execution = active.execution
        if not (active.orphaned and active.recovered and execution.decides_next):
            return False
        total, here = active.recoveries
        if here >= min(MOST_CRASHES, self._max_recoveries):
            execution.poison = DecisionError(
                f"what comes next was never decided: its driver ended {here} times while the function was called"
            )
        active.recoveries, active.decides = Recoveries(total + 1, here + 1), True
        return True

    def encode_result(self, effect: Effect, answer: Returned) -> Returned | Raised:
        """Return *answer* with its value encoded and decoded, as later steps will get it.

        If the value cannot be encoded, the returned answer is an error.
        """
        return answer if self._codec is None else encoded_answer(self._codec, effect, answer)


def encoded_answer(codec: Codec, effect: Effect, answer: Returned) -> Returned | Raised:
    """Return *answer* with its value encoded and decoded by *codec*, as later steps will get it.

    If the value cannot be encoded, the returned answer is an error.
    """
    value = answer.value
    try:
        if effect.kind == EXECUTE:
            value = codec.accept_result(effect.part, value)
        elif effect.kind == PROBE and isinstance(value, Happened):
            value = Happened(codec.accept_result(effect.part, value.result))
    except ResultRefusedError as error:
        return Raised(error, answer.late)
    return Returned(value, answer.late)


def forget_decision(active: ActiveExecution) -> None:
    """Undo `CommitBuilder.counts_decision`, because the counted call of the deciding function made no decision."""
    total, here = active.recoveries
    active.recoveries, active.decides = Recoveries(total - 1, here - 1), False
    active.execution.poison = None


def append_immediate_moves(active: ActiveExecution, records: list[Record], at: float) -> None:
    """Append to *records* the records of the transitions that the execution can make now without an effect."""
    advance = active.execution.advance
    while (record := advance(at)) is not None:
        records.append(record)


def arguments_of(execution: Execution, effect: Effect) -> tuple[Any, ...]:
    """The arguments of the effect's callback."""
    assert effect.callback is not None
    if effect.callback.takes_context:
        return execution.payload_seen(), execution.context(effect)
    return (execution.payload_seen(),)


def _is_wait(effect: Effect | None) -> bool:
    return effect is not None and effect.callback is None


def _counted(active: ActiveExecution, records: Sequence[Record]) -> Recoveries | None:
    """The execution's count of recoveries after *records* are written. None if the journal already has this count."""
    if active.recoveries is NO_RECOVERIES and active.recorded is NO_RECOVERIES:
        return None
    for record in records:
        further = record.event in FURTHER or phase_of(record.target) == WAITING
        active.recoveries = NO_RECOVERIES if further else Recoveries(active.recoveries.total)
    return None if active.recoveries == active.recorded else active.recoveries


def _timed_out_signal(execution: Execution, records: Sequence[Record]) -> tuple[str, str] | None:
    """The kind and name of the signal, if *records* end the wait for a signal by its timeout. Otherwise None."""
    for record in records:
        if record.error is not None and isinstance(record.error.exception, SignalTimedOutError):
            part = execution.machine.places[record.source].part
            if phase_of(record.source) == WAITING and part is not None and part.kind is Kind.SIGNAL:
                return SIGNAL, part.path
    return None


def _branch_notifications(execution: Execution, records: Sequence[Record]) -> tuple[tuple[str, InboxItem], ...]:
    """The items that a branch posts to its parent when it begins to compensate and when it has settled.

    A settled branch also notifies the next branch, which may then begin.
    """
    settled = bool(records) and is_settled(records[-1].target)
    if not settled and not any(record.event in ("rejected", "in_doubt") for record in records):
        return ()
    mine, last = execution.acceptance, records[-1]
    assert mine.parent is not None
    news = (mine.parent, InboxItem(CHILD, branch_name(mine.saga_id), last.target, at=last.at))
    if not settled or mine.successor is None or (last.target == FAILED and execution.saga.cancels_siblings):
        return (news,)
    return news, (mine.successor, InboxItem(BEGIN, at=last.at))
