"""AsyncOperations: the methods of an asynchronous mediator that read executions, and its verbs for operators."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.attributes import Scalar
from fsm_mediator.journal.notes import HOLD, UNHOLD, Note
from fsm_mediator.journal.protocol import Entry, new_token
from fsm_mediator.mediator import finding, holding, noting, requests
from fsm_mediator.mediator.commands import post_cancel, post_signal
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.validation import check_id_argument, check_listing
from fsm_mediator.mediator.verbs import ANSWER_TIMEOUT, new_verb
from fsm_mediator.records import RESOLVE, RETRY, UNDO, InboxItem

if TYPE_CHECKING:
    from fsm_mediator.diagram import Diagram, View
    from fsm_mediator.mediator.again import Again
    from fsm_mediator.mediator.preview import Preview


class AsyncOperations:
    """The methods of `AsyncMediator` that read the journal or carry out an operator's commands."""

    _core: ExecutionDriver

    async def outcome(self, saga_id: str) -> Outcome:
        """The outcome of an execution so far, from the journal.

        Args:
            saga_id: The execution.

        Raises:
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_id_argument(saga_id)
        return await requests.outcome(self._core, saga_id)

    async def diagram(self, saga_id: str, view: View = "detail") -> Diagram:
        """A diagram of the machine with an execution's path through it, from the journal.

        If the saga has groups or choices, the diagram also has the machines of the branches, each with its own path.

        Args:
            saga_id: The execution.
            view: ``detail`` (every state) or ``steps`` (one box for each step).

        Raises:
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_id_argument(saga_id)
        return await requests.diagram(self._core, saga_id, view)

    async def executions(
        self,
        *,
        state: str | Collection[str] | None = None,
        saga: str | None = None,
        version: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        error: str | None = None,
        step: str | None = None,
        since: float | None = None,
        until: float | None = None,
        parent: str | None = None,
        text: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """The executions in the journal, newest first.

        Args:
            state: Only executions in this state or phase, or in one of several: ``stuck.charge``, ``stuck``.
                ``undrivable`` for executions that no living driver can drive.
            saga: Only executions of the saga with this name.
            version: Only executions of this version.
            attributes: Only executions with all these attributes: ``{"tenant": "acme"}``.
            error: Only executions that failed, are stuck or are retried with an error of this type: its full name, or
                the last part of it.
            step: Only executions that are at the step with this path, or failed there.
            since: Only executions that entered their state at this time or later, in seconds since the epoch.
            until: Only executions that entered their state before this time.
            parent: Only the branches of this execution.
            text: Only executions with this text in their id.
            after: Only executions after this cursor: the `cursor` of the last execution on the previous page.
            limit: The maximum number of executions. None for no limit.

        Raises:
            DefinitionError: The filter can match nothing, for example because there is no such state.
            JournalError: The journal does not support the filter, or *after* is not a cursor of this journal.
        """
        check_listing(None, saga, limit)
        chosen = finding.filter_of(
            state=state,
            saga=saga,
            version=version,
            attributes=attributes,
            error=error,
            step=step,
            since=since,
            until=until,
            parent=parent,
            text=text,
        )
        return await requests.ask(self._core, finding.executions, self._core, chosen, after, limit)

    async def count(
        self,
        *,
        by: str | None = None,
        state: str | Collection[str] | None = None,
        saga: str | None = None,
        version: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        error: str | None = None,
        step: str | None = None,
        since: float | None = None,
        until: float | None = None,
        parent: str | None = None,
        text: str | None = None,
    ) -> int | dict[str, int]:
        """The number of executions that `executions` would list.

        If the journal has an up-to-date side store (see ``fsm-mediator stats --refresh``), the call returns at once.
        Without a side store, all executions may have to be read, which takes seconds.

        Args:
            by: The property to count by: ``state``, ``saga``, ``version``, ``error`` or ``step``. The result is then a
                dictionary with the largest number first; the key of executions without a value is the empty text. If
                *by* is None, the result is one number.
            state: Only executions in this state or phase, or in one of several: ``stuck.charge``, ``stuck``.
            saga: Only executions of the saga with this name.
            version: Only executions of this version.
            attributes: Only executions with all these attributes: ``{"tenant": "acme"}``.
            error: Only executions that failed, are stuck or are retried with an error of this type: its full name, or
                the last part of it.
            step: Only executions that are at the step with this path, or failed there.
            since: Only executions that entered their state at this time or later, in seconds since the epoch.
            until: Only executions that entered their state before this time.
            parent: Only the branches of this execution.
            text: Only executions with this text in their id.

        Raises:
            DefinitionError: The filter can match nothing, or *by* is not one of these properties.
            JournalError: The journal cannot count.
        """
        chosen = finding.filter_of(
            state=state,
            saga=saga,
            version=version,
            attributes=attributes,
            error=error,
            step=step,
            since=since,
            until=until,
            parent=parent,
            text=text,
        )
        return await requests.ask(self._core, finding.count, self._core, chosen, by)

    async def set_attributes(
        self, saga_id: str, attributes: Mapping[str, Any], *, reason: str | None = None, actor: str | None = None
    ) -> dict[str, Scalar]:
        """Change attributes of an execution; `executions` can filter by attributes.

        Returns all attributes of the execution.

        Args:
            saga_id: The execution.
            attributes: JSON scalars by name. None removes an attribute. Other attributes do not change.
            reason: The reason, which is journaled.
            actor: The name of the person or program that acts. It is journaled with the reason.

        Raises:
            PayloadError: A name or a value cannot be stored, or there would be more than 32 attributes.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_id_argument(saga_id, reason, actor)
        token = new_token()
        return await requests.ask(
            self._core, finding.set_attributes, self._core, saga_id, attributes, reason, actor, token
        )

    async def notes(self, saga_id: str) -> list[Note]:
        """The notes about an execution, in order.

        Args:
            saga_id: The execution.

        Raises:
            JournalError: The journal keeps no notes.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_id_argument(saga_id)
        return await noting.notes(self._core, saga_id)

    async def preview(self, saga_id: str) -> Preview:
        """The steps that `cancel`, or `undo` after a success, would compensate, and the effects that would remain.

        Args:
            saga_id: The execution.

        Raises:
            RefusedError: The execution has failed, is stuck, or is past its pivot: neither verb is possible.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        from fsm_mediator.mediator.preview import preview  # loaded when it is used

        check_id_argument(saga_id)
        return await requests.ask(self._core, preview, self._core.store, saga_id)

    async def cancel(self, saga_id: str, reason: str | None = None, *, actor: str | None = None) -> None:
        """Cancel an execution: its driver, in any process, starts no further attempts and compensates.

        The driver waits for a running attempt. If that attempt completes the pivot or the last part, the cancel has no
        effect.

        Args:
            saga_id: The execution.
            reason: The reason, which is journaled.
            actor: The name of the person or program that acts. It is journaled with the reason.

        Raises:
            RefusedError: The execution has ended, is already compensating, is stuck, or is past its pivot.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_id_argument(saga_id, reason, actor)
        await requests.post(self._core, post_cancel, saga_id, reason, actor)

    async def again(
        self,
        saga_id: str,
        *,
        new_id: str | None = None,
        despite_leftovers: bool = False,
        even_if_succeeded: bool = False,
        reason: str | None = None,
        actor: str | None = None,
    ) -> Again:
        """Run an ended execution once more, in the background, as a new execution with the same payload and attributes.

        The new execution uses the current definition. Notes link the two executions. A repeated call joins the new
        execution.

        Args:
            saga_id: The ended execution.
            new_id: The id of the new execution. By default ``ID~2``, or ``ID~3`` if ``ID~2`` is run again.
            despite_leftovers: Whether to run the execution again although some of its effects are not compensated.
            even_if_succeeded: Whether to run the execution again although it has succeeded.
            reason: The reason, which is journaled.
            actor: The name of the person or program that acts. It is journaled with the reason.

        Returns:
            The new id, and whether the definition has changed.

        Raises:
            RefusedError: The execution has not ended, has succeeded, is a branch, or has leftovers. The message names
                the leftovers.
            SagaIdTakenError: The new id belongs to another execution.
            UnknownSagaError: No saga with the name of the execution's saga is registered.
        """
        check_id_argument(saga_id, reason, actor)
        allowed = despite_leftovers, even_if_succeeded
        return await noting.again(self._core, saga_id, new_id, reason, actor, *allowed)

    async def hold(
        self,
        saga_id: str | None = None,
        *,
        saga: str | None = None,
        step: str | None = None,
        compensations: bool = False,
        reason: str | None = None,
        actor: str | None = None,
    ) -> None:
        """Stop new attempts of one execution and its branches, of a saga, of a step, or of one step of a saga.

        Running attempts end normally. Compensations continue. Cancels, deadlines and time-outs work as usual. A driver
        in another process obeys the hold at the latest one second after its next heartbeat.

        Args:
            saga_id: The execution. Or give *saga*, *step* or both instead.
            saga: The name of the saga, in every version.
            step: The name or the path of the step.
            compensations: Whether to stop new compensations too.
            reason: The reason, which is journaled.
            actor: The name of the person or program that acts. It is journaled with the reason.

        Raises:
            DefinitionError: No argument names the subject, or *saga_id* is given together with *saga* or *step*.
            UnknownExecutionError: The journal knows no execution with this id.
            JournalError: The journal keeps no notes.
        """
        check_id_argument(saga_id or "", reason, actor)
        held = holding.held_of(saga_id, saga, step)
        value = {"compensations": True} if compensations else None
        note = holding.hold_note(HOLD, held, value, reason, actor, self._core.clock())
        await noting.hold(self._core, note, new_token())

    async def unhold(
        self,
        saga_id: str | None = None,
        *,
        saga: str | None = None,
        step: str | None = None,
        reason: str | None = None,
        actor: str | None = None,
    ) -> None:
        """Remove a hold. The held attempts then begin.

        Args:
            saga_id: The execution, as in `hold`.
            saga: The name of the saga, as in `hold`.
            step: The name or the path of the step, as in `hold`.
            reason: The reason, which is journaled.
            actor: The name of the person or program that acts. It is journaled with the reason.

        Raises:
            RefusedError: No hold has this subject.
        """
        check_id_argument(saga_id or "", reason, actor)
        held = holding.held_of(saga_id, saga, step)
        note = holding.hold_note(UNHOLD, held, None, reason, actor, self._core.clock())
        await noting.hold(self._core, note, new_token())

    async def holds(self) -> list[Note]:
        """The current holds, as notes, oldest first."""
        return list((await requests.ask(self._core, holding.current_holds, self._core.journal)).values())

    async def retry(
        self, saga_id: str, reason: str | None = None, *, actor: str | None = None, timeout: float = ANSWER_TIMEOUT
    ) -> Outcome:
        """Retry the part in which an execution is stuck, and drive the execution. Attempts are counted from one again.

        Args:
            saga_id: The execution.
            reason: The fix that you made. It is journaled.
            actor: The name of the person or program that acts. It is journaled with the reason.
            timeout: Seconds to wait for another driver, if it owns the execution or if only it can drive the execution.

        Returns:
            The outcome, whether it succeeded or not.

        Raises:
            RefusedError: The execution is not stuck, or the thread of an abandoned attempt still runs.
            StillRunningError: The other driver has not answered in time. The verb stays in the inbox.
        """
        check_id_argument(saga_id, reason, actor)
        return await requests.command(self._core, saga_id, self._verb(RETRY, reason, actor), timeout)

    async def signal(self, saga_id: str, name: str, value: Any = None, *, actor: str | None = None) -> None:
        """Send a signal for which an execution waits, or will wait. *value* becomes the signal's result.

        Only the first value counts. Sending it again has no effect. A signal may come before the execution waits.

        Args:
            saga_id: The execution.
            name: The name of the signal: ``inner.signal`` in a nested saga, ``group.branch.signal`` in a branch.
            value: A value of the signal's `payload` type.
            actor: The name of the person or program that acts. It is journaled.

        Raises:
            RefusedError: The saga has no such signal, its wait is over, or another value has already come.
            PayloadError: The value does not have the signal's type, or cannot be journaled.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_id_argument(saga_id, None, actor)
        await requests.post(self._core, post_signal, saga_id, name, value, actor)

    async def resolve(
        self,
        saga_id: str,
        *,
        reason: str,
        done: bool | None = None,
        result: Any = None,
        actor: str | None = None,
        timeout: float = ANSWER_TIMEOUT,
    ) -> Outcome:
        """Settle the part in which an execution is stuck, by a person's decision, and drive the execution.

        Args:
            saga_id: The execution.
            reason: How you made sure that the decision is right. It is journaled.
            actor: The name of the person or program that acts. It is journaled with the reason.
            done: Whether the step has taken effect. If only one answer is possible, *done* can be left out.
            result: If *done*, the result that the step would have returned.
            timeout: Seconds to wait for another driver, if it owns the execution or if only it can drive the execution.

        Raises:
            RefusedError: The execution is not stuck, the thread of an abandoned attempt still runs, or *done* is not
                possible.
            StillRunningError: The other driver has not answered in time. The verb stays in the inbox.
        """
        check_id_argument(saga_id, None, actor)
        verb = self._verb(RESOLVE, reason, actor, {"done": done, "result": result})
        return await requests.command(self._core, saga_id, verb, timeout)

    async def undo(
        self, saga_id: str, reason: str | None = None, *, actor: str | None = None, timeout: float = ANSWER_TIMEOUT
    ) -> Outcome:
        """Compensate all steps of a succeeded execution, the last step first.

        The execution ends ``failed`` with a `SagaUndoneError`.

        Args:
            saga_id: The execution.
            reason: The reason, which is journaled.
            actor: The name of the person or program that acts. It is journaled with the reason.
            timeout: Seconds to wait for another driver, if it owns the execution or if only it can drive the execution.

        Raises:
            RefusedError: The execution has not succeeded, has a pivot, has nothing to compensate, or is a branch.
            StillRunningError: The other driver has not answered in time. The verb stays in the inbox.
        """
        check_id_argument(saga_id, reason, actor)
        return await requests.command(self._core, saga_id, self._verb(UNDO, reason, actor), timeout)

    async def abandon(self, saga_id: str, *, reason: str, actor: str | None = None) -> list[str]:
        """Give up an execution that no living driver can drive.

        The execution and its branches are closed as ``failed``. Nothing is undone.

        Args:
            saga_id: The execution.
            reason: The reason, which is journaled.
            actor: The name of the person or program that acts. It is journaled with the reason.

        Returns:
            The ids of the executions that were closed.

        Raises:
            RefusedError: The execution can be driven, has ended, or is a branch; or no reason is given.
            AlreadyDrivenError: A living driver owns the execution or one of its branches.
            UnknownExecutionError: The journal knows no execution with this id.
        """
        check_id_argument(saga_id, reason, actor)
        return await requests.abandon(self._core, saga_id, reason, actor)

    def _verb(self, kind: str, reason: str | None, actor: str | None, value: Any = None) -> InboxItem:
        core = self._core
        return new_verb(kind, reason, value, at=core.clock(), actor=actor, carrier=core.store.carried())
