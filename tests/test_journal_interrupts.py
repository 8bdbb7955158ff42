"""Interrupts at every point where Python handles signals in the journal's code: no other thread is kept waiting."""

from __future__ import annotations

import dis
import gc
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import msgspec
import pytest

from fsm_mediator import JournalError, MemoryJournal, SQLiteJournal, forking
from fsm_mediator.forking import CREATING, FORKING
from fsm_mediator.journal import group_commit, memory
from fsm_mediator.journal import liveness as drivers
from fsm_mediator.journal.group_commit import GroupCommit, Waiter
from fsm_mediator.journal.liveness import process_exists, this_driver
from fsm_mediator.journal.sqlite import connections
from fsm_mediator.records import InboxItem
from tests.commits import DRIVER, OTHER, acceptance, all_at_once, found, going_on, ids, in_a_write, opening

SQLITE = str(Path(connections.__file__).parent), group_commit.__file__
MEMORY = (memory.__file__,)

below_python_3_12 = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="later Pythons tell a tracer of lines, not of instructions"
)


@cache
def operations(code: CodeType) -> dict[int, str]:
    """The instructions of *code*, by their place."""
    return {each.offset: each.opname for each in dis.get_instructions(code)}


class InterruptAt:
    """Raises a KeyboardInterrupt at the n-th point of the journal's code at which Python handles signals."""

    def __init__(self, number: int, where: tuple[str, ...] = SQLITE) -> None:
        self.where = where
        self.left = number
        self.hit = False
        self.before: dict[FrameType, str | None] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_back is not None and self.before.get(frame.f_back) == "CALL":
            self.before[frame.f_back] = None  # a call of Python's own, after which it does not look
        name = frame.f_code.co_filename
        if name.startswith(self.where) or (name.endswith("threading.py") and "Condition" in frame.f_code.co_qualname):
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            return self.step
        return None

    def step(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "opcode":
            before = self.before.get(frame)
            self.before[frame] = operations(frame.f_code).get(frame.f_lasti)
            if before in ("CALL", "JUMP_BACKWARD", "RESUME") and not self.hit:
                self.left -= 1
                if self.left == 0:
                    self.hit = True
                    raise KeyboardInterrupt
        return self.step


def answers(operation: Callable[[SQLiteJournal], object], journal: SQLiteJournal) -> bool:
    """Whether *operation* returns, in a thread of its own, within some seconds."""
    thread = threading.Thread(target=operation, args=(journal,), daemon=True)
    thread.start()
    thread.join(10.0)
    return not thread.is_alive()


OPERATIONS: dict[str, Callable[[SQLiteJournal], object]] = {
    "find": lambda journal: journal.find("x"),
    "write": lambda journal: journal.write(going_on("x", 2)),
    "post": lambda journal: journal.post("x", InboxItem("cancel")),
    "close": lambda journal: journal.close(),
}


@below_python_3_12
@pytest.mark.parametrize("operation", OPERATIONS)
def test_interrupt_at_any_point_keeps_no_thread_waiting(tmp_path, operation):
    """Every point is tried, each with a journal of its own; then another thread reads, writes and closes."""
    number, tried, kept = 0, InterruptAt(0), []
    while number == 0 or tried.hit:
        number += 1
        journal = SQLiteJournal(tmp_path / f"{number}.db", durability="normal")
        journal.enlist(DRIVER)
        journal.write(opening("x", "executing.a"))
        journal.find("x")
        kept.append(journal)  # and not closed by its finaliser, which would be interrupted in its place
        tried = InterruptAt(number)
        traced = sys.gettrace()
        gc.disable()
        try:
            sys.settrace(tried)
            OPERATIONS[operation](journal)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(traced)
            gc.enable()
        for name in ("find", "post", "close", "find"):
            assert answers(OPERATIONS[name], journal), (number, name)
        journal.close()
    assert number > 5


@below_python_3_12
def test_interrupt_at_any_point_divides_no_commit_in_memory():
    """A commit with records, branches and posts is there as a whole or not at all; if not, it can be written again."""
    number, tried, outcomes = 0, InterruptAt(0, MEMORY), set()
    branch = acceptance("p/g.a", parent="p")
    commit = going_on("p", 2, "waiting.g", held=False, children=(branch,), posts=(("other", InboxItem("cancel")),))
    while number == 0 or tried.hit:
        number += 1
        journal = MemoryJournal()
        journal.enlist(DRIVER)
        for saga_id in ("p", "other"):
            journal.write(opening(saga_id, "executing.a"))
        tried = InterruptAt(number, MEMORY)
        traced = sys.gettrace()
        try:
            sys.settrace(tried)
            journal.write(commit)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(traced)
        parent = found(journal, "p")
        there = [
            parent.seq == 2,
            parent.driver is None,
            journal.find("p/g.a") is not None,
            bool(journal.inbox("other")),
        ]
        assert len(set(there)) == 1, (number, there)
        outcomes.add(there[0])
        if not there[0]:
            journal.write(commit)
            assert ids(journal, parent="p") == ["p/g.a"]
            assert len(journal.inbox("other")) == 1
    assert outcomes == {False, True}
    assert number > 5


@below_python_3_12
def test_interrupt_at_any_point_of_a_dismissal_leaves_a_driver_or_its_executions_free():
    """An execution that still names the driver that is gone is claimed as abandoned; a repeated claim says so, too."""
    number, tried, outcomes = 0, InterruptAt(0, MEMORY), set()
    while number == 0 or tried.hit:
        number += 1
        journal = MemoryJournal()
        journal.enlist(DRIVER)
        journal.enlist(OTHER)
        journal.write(opening("x", "executing.a"))
        tried = InterruptAt(number, MEMORY)
        traced = sys.gettrace()
        try:
            sys.settrace(tried)
            journal.dismiss("d-1")
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(traced)
        before = found(journal, "x")
        claims = [journal.claim("x", "d-2") for _ in range(2)]
        if before.driver_alive:
            assert claims == [None, None]
        else:
            assert [each is not None and each.abandoned for each in claims] == [before.driver is not None] * 2
        outcomes.add((before.driver is not None, before.driver_alive))
    assert outcomes >= {(True, False), (False, False)}


def test_signal_handler_in_a_queued_thread_is_refused():
    """It would wait for its own thread, which may lead next."""
    group: GroupCommit[str] = GroupCommit(lambda tickets: None, lambda job: None)
    leader = group.acquire()
    assert leader is not None
    leader.thread = 0  # as if it were another
    assert not group.lead_or_queue(Waiter("a"))
    with pytest.raises(JournalError, match="a signal handler"):
        group.lead_or_queue(Waiter("b"))


def test_thread_interrupted_as_it_queued_can_write_again():
    """Nothing of it is left in the queue, in whichever line it was hit."""
    group: GroupCommit[str] = GroupCommit(lambda tickets: None, lambda job: None)
    leader = group.acquire()
    assert leader is not None
    leader.thread = 0  # as if it were another
    interrupted: Waiter[str] = Waiter("a")
    assert not group.lead_or_queue(interrupted)
    group.release(interrupted)
    assert not group.lead_or_queue(Waiter("b"))


def test_an_interrupt_loses_nothing_of_a_journal_in_memory():
    """Its connection is all there is of it: it is rolled back, and not closed as that of a file."""
    journal = SQLiteJournal(":memory:")
    journal.enlist(DRIVER)
    journal.write(opening("x", "executing.a"))

    def job(cursor: sqlite3.Cursor) -> None:
        cursor.execute("DELETE FROM executions")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_a_write(journal, job)
    assert ids(journal) == ["x"]
    assert all_at_once(journal, lambda: journal.write(going_on("x", 2))) == [()]
    journal.close()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, MemoryError])
