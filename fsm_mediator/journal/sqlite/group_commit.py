"""Group commit: threads that write at the same time share one transaction. Leader and followers, no thread of its own.

Who comes while nobody writes is the *leader*: it takes along what others have queued by then, has it all written, and
has them told. Who comes meanwhile queues; the first of them leads the next group. A lone writer passes two uncontended
locks and nothing else, and the more come at a time, the more share a commit.

Those written for are woken one by one: each wakes its neighbour before it goes on. Woken all at once they would fight
for the interpreter's lock, each looking for it every few milliseconds: for 256 threads that cost as much again as the
sagas themselves (17 context switches a saga against 6). And who leads next lets them all have had their turn before it
begins, for `LINGER` seconds at most: with steps that are quick most are back with their next record by then, and share
the commit. Where nobody was written for there is nobody to wait for.

What a job does, and the database, must never enter this file.

Source: DeWitt et al., "Implementation Techniques for Main Memory Database Systems", 1984; leader and followers as in
InnoDB's and RocksDB's write queues.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

from fsm_mediator.errors import JournalError

J = TypeVar("J")

LINGER: Final = 0.005
"""The most seconds for which a leader lets others have their turn first: the interpreter's own switch interval."""

PATIENCE: Final = 0.25
"""Seconds after which who waits looks for itself whether it was done: its neighbour may be long in having its turn."""


class _NotWrittenError(JournalError):
    """Whoever wrote for several was interrupted before it was done: they can have it done anew."""


class Waiter(Generic[J]):
    """One thread's turn: its jobs, and what came of them.

    Attributes:
        jobs: What it wants done; empty: nothing, it wants to be alone for a while.
        results: What came of each, once it was done: a value, or the error that refused this one.
        failure: Why none of them was done, where the whole group failed.
        wake: Released when it is done, or leads; there if it has to wait for that.
        wakes: What it releases in turn, once it was woken.
        gone: Whether it was woken, or waits no more, so that it will wake nobody from now on.
    """

    # Of the class until they are set: a lone writer's ticket never has most of them.
    results: list[Any] | None = None
    failure: BaseException | None = None
    wake: threading.Lock | None = None
    wakes: threading.Lock | None = None
    gone = False

    def __init__(self, jobs: Sequence[J]) -> None:
        self.jobs = jobs
        self.thread = threading.get_ident()

    @property
    def done(self) -> bool:
        """Whether its jobs were done, or failed."""
        return self.results is not None or self.failure is not None


