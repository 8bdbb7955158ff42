"""Commands: the verbs that an operator gives to an execution, and the reasons for which they are refused.

For ``retry``, ``resolve`` or ``undo``, a driver claims the execution and feeds the command to it. A cancel or a signal
is posted to the execution's inbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from fsm_mediator import ids
from fsm_mediator.definition.saga import Saga, SignalPlace, find_signal, signal_names
from fsm_mediator.error_types import safe_repr
from fsm_mediator.errors import PayloadError, RefusedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.ids import group_of, is_branch, parent_of
from fsm_mediator.journal.codec import are_equal
from fsm_mediator.journal.optional import post_item
from fsm_mediator.journal.planning import planned_of
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.machine.parts import GROUPS, Part
from fsm_mediator.mediator.store import ExecutionStore
from fsm_mediator.mediator.validation import is_instance
from fsm_mediator.records import (
    CANCEL,
    SIGNAL,
    UNCHECKED,
    InboxItem,
    OperatorRetry,
    OperatorSettled,
    OperatorUndo,
    Record,
)
from fsm_mediator.states import (
    COMPENSATING,
    ENDED,
    RETRYING_COMPENSATION,
    STUCK_PHASES,
    SUCCEEDED,
    WAITING,
    path_of,
    phase_of,
    split_state,
)

Command: TypeAlias = Callable[[Execution, str | None], Record | None]
"""A function that feeds a command to an execution, and returns the record of the transition.

Its second argument is the late answer of an abandoned attempt, as text, or None.
"""


def retry_command(store: ExecutionStore, reason: str | None, actor: str | None = None) -> Command:
    """The command for the verb ``retry``.

    The command raises a RefusedError if the execution is a branch and its parent no longer waits for it. For example, a
    person has settled the parent's group, and the parent has continued without the branch.
    """

    def command(execution: Execution, late: str | None) -> Record | None:
        _check_parents_still_wait(store, execution)
        return execution.feed(OperatorRetry(_with_late_answer(reason, late), actor), store.clock())

    return command


def undo_command(store: ExecutionStore, reason: str | None, actor: str | None = None) -> Command:
    """The command for the verb ``undo``."""
    return lambda execution, late: execution.feed(OperatorUndo(_with_late_answer(reason, late), actor), store.clock())


def resolve_command(
    store: ExecutionStore, reason: str, done: bool | None, result: Any, actor: str | None = None
) -> Command:
    """The command for the verb ``resolve``.

    Raises:
        RefusedError: There is no reason, or there is a *result* although *done* is False.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise RefusedError("resolve needs a reason: say how you made sure; the reason is journaled")
    if result is not None and done is False:
        raise RefusedError("resolve: only a step that is done has a result")

    def command(execution: Execution, late: str | None) -> Record | None:
        if execution.phase not in STUCK_PHASES:
            raise RefusedError(_not_stuck(execution))
        meant = done
        if meant is None:
            machine = execution.machine
            can_be_done = machine.has_transition("settled_done", execution.state)
            if can_be_done and machine.has_transition("settled_undone", execution.state):
                raise RefusedError(
                    f"execution {execution.saga_id!r} is in {execution.state!r}: say whether the step has its "
                    f"effect (done=True, --done) or has none (done=False, --undone)"
                )
            meant = can_be_done
        value = result
        part = execution.machine.places[execution.state].part
        if meant and result is None and part is not None and part.kind in GROUPS:
            raise RefusedError(
                f"{part.path!r} is a {part.kind.value}: as the result, pass what its branches would have returned, "
                f"{'a list' if part.each else 'a dict by their names'}"
            )
        if meant and store.journal.encodes and part is not None:
            value = store.journal.codec.accept_result(part, result)
        return execution.feed(
            OperatorSettled(meant, _with_late_answer(reason, late) or reason, value, actor), store.clock()
        )

    return command


def _not_stuck(execution: Execution) -> str:
    where = f"execution {execution.saga_id!r} is not stuck, but is in {execution.state!r}: there is nothing to settle"
    phase, path = split_state(execution.state)
    if phase == WAITING and execution.awaits_signal(path):
        return f"{where}. It waits for the signal {path!r}: mediator.signal, or fsm-mediator signal"
    return where


