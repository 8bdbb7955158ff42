"""The SQL of a SQLite journal. Each statement is a constant text, so that SQLite prepares it once per connection."""

# ruff: noqa: S608 - statements are put together from constants of this file; values are always parameters

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from fsm_mediator.journal.sqlite.many_rows import of_many
from fsm_mediator.records import VERBS
from fsm_mediator.states import ENDED


def as_json(values: Iterable[Any]) -> str:
    """Return *values* as a JSON list, which is one parameter of a statement."""
    return msgspec.json.encode(list(values)).decode()


_LAST: Final = "(SELECT max(seq) FROM records WHERE execution = e.number)"
_WITH_LAST_RECORD: Final = f"executions e JOIN records r ON r.execution = e.number AND r.seq = {_LAST}"
_ENDED: Final = f"r.target IN ({', '.join(map(repr, sorted(ENDED)))})"
_JUST_ENDED: Final = f"(e.epoch = 1 AND {_ENDED})"
"""Whether an execution ended in its first epoch. Then it has no owner, although its row may name one: see `schema`."""
_OWNER: Final = f"iif({_JUST_ENDED}, NULL, e.driver)"
PHASE: Final = "substr(r.target, 1, instr(r.target || '.', '.') - 1)"

# Executions, to write to them.

LOAD: Final = f"""
    SELECT
        (SELECT json_group_array(json_array(
                k.key, e.number, e.epoch, {_OWNER}, e.mail, json(iif(e.wake_at IS NULL, 'false', 'true')), r.seq))
            FROM json_each(?) k JOIN {_WITH_LAST_RECORD} WHERE e.saga_id = k.value),
        (SELECT coalesce(max(number), 0) FROM executions)"""
LOAD_ONE: Final = f"""
    SELECT e.number, e.epoch, {_OWNER}, e.mail, e.wake_at IS NOT NULL, r.seq
    FROM {_WITH_LAST_RECORD} WHERE e.saga_id = ?"""
HIGHEST_NUMBER: Final = "SELECT coalesce(max(number), 0) FROM executions"
LAST_RECORD: Final = "SELECT target, at FROM records WHERE execution = ? ORDER BY seq DESC LIMIT 1"
EXECUTION: Final = f"""
    SELECT e.number, e.epoch, {_OWNER}, e.mail, e.wake_at, r.target, r.at
    FROM {_WITH_LAST_RECORD} WHERE e.saga_id = ?"""
DUE_AT: Final = f"SELECT r.target, json_extract(r.details, '$.due_at') FROM {_WITH_LAST_RECORD} WHERE e.saga_id = ?"
OWNED_BY: Final = f"""
    SELECT e.number, e.epoch, e.driver, e.mail, e.wake_at, r.target, r.at FROM {_WITH_LAST_RECORD}
    WHERE e.ended_at IS NULL AND e.driver = ?"""
_VERBS: Final = f"({', '.join(map(repr, sorted(VERBS)))})"
_VERB_WAITS: Final = f"EXISTS (SELECT 1 FROM inbox i WHERE i.execution = e.number AND i.kind IN {_VERBS})"
_HAS_VERB: Final = f"(e.mail > 0 AND {_VERB_WAITS})"
_TO_MARK_ENDED: Final = f"e.ended_at IS NULL AND e.driver = ? AND {_ENDED} AND (e.epoch = 1 OR ?) AND NOT {_HAS_VERB}"
"""Selects ended executions with a row that names this driver as the owner. If the driver is surely dead (the second
parameter), it also selects executions that the driver claimed for an undo and did not change. An execution with a verb
in its inbox is never selected."""
ENDED_UNDER: Final = f"SELECT 1 FROM {_WITH_LAST_RECORD} WHERE {_TO_MARK_ENDED} LIMIT 1"
MARK_ENDED: Final = f"""
    UPDATE executions SET driver = NULL, wake_at = NULL, attention = NULL, ended_at = o.at, failed = o.failed
    FROM (
        SELECT e.number, r.at, r.target = 'failed' AS failed
        FROM {_WITH_LAST_RECORD} WHERE {_TO_MARK_ENDED} LIMIT 1000) AS o
    WHERE executions.number = o.number"""

