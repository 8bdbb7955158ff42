"""FindingTables: finds executions in a SQLite journal by indexes, in pages.

An ended execution is in the indexes of ended executions from the time when its row is marked as ended: see ``schema``.
Rows are marked when their driver renews its lease, so a few ended executions are not marked yet. They are in the index
``in_hand`` with the running executions; a search reads this whole index.
"""

# ruff: noqa: S608 - statements are put together from constants; values are always parameters

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fsm_mediator.journal.attributes import Scalar, attribute_text
from fsm_mediator.journal.finding import FAILURES, Filter, conditions, full_page, place_of_cursor
from fsm_mediator.journal.protocol import Entry
from fsm_mediator.journal.sqlite import sql
from fsm_mediator.journal.sqlite.reading import JournalReader

NARROW: Final = 5000
"""If at most this many executions ended within the time span of a search, the search checks each of them. If more
ended, it searches a range of execution numbers.
"""

_LAST_RECORD: Final = """
    CROSS JOIN records r ON r.execution = e.number
        AND r.seq = (SELECT max(seq) FROM records WHERE execution = e.number)"""


def _of_failure(what: str) -> str:
    """The SQL for a value of the record that is the execution's failure: see `Filter`.

    *what* is the JSON path of the value in the record's details.
    """
    return f"""(
        SELECT json_extract(x.details, '$.{what}') FROM records x
        WHERE x.execution = e.number AND json_type(x.details, '$.error') = 'array'
        ORDER BY x.event IN ({", ".join(map(repr, FAILURES))}) DESC, x.seq DESC LIMIT 1)"""


_ERROR: Final = _of_failure("error[0]")
_STEP: Final = f"""
    iif(instr(r.target, '.'), substr(r.target, instr(r.target, '.') + 1), {_of_failure("step")})"""
_TEMPLATES: Final = {
    "states": f"EXISTS (SELECT 1 FROM json_each(?) WHERE value IN (r.target, {sql.PHASE}))",
    "since": "r.at >= ?",
    "until": "r.at < ?",
    "parent": "e.parent = ?",
    "text": "instr(e.saga_id, ?)",
    "error": f"(SELECT f = v OR substr(f, -length(v) - 1) = '.' || v FROM (SELECT {_ERROR} AS f, ? AS v))",
    "step": f"{_STEP} = ?",
    "attribute": "EXISTS (SELECT 1 FROM attributes t WHERE t.execution = e.number AND t.name = ? AND t.value = ?)",
}
_NEWEST: Final = "ORDER BY e.number DESC LIMIT ?"
_KEYS: Final = {
    None: "''",
    "state": "r.target",
    "saga": "d.saga",
    "version": "d.version",
    "error": _ERROR,
    "step": _STEP,
}
_DEFINITIONS: Final = """
    SELECT number FROM definitions WHERE (?1 IS NULL OR saga = ?1) AND (?2 IS NULL OR version = ?2)"""
_WITHIN: Final = "FROM executions INDEXED BY ended_by_time WHERE ended_at >= ? AND ended_at < ?"
PARKED: Final = f"""
    SELECT e.number FROM executions e INDEXED BY parked
    WHERE e.parked = ? AND e.ended_at IS NULL AND e.driver IS NULL {_NEWEST}"""
OWNED: Final = f"""
    SELECT e.number, {sql.PHASE} FROM executions e INDEXED BY in_hand {_LAST_RECORD}
    WHERE e.ended_at IS NULL AND e.driver IS NOT NULL"""
_ATTRIBUTES: Final = """
    SELECT e.saga_id, t.name, t.value FROM attributes t JOIN executions e ON e.number = t.execution
    WHERE e.saga_id IN (SELECT value FROM json_each(?)) ORDER BY e.number, t.name"""


