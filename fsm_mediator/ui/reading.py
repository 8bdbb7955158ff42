"""Reading: read the data for the pages from a journal and from the known sagas. This module never writes."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs
import msgspec

from fsm_mediator.definition.saga import Saga, all_definitions
from fsm_mediator.error_types import UnknownExecutionError
from fsm_mediator.errors import DefinitionError, JournalError
from fsm_mediator.journal.acknowledging import SAME_TROUBLE, acknowledgement_of
from fsm_mediator.journal.attributes import Scalar, scalar_of
from fsm_mediator.journal.finding import Filter, FindingJournal, finds, left_alone, newest_by_phase
from fsm_mediator.journal.lines import plain
from fsm_mediator.journal.notes import Note, keeps_notes, notes_of
from fsm_mediator.journal.operators import Drivability
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.machine.parts import Part
from fsm_mediator.mediator.bulk import fitting
from fsm_mediator.mediator.finding import filter_of, find
from fsm_mediator.mediator.holding import hold_of
from fsm_mediator.narration import details, in_words, place_in_words, span
from fsm_mediator.records import Failure, InboxItem, Record
from fsm_mediator.states import (
    COMPENSATING,
    ENDED,
    EXECUTING,
    PENDING,
    PROBING,
    RETRYING,
    RETRYING_COMPENSATION,
    STUCK,
    UNDRIVABLE,
    WAITING,
    is_stuck,
    path_of,
    phase_of,
)
from fsm_mediator.statistics import Statistics
from fsm_mediator.statistics.side_store import filled_store_of, fresh_store_of

OFTEN: Final = 3
"""An execution that waits for a retry counts as trouble if this many attempts, or more, have failed."""

OVERDUE: Final = 60.0
"""The number of seconds after which an execution counts as trouble if it needs a driver and has none.

It also counts as trouble if its deadline has been over for this time.
"""

UNDRIVEN: Final = "undriven"
DIED: Final = "died"
LATE: Final = "late"
_COMPENSATING: Final = frozenset({COMPENSATING, RETRYING_COMPENSATION})
_UNFINISHED: Final = (
    *(STUCK, PENDING, EXECUTING, WAITING, COMPENSATING),
    *(RETRYING, RETRYING_COMPENSATION, PROBING),
)

LOOKED_AT: Final = 200
"""The maximum number of executions that are read for each kind of trouble."""

_AGO: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-")
"""A pattern for a traceparent, in the format of https://www.w3.org/TR/trace-context/."""


Redact = Callable[[str], str]


@attrs.frozen
class Row:
    """One execution in a list.

    Attributes:
        entry: The execution's row in the journal.
        words: The execution's state, in words.
        driver: The driver that owns the execution, in words. Empty if no driver owns it.
        trouble: The problem of the execution, in words. None if no problem is known.
        kind: The kind of the problem, for example ``stuck``. None if no problem is known.
    """

    entry: Entry
    words: str
    driver: str
    trouble: str | None
    kind: str | None

    @property
    def saga_id(self) -> str:
        """The id of the execution."""
        return self.entry.saga_id

    @property
    def phase(self) -> str:
        """The phase of the execution's state."""
        return phase_of(self.entry.state)


@attrs.frozen
class Line:
    """One record in the timeline of an execution.

    Attributes:
        record: The record.
        words: The event, in words.
        then: The state after the event, in words.
        details: The error, the reason and other details, redacted.
        after: The time since the previous record, in words.
        value: The result of a step or the value of a signal as JSON, redacted. Empty if the record has none.
        traceback: The traceback of the error, redacted. Empty if the record has none.
    """

    record: Record
    words: str
    then: str
    details: tuple[str, ...]
    after: str
    value: str
    traceback: str


@attrs.frozen
class Item:
    """One item in the inbox of an execution, as a page shows it.

    The reason and the value (as JSON) are redacted. *trace* has the ids of the trace and the span.
    """

    kind: str
    name: str
    reason: str
    value: str
    at: float
    actor: str
    trace: tuple[str, str] | None


