"""The verbs ``retry``, ``resolve`` and ``undo`` on the command line.

A command puts its verb into the execution's inbox, for a living driver. With --drive, this process executes the verb.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, Final

import msgspec

from fsm_mediator.cli.console import DID_NOT_SUCCEED, fail, next_command, printable, say
from fsm_mediator.cli.driving import drive, report
from fsm_mediator.cli.loading import execution_in, journal_for, load_app, load_journal
from fsm_mediator.errors import RefusedError
from fsm_mediator.journal.operators import for_operators
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.mediator.verbs import new_verb
from fsm_mediator.records import VerbAnswer

LOOK: Final = 0.1
"""The number of seconds between two queries for the answer to a verb."""


def say_verb(
    kind: str, saga_id: str, reason: str | None, arguments: dict[str, Any], journal: str | None, app: str | None
) -> None:
    """Put the verb *kind* into the inbox of an execution, wait for the answer of its driver, and print the answer.

    With the option ``drive``, this process executes the verb and drives the execution.

    Args:
        kind: The verb: ``retry``, ``resolve`` or ``undo``.
        saga_id: The id of the execution.
        reason: The reason that is journaled. None for no reason.
        arguments: The options ``actor``, ``timeout`` and ``drive``. For ``resolve`` also ``done`` and ``result``.
        journal: The option --journal.
        app: The option --app.

    Raises:
        RefusedError: The verb was refused.
    """
    timeout, drives, actor = (arguments.pop(name) for name in ("timeout", "drive", "actor"))
    if drives:
        _drive(kind, saga_id, {"reason": reason, "actor": actor}, arguments, journal, app)
        return
    _, found = load_journal(app, journal)
    with closing(found) as opened:
        entry = execution_in(opened, saga_id)
        operators, acceptance = for_operators(opened), entry.acceptance
        verb = new_verb(kind, reason, arguments or None, at=time.time(), actor=actor)
        if not opened.post(saga_id, verb):
            raise RefusedError(f"execution {saga_id!r} has ended in {entry.state!r}: it takes no {kind!r}")
        if acceptance.fingerprint not in operators.known():
            fail(
                f"{kind!r} is in the inbox of execution {saga_id!r}, and no living driver knows saga "
                f"{acceptance.saga!r} version {acceptance.version}. Next: {next_command('serve')}, which carries it "
                f"out; or the same command with --drive, which drives here",
                DID_NOT_SUCCEED,
            )
        answer = _answer(opened, verb.name, timeout)
        if answer is None:
            execution_in(opened, saga_id)
            why = f"no answer to {kind!r} in {timeout:g} seconds. It stays in the inbox: see {_show(saga_id)}"
            fail(why, DID_NOT_SUCCEED)
        if answer.refusal is not None:
            raise RefusedError(answer.refusal)
        state = execution_in(opened, saga_id).state
        say(printable(f"accepted as record {answer.seq}: execution {saga_id!r} is driven on, from {state!r}"), "green")
        say(f"next: {_show(saga_id)}", "dim")


def _show(saga_id: str) -> str:
    return next_command("show", saga_id)


def _answer(journal: Journal, name: str, timeout: float) -> VerbAnswer | None:
    """Wait for the answer to the inbox item *name*. The answer is deleted from the journal and returned.

    None if there is no answer within *timeout* seconds.
    """
    operators, until = for_operators(journal), time.monotonic() + timeout
    while (answer := operators.answer(name)) is None:
        if time.monotonic() >= until:
            return None
        time.sleep(LOOK)
    operators.forget_answer(name)
    return answer


def _drive(
    kind: str,
    saga_id: str,
    words: dict[str, str | None],
    arguments: dict[str, Any],
    journal: str | None,
    app: str | None,
) -> None:
    """Execute the verb in this process and drive the execution. A verb that is already in the inbox is not added."""
    loaded = load_app(app)
    opened = journal_for(journal, loaded)
    execution_in(opened, saga_id)
    waiting = [(item.kind, _plain(item.value)) for item in opened.inbox(saga_id)]
    if (kind, arguments or None) in waiting:
        outcome = drive(loaded, opened, lambda mediator: mediator.wait(saga_id, check=False))
    else:
        outcome = drive(loaded, opened, lambda mediator: getattr(mediator, kind)(saga_id, **words, **arguments))
    report(outcome, good=outcome.failed if kind == "undo" else outcome.ended)


def _plain(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
