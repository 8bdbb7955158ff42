"""The SQL of a PostgreSQL journal. Tables are named as in ``schema``. Values are always parameters."""

# ruff: noqa: S608 - statements are put together from constants of this file

from __future__ import annotations

from typing import Final

from fsm_mediator.journal.attention import PENDING_NOW, UNFINISHED
from fsm_mediator.records import VERBS
from fsm_mediator.states import ENDED, STUCK_PHASES


def _array(names: frozenset[str]) -> str:
    return f"ARRAY[{', '.join(map(repr, sorted(names)))}]"


PHASE: Final = "split_part(e.state, '.', 1)"
HAS_ENDED: Final = f"{PHASE} = ANY({_array(ENDED)})"
_IS_STUCK: Final = f"{PHASE} = ANY({_array(STUCK_PHASES)})"
_IS_VERB: Final = f"%(kind)s = ANY({_array(VERBS)})"
VERB_WAITS: Final = f"""EXISTS (
    SELECT 1 FROM journal.inbox i WHERE i.execution = e.number AND i.kind = ANY({_array(VERBS)}))"""
_IS_CALLED: Final = f"""EXISTS (SELECT 1 FROM journal.inbox i WHERE i.execution = e.number AND (
        NOT ({HAS_ENDED} OR {_IS_STUCK}) OR i.kind = ANY({_array(VERBS)}) OR (i.kind = 'child' AND {_IS_STUCK})))"""
"""Whether an item in the inbox calls a driver, by the same rule as `rows.has_driver_look`."""

# Commits. A usual commit is one statement, which finds its row only if the execution is as the driver knows it.

NEW_RECORDS: Final = """
    unnest(%(all_seq)s::int[], %(all_event)s::text[], %(all_source)s::text[], %(all_target)s::text[],
        %(all_at)s::float8[], %(all_details)s::text[]) AS r"""
"""The records of a usual commit, as arrays. ``usual.py`` writes a few records as values instead."""
OPEN: Final = f"""
    WITH e AS (
        INSERT INTO journal.executions (saga_id, saga, version, fingerprint, deadline_at, parent, state, changed_at,
            seq, epoch, driver, wake_at, mail, attention, ended_at)
        SELECT %(saga_id)s, %(saga)s, %(version)s, %(fingerprint)s, %(deadline_at)s::float8, %(parent)s, %(state)s,
            %(changed_at)s::float8, %(last)s::int, 1, %(owner)s, %(wake_at)s::float8, 0, %(attention)s::float8,
            %(ended_at)s::float8
        WHERE (%(owner)s::text IS NULL OR EXISTS (SELECT 1 FROM journal.drivers WHERE id = %(owner)s FOR KEY SHARE))
            AND NOT EXISTS (SELECT 1 FROM journal.forgotten WHERE saga_id = %(saga_id)s)
        ON CONFLICT (saga_id) DO NOTHING RETURNING number),
    added AS (INSERT INTO journal.records SELECT e.number, r.* FROM e, {NEW_RECORDS})
    SELECT number FROM e"""
GO_ON: Final = f"""
    WITH e AS (
        UPDATE journal.executions SET state = %(state)s, changed_at = %(changed_at)s::float8, seq = %(last)s::int,
            driver = %(owner)s, wake_at = %(wake_at)s::float8, attention = %(attention)s::float8,
            ended_at = %(ended_at)s::float8, recoveries = coalesce(%(recoveries)s::int, recoveries),
            recoveries_here = coalesce(%(recoveries_here)s::int, recoveries_here)
        WHERE saga_id = %(saga_id)s AND epoch = %(epoch)s::int AND driver IS NOT DISTINCT FROM %(driver)s
            AND seq = %(before)s::int AND mail = 0
        RETURNING number),
    added AS (INSERT INTO journal.records SELECT e.number, r.* FROM e, {NEW_RECORDS})
    SELECT number FROM e"""
GO_ON_WITHOUT_SLOT: Final = GO_ON.replace(
    "    added AS",
    "    given_up AS (DELETE FROM journal.slots WHERE execution IN (SELECT number FROM e)),\n    added AS",
)
"""Adds records to an existing execution, as `GO_ON` does. In addition, the execution gives up its slot."""

