"""SharedWrites: if more than a few threads write at the same time, they share transactions.

A single commit takes one statement and one round trip. A few threads write side by side, each on its own connection;
this is the fastest. Many threads write together: one transaction for all their commits costs the server and the client
about as much as eight single commits. While threads write together, every new thread joins them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from fsm_mediator.errors import JournalError
from fsm_mediator.journal.group_commit import GroupCommit, Waiter, set_results
from fsm_mediator.journal.postgres.commit import Write
from fsm_mediator.journal.protocol import Written

MOST_ALONE: Final = 7
"""The maximum number of threads that write alone at the same time, besides the thread that writes for a group.

A transaction for fewer than about eight commits costs more than the same number of single statements (docs/costs.md).
"""

Result = Written | JournalError


class SharedWrites:
    """Writes the commits of threads: a few threads write alone, more threads write together.

    Args:
        execute: Writes commits in one transaction. Returns the result of each commit, or the error that refuses it.

    Attributes:
        group: The threads that write together.
    """

    def __init__(self, execute: Callable[[Sequence[Write]], list[Result]]) -> None:
        self._execute = execute
        self._alone = threading.Semaphore(MOST_ALONE)
        self.group: GroupCommit[Write] = GroupCommit(self._write_group, self._write_alone)

    def write(self, write: Write) -> Result:
        """Write one commit, durably. Returns its result, or the error that refuses it.

        Raises:
            JournalError: The database cannot be reached, or refuses the transaction.
        """
        if not self.group.is_led and self._alone.acquire(blocking=False):
            try:
                return self._write_alone(write)
            finally:
                self._alone.release()
        (result,) = self.group.perform([write])
        found: Result = result
        return found

    def _write_alone(self, write: Write) -> Result:
        return self._execute([write])[0]

    def _write_group(self, waiters: Sequence[Waiter[Write]]) -> None:
        try:
            results = self._execute([write for waiter in waiters for write in waiter.jobs])
        except Exception as error:  # every thread of the group raises it
            for waiter in waiters:
                waiter.failure = error
        else:
            set_results(waiters, results)
