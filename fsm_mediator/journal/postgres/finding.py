"""FindingTables: finds executions in a PostgreSQL journal by indexes, in pages."""

# ruff: noqa: S608 - statements are put together from constants; values are always parameters

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fsm_mediator.journal.attributes import Scalar, attribute_text
from fsm_mediator.journal.finding import FAILURES, Filter, conditions, full_page, place_of_cursor
from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.postgres.reading import JournalReader
from fsm_mediator.journal.protocol import Entry


def without_escapes(details: str) -> str:
    """The SQL of a record's details, with ``?`` in place of every Unicode escape.

    When PostgreSQL looks up one text in JSON, it decodes all texts in the JSON. It refuses the JSON if a text has a
    character that PostgreSQL cannot store, such as NUL.
    """
    escapes = rf"regexp_replace({details}, '(\\\\)|\\u....', '\1?', 'g')"
    return rf"(CASE WHEN strpos({details}, '\u') > 0 THEN {escapes} ELSE {details} END)"


def _of_failure(what: str) -> str:
    """The SQL for a value of the record that is the execution's failure: see `Filter`.

    *what* is the SQL that selects the value from the record's details.
    """
    details = f"{without_escapes('x.details')}::json"
    return f"""(
        SELECT {details} {what} FROM journal.records x
        WHERE x.execution = e.number AND json_typeof({details} -> 'error') = 'array'
        ORDER BY x.event IN ({", ".join(map(repr, FAILURES))}) DESC, x.seq DESC LIMIT 1)"""


_ERROR: Final = _of_failure("-> 'error' ->> 0")
_STEP: Final = f"""
    CASE WHEN strpos(e.state, '.') > 0 THEN substr(e.state, strpos(e.state, '.') + 1)
        ELSE {_of_failure("->> 'step'")} END"""
_TEMPLATES: Final = {
    "states": f"EXISTS (SELECT 1 FROM unnest(%s::text[]) AS v WHERE v IN (e.state, {sql.PHASE}))",
    "since": "e.changed_at >= %s",
    "until": "e.changed_at < %s",
    "parent": "e.parent = %s",
    "text": "strpos(e.saga_id, %s) > 0",
    "error": f"(SELECT f = v OR right(f, length(v) + 1) = '.' || v FROM (SELECT {_ERROR} AS f, %s::text AS v) AS x)",
    "step": f"{_STEP} = %s",
    "attribute": """EXISTS (
        SELECT 1 FROM journal.attributes t WHERE t.execution = e.number AND t.name = %s AND t.value = %s)""",
}
_KEYS: Final = {
    None: "''",
    "state": "e.state",
    "saga": "e.saga",
    "version": "e.version",
    "error": _ERROR,
    "step": _STEP,
}
_FROM: Final = "SELECT e.number FROM journal.executions e WHERE e.number < %s"
_NEWEST: Final = "ORDER BY e.number DESC LIMIT %s"
_LISTED: Final = f"{sql.ENTRIES} WHERE e.number = ANY(%s::bigint[]) ORDER BY e.number DESC"
NEWEST_BY_PHASE: Final = f"""
    SELECT n.number FROM unnest(%s::text[]) AS p (phase) CROSS JOIN LATERAL (
        SELECT number FROM journal.executions WHERE parked = p.phase ORDER BY number DESC LIMIT %s) AS n
    UNION ALL SELECT number FROM (
        SELECT e.number, row_number() OVER (PARTITION BY {sql.PHASE} ORDER BY e.number DESC) AS place
        FROM journal.executions e
        WHERE e.ended_at IS NULL AND e.driver IS NOT NULL AND {sql.PHASE} = ANY(%s::text[])) AS owned
    WHERE place <= %s"""
_ATTRIBUTES: Final = """
    SELECT e.saga_id, t.name, t.value FROM journal.attributes t JOIN journal.executions e ON e.number = t.execution
    WHERE e.saga_id = ANY(%s) ORDER BY e.number, t.name"""


