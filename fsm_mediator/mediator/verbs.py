"""Verbs: ``retry``, ``resolve`` and ``undo``. The driver that owns an execution accepts or refuses them, and answers.

The mediator that gets the verb claims the execution if it can. Otherwise it puts the verb into the inbox, and waits for
the owner's answer.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from fsm_mediator.definition.shape import Shape
from fsm_mediator.errors import (
    AlreadyDrivenError,
    JournalError,
    MediatorError,
    RefusedError,
    StillRunningError,
)
from fsm_mediator.execution.execution import Execution
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.operators import for_operators, has_operators
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.commands import Command, refuse_branch, resolve_command, retry_command, undo_command
from fsm_mediator.mediator.core import Core
from fsm_mediator.mediator.store import ExecutionStore, uuid7_hex
from fsm_mediator.mediator.waiting import longer
from fsm_mediator.records import RESOLVE, RETRY, UNDO, InboxItem, Record, VerbAnswer
from fsm_mediator.states import is_settled, is_stuck

ANSWER_TIMEOUT: Final = 30.0
"""The default number of seconds to wait for the answer of another driver."""

_EVENTS: Final = {RETRY: ("retry",), RESOLVE: ("settled_done", "settled_undone"), UNDO: ("undo",)}


def new_verb(
    kind: str,
    reason: str | None,
    value: Any = None,
    *,
    at: float,
    actor: str | None = None,
    carrier: dict[str, str] | None = None,
) -> InboxItem:
    """A new inbox item for the verb *kind*. For ``resolve``, *value* is a dictionary with ``done`` and ``result``."""
    return InboxItem(kind, uuid7_hex(at), value, reason, at, actor=actor, carrier=carrier)


def command_of(store: ExecutionStore, saga_id: str, verb: InboxItem) -> tuple[Command, Command | None]:
    """The command for *verb*, and the command that the execution's stuck branches get first (None for no command).

    Raises:
        RefusedError: The verb is an ``undo`` of a branch, or a ``resolve`` without a reason, or a ``resolve`` with a
            result although ``done`` is False.
    """
    if verb.kind == RETRY:
        retry = retry_command(store, verb.reason, verb.actor)
        return retry, retry
    if verb.kind == UNDO:
        refuse_branch(saga_id)
        return undo_command(store, verb.reason, verb.actor), None
    value = verb.value
    return resolve_command(store, verb.reason or "", value["done"], value["result"], verb.actor), None


# By the driver that owns the execution


async def feed_verb(core: Core, active: ActiveExecution, verb: InboxItem) -> Record:
    """Feed *verb* to an owned execution, and return the record of the transition.

    Raises:
        RefusedError: The execution cannot accept the verb. If an equal verb came first, the message names that verb.
    """
    from fsm_mediator.mediator.joining import feed_command  # loaded when it is used

    try:
        return await feed_command(core, active, *command_of(core.store, active.saga_id, verb))
    except RefusedError as refusal:
        first = _equal_verb_before(active.execution, verb)
        if first is None:
            raise
        why = "" if first.reason is None else f" ({first.reason})"
        raise RefusedError(f"{refusal}. Another {verb.kind!r} came first: it is record {first.seq}{why}") from None


def _equal_verb_before(execution: Execution, verb: InboxItem) -> Record | None:
    """The record of an earlier verb of the same kind, if the execution was not stuck again after it. Otherwise None."""
    for record in reversed(execution.history):
        if record.event in _EVENTS[verb.kind]:
            return record
        if is_stuck(record.target):
            return None
    return None


async def judge_verbs(core: Core, active: ActiveExecution) -> list[Record]:
    """Feed the verbs in the inbox to an owned execution, in order. Returns the records of the accepted verbs.

    The next commit writes the answers to all these verbs.
    """
    records: list[Record] = []
    while active.inbox.verbs:
        verb, at = active.inbox.verbs.pop(0), core.clock()
        try:
            records.append(await feed_verb(core, active, verb))
        except JournalError:
            raise
        except MediatorError as refusal:
            active.answers += (VerbAnswer(verb.number, verb.name, None, str(refusal), at),)
        else:
            active.answers += (VerbAnswer(verb.number, verb.name, records[-1].seq, None, at),)
    return records


# For an operator


async def ask_driver(core: Core, saga_id: str, verb: InboxItem, timeout: float) -> Entry:
    """Send *verb* to the present or next owner of an execution.

    Returns the execution's entry after the verb is accepted.

    Raises:
        RefusedError: The owner refused the verb.
        AlreadyDrivenError: The journal keeps no verbs for other drivers.
        StillRunningError: There was no answer within *timeout* seconds. The verb stays in the inbox.
        UnknownExecutionError: There is no such execution, or it was deleted meanwhile.
    """
    store, journal, runtime = core.store, core.journal, core.runtime
    if not has_operators(journal):
        owner = (await runtime.in_thread(store.entry, saga_id)).driver
        raise AlreadyDrivenError(
            f"execution {saga_id!r} is being driven by {owner or 'somebody'}; wait until it is stuck or has ended"
        )
    operators = for_operators(journal)
    entry = await runtime.in_thread(post_verb, store, saga_id, verb)
    until, pause = runtime.monotonic() + timeout, 0.002
    while (answer := await runtime.in_thread(operators.answer, verb.name)) is None:
        if entry.driver is not None and entry.driver_alive:
            await core.notify_owner(entry)
        elif store.registry.can_drive(entry.acceptance):
            core.resume(saga_id)  # its driver has ended, or has released the execution
        left = until - runtime.monotonic()
        if left <= 0:
            who = f"{entry.driver} drives it" if entry.driver is not None else "nothing drives it"
            raise StillRunningError(
                *(saga_id, entry.state, timeout),
                f"execution {saga_id!r} is in {entry.state!r}, and {who}: there was no answer to {verb.kind!r} in "
                f"{timeout:g} seconds. It stays in the inbox, and counts once a driver reads it: see fsm-mediator show",
            )
        await runtime.pause(min(pause, left))
        pause = longer(pause)
        entry = await runtime.in_thread(store.entry, saga_id)
    await runtime.in_thread(operators.forget_answer, verb.name)
    if answer.refusal is not None:
        raise RefusedError(answer.refusal)
    return entry


def post_verb(store: ExecutionStore, saga_id: str, verb: InboxItem) -> Entry:
    """Put *verb* into the inbox of an execution. Returns the execution's entry.

    Raises:
        RefusedError: The execution has ended, and does not accept such a verb.
        UnknownExecutionError: There is no such execution.
    """
    posted = store.journal.post(saga_id, verb)
    entry = store.entry(saga_id)
    if not posted:
        raise RefusedError(f"execution {saga_id!r} has ended in {entry.state!r}: it takes no {verb.kind!r}")
    return entry


async def outcome_elsewhere(core: Core, saga_id: str, timeout: float) -> Outcome:
    """Wait until an execution does not continue by itself, at most *timeout* seconds. Returns its outcome.

    The outcome is built from the shape of the execution's saga, which is in the journal.
    """
    runtime, pause = core.runtime, 0.002
    until = runtime.monotonic() + timeout
    while True:
        entry = await runtime.in_thread(core.store.entry, saga_id)
        rests = is_settled(entry.state) and not entry.called
        if rests or (entry.driver is None and entry.wake_at is None) or (left := until - runtime.monotonic()) <= 0:
            return await runtime.in_thread(outcome_by_shape, core.store, entry)
        await runtime.pause(min(pause, left))
        pause = longer(pause)


def outcome_by_shape(store: ExecutionStore, entry: Entry) -> Outcome:
    """The outcome of an execution without a registered definition, built from the saga's shape in the journal.

    Raises:
        RefusedError: The journal does not have the shape.
    """
    acceptance, codec = entry.acceptance, store.journal.codec
    text = for_operators(store.journal).shape(acceptance.fingerprint)
    if text is None:
        raise RefusedError(
            f"execution {entry.saga_id!r}: no driver has registered its definition, so the definition is unknown"
        )
    shape = replace(Shape.from_json(text), saga=acceptance.saga, version=acceptance.version)
    saga = shape.saga_without_functions()
    records = codec.decode_records(saga, store.journal.records(entry.saga_id))
    return Execution.fold(saga, codec.decode_acceptance(saga, acceptance), records).outcome()