APPEND: Final = """
    INSERT INTO records (execution, seq, event, source, target, at, details)
    SELECT number, ?, ?, ?, ?, ?, ? FROM executions
    WHERE number = ? AND saga_id = ? AND epoch = ? AND driver = ? AND mail = 0 AND wake_at IS NULL"""
COUNT_OWNED: Final = """
    SELECT count(*) FROM json_each(?) k JOIN executions e ON e.number = CAST(k.key AS INTEGER)
    WHERE e.saga_id = k.value AND e.epoch = ? AND e.driver = ? AND e.mail = 0 AND e.wake_at IS NULL"""
OPEN: Final = of_many(
    """
    INSERT INTO executions
        (number, saga_id, definition, deadline_at, parent, driver, wake_at, attention, ended_at, failed, parked, epoch,
        mail)
    VALUES {}""",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0)",
)
RECORD: Final = of_many(
    "INSERT INTO records (execution, seq, event, source, target, at, details) VALUES {}", "(?, ?, ?, ?, ?, ?, ?)"
)
UPDATE_ROW: Final = of_many(
    """
    UPDATE executions SET driver = new.column1, wake_at = new.column2, attention = new.column3, mail = new.column4,
        ended_at = new.column5, failed = new.column6, parked = new.column7
    FROM (VALUES {}) AS new WHERE number = new.column8""",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
)
UPDATE_ROW[1] = """
    UPDATE executions SET driver = ?, wake_at = ?, attention = ?, mail = ?, ended_at = ?, failed = ?, parked = ?
    WHERE number = ?"""
OPEN_HELD: Final = """
    INSERT INTO executions (saga_id, definition, driver, epoch, mail)
    SELECT ?1, ?2, ?3, 1, 0
    WHERE EXISTS (SELECT 1 FROM drivers WHERE number = ?3) AND NOT EXISTS (SELECT 1 FROM forgotten WHERE saga_id = ?1)
    ON CONFLICT (saga_id) DO NOTHING"""
OPEN_NEXT: Final = of_many(
    """
    INSERT INTO executions (number, saga_id, definition, driver, epoch, mail)
    SELECT column1, column2, column3, column4, 1, 0 FROM (VALUES {})
    WHERE column2 NOT IN (SELECT saga_id FROM forgotten)
    ON CONFLICT (saga_id) DO NOTHING""",
    "(?, ?, ?, ?)",
)
UNDO_OPEN: Final = "DELETE FROM executions WHERE number > ?"
WAKE: Final = of_many(
    """
    UPDATE executions SET wake_at = new.column1
    FROM (VALUES {}) AS new WHERE number = new.column2 AND wake_at IS NOT new.column1""",
    "(?, ?)",
)
WAKE[1] = "UPDATE executions SET wake_at = ?1 WHERE number = ?2 AND wake_at IS NOT ?1"
KEEP_COMMIT: Final = "UPDATE executions SET token = ? WHERE number = ?"
LAST_COMMIT: Final = "SELECT token FROM executions WHERE number = ?"
ROWS_FROM: Final = """
    SELECT seq, event, source, target, at, details FROM records WHERE execution = ? AND seq >= ? ORDER BY seq"""
COUNT_RECOVERIES: Final = of_many(
    """
    UPDATE executions SET recoveries = new.column1, recoveries_here = new.column2
    FROM (VALUES {}) AS new WHERE number = new.column3""",
    "(?, ?, ?)",
)
COUNT_RECOVERIES[1] = "UPDATE executions SET recoveries = ?, recoveries_here = ? WHERE number = ?"
CLAIMED: Final = "SELECT abandoned FROM executions WHERE number = ?"
OWNER_OF_EACH: Final = f"""
    SELECT e.saga_id, e.number, {_OWNER} FROM json_each(?) k JOIN {_WITH_LAST_RECORD} WHERE e.saga_id = k.value"""

# Planned branches. The number of the new execution is computed from the branch's number in its group.