class GroupCommit(Generic[J]):
    """Lets one thread at a time write, for all that wait.

    Args:
        commit: Is given the tickets of a group, does their jobs in one transaction, and sets the `results` or the
            `failure` of each. Nothing but an interrupt may leave it as an exception.
        alone: Is given the only job there is; does it and returns what came of it, or None: it is one for *commit*.
    """

    def __init__(self, commit: Callable[[Sequence[Waiter[J]]], None], alone: Callable[[J], Any]) -> None:
        self._commit = commit
        self._alone = alone
        self._mutex = threading.Lock()
        self._leader: Waiter[J] | None = None
        self._waiting: deque[Waiter[J]] = deque()
        self._queued: dict[int, Waiter[J]] = {}  # by thread: those that wait to be written for, or to lead
        self._under_way: Sequence[Waiter[J]] = ()  # those that the leader writes for, itself among them
        self._all_told: threading.Lock | None = None  # released by the last of those who were written for

    def perform(self, jobs: Sequence[J]) -> list[Any]:
        """Have *jobs* done, durably, in one transaction; what came of each.

        Raises:
            JournalError: The transaction failed; nothing was done.
        """
        ticket = Waiter(jobs)
        try:
            leads = self._leads_or_queues(ticket)
            if leads and self._all_told is not None:
                self._linger()
            if leads and len(jobs) == 1 and not self._waiting:
                result = self._alone(jobs[0])
                if result is not None:
                    self._hand_over()
                    return [result]
            if leads or self._has_come_to_lead(ticket):
                self._lead(ticket)
        except BaseException:
            self._withdraw(ticket)  # a KeyboardInterrupt must not leave the others without a leader
            raise
        if ticket.failure is not None:
            if isinstance(ticket.failure, _NotWrittenError):
                return self.perform(jobs)  # it was another thread that was interrupted, and not us
            raise ticket.failure
        assert ticket.results is not None
        return ticket.results

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Keep everybody else from writing while the ``with`` block lasts."""
        ticket: Waiter[J] = Waiter(())
        try:
            self._stop(ticket, -1)
            yield
        finally:
            self.go_on(ticket)

    def stop(self, timeout: float = -1) -> Waiter[J] | None:
        """Keep everybody else from writing, until `go_on` is given what is returned.

        Args:
            timeout: Seconds to wait for it; -1: as long as it takes.

        Returns:
            What to give to `go_on`; None: it took too long, and nothing was stopped.
        """
        ticket: Waiter[J] = Waiter(())
        try:
            leads = self._stop(ticket, timeout)
        except BaseException:
            self._withdraw(ticket)
            raise
        if not leads:
            self._withdraw(ticket)
        return ticket if leads else None

    def _stop(self, ticket: Waiter[J], timeout: float) -> bool:
        return self._leads_or_queues(ticket) or self._has_come_to_lead(ticket, timeout)

    def go_on(self, ticket: Waiter[J]) -> None:
        """Let others write again."""
        self._withdraw(ticket)

    def _leads_or_queues(self, ticket: Waiter[J]) -> bool:
        with self._mutex:
            if self._leader is None:
                self._leader = ticket
                return True
            self._queue(ticket)
            return False

    def _queue(self, ticket: Waiter[J]) -> None:
        assert self._leader is not None
        if self._leader.thread == ticket.thread or ticket.thread in self._queued:
            raise JournalError(
                "the journal was used by what runs inside one of its own writes (a finaliser, a signal handler); "
                "it would wait for itself. Do it later, or in another thread"
            )
        ticket.wake = threading.Lock()
        ticket.wake.acquire()
        self._queued[ticket.thread] = ticket
        self._waiting.append(ticket)

    def _has_come_to_lead(self, ticket: Waiter[J], timeout: float = -1) -> bool:
        """Wait until *ticket* is done, or leads; whether it leads."""
        assert ticket.wake is not None
        if timeout >= 0:
            ticket.wake.acquire(timeout=timeout)
        else:
            while not (ticket.wake.acquire(timeout=PATIENCE) or ticket.done or self._leader is ticket):
                self._look_after(ticket)
        self._waits_no_more(ticket)
        if self._leader is not ticket:
            return False
        self._linger()
        return True

    def _look_after(self, ticket: Waiter[J]) -> None:
        """Give up for who was lost: a KeyboardInterrupt hit the leader between any two lines."""
        with self._mutex:
            known = ticket.done or self._leader is ticket or ticket in self._waiting or ticket in self._under_way
            if not known:
                ticket.failure = JournalError(
                    "the thread that wrote for several was interrupted; whether this was written is not known"
                )

    def _waits_no_more(self, ticket: Waiter[J]) -> None:
        """Leave the queue for good, and wake the neighbour."""
        with self._mutex:
            ticket.gone = True
            if self._queued.get(ticket.thread) is ticket:
                del self._queued[ticket.thread]
            wakes, ticket.wakes = ticket.wakes, None
        if wakes is not None:
            wakes.release()

    def _linger(self) -> None:
        """As the leader: let those who were just written for have their turn, and perhaps queue."""
        all_told, self._all_told = self._all_told, None
        if all_told is not None:
            all_told.acquire(timeout=LINGER)

    def _lead(self, ticket: Waiter[J]) -> None:
        self._under_way = (ticket,)
        try:
            if self._waiting:
                with self._mutex:
                    taken = list(itertools.takewhile(lambda each: each.jobs, self._waiting))
                    left = deque(itertools.islice(self._waiting, len(taken), None))
                    self._under_way, self._waiting = (ticket, *taken), left  # no interrupt comes between these two
            self._commit(self._under_way)
        finally:
            for each in self._under_way:
                if not each.done:
                    each.failure = _NotWrittenError("the thread that wrote for several was interrupted")
            self._hand_over(self._under_way[1:])

    def _hand_over(self, told: Sequence[Waiter[J]] = ()) -> None:
        """Lead no more: wake who leads next, and the first of those who were written for, who wakes the second."""
        first = None
        with self._mutex:
            self._under_way = ()
            self._leader = leader = self._waiting.popleft() if self._waiting else None
            if told:
                first = self._all_told = threading.Lock()
                first.acquire()
                for each in reversed(told):
                    if not each.gone:
                        each.wakes, first = first, each.wake
        if leader is not None and leader.wake is not None:
            leader.wake.release()
        if first is not None:
            first.release()

    def _withdraw(self, ticket: Waiter[J]) -> None:
        try:
            if self._leader is ticket:
                self._hand_over()
            elif ticket in self._waiting:
                with self._mutex:
                    if ticket in self._waiting:
                        self._waiting.remove(ticket)
                        return
                self._withdraw(ticket)  # it came to lead, or was taken along, between the two looks
            else:  # it is being written for, or was: who is interrupted leaves when that is settled, and can be undone
                while not ticket.done and ticket in self._under_way and ticket.wake is not None:
                    ticket.wake.acquire(timeout=PATIENCE)
        finally:
            self._waits_no_more(ticket)
