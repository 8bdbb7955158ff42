"""Closing: stops and releases the executions that a mediator owns when it is closed."""

from __future__ import annotations

import atexit
import logging
import sys
import warnings
from collections.abc import Callable

from fsm_mediator import forking
from fsm_mediator.errors import MediatorClosedError
from fsm_mediator.mediator.active import ActiveExecution
from fsm_mediator.mediator.core import Core

logger: logging.Logger = logging.getLogger("fsm_mediator")


SHOWN = 10
"""The maximum number of ids in the warning at the end of the process."""


@atexit.register
def _warn_of_executions_under_way() -> None:
    """At the end of the process, log one warning about the executions of mediators that are still open."""
    for place, next_move in (
        (True, "are in doubt or wait until recover() or a daemon on the same journal takes them up"),
        (False, "are lost, for their journal is in memory"),
    ):
        left = [
            saga_id
            for core in forking.registered()
            if isinstance(core, Core) and not core.closed and (core.journal.heartbeat is not None) is place
            for saga_id in (*core.owned.active, *core.owned.abandoned)
        ]
        if left:
            count = "1 execution" if len(left) == 1 else f"{len(left)} executions"
            more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
            text = (
                f"the process ends with {count} under way: {', '.join(left[:SHOWN])}{more}. They "
                f"{next_move}. To wait for them, close the mediator: `with Mediator(...) as mediator:` or close()"
            )
            if sys.flags.dev_mode:
                warnings.warn(text, ResourceWarning, stacklevel=1)
            else:
                logger.warning(text)


async def close(core: Core, seconds: float) -> None:
    """Accept no new work, wait at most *seconds* for running attempts, then release the other executions."""
    runtime = core.runtime
    with core.lock:
        if core.closed:
            return
        rebind = runtime.bind()
        core.patience = core.clock() + seconds
        core.closed = True
    if rebind:
        core.rebind()
    core.membership.close()
    try:
        await _drain(core, runtime.monotonic() + seconds, core.patience)
    finally:  # also if an interrupt ends the wait
        await _stop_all(core)
        core.owned.on_empty = core.membership.end
        last: list[Callable[[], object]] = [core.journal.close] if core.owns_journal else []
        if core.owned:
            held = ", ".join([*core.owned.active, *core.owned.abandoned])
            logger.warning("closed while attempts are running; these executions are released later: %s", held)
        else:
            last.insert(0, core.membership.end)
        await runtime.shut_down(*last)


async def _drain(core: Core, until: float, patience: float) -> None:
    for active in list(core.owned.active.values()):
        due = active.wait.until
        if due is not None and due > patience:
            _stop(core, active)
    await _wait_for_all(core, until, lambda active: active.driver != core.runtime.current())


async def _stop_all(core: Core) -> None:
    for active in list(core.owned.active.values()):
        _stop(core, active)
    # A driver that was waiting ends now. It has one second to do so.
    await _wait_for_all(core, core.runtime.monotonic() + 1.0, lambda active: active.wait.wake is not None)
    await core.runtime.stop()
    for active in list(core.owned.active.values()):  # executions that were queued or reserved in the meantime
        _stop(core, active)


async def _wait_for_all(core: Core, until: float, those: Callable[[ActiveExecution], bool]) -> None:
    for active in list(core.owned.active.values()):
        if those(active):  # not for the execution whose own step closes the mediator
            await core.is_finished(active, max(0.0, until - core.runtime.monotonic()))


def _stop(core: Core, active: ActiveExecution) -> None:
    """Make the driver release *active* after the next record. If *active* has no driver, release *active* at once."""
    active.stopping = True
    with core.lock:
        wake = active.wait.wake
    if wake is not None:
        wake.set()
    if core.try_take(active):
        core.owned.release_and_finish(active, outcome=active.execution.outcome() if active.epoch else None)


def closed_error(saga_id: str, state: str) -> MediatorClosedError:
    """The error for the caller of an execution that was released when the mediator was closed."""
    return MediatorClosedError(
        f"this mediator was closed while execution {saga_id!r} stood in {state!r}; it goes on when it is "
        f"recovered, or when its id is run again"
    )