PLAN: Final = of_many(
    """
    INSERT INTO planned (execution, number, saga_id, definition, deadline_at, dormant, at, details) VALUES {}""",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
)
_TO_CREATE: Final = "FROM planned WHERE execution = ? AND number >= ? AND number < ? AND ended IS NULL"
CREATE: Final = f"""
    INSERT INTO executions (number, saga_id, definition, deadline_at, parent, wake_at, attention, epoch, mail, parked)
    SELECT ? + number, saga_id, definition, deadline_at, ?, iif(dormant, 9e999, NULL), iif(dormant, NULL, -1e300), 1, 0,
        'pending'
    {_TO_CREATE}"""
CREATED_RECORD: Final = f"""
    INSERT INTO records (execution, seq, event, source, target, at, details)
    SELECT ? + number, 0, 'accepted', '', 'pending', at, details {_TO_CREATE}"""
CREATED: Final = f"DELETE {_TO_CREATE}"
END_PLANNED: Final = "UPDATE planned SET ended = ? WHERE execution = ? AND ended IS NULL"
_PLANNED_OF: Final = "FROM planned WHERE execution = e.number"
PLANNED: Final = f"""
    SELECT (SELECT min(number) {_PLANNED_OF}), (SELECT max(number) + 1 {_PLANNED_OF}),
        (SELECT min(number) {_PLANNED_OF} AND dormant), (SELECT ended {_PLANNED_OF} LIMIT 1)
    FROM executions e WHERE e.saga_id = ? AND EXISTS (SELECT 1 {_PLANNED_OF})"""

# Definitions.

DEFINITION: Final = "SELECT number FROM definitions WHERE saga = ? AND version = ? AND fingerprint = ?"
DEFINE: Final = "INSERT INTO definitions (saga, version, fingerprint) VALUES (?, ?, ?)"

# The inbox.

