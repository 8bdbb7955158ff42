"""ExecutionDriver: drives executions. Both mediators share this code.

A driver asks an execution for its effect, performs the effect, and feeds the answer to the execution. The journal
writes the records, and the observers get them. Then the driver asks for the next effect. Only the driver's runtime ever
waits.

The traceback of a step's error keeps the frames alive that the error passed. If a variable of such a frame led back to
the error, for example through the execution, there would be a reference cycle. Therefore the coroutines of this module
delete such variables when they end.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any

from fsm_mediator.errors import LeaseLostError, MediatorError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.protocol import IdTakenError, InboxChangedError
from fsm_mediator.machine.parts import Effect
from fsm_mediator.mediator.active import UNREAD, ActiveExecution, SucceededBranch, is_quiescent
from fsm_mediator.mediator.commits import append_immediate_moves, arguments_of, forget_decision
from fsm_mediator.mediator.forward import ForwardDriver
from fsm_mediator.mediator.notifications import report
from fsm_mediator.mediator.pool import without_own_frame
from fsm_mediator.mediator.runtime import StepCall
from fsm_mediator.mediator.verbs import judge_verbs
from fsm_mediator.records import Abandoned, Answer, Raised, Record, Returned
from fsm_mediator.states import ENDED, PENDING

logger: logging.Logger = logging.getLogger("fsm_mediator")


class ExecutionDriver(ForwardDriver):
    """Drives the executions that a `Core` owns."""

    async def drive(  # noqa: C901 - one loop, read as a whole
        self, active: ActiveExecution, records: list[Record] | None = None, *, opens: bool = False
    ) -> Outcome | None:
        """Drive an execution from its present state. *records*, if given, are new records that are not written yet.

        Returns:
            The outcome when the driver released the execution. None if the execution continues with a timer or another
            driver.

        Raises:
            BaseException: A step raised an error that is not an `Exception`. The execution was released first, in a
                state from which a driver can continue.
            JournalError: The journal cannot be written.
        """
        commits, execution = self.commits, active.execution
        leaving: BaseException | None = None
        try:
            active.driver = self.runtime.current()
            if active.called:
                await self.read_inbox(active)
            if records is None and self.can_go_forward(active):
                records, leaving = await self.go_forward(active, opens=opens)
                if records is None:
                    return self.stop_driving(active)
                opens = opens and bool(records) and records[0].seq == 1
            at = self.clock()
            if records is None and active.inbox.verbs:
                records = await judge_verbs(self, active) or None
            if records is None:
                if commits.counts_decision(active):
                    await self.write(commits.commit(active, ()))
                    active.recorded = active.recoveries
                records = commits.resume_records(active, at)
            while True:
                written = parks = queues = False
                if active.inbox.verbs:
                    records += await judge_verbs(self, active)
                    at = self.clock()
                if leaving is None and (not records or not commits.is_straightforward(active)):
                    append_immediate_moves(active, records, at)
                    if not records and execution.group:
                        from fsm_mediator.mediator.joining import join_branches  # loaded when it is used

                        record = await join_branches(self, active)
                        if record is not None:
                            at = record.at
                            records = [record]
                            continue
                    written = not records
                    if self.owned.holds.any or active.asks_at is not None:
                        self.owned.hold_back(active, at)
                    parks = commits.should_release(active, written=written, left=self._left)
                    queues = not parks and (active.asks_at is not None or not self.owned.has_slot(active))
                if active.decides and not records:
                    forget_decision(active)
                counted = active.recoveries != active.recorded
                if records or parks or queues is not active.unbegun or counted or active.answers:
                    commit = commits.commit(active, records, opens=opens, parks=parks, queues=queues)
                    try:
                        mail = await self.write(commit)
                    except InboxChangedError:
                        await self._reload(active)
                        execution, records, at = active.execution, [], self.clock()
                        continue
                    opens = False
                    if active.recorded is not active.recoveries:
                        active.recorded = active.recoveries
                    if active.decides or queues is not active.unbegun:
                        active.unbegun, active.decides = queues, False
                    if commit.slot is not None or active.used is not None:
                        queues = active.unbegun = await self._note_slots(active, commit, mail)
                    if self.observers:
                        report(self.observers, active, records)
                    records = []
                    if commit.children or commit.posts:
                        self.notify_others(commit)
                    if leaving is not None:
                        raise leaving
                    if mail and active.receive(mail):
                        if commit.held and execution.effect is not None:
                            continue
                        active.called = True  # the execution has no owner any more, so a later item must call a driver
                effect = execution.effect
                if effect is None or parks:
                    return self.stop_driving(active)
                if effect.callback is None:
                    if not written and execution.group and not commit.children:
                        continue  # the branches are checked first: they may have settled already
                    now = await self._wait_until_due(active, execution.wake_at)
                    if now is None:
                        return None
                    at = now
                elif active.asks_at is not None:
                    now = await self._wait_until_due(active, active.asks_at)
                    if now is None:
                        return None
                    if now >= active.asks_at:
                        active.asks_at = None
                    at = now
                elif queues:
                    if not await self._wait_for_slot(active):
                        return None
                    at = self.clock()
                else:
                    answer = await self._call(active, effect)
                    if active.slot is not None:
                        active.used, active.slot = active.slot, None
                    at = self.clock()
                    record = execution.feed(answer, at, 0.0 if type(answer) is Returned else self.chance())
                    if record is not None:
                        records = [record]
                        leaving = self.leaving(active, effect, answer)
        except LeaseLostError as error:
            self.owned.release_and_finish(active, error)
            if opens and (records is not None or execution.seq == 1):  # the first record is not written
                raise
            logger.warning("execution %r: %s", execution.saga_id, error)
            return None
        except IdTakenError as error:
            self.owned.finish(active, error=error)
            raise
        except BaseException as error:
            self.owned.release_and_finish(active, error)  # at once, even if it blocks: this driver may be ending
            raise
        finally:
            active = execution = records = record = answer = commit = leaving = None  # type: ignore[assignment]

    async def _call(self, active: ActiveExecution, effect: Effect) -> Answer:
        call = active.call = StepCall(active.saga_id, effect, arguments_of(active.execution, effect))
        answer: Answer | None = None
        try:
            answer = await self.runtime.call(call)
            if type(answer) is Abandoned and call.running is not None:
                self.owned.keep_for_abandoned_call(active, call.running, effect)
            return self.commits.encode_result(effect, answer) if type(answer) is Returned else answer
        except BaseException:
            self.keep_running_call(active)
            raise
        finally:
            active.call = None
            del active, call, answer  # an error keeps this frame alive, which must not keep the run alive

    def stop_driving(self, active: ActiveExecution) -> Outcome:
        """Stop driving an execution that has ended, is stuck or is released. Returns the outcome.

        If the execution becomes due later, a timer claims it again.
        """
        execution = active.execution
        outcome = execution.outcome()
        ended = outcome.state in ENDED
        active.rests = ended or is_quiescent(execution, mail=active.called, branches_quiescent=active.group.quiescent)
        self.owned.finish(active, outcome)
        if active.asks_at is not None and self.owned.holds.any:
            self.owned.holds.parked.add(active.saga_id)
        if not ended and not active.stopping:
            if active.called:  # also if it is stuck: a branch may have been settled meanwhile
                self.resume(active.saga_id)
            elif (until := _wake_at(active)) is not None:
                at = self.clock()
                self.wake_timers.add(at + self._left(active, until, at), active.saga_id, until)
        parent = execution.acceptance.parent
        if parent is not None and (waiting := self.owned.active.get(parent)) is not None:
            if outcome.succeeded and not execution.plans:  # a branch with branches is loaded together with them
                from fsm_mediator.mediator.branches import settled_branch  # loaded when it is used

                branch = settled_branch(self.store, execution)
                waiting.enter_group().succeeded[active.saga_id] = SucceededBranch(active.epoch, branch)
            # The last commit of an ended branch has notified the parent's driver. If the mediator is closed, the driver
            # also waits until no branch is driven here.
            if not ended or self.closed:
                self.notify(parent)
        return outcome

    def drive_new(self, active: ActiveExecution) -> Coroutine[Any, Any, Outcome | None]:
        """Drive a new execution: in memory on the fast path if possible, otherwise by `drive`."""
        plain = self.memory is not None and not (active.execution.acceptance.notes or self.owned.holds.any)
        return self.drive_in_memory(active) if plain else self.drive(active, opens=True)

    def drive_owned(self, active: ActiveExecution) -> Coroutine[Any, Any, Outcome | None]:
        """Drive an owned execution in the background: on the fast path if it begins in memory, otherwise by `drive`."""
        row = None
        if self.memory is not None and active.execution.state == PENDING and active.inbox is UNREAD:
            plain = self.commits.is_straightforward(active) and not (active.called or active.dormant or active.orphaned)
            row = self.memory.share(active.saga_id, self.driver.id, active.epoch) if plain else None
        if row is None:
            return self.drive(active)
        active.recovered = False
        return self.drive_in_memory(active, row)

    async def drive_in_memory(self, active: ActiveExecution, row: Any = None) -> Outcome | None:  # noqa: C901 - one loop
        """Drive an execution in memory from its beginning faster than `drive`, as long as steps are only attempted.

        `drive` handles all other cases: an item in the inbox, a wait, a timeout, a deadline, closing.

        A new execution and its row in the journal share the list of records, so a new record is journaled at once. An
        execution in the background already has a *row*, to which each record is appended. `drive` also handles its
        errors and its end, because the commits of these records post messages.
        """
        execution, observers, clock = active.execution, self.observers, self.clock
        ended, unwritten, memory = False, None, self.memory
        journaled = None if row is None else row.records
        answer: Answer | None = None
        leaving: BaseException | None = None
        try:
            runtime = self.runtime
            inline, active.driver = runtime.inline, runtime.current()
            me, payload = self.driver.id, execution.acceptance.payload
            if row is None:
                row = memory.open_shared(execution.acceptance, me, execution.history)
            if row is None:
                raise IdTakenError(f"an execution {active.saga_id!r} exists, or is forgotten; nothing was written")
            at = clock()
            record: Any = None
            if execution.deadline_at is None:
                record = execution.succeed(None, at)  # does the same as `begin`
            while record is not None and record.children is None:
                effect = execution.effect
                if journaled is not None:
                    if record.error is not None or effect is None or effect.callback is None:
                        unwritten = [record]
                        break
                    journaled.append(record)
                if observers:
                    report(observers, active, (record,))
                if active.called or active.stopping or row.mail:
                    break
                if effect is None:
                    memory.end_shared(row)
                    ended = True
                    break
                callback = effect.callback
                if callback is None:
                    record = execution.advance(at)  # a wait that takes no time
                elif not (effect.is_simple and (inline or callback.is_coroutine)):
                    break
                else:
                    try:
                        if callback.takes_context:
                            value = callback.function(payload, execution.context(effect))
                        else:
                            value = callback.function(payload)
                        if not inline:
                            if journaled is None:
                                value = await value
                            else:
                                with runtime.aside():
                                    value = await value
                    except Exception as error:
                        answer = Raised(without_own_frame(error))
                    except BaseException as error:
                        answer = runtime.raised(error)
                        leaving = self.leaving(active, effect, answer)
                    else:
                        if type(value) is CoroutineType:
                            answer = runtime.answer(StepCall(active.saga_id, effect, ()), value)
                    at = clock()
                    if row.driver != me:
                        raise memory.lost(active.saga_id) from None
                    if answer is None:
                        record = execution.succeed(value, at)
                    else:
                        record = execution.feed(answer, at, self.chance())
                        answer = None
                        if leaving is not None:
                            if observers and record is not None:
                                report(observers, active, (record,))
                            break
            if not ended:
                row.unshare()
                if record is not None and record.children is not None:
                    unwritten = [record]  # its commit also creates the branches, so `drive` has to write it
                if unwritten is None:
                    row.wake_at = execution.wake_at
                if leaving is not None:
                    raise leaving
        except IdTakenError as error:
            self.owned.finish(active, error=error)
            raise
        except LeaseLostError as error:
            self.owned.release_and_finish(active, error)
            if row is None:
                raise
            logger.warning("execution %r: %s", execution.saga_id, error)
            return None
        except BaseException as error:
            self.owned.release_and_finish(active, error)
            raise
        try:
            if ended:
                return self.stop_driving(active)
            active.called = active.called or bool(row.mail)
            return await self.drive(active, unwritten)
        finally:
            answer = leaving = None
            del active, execution, row, record, unwritten, journaled

    async def _reload(self, active: ActiveExecution) -> None:
        """Load an owned execution again, without the transitions that could not be written, and read its inbox."""
        entry = await self.runtime.in_thread(self.store.entry, active.saga_id)
        active.execution = await self.runtime.in_thread(self.store.load_execution, entry)
        active.inbox, active.recoveries, active.decides = UNREAD, active.recorded, False
        active.answers = ()
        await self.read_inbox(active)

    # For a caller that waits

    async def claim_and_drive(self, active: ActiveExecution) -> Outcome | None:
        """Claim a reserved execution, and drive it. Returns its outcome.

        None if another driver owns the execution, or if a timer or another driver will continue it.
        """
        try:
            if not await self.runtime.in_thread(self.owned.claim, active):
                self.owned.finish(active)
                return None
            return await self.drive(active)
        except BaseException as error:
            self.owned.release_and_finish(active, error)
            raise

    async def attach(
        self, active: ActiveExecution, work: Callable[..., Coroutine[Any, Any, Outcome | None]], *arguments: Any
    ) -> Outcome | None:
        """Run *work*, which drives *active*, for a waiting caller. The caller may stop waiting."""
        try:
            return await self.runtime.attach(work, *arguments, detached=functools.partial(self._detached, active))
        except BaseException as error:
            if not active.background:
                self.owned.release_and_finish(active, error)  # an interrupt can come where no other code does this
            raise
        finally:
            if not active.background and not active.finished:
                self.owned.release_and_finish(active)
            del active, work, arguments

    def _detached(self, active: ActiveExecution, error: BaseException | None) -> None:
        """Note that the caller of *active* no longer waits. If *error* ended the driver, log it."""
        active.background = True
        if isinstance(error, MediatorError):
            again = self.setbacks.log(active.saga_id, error)
            if again is not None and not self.closed:
                self.wake_timers.add(self.clock() + again, active.saga_id)
        elif isinstance(error, self.runtime.cancelled):
            self.owned.release_and_finish(active, error)
        elif error is not None:
            logger.error("execution %r is left in its current state: %r", active.saga_id, error)


def _wake_at(active: ActiveExecution) -> float | None:
    """When to claim the execution again, in seconds since the epoch. None if no time is set."""
    execution = active.execution
    return None if execution.effect is None else execution.wake_at if active.asks_at is None else active.asks_at