# Commits of any kind. All rows are locked in the same order, so that no two transactions wait for each other.

LOCK: Final = """
    SELECT saga_id, number, epoch, driver, mail, wake_at, attention, state, changed_at, seq, last_token
    FROM journal.executions WHERE saga_id = ANY(%s) ORDER BY number FOR UPDATE"""
LOCK_DRIVERS: Final = "SELECT id FROM journal.drivers WHERE id = ANY(%s) ORDER BY number FOR KEY SHARE"
FORGOTTEN_OF: Final = "SELECT saga_id FROM journal.forgotten WHERE saga_id = ANY(%s)"
INBOXES: Final = """
    SELECT e.saga_id, i.number, i.kind, i.name, i.value, i.reason, i.actor, i.carrier, i.at
    FROM journal.executions e JOIN journal.inbox i ON i.execution = e.number
    WHERE e.saga_id = ANY(%s) AND e.mail > 0 ORDER BY i.number"""
KEPT: Final = """
    SELECT seq, event, source, target, at, details FROM journal.records
    WHERE execution = %s AND seq BETWEEN %s AND %s ORDER BY seq"""
UPDATE: Final = """
    UPDATE journal.executions e SET driver = v.driver, wake_at = v.wake_at, attention = v.attention, mail = v.mail,
        ended_at = v.ended_at, state = v.state, changed_at = v.changed_at, seq = v.seq,
        recoveries = coalesce(v.recoveries, e.recoveries),
        recoveries_here = coalesce(v.recoveries_here, e.recoveries_here), last_token = v.last_token
    FROM unnest(%s::bigint[], %s::text[], %s::float8[], %s::float8[], %s::int[], %s::float8[], %s::text[],
        %s::float8[], %s::int[], %s::bigint[], %s::int[], %s::int[])
        AS v (number, driver, wake_at, attention, mail, ended_at, state, changed_at, seq, last_token, recoveries,
            recoveries_here)
    WHERE e.number = v.number"""
INSERT: Final = """
    INSERT INTO journal.executions (saga_id, saga, version, fingerprint, deadline_at, parent, state, changed_at, seq,
        epoch, driver, wake_at, mail, attention, ended_at)
    SELECT saga_id, saga, version, fingerprint, deadline_at, parent, state, changed_at, seq,
        1, driver, wake_at, 0, attention, ended_at
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::text[], %s::text[], %s::float8[],
        %s::int[], %s::text[], %s::float8[], %s::float8[], %s::float8[]) WITH ORDINALITY
        AS v (saga_id, saga, version, fingerprint, deadline_at, parent, state, changed_at, seq, driver, wake_at,
            attention, ended_at, place)
    ORDER BY place"""
RECORD: Final = """
    INSERT INTO journal.records
    SELECT e.number, v.seq, v.event, v.source, v.target, v.at, v.details
    FROM unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::text[])
        AS v (saga_id, seq, event, source, target, at, details) JOIN journal.executions e USING (saga_id)"""
TAKE: Final = "DELETE FROM journal.inbox WHERE number = ANY(%s::bigint[])"

# Planned branches.

PLAN: Final = """
    INSERT INTO journal.planned (
        execution, number, saga_id, saga, version, fingerprint, deadline_at, dormant, at, details)
    SELECT e.number, v.number, v.saga_id, v.saga, v.version, v.fingerprint, v.deadline_at, v.dormant, v.at, v.details
    FROM unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::boolean[],
        %s::float8[], %s::text[])
        AS v (parent, number, saga_id, saga, version, fingerprint, deadline_at, dormant, at, details)
        JOIN journal.executions e ON e.saga_id = v.parent"""
