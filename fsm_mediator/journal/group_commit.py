"""Group commit: threads that write at the same time share one transaction. There is a leader, and no extra thread.

A thread that comes while no other writes is the *leader*: it executes the jobs of all threads that have queued by then,
and sets their results. A thread that comes later queues, and the first in the queue leads the next group. A lone writer
passes two uncontended locks and nothing else.

Two rules keep many threads cheap (docs/costs.md has the figures). The *chain*: the leader wakes one follower, and each
wakes its neighbour. The *linger*: the next leader first lets these followers run, for `LINGER` seconds at most, because
most of them come back with their next record and share its commit.

An interrupt can hit the leader between any two lines. No thread waits endlessly then: every `PATIENCE` seconds a
waiting thread checks whether it is done, leads, or was lost.

This file must never know the content of a job, nor the database.

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
"""The most seconds for which a leader lets followers run first: the interpreter's own switch interval."""

PATIENCE: Final = 0.25
"""Seconds after which a waiting thread checks for itself: its neighbour may get to run late, or never."""


class _NotWrittenError(JournalError):
    """The leader was interrupted before the jobs were done: their threads can submit them again."""


class Waiter(Generic[J]):
    """A thread's place in the queue: its jobs, and their results.

    Attributes:
        jobs: The jobs; empty: the thread only wants to lead.
        results: The result of each job: a value, or the error that refused it; None: not done yet.
        failure: Why none of the jobs was done, if the whole group failed.
        wake: Released to wake the thread; None: the thread does not wait.
        neighbour: The lock that the thread releases after it was woken.
    """

    # Class attributes until they are set: the waiter of a lone writer never sets most of them.
    results: list[Any] | None = None
    failure: BaseException | None = None
    wake: threading.Lock | None = None
    neighbour: threading.Lock | None = None

    def __init__(self, jobs: Sequence[J]) -> None:
        self.jobs = jobs
        self.thread: int = threading.get_ident()

    @property
    def done(self) -> bool:
        """Whether its jobs were done, or failed."""
        return self.results is not None or self.failure is not None


