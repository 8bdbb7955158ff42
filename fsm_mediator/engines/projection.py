"""Projection: copies the executions of an engine into a journal. So commands such as ``list``, ``show`` and verbs work.

The engine's log stays the source of truth. Before each turn, the earlier records of the execution are written to the
journal. These records are already in the log, so the journal is never ahead of the log. When an execution has ended, or
waits for an operator or a signal, the journal has all of its records.

In the journal, the engine owns these executions and counts as always alive. So no driver of this library claims them. A
cancel, a signal or a verb in an inbox of the journal is sent to the engine. If the engine refuses a verb, the refusal
is the answer in the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from fsm_mediator.engines.mediator import EngineMediator
from fsm_mediator.engines.replay import Row, Turns
from fsm_mediator.errors import JournalError, MediatorError, RefusedError
from fsm_mediator.journal.factory import open_journal
from fsm_mediator.journal.protocol import ENGINE, Commit, Definition, Driver, Entry, IdTakenError, Journal, new_token
from fsm_mediator.records import SIGNAL, VERBS, Acceptance, InboxItem, Record, VerbAnswer
from fsm_mediator.states import ENDED, SUCCEEDED

logger: logging.Logger = logging.getLogger("fsm_mediator")

TRIES: Final = 5
"""The maximum number of tries of a commit, if other workers write to the same execution at the same time."""

REMEMBERED: Final = 10_000
"""The maximum number of sent items whose numbers are kept.