CREATE: Final = f"""
    WITH p AS (
        DELETE FROM journal.planned p USING journal.executions e
        WHERE e.saga_id = %(saga_id)s AND p.execution = e.number AND p.number >= %(first)s AND p.number < %(end)s
            AND ended IS NULL
        RETURNING p.*),
    e AS (
        INSERT INTO journal.executions (saga_id, saga, version, fingerprint, deadline_at, parent, state, changed_at,
            seq, epoch, wake_at, mail, attention)
        SELECT saga_id, saga, version, fingerprint, deadline_at, %(saga_id)s, 'pending', at, 0,
            1, CASE WHEN dormant THEN 'Infinity'::float8 END, 0, CASE WHEN NOT dormant THEN {PENDING_NOW!r}::float8 END
        FROM p ORDER BY number RETURNING number, saga_id)
    INSERT INTO journal.records
    SELECT e.number, 0, 'accepted', '', 'pending', at, details FROM e JOIN p USING (saga_id)"""
END_PLANNED: Final = """
    UPDATE journal.planned p SET ended = %s FROM journal.executions e
    WHERE e.saga_id = %s AND p.execution = e.number AND p.ended IS NULL"""
PLANNED: Final = """
    SELECT min(p.number), max(p.number) + 1, min(p.number) FILTER (WHERE dormant), min(ended)
    FROM journal.executions e JOIN journal.planned p ON p.execution = e.number
    WHERE e.saga_id = %s HAVING count(*) > 0"""

# The inbox. These statements compute `attention` as `rows.next_attention_at` does. The journal's model test compares
# both.

POST: Final = f"""
    WITH e AS (
        UPDATE journal.executions e SET mail = mail + 1, ended_at = NULL, attention = CASE
            WHEN driver IS NOT NULL OR {_IS_VERB} OR NOT ({HAS_ENDED} OR {_IS_STUCK}) OR %(kind)s = 'child'
                OR {_IS_CALLED} THEN '-Infinity'::float8 END
        WHERE saga_id = %(saga_id)s AND (NOT {HAS_ENDED} OR ({PHASE} = 'succeeded' AND {_IS_VERB}))
            AND NOT ({_IS_VERB} AND (EXISTS (SELECT 1 FROM journal.answers WHERE name = %(name)s)
                OR EXISTS (SELECT 1 FROM journal.inbox i WHERE i.execution = e.number AND i.name = %(name)s
                    AND i.kind = ANY({_array(VERBS)}))))
        RETURNING number)
    INSERT INTO journal.inbox (execution, kind, name, value, reason, actor, carrier, at)
    SELECT number, %(kind)s, %(name)s, %(value)s, %(reason)s, %(actor)s, %(carrier)s, %(at)s::float8
    FROM e RETURNING number"""
POSTED: Final = f"""
    SELECT 1 FROM journal.inbox i JOIN journal.executions e ON e.number = i.execution
    WHERE e.saga_id = %(saga_id)s AND i.kind = ANY({_array(VERBS)}) AND i.name = %(name)s
    UNION ALL SELECT 1 FROM journal.answers a, journal.executions e
    WHERE a.name = %(name)s AND e.saga_id = %(saga_id)s"""
IS_POSTED: Final = "SELECT 1 FROM journal.posted WHERE token = %s"
KEEP_POST: Final = """
    INSERT INTO journal.posted (token, execution) SELECT %s, number FROM journal.executions WHERE saga_id = %s"""
LAST_RECORD: Final = """
    SELECT e.state, r.details
    FROM journal.executions e JOIN journal.records r ON r.execution = e.number AND r.seq = e.seq
    WHERE e.saga_id = %s FOR UPDATE OF e"""
MAIL: Final = """
    SELECT i.number, i.kind, i.name, i.value, i.reason, i.actor, i.carrier, i.at
    FROM journal.inbox i JOIN journal.executions e ON e.number = i.execution WHERE e.saga_id = %s AND i.number > %s
    ORDER BY i.number"""

# Drivers, and the executions they own.

_FREE: Final = f"""
    UPDATE journal.executions e SET driver = NULL,
        ended_at = CASE WHEN {HAS_ENDED} AND NOT {_IS_CALLED} THEN changed_at END,
        attention = CASE
            WHEN {_IS_CALLED} THEN '-Infinity'::float8
            WHEN {HAS_ENDED} OR {_IS_STUCK} THEN NULL
            WHEN {PHASE} = 'pending' THEN {PENDING_NOW!r}::float8
            WHEN {PHASE} = ANY({_array(UNFINISHED)}) THEN '-Infinity'::float8
            ELSE wake_at END"""