def post_cancel(
    store: ExecutionStore,
    token: int,
    saga_id: str,
    reason: str | None,
    actor: str | None = None,
    *,
    carrier: dict[str, str] | None = None,
) -> Entry:
    """Put a cancel into the execution's inbox. Returns the entry, which names the owner to notify.

    The journal recognises a repeated call by its *token*: see `Journal.post`.

    Raises:
        RefusedError: The execution has ended, is already compensating, is stuck, or is past its pivot. If only another
            living driver can drive the execution, that driver makes this check instead.
        UnknownExecutionError: There is no such execution.
    """
    entry = store.entry(saga_id)
    elsewhere = store.is_known_elsewhere(entry)
    if entry.state not in ENDED and not elsewhere:
        store.load_execution(entry)  # raises an error if this mediator cannot drive it
    why = None if elsewhere else why_not_cancellable(store.registry.saga_of(entry.acceptance), entry.state)
    cancel = InboxItem(CANCEL, reason=reason, at=store.clock(), actor=actor, carrier=carrier)
    if why is None and not post_item(store.journal, saga_id, cancel, token):
        why = "it has ended meanwhile"
    if why is None:
        entry = store.entry(saga_id)  # read again: if the execution has no owner now, a driver is called
        # The execution may have moved during the post. The cancel itself can lead to `failed`, but not to these states.
        saga = None if elsewhere else store.registry.saga_of(entry.acceptance)
        if saga is not None and (entry.state == SUCCEEDED or _past_pivot(saga, entry.state)):
            why = why_not_cancellable(saga, entry.state)
    if why is not None:
        raise RefusedError(f"execution {saga_id!r} cannot be cancelled: {why}")
    return entry


def post_signal(
    store: ExecutionStore,
    token: int,
    saga_id: str,
    name: str,
    value: Any,
    actor: str | None = None,
    *,
    carrier: dict[str, str] | None = None,
) -> Entry:
    """Put a signal into the execution's inbox. Returns the entry, which names the owner to notify.

    The journal recognises a repeated call by its *token*: see `Journal.post`.

    Raises:
        RefusedError: The execution does not wait for this signal, or no longer waits for it, or another value came
            first.
        PayloadError: The value does not have the type of the signal, or cannot be journaled.
        UnknownExecutionError: There is no such execution.
    """
    entry = store.entry(saga_id)
    if store.is_known_elsewhere(entry):
        item = InboxItem(SIGNAL, name, value, UNCHECKED, store.clock(), actor=actor, carrier=carrier)
        if not post_item(store.journal, saga_id, item, token, store.clock):
            raise RefusedError(f"signal {name!r} of execution {saga_id!r} is not awaited: it has ended, or timed out")
        return store.entry(saga_id)
    entry, found, path = _find_signal(store, saga_id, name)
    value = _signal_value(store, found.part, value)
    where = f"signal {path!r} of execution {entry.saga_id!r}"
    if _already_received(store, entry, found, path, value, where):
        return entry
    item = InboxItem(SIGNAL, path, value, at=store.clock(), actor=actor, carrier=carrier)
    posted = post_item(store.journal, entry.saga_id, item, token, store.clock)
    entry = store.entry(entry.saga_id)  # read again: the execution may have moved, or another signal came first
    if not posted:
        why = "the execution has ended" if entry.state in ENDED else "it came after the time-out of its wait"
        raise RefusedError(f"{where} is not awaited: {why}")
    if (branch := _born_branch(store, entry, found)) is not None:
        return branch  # its parent has passed the signal to the branch, or will do so
    if not _already_received(store, entry, found, path, value, where):
        raise RefusedError(f"{where} is not awaited: the execution is in {entry.state!r}")
    return entry


def _already_received(
    store: ExecutionStore, entry: Entry, found: SignalPlace, path: str, value: Any, where: str
) -> bool:
    """Whether the signal has already come with the same *value*.

    Raises:
        RefusedError: The signal has come with another value, or it has not come and the execution does not await it.
    """
    mail = store.journal.inbox(entry.saga_id)  # read first: an item that a driver takes from now on is in the records
    entry = store.entry(entry.saga_id)  # read again: the execution may have begun in between
    execution = store.load_execution(entry)
    items = store.journal.codec.decode_items(execution.saga, mail)
    first = [item.value for item in items if item.kind == SIGNAL and item.name == path]
    if path in execution.answered:
        first.insert(0, execution.answered[path])
    elif not (execution.awaits_signal(path) or _is_kept_for_branch(store, execution, entry, found)):
        raise RefusedError(f"{where} is not awaited: the execution is in {entry.state!r}")
    if first and not are_equal(first[0], value):
        raise RefusedError(f"{where} has come with another value, and the first one counts: {safe_repr(first[0])}")
    return bool(first)


