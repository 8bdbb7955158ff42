"""Group commit: threads that write at the same time share one transaction. One of them leads; there is no extra thread.

A thread that arrives while no other thread writes is the *leader*: it executes the jobs of all threads in the queue and
sets their results. A thread that arrives later queues, and the first thread in the queue leads the next group. A single
writer acquires no lock: it only puts itself into the place of the leader, and leaves this place.

Two rules keep many threads cheap (docs/costs.md has the figures). The *chain*: the leader wakes one follower, and each
follower wakes its neighbour. The *linger*: the next leader first lets these followers run, for a limited time, because
most of them return with their next record and share its commit.

An interrupt can hit the leader between any two lines. Even then no thread waits forever: every `PATIENCE` seconds a
waiting thread checks whether its jobs are done, whether it leads, or whether its jobs were lost.

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

import msgspec

from fsm_mediator.errors import JournalError

J = TypeVar("J")

LINGER: Final = 0.005
"""The maximum number of seconds for which a leader lets up to 50 followers run first. It is the interpreter's switch
interval."""

LINGER_EACH: Final = 0.0001
"""The maximum number of seconds for each follower, if there are more than 50 followers."""

LEADER: Final = "leader"
"""The key of the leader in the dictionary that has it."""

PATIENCE: Final = 0.25
"""Seconds after which a waiting thread checks its jobs itself, because its neighbour may run late or never."""


class _NotWrittenError(JournalError):
    """The leader was interrupted before the jobs were done. The threads of the jobs can submit them again."""


class Waiter(msgspec.Struct, Generic[J], eq=False):
    """A thread's place in the queue, with its jobs and their results.

    Attributes:
        jobs: The jobs. Empty if the thread only wants to lead.
        results: The result of each job: a value, or the error that refused the job. None if the jobs are not done yet.
        failure: The reason why none of the jobs was done, if the whole group failed.
        wake: A lock that is released to wake the thread. None if the thread does not wait.
        neighbour: The lock that the thread releases after it was woken, in order to wake the next thread.
        thread: The id of the thread.
    """

    jobs: Sequence[J]
    results: list[Any] | None = None
    failure: BaseException | None = None
    wake: threading.Lock | None = None
    neighbour: threading.Lock | None = None
    thread: int = msgspec.field(default_factory=threading.get_ident)

    @property
    def done(self) -> bool:
        """Whether the jobs are finished: they were done, or the whole group failed."""
        return self.results is not None or self.failure is not None


def set_results(waiters: Sequence[Waiter[J]], results: list[Any]) -> None:
    """Give each of *waiters* the results of its jobs. *results* has a result for each job of all waiters, in order."""
    start = 0
    for waiter in waiters:
        end = start + len(waiter.jobs)
        waiter.results = results[start:end]
        start = end


class GroupCommit(Generic[J]):
    """Lets one thread at a time write. This thread also does the jobs of all threads that wait.

    Args:
        commit: Does the jobs of a group in one transaction, and sets the `results` or the `failure` of each waiter.
            It raises only interrupts.
        alone: Does a single job and returns its result. If this is not possible, it changes nothing and returns None.
            Then *commit* does the job.

    Attributes:
        waiting: The queue: the waiters whose jobs no leader has taken yet.
        lead: The leader, under the key `LEADER`. Empty if no thread leads. `dict.setdefault` tests and changes it in
            one step: neither another thread nor an interrupt can come in between. So a single writer needs no lock.
    """

    def __init__(self, commit: Callable[[Sequence[Waiter[J]]], None], alone: Callable[[J], Any]) -> None:
        self._commit = commit
        self._alone = alone
        self.lead: dict[str, Waiter[J]] = {}
        self._mutex = threading.Lock()  # for all changes of the queue
        self.waiting: deque[Waiter[J]] = deque()
        self._queued: dict[int, Waiter[J]] = {}  # by thread: the waiters that wait for results or for the lead
        self._under_way: Sequence[Waiter[J]] = ()  # the leader, and the waiters whose jobs the leader does
        self._followers_awake: threading.Lock | None = None  # released by the last follower of the last group
        self._followers = 0  # the number of followers in the last group

    @property
    def is_led(self) -> bool:
        """Whether a thread leads now: it writes for the threads in the queue."""
        return bool(self.lead)

    def _leads(self, waiter: Waiter[J]) -> bool:
        return self.lead.get(LEADER) is waiter

    def perform(self, jobs: Sequence[J]) -> list[Any]:
        """Do *jobs* durably, in one transaction that other threads may share. Returns the result of each job.

        Raises:
            JournalError: The transaction failed and nothing was done. Or the leading thread was interrupted, and it is
                not known whether the jobs were done.
        """
        waiter = Waiter(jobs)
        try:
            if self.lead_or_queue(waiter) or self._wait_for_turn(waiter):
                if self._followers_awake is not None:
                    self._let_followers_catch_up()
                if len(jobs) == 1 and not self.waiting:
                    result = self._alone(jobs[0])
                    if result is not None:
                        del self.lead[LEADER]
                        if self.waiting:  # some threads came meanwhile
                            self._appoint_leader()
                        return [result]
                self._lead(waiter)
        except BaseException:
            self.release(waiter)  # an interrupt must not leave the other threads without a leader
            raise
        if waiter.failure is not None:
            if isinstance(waiter.failure, _NotWrittenError):
                return self.perform(jobs)  # another thread was interrupted, not this one
            raise waiter.failure
        assert waiter.results is not None
        return waiter.results

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep all other threads from writing during the ``with`` block."""
        waiter: Waiter[J] = Waiter(())
        try:
            if not self.lead_or_queue(waiter):
                self._wait_for_turn(waiter)
            yield
        finally:
            self.release(waiter)

    def acquire(self, timeout: float = -1) -> Waiter[J] | None:
        """Keep all other threads from writing until `release` is called with the returned waiter.

        Args:
            timeout: Seconds to wait. -1 for no limit.

        Returns:
            The waiter. None if the time was too short.
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
        """Lead if no other thread leads; otherwise join the queue. Returns whether *waiter* leads.

        Raises:
            JournalError: This thread already leads or waits, so it would wait for itself.
        """
        leader = self.lead.setdefault(LEADER, waiter)
        if leader is waiter:
            return True
        if leader.thread == waiter.thread or self._queued.setdefault(waiter.thread, waiter) is not waiter:
            raise JournalError(
                "the journal was used by code that runs inside one of its own writes (a finaliser, a signal handler), "
                "and would wait for itself. Use the journal later, or in another thread"
            )
        wake = waiter.wake = threading.Lock()
        wake.acquire()
        with self._mutex:
            self.waiting.append(waiter)
        if not self.lead:  # the leader left before this thread was in the queue
            self._appoint_leader()
        return False

    def _appoint_leader(self) -> None:
        """If no thread leads, make the first thread in the queue the leader, and wake it.

        A single writer leaves without the mutex. So a thread that queues calls this after it joined the queue, and a
        thread that leaves calls this after it left: one of the two sees the other.
        """
        with self._mutex:
            first = self.waiting[0] if self.waiting else None
            if first is not None and self.lead.setdefault(LEADER, first) is first:
                self.waiting.popleft()
                if first.wake is not None:
                    first.wake.release()

    def release(self, waiter: Waiter[J]) -> None:
        """Give up the lead, or the place in the queue."""
        try:
            if not self._leads(waiter):
                with self._mutex:
                    if waiter in self.waiting:
                        self.waiting.remove(waiter)
            if self._leads(waiter):
                self._pass_lead()
            # If this thread was interrupted while the leader does this thread's jobs, this thread waits until the jobs
            # are done, so that they can be undone.
            while not waiter.done and waiter in self._under_way and waiter.wake is not None:
                waiter.wake.acquire(timeout=PATIENCE)
        finally:
            if self._leads(waiter):  # an interrupt came before the lead was passed
                self._pass_lead()
            self._leave_queue(waiter)

    def _wait_for_turn(self, waiter: Waiter[J], timeout: float = -1) -> bool:
        """Wait until *waiter* leads or its jobs are done. Returns whether it leads."""
        wake = waiter.wake
        assert wake is not None
        woken = wake.acquire(True, timeout if timeout >= 0 else PATIENCE)
        if timeout < 0:
            while not (woken or waiter.done or self._leads(waiter)):
                self._appoint_leader()  # an interrupted thread may have left without doing this
                self._check_lost(waiter)
                woken = wake.acquire(True, PATIENCE)
        if woken:
            self._woken(waiter)
        else:
            self._leave_queue(waiter)
        return self._leads(waiter)

    def _woken(self, waiter: Waiter[J]) -> None:
        """Do what `_leave_queue` does, for a waiter that was woken: no other thread changes this waiter any more.

        Therefore the mutex is not needed. It would cost a saga of three steps four more acquisitions.
        """
        self._queued.pop(waiter.thread, None)
        waiter.wake = None
        neighbour, waiter.neighbour = waiter.neighbour, None
        if neighbour is not None:
            neighbour.release()

    def _check_lost(self, waiter: Waiter[J]) -> None:
        with self._mutex:
            known = waiter.done or self._leads(waiter) or waiter in self.waiting or waiter in self._under_way
            if not known:
                waiter.failure = JournalError(
                    "the thread that wrote for several threads was interrupted; whether this was written is not known"
                )

    def _leave_queue(self, waiter: Waiter[J]) -> None:
        """Mark *waiter* as not waiting any more, and wake the next thread, its neighbour."""
        with self._mutex:
            if waiter in self.waiting:  # also if an interrupted thread made it the leader, and did nothing more
                self.waiting.remove(waiter)
            waiter.wake = None
            if self._queued.get(waiter.thread) is waiter:
                del self._queued[waiter.thread]
            neighbour, waiter.neighbour = waiter.neighbour, None
        if neighbour is not None:
            neighbour.release()

    def _let_followers_catch_up(self) -> None:
        awake, self._followers_awake = self._followers_awake, None
        if awake is not None:
            awake.acquire(timeout=max(LINGER, LINGER_EACH * self._followers))

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
                    each.failure = _NotWrittenError("the thread that wrote for several threads was interrupted")
            self._pass_lead(self._under_way[1:])

    def _pass_lead(self, followers: Sequence[Waiter[J]] = ()) -> None:
        """Wake the next leader, and the first of the *followers* of this group."""
        first = turn = None
        with self._mutex:
            self._under_way = ()
            if self.waiting:
                leader = self.lead[LEADER] = self.waiting.popleft()
                turn = leader.wake
            else:
                del self.lead[LEADER]
            if followers:
                self._followers = len(followers)
                first = self._followers_awake = threading.Lock()
                first.acquire()
                for each in reversed(followers):
                    if each.wake is not None:
                        each.neighbour, first = first, each.wake
        if turn is not None:
            turn.release()
        if first is not None:
            first.release()
