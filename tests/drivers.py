"""Both mediators behind one face, every journal, and participants told what to do: one test, all drivers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsm_mediator import AsyncMediator, Mediator, MemoryJournal, Retry, Saga, SQLiteJournal, step
from fsm_mediator.mediator.driving import ExecutionDriver
from fsm_mediator.mediator.loop import LoopRuntime
from fsm_mediator.mediator.threads import ThreadRuntime
from fsm_mediator.records import Raised
from fsm_mediator.testing import VirtualClock
from tests.postgres_server import server

QUICK = Retry(attempts=3, wait_initial=0.0, wait_jitter=0.0)
ONCE = Retry(attempts=1)

Clock = VirtualClock
"""A clock that only sleeping moves; it was born here, and is the testing kit's now."""

JOURNALS: dict[str, Callable[[Path], Any]] = {
    "memory": lambda _: MemoryJournal(),
    "encoded": lambda _: MemoryJournal(encode=True),
    "sqlite": lambda path: SQLiteJournal(path / "sagas.db", durability="normal"),
    "postgres": lambda _: server().journal(),
}
# A server is started for them: `make postgres` runs these.
MARKS = {"postgres": pytest.mark.postgres}
PATIENCE = 60.0
"""Seconds after which a test that waits for something is taken to hang."""


class Looping:
    """An `AsyncMediator` that is used as a `Mediator`: its event loop runs in a thread."""

    def __init__(self, *sagas: Saga, **settings: Any) -> None:
        if (sleep := settings.get("sleep")) is not None:

            async def slept(seconds: float) -> None:
                sleep(seconds)
                await asyncio.sleep(0)

            settings["sleep"] = slept
        self.inner = AsyncMediator(*sagas, **settings)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="looping", daemon=True)
        self.thread.start()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.inner, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(attribute(*args, **kwargs), self.loop).result(PATIENCE)

        return call

    def end(self) -> None:
        """End the loop as `asyncio.run` does."""

        async def cancel_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel_all(), self.loop).result(PATIENCE)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.close()


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in JOURNALS])
def journal(request, tmp_path) -> Iterator[Any]:
    """Each journal."""
    made = JOURNALS[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["sync", "async"])
def drive(request) -> Iterator[Callable[..., Any]]:
    """Makes mediators of one kind, as often as it is called, and closes them at the end."""
    made: list[Any] = []

    def make(*sagas: Saga, **settings: Any) -> Any:
        settings = {"close_grace": 0.0, "park_after": 1e9} | settings
        kind: Any = Mediator if request.param == "sync" else Looping
        mediator = kind(*sagas, **settings)
        made.append(mediator)
        return mediator

    make.is_async = request.param == "async"  # type: ignore[attr-defined]
    yield make
    for mediator in made:
        mediator.close()
        if isinstance(mediator, Looping):
            mediator.end()


@pytest.fixture
def impatient(monkeypatch) -> None:
    """A commit that fails is tried again at once."""
    for runtime in (ThreadRuntime, LoopRuntime):
        monkeypatch.setattr(runtime, "journal_retry", Retry(attempts=6, wait_initial=0.0, wait_jitter=0.0))


class Flaky:
    """A journal that fails: *failing* calls (of *methods*), or for as long as *broken*."""

    patience: float | None = 0.0

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.failing = 0
        self.broken = False
        self.failed = 0
        self.methods = {"write", "write_all"}

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.inner, name)
        if name not in self.methods:
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            from fsm_mediator import JournalError

            if self.broken or self.failing > 0:
                self.failing -= 1
                self.failed += 1
                raise JournalError("the disk is full")
            return attribute(*args, **kwargs)

        return call


