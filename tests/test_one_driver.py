"""What both mediators share: the loop in memory does what the driver does, and a thread of its own keeps the lease."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_mediator import AsyncMediator, Mediator, MemoryJournal, Parallel, Retry, Saga, SQLiteJournal, step
from fsm_mediator.journal import liveness
from fsm_mediator.testing import VirtualClock

RETRY = Retry(attempts=2, wait_initial=1.0)


class Careful:
    """A runtime whose every call and every write is made by the driver."""

    direct = False

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def scripted(name: str, script: list[bool], compensates: bool, coroutine: bool) -> Any:
    """A step whose n-th attempt fails where the script says so."""
    left = list(script)

    def act() -> str:
        if left and left.pop(0):
            raise ValueError(name)
        return f"{name} done"

    def plain(payload: Any) -> str:
        return act()

    async def awaited(payload: Any) -> str:
        return act()

    made = step(name=name, retry=RETRY, compensation_retry=RETRY)(awaited if coroutine else plain)
    if compensates:
        made.compensation(lambda payload: None)
    return made


scripts = st.lists(st.tuples(st.lists(st.booleans(), max_size=2), st.booleans()), min_size=1, max_size=5)


@pytest.mark.parametrize("coroutines", [False, True], ids=["threads", "loop"])
@given(parts=scripts, grouped=st.booleans(), deadline=st.sampled_from([None, 0.5, 100.0]))
@settings(max_examples=60, deadline=None)
def test_the_loop_in_memory_makes_the_records_of_the_driver(coroutines, parts, grouped, deadline):
    """Whatever a saga does, in memory it makes the same records as where each is written by a commit."""

    def records(wrap: Any) -> list[Any]:
        clock = VirtualClock()
        steps: list[Any] = [scripted(f"s{n}", script, back, coroutines) for n, (script, back) in enumerate(parts)]
        saga = Saga("s", [*steps[:-1], Parallel("g", [steps[-1]])] if grouped else steps)
        journal = MemoryJournal()
        given: dict[str, Any] = {"journal": journal, "_runtime": wrap}
        if coroutines:
            mediator = AsyncMediator(saga, **given, **clock.async_settings)
            asyncio.run(mediator.run("s", 1, saga_id="o-1", deadline=deadline, check=False))
        else:
            with Mediator(saga, **given, **clock.settings) as plain:
                plain.run("s", 1, saga_id="o-1", deadline=deadline, check=False)
        return [msgspec.structs.replace(record, error=str(record.error)) for record in journal.records("o-1")]

    assert records(None) == records(Careful)


def test_a_step_that_blocks_the_event_loop_does_not_lose_the_lease(tmp_path, monkeypatch):
    """Seen from another machine, where the lease alone decides: the driver beats while its loop stands still."""
    path = tmp_path / "sagas.db"
    found: list[Any] = []

    @step
    async def blocks(payload: Any) -> None:
        until = time.monotonic() + 1.2
        with contextlib.closing(SQLiteJournal(path, lease=0.3)) as elsewhere, monkeypatch.context() as patches:
            patches.setattr(liveness, "boot_id", lambda: "another machine")
            other = liveness.this_driver()
            elsewhere.enlist(other)
            while time.monotonic() < until:
                found.extend(elsewhere.claimable(time.time(), 9))
                found.append(elsewhere.claim("o-1", other.id))
                time.sleep(0.05)  # noqa: ASYNC251 - that is the point

    saga = Saga("s", [blocks])

    async def main() -> bool:
        async with AsyncMediator(saga, journal=SQLiteJournal(path, lease=0.3)) as mediator:
            return (await mediator.run("s", saga_id="o-1")).succeeded

    assert asyncio.run(main())
    assert len(found) > 5
    assert set(found) == {None}
