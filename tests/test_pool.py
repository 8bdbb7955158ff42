"""The threads of a mediator: a bounded pool, a timer thread, and a call in its own thread."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fsm_mediator.mediator import pool as pool_module
from fsm_mediator.mediator.pool import ThreadCall, ThreadPool, Timer, TimerThread
from tests.drivers import PATIENCE, eventually

CITY: contextvars.ContextVar[str] = contextvars.ContextVar("city", default="nowhere")


def named(name: str) -> list[str]:
    """The names of the living threads that begin with *name*."""
    return [each.name for each in threading.enumerate() if each.name.startswith(name)]


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """An event on which jobs wait. It is set at the end, so that no thread stays."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def make() -> Iterator[Callable[[int], ThreadPool]]:
    """Makes pools, and stops them at the end."""
    made: list[ThreadPool] = []

    def make_pool(most: int) -> ThreadPool:
        made.append(ThreadPool(most, "jobs"))
        return made[-1]

    yield make_pool
    for each in made:
        each.stop()
    eventually(lambda: not named("jobs-"))


def test_pool_counts_the_jobs_that_could_begin(make, go):
    """Queued and running jobs are counted, and there are never fewer than no free workers."""
    jobs = make(2)
    assert jobs.free == 2
    begun = threading.Semaphore(0)

    def work() -> None:
        begun.release()
        go.wait(PATIENCE)

    for expected in (1, 0, 0):
        assert jobs.submit(work)
        assert jobs.free == expected
    assert begun.acquire(timeout=PATIENCE)
    assert begun.acquire(timeout=PATIENCE)
    assert (jobs.free, len(named("jobs-"))) == (0, 2)

    go.set()
    eventually(lambda: jobs.free == 2)
    assert len(named("jobs-")) == 2


def test_job_that_waits_for_others_leaves_its_place(make, go):
    """In `blocked`, a thread of the pool does not count, and `freed` is set. A thread of the caller changes nothing."""
    jobs, waits, freed = make(1), threading.Event(), list[bool]()

    def work() -> None:
        with jobs.blocked():
            freed.append(jobs.freed.is_set())
            waits.set()
            go.wait(PATIENCE)

    jobs.submit(work)
    assert waits.wait(PATIENCE)
    assert (jobs.free, freed) == (1, [True])
    with jobs.blocked():
        assert jobs.free == 1

    go.set()
    eventually(lambda: jobs.free == 1)


def test_job_that_begins_to_wait_lets_a_queued_job_begin(make, go):
    """A job was queued while the only thread worked. It begins when that thread waits for it."""
    jobs, begun, done = make(1), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(PATIENCE)
        with jobs.blocked():
            done.wait(PATIENCE)

    jobs.submit(work)
    assert begun.wait(PATIENCE)
    jobs.submit(done.set)
    go.set()

    assert done.wait(PATIENCE)


def test_idle_thread_is_used_again(make):
    """Jobs that come one after the other need one thread."""
    jobs, used = make(4), set[str]()
    for _ in range(3):
        jobs.submit(lambda: used.add(threading.current_thread().name))
        eventually(lambda: used and jobs.free == 4)

    assert used == {"jobs-1"}


def test_one_worker_is_enough_for_jobs_that_wait_for_jobs(make, go):
    """A thread that replaced a waiting thread ends after its job. The next job that waits gets another thread."""
    jobs = make(1)
    for _ in range(2):
        waits, replaced, done = threading.Event(), threading.Event(), threading.Event()

        def work(waits=waits, replaced=replaced, done=done) -> None:
            with jobs.blocked():
                waits.set()
                replaced.wait(PATIENCE)
            done.set()

        def works_meanwhile(replaced=replaced, done=done) -> None:
            replaced.set()
            done.wait(PATIENCE)

        jobs.submit(work)
        assert waits.wait(PATIENCE)
        jobs.submit(works_meanwhile)
        assert done.wait(PATIENCE)
        eventually(lambda: len(named("jobs-")) == 1)
        eventually(lambda: jobs.free == 1)


def test_error_of_a_job_is_logged_and_its_thread_goes_on(make, caplog):
    """An error that no code expects ends a job, not the thread of the jobs after it."""
    jobs, done = make(1), threading.Event()

    jobs.submit([].pop)
    jobs.submit(done.set)

    assert done.wait(PATIENCE)
    assert "a background job of jobs ended with an error" in caplog.text
    assert "pop from empty list" in caplog.text


def test_stopped_pool_finishes_its_jobs_and_takes_no_more(go):
    """Jobs that were accepted are done, then all threads end. A later job is refused."""
    jobs, done = ThreadPool(1, "stopped"), threading.Event()
    jobs.submit(lambda: go.wait(PATIENCE))
    jobs.submit(done.set)

    jobs.stop()

    assert not jobs.submit(done.set)
    go.set()
    assert done.wait(PATIENCE)
    eventually(lambda: not named("stopped-"))


def test_idle_threads_end_and_start_again(make, monkeypatch):
    """A pool that is not used keeps no threads, and works as before when it is used again."""
    monkeypatch.setattr(pool_module, "IDLE", 0.001)
    jobs = make(2)
    for _ in range(2):
        done = threading.Event()
        jobs.submit(done.set)
        assert done.wait(PATIENCE)
        eventually(lambda: not named("jobs-"))
        assert jobs.free == 2


def test_job_waits_where_the_system_has_no_more_threads(make, monkeypatch, caplog):
    """The refusal is logged, and the job is done by the next thread that can be started."""
    jobs, done = make(2), threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("no more threads")))
        assert jobs.submit(done.set)
    assert "jobs: a thread could not be started" in caplog.text
    assert (jobs.free, done.is_set()) == (1, False)

    jobs.submit(lambda: None)

    assert done.wait(PATIENCE)
    eventually(lambda: jobs.free == 2)