POST: Final = """
    INSERT INTO inbox (execution, kind, name, value, reason, actor, carrier, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
POSTED: Final = "SELECT 1 FROM posted WHERE token = ?"
KEEP_POST: Final = "INSERT INTO posted (token, execution) VALUES (?, ?)"
TAKE: Final = "DELETE FROM inbox WHERE number = ? AND execution = ?"
MAIL: Final = """
    SELECT number, kind, name, value, reason, actor, carrier, at FROM inbox WHERE execution = ? ORDER BY number"""
UNSEEN: Final = f"""
    SELECT EXISTS (SELECT 1 FROM inbox WHERE execution = ? AND number > ? AND (kind GLOB ? OR kind IN {_VERBS}))"""
"""Whether an inbox has a verb, or an item of a given kind, with a number above a limit. EXISTS stops at the first."""
VERB_IN: Final = f"""
    SELECT 1 FROM inbox WHERE execution = ? AND kind IN {_VERBS} AND name = ?
    UNION ALL SELECT 1 FROM answers WHERE name = ?"""
MAIL_OF: Final = """
    SELECT i.number, kind, name, value, reason, actor, carrier, at
    FROM inbox i JOIN executions e ON e.number = i.execution WHERE e.saga_id = ? AND i.number > ? ORDER BY i.number"""

# Drivers.

DRIVER: Final = "SELECT number FROM drivers WHERE id = ?"
COUNT_DRIVERS: Final = "SELECT count(*) FROM drivers WHERE number IN (SELECT value FROM json_each(?))"
_DRIVER_COLUMNS: Final = "beat_at, lease, id, host, boot_id, pid_namespace, pid, started"
DRIVERS: Final = f"SELECT number, {_DRIVER_COLUMNS} FROM drivers"
DRIVER_ROW: Final = f"SELECT {_DRIVER_COLUMNS} FROM drivers WHERE number = ?"
OWNERS: Final = f"""
    {DRIVERS} d WHERE EXISTS (SELECT 1 FROM executions e WHERE e.ended_at IS NULL AND e.driver = d.number)"""
IDLE_DRIVERS: Final = f"""
    {DRIVERS} d WHERE NOT EXISTS (SELECT 1 FROM executions e WHERE e.ended_at IS NULL AND e.driver = d.number)"""
ENLIST: Final = """
    INSERT INTO drivers (id, host, boot_id, pid_namespace, pid, started, beat_at, lease) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET host = excluded.host, boot_id = excluded.boot_id,
        pid_namespace = excluded.pid_namespace, pid = excluded.pid, started = excluded.started,
        beat_at = excluded.beat_at, lease = excluded.lease"""
BEAT: Final = "UPDATE drivers SET beat_at = ?, lease = ? WHERE id = ?"
LAST_BEAT: Final = "SELECT number, beat_at FROM drivers WHERE id = ?"
WITH_MAIL: Final = """
    SELECT saga_id FROM executions WHERE ended_at IS NULL AND driver = ? AND attention IS NOT NULL ORDER BY number"""
HELD: Final = f"""
    SELECT e.saga_id FROM {_WITH_LAST_RECORD}
    WHERE e.ended_at IS NULL AND e.driver = ? AND NOT {_JUST_ENDED} ORDER BY e.number"""
DELETE_DRIVER: Final = "DELETE FROM drivers WHERE number = ?"
DELETE_DRIVERS: Final = f"""
    DELETE FROM drivers WHERE number IN (SELECT value FROM json_each(?))
    AND number IN (SELECT number FROM ({IDLE_DRIVERS}))"""

# Answers to operators, and the definitions that drivers know.

ANSWER: Final = "SELECT number, name, seq, refusal, at FROM answers WHERE name = ?"
KEEP_ANSWER: Final = "INSERT OR REPLACE INTO answers (number, name, seq, refusal, at) VALUES (?, ?, ?, ?, ?)"
FORGET_ANSWER: Final = "DELETE FROM answers WHERE name = ?"
FORGET_ANSWERS: Final = "DELETE FROM answers WHERE at < ?"
FORGET_KNOWN: Final = "DELETE FROM known WHERE driver = (SELECT number FROM drivers WHERE id = ?)"
KNOW: Final = "INSERT OR IGNORE INTO known (driver, fingerprint) SELECT number, ? FROM drivers WHERE id = ?"
KNOWN: Final = "SELECT driver, fingerprint FROM known"
KEEP_SHAPE: Final = "INSERT OR IGNORE INTO shapes (fingerprint, shape) VALUES (?, ?)"
SHAPE: Final = "SELECT shape FROM shapes WHERE fingerprint = ?"
NOTE_FAULT: Final = """
    INSERT OR REPLACE INTO faults (execution, epoch, type, field, message)
    SELECT number, ?, ?, ?, ? FROM executions WHERE saga_id = ?"""
NOTED_FAULTS: Final = f"""
    SELECT e.saga_id, f.type, f.field, f.message
    FROM faults f CROSS JOIN executions e ON e.number = f.execution AND e.epoch = f.epoch
        CROSS JOIN records r ON r.execution = e.number AND r.seq = {_LAST}
    WHERE NOT {_ENDED}"""

# Limits and their slots. Slots of an earlier epoch and slots of a dead driver do not count.

DECLARE: Final = "INSERT OR REPLACE INTO limits (name, driver, most) SELECT ?, number, ? FROM drivers WHERE id = ?"
LIMITS_OF: Final = "SELECT name FROM limits WHERE driver = ?"
DECLARED: Final = f"""
    SELECT number, most, {_DRIVER_COLUMNS} FROM limits l JOIN drivers d ON d.number = l.driver WHERE name = ?"""
_LEAST: Final = "(SELECT coalesce(min(most), 1 << 62) FROM limits WHERE name = ?)"
HAS_ROOM: Final = f"""
    SELECT {_LEAST} > (SELECT count(*) FROM (SELECT 1 FROM slots WHERE name = ? AND execution IS NOT ? LIMIT {_LEAST}))
    AND NOT EXISTS (SELECT 1 FROM slots WHERE name = ? AND begun = 0)"""
SLOT_OF: Final = """
    SELECT number, begun FROM slots WHERE execution = ? AND name = ? AND (epoch = ? OR NOT begun)"""
_OWNED: Final = """
    slots s JOIN executions e ON e.number = s.execution AND e.epoch = s.epoch
    WHERE s.name = ? AND e.driver IN (SELECT value FROM json_each(?))"""
BEGUN: Final = f"SELECT count(*) FROM {_OWNED} AND begun = 1 AND s.execution IS NOT ?"
QUEUE: Final = f"""
    SELECT s.number, e.saga_id, e.driver, overtaken FROM {_OWNED} AND begun = 0 AND s.number < ?
        AND s.execution IS NOT ? AND (ignored_at > ? OR e.driver = ?) ORDER BY s.number LIMIT ?"""
ARRIVE: Final = "INSERT OR REPLACE INTO slots (execution, name, epoch, begun) VALUES (?, ?, ?, ?)"
KEEP_PLACE: Final = "UPDATE slots SET epoch = ?, begun = ? WHERE number = ? AND (epoch, begun) IS NOT (?, ?)"
NOTICE: Final = "UPDATE slots SET overtaken = 0, ignored_at = 9e999 WHERE number = ? AND ignored_at <= ?"
OVERTAKE: Final = """
    UPDATE slots SET overtaken = overtaken + 1, ignored_at = iif(overtaken + 1 < ?, ignored_at, min(ignored_at, ?))
    WHERE number IN (SELECT value FROM json_each(?))"""
GIVE_UP: Final = "DELETE FROM slots WHERE execution = ?"

# Executions, to read them.

# Details are read as bytes, because a text that is not UTF-8 would end the whole query.

RECORDS: Final = """
    SELECT d.saga, r.seq, r.event, r.source, r.target, r.at, CAST(r.details AS BLOB)
    FROM executions e JOIN definitions d ON d.number = e.definition JOIN records r ON r.execution = e.number
    WHERE e.saga_id = ? AND r.seq > 0 ORDER BY r.seq"""

ENTRIES: Final = f"""
    SELECT e.number, e.saga_id, d.saga, d.version, d.fingerprint, CAST(a.details AS BLOB), a.at, e.deadline_at,
        e.parent, r.target, r.at, r.seq, e.epoch, {_OWNER}, e.wake_at, e.mail, e.attention, e.recoveries,
        e.recoveries_here,
        (SELECT name FROM slots s
            WHERE s.execution = e.number AND s.epoch = e.epoch AND NOT begun AND e.driver NOTNULL),
        {_DRIVER_COLUMNS}
    FROM {_WITH_LAST_RECORD}
        JOIN definitions d ON d.number = e.definition
        JOIN records a ON a.execution = e.number AND a.seq = 0
        LEFT JOIN drivers o ON o.number = {_OWNER}"""
OF_OWNER: Final = -len(_DRIVER_COLUMNS.split())
"""The last columns of `ENTRIES` are the owner's columns. This is the index of the first of them, from the end."""
ENTRY: Final = f"{ENTRIES} WHERE e.saga_id = ?"
LISTED: Final = f"{ENTRIES} WHERE e.number IN (SELECT value FROM json_each(?)) ORDER BY e.number DESC"

