"""The code that all contestants share: the work, and the small protocol of the conductor.

A contestant is a separate script with a separate interpreter (``python -m benchmarks.peers.NAME``), so contestants may
need different versions of a dependency. It reads one question per line from stdin and writes one answer per line to
stdout, as JSON:

- ``about``: its interpreter, and the versions of the measured packages;
- ``check``: do the work once with participants that record their calls; the answer is the list of calls, in order;
- ``time``: do the work a given number of times with participants that do nothing; the answer is the wall-clock seconds
  and the processor seconds for all runs;
- ``live``: create a given number of executions that have begun; the answer is the bytes that all of them need.

This module may import only the standard library, because it runs in every environment.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import platform
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

ATTEMPTS = 3
Participant = Callable[..., Any]


class RefusedError(Exception):
    """The error that the failing step raises at every attempt."""


class Work(NamedTuple):
    """A saga of steps that do nothing. With *fails*, the last step fails at each of three attempts.

    Attributes:
        steps: The number of steps.
        fails: Whether the last step fails, so that all other steps are compensated, newest first.
        durability: None, or for contestants that keep a file: "full", "normal", "default" (the library's default).
        at_once: The number of sagas that run at the same time on asyncio, for contestants that can. 0 means plain
            calls.
        folder: The folder for files.
        told: A list in which participants record their calls. None when the work is timed.
    """

    steps: int
    fails: bool = False
    durability: str | None = None
    at_once: int = 0
    folder: str = "."
    told: list[str] | None = None

    @property
    def names(self) -> list[str]:
        """The names of the steps, in order."""
        return [f"s{number}" for number in range(1, self.steps + 1)]

    @property
    def key(self) -> tuple[object, ...]:
        """A key that differs between works, for contestants that keep their prepared objects."""
        return (self.steps, self.fails, self.durability, self.at_once, self.told is None)

    def executing(self, name: str, *, arguments: int = 0, coroutine: bool = False) -> Participant:
        """The function that a step executes."""
        return self._participant(name, self.fails and name == self.names[-1], arguments, coroutine)

    def compensating(self, name: str, *, arguments: int = 0, coroutine: bool = False) -> Participant:
        """The function that undoes a step."""
        return self._participant(f"undo {name}", False, arguments, coroutine)

    def _participant(self, what: str, raises: bool, arguments: int, coroutine: bool) -> Participant:
        if self.told is None:
            return BARE[raises, arguments, coroutine]
        told = self.told

        def note() -> None:
            told.append(what)
            if raises:
                raise RefusedError

        async def note_async() -> None:
            note()

        return _shaped(note_async if coroutine else note, arguments)


def _shaped(function: Participant, arguments: int) -> Participant:
    """A function that calls *function* and takes *arguments* arguments, because libraries read signatures."""
    if arguments == 0:
        return function
    if inspect.iscoroutinefunction(function):

        async def taking_one_async(payload: object) -> None:
            await function()

        return taking_one_async

    def taking_one(payload: object) -> None:
        function()

    return taking_one


def nothing() -> None:
    """Does nothing."""


def nothing_of_one(payload: object) -> None:
    """Does nothing."""


async def nothing_async() -> None:
    """Does nothing."""


async def nothing_of_one_async(payload: object) -> None:
    """Does nothing."""


def refuse() -> None:
    """Fails."""
    raise RefusedError


def refuse_of_one(payload: object) -> None:
    """Fails."""
    raise RefusedError


async def refuse_async() -> None:
    """Fails."""
    raise RefusedError


async def refuse_of_one_async(payload: object) -> None:
    """Fails."""
    raise RefusedError


# (raises, arguments, coroutine): the participants that time is taken with do nothing but what the language costs.
BARE: dict[tuple[bool, int, bool], Participant] = {
    (False, 0, False): nothing,
    (False, 1, False): nothing_of_one,
    (False, 0, True): nothing_async,
    (False, 1, True): nothing_of_one_async,
    (True, 0, False): refuse,
    (True, 1, False): refuse_of_one,
    (True, 0, True): refuse_async,
    (True, 1, True): refuse_of_one_async,
}


def retrying(function: Participant) -> Participant:
    """*function* with three attempts, for libraries without retries, as a user would write it by hand."""

    def attempted() -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return function()  # type: ignore[no-any-return]
            except RefusedError:
                if attempt == ATTEMPTS:
                    raise
        return None

    return attempted


class Ready(NamedTuple):
    """A contestant that has defined its saga and can run it.

    Attributes:
        run: Does the work once, or ``at_once`` times. A plain or a coroutine function.
        close: Closes everything that was opened. It may return an awaitable.
    """

    run: Callable[[], Any]
    close: Callable[[], Any] = nothing


Prepare = Callable[[Work], Ready]
Live = Callable[[int], Awaitable[Sequence[object]] | Sequence[object]]


def serve(prepare: Prepare, *packages: str, live: Live | None = None) -> None:
    """Answer the conductor until it closes the connection.

    Args:
        prepare: Defines the saga. The time for this is not part of the runs.
        packages: The measured distributions, for their versions.
        live: Creates executions that have begun, for contestants that have executions.
    """
    # A library that prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _pin()
    with asyncio.Runner() as loop:
        for line in sys.stdin:
            answers.write(json.dumps(_answer(json.loads(line), loop, prepare, packages, live)) + "\n")
            answers.flush()


def _answer(
    question: dict[str, Any], loop: asyncio.Runner, prepare: Prepare, packages: Sequence[str], live: Live | None
) -> object:
    if question["do"] == "about":
        versions = {package: metadata.version(package) for package in packages}
        return {
            "python": platform.python_version(),
            "versions": versions,
            "pinned": _pinned(),
            "live": live is not None,
        }
    if question["do"] == "live":
        assert live is not None
        return loop.run(_bytes_of(live, question["count"]))
    return loop.run(_done(question, prepare))


async def _done(question: dict[str, Any], prepare: Prepare) -> object:
    """The recorded calls, or the seconds."""
    told: list[str] | None = [] if question["do"] == "check" else None
    work = Work(**question["work"], folder=str(Path.cwd()), told=told)
    started = time.process_time()
    ready = prepare(work)
    prepared = time.process_time() - started
    try:
        if told is not None:
            await _times(ready.run, 1)
            return told
        await _times(ready.run, question["warm"])
        gc.collect()
        wall, processor = await _times(ready.run, question["runs"])
        return {"wall": wall, "processor": processor, "prepared": prepared}
    finally:
        closing = ready.close()
        if inspect.isawaitable(closing):
            await closing


async def _times(run: Callable[[], Any], number: int) -> tuple[float, float]:
    """The seconds for *number* runs, one after another: wall-clock time and processor time."""
    numbers = range(number)
    if inspect.iscoroutinefunction(run):
        processor, wall = time.process_time(), time.perf_counter()
        for _ in numbers:
            await run()
    else:
        processor, wall = time.process_time(), time.perf_counter()
        for _ in numbers:
            run()
    return time.perf_counter() - wall, time.process_time() - processor


async def _bytes_of(live: Live, count: int) -> int:
    """The bytes of *count* live executions."""
    made = live(1)  # what is made once for all is made before
    first = await made if inspect.isawaitable(made) else made
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    made = live(count)
    held = await made if inspect.isawaitable(made) else made
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(held) == count
    tasks = [each for each in (*first, *held) if isinstance(each, asyncio.Task)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return after - before


def _pin() -> None:
    """Pin this process to one core, if the system allows it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _pinned() -> bool:
    return hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == 1