class FindingTables(JournalReader):
    """The methods with which `PostgresJournal` finds and counts executions: see `FindingJournal`."""

    def search(self, chosen: Filter, after: str | None = None, limit: int = 100) -> list[Entry]:
        """List the executions that fit a filter: see `FindingJournal.search`."""
        rows = full_page(
            lambda after, left: self._numbers_of(chosen, after, left),
            lambda numbers: self._connections.read(_LISTED, (numbers,)),
            after,
            limit,
        )
        entries = self._entries_of(rows)
        return [msgspec.structs.replace(entry, cursor=str(row[0])) for row, entry in zip(rows, entries, strict=True)]

    def newest_by_phase(self, phases: Sequence[str], limit: int) -> list[Entry]:
        """For each phase in *phases*: the newest executions that have not ended.

        For each phase, these are at most *limit* executions with an owner, and *limit* without an owner.
        """
        numbers = self._all(NEWEST_BY_PHASE, list(phases), limit, list(phases), limit)
        return self._entries_of(self._connections.read(_LISTED, (numbers,)))

    def left_alone(self, at: float, limit: int) -> list[Entry]:
        """At most *limit* executions that have no owner although a driver should have claimed them before time *at*."""
        numbers = [number for number, _ in self._connections.read(sql.UNOWNED, (at, [], limit))]
        return self._entries_of(self._connections.read(_LISTED, (numbers,)))

    def count_after(self, chosen: Filter, after: str | None, most: int) -> int:
        """Count the executions that fit and are older than a cursor: see `FindingJournal.count_after`."""
        return len(self._numbers_of(chosen, after, most))

    def count(self, chosen: Filter, by: str | None = None) -> dict[str, int]:
        """Count the executions that fit a filter: see `FindingJournal.count`."""
        where, values = _asked(chosen)
        query = f"SELECT {_KEYS[by]} AS key, count(*) FROM journal.executions e WHERE true{where} GROUP BY 1"
        return {key or "": count for key, count in self._connections.read(query, values)}

    def attributes(self, saga_ids: Sequence[str]) -> dict[str, dict[str, Scalar]]:
        """The attributes of executions, by id: see `FindingJournal.attributes`."""
        found: dict[str, dict[str, Scalar]] = {}
        for saga_id, name, value in self._connections.read(_ATTRIBUTES, (list(saga_ids),)):
            found.setdefault(saga_id, {})[name] = msgspec.json.decode(value)
        return found

    def _numbers_of(self, chosen: Filter, after: str | None, limit: int) -> list[int]:
        """The numbers of at most *limit* executions that fit *chosen*, newest first."""
        below = 2**63 - 1 if after is None else place_of_cursor(after)
        limit = max(0, limit)
        where, values = _asked(chosen)
        if chosen.attributes:
            name, value = chosen.attributes[0]
            query = f"""
                SELECT e.number FROM journal.attributes t JOIN journal.executions e ON e.number = t.execution
                WHERE t.name = %s AND t.value = %s AND t.execution < %s{where} ORDER BY t.execution DESC LIMIT %s"""
            return self._all(query, name, attribute_text(value), below, *values, limit)
        if chosen.parent is not None:
            return self._all(f"{_FROM}{where} {_NEWEST}", below, *values, limit)
        found = []
        for owner in ("driver IS NULL", "driver IS NOT NULL"):
            query = f"{_FROM} AND e.ended_at IS NULL AND e.{owner}{where} {_NEWEST}"
            found += self._all(query, below, *values, limit)
        if chosen.may_have_ended:
            ended = " AND e.ended_at IS NOT NULL" + (" AND e.failed" if chosen.failed_alone else "")
            if chosen.since is not None or chosen.until is not None:
                ended += " AND e.ended_at >= %s AND e.ended_at < %s"
                since, until = chosen.since, chosen.until
                values = ["-Infinity" if since is None else since, "Infinity" if until is None else until, *values]
            found += self._all(f"{_FROM}{ended}{where} {_NEWEST}", below, *values, limit)
        return sorted(set(found), reverse=True)[:limit]  # both queries find an execution that ends in between

    def _all(self, query: str, *parameters: Any) -> list[int]:
        return [number for (number,) in self._connections.read(query, parameters)]


def _asked(chosen: Filter) -> tuple[str, list[Any]]:
    """The conditions of *chosen* on an execution, as SQL, and the parameters of the SQL."""
    where, values = conditions(chosen, _TEMPLATES, "%s", list)
    for name in ("saga", "version"):
        if (value := getattr(chosen, name)) is not None:
            where, values = f" AND e.{name} = %s{where}", [value, *values]
    return where, values
