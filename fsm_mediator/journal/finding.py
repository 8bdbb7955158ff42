"""Finding: finds executions by their properties and outcome, in pages, and counts them."""

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
"""The events whose error is the reason why an execution failed or is stuck."""

KEYS: Final = ("state", "saga", "version", "error", "step")
"""The properties by which executions can be counted."""


class Filter(msgspec.Struct, frozen=True):
    """Conditions by which executions are found. An execution fits if it meets the conditions of all fields.

    The *failure* of an execution is the last record with which a part was given up. Without such a record, the failure
    is the last record with an error.

    Attributes:
        saga: Only executions of the saga with this name.
        version: Only executions of this version.
        states: Only executions in one of these states or phases (``stuck`` includes ``stuck_executing``). Empty: in
            any state.
        attributes: Only executions that have all these attributes.
        error: Only executions whose failure has this type: its full name, or the part after the last dot.
        step: Only executions that are at the step with this path, and ended executions that failed there.
        since: Only executions that entered their state at this time or later, in seconds since the epoch.
        until: Only executions that entered their state before this time.
        parent: Only the branches of this execution.
        text: Only executions with this text in their id.
        roots: Only executions that are not branches.
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
        """The names in *states*, and ``stuck_executing`` if ``stuck`` is among them."""
        return [*self.states, *((STUCK_EXECUTING,) if STUCK in self.states else ())]

    @property
    def may_have_ended(self) -> bool:
        """Whether an execution that has ended can fit."""
        return not self.states or not ENDED.isdisjoint(self.states)

    @property
    def failed_alone(self) -> bool:
        """Whether only executions that have ended in ``failed`` can fit."""
        return self.states == ("failed",)

    def fits_attributes(self, attributes: Mapping[str, Scalar]) -> bool:
        """Whether *attributes*, the attributes of an execution, include all attributes of the filter."""
        has = {name: attribute_text(value) for name, value in attributes.items()}
        return all(has.get(name) == attribute_text(value) for name, value in self.attributes)

    def fits(self, entry: Entry, attributes: Mapping[str, Scalar], history: Iterable[Record]) -> bool:
        """Whether an execution fits. Used by journals that check each execution and have no index."""
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
    """The type of an execution's last failure, and the path of the execution's present step. Each can be None.

    After the execution has ended, the second value is the path of the step that failed.
    """
    failing = [record for record in history if record.error is not None]
    failures = [record for record in failing if record.event in FAILURES] or failing
    last = failures[-1] if failures else None
    error = None if last is None or last.error is None else last.error.type
    return error, path_of(state) or (None if last is None else last.step)


class FindingJournal(Protocol):
    """A journal that finds and counts executions. Executions are ordered by when they were opened, the newest first.

    A cursor (`Entry.cursor`) is a text that names a position in this order.
    """

    def search(self, chosen: Filter, after: str | None = None, limit: int = 100) -> list[Entry]:
        """At most *limit* executions that fit *chosen* and are older than the cursor *after*.

        Each entry has its cursor.

        If there are fewer than *limit*, no older execution fits.

        Raises:
            JournalError: *after* is not a cursor of this journal.
        """

    def count(self, chosen: Filter, by: str | None = None) -> dict[str, int]:
        """The number of executions that fit *chosen*, for each value of the property *by* (one of `KEYS`).

        If *by* is None, the only key is an empty text. The method may have to read all these executions.
        """

    def count_after(self, chosen: Filter, after: str | None, most: int) -> int:
        """The number of executions that fit *chosen* and are older than the cursor *after*.

        Counting stops at *most*.
        """

    def attributes(self, saga_ids: Sequence[str]) -> dict[str, dict[str, Scalar]]:
        """The attributes of executions, by id. Executions without attributes are left out."""


_MEMBERS: Final = tuple(name for name in vars(FindingJournal) if not name.startswith("_"))


def finds(journal: object) -> TypeGuard[FindingJournal]:
    """Whether *journal* is a `FindingJournal`. ``__getattr__`` may provide its members."""
    return all(hasattr(journal, name) for name in _MEMBERS)


def newest_by_phase(journal: Journal, phases: Sequence[str], limit: int) -> dict[str, list[Entry]]:
    """For each phase in *phases*: the newest executions, at most *limit* of them. No phase may be a final state.

    If the journal has a method ``newest_by_phase(phases, limit)``, one call finds the executions of all phases.
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
    """At most *limit* executions that have no owner although a driver should have claimed them before time *at*.

    The oldest come first. *at* is in seconds since the epoch. The list is empty if the journal has no method
    ``left_alone(at, limit)``.
    """
    return journal.left_alone(at, limit) if hasattr(journal, "left_alone") else []


def for_finding(journal: object) -> FindingJournal:
    """Return *journal* as a `FindingJournal`.

    Raises:
        JournalError: *journal* lacks a method of `FindingJournal`.
    """
    if not finds(journal):
        raise JournalError(
            f"the journal {type(journal).__name__} finds executions only by state and saga: it lacks one of "
            f"{', '.join(_MEMBERS)}. Use a MemoryJournal, SQLiteJournal or PostgresJournal"
        )
    return journal


def attributes_of(journal: object, saga_id: str) -> dict[str, Scalar]:
    """The attributes of an execution. Empty if the journal keeps no attributes."""
    return journal.attributes([saga_id]).get(saga_id, {}) if finds(journal) else {}


def no_cursor(after: str) -> JournalError:
    """The error for *after*, a cursor that no listing of this journal returned."""
    return JournalError(f"after={after!r} is no cursor of this journal: give the .cursor of an execution it listed")


def place_of_cursor(after: str) -> int:
    """The number in *after*, a cursor of a SQLite or PostgreSQL journal.

    Raises:
        JournalError: *after* is not such a cursor.
    """
    if not isinstance(after, str) or not after.isdecimal() or len(after) > 18:
        raise no_cursor(after)
    return int(after)


def full_page(
    numbers_of: Callable[[str | None, int], list[int]],
    rows_of: Callable[[list[int]], Sequence[tuple[Any, ...]]],
    after: str | None,
    limit: int,
) -> list[tuple[Any, ...]]:
    """The rows of one page of executions.

    This function is for journals that read the numbers of executions first, and then the rows with these numbers.

    An execution can be deleted between the two reads. Then more numbers are read, until the page is full or no number
    is left. Otherwise a reader would think that a page with a missing row is the last page.

    Args:
        numbers_of: Takes a cursor and a maximum. Returns the numbers of executions after the cursor, newest first, and
            not more than the maximum.
        rows_of: Returns the rows of these numbers that still exist.
        after: The cursor after which the page begins. None for the first page.
        limit: The maximum number of rows.
    """
    rows: list[tuple[Any, ...]] = []
    while (left := limit - len(rows)) > 0:
        numbers = numbers_of(after, left)
        rows += rows_of(numbers) if numbers else ()
        if len(numbers) < left:
            break
        after = str(numbers[-1])
    return rows


def conditions(
    chosen: Filter, templates: Mapping[str, str], mark: str, many: Callable[[Sequence[str]], Any]
) -> tuple[str, list[Any]]:
    """The SQL for the conditions of *chosen*, except saga and version, and its parameters. The SQL begins with AND.

    Args:
        chosen: The filter.
        templates: The condition for each field of a filter, in the SQL of one database.
        mark: The placeholder for a parameter. If a condition has several placeholders, all stand for the same value.
        many: Makes one parameter from several texts, for a condition that compares a column with all of them.
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
