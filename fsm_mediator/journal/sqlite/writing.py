"""Writer: does the jobs of all threads of one journal, one thread at a time.

Only the leader of the group commit uses the writing connection. Therefore a thread that closes the connections also
takes the lead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.group_commit import GroupCommit, Waiter
from fsm_mediator.journal.sqlite import transaction
from fsm_mediator.journal.sqlite.commit import Write
from fsm_mediator.journal.sqlite.connections import Connections
from fsm_mediator.journal.sqlite.errors import ERRORS, is_busy, to_journal_error
from fsm_mediator.journal.sqlite.leases import IdCache

CLOSING: Final = 1.0
"""The maximum number of seconds for which a journal that is no longer used waits for its threads before it closes."""


class Writer:
    """Writes through the writing connection of a journal. It has no reference to the journal, which can be freed.

    Args:
        connections: The connections of the journal.

    Attributes:
        group: The queue of the threads that write.
        ids: The numbers that commits need.
    """

    group: GroupCommit[transaction.Job]
    ids: IdCache

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.reset()

    def reset(self) -> None:
        """Forget the threads and the numbers of the parent process. Called in the child after a fork."""
        self.group = GroupCommit(self._commit, self._commit_single)
        self.ids = IdCache()

    def _commit_single(self, job: transaction.Job) -> Any:
        if not isinstance(job, Write):
            return None
        connections = self._connections
        cursor = connections.writer()
        try:
            return job.execute_single(cursor)
        except BaseException as error:
            connections.roll_back()
            if is_busy(error):
                return None  # another process writes: `_commit` waits for it
            self.ids.clear()
            if isinstance(error, ERRORS):
                raise to_journal_error(error, connections.path, "written", connections.busy_timeout) from error
            raise

    def _commit(self, waiters: Sequence[Waiter[transaction.Job]]) -> None:
        connections = self._connections
        try:
            cursor = connections.writer()
            transaction.perform(cursor, waiters, self.ids, path=connections.path, busy_timeout=connections.busy_timeout)
        except JournalError as error:
            for waiter in waiters:
                waiter.failure = error if len(waiters) == 1 else JournalError(str(error))
        finally:
            connections.roll_back()

    def close_unless_used(self) -> None:
        """Close all connections, unless a thread still writes or reads after `CLOSING` seconds."""
        waiter = self.group.acquire(CLOSING)
        if waiter is not None:
            try:
                self._connections.close(CLOSING)
            finally:
                self.group.release(waiter)