CHOSEN: Final = f"SELECT e.number FROM {_WITH_LAST_RECORD}"
CHOSEN_IN_HAND: Final = f"""
    SELECT e.number FROM executions e INDEXED BY in_hand JOIN records r ON r.execution = e.number AND r.seq = {_LAST}
    WHERE e.ended_at IS NULL"""
COUNT_BRANCHES: Final = f"""
    SELECT phase, count(*) FROM (SELECT {PHASE} AS phase FROM {_WITH_LAST_RECORD} WHERE e.parent = ?) GROUP BY phase"""
BELOW: Final = "e.number < ?"
IN_PHASE: Final = f"(r.target = ? OR {PHASE} IN (?, ?))"
OF_SAGA: Final = "e.definition IN (SELECT number FROM definitions WHERE saga = ?)"
OF_PARENT: Final = "e.parent = ?"
BEFORE: Final = "r.at < ?"
NEWEST_FIRST: Final = "ORDER BY e.number DESC LIMIT ?"

# Executions that a driver should claim. The list of fingerprints to skip is JSON.

_NOT_SKIPPED: Final = """
    definition NOT IN (SELECT number FROM definitions WHERE fingerprint IN (SELECT value FROM json_each(?)))"""
UNHELD: Final = f"""
    SELECT number, saga_id FROM executions
    WHERE ended_at IS NULL AND driver IS NULL AND attention <= ? AND {_NOT_SKIPPED} ORDER BY number LIMIT ?"""
