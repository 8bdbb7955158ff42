"""Holds: keep attempts of an execution, a saga or a step from beginning, until the hold is lifted.

A hold is a note. Each driver reads new notes with its heartbeat, and keeps the current holds in memory. A held attempt
is announced in the journal as not begun, like an attempt that queues for a limit. Therefore cancels and deadlines work
as usual, and a held attempt is never in doubt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from fsm_mediator.errors import DefinitionError, JournalError, RefusedError
from fsm_mediator.execution.execution import Execution
from fsm_mediator.ids import is_inside
from fsm_mediator.journal.notes import HOLD, UNHOLD, Note, NotesJournal, for_notes, keeps_notes
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.machine.parts import COMPENSATE, EXECUTE, Effect
from fsm_mediator.records import WAKE, InboxItem
from fsm_mediator.states import COMPENSATING, EXECUTING, name_of, path_of

LOOK: Final = 3600.0
"""Seconds after which a driver checks a held execution again, if nothing has woken the driver before."""


class Held(msgspec.Struct, frozen=True):
    """The subject of a hold: an execution and its branches, a saga, a step in every saga, or a step of one saga.

    Attributes:
        saga_id: The execution. None if the subject is not an execution.
        saga: The name of the saga. None if the subject is an execution, or a step in every saga.
        step: The name or path of the step. None if the subject is no step.
    """

    saga_id: str | None = None
    saga: str | None = None
    step: str | None = None

    @classmethod
    def of(cls, note: Note) -> Held:
        """The execution, saga or step to which the hold in *note* applies. The note sets or removes this hold."""
        return cls(note.saga_id, note.saga, note.step)

    def covers(self, saga_id: str, saga: str, path: str) -> bool:
        """Whether the hold covers an attempt of the part at *path*, in the execution *saga_id* of *saga*."""
        if self.saga_id is not None:
            return saga_id == self.saga_id or is_inside(saga_id, self.saga_id)
        is_saga = self.saga is None or saga == self.saga or saga.startswith(f"{self.saga}/")
        return is_saga and self.step in (None, path, name_of(path))

    def __str__(self) -> str:
        if self.saga_id is not None:
            return f"execution {self.saga_id!r}"
        names = (f"{kind} {name!r}" for kind, name in (("step", self.step), ("saga", self.saga)) if name is not None)
        return " of ".join(names)


def held_of(saga_id: str | None, saga: str | None, step: str | None) -> Held:
    """The subject of a hold, from the arguments of a caller.

    Raises:
        DefinitionError: No argument is given, or *saga_id* is given together with *saga* or *step*.
    """
    named = [each for each in (saga_id, saga, step) if each is not None]
    if not named or not all(isinstance(each, str) and each for each in named) or (saga_id and len(named) > 1):
        raise DefinitionError("hold what? Give the id of an execution, or saga=, step= or both, each a text")
    return Held(saga_id, saga, step)


class Holds:
    """The holds that one driver knows.

    Attributes:
        restricts: Whether an attempt may have to wait for a slot or for the end of a hold.
        any: Whether there is any hold.
        parked: The ids of executions that were released because they are held.
    """

    def __init__(self, journal: Journal, *, limited: bool) -> None:
        self._journal = journal
        self._limited = limited
        self._held: dict[Held, Note] = {}
        self._last = 0
        self.restricts: bool = limited
        self.any: bool = False
        self.parked: set[str] = set()

    def refresh(self) -> bool:
        """Read the new notes about holds. Returns whether there were any."""
        if not keeps_notes(self._journal):
            return False
        new = _notes_of_holds(self._journal, self._last)
        _follow(self._held, new)
        if new:
            self._last = new[-1].number
        self.any = bool(self._held)
        self.restricts = self._limited or self.any
        return bool(new)

    def holds(self, execution: Execution, effect: Effect) -> bool:
        """Whether a hold prevents *effect* from beginning now."""
        if effect.kind not in (EXECUTE, COMPENSATE):
            return False
        of = execution.saga_id, execution.saga.name, effect.part.path
        return any(
            (effect.kind == EXECUTE or (note.value and note.value.get("compensations"))) and held.covers(*of)
            for held, note in self._held.items()
        )

    def until(self, execution: Execution, at: float) -> float:
        """When a driver must check a held execution again, in seconds since the epoch.

        This is after `LOOK` seconds, or at the execution's deadline if the deadline is earlier.
        """
        deadline = execution.deadline_at
        return at + LOOK if deadline is None or deadline <= at else min(deadline, at + LOOK)


# For an operator


def add_hold(journal: Journal, note: Note, token: int) -> list[str]:
    """Write a note of kind ``hold`` or ``unhold``. Returns the ids of the executions to wake.

    Raises:
        RefusedError: The note lifts a hold that does not exist, or holds an execution that a workflow engine drives.
        JournalError: The journal keeps no notes.
    """
    notes, held = for_notes(journal), Held.of(note)
    owner = None if note.saga_id is None or (entry := journal.find(note.saga_id)) is None else entry.driver
    if note.kind == HOLD and owner is not None and owner.is_engine:
        raise RefusedError(
            f"{held} is driven by {owner}, which reads no holds; nothing was written. Stop the workers of {owner}, "
            f"which then begin nothing, or cancel it: fsm-mediator cancel {note.saga_id}"
        )
    if note.kind == UNHOLD and held not in current_holds(journal):
        raise RefusedError(f"{held} is not held: see fsm-mediator holds")
    if not notes.add_note(note, token=token):
        raise JournalError(f"{held} was just deleted; nothing was written")
    if note.kind == HOLD:
        return []
    parked = [entry.saga_id for entry in _parked(journal) if held.covers(*_place_of(entry))]
    for saga_id in parked:
        journal.post(saga_id, InboxItem(WAKE, at=note.at))
    return parked


def _parked(journal: Journal) -> Iterator[Entry]:
    """The executions without an owner that have an announced attempt which has not begun."""
    for phase in (EXECUTING, COMPENSATING):
        for entry in journal.entries(phase=phase):
            if entry.driver is None and entry.wake_at is not None:
                yield entry


def _place_of(entry: Entry) -> tuple[str, str, str]:
    return entry.saga_id, entry.acceptance.saga, path_of(entry.state)


def current_holds(journal: Journal) -> dict[Held, Note]:
    """The note of each current hold, by its subject, oldest first."""
    if not keeps_notes(journal):
        return {}
    found: dict[Held, Note] = {}
    _follow(found, _notes_of_holds(journal))
    return found


def _notes_of_holds(journal: NotesJournal, after: int = 0) -> list[Note]:
    """The notes about holds and lifted holds with a number higher than *after*, in the order of writing."""
    notes = (note for kind in (HOLD, UNHOLD) for note in journal.notes(kind=kind, after=after))
    return sorted(notes, key=lambda note: note.number)


def _follow(held: dict[Held, Note], notes: Iterable[Note]) -> None:
    """Apply *notes* to *held*, the current holds: add the new holds, and remove the lifted holds."""
    for note in notes:
        held.pop(Held.of(note), None)
        if note.kind == HOLD:
            held[Held.of(note)] = note


def hold_of(journal: Journal, entry: Entry) -> Note | None:
    """The note of a hold that covers an execution: a hold on it, its parent, its saga or its step. None if not held."""
    of = _place_of(entry)
    return next((note for held, note in current_holds(journal).items() if held.covers(*of)), None)


def hold_note(kind: str, held: Held, value: Any, reason: str | None, actor: str | None, at: float) -> Note:
    """A note that writes or lifts a hold."""
    return Note(kind, held.saga_id, held.saga, held.step, value=value, actor=actor, reason=reason, at=at)
