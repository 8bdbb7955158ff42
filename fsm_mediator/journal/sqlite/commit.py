"""Writing: commits, many at a time, within a transaction that somebody else began.

The journal judges nothing but whose an execution is: the epoch and the driver in its row must be those the commit was
made under, and its first record must follow the last one kept. Everything is looked at first, all in one query, and
what is to be refused is refused before anything is changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from sqlite3 import Cursor, IntegrityError
from typing import Any, TypeAlias

import msgspec

from fsm_mediator.errors import JournalError, LeaseLostError
from fsm_mediator.journal.protocol import Commit, IdTakenError, Written
from fsm_mediator.journal.sqlite import queries
from fsm_mediator.journal.sqlite.leases import IdCache, post, unknown_driver
from fsm_mediator.journal.sqlite.rows import (
    Row,
    acceptance_row,
    attention,
    item_row,
    items_of,
    record_rows,
    standing_row,
    stored_name,
)
from fsm_mediator.journal.sqlite.transaction import Batched
from fsm_mediator.records import CHILD, Acceptance
from fsm_mediator.states import ENDED, PENDING, STUCK

_Found: TypeAlias = tuple[int, int, int | None, int, bool, int]
"""An execution as it stands: its number, epoch, driver, mail, whether it has a ``wake_at``, its last record."""

_found_in = msgspec.json.Decoder(list[tuple[int, int, int, int | None, int, bool, int]]).decode


class Write(Batched):
    """A commit, encoded by the thread that wants it written, to be done by the one that leads.

    Raises:
        PayloadError: Something in it cannot be journaled.
        JournalError: Its records do not follow one another.
    """

    __slots__ = ("_known", "commit", "held", "opens", "plain", "posts", "rows")

    def __init__(self, commit: Commit, known: IdCache, limit: int) -> None:
        self._known = known
        self.commit = commit
        self.held = commit.held and commit.driver is not None
        self.rows = record_rows(commit.records, commit.saga_id, limit)
        self.plain = not (commit.taken or commit.children or commit.dormant or commit.posts)
        if commit.acceptance is not None:
            if self.rows and self.rows[0][0] != 1:
                raise JournalError(f"execution {commit.saga_id!r} is new, so that its first record must be number 1")
            stored_name(commit.saga_id, "the id")
            self.rows.insert(0, acceptance_row(commit.acceptance, limit))
        if not self.plain:
            self.opens = [(child, acceptance_row(child, limit)) for child in (*commit.children, *commit.dormant)]
            self.posts = [(saga_id, item_row(item, saga_id, limit)) for saga_id, item in commit.posts]
            for child, _ in self.opens:
                stored_name(child.saga_id, "the id")

    @property
    def ids(self) -> tuple[str, ...]:
        """The execution's own id, and those of the branches that it opens."""
        return (
            (self.commit.saga_id,) if self.plain else (self.commit.saga_id, *(child.saga_id for child, _ in self.opens))
        )

    def opening(self) -> tuple[int, int] | None:
        """The numbers of its definition and driver, if it does nothing but open an execution that begins at once."""
        commit, known = self.commit, self._known
        acceptance = commit.acceptance
        if acceptance is None or not self.plain or not self.held or len(self.rows) != 2:
            return None
        if commit.wake_at is not None or acceptance.deadline_at is not None or acceptance.parent is not None:
            return None
        own = known.drivers.get(commit.driver)
        definition = known.definitions.get((acceptance.saga, acceptance.version, acceptance.fingerprint))
        return None if own is None or definition is None else (definition, own)

    def going_on(self) -> tuple[int, int] | None:
        """The numbers of its execution and driver, if it does nothing but go on by one record from where we left it."""
        commit, rows, known = self.commit, self.rows, self._known
        standing = known.standing.get(commit.saga_id)
        if standing is None or not self.plain or len(rows) != 1 or commit.acceptance is not None:
            return None
        number, last = standing
        own = known.drivers.get(commit.driver)
        if own is None or rows[0][0] != last + 1 or commit.wake_at is not None:
            return None
        if not self.held and (commit.epoch != 1 or rows[0][3] not in ENDED):
            return None
        return number, own

    def stands(self, number: int) -> None:
        """It is written: remember where its execution stands."""
        if self.held:
            self._known.standing[self.commit.saga_id] = (number, self.rows[-1][0])
        else:
            self._known.standing.pop(self.commit.saga_id, None)

    def alone(self, cursor: Cursor) -> Written | None:
        """The usual cases, in as few statements as can be, and without a look first: that a row matches is the look.

        An execution is opened; or one that is held, at the record it was left at, with an empty inbox, gets its next
        record. None, and nothing was done: it is another case, or is to be refused.
        """
        commit, rows = self.commit, self.rows
        if (going_on := self.going_on()) is not None:
            number, own = going_on
            try:
                cursor.execute(queries.GO_ON, (*rows[0], number, commit.saga_id, commit.epoch, own))
            except IntegrityError:
                return None
            if cursor.rowcount != 1:
                return None
        elif (opening := self.opening()) is not None:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute(queries.OPEN_HELD, (commit.saga_id, *opening))
            if cursor.rowcount != 1:
                cursor.execute("ROLLBACK")
                return None
            assert cursor.lastrowid is not None
            number = cursor.lastrowid
            cursor.execute(queries.RECORD[2], (number, *rows[0], number, *rows[1]))
            cursor.execute("COMMIT")
        else:
            return None
        self.stands(number)
        return ()

    def together(self, cursor: Cursor, jobs: Sequence[Write]) -> list[Any]:
        """Do *jobs*; of each, what is in the execution's inbox then, or why it was refused."""
        known = self._known
        if len(jobs) == 1:
            return _write(cursor, known, jobs)
        results: list[Any] = [()] * len(jobs)
        left = _usual(cursor, jobs)
        while left:
            # Two that open the same id, say: the second must find what the first did.
            ids: set[str] = set()
            now, later = [], []
            for index in left:
                if ids.isdisjoint(jobs[index].ids):
                    ids.update(jobs[index].ids)
                    now.append(index)
                else:
                    later.append(index)
            for index, result in zip(now, _write(cursor, known, [jobs[each] for each in now]), strict=True):
                results[index] = result
            left = later
        return results