class GroupCommit(Generic[J]):
    """Lets one thread at a time write, for all that wait.

    Args:
        commit: Does the jobs of a group in one transaction, and sets the `results` or the `failure` of each waiter.
            Raises nothing but interrupts.
        alone: Does the only job there is and returns its result; or does nothing and returns None: *commit* has to.

    Attributes:
        waiting: The queue: the waiters whose jobs no leader has taken yet.
    """

    def __init__(self, commit: Callable[[Sequence[Waiter[J]]], None], alone: Callable[[J], Any]) -> None:
        self._commit = commit
        self._alone = alone
        self._mutex = threading.Lock()
        self._leader: Waiter[J] | None = None
        self.waiting: deque[Waiter[J]] = deque()
        self._queued: dict[int, Waiter[J]] = {}  # by thread: the waiters that wait to be done, or to lead
        self._under_way: Sequence[Waiter[J]] = ()  # the waiters whose jobs the leader does, itself included
        self._followers_awake: threading.Lock | None = None  # released by the last follower of the last group

    @property
    def is_led(self) -> bool:
        """Whether a thread writes for the others now."""
        return self._leader is not None

    def perform(self, jobs: Sequence[J]) -> list[Any]:
        """Have *jobs* done, durably, in one transaction. Returns the result of each.

        Raises:
            JournalError: The transaction failed; nothing was done.
        """
        waiter = Waiter(jobs)
        try:
            if self.lead_or_queue(waiter) or self._wait_for_turn(waiter):
                if self._followers_awake is not None:
                    self._let_followers_catch_up()
                if len(jobs) == 1 and not self.waiting:
                    result = self._alone(jobs[0])
                    if result is not None:
                        self._pass_lead()
                        return [result]
                self._lead(waiter)
        except BaseException:
            self.release(waiter)  # an interrupt must not leave the others without a leader
            raise
        if waiter.failure is not None:
            if isinstance(waiter.failure, _NotWrittenError):
                return self.perform(jobs)  # another thread was interrupted, not this one
            raise waiter.failure
        assert waiter.results is not None
        return waiter.results

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep all others from writing while the ``with`` block lasts."""
        waiter: Waiter[J] = Waiter(())
        try:
            if not self.lead_or_queue(waiter):
                self._wait_for_turn(waiter)
            yield
        finally:
            self.release(waiter)

    def acquire(self, timeout: float = -1) -> Waiter[J] | None:
        """Keep all others from writing, until `release` is called with the returned waiter.

        Args:
            timeout: Seconds to wait; -1: without limit.

        Returns:
            None if it took longer.
        """
        waiter: Waiter[J] = Waiter(())
        try:
            if self.lead_or_queue(waiter) or self._wait_for_turn(waiter, timeout):
                return waiter
        except BaseException:
            self.release(waiter)
            raise
        self.release(waiter)
        return None

    def lead_or_queue(self, waiter: Waiter[J]) -> bool:
        """Lead, if no other thread leads, or join the queue. Returns whether *waiter* leads.

        Raises:
            JournalError: This thread leads or waits already; it would wait for itself.
        """
        with self._mutex:
            if self._leader is None:
                self._leader = waiter
                return True
            self._queue(waiter)
            return False

    def release(self, waiter: Waiter[J]) -> None:
        """Give up the lead, or the place in the queue."""
        try:
            if self._leader is not waiter:  # else the next call passes the lead, so that no interrupt comes before
                with self._mutex:
                    if waiter in self.waiting:
                        self.waiting.remove(waiter)
            if self._leader is waiter:
                self._pass_lead()
            # If the leader has its jobs: an interrupted thread leaves when these are done, so that they can be undone.
            while not waiter.done and waiter in self._under_way and waiter.wake is not None:
                waiter.wake.acquire(timeout=PATIENCE)
        finally:
            self._leave_queue(waiter)

    def _queue(self, waiter: Waiter[J]) -> None:
        assert self._leader is not None
        if self._leader.thread == waiter.thread or waiter.thread in self._queued:
            raise JournalError(
                "the journal was used by what runs inside one of its own writes (a finaliser, a signal handler); "
                "it would wait for itself. Do it later, or in another thread"
            )
        waiter.wake = threading.Lock()
        waiter.wake.acquire()
        self._queued[waiter.thread] = waiter
        self.waiting.append(waiter)

    def _wait_for_turn(self, waiter: Waiter[J], timeout: float = -1) -> bool:
        """Wait until *waiter* leads, or is done. Returns whether it leads."""
        assert waiter.wake is not None
        if timeout >= 0:
            waiter.wake.acquire(timeout=timeout)
        else:
            while not (waiter.wake.acquire(timeout=PATIENCE) or waiter.done or self._leader is waiter):
                self._check_lost(waiter)
        self._leave_queue(waiter)
        return self._leader is waiter

    def _check_lost(self, waiter: Waiter[J]) -> None:
        with self._mutex:
            known = waiter.done or self._leader is waiter or waiter in self.waiting or waiter in self._under_way
            if not known:
                waiter.failure = JournalError(
                    "the thread that wrote for several was interrupted; whether this was written is not known"
                )

    def _leave_queue(self, waiter: Waiter[J]) -> None:
        """Wait no longer, and wake the neighbour."""
        with self._mutex:
            waiter.wake = None
            if self._queued.get(waiter.thread) is waiter:
                del self._queued[waiter.thread]
            neighbour, waiter.neighbour = waiter.neighbour, None
        if neighbour is not None:
            neighbour.release()

    def _let_followers_catch_up(self) -> None:
        awake, self._followers_awake = self._followers_awake, None
        if awake is not None:
            awake.acquire(timeout=LINGER)

    def _lead(self, waiter: Waiter[J]) -> None:
        self._under_way = (waiter,)
        try:
            if self.waiting:
                with self._mutex:
                    taken = list(itertools.takewhile(lambda each: each.jobs, self.waiting))
                    left = deque(itertools.islice(self.waiting, len(taken), None))
                    self._under_way, self.waiting = (waiter, *taken), left  # no interrupt comes between these two
            self._commit(self._under_way)
        finally:
            for each in self._under_way:
                if not each.done:
                    each.failure = _NotWrittenError("the thread that wrote for several was interrupted")
            self._pass_lead(self._under_way[1:])

    def _pass_lead(self, followers: Sequence[Waiter[J]] = ()) -> None:
        """Wake the next leader, and the first of the *followers* of this group."""
        first = None
        with self._mutex:
            self._under_way = ()
            self._leader = self.waiting.popleft() if self.waiting else None
            turn = None if self._leader is None else self._leader.wake
            if followers:
                first = self._followers_awake = threading.Lock()
                first.acquire()
                for each in reversed(followers):
                    if each.wake is not None:
                        each.neighbour, first = first, each.wake
        if turn is not None:
            turn.release()
        if first is not None:
            first.release()