RELEASE: Final = f"{_FREE} WHERE saga_id = %s AND epoch = %s AND driver IS NOT NULL"
LOCK_DRIVER: Final = "SELECT 1 FROM journal.drivers WHERE id = %s FOR UPDATE"
FREE_ALL_OF: Final = f"{_FREE} WHERE ended_at IS NULL AND driver = %s"
DELETE_DRIVER: Final = "DELETE FROM journal.drivers WHERE id = %s"
ENLIST: Final = """
    INSERT INTO journal.drivers (id, host, boot_id, pid_namespace, pid, started, session_lock, lease, beat_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, journal.now_seconds())
    ON CONFLICT (id) DO UPDATE SET host = excluded.host, boot_id = excluded.boot_id,
        pid_namespace = excluded.pid_namespace, pid = excluded.pid, started = excluded.started,
        session_lock = excluded.session_lock, lease = excluded.lease, beat_at = excluded.beat_at
    RETURNING number"""
BEAT: Final = "UPDATE journal.drivers SET beat_at = journal.now_seconds(), lease = %s WHERE id = %s"
SEEN_BY_DRIVER: Final = """
    SELECT journal.now_seconds() - beat_at, ARRAY(
        SELECT saga_id FROM journal.executions
        WHERE ended_at IS NULL AND driver = d.id AND (%s OR attention IS NOT NULL) ORDER BY number)
    FROM journal.drivers d WHERE id = %s"""
# Locks are not replicated to a standby, so on a standby only the lease shows which drivers are alive.
DRIVERS: Final = """
    SELECT d.number, journal.now_seconds() - d.beat_at, d.lease,
        NOT d.session_lock OR pg_is_in_recovery() OR d.number::bigint IN (
            SELECT l.objid::bigint FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid::bigint = %s
                AND l.objsubid = 2 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())),
        extract(epoch FROM pg_postmaster_start_time())::float8,
        d.id, d.host, d.boot_id, d.pid_namespace, d.pid, d.started
    FROM journal.drivers d"""
_IN_HAND: Final = "EXISTS (SELECT 1 FROM journal.executions e WHERE e.ended_at IS NULL AND e.driver = d.id)"
OWNERS: Final = f"{DRIVERS} WHERE {_IN_HAND}"
IDLE_DRIVERS: Final = f"{DRIVERS} WHERE NOT {_IN_HAND}"
DRIVERS_OF_IDS: Final = f"{DRIVERS} WHERE d.id = ANY(%s)"
DELETE_IDLE: Final = f"""
    DELETE FROM journal.drivers WHERE id IN (
        SELECT id FROM journal.drivers d WHERE number = ANY(%s) AND NOT {_IN_HAND} FOR UPDATE SKIP LOCKED)"""

ENTRIES: Final = """
    SELECT e.number, e.saga_id, e.saga, e.version, e.fingerprint, a.details, a.at, e.deadline_at, e.parent, e.state,
        e.changed_at, e.seq, e.epoch, e.driver, e.wake_at, e.mail, e.attention, e.recoveries, e.recoveries_here,
        (SELECT name FROM journal.slots s
            WHERE s.execution = e.number AND s.epoch = e.epoch AND NOT begun AND e.driver IS NOT NULL) AS queued
    FROM journal.executions e JOIN journal.records a ON a.execution = e.number AND a.seq = 0"""
OWNER: Final = "SELECT driver, epoch, abandoned FROM journal.executions WHERE saga_id = %s"
CLAIM: Final = f"""
    WITH e AS (
        UPDATE journal.executions SET driver = %(driver)s, epoch = epoch + 1, ended_at = NULL,
            attention = CASE WHEN mail > 0 THEN '-Infinity'::float8 END, abandoned = driver IS NOT NULL
        WHERE saga_id = %(saga_id)s AND epoch = %(epoch)s AND driver IS NOT DISTINCT FROM %(owner)s
            AND EXISTS (SELECT 1 FROM journal.drivers WHERE id = %(driver)s FOR KEY SHARE)
        RETURNING *)
    {ENTRIES.replace("journal.executions e", "e")}"""