def _usual(cursor: Cursor, jobs: Sequence[Write]) -> list[int]:
    """Do those of *jobs* that are as most are, in a handful of statements; the others are returned, by their index.

    Nothing of theirs was changed then: that nothing stands in the way of the usual ones is asked before, or is undone.
    """
    ids: set[str] = set()
    opening: dict[int, tuple[int, int]] = {}
    going_on: dict[tuple[int, int], dict[int, int]] = {}
    for index, job in enumerate(jobs):
        saga_id = job.commit.saga_id
        if saga_id in ids:
            continue
        ids.add(saga_id)
        if job.commit.acceptance is None:
            if (standing := job.going_on()) is not None:
                number, own = standing
                going_on.setdefault((job.commit.epoch, own), {})[index] = number
        elif (opened := job.opening()) is not None:
            opening[index] = opened
    done: dict[int, int] = {}
    for (epoch, own), numbers in going_on.items():
        # By both: another may have been given the number of one that was pruned. There are as many as are wanted only
        # if each number is of one of these ids, and then of its own.
        wanted = queries.as_json(numbers.values()), queries.as_json(jobs[index].commit.saga_id for index in numbers)
        if cursor.execute(queries.STILL_HELD, (*wanted, epoch, own)).fetchone()[0] == len(numbers):
            done.update(numbers)
    owners = sorted({own for _, own in opening.values()})
    if opening and cursor.execute(queries.ENLISTED, (queries.as_json(owners),)).fetchone()[0] == len(owners):
        highest = cursor.execute(queries.HIGHEST).fetchone()[0] or 0
        opened_as = dict(zip(opening, range(highest + 1, highest + 1 + len(opening)), strict=True))
        rows = [(number, jobs[index].commit.saga_id, *opening[index]) for index, number in opened_as.items()]
        if queries.many(cursor, queries.OPEN_NEXT, rows) == len(rows):
            done.update(opened_as)
        else:  # one of them exists
            cursor.execute(queries.OPEN_NONE, (highest,))
    records = [(number, *row) for index, number in done.items() for row in jobs[index].rows]
    queries.many(cursor, queries.RECORD, records)
    for index, number in done.items():
        jobs[index].stands(number)
    return [index for index in range(len(jobs)) if index not in done]


class _Changes:
    """The rows that are to be written, gathered."""

    __slots__ = ("_next", "executions", "records", "standings", "wakes")

    def __init__(self, highest: int) -> None:
        self._next = highest
        self.executions: list[Row] = []
        self.records: list[Row] = []
        self.standings: list[Row] = []
        self.wakes: list[Row] = []

    def number(self) -> int:
        self._next += 1
        return self._next


def _write(cursor: Cursor, known: IdCache, writes: Sequence[Write]) -> list[Any]:
    known.drivers.clear()  # another process may have dismissed one, and what it opens nobody would take up
    found, highest = _look(cursor, writes)
    changes = _Changes(highest)
    decided = [_decided(cursor, known, write, found, changes) for write in writes]
    if changes.executions:
        queries.many(cursor, queries.OPEN, changes.executions)
    if changes.records:
        queries.many(cursor, queries.RECORD, changes.records)
    if changes.standings:
        queries.many(cursor, queries.STAND, changes.standings)
    if changes.wakes:
        cursor.executemany(queries.WAKE, changes.wakes)
    for write, standing in zip(writes, decided, strict=True):
        if not write.plain and not isinstance(standing, JournalError):
            for saga_id, row in write.posts:
                post(cursor, saga_id, row)
    results: list[Any] = []
    for write, standing in zip(writes, decided, strict=True):
        if isinstance(standing, JournalError):
            known.standing.pop(write.commit.saga_id, None)
            results.append(standing)
            continue
        number, last, mail = standing
        if write.held:
            known.standing[write.commit.saga_id] = (number, last)
        else:
            known.standing.pop(write.commit.saga_id, None)
        if mail or not write.plain:
            results.append(items_of(cursor.execute(queries.MAIL, (number,)).fetchall()))
        else:
            results.append(())
    return results


