"""Finding: executions by what they are and what became of them, in pages, and how many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeGuard

import msgspec

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.attributes import Scalar, attribute_text
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.records import Record
from fsm_mediator.states import ABANDON, ENDED, STUCK, STUCK_EXECUTING, is_in_phase, path_of, phase_of

FAILURES: Final = ("rejected", "in_doubt", "exhausted", "compensation_exhausted", "undo", ABANDON)
"""The events whose error says why an execution failed or is stuck."""

KEYS: Final = ("state", "saga", "version", "error", "step")
"""The properties by which executions can be counted."""


class Filter(msgspec.Struct, frozen=True):
    """The executions that are looked for. All fields have to fit.

    An execution's *failure* is the last record that gave a part up; if there is none, the last record with an error.

    Attributes:
        saga: Only those of the saga of this name.
        version: Only those of this version.
        states: Only those in one of these states or phases (``stuck`` includes ``stuck_executing``); empty: in any.
        attributes: Only those with all these attributes.
        error: Only executions whose failure is of this type: its full name, or the part after the last dot.
        step: Only executions that are at the step with this path or, once they have ended, failed there.
        since: Only executions that entered their state at this time or later, in seconds since the epoch.
        until: Only executions that entered their state before this time.
        parent: Only the branches of this execution.
        text: Only those with this text in their id.
        roots: Only executions that are no branches.
    """

    saga: str | None = None
    version: str | None = None
    states: tuple[str, ...] = ()
    attributes: tuple[tuple[str, Scalar], ...] = ()
    error: str | None = None
    step: str | None = None
    since: float | None = None
    until: float | None = None
    parent: str | None = None
    text: str | None = None
    roots: bool = False

    @property
    def phases(self) -> list[str]:
        """The states and phases, with ``stuck_executing`` where ``stuck`` is among them."""
        return [*self.states, *((STUCK_EXECUTING,) if STUCK in self.states else ())]

    @property
    def may_have_ended(self) -> bool:
        """Whether it fits executions that have ended."""
        return not self.states or not ENDED.isdisjoint(self.states)

    @property
    def may_go_on(self) -> bool:
        """Whether it fits executions that have not ended."""
        return not self.states or not ENDED.issuperset(self.states)

    @property
    def failed_alone(self) -> bool:
        """Whether it fits only executions that have ended in ``failed``."""
        return self.states == ("failed",)

    def fits_attributes(self, attributes: Mapping[str, Scalar]) -> bool:
        """Whether an execution with these attributes has all that are looked for."""
        has = {name: attribute_text(value) for name, value in attributes.items()}
        return all(has.get(name) == attribute_text(value) for name, value in self.attributes)

    def fits(self, entry: Entry, attributes: Mapping[str, Scalar], history: Iterable[Record]) -> bool:
        """Whether it fits an execution; for a journal that does not look things up."""
        accepted = entry.acceptance
        named = (self.saga, accepted.saga), (self.version, accepted.version), (self.parent, accepted.parent)
        if any(asked not in (None, has) for asked, has in named) or (self.roots and accepted.parent is not None):
            return False
        if self.states and not any(is_in_phase(entry.state, each) for each in self.states):
            return False
        at = entry.changed_at
        if (self.since is not None and at < self.since) or (self.until is not None and at >= self.until):
            return False
        if not self.fits_attributes(attributes):
            return False
        if self.text is not None and self.text not in entry.saga_id:
            return False
        if self.error is None and self.step is None:
            return True
        error, step = failure_of(entry.state, history)
        is_error = self.error is None or f".{error}".endswith(f".{self.error}")
        return is_error and self.step in (None, step)


def failure_of(state: str, history: Iterable[Record]) -> tuple[str | None, str | None]:
    """The type of an execution's failure, and the path of its present step or, once ended, of the failed one."""
    failing = [record for record in history if record.error is not None]
    failures = [record for record in failing if record.event in FAILURES] or failing
    last = failures[-1] if failures else None
    error = None if last is None or last.error is None else last.error.type
    return error, path_of(state) or (None if last is None else last.step)