# Executions that a driver should claim.

_IS_FREE: Final = "ended_at IS NULL AND driver IS NULL"
UNOWNED: Final = f"""
    SELECT number, saga_id FROM journal.executions
    WHERE {_IS_FREE} AND attention <= %s AND NOT fingerprint = ANY(%s) ORDER BY number LIMIT %s"""
_LEFT: Final = f"(NOT ({HAS_ENDED} OR {_IS_STUCK}) OR {_IS_CALLED})"
LEFT_BY: Final = f"""
    SELECT number, saga_id FROM journal.executions e
    WHERE ended_at IS NULL AND driver = ANY(%s) AND NOT fingerprint = ANY(%s) AND {_LEFT} ORDER BY number LIMIT %s"""
NEXT_WAKE: Final = f"""
    SELECT least(
        (SELECT min(attention) FROM journal.executions
            WHERE {_IS_FREE} AND attention > {PENDING_NOW!r} AND attention < 'Infinity'),
        (SELECT min(wake_at) FROM journal.executions
            WHERE {_IS_FREE} AND attention = '-Infinity' AND wake_at < 'Infinity'))"""


def _claim(**chosen: tuple[int, str, str]) -> str:
    """The statement that claims executions. Each argument is a query that finds some of these executions.

    A query is given as a rank, a condition for WHERE, and the columns for ORDER BY: those of an index. Executions with
    a lower rank come first. A later query is executed only if the earlier queries return too few rows.
    """
    queries = (
        f"""
    {name} AS (
        SELECT number, {rank} AS rank, attention FROM journal.executions e
        WHERE {which} AND NOT fingerprint = ANY(%(skip)s) AND NOT saga_id = ANY(%(leave)s)
        ORDER BY {order} LIMIT %(limit)s FOR UPDATE SKIP LOCKED)"""
        for name, (rank, which, order) in chosen.items()
    )
    return f"""
    WITH {",".join(queries)},
    chosen (chosen, rank, due_at) AS (
        {" UNION ALL ".join(f"SELECT * FROM {name}" for name in chosen)} LIMIT %(limit)s),
    e AS (
        UPDATE journal.executions SET driver = %(driver)s, epoch = epoch + 1, ended_at = NULL,
            attention = CASE WHEN mail > 0 THEN '-Infinity'::float8 END, abandoned = driver IS NOT NULL
        FROM chosen WHERE number = chosen
            AND EXISTS (SELECT 1 FROM journal.drivers WHERE id = %(driver)s FOR KEY SHARE)
        RETURNING executions.*, rank, due_at)
    {ENTRIES.replace("journal.executions e", "e").replace("AS queued", "AS queued, e.abandoned")}
    ORDER BY e.rank, CASE WHEN e.rank = 2 THEN e.due_at END, e.number"""


def _free(low: str, high: str, than: str = ">=") -> tuple[str, str]:
    # The condition is never an equality: for an equality, the planner may read the index of the primary key from its
    # first row.
    return f"{_IS_FREE} AND attention {than} {low}::float8 AND attention <= {high}::float8", "attention, number"


_UNCLAIMED: Final = {
    "now": (1, *_free("'-Infinity'", "'-Infinity'")),
    "due": (2, *_free(f"{PENDING_NOW!r}", "%(at)s", than=">")),
    "pending": (3, *_free(f"{PENDING_NOW!r}", f"{PENDING_NOW!r}")),
}
CLAIM_FREE: Final = _claim(**_UNCLAIMED)
CLAIM_SOME: Final = _claim(
    abandoned=(0, f"ended_at IS NULL AND driver = ANY(%(gone)s) AND driver <> %(driver)s AND {_LEFT}", "number"),
    **_UNCLAIMED,
)
"""Claims executions of dead drivers first, then executions without an owner, as `CLAIM_FREE` does."""

