"""Reading: records, a journal, an export or a log as *traces*, one for each execution. Nothing is judged here.

A trace may know less than a record: a line of a log has no values and no due times. What was not told is not checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

from fsm_mediator.errors import JournalError
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
"""What can be read."""

_STATE: Final = rf"(?:{'|'.join(PHASES)})(?:\.[\w.-]+)?"
_REST: Final = (
    rf" (?P<event>{'|'.join(EVENTS)})(?: attempt (?P<attempt>\d+))?: (?P<source>{_STATE}) -> (?P<target>{_STATE})"
)
_ANY_SAGA: Final = re.compile(rf"(?P<saga>[\w./*-]+) (?P<saga_id>\S+){_REST}")


@attrs.frozen
class Told:
    """One move as far as it was told.

    Attributes:
        record: The move; what was not told has its default.
        fields: The names of the record's fields that were told.
        line: The line it was read from.
        broken: Why it is no move at all; None where it is one.
    """

    record: Record
    fields: frozenset[str]
    line: int | None = None
    broken: str | None = None


@attrs.define
class Trace:
    """What was told of one execution.

    Attributes:
        saga_id: The execution.
        saga: Its saga; empty where it was not told.
        version: The saga's version, where it was told.
        fingerprint: The saga's fingerprint, where it was told.
        state: Where the execution is said to stand now.
        parent: The execution that it is a branch of.
        moves: Its moves, in the order they were told.
        line: The line that tells of the execution itself.
    """

    saga_id: str
    saga: str
    version: str | None = None
    fingerprint: str | None = None
    state: str | None = None
    parent: str | None = None
    moves: list[Told] = attrs.field(factory=list)
    line: int | None = None


class Reading:
    """How a source is read.

    Attributes:
        ignored: How many lines told of no move.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.ignored = 0
        # An id may hold spaces, and so may what a formatter put before it: between them stands the saga's name.
        known = "|".join(map(re.escape, names))
        self._known = re.compile(rf"(?<![\w-])(?P<saga>{known}) (?P<saga_id>\S(?:.*?\S)?){_REST}")

    def logged(self, line: str) -> dict[str, Any] | None:
        """The move that a line of `LoggingObserver` tells of, whatever its formatter put before it."""
        match = self._known.search(line) or _ANY_SAGA.search(line)
        if match is None:
            return None
        told: dict[str, Any] = match.groupdict()
        told["attempt"] = int(told["attempt"] or 0)  # the line tells of attempts only from 1 on
        return told


ALL: Final = frozenset(Record.__struct_fields__)
_FROM_LOG_RECORD: Final[dict[Any, str]] = {
    "saga_seq": "seq",
    "saga_event": "event",
    "saga_source": "source",
    "saga_target": "target",
    "saga_step": "step",
    "saga_attempt": "attempt",
}
"""The fields that `LoggingObserver` puts into ``extra``: a log in JSON has them."""


def traces(source: Source, reading: Reading) -> Iterator[Trace]:
    """Every execution that *source* tells of.

    Raises:
        JournalError: It cannot be read, or is nothing that tells of moves.
    """
    if is_journal(source):
        return _of_journal(source)
    if isinstance(source, (str, Path)):
        return _of_file(Path(source), reading)
    if not isinstance(source, Iterable):
        raise JournalError(f"{source!r} tells of no moves; what can be checked are a journal, records, dicts and lines")
    return _of_things(source, reading, None)


def _of_journal(journal: Journal) -> Iterator[Trace]:
    for entry in journal.entries():
        yield _of_entry(journal, entry)


def again(source: Source, saga_id: str) -> Trace | None:
    """What a journal tells of the execution by now: others may drive it while the journal is read. None: nothing."""
    if not is_journal(source):
        return None
    entry = source.find(saga_id)
    return None if entry is None else _of_entry(source, entry)


def _of_entry(journal: Journal, entry: Entry) -> Trace:
    acceptance = entry.acceptance
    trace = Trace(
        entry.saga_id, acceptance.saga, acceptance.version, acceptance.fingerprint, entry.state, acceptance.parent
    )
    try:
        # Not those that came since: they lead to another state than the one that the entry tells.
        trace.moves += [Told(record, ALL) for record in journal.records(entry.saga_id)[: entry.seq]]
    except JournalError as error:  # one that cannot be read is found, and keeps none of the others from being read
        trace.moves.append(_broken(trace, None, f"its records cannot be read: {error}"))
    return trace


