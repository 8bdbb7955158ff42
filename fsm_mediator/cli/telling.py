"""Telling an execution something, then driving it on for as long as it goes on here; the same for both mediators."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Generator
from typing import Any, TypeAlias

from fsm_mediator.errors import StillRunningError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.protocol import Entry, Journal

Talk: TypeAlias = Generator[Any, Any, Outcome]
"""Calls of a mediator, each yielded, and sent back what came of it (awaited, where it is an `AsyncMediator`)."""

ROUND = 0.5
"""Seconds between two looks at whether it still goes on here."""


def signalled(mediator: Any, saga_id: str, name: str, value: Any) -> Talk:
    """Give the signal, and drive on until it ends, rests, waits for longer, or turns out to be driven elsewhere."""
    outcome: Outcome | None = None
    yield mediator.signal(saga_id, name, value)
    while outcome is None:
        try:
            outcome = yield mediator.wait(saga_id, timeout=ROUND, check=False)
        except StillRunningError:
            if not any(_goes_on_here(entry) for entry in _tree(mediator.journal, saga_id)):
                outcome = yield mediator.outcome(saga_id)
    return outcome


def _tree(journal: Journal, saga_id: str) -> list[Entry]:
    entry = journal.find(saga_id)
    found = [] if entry is None else [entry]
    for each in found:  # grows while it is walked
        found += journal.entries(parent=each.saga_id)
    return found


def _goes_on_here(entry: Entry) -> bool:
    if entry.driver is not None:
        return entry.driver_alive and entry.driver.pid == os.getpid()
    return entry.wake_at is not None and entry.wake_at < time.time() + ROUND


def answered(talk: Talk) -> Outcome:
    """What *talk* with a `Mediator` comes to."""
    came: Any = None
    try:
        while True:
            came = talk.send(came)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


async def awaited(talk: Talk) -> Outcome:
    """What *talk* with an `AsyncMediator` comes to."""
    try:
        call: Awaitable[Any] = talk.send(None)
        while True:
            try:
                came = await call
            except Exception as error:
                call = talk.throw(error)
            else:
                call = talk.send(came)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