LEFT_BY: Final = f"""
    SELECT e.number, e.saga_id FROM {_WITH_LAST_RECORD}
    WHERE e.ended_at IS NULL AND e.driver = ? AND {_NOT_SKIPPED} AND ({PHASE} NOT IN (SELECT value FROM json_each(?))
        OR {_HAS_VERB} OR ({PHASE} IN (SELECT value FROM json_each(?))
            AND e.mail > 0 AND EXISTS (SELECT 1 FROM inbox i WHERE i.execution = e.number AND i.kind = 'child')))
    ORDER BY e.number LIMIT ?"""
NEXT_WAKE: Final = """
    SELECT min(wake) FROM (
        SELECT min(attention) AS wake FROM executions WHERE ended_at IS NULL AND driver IS NULL AND attention > -1e300
        UNION ALL
        SELECT min(wake_at) FROM executions WHERE ended_at IS NULL AND driver IS NULL AND attention = -9e999)"""

# Executions that a driver claims. Each query returns numbers and owners, in the order of the index that it reads.

_FREE: Final = f"""
    SELECT number, driver FROM executions WHERE ended_at IS NULL AND driver IS NULL AND {{}} AND {_NOT_SKIPPED}
        AND saga_id NOT IN (SELECT value FROM json_each(?)) ORDER BY attention, number LIMIT ?"""
FREE_NOW: Final = _FREE.format("attention = -9e999")
FREE_DUE: Final = _FREE.format("attention > -1e300 AND attention <= ?")
FREE_PENDING: Final = _FREE.format("attention = -1e300")
ABANDONED: Final = LEFT_BY.replace("e.saga_id FROM", "e.driver FROM").replace(
    "ORDER BY", "AND e.saga_id NOT IN (SELECT value FROM json_each(?)) AND e.attention IS ? ORDER BY"
)
CLAIM_ALL: Final = """
    UPDATE executions SET driver = ?, epoch = epoch + 1, attention = iif(mail > 0, -9e999, NULL), ended_at = NULL,
        abandoned = number IN (SELECT value FROM json_each(?))
    WHERE number IN (SELECT value FROM json_each(?))"""

# Ended executions that can be deleted. Each is deleted with all its branches, when none of them can change any more. A
# stuck branch of an ended execution cannot change, because a person has settled it together with the execution.

_IS_UNFINISHED: Final = """
    c.ended_at IS NULL AND (c.driver IS NOT NULL OR NOT EXISTS (
        SELECT 1 FROM records r WHERE r.execution = c.number AND (r.target GLOB 'stuck.*' OR r.target GLOB 'stuck_*')
            AND r.seq = (SELECT max(seq) FROM records WHERE execution = c.number)))"""
_WHOLE: Final = f"""
    WITH RECURSIVE whole (number, saga_id, is_unfinished) AS (
        SELECT number, saga_id, ended_at IS NULL FROM executions WHERE number = {{0}}
        UNION ALL
        SELECT c.number, c.saga_id, {_IS_UNFINISHED} FROM executions c JOIN whole w ON c.parent = w.saga_id)"""
PRUNABLE: Final = f"""
    SELECT number, size FROM (
        SELECT e.number, ({_WHOLE.format("e.number")} SELECT iif(max(is_unfinished), 0, count(*)) FROM whole) AS size
        FROM executions e
        WHERE e.number > ? AND e.ended_at < ?
            AND (e.parent IS NULL OR NOT EXISTS (SELECT 1 FROM executions p WHERE p.saga_id = e.parent)))
    WHERE size > 0 ORDER BY number LIMIT ?"""
