"""Diagrams: collects the data of an execution and its branches that a diagram shows, once or repeatedly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fsm_mediator.diagram import Diagram, View
from fsm_mediator.diagram.history import Run
from fsm_mediator.errors import MediatorClosedError
from fsm_mediator.ids import place_of
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.watching import WatchOfOne
from fsm_mediator.records import Record


def run_of(journal: Journal, entry: Entry, hide: Callable[[Record], Record] | None = None) -> Run:
    """The state and the records of an execution, and of its branches, for a diagram.

    Args:
        journal: The journal.
        entry: The execution.
        hide: Returns a record without the parts that a picture must not show. None to show all parts.

    Raises:
        JournalError: The journal cannot be read.
    """
    saga_id = entry.acceptance.saga_id
    records = tuple(journal.records(saga_id) if hide is None else map(hide, journal.records(saga_id)))
    return Run(
        saga_id=saga_id,
        state=records[-1].target if records else entry.state,  # the records may be newer than the entry
        records=records,
        branches={
            place_of(child.acceptance.saga_id): run_of(journal, child, hide)
            for child in journal.entries(parent=saga_id)
        },
    )


class RunReader:
    """Reads the run of an execution repeatedly, in any thread, for a picture that moves.

    Args:
        core: The mediator's driver.
        saga_id: The execution.
    """

    def __init__(self, core: ExecutionDriver, saga_id: str) -> None:
        self._core = core
        self._saga_id = saga_id
        self._watch = WatchOfOne(core, saga_id, 1)
        self._latest: Run | None = None

    @property
    def ended(self) -> bool:
        """Whether the execution had ended when it was last read."""
        return self._watch.ended

    def look(self) -> Run | None:
        """Read the execution. Returns its run with its branches, or None if nothing has changed since the last call.

        Raises:
            MediatorClosedError: The mediator is closed.
            MediatorError: The execution cannot be read.
        """
        if self._core.closed:
            raise MediatorClosedError("this mediator is closed; make another one")
        before = self._latest
        if not self._watch.look() and before is not None and not before.branches:
            return None
        store = self._core.store
        self._latest = run_of(store.journal, store.entry(self._saga_id))
        return None if before is not None and before.course == self._latest.course else self._latest


def diagram_of(core: ExecutionDriver, saga_id: str, view: View) -> Diagram:
    """The picture of an execution's path through its machine, with the paths of its branches.

    Raises:
        UnknownExecutionError: The journal knows no execution with this id.
        UnknownSagaError: The saga of the execution is not registered.
    """
    store = core.store
    entry = store.entry(saga_id)
    run = run_of(store.journal, entry)
    return Diagram(store.registry.saga_of(entry.acceptance), run, view=view, reader=partial(RunReader, core, saga_id))