def test_job_sees_the_context_of_its_submitter_and_changes_a_copy(make):
    """A context variable is set for a job as it was for its submitter. The submitter does not see a job's changes."""
    jobs, seen, done = make(1), [], threading.Event()

    def work() -> None:
        seen.append(CITY.get())
        CITY.set("changed")

    given = contextvars.copy_context()
    given.run(CITY.set, "Turin")
    for context in (None, given, given):
        jobs.submit(work, context)
    jobs.submit(done.set)

    assert done.wait(PATIENCE)
    assert seen == ["nowhere", "Turin", "Turin"]


@pytest.fixture
def timers() -> Iterator[Any]:
    """A timer thread on a clock that stands still at 100."""
    made = TimerThread(lambda: 100.0, "timers")
    yield made
    made.stop()
    eventually(lambda: not named("timers"))


def test_timers_fire_in_order_of_their_times(timers, go):
    """The order of the times counts, not the order in which the timers were set. A cancelled timer does not fire."""
    fired: list[str] = []
    done = threading.Event()
    timers.at(50.0, lambda: go.wait(PATIENCE))  # so that all others are set before one of them fires
    timers.at(99.0, done.set)
    timers.at(90.0, lambda: fired.append("later"))
    cancelled = timers.at(85.0, lambda: fired.append("cancelled"))
    timers.at(80.0, lambda: fired.append("sooner"))
    timers.at(0.0, lambda: fired.append("first"))
    cancelled.cancel()
    cancelled.cancel()

    go.set()

    assert done.wait(PATIENCE)
    assert fired == ["first", "sooner", "later"]
    cancelled.cancel()


def test_timer_that_is_due_first_is_not_late(timers):
    """A timer that is set while the thread waits for a far time fires before it."""
    waits, done = threading.Event(), threading.Event()
    timers.at(1e6, done.clear)
    timers.at(0.0, waits.set)
    assert waits.wait(PATIENCE)  # from now on, the thread waits for the far time

    timers.at(100.001, done.set)

    assert done.wait(PATIENCE)


def test_timer_that_raises_is_logged_and_the_others_fire(timers, caplog):
    """An error in one call does not end the thread."""
    done = threading.Event()
    timers.at(0.0, [].pop)
    timers.at(0.0, done.set)

    assert done.wait(PATIENCE)
    assert "a timer of timers ended with an error" in caplog.text


def test_stopped_timers_never_fire(timers):
    """Neither a timer that was set before, nor a timer that is set later."""
    fired: list[str] = []
    timers.at(1e6, lambda: fired.append("before"))

    timers.stop()
    timers.at(0.0, lambda: fired.append("after"))

    eventually(lambda: not named("timers"))
    assert fired == []


def test_timer_thread_ends_when_it_is_idle_and_starts_again(timers, monkeypatch):
    """A mediator that has nothing to wait for keeps no timer thread."""
    monkeypatch.setattr(pool_module, "IDLE", 0.001)
    for _ in range(2):
        done = threading.Event()
        timers.at(0.0, done.set)
        assert done.wait(PATIENCE)
        eventually(lambda: not named("timers"))


def test_cancelled_timers_are_removed_long_before_their_time(timers):
    """Thousands of waits that ended early keep no memory until the days are over for which they were set."""

    def kept() -> int:
        return len(timers.heap)

    far: list[Timer] = [timers.at(1e6, lambda: None) for _ in range(100)]
    for each in far[:64]:
        each.cancel()
    assert kept() == 100
    far[64].cancel()
    assert kept() == 35

    more = [timers.at(1e6, lambda: None) for _ in range(100)]
    for each in more[:68]:
        each.cancel()
    assert 67 <= kept() <= 135


def test_call_that_was_revoked_never_begins():
    """A call that has not begun can be prevented. Its function is not called, even if its thread starts later."""
    called: list[str] = []
    call = ThreadCall(called.append, ("x",), "call")

    assert call.revoke()
    call.start()

    assert not call.wait(0.01)
    assert (called, call.answered) == ([], False)


def test_running_call_cannot_be_revoked(go):
    """While the function runs, the answer is no. After its answer there is nothing to prevent."""
    begun = threading.Event()

    def work() -> None:
        begun.set()
        go.wait(PATIENCE)

    call = ThreadCall(work, (), "call")
    call.start()
    assert begun.wait(PATIENCE)

    assert not call.revoke()
    assert not call.answered
    go.set()
    assert call.wait(PATIENCE)
    assert call.revoke()
    assert call.answered


def test_callback_of_a_call_is_called_once_it_has_answered(go):
    """In the thread of the call if it still runs, otherwise at once in the thread of the caller."""
    threads: list[str] = []

    def note(call: ThreadCall) -> None:
        assert call.value is True
        threads.append(threading.current_thread().name)

    call = ThreadCall(go.wait, (PATIENCE,), "call")
    call.add_done_callback(note)
    call.add_done_callback(note)
    call.start()
    assert threads == []
    go.set()
    eventually(lambda: len(threads) == 2)

    call.add_done_callback(note)

    assert threads == ["call", "call", threading.current_thread().name]


def test_error_of_a_call_is_its_answer():
    """The error is kept, with a traceback that begins in the function."""

    def fails() -> None:
        raise ValueError("no")

    call = ThreadCall(fails, (), "call")
    call.start()

    assert call.wait(PATIENCE)
    assert (call.value, repr(call.error)) == (None, "ValueError('no')")
    assert call.error is not None
    assert call.error.__traceback__ is not None
    assert call.error.__traceback__.tb_frame.f_code.co_name == "fails"
