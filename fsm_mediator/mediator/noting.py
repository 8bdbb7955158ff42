"""Requests of an operator that read or write notes: list notes, hold, run an execution again."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from fsm_mediator.journal.notes import Note, for_notes
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.holding import add_hold
from fsm_mediator.mediator.ownership import refresh_holds
from fsm_mediator.mediator.requests import accept, ask

if TYPE_CHECKING:
    from fsm_mediator.mediator.again import Again


async def notes(core: ExecutionDriver, saga_id: str) -> list[Note]:
    """The notes about an execution: see `Mediator.notes`."""
    await ask(core, core.store.entry, saga_id)
    return await ask(core, for_notes(core.journal).notes, saga_id)


async def hold(core: ExecutionDriver, note: Note, token: int) -> None:
    """Write a hold, or lift a hold: see `Mediator.hold`."""
    if note.saga_id is not None:
        await ask(core, core.store.entry, note.saga_id)
    woken = await ask(core, add_hold, core.journal, note, token)
    await core.runtime.in_thread(refresh_holds, core.journal)
    for each in woken:
        core.notify(each)


async def again(
    core: ExecutionDriver,
    saga_id: str,
    new_id: str | None,
    reason: str | None,
    actor: str | None,
    despite_leftovers: bool,
    even_if_succeeded: bool,
) -> Again:
    """Run an execution once more, as a new execution: see `Mediator.again`."""
    from fsm_mediator.mediator.again import new_again  # loaded when it is used

    allowed = {"despite_leftovers": despite_leftovers, "even_if_succeeded": even_if_succeeded}
    make = functools.partial(new_again, core.store, saga_id, new_id, reason, actor, **allowed)
    execution, made = await ask(core, make)
    await core.runtime.uncancellable(accept, core, execution)
    return made