class Reader:
    """Reads a journal for the pages.

    Args:
        journal: The journal.
        sagas: The definitions that this process knows. The pages of other sagas have no pictures.
        redact: A function that returns a text without its secrets.
        clock: A function that returns the time, in seconds since the epoch.
    """

    def __init__(
        self, journal: Journal, sagas: Iterable[Saga], redact: Redact, clock: Callable[[], float] = time.time
    ) -> None:
        self.journal = journal
        self.redact = redact
        self.clock = clock
        self.sagas: tuple[Saga, ...] = tuple(sagas)
        self._by_shape = {
            (each.name, each.version, each.fingerprint): each for saga in self.sagas for each in all_definitions(saga)
        }
        self.branch_names: set[str] = {name for name, _, _ in self._by_shape} - {saga.name for saga in self.sagas}

    def saga_of(self, entry: Entry) -> Saga | None:
        """The definition of an execution. None if this process does not know it."""
        opened = entry.acceptance
        return self._by_shape.get((opened.saga, opened.version, opened.fingerprint))

    def part_of(self, saga: str | None, version: str | None, step: str | None) -> Part | None:
        """The part at the path *step* in the newest definition of this saga. None if this process does not know it."""
        known = [each for (name, of, _), each in self._by_shape.items() if name == saga and version in (None, of)]
        parts = (part for each in reversed(known) for part in each.parts if part.path == step)
        return next(parts, None)

    def entry(self, saga_id: str) -> Entry:
        """The row of the execution with this id.

        Raises:
            UnknownExecutionError: The journal has no execution with this id.
        """
        found = self.journal.find(saga_id)
        if found is None:
            raise UnknownExecutionError(f"the journal knows no execution {saga_id!r}")
        return found

    # Many executions.

    def rows(self, entries: Iterable[Entry], look: Drivability | None = None) -> list[Row]:
        """One `Row` for each execution."""
        look = look or Drivability(self.journal)
        return [self._row(entry, look) for entry in entries]

    def _row(self, entry: Entry, look: Drivability) -> Row:
        driver = "" if entry.driver is None else str(entry.driver)
        return Row(entry, place_in_words(entry.state), driver, *self._trouble_of(entry, look))

    def _trouble_of(self, entry: Entry, look: Drivability) -> tuple[str | None, str | None]:
        """The problem of an execution in words, and the problem's kind. Both are None if *entry* shows no problem."""
        if entry.state in ENDED:
            return None, None
        if look.is_undrivable(entry):
            return f"undrivable: {look.why_not(entry)}", UNDRIVABLE
        if is_stuck(entry.state):
            return "waits for a person", STUCK
        if entry.driver is not None and not entry.driver_alive:
            return "its driver is gone", UNDRIVEN
        if entry.driver is None and self._needs_driver(entry):
            return "nobody drives it", UNDRIVEN
        deadline = entry.acceptance.deadline_at
        if deadline is not None and deadline < self.clock() - OVERDUE and phase_of(entry.state) not in _COMPENSATING:
            return "it is past its deadline", LATE
        if entry.recoveries.total:
            return f"{entry.recoveries.total} of its drivers died", DIED
        return None, None

    def _needs_driver(self, entry: Entry) -> bool:
        late = self.clock() - OVERDUE
        if entry.called or phase_of(entry.state) == PENDING:
            return entry.changed_at < late and entry.wake_at != float("inf")
        return entry.wake_at is not None and entry.wake_at < late

    def executions(
        self, asked: Mapping[str, str | None], after: str | None, limit: int, verb: str | None = None
    ) -> list[Entry]:
        """The newest executions that match the filter *asked* and come after the cursor *after*.

        Args:
            asked: The arguments of `filter_of`, as texts: states such as ``stuck,failed``, and times such as ``2h``
                (two hours ago) or a date. ``having`` has attributes, such as ``tenant=acme order=17``.
            after: The cursor of the last execution on the previous page.
            limit: The maximum number of executions.
            verb: The verb of a batch. For ``prune``, only executions that have ended and are no branches are returned.

        Raises:
            DefinitionError: There is no such state, an attribute is not NAME=VALUE, or a time is malformed.
        """
        return find(self.journal, fitting(verb, self._filter_of(asked)), after, limit)

    def _filter_of(self, asked: Mapping[str, str | None]) -> Filter:
        named: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        attributes = dict(map(_attribute, named.pop("having", "").split()))
        states = [each.strip() for each in named.pop("state", "").split(",") if each.strip()]
        named |= {name: _time(name, named[name], self.clock()) for name in ("since", "until") if name in named}
        return filter_of(**named, state=states or None, attributes=attributes)

    def counts(self) -> tuple[dict[tuple[str, str], Counter[str]], float | None]:
        """The number of executions in each state, by saga and version, and the age of these numbers in seconds.

        If the journal has a side store, the numbers come from this store, and may have any age. Otherwise the
        executions are counted now, and the age is None.
        """
        store = filled_store_of(self.journal)
        if store is not None:
            return store.states(), store.age()
        if finds(self.journal):
            return self._counted(self.journal), None
        found: dict[tuple[str, str], Counter[str]] = {}
        for entry in self.journal.entries():
            key = entry.acceptance.saga, entry.acceptance.version
            found.setdefault(key, Counter())[entry.state] += 1
        return found, None

    @staticmethod
    def _counted(journal: FindingJournal) -> dict[tuple[str, str], Counter[str]]:
        of_sagas = (Filter(saga=name) for name in journal.count(Filter(), "saga"))
        each = (
            msgspec.structs.replace(one, version=version)
            for one in of_sagas
            for version in journal.count(one, "version")
        )
        return {(str(one.saga), str(one.version)): Counter(journal.count(one, "state")) for one in each}

    def numbers(self, saga: Saga) -> tuple[Statistics, float | None]:
        """The statistics of this version of *saga*, and the age of these statistics in seconds, as in `counts`."""
        store = filled_store_of(self.journal)
        if store is None:
            return Statistics.read(saga, self.journal), None
        machines = {each.name: store.machine(each.name, each.version) for each in all_definitions(saga)}
        return Statistics(saga, saga.version, machines=machines), store.age()

    def count_fitting(self, asked: Mapping[str, str | None], most: int, verb: str | None = None) -> int:
        """The number of executions that match the filter *asked* and can get the verb of a batch. At most *most*."""
        chosen = fitting(verb, self._filter_of(asked))
        if not finds(self.journal) or UNDRIVABLE in chosen.states:
            return len(find(self.journal, chosen, None, most))
        store = fresh_store_of(self.journal)
        counted = None if store is None else store.count(chosen, None)
        return self.journal.count_after(chosen, None, most) if counted is None else min(sum(counted.values()), most)

    def troubled(self) -> list[tuple[str, list[Row]]]:
        """The executions that have a problem now: for each kind of problem, its title and the rows of its executions.

        The worst kind comes first.
        """
        look = Drivability(self.journal)
        newest = newest_by_phase(self.journal, _UNFINISHED, LOOKED_AT)
        by_phase = {phase: self.rows(found, look) for phase, found in newest.items()}
        rows = [row for found in by_phase.values() for row in found]
        known = {row.saga_id for row in rows}
        left = left_alone(self.journal, self.clock() - OVERDUE, LOOKED_AT)
        rows += self.rows((entry for entry in left if entry.saga_id not in known), look)
        retrying = [*by_phase[RETRYING], *by_phase[RETRYING_COMPENSATION]]
        often = [row for row in retrying if (last := self.last_record(row.entry)) and last.attempt >= OFTEN]
        kinds = (
            ("Waiting for a person", by_phase[STUCK]),
            ("Nobody drives them", [row for row in rows if row.kind == UNDRIVEN]),
            ("Overdue", [row for row in rows if row.kind == LATE]),
            ("Undrivable", [row for row in rows if row.kind == UNDRIVABLE and not is_stuck(row.entry.state)]),
            ("Retrying often", often),
            ("In doubt", by_phase[PROBING]),
            ("Their drivers died", [row for row in rows if row.kind == DIED]),
        )
        return [(kind, found) for kind, found in kinds if found]

    def last_record(self, entry: Entry) -> Record | None:
        """The last record of an execution. None if it has no records, or if its records cannot be read."""
        try:
            records = self.journal.records(entry.saga_id)
        except JournalError:
            return None
        return records[-1] if records else None

    def stuck_groups(self) -> list[tuple[str, str, str, list[tuple[Entry, Record | None]]]]:
        """The stuck executions, grouped by saga, step and error type. The largest group comes first.

        A group has these three texts, and a list with the row and the last record of each execution.
        """
        groups: dict[tuple[str, str, str], list[tuple[Entry, Record | None]]] = {}
        for entry in newest_by_phase(self.journal, (STUCK,), LOOKED_AT)[STUCK]:
            last = self.last_record(entry)
            cause = last.error.type if last is not None and last.error is not None else "no error"
            groups.setdefault((entry.acceptance.saga, path_of(entry.state), cause), []).append((entry, last))
        return sorted(((*key, found) for key, found in groups.items()), key=lambda group: -len(group[3]))

    # One execution.

    def records(self, saga_id: str) -> tuple[list[Record], str | None]:
        """The records of an execution, and None. If the records cannot be read, an empty list and the reason."""
        try:
            return self.journal.records(saga_id), None
        except JournalError as error:
            return [], self.redact(str(error))

    def lines(self, entry: Entry, records: Sequence[Record]) -> list[Line]:
        """The timeline of an execution: one `Line` for each of *records*."""
        lines, before = [], entry.acceptance.at
        for record in records:
            error = record.error
            lines.append(
                Line(
                    record,
                    in_words(record),
                    place_in_words(record.target),
                    tuple(map(self.redact, details(record))),
                    span(max(0.0, record.at - before)),
                    self.json_of(record.value),
                    self.redact(error.traceback) if error is not None else "",
                )
            )
            before = record.at
        return lines

    def inbox(self, saga_id: str) -> list[Item]:
        """The items in the inbox of an execution, as a page shows them."""
        return [self._item(item) for item in self.journal.inbox(saga_id)]

    def _item(self, item: InboxItem) -> Item:
        words = self.redact(item.reason or ""), self.json_of(item.value)
        return Item(item.kind, item.name, *words, item.at, item.actor or "", trace_of(item.carrier))

    def hold_of(self, entry: Entry) -> Note | None:
        """The hold that delays an execution's next attempts. None if there is no hold or the execution has ended."""
        journal: Journal = self.journal
        return hold_of(journal, entry) if entry.state not in ENDED and keeps_notes(self.journal) else None

    def acknowledgement_of(self, entry: Entry) -> Note | None:
        """The note with which a person has stopped the alerts of an execution in its current state.

        None if no person has done this, or if the execution has ended.
        """
        try:
            return None if entry.state in ENDED else acknowledgement_of(self.journal, entry.saga_id)
        except JournalError:  # the records of the execution cannot be read. The page of the execution shows the error
            return None

    def is_alerted(self, entry: Entry, look: Drivability) -> bool:
        """Whether an execution has a problem that can cause alerts, and the problem is not acknowledged."""
        if entry.state in ENDED or not keeps_notes(self.journal):
            return False
        if self._trouble_of(entry, look)[1] not in (STUCK, UNDRIVABLE, UNDRIVEN):
            last = self.last_record(entry)
            if last is None or last.event not in SAME_TROUBLE or last.attempt < OFTEN:
                return False
        return self.acknowledgement_of(entry) is None

    def hidden(self, record: Record) -> Record:
        """*record* with redacted texts. An error's message is redacted twice: alone, and together with its type."""
        error = record.error
        if error is not None:
            whole = self.redact(str(Failure(error.type, self.redact(error.message))))
            error = Failure(error.type, whole.removeprefix(error.type).removeprefix(": "), self.redact(error.traceback))
        return msgspec.structs.replace(record, error=error, reason=self.redact(record.reason or "") or None)

    def notes(self, saga_id: str) -> list[tuple[Note, str, str]]:
        """The notes about an execution: each with its redacted value as JSON, and its redacted reason."""
        found = notes_of(self.journal, saga_id)
        return [(note, self.json_of(note.value), self.redact(note.reason or "")) for note in found]

    def json_of(self, value: Any) -> str:
        """*value* as JSON, redacted. Empty if *value* is None."""
        if value is None:
            return ""
        return self.redact(msgspec.json.format(msgspec.json.encode(plain(value)), indent=2).decode())


def trace_of(carrier: Mapping[str, str] | None) -> tuple[str, str] | None:
    """The ids of the trace and the span in an OpenTelemetry carrier. None if the carrier has no ids."""
    found = _TRACEPARENT.match((carrier or {}).get("traceparent", ""))
    return None if found is None else (found[1], found[2])


def _time(name: str, text: str, now: float) -> float:
    """The time that *text* means: a duration before *now* (``2h``), or a date (``2026-11-29T10:00``).

    A date without a time zone is UTC.

    Raises:
        DefinitionError: *text* is neither a duration nor a date.
    """
    if ago := _AGO.fullmatch(text):
        return now - float(ago[1]) * _SECONDS[ago[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise DefinitionError(f"{name}={text!r}: give 15m, 2h or 7d ago, or a date: 2026-11-29T10:00") from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def _attribute(word: str) -> tuple[str, Scalar]:
    name, is_pair, value = word.partition("=")
    if not is_pair:
        raise DefinitionError(f"having: {word!r} does not have the form NAME=VALUE")
    return name, scalar_of(value)
