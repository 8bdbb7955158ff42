"""Requests: the functions behind both mediators' methods that run, start, await, command and recover executions."""

from __future__ import annotations

import contextvars
import functools
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from fsm_mediator.definition.saga import Saga
from fsm_mediator.errors import (
    DefinitionChangedError,
    JournalError,
    MediatorError,
    RefusedError,
    SagaFailedError,
    StillRunningError,
    UnknownSagaError,
)
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.optional import open_within_of
from fsm_mediator.journal.protocol import Commit, Entry, IdTakenError, new_token
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.closing import closed_error
from fsm_mediator.mediator.commands import post_cancel
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.finding import give_attributes
from fsm_mediator.mediator.store import raise_unless_succeeded
from fsm_mediator.mediator.validation import check_id_argument, check_seconds
from fsm_mediator.mediator.verbs import (
    ask_driver,
    command_of,
    feed_verb,
    judge_verbs,
    outcome_elsewhere,
)
from fsm_mediator.mediator.waiting import BRANCHES_POLL, longer
from fsm_mediator.records import InboxItem
from fsm_mediator.states import COMPENSATING, ENDED, FAILED, RETRYING_COMPENSATION, is_settled, phase_of

if TYPE_CHECKING:
    from fsm_mediator.diagram import Diagram, View

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("fsm_mediator")
_recursive: set[str] = set()
"""The names of the sagas for which the warning about recursion was already logged."""


