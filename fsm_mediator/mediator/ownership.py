"""OwnedExecutions: the executions of a driver. Only this module, and ``claiming`` for many together, claims them.

Before code claims, drives or releases an execution, it puts an `ActiveExecution` into `OwnedExecutions.active`. If
`active` already has the execution, the code must leave it alone. Therefore an execution is never released while it is
driven. If the journal names this driver as the owner but there is no `ActiveExecution`, an interrupt has stopped the
thread or task that drove the execution. The execution can then be claimed.
"""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Callable

import msgspec

from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import AlreadyDrivenError, JournalError, LeaseLostError, PayloadError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.ids import is_inside
from fsm_mediator.journal.optional import turns_of
from fsm_mediator.journal.protocol import Commit, Entry, Journal
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, Effect
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.holding import Holds
from fsm_mediator.mediator.limits import Limits, Slot
from fsm_mediator.mediator.pool import RunningCall
from fsm_mediator.mediator.store import ExecutionStore
from fsm_mediator.records import LATE, VERBS, Failure, InboxItem, Record, VerbAnswer
from fsm_mediator.states import COMPENSATING, EXECUTING, PENDING, PROBING, is_settled

logger: logging.Logger = logging.getLogger("fsm_mediator")


class AbandonedCall:
    """A thread that outlives its attempt. While the thread runs, no other attempt may begin.

    Attributes:
        call: The thread's call.
        effect: The effect that the call performs.
        slot: The call's slot of a limit. None if it has no slot.
        watched: Whether the answer of the call will be journaled.
    """

    __slots__ = ("call", "effect", "slot", "watched")

    def __init__(self, call: RunningCall, effect: Effect) -> None:
        self.call: RunningCall = call
        self.effect: Effect = effect
        self.slot: Slot | None = None
        self.watched: bool = False


