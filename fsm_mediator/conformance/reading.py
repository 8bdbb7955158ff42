"""Reading: reads a journal, records, an export or a log as *traces*, one trace for each execution.

The moves of a trace may have fewer fields than records. A line of a log, for example, has no values and no due times.
Missing fields are not checked later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.archive import read_lines
from fsm_mediator.journal.codec import UNREADABLE
from fsm_mediator.journal.planning import planned_of
from fsm_mediator.journal.protocol import Entry, Journal, is_journal
from fsm_mediator.records import Failure, Record
from fsm_mediator.states import EVENTS, PHASES

Source: TypeAlias = (
    Journal
    | Iterable[Record]
    | Iterable[Mapping[str, Any]]
    | Iterable[str]
    | Iterable[bytes]
    | Iterable["Record | Mapping[str, Any] | str"]
    | str
    | Path
)
"""The types of sources that `Reader.traces` can read."""

_STATE: Final = rf"(?:{'|'.join(PHASES)})(?:\.[\w.-]+)?"
_MOVE: Final = (
    rf" (?P<event>{'|'.join(EVENTS)})(?: attempt (?P<attempt>\d+))?: (?P<source>{_STATE}) -> (?P<target>{_STATE})"
)
_ANY_SAGA: Final = re.compile(rf"(?P<saga>[\w./*-]+) (?P<saga_id>\S+){_MOVE}")

_TYPES: Final[dict[str, Any]] = {
    "seq": int,
    "attempt": int,
    "at": (int, float),
    "due_at": (int, float, type(None)),
    "step": (str, type(None)),
    "in_doubt": bool,
    "abandoned": bool,
    "reason": (str, type(None)),
    "actor": (str, type(None)),
    "children": (list, tuple, type(None)),
}
"""The types that the fields of a move may have, if the source has the move as a mapping."""

_LOGGED: Final[dict[Any, str]] = {
    f"saga_{name}": name for name in ("seq", "event", "source", "target", "step", "attempt")
}
"""The field of a record for each name that `LoggingObserver` uses in ``extra``. A JSON log has these names too."""

_ALL_FIELDS: Final = frozenset(Record.__struct_fields__)


@attrs.frozen
class LogEntry:
    """One move, with the fields that the source has.

    Attributes:
        record: The move. Fields that the source does not have are set to their defaults.
        fields: The names of the fields of *record* whose values come from the source.
        line: The line number of the move. None if the source has no lines.
        broken: The reason why the source's entry cannot be a move. None if it is a move.
    """

    record: Record
    fields: frozenset[str] = _ALL_FIELDS
    line: int | None = None
    broken: str | None = None


@attrs.define
class Trace:
    """One execution, with the data that the source has.

    Attributes:
        saga_id: The id of the execution.
        saga: The name of the execution's saga. Empty if the source does not name it.
        version: The saga's version. None if it is unknown.
        fingerprint: The saga's fingerprint. None if it is unknown.
        state: The current state of the execution. None if it is unknown.
        parent: The id of the parent. None if the execution is not a branch, or the parent is unknown.
        moves: The moves of the execution, in the order of the source.
        line: The number of the line with the whole execution. None if there is no such line.
        planned: The branches of the current group that are not created yet: the number of the first of them, and the
            number after the last of them. The third value says whether they count as ended, and are never created.
            None if there are no such branches, or they are unknown.
    """

    saga_id: str
    saga: str
    version: str | None = None
    fingerprint: str | None = None
    state: str | None = None
    parent: str | None = None
    moves: list[LogEntry] = attrs.field(factory=list)
    line: int | None = None
    planned: tuple[int, int, bool] | None = None

    def add(self, move: Any, line: int | None) -> None:
        """Add *move*, a mapping with the fields of a move. If it is not such a mapping, add a broken entry."""
        if not isinstance(move, Mapping):
            self.add_broken(f"it is {move!r}, which is no record", line)
            return
        fields: dict[str, Any] = {name: value for name, value in move.items() if name in _ALL_FIELDS}
        missing = [name for name in ("event", "source", "target") if not isinstance(fields.get(name), str)]
        if missing:
            self.add_broken(f"it tells no {' and no '.join(missing)}", line)
            return
        for name, types in _TYPES.items():
            if name in fields and not isinstance(fields[name], types):
                self.add_broken(f"its {name} is {fields[name]!r}", line)
                return
        error, children = fields.get("error"), fields.get("children")
        if isinstance(error, Mapping):
            error = Failure(*(str(error.get(name, "")) for name in ("type", "message", "traceback")))
        elif error is not None:
            error = Failure(str(error))
        own = {
            "saga_id": self.saga_id,
            "saga": str(fields.get("saga", self.saga)),
            "error": error,
            "children": tuple(map(str, children)) if isinstance(children, list) else children,
        }
        record = Record(**{"seq": len(self.moves) + 1, "at": 0.0, **fields, **own})
        self.moves.append(LogEntry(record, frozenset(fields), line))

    def add_broken(self, why: str, line: int | None = None) -> None:
        """Add a broken entry. *why*: the reason why it is not a move."""
        record = Record(self.saga_id, self.saga, len(self.moves) + 1, "", "", "", 0.0)
        self.moves.append(LogEntry(record, frozenset(), line, why))


class Reader:
    """Reads the traces of the executions in a source.

    Args:
        names: The names of the sagas, to find them in the lines of a log.

    Attributes:
        ignored: The number of lines read so far that have no move.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.ignored: int = 0
        # In a line of a log, the saga's name comes between the formatter's prefix and the id. Both may contain spaces.
        known = "|".join(map(re.escape, names))
        self._known_saga = re.compile(rf"(?<![\w-])(?P<saga>{known}) (?P<saga_id>\S(?:.*?\S)?){_MOVE}")

    def traces(self, source: Source) -> Iterator[Trace]:
        """The trace of every execution in *source*.

        Raises:
            JournalError: The source cannot be read, or has no moves.
        """
        if is_journal(source):
            return (_trace_of(source, entry) for entry in source.entries())
        if isinstance(source, (str, Path)):
            return self._read_file(Path(source))
        if not isinstance(source, Iterable):
            raise JournalError(f"{source!r} has no transitions; pass a journal, records, dicts or lines")
        return self._read(source, "")

    def _read_file(self, path: Path) -> Iterator[Trace]:
        yield from self._read(read_lines(path), str(path))

    def _read(self, items: Iterable[Any], path: str) -> Iterator[Trace]:
        """The traces in *items*. *path*: the file, for messages.

        An item can be a whole exported execution, which is yielded immediately. Or an item is a single move, such as a
        line of a log. The executions that are collected from such moves are yielded at the end.
        """
        by_moves: dict[str, Trace] = {}
        exported = number = 0
        for number, each in enumerate(items, 1):
            item = each.decode("utf-8", "replace") if isinstance(each, bytes) else each
            line = number if isinstance(item, str) else None
            if isinstance(item, str):
                item = self._parse(item, f"{path}, line {number}" if path else f"line {number}")
            if isinstance(item, Record):
                by_moves.setdefault(item.saga_id, Trace(item.saga_id, item.saga)).moves.append(LogEntry(item))
            elif not isinstance(item, Mapping):
                raise JournalError(f"{item!r} has no transition; pass records, dicts or lines of text")
            elif "history" in item:
                exported += 1
                yield _exported(item, line)
            elif "event" in item or "saga_event" in item:
                move = {_LOGGED.get(name, name): value for name, value in item.items()}
                saga_id, saga = str(move.get("saga_id", "")), str(move.get("saga", ""))
                by_moves.setdefault(saga_id, Trace(saga_id, saga)).add(move, line)
            else:
                self.ignored += 1
        if number and not exported and not by_moves:
            raise JournalError(
                f"{f'{path}: ' if path else ''}none of its {number} lines has a transition. Pass the output of "
                f"`fsm-mediator export`, or the lines of LoggingObserver"
            )
        yield from by_moves.values()

    def _parse(self, line: str, place: str) -> Any:
        """A line of an export or of a log, as a mapping. The mapping is empty if the line has no move."""
        if line.lstrip().startswith("{"):
            try:
                return json.loads(line)
            except ValueError as error:
                raise JournalError(f"{place} is no JSON: {error}") from error
        match = self._known_saga.search(line) or _ANY_SAGA.search(line)
        # A log has the attempt's number only if it is at least 1.
        return {} if match is None else {**match.groupdict(), "attempt": int(match["attempt"] or 0)}


