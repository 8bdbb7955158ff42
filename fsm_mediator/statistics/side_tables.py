"""The tables of a side store, and the SQL that counts with them."""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x66736D73  # "fsms"
FORMAT: Final = 1
"""The number of the format of the tables. A store with another format is built again."""

TABLES: Final = """
    CREATE TABLE place (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        cursor TEXT NOT NULL,  -- of the journal's last change that is counted
        at REAL NOT NULL,      -- when it was read
        file TEXT NOT NULL     -- the journal
    ) STRICT;
    CREATE TABLE definitions (
        number INTEGER PRIMARY KEY,
        saga TEXT NOT NULL,
        version TEXT NOT NULL,
        UNIQUE (saga, version)
    ) STRICT;
    CREATE TABLE moves (
        number INTEGER PRIMARY KEY,
        event TEXT NOT NULL,
        source TEXT NOT NULL,
        target TEXT NOT NULL,
        in_doubt INTEGER NOT NULL,
        UNIQUE (event, source, target, in_doubt)
    ) STRICT;
    CREATE TABLE executions (
        number INTEGER PRIMARY KEY, -- the journal's
        saga_id TEXT NOT NULL,
        definition INTEGER NOT NULL,
        is_branch INTEGER NOT NULL,
        accepted_at REAL NOT NULL,
        state TEXT NOT NULL,
        changed_at REAL NOT NULL,
        error TEXT NOT NULL,  -- of its failure, see `Filter`, or empty
        step TEXT NOT NULL,   -- in which it is or, once ended, failed, or empty
        failed_step TEXT NOT NULL,
        is_final INTEGER NOT NULL, -- whether the failure gave a part up
        history TEXT NOT NULL -- JSON: number of the move, and time, of each record
    ) STRICT;
    CREATE INDEX executions_by_change ON executions (changed_at);
    CREATE VIRTUAL TABLE ids USING fts5 (
        saga_id, content='executions', content_rowid='number', tokenize='trigram case_sensitive 1', columnsize=0
    );
    CREATE TABLE samples (
        definition INTEGER NOT NULL,
        span INTEGER NOT NULL, -- see `span_of`
        kind TEXT NOT NULL,    -- see `samples` in ``machines.py``
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (definition, span, kind, name, size)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE places (
        definition INTEGER NOT NULL,
        is_branch INTEGER NOT NULL,
        state TEXT NOT NULL,
        error TEXT NOT NULL,
        step TEXT NOT NULL,
        span INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (definition, state, span, error, step, is_branch)
    ) STRICT, WITHOUT ROWID;
    """

PLACE: Final = "SELECT cursor, at, file FROM place"
SET_PLACE: Final = "INSERT OR REPLACE INTO place VALUES (1, ?, ?, ?)"
DEFINE: Final = "INSERT OR IGNORE INTO definitions (saga, version) VALUES (?, ?)"
DEFINITION: Final = "SELECT number FROM definitions WHERE saga = ? AND version = ?"
NAME_MOVE: Final = "INSERT OR IGNORE INTO moves (event, source, target, in_doubt) VALUES (?, ?, ?, ?)"
MOVE: Final = "SELECT number FROM moves WHERE event = ? AND source = ? AND target = ? AND in_doubt = ?"
MOVES: Final = "SELECT number, event, source, target, in_doubt FROM moves"
EXECUTION: Final = """
    SELECT saga_id, definition, is_branch, accepted_at, state, changed_at, error, step, failed_step, is_final, history
    FROM executions WHERE number = ?"""
KEEP: Final = "INSERT OR REPLACE INTO executions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
REMOVE: Final = "DELETE FROM executions WHERE number = ?"
KEEP_ID: Final = "INSERT INTO ids (rowid, saga_id) VALUES (?, ?)"
REMOVE_ID: Final = "INSERT INTO ids (ids, rowid, saga_id) VALUES ('delete', ?, ?)"
ADD_SAMPLES: Final = """
    INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET count = count + excluded.count"""
DROP_SAMPLES: Final = """
    DELETE FROM samples WHERE (definition, span, kind, name, size) = (?, ?, ?, ?, ?) AND count = 0"""
ADD_PLACES: Final = """
    INSERT INTO places (definition, is_branch, state, error, step, span, count) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET count = count + excluded.count"""
DROP_PLACES: Final = """
    DELETE FROM places WHERE (definition, is_branch, state, error, step, span) = (?, ?, ?, ?, ?, ?) AND count = 0"""

COUNT: Final = """
    SELECT key, sum(count) FROM (
        SELECT {key} AS key, p.count FROM places p JOIN definitions d ON d.number = p.definition
        WHERE p.span >= :low AND p.span < :high AND {where}
        UNION ALL
        SELECT {key}, 1 FROM executions p JOIN definitions d ON d.number = p.definition
        WHERE p.changed_at >= :since AND p.changed_at < :low_at AND {where}
        UNION ALL
        SELECT {key}, 1 FROM executions p JOIN definitions d ON d.number = p.definition
        WHERE p.changed_at >= :high_at AND p.changed_at < :until AND {where}
    ) GROUP BY key"""
OF_SAGA: Final = "SELECT number FROM definitions WHERE (?1 IS NULL OR saga = ?1) AND (?2 IS NULL OR version = ?2)"
SAMPLES: Final = """
    SELECT kind, name, size, sum(count) FROM samples
    WHERE definition = ? AND span >= ? GROUP BY kind, name, size"""
STATES: Final = "SELECT state, error, step, span, count FROM places WHERE definition = ?"
COUNTS: Final = """
    SELECT d.saga, d.version, p.state, sum(p.count) FROM places p JOIN definitions d ON d.number = p.definition
    GROUP BY d.saga, d.version, p.state"""

WITH_TEXT: Final = """
    SELECT e.number, e.saga_id, d.saga, d.version FROM ids i
        CROSS JOIN executions e ON e.number = i.rowid CROSS JOIN definitions d ON d.number = e.definition
    WHERE i.ids MATCH ? AND i.rowid < ? AND instr(e.saga_id, ?) ORDER BY i.rowid DESC LIMIT ?"""
WITH_SHORT_TEXT: Final = """
    SELECT e.number, e.saga_id, d.saga, d.version FROM executions e CROSS JOIN definitions d ON d.number = e.definition
    WHERE e.number < ? AND instr(e.saga_id, ?) ORDER BY e.number DESC LIMIT ?"""

CONDITIONS: Final = {
    "states": "EXISTS (SELECT 1 FROM json_each(:states) WHERE value IN (p.state, "
    "substr(p.state, 1, instr(p.state || '.', '.') - 1)))",
    "error": "p.error <> '' AND (p.error = :error OR substr(p.error, -length(:error) - 1) = '.' || :error)",
    "step": "p.step = :step",
    "roots": "p.is_branch = 0",
}
KEYS: Final = {
    None: "''",
    "state": "p.state",
    "saga": "d.saga",
    "version": "d.version",
    "error": "p.error",
    "step": "p.step",
}