def _is_kept_for_branch(store: ExecutionStore, execution: Execution, entry: Entry, found: SignalPlace) -> bool:
    """Whether *execution* keeps the signal *found* for its branch: the branch is planned, or was just created."""
    if found.group is None or found.group.path != path_of(execution.state) or found.branch not in execution.group:
        return False
    planned = planned_of(store.journal, execution.saga_id)
    if planned is not None and planned.first <= execution.group.index(found.branch) < planned.end:
        return planned.ended is None
    return _born_branch(store, entry, found) is not None


def _find_signal(store: ExecutionStore, saga_id: str, name: str) -> tuple[Entry, SignalPlace, str]:
    """The execution to which the signal *name* is posted, the signal, and the signal's path in that execution.

    A branch that does not exist yet has no inbox. Its parent keeps the signal, under ``GROUP.BRANCH.SIGNAL``.
    """
    if not isinstance(name, str):
        raise RefusedError(f"the name of a signal must be a text, not {safe_repr(name)}")
    entry = store.entry(saga_id)
    saga = store.registry.saga_of(entry.acceptance)
    found = find_signal(saga, name)
    if found is None:
        signals = ", ".join(signal_names(saga))
        raise RefusedError(
            f"execution {saga_id!r} of saga {saga.name!r} has no signal {name!r}; it has {signals or 'none'}"
            f"{'. A signal of a branch is named GROUP.BRANCH.SIGNAL' if saga.branches else ''}"
        )
    if (branch := _born_branch(store, entry, found)) is None:
        return entry, found, name
    return _find_signal(store, branch.saga_id, found.inside)


def _born_branch(store: ExecutionStore, entry: Entry, found: SignalPlace) -> Entry | None:
    """The branch to which a signal belongs.

    None if the signal belongs to the saga itself, or the branch does not exist yet.
    """
    if found.group is None:
        return None
    return store.journal.find(ids.branch_id(entry.saga_id, found.group.path, found.branch))


def _signal_value(store: ExecutionStore, part: Part, value: Any) -> Any:
    if store.journal.encodes:
        return store.journal.codec.accept_signal(part, value)
    if isinstance(part.returns, type) and not is_instance(value, part.returns):
        raise PayloadError(f"signal {part.path!r} takes a {part.returns.__name__}, not {safe_repr(value)}")
    return value


def refuse_branch(saga_id: str) -> None:
    """Refuse to undo an execution if it is a branch.

    Raises:
        RefusedError: The execution is a branch.
    """
    if is_branch(saga_id):
        raise RefusedError(
            f"{saga_id!r} is a branch of {parent_of(saga_id)!r}, and cannot be undone by itself: undo the parent"
        )


def check_parent_waits(saga_id: str, branch: str, parent_state: str) -> None:
    """Refuse a command for *saga_id* if the parent of *branch* no longer waits for the group of *branch*.

    *branch* is *saga_id* itself, or a branch that contains *saga_id* at any depth.

    Raises:
        RefusedError: The parent does not wait for this group.
    """
    group = group_of(branch)
    if path_of(parent_state) != group:
        raise RefusedError(
            f"{saga_id!r} is a branch of {parent_of(branch)!r}, which does not wait for its group {group!r} any more: "
            f"it is in {parent_state!r}, and the branch's result would come too late"
        )


def _check_parents_still_wait(store: ExecutionStore, execution: Execution) -> None:
    for branch, parent in ids.ancestors(execution.saga_id):
        check_parent_waits(execution.saga_id, branch, store.entry(parent).state)


def why_not_cancellable(saga: Saga, state: str) -> str | None:
    """The reason why an execution of *saga* in *state* cannot be cancelled, as text. None if it can be cancelled."""
    phase = phase_of(state)
    if state in ENDED:
        return f"it has ended in {state!r}"
    if _past_pivot(saga, state):
        return f"it is past its pivot, in {state!r}, and can only go forward"
    if phase in (COMPENSATING, RETRYING_COMPENSATION):
        return f"it is compensating already, in {state!r}"
    if phase in STUCK_PHASES:
        return f"it is stuck, in {state!r}"
    return None


def _past_pivot(saga: Saga, state: str) -> bool:
    machine = saga.machine_with(state)
    part = machine.places[state].part if machine is not None else None
    return (part or saga.parts[0]).forward_only


def _with_late_answer(reason: str | None, late: str | None) -> str | None:
    return reason if late is None else f"{reason or 'no reason given'} ({late})"
