"""SharedWrites: which commits of threads are written alone, and which are written together. No server is needed."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from fsm_mediator import JournalError
from fsm_mediator.journal.postgres import PostgresJournal
from fsm_mediator.journal.postgres.sharing import MOST_ALONE, SharedWrites

PATIENCE = 30.0


class Database:
    """Executes groups of writes. It keeps each group until the test lets it go."""

    def __init__(self) -> None:
        self.groups: list[list[Any]] = []
        self.came = threading.Semaphore(0)
        self.gates: defaultdict[Any, threading.Event] = defaultdict(threading.Event)
        self.fails = False

    def execute(self, writes: Sequence[Any]) -> list[Any]:
        """Note the group. A write named "refused" is refused."""
        self.groups.append(list(writes))
        self.came.release()
        assert self.gates[writes[0]].wait(PATIENCE)
        if self.fails:
            raise JournalError("cut off")
        return [JournalError("refused") if write == "refused" else (write,) for write in writes]

    def let_go(self, *names: Any) -> None:
        """Let the groups whose first writes have these names end."""
        for name in names:
            self.gates[name].set()


class Threads:
    """Threads that write, and the results that they got."""

    def __init__(self, shared: SharedWrites) -> None:
        self.shared = shared
        self.results: dict[str, Any] = {}
        self.threads: list[threading.Thread] = []

    def write(self, name: Any) -> None:
        """Write in a new thread."""

        def work() -> None:
            try:
                self.results[name] = self.shared.write(name)
            except JournalError as error:
                self.results[name] = f"raised {error}"

        self.threads.append(threading.Thread(target=work))
        self.threads[-1].start()

    def join(self) -> None:
        """Wait for all."""
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


ALONE = [f"alone{number}" for number in range(MOST_ALONE)]


def crowded() -> tuple[Database, Threads]:
    """All threads that may write alone write, one more thread leads the group, and three threads wait for it."""
    database = Database()
    threads = Threads(SharedWrites(database.execute))
    for name in [*ALONE, "leader"]:
        threads.write(name)
        assert database.came.acquire(timeout=PATIENCE)
    for number, name in enumerate(("one", "refused", "two"), 1):
        threads.write(name)
        while len(threads.shared.group.waiting) < number:
            pass
    return database, threads


def test_a_few_threads_write_alone_and_more_write_together():
    """Each of the first threads has its own transaction. Threads that come while the leader writes share the next."""
    database, threads = crowded()
    database.let_go(*ALONE, "leader", "one")
    threads.join()
    assert database.groups == [*([name] for name in ALONE), ["leader"], ["one", "refused", "two"]]
    refused = threads.results.pop("refused")
    assert isinstance(refused, JournalError)
    assert threads.results == {name: (name,) for name in threads.results}


def test_a_thread_joins_while_others_write_together():
    """Even if a place alone is free again."""
    database, threads = crowded()
    database.let_go(*ALONE)
    for thread in threads.threads[:MOST_ALONE]:
        thread.join(PATIENCE)
    threads.write("late")
    while len(threads.shared.group.waiting) < 4:
        pass
    database.let_go("leader", "one")
    threads.join()
    assert database.groups[-1] == ["one", "refused", "two", "late"]


def test_a_failed_transaction_fails_each_of_its_threads():
    """None of them was written."""
    database, threads = crowded()
    database.let_go(*ALONE, "leader")
    for thread in threads.threads[: MOST_ALONE + 1]:
        thread.join(PATIENCE)
    database.fails = True
    database.let_go("one")
    threads.join()
    assert {threads.results[name] for name in ("one", "refused", "two")} == {"raised cut off"}
    assert threads.results["leader"] == ("leader",)


@pytest.mark.parametrize("count", [1, MOST_ALONE])
def test_places_alone_are_given_back(count):
    """After a failure as well."""
    database = Database()
    shared = SharedWrites(database.execute)
    database.fails = True
    database.let_go("any")
    for _ in range(3 * count):
        with pytest.raises(JournalError, match="cut off"):
            shared.write("any")  # type: ignore[arg-type]
    assert not shared.group.is_led
    assert all(len(group) == 1 for group in database.groups)


def test_a_forked_child_shares_with_its_own_threads_only(monkeypatch):
    """A thread of the parent may write at the moment of the fork. The child has no such thread, and waits for none."""
    made: list[Any] = []
    monkeypatch.setattr("fsm_mediator.journal.postgres.journal.SharedWrites", made.append)
    journal = PostgresJournal("postgresql://127.0.0.1:1/none", migrate=None)
    assert len(made) == 1
    journal.reset()
    assert len(made) == 2