PRUNABLE_OF_SAGA: Final = PRUNABLE.replace("WHERE e.number > ?", f"WHERE {OF_SAGA} AND e.number > ?")
WHOLE: Final = f"{_WHOLE.format('?')} SELECT number, is_unfinished FROM whole"
PRUNE: Final = "DELETE FROM executions WHERE number = ?"
PRUNED: Final = "SELECT deleted FROM pruned WHERE token = ?"
COUNT_PRUNED: Final = """
    INSERT INTO pruned (token, deleted, at) VALUES (?, ?, ?)
    ON CONFLICT (token) DO UPDATE SET deleted = deleted + excluded.deleted"""
FORGET_PRUNED: Final = "DELETE FROM pruned WHERE at < ?"

# Executions that were deleted.

REMEMBER: Final = f"""
    INSERT INTO forgotten (saga_id, saga, state, ended_at)
    SELECT e.saga_id, d.saga, r.target, e.ended_at
    FROM {_WITH_LAST_RECORD} JOIN definitions d ON d.number = e.definition
    WHERE e.number = ? AND e.parent IS NULL"""
FORGOTTEN: Final = "SELECT saga, state, ended_at FROM forgotten WHERE saga_id = ?"
FORGOTTEN_OF: Final = "SELECT saga_id FROM forgotten WHERE saga_id IN (SELECT value FROM json_each(?))"
FORGET: Final = """
    DELETE FROM forgotten WHERE saga_id IN (
        SELECT saga_id FROM forgotten WHERE ended_at < ? AND saga = coalesce(?, saga) LIMIT 1000)"""

# Damage that SQLite's own check does not find, in one execution, whose id is the parameter. For all executions:
# `of_all`.

REFERENCES: Final = 'SELECT DISTINCT "table", "parent" FROM pragma_foreign_key_check'
_CHOSEN: Final = "e.saga_id = ?1"
_IS_NUMBERED: Final = "json_type(iif(json_valid(r.details), r.details, '{}'), '$.children') IS 'integer'"
_IS_IN_GROUP: Final = "substr(b.saga_id, 1, length(g.saga_id || g.place) + 2) = g.saga_id || '/' || g.place || '.'"


def of_all(faults: str) -> str:
    """Make the query *faults*, for one execution, a query for all executions. Its parameter must then be NULL."""
    return faults.replace(_CHOSEN, "?1 IS NULL")


FAULTS: Final = f"""
    SELECT e.saga_id, 'records are lost, or numbered wrongly' FROM executions e
        WHERE {_CHOSEN} AND (
            SELECT min(seq) IS NOT 0 OR max(seq) <> count(*) - 1 FROM records WHERE execution = e.number)
    UNION ALL
    SELECT e.saga_id, 'record ' || seq || ' cannot be decoded'
        FROM executions e JOIN records r ON r.execution = e.number WHERE {_CHOSEN} AND NOT json_valid(details)
    UNION ALL
    SELECT e.saga_id, 'it is a branch of ''' || e.parent || ''', which is lost'
        FROM executions e WHERE {_CHOSEN} AND e.parent NOT IN (SELECT saga_id FROM executions)
    UNION ALL
    SELECT saga_id, 'its branch ''' || branch || ''' is lost' FROM (
        SELECT e.saga_id, e.saga_id || '/' || substr(r.target, instr(r.target, '.') + 1) || '.' || c.value AS branch
        FROM executions e JOIN records r ON r.execution = e.number AND r.target GLOB 'waiting.*'
            JOIN json_each(iif(json_valid(r.details), r.details, '{{}}'), '$.children') c ON NOT {_IS_NUMBERED}
            LEFT JOIN records n ON n.execution = e.number AND n.seq = r.seq + 1
        WHERE {_CHOSEN} AND n.event IS NOT 'rejected') -- a cancel took hold before the branches were made
        WHERE branch NOT IN (SELECT saga_id FROM executions UNION ALL SELECT saga_id FROM planned)
    UNION ALL
    SELECT saga_id, 'branches of ''' || place || ''' are lost' FROM (
        SELECT e.number, e.saga_id, substr(r.target, instr(r.target, '.') + 1) AS place,
            json_extract(r.details, '$.children') AS size
        FROM executions e JOIN records r ON r.execution = e.number AND r.target GLOB 'waiting.*' AND {_IS_NUMBERED}
            LEFT JOIN records n ON n.execution = e.number AND n.seq = r.seq + 1
        WHERE {_CHOSEN} AND n.event IS NOT 'rejected') g
        WHERE size <>
            (SELECT count(*) FROM executions b WHERE b.parent = g.saga_id AND {_IS_IN_GROUP})
            + (SELECT count(*) FROM planned b WHERE b.execution = g.number AND {_IS_IN_GROUP})
    UNION ALL
    SELECT e.saga_id, 'its planned branch ' || p.number || ' cannot be decoded'
        FROM executions e JOIN planned p ON p.execution = e.number
        WHERE {_CHOSEN} AND NOT (json_valid(details) AND json_valid(coalesce(ended, '[]')))
    UNION ALL
    SELECT e.saga_id, 'its branch ''' || p.saga_id || ''' is planned, and exists'
        FROM executions e JOIN planned p ON p.execution = e.number
        WHERE {_CHOSEN} AND p.saga_id IN (SELECT saga_id FROM executions)"""

