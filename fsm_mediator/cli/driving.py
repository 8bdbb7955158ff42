"""Drive executions with a mediator of the app's sagas, and report the outcome."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import isawaitable
from typing import Any, Final

from fsm_mediator.cli.console import DID_NOT_SUCCEED, err, fail, next_command, printable, say
from fsm_mediator.cli.loading import App, execution_in, journal_for, load_app, redaction, with_branches
from fsm_mediator.errors import StillRunningError
from fsm_mediator.execution.outcome import Outcome
from fsm_mediator.journal.protocol import Entry, Journal
from fsm_mediator.mediator.sync import Mediator
from fsm_mediator.mediator.threads import run_blocking
from fsm_mediator.observe.observers import Observer
from fsm_mediator.states import WAITING, phase_of

ROUND: Final = 0.5
"""The number of seconds between two checks whether this process still drives an execution."""


def drive(app: App, journal: Journal, act: Callable[[Any], Any], observers: Sequence[Observer] = ()) -> Any:
    """Call *act* with a mediator of the app's sagas, and return the result. *act* may be a coroutine function."""
    settings = {**app.settings, "observers": (*app.settings.get("observers", ()), *observers)}
    with _report_interrupts():
        if app.has_coroutines:
            return asyncio.run(_drive_on_loop(app, journal, act, settings))
        with Mediator(*app.sagas, journal=journal, **settings) as mediator:
            return run_blocking(_result, act(mediator))


async def _drive_on_loop(app: App, journal: Journal, act: Callable[[Any], Any], settings: dict[str, Any]) -> Any:
    from fsm_mediator.mediator.aio import AsyncMediator

    async with AsyncMediator(*app.sagas, journal=journal, **settings) as mediator:
        return await _result(act(mediator))


async def _result(answer: Any) -> Any:
    """*answer*, awaited if it is a coroutine of an `AsyncMediator`."""
    return await answer if isawaitable(answer) else answer


@contextmanager
def _report_interrupts() -> Iterator[None]:
    """If a step raises SystemExit or a person presses Ctrl-C, print how the unfinished executions can be continued."""
    later = f"what was under way is in doubt, and goes on with: {next_command('recover')}"
    try:
        yield
    except (SystemExit, GeneratorExit) as error:
        fail(
            f"a step ended the process ({type(error).__name__}: {error}), which is no failure; {later}", DID_NOT_SUCCEED
        )
    except KeyboardInterrupt:
        say(f"interrupted; {later}", "yellow", to=err)
        raise


def drive_app(app: str | None, journal: str | None, act: Callable[[Any], Any]) -> Any:
    """Load the app and the journal of the options --app and --journal, then call *act* as `drive` does."""
    loaded = load_app(app)
    return drive(loaded, journal_for(journal, loaded), act)


async def signal_and_drive(mediator: Any, saga_id: str, name: str, value: Any, actor: str | None) -> Outcome:
    """Send a signal, and return the outcome of the execution when this process does not drive it any more.

    This process stops driving it if the execution ends, is stuck or waits for something, or if another process drives
    it.
    """
    await _result(mediator.signal(saga_id, name, value, actor=actor))
    while True:
        try:
            return await _result(mediator.wait(saga_id, timeout=ROUND, check=False))  # type: ignore[no-any-return]
        except StillRunningError:
            journal = mediator.journal
            if not any(map(_is_driven_here, with_branches(journal, execution_in(journal, saga_id)))):
                return await _result(mediator.outcome(saga_id))  # type: ignore[no-any-return]


def _is_driven_here(entry: Entry) -> bool:
    if entry.driver is not None:
        return entry.driver_alive and entry.driver.pid == os.getpid()
    return entry.wake_at is not None and entry.wake_at < time.time() + ROUND


def report(outcome: Outcome, *, good: bool) -> None:
    """Print *outcome* and a command that the user can run next. If not *good*, end with the exit code 1."""
    saga_id = outcome.saga_id
    hints = []
    if outcome.awaits_signal:
        hints = [f"next: {next_command('signal', saga_id, outcome.step or '', 'VALUE')}"]
    elif phase_of(outcome.state) == WAITING:  # it waits for its branches, which `show` lists
        hints = [f"next: {next_command('show', saga_id)}"]
    elif outcome.stuck:
        hints = [
            f"next: {next_command('retry', saga_id)}  (once the cause is mended)",
            f"  or: {next_command('resolve', saga_id)} --reason ...  (settles it by hand)",
        ]
    say(printable(redaction().text(outcome.summary(next_move=False))), "green" if good else "red")
    for hint in hints:
        say(hint, "dim")
    if not good:
        sys.exit(DID_NOT_SUCCEED)


def run_daemon(app: App, journal: Journal) -> None:
    """Run a daemon that recovers and wakes executions, until the process gets SIGINT or SIGTERM."""
    notice = f"serving {', '.join(saga.name for saga in app.sagas)}; stop with Ctrl-C"
    if app.has_coroutines:
        asyncio.run(_run_daemon_on_loop(app, journal, notice))
        return
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    err.print(notice, style="dim")
    with Mediator(*app.sagas, journal=journal, **app.settings) as mediator, mediator.daemon():
        stopped.wait()


async def _run_daemon_on_loop(app: App, journal: Journal, notice: str) -> None:
    from fsm_mediator.mediator.aio import AsyncMediator

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    err.print(notice, style="dim")  # printed only now, because from here on SIGTERM lets the daemon end in order
    async with AsyncMediator(*app.sagas, journal=journal, **app.settings) as mediator, mediator.daemon():
        await stopped.wait()