An item whose number was dropped may be sent again, which is harmless.
"""


class Projection:
    """Copies an engine's executions into a journal.

    Args:
        journal: The journal, or its path or URL. It must be a journal that encodes values.
        engine: The engine's name, for messages.
    """

    def __init__(self, journal: Journal | str | os.PathLike[str], engine: str = "temporal") -> None:
        self.journal: Journal = open_journal(journal)
        self.id: str = f"{ENGINE}{engine}"
        self._driver = Driver(self.id, host=engine)
        self.journal.enlist(self._driver)
        self._definitions: dict[str, Definition] = {}
        self._handed: set[tuple[str, int]] = set()

    def follow(self, turns: Turns, opening: Mapping[str, Any], rows: Sequence[Row]) -> None:
        """Write the logged *rows* that the journal does not have yet. Repeated calls have no further effect.

        Raises:
            JournalError: The journal cannot be written.
        """
        acceptance = turns.acceptance(opening)
        self._know(turns)
        for attempt in range(1, TRIES + 1):
            entry = self._owned(acceptance)
            if entry is None or len(rows) <= (known := entry.seq):
                return
            records = tuple(turns.records(opening, rows[known:]))
            # A succeeded execution can be undone, but only by the engine.
            held = records[-1].target not in ENDED or records[-1].target == SUCCEEDED
            taken = self._used(entry, records) if entry.mail else ()
            try:
                self.journal.write(Commit(*(acceptance.saga_id, records, self.id, entry.epoch, held), taken=taken))
            except JournalError:
                if attempt == TRIES or not self._has_more(acceptance.saga_id, known):
                    raise
            else:
                return

    async def follow_apart(self, turns: Turns, opening: Mapping[str, Any], rows: Sequence[Row]) -> None:
        """Write the logged *rows* to the journal, as `follow` does, in a separate thread."""
        await asyncio.to_thread(self.follow, turns, opening, rows)

    async def keep_up(self, turns: Turns, opening: Mapping[str, Any], rows: Sequence[Row]) -> None:
        """Write the logged *rows* to the journal before a turn, as `follow_apart` does.

        If the journal cannot be written, this method only logs a warning, and the turn runs anyway.
        """
        try:
            await self.follow_apart(turns, opening, rows)
        except MediatorError as error:
            logger.warning("execution %r: the projection does not follow yet: %s", opening["saga_id"], error)

    def _know(self, turns: Turns) -> None:
        """Register the sagas of the engine in the journal, so that its inboxes accept verbs for their executions."""
        new = [each for each in turns.registry.definitions() if each.fingerprint not in self._definitions]
        if new:
            known = {**self._definitions, **{each.fingerprint: each for each in new}}
            self.journal.enlist(replace(self._driver, definitions=tuple(known.values())))
            self._definitions = known

    def _owned(self, acceptance: Acceptance) -> Entry | None:
        """The journal's entry of the execution, with the engine as its owner. None after `release` of the execution.

        If the journal does not have the execution, the execution is added in a dormant state, so that no driver claims
        it before the engine does.
        """
        saga_id = acceptance.saga_id
        entry = self.journal.find(saga_id)
        if entry is None:
            with contextlib.suppress(IdTakenError):
                opening = Commit(saga_id, (), None, held=False, wake_at=math.inf, awaits=True, acceptance=acceptance)
                self.journal.write(opening)
            entry = self.journal.find(saga_id)
        if entry is not None and entry.driver is None and entry.state not in ENDED:
            entry = self.journal.claim(saga_id, self.id) or self.journal.find(saga_id)
        return entry if entry is None or entry.driver is not None else None

    def _used(self, entry: Entry, records: Sequence[Record]) -> tuple[int, ...]:
        """The numbers of the inbox items that a commit of *records* deletes.

        These are the items of the signals that *records* use. If the execution has ended, they are all items except
        verbs.
        """
        ended = bool(records) and records[-1].target in ENDED
        paths = {record.step for record in records if record.event == "executed"}
        return tuple(
            item.number
            for item in self.journal.inbox(entry.saga_id)
            if (item.kind == SIGNAL and item.name in paths) or (ended and item.kind not in VERBS)
        )

    def _has_more(self, saga_id: str, known: int) -> bool:
        entry = self.journal.find(saga_id)
        return entry is not None and entry.seq > known

    def release(self, before: float) -> int:
        """Release the executions that succeeded before a time. Then they can be pruned, but can no longer be undone.

        Args:
            before: The time, in seconds since the epoch.

        Returns:
            The number of released executions.
        """
        found = [
            entry
            for entry in self.journal.entries(phase=SUCCEEDED, before=before)
            if entry.driver is not None and entry.driver.id == self.id
        ]
        for entry in found:
            self.journal.release(entry.saga_id, entry.epoch)
        return len(found)

    @contextlib.asynccontextmanager
    async def bridge(self, mediator: EngineMediator, *, poll: float = 0.5) -> AsyncIterator[None]:
        """Inside of the ``async with`` block, send the items in the journal's inboxes to the engine.

        One process is enough. With several processes an item may be sent twice, which is harmless.

        Args:
            mediator: The engine's mediator.
            poll: The seconds between two checks of the inboxes.
        """
        task = asyncio.create_task(self._hand_over(mediator, poll))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _hand_over(self, mediator: EngineMediator, poll: float) -> None:
        while True:
            try:
                await self.hand_over(mediator)
            except MediatorError as error:
                logger.warning("the journal's inboxes could not be read: %s; trying again", error)
            await asyncio.sleep(poll)

    async def hand_over(self, mediator: EngineMediator) -> None:
        """Send all items that are in the journal's inboxes now."""
        for saga_id in await asyncio.to_thread(self.journal.beat, self.id):
            for item in await asyncio.to_thread(self.journal.inbox, saga_id):
                refusal = None
                if (saga_id, item.number) in self._handed:
                    continue
                try:
                    await mediator.hand_on(saga_id, item)
                except RefusedError as error:
                    refusal = str(error)
                    logger.warning("execution %r: %s %r is refused: %s", saga_id, item.kind, item.name, error)
                except MediatorError as error:
                    logger.warning("execution %r: %s %r waits: %s", saga_id, item.kind, item.name, error)
                    continue
                await asyncio.to_thread(self._take, saga_id, item, refusal)
                if len(self._handed) >= REMEMBERED:
                    self._handed.clear()
                self._handed.add((saga_id, item.number))

    def _take(self, saga_id: str, item: InboxItem, refusal: str | None) -> None:
        """Remove an item from the inbox, and answer a verb. *refusal*: the reason why the engine refused the item.

        An accepted signal stays in the inbox until its record is in the journal.
        """
        for attempt in range(1, TRIES + 1):
            entry = self.journal.find(saga_id)
            if entry is None:
                return
            answers: tuple[VerbAnswer, ...] = ()
            if item.kind in VERBS:
                seq = None if refusal is not None else entry.seq + 1
                answers = (VerbAnswer(item.number, item.name, seq, refusal, item.at),)
            held = entry.driver is not None
            try:
                self.journal.write(
                    Commit(
                        *(saga_id, (), self.id if held else None, entry.epoch, held),
                        seen=item.number,
                        taken=() if item.kind == SIGNAL and refusal is None else (item.number,),
                        answers=answers,
                        token=new_token(),
                    )
                )
            except JournalError:
                if attempt == TRIES:
                    raise
            else:
                return
