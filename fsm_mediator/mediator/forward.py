"""ForwardDriver: drives an execution forward from its beginning, as long as its steps succeed at the first attempt.

This is the usual case, and nothing has to be decided in it: the records follow one another, and each commit has one
record. `ExecutionDriver.drive` handles all other cases, and continues where `go_forward` stops: at an error, a wait, a
timeout, an item in the inbox, a hold, closing.
"""

from __future__ import annotations

import sys
from types import CoroutineType
from typing import Any

from fsm_mediator.errors import ResultRefusedError
from fsm_mediator.journal.protocol import NO_RECOVERIES, Commit
from fsm_mediator.machine.parts import Effect
from fsm_mediator.mediator.active import UNREAD, ActiveExecution
from fsm_mediator.mediator.commits import arguments_of
from fsm_mediator.mediator.notifications import report
from fsm_mediator.mediator.pool import without_own_frame
from fsm_mediator.mediator.runtime import StepCall
from fsm_mediator.mediator.waiting import WaitingDriver
from fsm_mediator.records import Answer, Raised, Record
from fsm_mediator.states import PENDING


class ForwardDriver(WaitingDriver):
    """A `WaitingDriver` that drives executions forward, until something has to be decided."""

    def can_go_forward(self, active: ActiveExecution) -> bool:
        """Whether `go_forward` can drive an execution: it begins now, and nothing but its steps has to be considered.

        *active* must be owned, and its inbox must be empty or unread.
        """
        return (
            self.direct
            and active.execution.state == PENDING
            and active.inbox is UNREAD
            and self.commits.is_straightforward(active)
            and not (active.dormant or active.orphaned or active.execution.acceptance.notes)
            and active.recoveries == active.recorded == NO_RECOVERIES
        )

    async def go_forward(  # noqa: C901 - one loop, read as a whole
        self, active: ActiveExecution, *, opens: bool
    ) -> tuple[list[Record] | None, BaseException | None]:
        """Begin an execution, and attempt its steps until one does not succeed, or until it has ended.

        Args:
            active: An execution for which `can_go_forward` is True.
            opens: Whether the first commit opens the execution.

        Returns:
            The records that are not written yet: none or one. None instead of a list if the execution has ended. Also
            the error to raise in the caller after the record is written, or None: see `leaving`.
        """
        execution, observers, clock, holds = active.execution, self.observers, self.clock, self.owned.holds
        runtime, acceptance, encoding = self.runtime, execution.acceptance, execution.encoding
        saga_id, epoch, inline = active.saga_id, active.epoch, runtime.inline
        opening = acceptance if opens else None
        answer: Answer | None = None
        leaving: BaseException | None = None
        active.recovered = False
        try:
            record: Record | None = execution.succeed(None, clock())
            while record is not None:
                effect = execution.effect
                callback = None if effect is None else effect.callback
                ends = effect is None and acceptance.parent is None
                if record.error is not None or not (callback or ends) or active.stopping or holds.restricts:
                    return [record], leaving
                # Read each time: a step may fork, and the child is another driver, which must be refused.
                me = self.driver.id
                commit = Commit(saga_id, (record,), me, epoch, held=not ends, awaits=ends, acceptance=opening)
                mail = await self.write(commit)
                opening = None
                if observers:
                    report(observers, active, (record,))
                if mail and active.receive(mail) and not ends:
                    break
                if effect is None or callback is None:
                    return None, None
                if not (effect.is_simple and (inline or callback.is_coroutine)):
                    break
                arguments: tuple[Any, ...] = arguments_of(execution, effect)
                try:
                    value = callback.function(*arguments)
                    if not inline:
                        if active.background:
                            with runtime.aside():
                                value = await value
                        else:
                            value = await value
                except Exception as error:
                    answer = Raised(without_own_frame(error))
                except BaseException as error:
                    answer = runtime.raised(error)
                    leaving = self.leaving(active, effect, answer)
                else:
                    if inline and type(value) is CoroutineType:
                        answer = runtime.answer(StepCall(saga_id, effect, ()), value)
                    elif encoding is not None:
                        try:
                            value = encoding.accept_result(effect.part, value)
                        except ResultRefusedError as error:
                            answer = Raised(error)
                if answer is None:
                    record = execution.succeed(value, clock())
                else:
                    record = execution.feed(answer, clock(), self.chance())
                    answer = None
            return [], None
        finally:
            # Errors keep this frame alive, and these variables lead to the errors.
            answer = leaving = record = value = None
            arguments = ()
            del active, execution, acceptance, opening

    def leaving(self, active: ActiveExecution, effect: Effect, answer: Answer) -> BaseException | None:
        """The error to raise in the caller after the record is written. None if there is no such error.

        The error came from a step in the caller's thread, and is not an `Exception`. It is raised again so that SIGTERM
        handlers that raise an error, pytest and Hypothesis work as they do without a mediator. A `CancelledError` never
        comes from outside into a plain function, so it is not raised again.
        """
        if type(answer) is not Raised or isinstance(answer.error, Exception):
            return None
        if not self.runtime.inline or active.background or effect.part.timeout is not None:
            return None
        asyncio = sys.modules.get("asyncio")
        return None if asyncio is not None and isinstance(answer.error, asyncio.CancelledError) else answer.error
