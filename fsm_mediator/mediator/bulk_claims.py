"""Claims of batches: only one mediator at a time executes a batch, so that each execution gets the verb once.

A claim is a note. A claim is valid until another note releases the batch, or until the driver of the claim is dead. The
token of a claim or release is computed from the previous note. Therefore only one of several mediators that write at
the same time succeeds.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from fsm_mediator.errors import RefusedError
from fsm_mediator.journal.notes import BATCH_CLAIM, Note, for_notes
from fsm_mediator.journal.optional import is_driver_alive
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.mediator.bulk import Batch
from fsm_mediator.mediator.core import Core

RUNNING: Final[set[str]] = set()
"""The unique names of the claims with which this process executes a batch now.

Other claims of this process do not count. Otherwise a claim whose release failed would block the batch until the
process ends.
"""


class BatchClaim:
    """The right to execute a batch. `claim_batch` makes it.

    Args:
        core: The mediator.
        batch: The batch.
        number: The number of the note that claims the batch.
        run: The unique name of the claim, which is in `RUNNING` until the claim is released.
    """

    def __init__(self, core: Core, batch: Batch, number: int, run: str) -> None:
        self._core = core
        self._batch = batch
        self._number = number
        self._run = run

    def check(self) -> None:
        """Refuse to continue if another mediator has taken over the batch, because this process counted as dead.

        Raises:
            RefusedError: Another mediator has taken over the batch.
        """
        newest = _newest(self._core.journal, self._batch, self._number)
        if newest is not None:
            raise RefusedError(
                f"batch {self._batch.name!r} was taken over by {newest.value['process']} while this process did not "
                f"respond, and continues there"
            )

    def release(self) -> None:
        """Release the batch, so that other mediators can resume it.

        Does nothing if another mediator has taken it over.
        """
        RUNNING.discard(self._run)
        if not self._core.closed:  # the driver of a closed mediator holds no batch
            _write(self._core, self._batch, None, self._number)


def claim_batch(core: Core, batch: Batch) -> BatchClaim:
    """Claim a batch for a mediator.

    Raises:
        RefusedError: Another living mediator executes the batch.
        JournalError: The journal keeps no notes, or cannot be written.
    """
    run = uuid.uuid4().hex
    RUNNING.add(run)
    try:
        while True:
            # The claim follows the note by which the batch is free. If it followed a newer note, it could replace a
            # claim that another mediator has just written.
            before = _newest(core.journal, batch)
            if (process := _process_of(core.journal, before, core.driver.id)) is not None:
                raise RefusedError(
                    f"batch {batch.name!r} is carried out by {process} now; nothing was begun twice. Follow it on its "
                    f"page, or resume it if that process dies: fsm-mediator bulk --resume {batch.name}"
                )
            number = _write(core, batch, run, batch.number if before is None else before.number)
            if (written := _newest(core.journal, batch)) is not None and written.value["run"] == run:
                return BatchClaim(core, batch, number, run)
    except BaseException:
        RUNNING.discard(run)
        raise


def process_at_it(journal: Journal, batch: Batch, own_driver: str | None = None) -> str | None:
    """A description of the process that executes a batch. None if no process executes it.

    Args:
        journal: The journal.
        batch: The batch.
        own_driver: The id of the caller's driver. A claim of this driver does not count if this process no longer
            executes the batch: see `RUNNING`.
    """
    return _process_of(journal, _newest(journal, batch), own_driver)


def _process_of(journal: Journal, newest: Note | None, own_driver: str | None) -> str | None:
    """A description of the process that executes a batch. *newest* is the note of the newest claim or release."""
    if newest is None or newest.value["run"] is None:
        return None
    is_free = newest.value["run"] not in RUNNING and (
        newest.value["driver"] == own_driver or not is_driver_alive(journal, newest.value["driver"])
    )
    return None if is_free else str(newest.value["process"])


def _newest(journal: Journal, batch: Batch, after: int | None = None) -> Note | None:
    notes = for_notes(journal).notes(kind=BATCH_CLAIM, after=batch.number if after is None else after)
    return next((note for note in reversed(notes) if note.value["batch"] == batch.name), None)


def _write(core: Core, batch: Batch, run: str | None, before: int) -> int:
    """Write a claim, or a release if *run* is None. Returns the number of its note.

    If another note has already followed the note with the number *before*, nothing is written.
    """
    import hashlib  # loaded when it is used

    value: dict[str, Any] = {"batch": batch.name, "run": run, "driver": core.driver.id, "process": str(core.driver)}
    value |= {"verb": batch.verb, "count": len(batch.ids)}
    token = int.from_bytes(hashlib.sha256(f"{batch.name}/{before}".encode()).digest()[:8]) >> 1
    note = Note(BATCH_CLAIM, None, None, None, value, batch.actor, batch.reason, core.clock())
    return for_notes(core.journal).add_note(note, token=token)
