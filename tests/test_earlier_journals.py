"""A journal that was written for an earlier version of the protocol works, and what needs a later part says so."""

from __future__ import annotations

from typing import Any

import pytest

from fsm_mediator import JournalError, Limits, Parallel, Retry, Saga, Signal, conforms
from fsm_mediator.journal.factory import open_journal
from fsm_mediator.journal.memory import MemoryJournal
from fsm_mediator.journal.optional import damage_in, prune_ended
from fsm_mediator.mediator import recovery
from tests.commits import found
from tests.drivers import World, eventually
from tests.test_claims import accept
from tests.test_daemon import daemon_of


class Earlier:
    """A journal with the methods and the parameters of the protocol's first version, kept by another one."""

    heartbeat: float | None = 0.05

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.encodes, self.codec = inner.encodes, inner.codec
        for name in ("write", "write_all", "find", "records", "inbox", "entries", "enlist", "dismiss"):
            setattr(self, name, getattr(inner, name))
        for name in ("release", "claimable", "next_wake", "close"):
            setattr(self, name, getattr(inner, name))
        self.lost_claims = 0

    def claim(self, saga_id: str, driver_id: str) -> Any:
        """As `Journal.claim`; of the first so many the answer is lost."""
        claimed = self.inner.claim(saga_id, driver_id)
        if self.lost_claims:
            self.lost_claims -= 1
            raise JournalError("the answer was lost")
        return claimed

    def post(self, saga_id: str, item: Any, *, clock: Any = None) -> bool:
        """As `Journal.post`."""
        done: bool = self.inner.post(saga_id, item, clock=clock)
        return done

    def beat(self, driver_id: str) -> tuple[str, ...]:
        """As `Journal.beat`."""
        called: tuple[str, ...] = self.inner.beat(driver_id)
        return called

    def prune(self, before: float, *, saga: str | None = None, limit: int = 1000) -> int:
        """As `Journal.prune`."""
        deleted: int = self.inner.prune(before, saga=saga, limit=limit, forget_ids=True)
        return deleted


@pytest.fixture
def earlier() -> Any:
    """Such a journal."""
    return Earlier(MemoryJournal(encode=True))


def test_sagas_run_are_signalled_cancelled_and_pruned(drive, earlier):
    """Nothing of the usual use needs a later part."""
    world = World()
    group = Parallel.each("g", world.step("one"), over=lambda payload: [1, 2, 3])
    saga = Saga("s", [world.step("a"), Signal("go", payload=int), group])
    mediator = drive(saga, journal=open_journal(earlier), limits=Limits({"one": 1}))

    mediator.start("s", saga_id="o-1")
    mediator.start("s", saga_id="o-2")
    eventually(lambda: {found(earlier, name).state for name in ("o-1", "o-2")} == {"waiting.go"})
    mediator.signal("o-1", "go", 1)
    mediator.cancel("o-2", reason="changed their mind")

    assert mediator.wait("o-1").succeeded
    assert mediator.wait("o-2", check=False).failed
    assert conforms(earlier, saga).ok
    eventually(lambda: prune_ended(earlier, 1e12, saga=None, forget_ids=False) == 5)
    assert earlier.find("o-1") is None
    assert mediator.start("s", saga_id="o-1") == "o-1"


def test_executions_whose_claims_were_not_answered_are_found_among_all(drive, earlier, monkeypatch):
    """A journal that does not name the executions of a driver lists all, and the driver drives its own."""
    monkeypatch.setattr(recovery, "BACKOFF", Retry(attempts=None, wait_initial=0.01, wait_jitter=0.0))
    world = World()
    saga = Saga("order", [world.step("ship")])
    accept(earlier, saga, "a", "b", "c")
    earlier.lost_claims = 2
    with daemon_of(drive(saga, journal=earlier)):
        eventually(lambda: [found(earlier, each).state for each in "abc"] == ["succeeded"] * 3)
    assert world.calls == ["ship"] * 3


def test_what_needs_a_later_part_says_so(earlier):
    """Damage cannot be looked for, and ids cannot be chosen to be kept or not; both are said, and nothing is done."""
    with pytest.raises(JournalError, match=r"a Earlier cannot be checked for damage: it has no method check"):
        damage_in(earlier)
    with pytest.raises(JournalError, match=r"takes no forget_ids. Prune without forget_ids; nothing was deleted"):
        prune_ended(earlier, 1e12, saga=None, forget_ids=True)