def _of_file(path: Path, reading: Reading) -> Iterator[Trace]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from _of_things(file, reading, str(path))
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror or error}") from error


def _of_things(things: Iterable[Any], reading: Reading, path: str | None) -> Iterator[Trace]:
    """Executions told whole, one at a time as they come; those told move by move, once all is read."""
    loose: dict[str, Trace] = {}
    found = False
    number = 0
    for number, each in enumerate(things, 1):
        given = each.decode("utf-8", "replace") if isinstance(each, bytes) else each
        line = number if isinstance(given, str) else None
        thing = _of_line(given, number, path, reading) if isinstance(given, str) else given
        if thing is None:
            reading.ignored += 1
        elif isinstance(thing, Record):
            loose.setdefault(thing.saga_id, Trace(thing.saga_id, thing.saga)).moves.append(Told(thing, ALL))
        elif isinstance(thing, Mapping) and "history" in thing:
            found = True
            yield _of_export(thing, line)
        elif isinstance(thing, Mapping) and _is_move(thing):
            told: dict[str, Any] = {_FROM_LOG_RECORD.get(name, name): value for name, value in thing.items()}
            saga_id, saga = str(told.get("saga_id", "")), str(told.get("saga", ""))
            trace = loose.setdefault(saga_id, Trace(saga_id, saga))
            trace.moves.append(_of_mapping(told, trace, line))
        elif isinstance(thing, Mapping):
            reading.ignored += 1
        else:
            raise JournalError(f"{thing!r} tells of no move; what can be checked are records, dicts and lines of text")
    if number and not found and not loose:
        where = f"{path}: none" if path else "none"
        raise JournalError(
            f"{where} of its {number} lines tells of a move. What can be read: what `fsm-mediator export` writes, and "
            f"the lines of LoggingObserver"
        )
    yield from loose.values()


def _of_line(text: str, number: int, path: str | None, reading: Reading) -> Mapping[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return reading.logged(text)
    try:
        found: Mapping[str, Any] = json.loads(text)
    except ValueError as error:
        raise JournalError(f"{f'{path}, ' if path else ''}line {number} is no JSON: {error}") from error
    return found


def _is_move(thing: Mapping[str, Any]) -> bool:
    return "event" in thing or "saga_event" in thing


def _of_export(thing: Mapping[str, Any], line: int | None) -> Trace:
    trace = Trace(
        str(thing.get("saga_id", "")),
        str(thing.get("saga", "")),
        _text(thing.get("version")),
        _text(thing.get("fingerprint")),
        _text(thing.get("state")),
        _text(thing.get("parent")),
        line=line,
    )
    history = thing["history"]
    for move in history if isinstance(history, list) else [history]:
        if isinstance(move, Mapping):
            trace.moves.append(_of_mapping(move, trace, line))
        else:
            trace.moves.append(_broken(trace, line, f"it is {move!r}, which is no record"))
    return trace


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _of_mapping(told: Mapping[str, Any], trace: Trace, line: int | None) -> Told:
    given: dict[str, Any] = {name: value for name, value in told.items() if name in ALL}
    missing = [name for name in ("event", "source", "target") if not isinstance(given.get(name), str)]
    if missing:
        return _broken(trace, line, f"it tells no {' and no '.join(missing)}")
    for name, types in _TYPES.items():
        if name in given and not isinstance(given[name], types):
            return _broken(trace, line, f"its {name} is {given[name]!r}")
    fields = frozenset(given)
    given.setdefault("seq", len(trace.moves) + 1)
    given.setdefault("at", 0.0)
    error = given.get("error")
    if isinstance(error, Mapping):
        given["error"] = Failure(*(str(error.get(name, "")) for name in ("type", "message", "traceback")))
    elif error is not None:
        given["error"] = Failure(str(error))
    if isinstance(given.get("children"), list):
        given["children"] = tuple(map(str, given["children"]))
    given["saga_id"], given["saga"] = trace.saga_id, str(given.get("saga", trace.saga))
    return Told(Record(**given), fields, line)


_TYPES: Final[dict[str, Any]] = {
    "seq": int,
    "attempt": int,
    "at": (int, float),
    "due_at": (int, float, type(None)),
    "step": (str, type(None)),
    "in_doubt": bool,
    "abandoned": bool,
    "reason": (str, type(None)),
    "children": (list, tuple, type(None)),
}


def _broken(trace: Trace, line: int | None, why: str) -> Told:
    record = Record(trace.saga_id, trace.saga, len(trace.moves) + 1, "", "", "", 0.0)
    return Told(record, frozenset(), line, why)