def reread(source: Source, saga_id: str) -> Trace | None:
    """Read an execution again, because its records may have changed.

    None if *source* is not a journal, or has no execution with this id.
    """
    if not is_journal(source):
        return None
    entry = source.find(saga_id)
    return None if entry is None else _trace_of(source, entry)


def _trace_of(journal: Journal, entry: Entry) -> Trace:
    start = entry.acceptance
    trace = Trace(entry.saga_id, start.saga, start.version, start.fingerprint, entry.state, start.parent)
    if start.payload is UNREADABLE:
        trace.add_broken("its payload cannot be read: the row is damaged, or nested too deeply")
        return trace
    try:
        # Records that were made after *entry* was read are omitted, because they lead to another state.
        trace.moves += map(LogEntry, journal.records(entry.saga_id)[: entry.seq])
        planned = planned_of(journal, entry.saga_id)
        if planned is not None:
            trace.planned = planned.first, planned.end, planned.ended is not None
    except JournalError as error:  # becomes a violation, so that the other executions are still checked
        trace.add_broken(f"its records cannot be read: {error}")
    return trace


def _exported(item: Mapping[str, Any], line: int | None) -> Trace:
    names = ("version", "fingerprint", "state", "parent")
    known: dict[str, Any] = {name: str(item[name]) for name in names if item.get(name) is not None}
    trace = Trace(str(item.get("saga_id", "")), str(item.get("saga", "")), **known, line=line)
    planned = item.get("planned")
    if isinstance(planned, Mapping):
        trace.planned = int(planned["first"]), int(planned["end"]), planned["ended"] is not None
    history = item["history"]
    for move in history if isinstance(history, list) else [history]:
        trace.add(move, line)
    return trace
