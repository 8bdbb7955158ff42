"""Write: a commit as rows, and the statements that write a single commit. ``batch.py`` writes many commits together."""

from __future__ import annotations

from sqlite3 import Cursor, IntegrityError
from typing import Any, Final

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.codec import Codec
from fsm_mediator.journal.note_rows import note_row
from fsm_mediator.journal.protocol import Commit, Written
from fsm_mediator.journal.rows import Row, acceptance_row, item_row, planned_rows, record_rows
from fsm_mediator.journal.sqlite import sql
from fsm_mediator.journal.sqlite.leases import IdCache
from fsm_mediator.journal.sqlite.slots import Place, SlotJudge
from fsm_mediator.journal.storable import stored_name
from fsm_mediator.records import Acceptance
from fsm_mediator.states import ENDED


class Write:
    """A commit, encoded by the thread that writes it. The leader of the group commit executes it.

    Raises:
        PayloadError: A value or a name cannot be journaled.
        JournalError: The numbers of its records are not consecutive.
    """

    __slots__ = (
        *("_ids", "cipher", "commit", "held", "notes", "opens", "place", "plain", "plans", "posts", "rows", "slots"),
    )

    def __init__(self, commit: Commit, ids: IdCache, codec: Codec, slots: SlotJudge) -> None:
        self._ids = ids
        self.cipher: Final = codec.cipher
        self.slots = slots
        self.place: Place | None = None
        self.commit = commit
        self.held: bool = commit.held and commit.driver is not None
        self.rows: list[Row] = record_rows(commit.records, commit.saga_id, codec)
        more: Any = commit.taken or commit.children or commit.dormant or commit.posts or commit.unless_mail
        more = more or commit.plan or commit.notes or commit.token or commit.recoveries is not None
        self.plain: bool = not more and commit.slot is None
        if commit.acceptance is not None:
            if self.rows and self.rows[0][0] != 1:
                raise JournalError(f"execution {commit.saga_id!r} is new, so that its first record must be number 1")
            stored_name(commit.saga_id, "the id")
            self.rows.insert(0, acceptance_row(commit.acceptance, codec.encode, codec.cipher))
        if not self.plain:
            self._encode_more(commit, codec)

    def _encode_more(self, commit: Commit, codec: Codec) -> None:
        """Encode the parts that a plain commit does not have."""
        born, json, cipher = (*commit.children, *commit.dormant), codec.json, codec.cipher
        self.opens: list[tuple[Acceptance, Row]] = [(new, acceptance_row(new, json, cipher)) for new in born]
        self.posts: list[tuple[str, Row]] = [(to, item_row(item, to, json, cipher)) for to, item in commit.posts]
        self.plans: list[Row] = [] if commit.plan is None else planned_rows(commit.plan, codec)
        self.notes: list[tuple[str | None, Row]] = [(note.saga_id, note_row(note, cipher)) for note in commit.notes]
        for child in (*born, *(commit.plan.branches if commit.plan else ())):
            stored_name(child.saga_id, "the id")

    def ask_for_slot(self, cursor: Cursor, execution: int | None, own: int | None, at: float) -> float | None:
        """Ask for the slot that the commit names, or give up the execution's slot. Returns the new ``wake_at``.

        The result is *at* if the attempt queues and the commit has no ``wake_at``.
        """
        commit = self.commit
        if commit.slot == "":  # done at once, so that the next commit of the batch can get the slot
            cursor.execute(sql.GIVE_UP, (execution,))
        self.place = self.slots.ask(cursor, commit, execution, own) if commit.slot else None
        return commit.wake_at if self.place is None or self.place.begins or commit.wake_at is not None else at

    @property
    def saga_ids(self) -> tuple[str, ...]:
        """The ids of the execution and of the branches that the commit opens."""
        own = self.commit.saga_id
        return (own,) if self.plain else (own, *(child.saga_id for child, _ in self.opens))

    def as_plain_open(self) -> tuple[int, int] | None:
        """The numbers of definition and driver. None unless this commit only opens an execution with its first record.

        The execution has an owner, and neither a deadline nor a parent.
        """
        commit, ids = self.commit, self._ids
        acceptance = commit.acceptance
        if acceptance is None or not self.plain or not self.held or len(self.rows) != 2:
            return None
        if commit.wake_at is not None or acceptance.deadline_at is not None or acceptance.parent is not None:
            return None
        try:
            definition = ids.definitions[acceptance.saga, acceptance.version, acceptance.fingerprint]
            return definition, ids.drivers[commit.driver]
        except KeyError:
            return None

    def as_plain_append(self) -> tuple[int, int] | None:
        """The numbers of execution and driver. None unless this commit only adds the execution's next record.

        The previous record must have been written by this journal object.
        """
        commit, rows, ids = self.commit, self.rows, self._ids
        if not self.plain or len(rows) != 1 or commit.acceptance is not None or commit.wake_at is not None:
            return None
        try:
            number, last = ids.last_written[commit.saga_id]
            own = ids.drivers[commit.driver]
        except KeyError:
            return None
        if rows[0][0] != last + 1:
            return None
        if not self.held and (commit.epoch != 1 or rows[0][3] not in ENDED):
            return None
        return number, own

    def remember(self, number: int, last: int) -> None:
        """Store the execution's number and last record for `as_plain_append`, after the commit is written."""
        if self.held:
            self._ids.last_written[self.commit.saga_id] = (number, last)
        else:
            self._ids.last_written.pop(self.commit.saga_id, None)

    def execute_single(self, cursor: Cursor) -> Written | None:
        """Execute a plain open or a plain append in as few statements as possible.

        Nothing is read first: a statement changes only a matching row.

        Returns:
            None if no row matches, or if the commit is of another kind. Then nothing has changed.
        """
        commit, rows = self.commit, self.rows
        if (append := self.as_plain_append()) is not None:
            number, own = append
            try:
                cursor.execute(sql.APPEND, (*rows[0], number, commit.saga_id, commit.epoch, own))
            except IntegrityError:
                return None
            if cursor.rowcount != 1:
                return None
        elif (opening := self.as_plain_open()) is not None:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute(sql.OPEN_HELD, (commit.saga_id, *opening))
            if cursor.rowcount != 1:
                cursor.execute("ROLLBACK")
                return None
            assert cursor.lastrowid is not None
            number = cursor.lastrowid
            cursor.execute(sql.RECORD[2], (number, *rows[0], number, *rows[1]))
            cursor.execute("COMMIT")
        else:
            return None
        self.remember(number, rows[-1][0])
        return ()
