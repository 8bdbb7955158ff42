"""What both mediators share: the loop in memory does what the driver does, and a thread of its own keeps the lease."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fsm_mediator import AsyncMediator, Mediator, MemoryJournal, Parallel, Retry, Saga, Sleep, SQLiteJournal, step
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
        return [replace(record, error=str(record.error)) for record in journal.records("o-1")]

    assert records(None) == records(Careful)


class Written(MemoryJournal):
    """A journal that keeps the commits written to it, without what differs from run to run."""

    def __init__(self) -> None:
        super().__init__(encode=True)
        self.commits: list[Any] = []

    def write(self, commit: Any) -> Any:
        records = [(replace(record, error=None), str(record.error)) for record in commit.records]
        self.commits.append((records, replace(commit, records=(), driver=None, token=bool(commit.token))))
        return super().write(commit)


class Unjournalable:
    """A result that no journal can encode."""


ANSWERS = ("done", "fails", "unjournalable", "coroutine", "cancelled", "cancels")


def answered(answer: str) -> Any:
    """What a step does at its first attempt."""
    if answer == "fails":
        raise ValueError(answer)
    if answer == "cancelled":
        raise asyncio.CancelledError
    if answer == "coroutine":
        return asyncio.sleep(0)
    return Unjournalable() if answer == "unjournalable" else None


def answering(name: str, answer: str, mediators: list[Any], coroutine: bool, timeout: float | None) -> Any:
    """A step that answers so at its first attempt, and returns a dictionary later."""
    left = [answer] if answer != "done" else []

    def plain(payload: Any) -> Any:
        if left == ["cancels"]:
            mediators[0].cancel("o-1")
        return answered(left.pop()) if left else {"by": name}

    async def awaited(payload: Any) -> Any:
        if left == ["cancels"]:
            await mediators[0].cancel("o-1")
        return answered(left.pop()) if left else {"by": name}

    made = step(name=name, retry=RETRY, timeout=timeout)(awaited if coroutine else plain)
    made.compensation(lambda payload: None)
    return made


@pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited:RuntimeWarning")
@pytest.mark.parametrize("coroutines", [False, True], ids=["threads", "loop"])
@given(
    answers=st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=4),
    timeout=st.sampled_from([None, 5.0]),
    end=st.sampled_from([None, Sleep("pause", 1.0), Parallel("g", [step(name="b")(lambda payload: None)])]),
    background=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_going_forward_writes_the_commits_that_the_driver_writes(coroutines, answers, timeout, end, background):
    """Whatever the steps of a new execution answer, the way without decisions writes the same commits."""

    def commits(wrap: Any) -> list[Any]:
        clock, journal = VirtualClock(), Written()
        mediators: list[Any] = []
        given: dict[str, Any] = {"journal": journal, "_runtime": wrap}
        parts = [
            answering(f"s{n}", answer, mediators, coroutines, timeout if n == 1 else None)
            for n, answer in enumerate(answers)
        ]
        saga = Saga("s", [*parts, *([end] if end else [])])

        async def main() -> None:
            async with AsyncMediator(saga, **given, **clock.async_settings) as mediator:
                mediators.append(mediator)
                begin = mediator.start if background else functools.partial(mediator.run, check=False)
                await begin("s", {"n": 1}, saga_id="o-1")
                await mediator.wait("o-1", check=False)

        if coroutines:
            asyncio.run(main())
        else:
            with Mediator(saga, **given, **clock.settings) as mediator:
                mediators.append(mediator)
                begin = mediator.start if background else functools.partial(mediator.run, check=False)
                begin("s", {"n": 1}, saga_id="o-1")
                mediator.wait("o-1", check=False)
        return sorted(journal.commits, key=lambda written: written[1].saga_id)  # branches have their own drivers

    assert commits(None) == commits(Careful)


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