def test_interrupted_pause_lets_the_threads_go_on(tmp_path, monkeypatch, interrupt):
    """The interrupt reaches the caller; nothing of the pause is left, and the next one takes place."""
    journal = SQLiteJournal(tmp_path / "sagas.db", durability="normal")
    journal.enlist(DRIVER)
    journal.write(opening("x", "executing.a"))

    def interrupted(_self: Any, timeout: float | None = None) -> bool:
        raise interrupt

    with monkeypatch.context() as patched:
        patched.setattr(connections.Connections, "close_and_block", interrupted)
        with pytest.raises(interrupt):
            journal.pause(1.0)

    for name in ("find", "post", "write"):
        assert answers(OPERATIONS[name], journal), name
    assert journal.pause(1.0)
    journal.resume()
    journal.close()


def test_close_at_interpreter_exit_does_not_hang(tmp_path):
    """What was registered with atexit before there was a journal is called after the journal was closed for good."""
    program = """
        import atexit
        from fsm_mediator import Mediator, Saga, step

        @atexit.register
        def bye():
            mediator.close()
            print("closed")

        @step
        def a(order): pass

        mediator = Mediator(Saga("s", [a]), journal="sagas.db")
        print(mediator.run("s").state)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout.split() == ["succeeded", "closed"]


class Breaks:
    """Cannot come to rest, nor go on."""

    def pause(self, timeout: float) -> bool:
        raise KeyboardInterrupt

    def resume(self) -> None:
        raise ZeroDivisionError

    def reset(self) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("after", [forking.after_in_parent, forking.after_in_child])
def test_an_interrupt_before_a_fork_leaves_nothing_locked(monkeypatch, caplog, after):
    """Python swallows what a hook raises: all the others must be told all the same."""
    continued = []

    class Pauses(Breaks):
        def pause(self, timeout: float) -> bool:
            return True

        def resume(self) -> None:
            continued.append("go on")

        def reset(self) -> None:
            continued.append("begin anew")

    monkeypatch.setattr(forking, "_known", [Breaks(), Pauses(), Breaks()])
    forking.before_fork()
    after()
    assert continued == ["go on" if after is forking.after_in_parent else "begin anew"]
    assert not CREATING.locked()
    assert not FORKING.locked()
    assert "could not pause" in caplog.text


def test_a_process_that_proc_hides_is_left_to_its_lease(monkeypatch):
    """Mounted with hidepid, /proc shows nothing of it, though a signal would reach it: it is not taken for dead."""
    monkeypatch.setattr(drivers, "process_start_time", lambda pid: None)
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    assert process_exists(msgspec.structs.replace(this_driver(), pid=1)) is None


def this_driver_as(started: str) -> Any:
    """This process, as if it had been started at another time."""
    return msgspec.structs.replace(this_driver(), id="d-9", started=started)


def test_a_driver_with_the_number_of_a_dead_one_is_not_taken_for_it():
    """Once a journal in memory was closed, it counts anew."""
    journal = SQLiteJournal(":memory:")
    journal.enlist(this_driver_as("1"))
    journal.write(opening("x", "executing.a", driver="d-9"))
    assert journal.claimable(1.0, 9) == ["x"]
    journal.close()

    driver = this_driver()
    journal.enlist(driver)
    journal.write(opening("y", "executing.a", driver=driver.id))
    assert journal.claimable(1.0, 9) == []
    journal.close()


def test_ctrl_c_in_the_write_of_a_single_thread_ends_the_write():
    """Ctrl-C reaches the caller, nothing is written, and the next write succeeds."""
    journal = SQLiteJournal(":memory:")
    journal.enlist(DRIVER)
    journal.write(opening("x", "executing.a"))

    def interrupt(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name == "execute_single":
            raise KeyboardInterrupt

    profiled = sys.getprofile()
    sys.setprofile(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            journal.write(going_on("x", 2))
    finally:
        sys.setprofile(profiled)

    assert found(journal, "x").seq == 1
    journal.write(going_on("x", 2))
    assert found(journal, "x").seq == 2
    journal.close()


@pytest.mark.parametrize("statement", [1, 2, 3, 4])
def test_ctrl_c_between_the_statements_of_an_opening_leaves_no_transaction(statement):
    """Nothing of the execution is there, and the same id can be opened at once."""
    journal = SQLiteJournal(":memory:")
    journal.enlist(DRIVER)
    journal.write(opening("x", "executing.a"))
    calls: list[str] = []

    def interrupt(frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and frame.f_code.co_name == "execute_single" and called.__name__ == "execute":
            calls.append(called.__name__)
            if len(calls) == statement:
                raise KeyboardInterrupt

    profiled = sys.getprofile()
    sys.setprofile(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            journal.write(opening("y", "executing.a"))
    finally:
        sys.setprofile(profiled)

    assert journal.find("y") is None
    journal.write(opening("y", "executing.a"))
    assert found(journal, "y").seq == 1
    journal.close()
