"""Damage: lost and unreadable records, rows that contradict their records, and the repair of such rows."""

# ruff: noqa: S608 - statements are put together from constants of this file

from __future__ import annotations

from typing import Final

from fsm_mediator.journal.postgres import sql
from fsm_mediator.journal.postgres.connections import Connections
from fsm_mediator.journal.rows import Row

_ONE: Final = "e.saga_id = %(saga_id)s"
_ALL: Final = "%(saga_id)s::text IS NULL"
_CHILDREN: Final = r"""substring(r.details FROM '"children":(\[[^]]*\]|\d+)}$')"""
"""The names of branches in a record as JSON, or the number of branches. This is the last field of the record."""
_PLACE: Final = "substr(r.target, strpos(r.target, '.') + 1)"
_GROUPS: Final = f"""
    (SELECT e.number, e.saga_id, {_PLACE} AS place, {_CHILDREN} AS children,
            e.saga_id || '/' || {_PLACE} || '.' AS prefix
        FROM journal.executions e JOIN journal.records r ON r.execution = e.number AND starts_with(r.target, 'waiting.')
            LEFT JOIN journal.records n ON n.execution = e.number AND n.seq = r.seq + 1
        WHERE {_ONE} AND n.event IS DISTINCT FROM 'rejected' -- else a cancel came before the branches were made
        OFFSET 0) AS g"""
"""The query for the groups with created branches. OFFSET keeps the planner from merging this query with the rest."""

_FAULTS: Final = rf"""
    SELECT e.saga_id, 'records are lost, or numbered wrongly' FROM journal.executions e
        WHERE {_ONE} AND (
            SELECT min(seq) <> 0 OR max(seq) <> count(*) - 1
            FROM journal.records WHERE execution = e.number) IS NOT FALSE
    UNION ALL
    SELECT e.saga_id, 'record ' || r.seq || ' cannot be decoded'
        FROM journal.executions e JOIN journal.records r ON r.execution = e.number
        WHERE {_ONE} AND NOT journal.is_json(details)
    UNION ALL
    SELECT e.saga_id, 'it is a branch of ''' || e.parent || ''', which is lost'
        FROM journal.executions e LEFT JOIN journal.executions p ON p.saga_id = e.parent
        WHERE {_ONE} AND e.parent IS NOT NULL AND p.number IS NULL
    UNION ALL
    SELECT saga_id, 'its branch ''' || prefix || c.value || ''' is lost'
        FROM {_GROUPS} CROSS JOIN json_array_elements_text(
            CASE WHEN starts_with(children, '[') THEN children ELSE '[]' END::json) AS c
        -- Counted, so that no plan reads a whole table to look for a few.
        WHERE (SELECT count(*) FROM journal.executions b WHERE b.saga_id = prefix || c.value)
            + (SELECT count(*) FROM journal.planned p WHERE p.execution = g.number AND p.saga_id = prefix || c.value)
            = 0
    UNION ALL
    SELECT saga_id, 'branches of ''' || place || ''' are lost'
        FROM {_GROUPS}
        WHERE children ~ '^\d' AND children <> (
            (SELECT count(*) FROM journal.executions b WHERE b.parent = g.saga_id AND starts_with(b.saga_id, prefix))
            + (SELECT count(*) FROM journal.planned b WHERE b.execution = g.number AND starts_with(b.saga_id, prefix))
        )::text
    UNION ALL
    SELECT e.saga_id, 'its planned branch ' || p.number || ' cannot be decoded'
        FROM journal.executions e JOIN journal.planned p ON p.execution = e.number
        WHERE {_ONE} AND NOT (journal.is_json(details) AND journal.is_json(coalesce(ended, '[]')))
    UNION ALL
    SELECT e.saga_id, 'its branch ''' || p.saga_id || ''' is planned, and exists'
        FROM journal.executions e JOIN journal.planned p ON p.execution = e.number
            JOIN journal.executions b ON b.saga_id = p.saga_id
        WHERE {_ONE}"""
_LAST_RECORD: Final = """
    CROSS JOIN LATERAL (
        SELECT seq, target, at FROM journal.records WHERE execution = e.number ORDER BY seq DESC LIMIT 1) AS r"""