class World:
    """What was done to the participants, in order, and under which keys."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.keys: list[str] = []
        self.gates: dict[str, tuple[threading.Event, threading.Event]] = {}

    def step(self, name: str, *script: Any, undo: Any = (), probe: Any = None, **settings: Any) -> Any:
        """A step that does the *n*-th of *script* at its n-th attempt, then the last again.

        An exception is raised, a callable is called. *undo* is the script of its compensation; None: it has none.
        """
        counts = {"execute": 0, "compensate": 0}

        def act(script: Any, verb: str, payload: Any, context: Any) -> Any:
            number, counts[verb] = counts[verb], counts[verb] + 1
            does: Any = script[min(number, len(script) - 1)] if script else f"{name} done"
            if isinstance(does, BaseException):
                raise does
            return does(payload, context) if callable(does) else does

        def execute(payload: Any, context: Any) -> Any:
            self.calls.append(name)
            self.keys.append(context.idempotency_key)
            return act(script, "execute", payload, context)

        made = step(name=name, **({"retry": QUICK, "compensation_retry": QUICK} | settings))(execute)
        if undo is not None:

            def compensate(payload: Any, context: Any) -> Any:
                self.calls.append(f"undo {name}")
                return act(undo, "compensate", payload, context)

            made.compensation(compensate)
        if probe is not None:
            made.probing(probe)
        return made

    def gate(self, name: str = "gate") -> Callable[..., str]:
        """What a step can do: say that it has begun (`begun`), then wait to be let go (`go`)."""
        begun, go = self.gates.setdefault(name, (threading.Event(), threading.Event()))

        def wait(*_: Any) -> str:
            begun.set()
            if not go.wait(PATIENCE):
                raise AssertionError(f"nobody opened the gate {name!r}")
            return f"through {name}"

        return wait

    def begun(self, name: str = "gate") -> None:
        """Wait until somebody stands at the gate."""
        assert self.gates[name][0].wait(PATIENCE), f"nobody came to the gate {name!r}"

    def go(self, name: str = "gate") -> None:
        """Open the gate, for good."""
        self.gates[name][1].set()


def core_of(mediator: Any) -> ExecutionDriver:
    """What the mediator is made of; here is the only test code that reads it."""
    core: ExecutionDriver = mediator._core
    return core


def finish(mediator: Any, active: Any, outcome: Any = None) -> None:
    """Finish *active* where its mediator does so: a looping one does on its loop's thread."""
    core = core_of(mediator)
    core.runtime.post(core.owned.finish, active, outcome)


def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
    """Call it in a thread; what is returned waits for it, and returns or raises what it did."""
    told: list[Any] = []

    def call() -> None:
        try:
            told.append((True, function(*args, **kwargs)))
        except BaseException as error:
            told.append((False, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(PATIENCE)
        assert told, "it hangs"
        returned, value = told[0]
        if not returned:
            raise value
        return value

    return result


def eventually(holds: Callable[[], Any]) -> Any:
    """Wait for what nothing announces; for tests of what happens in other threads after the last event they tell."""
    never = threading.Event()
    for _ in range(int(PATIENCE / 0.002)):
        if value := holds():
            return value
        never.wait(0.002)
    raise AssertionError("it did not come to hold")


class Died(BaseException):
    """Raised by a step, with `mortal`: ends its driver in the midst of the attempt, as the end of its process would."""


class MortalRuntime:
    """A runtime that ends its driver where a step raises `Died`: an exception of the step would be judged."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        judged = inner.raised

        def raised(error: BaseException) -> Any:
            if isinstance(error, Died):
                raise error
            return judged(error)

        inner.raised = raised

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def call(self, call: Any) -> Any:
        """As `Runtime.call`; a step in a thread or task of its own ends there, and is judged here."""
        answer = await self._inner.call(call)
        if isinstance(answer, Raised) and isinstance(answer.error, Died):
            raise answer.error
        return answer


MORTAL: dict[str, Any] = {"_runtime": MortalRuntime}
"""The setting of a mediator whose steps can raise `Died`."""


async def until(holds: Callable[[], Any]) -> None:
    """As `eventually`, awaited."""
    for _ in range(int(PATIENCE / 0.001)):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to hold")


@contextlib.contextmanager
def threads_ended() -> Iterator[None]:
    """Check that no more threads run afterwards than before."""
    before = threading.active_count()
    yield
    eventually(lambda: threading.active_count() <= before)


def examples(full: int, few: int) -> int:
    """How many examples Hypothesis draws: *few*, or with EVERY_EXAMPLE=1, as in `make torture`, the *full* number."""
    return full if os.environ.get("EVERY_EXAMPLE") else few