class FindingTables(JournalReader):
    """The methods with which `SQLiteJournal` finds and counts executions: see `FindingJournal`."""

    def search(self, chosen: Filter, after: str | None = None, limit: int = 100) -> list[Entry]:
        """List the executions that fit a filter: see `FindingJournal.search`."""
        rows = full_page(
            lambda after, left: self._numbers_of(chosen, after, left),
            lambda numbers: self._read(sql.LISTED, (sql.as_json(numbers),)),
            after,
            limit,
        )
        entries = self._entries_of(rows)
        return [msgspec.structs.replace(entry, cursor=str(row[0])) for row, entry in zip(rows, entries, strict=True)]

    def newest_by_phase(self, phases: Sequence[str], limit: int) -> list[Entry]:
        """For each phase in *phases*: the newest executions that have not ended, at most *limit* of them."""
        found: dict[str, list[int]] = {phase: [] for phase in phases}
        for number, phase in self._read(OWNED):
            if phase in found:
                found[phase].append(number)
        newest = [sorted([*found[each], *self._all(PARKED, each, limit)])[-limit:] for each in phases]
        return self._entries_of(self._read(sql.LISTED, (sql.as_json(number for each in newest for number in each),)))

    def left_alone(self, at: float, limit: int) -> list[Entry]:
        """At most *limit* executions that have no owner although a driver should have claimed them before *at*.

        *at* is in seconds since the epoch. The method writes nothing.
        """
        numbers = [number for number, _ in self._read(sql.UNHELD, (at, "[]", limit))]
        return self._entries_of(self._read(sql.LISTED, (sql.as_json(numbers),)))

    def count_after(self, chosen: Filter, after: str | None, most: int) -> int:
        """Count the executions that fit and are older than a cursor: see `FindingJournal.count_after`."""
        return len(self._numbers_of(chosen, after, most))

    def count(self, chosen: Filter, by: str | None = None) -> dict[str, int]:
        """Count the executions that fit a filter: see `FindingJournal.count`."""
        where, values = conditions(chosen, _TEMPLATES, "?", sql.as_json)
        query = f"""
            SELECT {_KEYS[by]} AS key, count(*) FROM executions e {_LAST_RECORD}
                CROSS JOIN definitions d ON d.number = e.definition
            WHERE e.definition IN ({_DEFINITIONS}){where} GROUP BY key"""
        found = self._read(query, (chosen.saga, chosen.version, *values))
        return {key or "": count for key, count in found}

    def attributes(self, saga_ids: Sequence[str]) -> dict[str, dict[str, Scalar]]:
        """The attributes of executions, by id: see `FindingJournal.attributes`."""
        found: dict[str, dict[str, Scalar]] = {}
        for saga_id, name, value in self._read(_ATTRIBUTES, (sql.as_json(saga_ids),)):
            found.setdefault(saga_id, {})[name] = msgspec.json.decode(value)
        return found

    def _numbers_of(self, chosen: Filter, after: str | None, limit: int) -> list[int]:
        """The numbers of at most *limit* executions that fit *chosen*, newest first."""
        below = 2**63 - 1 if after is None else place_of_cursor(after)
        named = chosen.saga is not None or chosen.version is not None
        definitions = [number for (number,) in self._read(_DEFINITIONS, (chosen.saga, chosen.version))]
        where, values = conditions(chosen, _TEMPLATES, "?", sql.as_json)
        if named:
            where += " AND e.definition IN (SELECT value FROM json_each(?))"
            values.append(sql.as_json(definitions))
        if chosen.attributes or chosen.parent is not None:
            return self._looked_up(chosen, below, where, values, limit)
        in_hand = f"SELECT e.number FROM executions e INDEXED BY in_hand {_LAST_RECORD} WHERE e.ended_at IS NULL"
        found = self._all(f"{in_hand} AND e.number < ?{where} {_NEWEST}", below, *values, limit)
        if chosen.may_have_ended and definitions:
            found += self._ended(chosen, below, definitions if named else None, where, values, limit)
        return sorted(set(found), reverse=True)[: max(0, limit)]  # an execution may have ended between the two queries

    def _looked_up(self, chosen: Filter, below: int, where: str, values: Sequence[Any], limit: int) -> list[int]:
        """The numbers of executions that fit, found by the index of an attribute or of a parent's branches."""
        if chosen.attributes:
            name, value = chosen.attributes[0]
            table = "attributes t INDEXED BY attributes_by_value CROSS JOIN executions e ON e.number = t.execution"
            first, keys = "t.name = ? AND t.value = ? AND t.execution < ?", [name, attribute_text(value), below]
            order = "ORDER BY t.execution DESC LIMIT ?"
        else:
            table, order = "executions e INDEXED BY branches", _NEWEST
            first, keys = "e.parent = ? AND e.number < ?", [chosen.parent, below]
        query = f"SELECT e.number FROM {table} {_LAST_RECORD} WHERE {first}{where} {order}"
        return self._all(query, *keys, *values, limit)

    def _ended(
        self, chosen: Filter, below: int, definitions: list[int] | None, where: str, values: list[Any], limit: int
    ) -> list[int]:
        """The numbers of ended executions that fit *chosen*, at most *limit* for each definition."""
        if not chosen.failed_alone and (chosen.since is not None or chosen.until is not None):
            span = (
                -math.inf if chosen.since is None else chosen.since,
                9e999 if chosen.until is None else chosen.until,
            )
            near = self._all(f"SELECT number {_WITHIN} LIMIT ?", *span, NARROW + 1)
            if len(near) <= NARROW:
                query = f"""
                    SELECT e.number FROM json_each(?) k CROSS JOIN executions e ON e.number = k.value {_LAST_RECORD}
                    WHERE e.number < ?{where} {_NEWEST}"""
                return self._all(query, sql.as_json(near), below, *values, limit)
            if chosen.until is not None:
                ((highest,),) = self._read(f"SELECT max(number) {_WITHIN}", span)
                below = min(below, highest + 1)
            if chosen.since is not None:
                ((lowest,),) = self._read(f"SELECT min(number) {_WITHIN}", span)
                where, values = f" AND e.number >= ?{where}", [lowest, *values]
        if definitions is None and not chosen.failed_alone:
            query = f"SELECT e.number FROM executions e {_LAST_RECORD} WHERE e.ended_at IS NOT NULL AND e.number < ?"
            return self._all(f"{query}{where} {_NEWEST}", below, *values, limit)
        index = "ended_in_failed" if chosen.failed_alone else "ended_by_saga"
        failed = " AND e.failed = 1" if chosen.failed_alone else ""
        query = f"""
            SELECT e.number FROM executions e INDEXED BY {index} {_LAST_RECORD}
            WHERE e.definition = ? AND e.ended_at IS NOT NULL{failed} AND e.number < ?{where} {_NEWEST}"""
        every = definitions if definitions is not None else self._all(_DEFINITIONS, None, None)
        return [number for each in every for number in self._all(query, each, below, *values, limit)]

    def _all(self, query: str, *parameters: Any) -> list[int]:
        return [number for (number,) in self._read(query, parameters)]