class OwnedExecutions:
    """The executions that one driver owns.

    Attributes:
        active: The executions that the driver drives, or is about to claim, by id.
        abandoned: The threads that cannot be ended, by the id of their execution. The driver still owns these
            executions.
        unreleased: The ids of executions that could not be released yet.
        to_release: By an execution's id: the epoch of a claim to release. The daemon of this mediator claimed the
            execution while another thread or task of this mediator had the execution in *active*. The claim is released
            when that thread or task stops driving the execution, unless the execution has a newer epoch by then.
        waiting: The places of executions that queue in the journal, by id: see `Limit.wait_for_turn`.
        holds: The holds that this driver knows.
        claims_in_doubt: Whether a claim failed here, but may have succeeded in the journal.
        on_empty: A function that is called whenever no execution is left. None for no function.
        notify: Notifies the mediator of an item in an execution's inbox. Any thread may call it.
    """

    def __init__(self, store: ExecutionStore, driver_id: str, limits: Limits | None = None) -> None:
        self.store = store
        self.journal: Journal = store.journal
        self._journal = store.journal
        self.driver_id = driver_id
        self._limits = limits
        self.active: dict[str, ActiveExecution] = {}
        self.abandoned: dict[str, AbandonedCall] = {}
        self.unreleased: set[str] = set()
        self.to_release: dict[str, int] = {}
        self.waiting: dict[str, Slot] = {}
        self._turns = turns_of(store.journal)
        self.holds: Holds = Holds(store.journal, limited=limits is not None)
        self.claims_in_doubt = False
        self.on_empty: Callable[[], None] | None = None
        self.notify: Callable[[str], object] | None = None
        _here[self.driver_id] = self

    def __len__(self) -> int:
        return len(self.active) + len(self.abandoned)

    def any_branch_of(self, saga_id: str) -> ActiveExecution | None:
        """A branch of an execution, at any depth, that this driver drives. None if there is no such branch."""
        return next((each for each in list(self.active.values()) if is_inside(each.saga_id, saga_id)), None)

    def finish(
        self, active: ActiveExecution, outcome: Outcome | None = None, error: BaseException | None = None
    ) -> None:
        """Stop driving *active*, and wake the callers that wait for it."""
        active.outcome = outcome
        if error is not None:
            active.error = error
        active.finished = True  # last, because other threads then read the outcome and the error
        saga_id = active.saga_id
        while active.used is not None or active.slot is not None:
            if active.used is None:
                active.used, active.slot = active.slot, None
                self.waiting.pop(saga_id, None)
            if self.free_slot(active):
                look_for_turns()
        if self.active.get(saga_id) is active:
            del self.active[saga_id]
        if saga_id in self.to_release:
            self._release_claimed(saga_id)
        if (done := active.wait.done) is not None:
            done.set()
        if self.abandoned and (left := self.abandoned.get(saga_id)) is not None and not left.watched:
            left.watched = True  # only now: the answer must follow the driver's records
            left.call.add_done_callback(lambda _: self._journal_late_answer(saga_id, left))
        if self.on_empty is not None and not self:
            self.on_empty()

    def release_and_finish(
        self, active: ActiveExecution, error: BaseException | None = None, *, outcome: Outcome | None = None
    ) -> None:
        """Release *active* for the next driver. Does nothing if *active* is already finished."""
        if self.active.get(active.saga_id) is active:
            if (active.epoch or active.claimed) and active.saga_id not in self.abandoned:
                self.release(active.saga_id)
            self.finish(active, outcome, error)

    def give_back(self, claimed: Entry) -> None:
        """Release the claim *claimed*: at once, or when the execution is no longer in *active*.

        If the execution has been claimed again by then, it is not released.
        """
        self.to_release[claimed.saga_id] = claimed.epoch
        if claimed.saga_id not in self.active:
            self._release_claimed(claimed.saga_id)

    def _release_claimed(self, saga_id: str) -> None:
        epoch = self.to_release.pop(saga_id, None)
        if epoch is not None:
            try:
                self._journal.release(saga_id, epoch)
            except JournalError as error:
                self._release_later(saga_id, error)

    def _release_later(self, saga_id: str, error: JournalError) -> None:
        logger.warning("execution %r could not be released yet: %s", saga_id, error)
        self.unreleased.add(saga_id)

    def release(self, saga_id: str) -> None:
        """Release an execution in the journal, if the journal names this driver as its owner."""
        try:
            entry = self._journal.find(saga_id)
            if entry is not None and entry.driver is not None and entry.driver.id == self.driver_id:
                self._journal.release(saga_id, entry.epoch)
        except JournalError as error:
            self._release_later(saga_id, error)
        else:
            self.unreleased.discard(saga_id)

    def retry_releases(self) -> None:
        """Release the executions that could not be released before."""
        for saga_id in list(self.unreleased):
            active = ActiveExecution(saga_id)
            if self.active.setdefault(saga_id, active) is active:
                self.release(saga_id)
                self.finish(active)
            else:
                self.unreleased.discard(saga_id)  # this driver drives the execution again

    def claim(self, active: ActiveExecution, *, for_command: bool = False) -> bool:
        """Claim the execution of *active*, unless it is already claimed, and load it.

        *active* must be in `OwnedExecutions.active`.

        Returns:
            False if another driver owns the execution, or if it has ended or is stuck and the claim is not for a
            command.

        Raises:
            AlreadyDrivenError: The thread of an abandoned attempt still runs.
            UnknownExecutionError: There is no such execution.
            DefinitionChangedError, UnknownSagaError: No registered saga can drive the execution.
        """
        saga_id = active.saga_id
        if saga_id in self.abandoned:
            self.refuse_verbs(saga_id)
        claimed = active.claimed
        if claimed is None:
            self.check_no_running_call(saga_id)
            entry = self.store.entry(saga_id)
            self.store.registry.saga_of(entry.acceptance)
            if is_settled(entry.state) and not for_command and not self.store.has_news(entry):
                return False
        try:
            if claimed is not None:
                self.check_no_running_call(saga_id)
            elif (claimed := self._try_claim(entry)) is None:
                if entry.driver is not None:
                    notify_local_owner(entry.driver.id, saga_id)  # the owner must see the item that led to this claim
                return False
            return self.load(active, claimed, for_command=for_command)
        except BaseException as error:
            if active.epoch and claimed is not None and isinstance(error, PayloadError):
                self.store.note_fault(claimed, error)
            active.claimed = None
            self.release(saga_id)
            raise

    def load(
        self,
        active: ActiveExecution,
        claimed: Entry,
        *,
        records: list[Record] | None = None,
        for_command: bool = False,
    ) -> bool:
        """Load an execution that was claimed as *claimed*. *records* are its records. If None, they are read.

        Returns False if the execution has ended or is stuck, and the claim is not for a command. Then it is released.
        """
        active.execution = self.store.load_execution(claimed, records)
        active.epoch, active.claimed = claimed.epoch, None
        active.listed = self._limits is not None and self._turns is not None
        if is_settled(claimed.state) and not for_command and not self.store.has_news(claimed):
            self.release(claimed.saga_id)
            return False
        # An attempt that was only announced has not begun. It begins now, and is not in doubt.
        phase = active.execution.phase
        active.unbegun = claimed.wake_at is not None and phase in (EXECUTING, COMPENSATING, PROBING)
        active.asks_at = claimed.wake_at if phase == PROBING else None
        active.recoveries = active.recorded = claimed.recoveries
        active.orphaned = claimed.abandoned
        active.recovered = not active.unbegun
        active.dormant = claimed.state == PENDING and claimed.wake_at == math.inf  # an item can let it begin
        if claimed.mail or active.called:  # otherwise the inbox was empty, and later items call the driver
            active.called = False  # set before the read: items that come from now on are read again
            active.receive(self._journal.inbox(claimed.saga_id))
        return True

    def _try_claim(self, entry: Entry) -> Entry | None:
        saga_id = entry.saga_id
        claimed = self._journal.claim(saga_id, self.driver_id)
        if claimed is not None and entry.driver is not None and entry.driver.id == self.driver_id:
            # This driver owns the execution but does not drive it: a release failed, the answer to a claim was lost, or
            # an interrupt came. From now on, records under its present epoch must be refused.
            self._journal.release(saga_id, claimed.epoch)
            again = self._journal.claim(saga_id, self.driver_id)
            claimed = again and msgspec.structs.replace(again, abandoned=again.abandoned or claimed.abandoned)
        return claimed

    # Threads that cannot be ended

    def keep_for_abandoned_call(self, active: ActiveExecution, call: RunningCall, effect: Effect) -> None:
        """Keep owning the execution while the thread of *call* runs, even after *active* is finished."""
        self.abandoned[active.saga_id] = AbandonedCall(call, effect)

    def free_slot(self, active: ActiveExecution) -> bool:
        """Free the slot of an attempt after its answer is written.

        An abandoned thread keeps the slot while the thread runs.

        Returns:
            Whether executions of this process wait for slots. Then the caller must call `look_for_turns`.
        """
        slot, active.used = active.used, None
        assert slot is not None
        left = self.abandoned.get(active.saga_id)
        if left is not None:
            left.slot = slot
            return False
        slot.end()
        return any(owned.waiting for owned in list(_here.values()))

    def catch_up(self) -> None:
        """Retry failed releases, resume executions that have a free slot, and read new holds."""
        self.retry_releases()
        self.look_for_turns()
        self.refresh_holds()

    def refresh_holds(self) -> None:
        """Read new holds. If there are any, notify all executions of this driver, so that they check the holds."""
        if not self.holds.refresh() or self.notify is None:
            return
        parked, self.holds.parked = self.holds.parked, set()
        for saga_id in (*self.active, *parked):
            self.notify(saga_id)

    def hold_back(self, active: ActiveExecution, at: float) -> None:
        """Delay the next attempt of *active* if a hold covers the attempt. Otherwise let the attempt begin."""
        execution = active.execution
        effect = execution.effect
        if effect is None or effect.kind not in (EXECUTE, COMPENSATE):
            return
        if not self.holds.any or not self.holds.holds(execution, effect):
            active.asks_at = None
        elif active.asks_at is None or active.asks_at <= at:
            active.asks_at = self.holds.until(execution, at)

    def has_slot(self, active: ActiveExecution) -> bool:
        """Whether the limits allow the next attempt now. If not, the attempt is queued."""
        effect = active.execution.effect
        limit = None if self._limits is None or effect is None else self._limits.of(effect)
        slot = active.slot
        if slot is not None and (slot.limit is not limit or slot.ended):
            slot.end()
            slot = active.slot = None
            self.waiting.pop(active.saga_id, None)
        if limit is None:
            return True
        if slot is None:
            slot = active.slot = limit.acquire(active.used)
        return slot.has_come

    def wait_for_turn(self, active: ActiveExecution) -> None:
        """Queue an attempt until the journal has a slot for it."""
        refused = active.slot
        assert refused is not None
        self.waiting[active.saga_id] = active.slot = refused.limit.wait_for_turn()
        refused.end()
        self.look_for_turns()  # a slot may have become free meanwhile

    def look_for_turns(self) -> None:
        """Resume the executions for which the journal has a free slot."""
        if not self.waiting or self._turns is None:
            return
        try:
            for saga_id in self._turns(self.driver_id):
                if (place := self.waiting.pop(saga_id, None)) is not None:
                    place.come()
        except JournalError as error:  # the next heartbeat looks again
            logger.warning("the journal could not be asked for free slots: %s", error)

    def check_no_running_call(self, saga_id: str) -> None:
        """Refuse to claim an execution while the thread of an abandoned attempt still runs.

        Raises:
            AlreadyDrivenError: Such a thread runs.
        """
        while (left := self.abandoned.get(saga_id)) is not None:
            if left.call.answered and left.watched:
                time.sleep(0.001)  # the thread is journaling its answer
                continue
            raise AlreadyDrivenError(_still_running(saga_id))

    def refuse_verbs(self, saga_id: str) -> None:
        """Refuse the verbs in the inbox of an execution, because the thread of its abandoned attempt still runs."""
        try:
            entry = self._journal.find(saga_id)
            verbs = [item for item in self._journal.inbox(saga_id) if item.kind in VERBS]
            if verbs and entry is not None and entry.driver is not None and entry.driver.id == self.driver_id:
                why, at = f"{_still_running(saga_id)} ({entry.driver})", self.store.clock()
                answers = tuple(VerbAnswer(verb.number, verb.name, None, why, at) for verb in verbs)
                taken = tuple(verb.number for verb in verbs)
                commit = Commit(saga_id, (), self.driver_id, entry.epoch, taken=taken, answers=answers)
                self._journal.write(commit)
        except LeaseLostError:
            pass  # the thread has just ended, so the next driver handles the verbs
        except JournalError as error:
            logger.warning("execution %r: its verbs could not be answered yet: %s", saga_id, error)

    def _journal_late_answer(self, saga_id: str, left: AbandonedCall) -> None:
        call, effect = left.call, left.effect
        try:
            error = call.error
            answer = f"returned {safe_repr(call.value, 1000)}" if error is None else f"raised {Failure.of(error)}"
            note = f"the abandoned attempt to {effect.kind} {effect.part.path!r} {answer[:1000]}"
            logger.warning("execution %r: %s", saga_id, note)
            self._journal.post(saga_id, InboxItem(LATE, effect.part.path, None, note, self.store.clock()))
        except JournalError as fault:
            logger.warning("execution %r: its late answer could not be journaled: %s", saga_id, fault)
        finally:
            self.release(saga_id)
            if left.slot is not None:
                left.slot.end()
                look_for_turns()
            if self.abandoned.get(saga_id) is left:
                del self.abandoned[saga_id]
            if self.on_empty is not None and not self:
                self.on_empty()