# Notes.

NOTE: Final = """
    WITH known AS (SELECT number FROM journal.notes WHERE token = %(token)s),
    e AS (SELECT number FROM journal.executions WHERE saga_id = %(saga_id)s FOR KEY SHARE),
    added AS (
        INSERT INTO journal.notes (execution, saga, step, kind, value, actor, reason, at, token)
        SELECT (SELECT number FROM e), %(saga)s, %(step)s, %(kind)s, %(value)s, %(actor)s, %(reason)s, %(at)s, %(token)s
        WHERE NOT EXISTS (SELECT 1 FROM known)
            AND (%(saga_id)s::text IS NULL OR EXISTS (SELECT 1 FROM e))
        ON CONFLICT (token) DO NOTHING
        RETURNING number),
    kept AS (
        INSERT INTO journal.attributes (execution, name, value)
        SELECT e.number, v.name, v.value FROM e, added, unnest(%(names)s::text[], %(values)s::text[]) AS v (name, value)
        ON CONFLICT (execution, name) DO UPDATE SET value = excluded.value),
    removed AS (
        DELETE FROM journal.attributes a USING e, added
        WHERE a.execution = e.number AND a.name = ANY(%(removed)s::text[]))
    SELECT number FROM added UNION ALL SELECT number FROM known"""
LOCK_HOLDS: Final = "SELECT pg_advisory_xact_lock(%s::int, -1)"
NOTES: Final = """
    SELECT n.number, e.saga_id, n.saga, n.step, n.kind, n.value, n.actor, n.reason, n.at
    FROM journal.notes n LEFT JOIN journal.executions e ON e.number = n.execution WHERE n.number > %s"""
NOTES_OF: Final = " AND n.execution = (SELECT number FROM journal.executions WHERE saga_id = %s)"
OF_KIND: Final = " AND n.kind = %s"

# Limits and their slots. Slots of an earlier epoch and slots of a dead driver do not count.

DECLARE: Final = """
    INSERT INTO journal.limits (name, driver, most) VALUES (%s, %s, %s)
    ON CONFLICT (name, driver) DO UPDATE SET most = excluded.most"""
LIMITS_OF: Final = """
    SELECT name FROM journal.limits l JOIN journal.drivers d ON d.number = l.driver WHERE d.id = %s ORDER BY name"""
DECLARED: Final = f"""
    {DRIVERS.replace("SELECT", "SELECT l.name, l.most,", 1)} JOIN journal.limits l ON l.driver = d.number
    WHERE l.name = ANY(%s)"""
LOCK_LIMITS: Final = "SELECT pg_advisory_xact_lock(%s::int, key) FROM unnest(%s::int[]) AS k (key)"
WITH_ROOM: Final = """
    SELECT name FROM (
        SELECT v.name, asked, (SELECT min(most) FROM journal.limits l WHERE l.name = v.name) AS most
        FROM unnest(%s::text[], %s::bigint[]) AS v (name, asked)) AS v
    WHERE asked + (SELECT count(*) FROM (SELECT 1 FROM journal.slots s WHERE s.name = v.name LIMIT v.most) AS s) <= most
        AND NOT EXISTS (SELECT 1 FROM journal.slots s WHERE s.name = v.name AND NOT begun)"""
_SLOTS: Final = """
    SELECT s.number, e.saga_id, e.driver, s.epoch, begun, overtaken, ignored_at <= journal.now_seconds()
    FROM journal.slots s JOIN journal.executions e ON e.number = s.execution"""
BEGUN: Final = f"""
    {_SLOTS} AND e.epoch = s.epoch WHERE s.name = %s AND begun AND e.driver = ANY(%s)"""
QUEUE: Final = f"""
    {_SLOTS} AND e.epoch = s.epoch
    WHERE s.name = %s AND NOT begun AND e.driver = ANY(%s)
        AND (ignored_at > journal.now_seconds() OR e.driver = ANY(%s))
    ORDER BY s.number LIMIT %s"""
