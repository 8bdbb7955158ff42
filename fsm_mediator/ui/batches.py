"""Batches: apply one verb to all executions that match a filter. A page asks for confirmation and shows the results."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from inspect import isasyncgenfunction
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from fsm_mediator.errors import DefinitionError, JournalError, MediatorError, RefusedError
from fsm_mediator.mediator.bulk import PRUNE, Batch, freeze
from fsm_mediator.mediator.bulk_claims import process_at_it
from fsm_mediator.ui.offers import Offer, arguments, offer_for_many
from fsm_mediator.ui.reading import Reader

IN_BULK: Final = ("retry", "resolve", "cancel", "signal", "again", "hold", "unhold", "acknowledge", PRUNE)
"""The verbs that an operator can apply to many executions on the pages."""

MOST: Final = 10_000
"""The maximum number of executions in a batch that the pages begin."""

SHOWN: Final = 200

PREVIEWED: Final = 50
"""The maximum number of executions whose ids are shown before an operator confirms a batch."""

logger: logging.Logger = logging.getLogger("fsm_mediator")


class Batches:
    """Begins batches, resumes them, and reads their results.

    Args:
        reader: Reads the journal.
        mediator: The mediator that executes the verbs. None if the monitor has no mediator.
    """

    def __init__(self, reader: Reader, mediator: Any) -> None:
        self._reader = reader
        self._mediator = mediator
        self._running: dict[str, asyncio.Task[None]] = {}

    def preview(self, verb: str, asked: Mapping[str, str | None]) -> tuple[int, list[str]]:
        """The number of executions that match the filter *asked*, and the ids of the newest of them.

        The number is at most ``MOST + 1``. At most `PREVIEWED` ids are returned.
        """
        _check_filtered(asked)
        newest = self._reader.executions(asked, None, PREVIEWED, verb)
        return self._reader.count_fitting(asked, MOST + 1, verb), [entry.saga_id for entry in newest]

    def chosen(self, verb: str, asked: Mapping[str, str | None]) -> list[str]:
        """The ids of the executions that match the filter *asked*. The newest is first. At most ``MOST + 1`` ids."""
        _check_filtered(asked)
        return [entry.saga_id for entry in self._reader.executions(asked, None, MOST + 1, verb)]

    def offer(self, verb: str, asked: Mapping[str, str | None]) -> Offer:
        """The `Offer` of *verb*. If the filter *asked* has a saga and a step, the form has the fields for this step."""
        return offer_for_many(verb, self._reader.part_of(asked.get("saga"), asked.get("version"), asked.get("step")))

    async def begin(self, verb: str, asked: Mapping[str, str | None], form: Mapping[str, str], actor: str) -> str:
        """Begin a batch for all executions that match the filter *asked*, and return the name of the batch.

        The ids of the executions are stored in the journal, then the verb is applied in the background.

        Raises:
            DefinitionError: Too many executions match, or there is no filter.
            PayloadError: A field of the form is wrong.
        """
        values = arguments(self.offer(verb, asked), form)
        reason = values.pop("reason")
        ids = await run_in_threadpool(self.chosen, verb, asked)
        if len(ids) > MOST:
            raise DefinitionError(f"more than {MOST:,} executions match: narrow the filter, or use fsm-mediator bulk")
        now = self._reader.clock()
        batch = await run_in_threadpool(freeze, self._reader.journal, verb, ids, values, reason, actor, now)
        self.go_on(batch.name)
        return batch.name

    def check_free(self, batch: Batch) -> None:
        """Refuse to continue a batch that another process executes.

        Raises:
            RefusedError: Another process executes the batch.
        """
        process = process_at_it(self._reader.journal, batch)
        if process is not None and batch.name not in self._running:
            raise RefusedError(f"batch {batch.name!r} is carried out by {process} now: its results appear on its page")

    def go_on(self, name: str) -> None:
        """Apply the verb of a batch to the executions without a result, unless this process already does so."""
        if name not in self._running:
            task = asyncio.ensure_future(self._give(name))
            self._running[name] = task
            task.add_done_callback(lambda _: self._running.pop(name, None))

    async def _give(self, name: str) -> None:
        bulk = self._mediator.bulk
        try:
            if isasyncgenfunction(bulk):
                async for _ in bulk(batch=name):
                    pass
            else:
                await run_in_threadpool(lambda: list(bulk(batch=name)))
        except MediatorError as error:  # an operator can resume the batch on its page
            logger.warning("batch %r is interrupted: %s", name, error)

    def found(self, name: str) -> dict[str, Any]:
        """The data for the page of the batch *name*: the batch, its results, and the process that executes it.

        Raises:
            RefusedError: There is no such batch.
        """
        batch = Batch(self._reader.journal, name)
        redact = self._reader.redact
        results = [each._replace(message=redact(each.message)) for each in batch.results()]
        refused = [each for each in results if not each.done]
        return {
            "batch": batch,
            "reason": redact(batch.reason or ""),
            "arguments": self._words_of(batch),
            "left": len(batch.ids) - len(results),
            "refused": refused[:SHOWN],
            "done": [each for each in results if each.done][-SHOWN:],
            "counts": (len(results) - len(refused), len(refused)),
            "running": "this process" if name in self._running else process_at_it(self._reader.journal, batch),
        }

    def _words_of(self, batch: Batch) -> list[tuple[str, str]]:
        """The name and the redacted JSON of each argument of a batch's verb."""
        try:
            return [(name, self._reader.json_of(value) or "null") for name, value in batch.arguments.items()]
        except JournalError as error:
            return [("arguments", self._reader.redact(str(error)))]


def _check_filtered(asked: Mapping[str, str | None]) -> None:
    if not any(asked.values()):
        raise DefinitionError("a batch needs a filter that selects executions")