def _look(cursor: Cursor, writes: Sequence[Write]) -> tuple[dict[str, _Found], int]:
    """Those of the executions that there are, by id; and the highest number given so far."""
    if len(writes) == 1 and len(writes[0].ids) == 1:
        its = cursor.execute(queries.LOOK_AT_ONE, writes[0].ids).fetchone()
        if its is not None:
            return {writes[0].ids[0]: its}, 0
        return {}, cursor.execute(queries.HIGHEST).fetchone()[0] or 0
    ids = [saga_id for write in writes for saga_id in write.ids]
    rows, highest = cursor.execute(queries.LOOK, (queries.as_json(ids),)).fetchone()
    return {ids[its[0]]: its[1:] for its in _found_in(rows)}, highest or 0


def _decided(
    cursor: Cursor, known: IdCache, write: Write, found: dict[str, _Found], changes: _Changes
) -> JournalError | tuple[int, int, int]:
    """Its execution's number, last record, and mail; or why it is refused. What it changes goes to *changes*."""
    commit = write.commit
    for saga_id in write.ids if commit.acceptance is not None else write.ids[1:]:
        if saga_id in found:
            return IdTakenError(f"an execution {saga_id!r} exists; nothing was written")
    own = known.driver(cursor, commit.driver)
    if own is None and write.held:
        return unknown_driver(commit.driver)
    holder = own if write.held else None
    if commit.acceptance is not None:
        number, mail = changes.number(), 0
        state, at = (commit.records[-1].target, commit.records[-1].at) if commit.records else (PENDING, 0.0)
        changes.executions.append(_opening(cursor, known, commit.acceptance, number, state, at, holder, commit.wake_at))
        last = write.rows[-1][0]
    else:
        its = found.get(commit.saga_id)
        refusal = _refusal(write, own, its)
        if refusal is not None:
            return refusal
        assert its is not None
        number, epoch, driver, mail, waits, last = its
        for item in commit.taken:
            mail -= cursor.execute(queries.TAKE, (item, number)).rowcount
        if write.rows:
            last, state, at = write.rows[-1][0], write.rows[-1][3], write.rows[-1][4]
        else:
            state, at = cursor.execute(queries.LAST, (number,)).fetchone()
        waits = waits or commit.wake_at is not None
        if write.held and not commit.taken:
            if waits:
                changes.wakes.append((commit.wake_at, number))
        elif driver is None or commit.taken or epoch != 1 or state not in ENDED or mail or waits:
            # What is stuck is called by its branches alone.
            kinds = CHILD if state.startswith(STUCK) else "*"
            unseen = mail and cursor.execute(queries.UNSEEN, (number, commit.seen, kinds)).fetchone()[0]
            changes.standings.append(
                standing_row(number, holder, state, at, mail, commit.wake_at, unseen=unseen, awaits=commit.awaits)
            )
    changes.records.extend((number, *row) for row in write.rows)
    for each, (child, row) in enumerate(() if write.plain else write.opens):
        branch = changes.number()
        wake_at = None if each < len(commit.children) else math.inf  # dormant
        changes.executions.append(_opening(cursor, known, child, branch, PENDING, 0.0, None, wake_at))
        changes.records.append((branch, *row))
    return number, last, mail


def _refusal(write: Write, own: int | None, its: _Found | None) -> JournalError | None:
    """Why the next records of an execution that stands like this cannot be written."""
    saga_id = write.commit.saga_id
    if its is None:
        return JournalError(f"the journal knows no execution {saga_id!r}; was it pruned? Nothing was written")
    _, epoch, driver, _, _, last = its
    if epoch != write.commit.epoch or driver != own or (own is None and write.commit.driver is not None):
        return LeaseLostError(
            f"execution {saga_id!r} was taken over by another driver, or released; this one stops, nothing was written"
        )
    if write.rows and write.rows[0][0] != last + 1:
        return LeaseLostError(
            f"execution {saga_id!r} stands at record {last}, so that {write.rows[0][0]} cannot be its next: somebody "
            f"else has written in the meantime; nothing was written"
        )
    return None


def _opening(
    cursor: Cursor,
    known: IdCache,
    acceptance: Acceptance,
    number: int,
    state: str,
    at: float,
    driver: int | None,
    wake_at: float | None,
) -> Row:
    """The row of a new execution."""
    return (
        number,
        acceptance.saga_id,
        known.definition(cursor, acceptance),
        acceptance.deadline_at,
        None if acceptance.parent is None else stored_name(acceptance.parent, "the parent"),
        driver,
        wake_at,
        attention(state, driver is not None, 0, None if wake_at == math.inf else wake_at, awaits=wake_at == math.inf),
        at if driver is None and state in ENDED else None,
    )