_here: weakref.WeakValueDictionary[str, OwnedExecutions] = weakref.WeakValueDictionary()
"""The owned executions of each driver of this process, by the driver's id."""


def look_for_turns() -> None:
    """Resume the executions of this process that can have a free slot. Called when a slot of a limit may be free.

    Drivers in other processes check for free slots at their next heartbeat.
    """
    for owned in list(_here.values()):
        owned.look_for_turns()


def refresh_holds(journal: Journal) -> None:
    """Let the drivers in this process that use *journal* read new holds. Other processes do so at a heartbeat."""
    for owned in list(_here.values()):
        if owned.journal is journal:
            owned.refresh_holds()


def notify_local_owner(driver_id: str, saga_id: str) -> None:
    """If the owner of an execution is a driver in this process, notify it about an item in the execution's inbox.

    An owner in another process finds the item at its next heartbeat, or when it writes its next record.
    """
    owned = _here.get(driver_id)
    if owned is not None and owned.notify is not None and saga_id in owned.active:
        owned.notify(saga_id)
    elif owned is not None and saga_id in owned.abandoned:
        owned.refuse_verbs(saga_id)


def _still_running(saga_id: str) -> str:
    return (
        f"execution {saga_id!r}: the abandoned attempt's thread is still running, and must not be overtaken; wait "
        f"until it has ended, or end its process"
    )
