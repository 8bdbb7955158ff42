"""Batch: adds many changes of a journal to the counts of a side store, in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from fsm_mediator.journal.finding import FAILURES
from fsm_mediator.journal.following import Move
from fsm_mediator.states import PENDING, path_of
from fsm_mediator.statistics import side_tables as sql
from fsm_mediator.statistics.durations import size_of
from fsm_mediator.statistics.machines import samples
from fsm_mediator.statistics.numbers import span_of
from fsm_mediator.statistics.side_tables import Tables

_LOADED: Final = 500
"""The maximum number of executions that one query reads. SQLite always allows 999 parameters in a statement."""


class _Made(NamedTuple):
    """A record with the fields that a side store keeps. `samples` reads these fields."""

    event: str
    source: str
    target: str
    at: float
    in_doubt: bool


class _Row:
    """An execution with the fields that a side store keeps."""

    def __init__(self, row: Sequence[Any]) -> None:
        self.saga_id, self.definition, self.is_branch, self.accepted_at, *more = row
        self.state, self.changed_at, self.error, self.step, self.failed_step, self.is_final, history = more
        self.history: list[tuple[int, float]] = msgspec.json.decode(history)

    def values(self, number: int) -> tuple[Any, ...]:
        """The values of the database row for the execution with this number."""
        history = msgspec.json.encode(self.history).decode()
        where = self.saga_id, self.definition, self.is_branch, self.accepted_at, self.state, self.changed_at
        return number, *where, self.error, self.step, self.failed_step, self.is_final, history

    @property
    def place(self) -> tuple[Any, ...]:
        """The key of the counter in which the execution is counted: definition, state, error, step and time span."""
        return self.definition, self.is_branch, self.state, self.error, self.step, span_of(self.changed_at)


class Batch:
    """Adds changes of a journal to the counts of a side store, in one transaction."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._moves = {row[0]: row[1:] for row in tables.read(sql.MOVES)}
        self._numbers: dict[Any, int] = {move: number for number, move in self._moves.items()}
        self._definitions: dict[tuple[str, str], int] = {}
        self._rows: dict[int, _Row | None] = {}
        self._kept: set[int] = set()
        self._removed: list[tuple[int, str]] = []
        self._samples: Counter[tuple[Any, ...]] = Counter()
        self._places: Counter[tuple[Any, ...]] = Counter()

    def count(self, moves: Sequence[Move]) -> None:
        """Count the changes *moves*, and write the new counts to the tables."""
        self._load({move.execution for move in moves})
        later: dict[int, list[Move]] = {}
        for move in moves:
            if move.seq > 0 and move.saga_id:
                later.setdefault(move.execution, []).append(move)
            elif move.seq <= 0:
                self._add(move.execution, later.pop(move.execution, []))
                self._forget(move.execution)
                if move.saga_id:
                    self._accept(move)
        for number, more in later.items():
            self._add(number, more)
        write = self._tables.write
        changed = [(*key, count) for key, count in self._samples.items() if count]
        write(sql.ADD_SAMPLES, changed)
        write(sql.DROP_SAMPLES, [row[:-1] for row in changed if row[-1] < 0])
        places = [(*key, count) for key, count in self._places.items() if count]
        write(sql.ADD_PLACES, places)
        write(sql.DROP_PLACES, [row[:-1] for row in places if row[-1] < 0])
        self._tables.remove_ids(self._removed)
        write(sql.REMOVE, [(number,) for number, _ in self._removed])
        kept = [(number, row) for number, row in self._rows.items() if row is not None]
        write(sql.KEEP, [row.values(number) for number, row in kept])
        self._tables.keep_ids([(number, row.saga_id) for number, row in kept if number not in self._kept])

    def _load(self, numbers: Iterable[int]) -> None:
        """Read the rows of the executions with these numbers from the tables into this batch."""
        ordered = sorted(numbers)
        for at in range(0, len(ordered), _LOADED):
            some = ordered[at : at + _LOADED]
            for number, *row in self._tables.read(sql.EXECUTIONS.format(", ".join("?" * len(some))), some):
                self._rows[number] = _Row(row)
                self._kept.add(number)

    def _accept(self, move: Move) -> None:
        key = move.saga, move.version
        if key not in self._definitions:
            self._tables.write(sql.DEFINE, [key])
            ((self._definitions[key],),) = self._tables.read(sql.DEFINITION, key)
        at = move.at
        row = _Row((move.saga_id, self._definitions[key], move.is_branch, at, PENDING, at, "", "", "", 0, b"[]"))
        self._rows[move.execution] = row
        self._places[row.place] += 1

    def _add(self, number: int, moves: Sequence[Move]) -> None:
        """Count the new records *moves* of the execution with this number."""
        row = self._rows.get(number)
        if row is None or not moves:
            return
        known = sum(1 for _ in self._samples_of(row))
        self._places[row.place] -= 1
        for move in moves:
            if move.seq == len(row.history) + 1:
                row.history.append((self._number_of(move), move.at))
                if move.error is not None and (move.event in FAILURES or not row.is_final):
                    row.error, row.failed_step = move.error, move.step or ""
                    row.is_final = int(move.event in FAILURES)
                row.state, row.changed_at = move.target, move.at
        row.step = path_of(row.state) or row.failed_step
        self._places[row.place] += 1
        for key in islice(self._samples_of(row), known, None):
            self._samples[key] += 1

    def _forget(self, number: int) -> None:
        """Subtract the execution with this number from the counts, because the journal has deleted it."""
        row = self._rows.get(number)
        if row is None:
            return
        self._places[row.place] -= 1
        self._samples.subtract(self._samples_of(row))
        self._rows[number] = None
        if number in self._kept:
            self._kept.discard(number)
            self._removed.append((number, row.saga_id))

    def _samples_of(self, row: _Row) -> Iterator[tuple[Any, ...]]:
        moves = ((self._moves[number], at) for number, at in row.history)
        made = (_Made(event, source, target, at, in_doubt) for (event, source, target, in_doubt), at in moves)
        for at, kind, name, seconds in samples(row.accepted_at, made):
            yield row.definition, span_of(at), kind, name, size_of(seconds)

    def _number_of(self, move: Move) -> int:
        key = move.event, move.source, move.target, move.in_doubt
        if key not in self._numbers:
            self._tables.write(sql.NAME_MOVE, [key])
            ((number,),) = self._tables.read(sql.MOVE, key)
            self._moves[number], self._numbers[key] = key, int(number)
        return self._numbers[key]
