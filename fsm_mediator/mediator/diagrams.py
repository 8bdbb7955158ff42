"""Diagrams: collects the data that a diagram shows of an execution and its branches."""

from __future__ import annotations

from collections.abc import Callable

from fsm_mediator.diagram import Diagram, View
from fsm_mediator.diagram.history import Run
from fsm_mediator.ids import place_of
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.mediator.store import ExecutionStore
from fsm_mediator.records import Record


def run_of(journal: Journal, entry: Entry, hide: Callable[[Record], Record] | None = None) -> Run:
    """The run of an execution for a diagram, with the runs of its branches.

    Args:
        journal: The journal.
        entry: The execution.
        hide: Called with each record, to hide parts that a picture must not show.

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


def diagram_of(store: ExecutionStore, saga_id: str, view: View) -> Diagram:
    """The picture of an execution's path through its machine, with the paths of its branches.

    Raises:
        UnknownExecutionError: The journal knows no execution with this id.
        UnknownSagaError: The saga of the execution is not registered.
    """
    entry = store.entry(saga_id)
    return Diagram(store.registry.saga_of(entry.acceptance), run_of(store.journal, entry), view=view)