class FindingJournal(Protocol):
    """A journal that finds and counts executions, newest first by the order of opening.

    A place in that order is a cursor, a text: `Entry.cursor`.
    """

    def search(self, chosen: Filter, after: str | None = None, limit: int = 100) -> list[Entry]:
        """The executions that *chosen* fits, below the cursor *after*, at most *limit*; each with its cursor.

        Raises:
            JournalError: *after* is no cursor of this journal.
        """

    def count(self, chosen: Filter, by: str | None = None) -> dict[str, int]:
        """How many executions *chosen* fits, by `KEYS`; with None under an empty text. It may read all of them."""

    def count_after(self, chosen: Filter, after: str | None, most: int) -> int:
        """How many executions *chosen* fits below the cursor *after*; it stops at *most*."""

    def attributes(self, saga_ids: Sequence[str]) -> dict[str, dict[str, Scalar]]:
        """The attributes of executions, by id; those without any are not named."""


_MEMBERS: Final = tuple(name for name in vars(FindingJournal) if not name.startswith("_"))


def finds(journal: object) -> TypeGuard[FindingJournal]:
    """Whether *journal* is a `FindingJournal`, if only through ``__getattr__``."""
    return all(hasattr(journal, name) for name in _MEMBERS)


def newest_by_phase(journal: Journal, phases: Sequence[str], limit: int) -> dict[str, list[Entry]]:
    """The newest executions in each of these phases of what has not ended, at most *limit* of each.

    A journal with a method ``newest_by_phase(phases, limit)`` looks for those of all phases at once.
    """
    found: dict[str, list[Entry]] = {phase: [] for phase in phases}
    if not hasattr(journal, "newest_by_phase"):
        return {phase: list(journal.entries(phase=phase, limit=limit)) for phase in phases}
    for entry in journal.newest_by_phase([*phases, *([STUCK_EXECUTING] if STUCK in phases else ())], limit):
        phase = phase_of(entry.state)
        known = found.get(STUCK if phase == STUCK_EXECUTING else phase, [])
        if len(known) < limit:
            known.append(entry)  # newest first
    return found


def left_alone(journal: Journal, at: float, limit: int) -> list[Entry]:
    """The oldest executions without an owner that a driver should have looked at before time *at*, at most *limit*.

    None, if the journal has no method ``left_alone(at, limit)``.
    """
    return journal.left_alone(at, limit) if hasattr(journal, "left_alone") else []


def for_finding(journal: object) -> FindingJournal:
    """*journal*, as a `FindingJournal`.

    Raises:
        JournalError: It is none.
    """
    if not finds(journal):
        raise JournalError(
            f"the journal {type(journal).__name__} finds executions only by state and saga: it lacks one of "
            f"{', '.join(_MEMBERS)}. Use a MemoryJournal, SQLiteJournal or PostgresJournal"
        )
    return journal


def attributes_of(journal: object, saga_id: str) -> dict[str, Scalar]:
    """The attributes of an execution; none where the journal keeps none."""
    return journal.attributes([saga_id]).get(saga_id, {}) if finds(journal) else {}


def no_cursor(after: str) -> JournalError:
    """The error of a cursor that no listing gave."""
    return JournalError(f"after={after!r} is no cursor of this journal: give the .cursor of an execution it listed")


def place_of_cursor(after: str) -> int:
    """The number that a cursor of a database is.

    Raises:
        JournalError: It is no cursor.
    """
    if not isinstance(after, str) or not after.isdecimal() or len(after) > 18:
        raise no_cursor(after)
    return int(after)


def conditions(
    chosen: Filter, templates: Mapping[str, str], mark: str, many: Callable[[Sequence[str]], Any]
) -> tuple[str, list[Any]]:
    """The conditions of *chosen* besides saga and version: SQL that begins with AND, and its parameters.

    Args:
        chosen: The filter.
        templates: The condition of each of its fields, in the SQL of one database.
        mark: The placeholder of a parameter there; each in a condition stands for the same value.
        many: Makes a parameter of several texts.
    """
    asked: list[tuple[str, Any]] = [("states", many(chosen.phases))] if chosen.states else []
    fields = "since", "until", "parent", "text", "error", "step"
    asked += [(name, value) for name in fields if (value := getattr(chosen, name)) is not None]
    words = [templates[name] for name, _ in asked]
    values = [value for name, value in asked for _ in range(templates[name].count(mark))]
    for name, value in chosen.attributes:
        words.append(templates["attribute"])
        values += [name, attribute_text(value)]
    if chosen.roots:
        words.append("e.parent IS NULL")
    return "".join(f" AND {each}" for each in words), values