PLACES_OF: Final = f"{_SLOTS} WHERE s.name = %s AND e.saga_id = ANY(%s)"
ARRIVE: Final = """
    INSERT INTO journal.slots (execution, name, epoch, begun)
    SELECT e.number, v.name, v.epoch, v.begun
    FROM unnest(%s::text[], %s::text[], %s::int[], %s::boolean[]) WITH ORDINALITY
        AS v (saga_id, name, epoch, begun, place) JOIN journal.executions e USING (saga_id)
    ORDER BY place
    ON CONFLICT (execution) DO UPDATE SET number = DEFAULT, name = excluded.name, epoch = excluded.epoch,
        begun = excluded.begun, overtaken = 0, ignored_at = 'Infinity'"""
CHANGE_PLACES: Final = """
    UPDATE journal.slots s SET epoch = v.epoch, begun = v.begun, overtaken = v.overtaken, ignored_at = CASE
            WHEN v.overtaken = 0 THEN 'Infinity'
            WHEN v.overtaken >= v.most THEN least(ignored_at, journal.now_seconds() + v.patience)
            ELSE ignored_at END
    FROM unnest(%s::text[], %s::int[], %s::boolean[], %s::int[], %s::bigint[], %s::float8[])
        AS v (saga_id, epoch, begun, overtaken, most, patience) JOIN journal.executions e USING (saga_id)
    WHERE s.execution = e.number"""
GIVE_UP: Final = "DELETE FROM journal.slots WHERE execution = ANY(%s::bigint[])"

# Answers to operators, and the definitions that drivers know.

ANSWER: Final = "SELECT number, name, seq, refusal, at FROM journal.answers WHERE name = %s"
KEEP_ANSWER: Final = """
    WITH old AS (DELETE FROM journal.answers WHERE at < %s)
    INSERT INTO journal.answers (number, name, seq, refusal, at) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (number) DO UPDATE SET seq = excluded.seq, refusal = excluded.refusal, at = excluded.at"""
FORGET_ANSWER: Final = "DELETE FROM journal.answers WHERE name = %s"
FORGET_KNOWN: Final = "DELETE FROM journal.known WHERE driver = %s"
KEEP_SHAPE: Final = "INSERT INTO journal.shapes (fingerprint, shape) VALUES (%s, %s) ON CONFLICT DO NOTHING"
KNOW: Final = "INSERT INTO journal.known (driver, fingerprint) VALUES (%s, %s) ON CONFLICT DO NOTHING"
KNOWN: Final = "SELECT driver, fingerprint FROM journal.known"
SHAPE: Final = "SELECT shape FROM journal.shapes WHERE fingerprint = %s"
NOTE_FAULT: Final = """
    INSERT INTO journal.faults (execution, epoch, type, field, message)
    SELECT number, %s, %s, %s, %s FROM journal.executions WHERE saga_id = %s
    ON CONFLICT (execution) DO UPDATE SET epoch = excluded.epoch, type = excluded.type, field = excluded.field,
        message = excluded.message"""
NOTED_FAULTS: Final = f"""
    SELECT e.saga_id, f.type, f.field, f.message
    FROM journal.faults f JOIN journal.executions e ON e.number = f.execution AND e.epoch = f.epoch
    WHERE NOT {HAS_ENDED}"""

# Reading.

HAS_SESSION: Final = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND datname = current_database()"
ENTRY: Final = f"{ENTRIES} WHERE e.saga_id = %s"
COUNT_BRANCHES: Final = f"SELECT {PHASE}, count(*) FROM journal.executions e WHERE parent = %s GROUP BY 1"
IN_PHASE: Final = f"(e.state = %s OR {PHASE} = ANY(%s))"
RECORDS: Final = """
    SELECT e.saga, r.seq, r.event, r.source, r.target, r.at, r.details
    FROM journal.executions e JOIN journal.records r ON r.execution = e.number
    WHERE e.saga_id = %s AND r.seq > 0 ORDER BY r.seq"""
