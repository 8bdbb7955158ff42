"""Claims of batches: one mediator at a time carries out a batch, so that each execution is acted on once.

A claim is a note. It counts until its release, which is a note too, or until its driver is dead. The token of a claim
and of a release is computed from the claim before: of all mediators that write at the same moment, one succeeds.
"""

from __future__ import annotations

import uuid
from typing import Final

from fsm_mediator.errors import RefusedError
from fsm_mediator.journal.notes import BATCH_CLAIM, Note, for_notes
from fsm_mediator.journal.optional import is_driver_alive
from fsm_mediator.journal.protocol import Journal
from fsm_mediator.mediator.bulk import Batch
from fsm_mediator.mediator.core import Core

RUNNING: Final[set[str]] = set()
"""The claims that this process works under. Without it a claim whose release failed would count until the process ends.
"""


class BatchClaim:
    """The right to carry out a batch; made by `claim_batch`.

    Args:
        core: The mediator.
        batch: The batch.
        number: The number of the note that is the claim.
        run: The claim's own name.
    """

    def __init__(self, core: Core, batch: Batch, number: int, run: str) -> None:
        self._core = core
        self._batch = batch
        self._number = number
        self._run = run

    def check(self) -> None:
        """Refuse to continue after another mediator has taken the batch over, because this one counted as dead.

        Raises:
            RefusedError: Another one has.
        """
        newest = _newest(self._core.journal, self._batch, self._number)
        if newest is not None:
            raise RefusedError(
                f"batch {self._batch.name!r} was taken over by {newest.value['process']} while this process gave no "
                f"sign of life, and continues there"
            )

    def release(self) -> None:
        """Give the batch up, so that others can resume it. If one has taken it over, nothing is written."""
        RUNNING.discard(self._run)
        if not self._core.closed:  # the driver of a closed mediator holds no batch
            _write(self._core, self._batch, None, self._number)


def claim_batch(core: Core, batch: Batch) -> BatchClaim:
    """Claim a batch for a mediator.

    Raises:
        RefusedError: Another living mediator carries it out.
        JournalError: The journal keeps no notes, or cannot be written.
    """
    run = uuid.uuid4().hex
    RUNNING.add(run)
    try:
        while True:
            if (process := process_at_it(core.journal, batch, core.driver.id)) is not None:
                raise RefusedError(
                    f"batch {batch.name!r} is carried out by {process} now; nothing was begun twice. Follow it on its "
                    f"page, or resume it if that process dies: fsm-mediator bulk --resume {batch.name}"
                )
            before = _newest(core.journal, batch)
            number = _write(core, batch, run, batch.number if before is None else before.number)
            if (written := _newest(core.journal, batch)) is not None and written.value["run"] == run:
                return BatchClaim(core, batch, number, run)
    except BaseException:
        RUNNING.discard(run)
        raise


def process_at_it(journal: Journal, batch: Batch, own_driver: str | None = None) -> str | None:
    """The process that carries out a batch, in words; None: none does.

    Args:
        journal: The journal.
        batch: The batch.
        own_driver: The id of the caller's driver: what it has claimed and does not work under is free.
    """
    newest = _newest(journal, batch)
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
    """Write a claim, or with *run* None a release, to follow the note numbered *before*; unless another one does."""
    import hashlib  # loaded when it is used

    value = {"batch": batch.name, "run": run, "driver": core.driver.id, "process": str(core.driver)}
    token = int.from_bytes(hashlib.sha256(f"{batch.name}/{before}".encode()).digest()[:8]) >> 1
    note = Note(BATCH_CLAIM, None, None, None, value, batch.actor, None, core.clock())
    return for_notes(core.journal).add_note(note, token=token)