async def run(  # noqa: C901 - one path, read as a whole
    core: ExecutionDriver,
    saga: Saga | str,
    payload: Any,
    saga_id: str | None,
    timeout: float | None,
    deadline: float | None,
    check: bool,
    attributes: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run a saga to its end for a waiting caller: see `Mediator.run`."""
    if not core.membership.opened or (core.runtime.detaches and not core.runtime.is_bound()):
        await core.open()
    execution = core.store.new_execution(saga, payload, saga_id, deadline)
    if attributes is not None:
        give_attributes(core, execution, attributes)
    if timeout is not None:
        check_seconds("timeout (seconds)", timeout)
        await core.runtime.uncancellable(accept, core, execution)
        return await wait(core, execution.saga_id, timeout, check)
    active, outcome = ActiveExecution(execution.saga_id, execution, 1), None
    try:
        if core.owned.active.setdefault(execution.saga_id, active) is active:
            if core.closed:
                raise closed_error(execution.saga_id, execution.state)
            if core.runtime.detaches:
                outcome = await core.attach(active, core.drive_new, active)
            elif core.memory is not None and not (execution.acceptance.notes or core.owned.holds.any):
                outcome = await core.drive_in_memory(active)
            else:
                outcome = await core.drive(active, opens=True)
    except IdTakenError:
        pass
    except BaseException as error:
        if not active.background:
            core.owned.release_and_finish(active, error)  # an interrupt can come where no other code does this
        raise
    if outcome is not None:
        if outcome.state == "succeeded":
            return outcome
        _warn_of_recursion(outcome)
        try:
            return _checked(core, active, outcome, check)
        finally:
            del active, outcome, execution  # an error keeps this frame alive; the run must not be
    saga_id = execution.saga_id
    if await _exists(core, execution):
        ended = (await core.runtime.in_thread(core.store.entry, saga_id)).state in ENDED
        try:
            return await wait(core, saga_id, None, check)
        except SagaFailedError as error:
            if ended:
                error.add_note(f"It had ended before this call, which ran nothing. Next: mediator.again({saga_id!r})")
            raise
    return await run(core, saga, payload, saga_id, None, deadline, check, attributes)


def _checked(core: ExecutionDriver, active: ActiveExecution, outcome: Outcome, check: bool) -> Outcome:
    """Return *outcome*. If *check* is True and the outcome is not a success, raise an error instead."""
    if check and not active.rests and core.closed:
        raise closed_error(active.saga_id, outcome.state)
    return raise_unless_succeeded(outcome, check)


def _warn_of_recursion(outcome: Outcome) -> None:
    """Log a warning if a step exhausted Python's stack. There is one warning per saga."""
    cause, saga = outcome.error, outcome.saga.name
    while cause is not None and not isinstance(cause, RecursionError):
        cause = cause.__cause__
    if cause is not None and saga not in _recursive:
        logger.warning(
            "a step exhausted Python's stack. If saga %r runs itself, in a step, without end: let that step end it, or "
            "start() the next execution, which waits for nobody",
            saga,
        )
        _recursive.add(saga)  # last, because the line before may fail so deep in the stack


async def start(
    core: ExecutionDriver,
    saga: Saga | str,
    payload: Any,
    saga_id: str | None,
    deadline: float | None,
    attributes: Mapping[str, Any] | None,
) -> str:
    """Accept a saga, and drive it in the background: see `Mediator.start`."""
    await core.open()
    execution = core.store.new_execution(saga, payload, saga_id, deadline)
    if attributes is not None:
        give_attributes(core, execution, attributes)
    await core.runtime.uncancellable(accept, core, execution)
    return execution.saga_id


async def enqueue(
    core: ExecutionDriver,
    saga: Saga | str,
    payload: Any,
    saga_id: str | None,
    deadline: float | None,
    attributes: Mapping[str, Any] | None,
    connection: Any,
) -> str:
    """Accept a saga without driving it: see `Mediator.enqueue`."""
    core.bind()
    execution = core.store.new_execution(saga, payload, saga_id, deadline)
    if attributes is not None:
        give_attributes(core, execution, attributes)
    acceptance, saga_id = execution.acceptance, execution.saga_id
    try:
        if connection is None:
            await core.write(Commit(saga_id, (), None, held=False, acceptance=acceptance, notes=acceptance.notes))
        elif (entry := await open_within_of(core.journal)(connection, acceptance)) is not None:
            core.store.check_same(entry.acceptance, execution)
    except IdTakenError:
        if not await _exists(core, execution):
            return await enqueue(core, saga, payload, saga_id, deadline, attributes, connection)
    return saga_id


async def accept(core: ExecutionDriver, execution: Execution) -> None:
    """Journal a new execution as pending, owned by this driver, and drive it in the background."""
    saga_id = execution.saga_id
    active = ActiveExecution(saga_id, execution, 1, background=True)
    active.context = contextvars.copy_context()
    try:
        while core.owned.active.setdefault(saga_id, active) is not active:
            if await _exists(core, execution):
                return
        if core.closed:
            raise closed_error(saga_id, execution.state)
        await core.write(core.commits.commit(active, (), opens=True))
        core.submit(active)
    except IdTakenError as error:
        core.owned.finish(active, error=error)
        if await _exists(core, execution):
            entry = await core.runtime.in_thread(core.store.entry, saga_id)
            if not is_settled(entry.state):
                core.resume(saga_id)
    except BaseException as error:
        core.release_if_unstarted(active, error)
        raise


async def _exists(core: ExecutionDriver, execution: Execution) -> bool:
    """Whether the journal has an execution with the id of *execution*. Waits while another caller here opens it.

    Raises:
        SagaIdTakenError: That execution has another saga or payload, or an execution with this id was deleted.
    """
    pause, find, saga_id = 0.001, core.journal.find, execution.saga_id
    while (entry := await core.runtime.in_thread(find, saga_id)) is None:
        active = core.owned.active.get(saga_id)
        if active is None:
            entry = await core.runtime.in_thread(find, saga_id)
            break
        await core.is_finished(active, pause)  # another caller's execution is about to be written, or refused
        pause = longer(pause)
    if entry is not None:
        core.store.check_same(entry.acceptance, execution)
    else:
        await core.runtime.in_thread(core.store.check_not_forgotten, saga_id)
    return entry is not None


async def wait(core: ExecutionDriver, saga_id: str, timeout: float | None, check: bool) -> Outcome:
    """Wait until an execution ends, is stuck or parked: see `Mediator.wait`."""
    check_id_argument(saga_id)
    if timeout is not None:
        check_seconds("timeout (seconds)", timeout)
    await core.open()
    runtime, pause = core.runtime, 0.002
    until = None if timeout is None else runtime.monotonic() + timeout
    while True:
        left = None if until is None else max(0.0, until - runtime.monotonic())
        active = core.owned.active.get(saga_id)
        if active is not None:
            if active.driver is not None and active.driver == runtime.current():
                raise RefusedError(f"a step waits for its own execution, {saga_id!r}, which waits for the step")
            if await core.is_finished(active, left):
                outcome = core.store.outcome_for_waiter(active, closed=core.closed)
                if outcome is not None:
                    return _checked(core, active, outcome, check)
                if left is not None and type(active.error) is JournalError:
                    raise active.error  # otherwise this caller tries to drive it itself
                continue
        else:
            entry = await runtime.in_thread(core.store.entry, saga_id)
            outcome, pause = await _waited(core, entry, left, pause)
            if outcome is not None:
                return raise_unless_succeeded(outcome, check)
        if left == 0.0:
            assert timeout is not None
            entry = await runtime.in_thread(core.store.entry, saga_id)
            raise StillRunningError(saga_id, entry.state, timeout)


async def _waited(
    core: ExecutionDriver, entry: Entry, left: float | None, pause: float
) -> tuple[Outcome | None, float]:
    """Wait a while for an execution that was not driven here, or drive it if no other driver owns it.

    With a timeout, the execution is driven in the background. *pause* is the last pause of the caller, in seconds.

    Returns the execution's outcome, or None if it is still running, and the seconds of the next pause.
    """
    saga_id, runtime = entry.saga_id, core.runtime
    abandoned = core.owned.abandoned.get(saga_id)
    elsewhere = entry.driver_alive and entry.driver is not None and entry.driver.id != core.driver.id
    if not elsewhere or is_settled(entry.state):
        from fsm_mediator.mediator.branches import outcome_if_quiescent  # loaded when it is used

        outcome = await runtime.in_thread(outcome_if_quiescent, core.store, entry)
        if outcome is not None:
            return outcome, pause
    if core.closed:
        raise closed_error(saga_id, entry.state)
    if abandoned is not None:
        answered = runtime.event()
        abandoned.call.add_done_callback(lambda _: answered.set())
        if not await runtime.wait(answered, left):
            return None, pause
        pause = 0.001  # a thread is journaling its answer
    elif not elsewhere and left is None:
        active = ActiveExecution(saga_id)
        if core.try_reserve(active):
            outcome = await core.attach(active, core.claim_and_drive, active)
            if outcome is not None and active.rests:
                return outcome, pause
            if active.epoch:
                return None, pause
    elif (branch := None if elsewhere else _local_branch(core, entry)) is not None:
        await core.is_finished(branch, BRANCHES_POLL if left is None else min(left, BRANCHES_POLL))
        return None, pause
    elif (
        not elsewhere
        and (entry.wake_at is None or entry.mail or entry.wake_at <= core.clock())
        and core.resume(saga_id) is not None
        and not core.store.waits_in_group(entry)  # otherwise the execution would park again at once
    ):
        return None, pause
    # Another driver owns the execution, or it is parked: check again, with growing pauses.
    await runtime.pause(pause if left is None else min(pause, left))
    return None, longer(pause)


def _local_branch(core: ExecutionDriver, entry: Entry) -> ActiveExecution | None:
    """A branch of *entry* that is driven here. None if *entry* waits for no branch, or has unread inbox items."""
    if entry.called or not core.store.waits_in_group(entry):
        return None
    return core.owned.any_branch_of(entry.saga_id)


async def command(core: ExecutionDriver, saga_id: str, verb: InboxItem, timeout: float) -> Outcome:
    """Give a verb to an execution, and continue it: here if possible, otherwise in its driver. See `Mediator.retry`."""
    check_seconds("timeout (seconds)", timeout)
    await core.open()
    command_of(core.store, saga_id, verb)
    active = ActiveExecution(saga_id)
    while not core.try_reserve(active):
        other = core.owned.active.get(saga_id)
        if other is not None and other.driver is not None and other.driver == core.runtime.current():
            raise RefusedError(f"a step cannot give the verb {verb.kind!r} to its own execution, {saga_id!r}")
        if not await core.wait_until_released(saga_id):
            return await _command_elsewhere(core, saga_id, verb, timeout)
        await core.open()
    try:
        outcome = await core.attach(active, _commanded, core, active, verb)
    except (UnknownSagaError, DefinitionChangedError):
        entry = await core.runtime.in_thread(core.store.entry, saga_id)
        if active.epoch or not await core.runtime.in_thread(core.store.is_known_elsewhere, entry):
            raise
    if not active.epoch:
        return await _command_elsewhere(core, saga_id, verb, timeout)
    return outcome if outcome is not None else await core.runtime.in_thread(core.store.outcome, saga_id)


async def _commanded(core: ExecutionDriver, active: ActiveExecution, verb: InboxItem) -> Outcome | None:
    """Claim an execution, feed it the verbs in its inbox and then *verb*, and drive it. None if the claim fails."""
    try:
        if not await core.runtime.in_thread(functools.partial(core.owned.claim, active, for_command=True)):
            core.owned.finish(active)
            return None
        records = await judge_verbs(core, active)
        active.note_cause(verb)
        try:
            records.append(await feed_verb(core, active, verb))
        except MediatorError:
            if records or active.answers:
                from fsm_mediator.mediator.joining import write_records  # loaded when it is used

                await write_records(core, active, records)
                active.background = True
                core.submit(active)
            raise
        return await core.drive(active, records)
    except BaseException as error:
        if not active.background:
            core.owned.release_and_finish(active, error)
        raise


async def _command_elsewhere(core: ExecutionDriver, saga_id: str, verb: InboxItem, timeout: float) -> Outcome:
    until = core.runtime.monotonic() + timeout
    entry = await ask_driver(core, saga_id, verb, timeout)
    left = max(0.0, until - core.runtime.monotonic())
    if not core.registry.can_drive(entry.acceptance):
        return await outcome_elsewhere(core, saga_id, left)
    try:
        return await wait(core, saga_id, left, check=False)
    except StillRunningError:
        return await core.runtime.in_thread(core.store.outcome, saga_id)


async def ask(core: ExecutionDriver, read: Callable[..., T], *arguments: Any) -> T:
    """Call *read*, which reads the journal, in a thread that may block. Returns its result."""
    await core.open()
    return await core.runtime.in_thread(read, *arguments)


async def outcome(core: ExecutionDriver, saga_id: str) -> Outcome:
    """The outcome of an execution so far, from the journal: see `Mediator.outcome`."""
    return await ask(core, core.store.outcome, saga_id)


async def diagram(core: ExecutionDriver, saga_id: str, view: View) -> Diagram:
    """The diagram of an execution: see `Mediator.diagram`."""
    from fsm_mediator.mediator.diagrams import diagram_of  # loaded when it is used

    return await ask(core, diagram_of, core, saga_id, view)


async def abandon(core: ExecutionDriver, saga_id: str, reason: str, actor: str | None) -> list[str]:
    """Close an execution that no living driver can drive: see `Mediator.abandon`."""
    from fsm_mediator.journal.abandoning import abandon as give_up  # loaded when it is used

    if not reason or not reason.strip():
        raise RefusedError("abandon needs a reason: say why the execution is given up; the reason is journaled")
    await core.open()

    def close() -> list[str]:
        return give_up(core.journal, core.store.entry(saga_id), reason, core.clock(), actor)

    return await core.runtime.in_thread(close)


async def post(core: ExecutionDriver, post: Callable[..., Entry], *arguments: Any) -> None:
    """Post a cancel or a signal to an execution, and notify its owner.

    If the journal fails, the call is repeated under the same token, because the item may have been written.
    """
    attempt, retry, token = 1, core.runtime.journal_retry, new_token()
    put = functools.partial(post, carrier=core.store.carried())  # a thread does not have the caller's trace context
    while True:
        try:
            return await core.notify_owner(await ask(core, put, core.store, token, *arguments))
        except RefusedError:
            if attempt == 1 or post is not post_cancel:
                raise
            entry = await core.runtime.in_thread(core.store.entry, arguments[0])
            if phase_of(entry.state) not in (COMPENSATING, RETRYING_COMPENSATION, FAILED):
                raise
            return None  # the refusal is an effect of an earlier try that succeeded
        except JournalError as error:
            if type(error) is not JournalError or not retry.allows(attempt):
                raise
            logger.warning("execution %r: %s; trying again", arguments[0], error)
        await core.runtime.pause(retry.wait(attempt, core.chance()))
        attempt += 1