_MAIL_COUNT: Final = "(SELECT count(*) FROM journal.inbox i WHERE i.execution = e.number)"
_HAS_ENDED, _PHASE = (text.replace("e.state", "r.target") for text in (sql.HAS_ENDED, sql.PHASE))
_CALLS_NO_DRIVER: Final = f"""
    e.ended_at IS NULL AND e.driver IS NULL AND e.attention IS NULL AND e.wake_at IS DISTINCT FROM 'Infinity'
    AND ({_PHASE} IN ('pending', 'executing', 'retrying', 'probing', 'retrying_compensation')
        OR ({_PHASE} = 'compensating'
            AND NOT EXISTS (SELECT 1 FROM journal.executions c WHERE c.parent = e.saga_id)))"""
_ROW_FAULTS: Final = f"""
    SELECT * FROM (
        SELECT e.saga_id, CASE
            WHEN e.ended_at IS NOT NULL AND NOT {_HAS_ENDED}
                THEN 'its row says that it has ended, and its last record leads to ''' || r.target || ''''
            WHEN (e.seq, e.state, e.changed_at) <> (r.seq, r.target, r.at)
                THEN 'its row says that it is in ''' || e.state || ''', and its last record leads to ''' || r.target
                    || ''''
            WHEN e.ended_at IS NULL AND e.driver IS NULL AND {_HAS_ENDED} AND NOT {sql.VERB_WAITS}
                THEN 'it has ended in ''' || r.target || ''', and its row does not say so'
            WHEN e.ended_at <> r.at THEN 'its row and its last record name different times of its end'
            WHEN e.ended_at IS NOT NULL AND {sql.VERB_WAITS} THEN 'a verb is in its inbox, and its row calls no driver'
            WHEN e.mail <> {_MAIL_COUNT} THEN 'the inbox has another number of items than is noted'
            WHEN {_CALLS_NO_DRIVER} THEN 'it is in ''' || r.target || ''', and its row calls no driver'
            END AS fault
        FROM journal.executions e {_LAST_RECORD} WHERE {_ONE}) AS f
    WHERE fault IS NOT NULL"""
"""Finds rows that contradict the data from which they are derived: the last record and the inbox."""

_LOCK: Final = "SELECT 1 FROM journal.executions WHERE saga_id = %(saga_id)s FOR UPDATE"
_DERIVE_ROW: Final = f"""
    UPDATE journal.executions x SET epoch = epoch + 1, state = o.target, seq = o.seq, changed_at = o.at, mail = o.mail,
        ended_at = CASE WHEN has_ended THEN o.at END, driver = CASE WHEN NOT has_ended THEN driver END,
        wake_at = CASE WHEN is_dormant THEN wake_at END,
        attention = CASE WHEN NOT (has_ended OR (is_dormant AND o.mail = 0)) THEN '-Infinity'::float8 END
    FROM (SELECT e.number, r.*, {_MAIL_COUNT} AS mail, e.wake_at IS NOT DISTINCT FROM 'Infinity' AS is_dormant,
            {_HAS_ENDED} AND NOT {sql.VERB_WAITS} AS has_ended
        FROM journal.executions e {_LAST_RECORD} WHERE {_ONE}) AS o
    WHERE x.number = o.number"""
"""Derives a row again from its records. If the execution has not ended and is not dormant, the row also calls a
driver, which replays the records and writes the rest of the row.
"""


def faults(connections: Connections, saga_id: str | None, *, rows_alone: bool = False) -> list[Row]:
    """The faults of one execution, or of all executions if *saga_id* is None.

    Each result has the id of the execution and a description. With *rows_alone*, only faults that `repair` can correct
    are returned.
    """
    queries = (_ROW_FAULTS,) if rows_alone else (_FAULTS, _ROW_FAULTS)
    parameters = {"saga_id": saga_id}
    chosen = [query if saga_id is not None else query.replace(_ONE, _ALL) for query in queries]
    return [row for query in chosen for row in connections.read(query, parameters)]


def repair(connections: Connections, saga_id: str) -> None:
    """Derive the row of an execution again if the row contradicts the execution's records or inbox."""
    parameters = {"saga_id": saga_id}
    with connections.session("written") as session, session.connection.transaction():
        session.execute(_LOCK, parameters)  # no other transaction changes the row meanwhile
        if session.execute(_ROW_FAULTS, parameters).fetchone() is not None:
            session.execute(_DERIVE_ROW, parameters)