DECIDED: Final = "SELECT txid_snapshot_xmin(txid_current_snapshot())"
CHANGES: Final = """
    SELECT r.transaction, r.execution, e.saga_id, e.saga, r.seq, r.event, r.source, r.target, r.at, r.details
    FROM journal.records r JOIN journal.executions e ON e.number = r.execution
    WHERE r.transaction >= %s AND r.transaction < %s AND (r.transaction, r.execution, r.seq) > (%s, %s, %s)
    ORDER BY r.transaction, r.execution, r.seq LIMIT %s"""
FORGOTTEN: Final = "SELECT saga, state, ended_at FROM journal.forgotten WHERE saga_id = %s"

# Deleting ended executions. Each is deleted together with its branches, when none of them can change any more.

PRUNABLE: Final = """
    SELECT number FROM journal.executions e
    WHERE number > %s AND ended_at < %s AND (%s::text IS NULL OR saga = %s) AND (parent IS NULL
        OR NOT EXISTS (SELECT 1 FROM journal.executions p WHERE p.saga_id = e.parent))
    ORDER BY number LIMIT %s"""
PRUNABLE_THESE: Final = """
    SELECT number FROM journal.executions e
    WHERE saga_id = ANY(%s) AND ended_at < %s AND (parent IS NULL
        OR NOT EXISTS (SELECT 1 FROM journal.executions p WHERE p.saga_id = e.parent))
    ORDER BY number"""
ENDED_SINCE: Final = "SELECT 1 FROM journal.executions WHERE number = %s AND ended_at >= %s"
WHOLE: Final = f"""
    WITH RECURSIVE whole AS (
        SELECT number, saga_id, 0 AS depth FROM journal.executions WHERE number = %s
        UNION ALL
        SELECT c.number, c.saga_id, depth + 1 FROM journal.executions c JOIN whole w ON c.parent = w.saga_id)
    SELECT e.number, e.driver IS NOT NULL OR (e.ended_at IS NULL AND NOT (e.number <> %s AND {_IS_STUCK}))
    FROM journal.executions e WHERE e.number IN (SELECT number FROM whole) ORDER BY e.number FOR UPDATE"""
REMEMBER: Final = """
    INSERT INTO journal.forgotten (saga_id, saga, state, ended_at)
    SELECT saga_id, saga, state, ended_at FROM journal.executions WHERE number = %s AND parent IS NULL
    ON CONFLICT (saga_id) DO NOTHING"""
FORGET: Final = """
    DELETE FROM journal.forgotten WHERE saga_id IN (
        SELECT saga_id FROM journal.forgotten WHERE ended_at < %s AND (%s::text IS NULL OR saga = %s) LIMIT 1000)"""
DELETE: Final = """
    WITH r AS (DELETE FROM journal.records WHERE execution = ANY(%(numbers)s::bigint[])),
        i AS (DELETE FROM journal.inbox WHERE execution = ANY(%(numbers)s::bigint[])),
        f AS (DELETE FROM journal.faults WHERE execution = ANY(%(numbers)s::bigint[])),
        p AS (DELETE FROM journal.planned WHERE execution = ANY(%(numbers)s::bigint[])),
        s AS (DELETE FROM journal.slots WHERE execution = ANY(%(numbers)s::bigint[])),
        t AS (DELETE FROM journal.posted WHERE execution = ANY(%(numbers)s::bigint[])),
        n AS (DELETE FROM journal.notes WHERE execution = ANY(%(numbers)s::bigint[])),
        a AS (DELETE FROM journal.attributes WHERE execution = ANY(%(numbers)s::bigint[]))
    DELETE FROM journal.executions WHERE number = ANY(%(numbers)s::bigint[])"""
PRUNED: Final = "SELECT deleted FROM journal.pruned WHERE token = %s"
COUNT_PRUNED: Final = """
    WITH old AS (DELETE FROM journal.pruned WHERE at < journal.now_seconds() - %s AND token <> %s)
    INSERT INTO journal.pruned (token, deleted, at) VALUES (%s, %s, journal.now_seconds())
    ON CONFLICT (token) DO UPDATE SET deleted = pruned.deleted + excluded.deleted"""