_MAIL_COUNT: Final = "(SELECT count(*) FROM inbox i WHERE i.execution = e.number)"
_CALLS_NO_DRIVER: Final = f"""
    e.ended_at IS NULL AND e.driver IS NULL AND e.attention IS NULL AND e.wake_at IS NOT 9e999
    AND ({PHASE} IN ('pending', 'executing', 'retrying', 'probing', 'retrying_compensation')
        OR ({PHASE} = 'compensating' AND NOT EXISTS (SELECT 1 FROM executions c WHERE c.parent = e.saga_id)))"""
ROW_FAULTS: Final = f"""
    SELECT * FROM (
        SELECT e.saga_id, CASE
            WHEN e.ended_at IS NOT NULL AND NOT {_ENDED}
                THEN 'its row says that it has ended, and its last record leads to ''' || r.target || ''''
            WHEN e.ended_at IS NULL AND e.driver IS NULL AND {_ENDED} AND NOT {_VERB_WAITS}
                THEN 'it has ended in ''' || r.target || ''', and its row does not say so'
            WHEN e.ended_at <> r.at THEN 'its row and its last record name different times of its end'
            WHEN e.ended_at IS NOT NULL AND {_VERB_WAITS} THEN 'a verb is in its inbox, and its row calls no driver'
            WHEN e.mail <> {_MAIL_COUNT} THEN 'the inbox has another number of items than is noted'
            WHEN e.ended_at IS NULL AND e.driver IS NULL AND e.parked IS NOT {PHASE}
                THEN 'it is in ''' || r.target || ''', and its row names another phase'
            WHEN {_CALLS_NO_DRIVER} THEN 'it is in ''' || r.target || ''', and its row calls no driver'
            END AS fault
        FROM {_WITH_LAST_RECORD} WHERE {_CHOSEN})
    WHERE fault IS NOT NULL"""
"""Finds rows that contradict the data from which they are derived: the last record and the inbox."""

DERIVE_ROW: Final = f"""
    UPDATE executions SET epoch = epoch + 1, mail = o.mail, ended_at = iif(o.has_ended, o.at, NULL), failed = o.failed,
        driver = iif(o.has_ended, NULL, driver), wake_at = iif(o.is_dormant, wake_at, NULL),
        attention = iif(o.has_ended OR (o.is_dormant AND o.mail = 0), NULL, -9e999), parked = o.phase
    FROM (SELECT e.number, r.at, r.target = 'failed' AS failed, {_ENDED} AND NOT {_VERB_WAITS} AS has_ended,
            {PHASE} AS phase, {_MAIL_COUNT} AS mail, e.wake_at IS 9e999 AS is_dormant
        FROM {_WITH_LAST_RECORD} WHERE e.saga_id = ?) AS o
    WHERE executions.number = o.number"""
"""Derives a row again from its records. If the execution has not ended and is not dormant, the row also calls a driver,
which replays the records and writes the rest of the row.
"""
